//! How long a call waits for the server's word, and what it may be answered with then.

use tokio::time::Instant;

use super::account::Open;
use super::outcome::Outcome;
use crate::protocol::jsonrpc::WireError;
use crate::session::{Connection, Fate, Following, SessionError};
use crate::store::{PartState, RequestId};

/// What a call waits for, and how long.
pub(super) struct Wait<'a> {
    pub open: &'a Open,
    pub request: RequestId,
    pub degrade: bool,
    pub deadline: Instant,
    pub queued_will_do: bool,
}

impl Wait<'_> {
    /// Waits, and says how far it came; an error if that is none that this call may be answered with.
    pub async fn settled(
        &self,
        following: &mut Following,
        entered: Vec<PartState>,
    ) -> Result<Outcome, WireError> {
        let over = tokio::select! {
            () = following.settled() => None,
            () = tokio::time::sleep_until(self.deadline) => None,
            over = self.hopeless() => over,
        };
        let store = &self.open.store;
        let fates = following.fates();
        // The server has all of it; the store hears of that too, but nobody needs to wait for it.
        if fates
            .iter()
            .all(|fate| matches!(fate, Fate::Sent | Fate::Suspect))
        {
            return self.answer(Outcome::of(entered, fates), None).await;
        }
        // Nobody wants the end of a message whose beginning was refused.
        let refused = fates
            .iter()
            .any(|fate| matches!(fate, Fate::Rejected { .. }));
        let states = match self.degrade && over.is_none() && !refused {
            true => store.request(self.request).await?,
            false => store.withdraw(self.request).await?,
        };
        self.answer(Outcome::of(states, fates), over).await
    }

    /// The outcome, if this call may be answered with it, else the error that it is.
    pub async fn answer(
        &self,
        outcome: Outcome,
        over: Option<SessionError>,
    ) -> Result<Outcome, WireError> {
        match (&outcome.error, over) {
            (Some((code, reason)), _) if !self.degrade => Err(told_what_left(
                WireError::new(code.clone(), reason),
                &outcome,
            )),
            (Some(_), _) => Ok(outcome),
            (None, _) if outcome.is_confirmed() => Ok(outcome),
            (None, Some(error)) => Err(told_what_left(error.into(), &outcome)),
            (None, None) if self.degrade => Ok(outcome),
            (None, None) => Err(self.too_late(&outcome).await),
        }
    }

    /// The error of a call whose time was up.
    async fn too_late(&self, outcome: &Outcome) -> WireError {
        let error = match outcome.gone().is_empty() {
            false => unknown(outcome),
            true if let Some(reason) = &outcome.not_uploaded => WireError::new(
                "attachment_upload_failed",
                format_args!(
                    "an attachment could not be uploaded to WhatsApp ({reason}); send the message again later"
                ),
            ),
            true if outcome.rate_limited => WireError::new(
                "rate_limited",
                "fewer messages and questions may go from this account now; send it again in a minute",
            ),
            true => match self.open.session.online(Instant::now()).await {
                Err(error) => error.into(),
                Ok(()) => SessionError::Unreachable {
                    reason: "the message could not be handed over in time".to_owned(),
                }
                .into(),
            },
        };
        told_what_left(error, outcome)
    }

    /// Returns when to wait longer makes no sense: with an error when the session is over, without when a reply may
    /// as well be queued.
    async fn hopeless(&self) -> Option<SessionError> {
        let mut connection = self.open.session.connection();
        let now = connection
            .wait_for(|now| match now {
                Connection::Ended(_) | Connection::Storage(_) | Connection::Closed => true,
                Connection::Reconnecting { .. } => self.queued_will_do,
                _ => false,
            })
            .await
            .ok()?;
        match &*now {
            Connection::Ended(terminal) => Some(SessionError::Ended(terminal.clone())),
            // A full disk passes; what is stored goes then.
            Connection::Storage(error) if now.is_over() => Some(error.clone().into()),
            _ => None,
        }
    }
}

/// The error for messages of which WhatsApp has said nothing.
pub(super) fn unknown(outcome: &Outcome) -> WireError {
    let sentence = match outcome.parts.iter().any(|part| part.open) {
        true => {
            "WhatsApp has not said in time whether it took the message; what has left is tried again under its id"
        }
        false => {
            "WhatsApp has not said whether it took the message; ask the recipient before you send it again"
        }
    };
    WireError::new("delivery_unknown", sentence)
}

/// An error that says which parts are under way nevertheless.
pub(super) fn told_what_left(error: WireError, outcome: &Outcome) -> WireError {
    match outcome.gone().as_slice() {
        [] => error,
        gone @ [.., last] => error
            .with("message_id", *last)
            .with("message_ids", gone.join(",")),
    }
}

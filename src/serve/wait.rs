//! How long a call waits for the server's word, and what it may be answered with then.

use tokio::time::Instant;

use std::time::Duration;

use super::account::Open;
use super::outcome::{Outcome, RATE_LIMITED, Wanting};
use crate::protocol::jsonrpc::WireError;
use crate::session::{Connection, Fate, Following, RESTRICTED, SessionError};
use crate::store::{DeliveryState, PartState, PeerKey, RequestId, StoreError};

/// How soon it is looked again whether a message still has its turn in time.
const LOOK: Duration = Duration::from_secs(1);
/// What a caller does well to wait after the server said "too many".
const SERVER_PAUSE: Duration = Duration::from_secs(60);

/// What a call waits for, and how long.
pub(super) struct Wait<'a> {
    pub open: &'a Open,
    pub request: RequestId,
    pub chat: PeerKey,
    pub degrade: bool,
    pub deadline: Instant,
    /// How long a call of this kind may take.
    pub budget: Duration,
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
            () = self.turn_comes_too_late(&entered) => None,
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
        let pace = self.open.session.pace();
        let turns = store.turns(self.request, pace).await?;
        let stays = self.degrade && over.is_none() && !refused;
        // What would expire before its turn is better refused than promised.
        let in_vain = stays && turns.is_some_and(|turns| turns.come_too_late(pace.now));
        let states = match stays && !in_vain {
            true => store.request(self.request).await?,
            false => store.withdraw(self.request).await?,
        };
        let mut outcome = Outcome::of(states, fates);
        outcome.turn = turns.map(|turns| Wanting { turns, pace });
        if let Some(turn) = outcome.turn.filter(|_| in_vain) {
            let refused = turn.error(&outcome, self.budget);
            outcome.error = Some((refused.code.into_owned(), refused.message));
            store.count_refused().await?;
        }
        self.answer(outcome, over).await
    }

    /// What became of a call of which nothing waits: it was done before, or it was taken back as it was entered, since
    /// its last message would have had to wait too long.
    pub async fn settled_before(&self, entered: Vec<PartState>) -> Result<Outcome, WireError> {
        let mut outcome = Outcome::of(entered, Vec::new());
        if outcome.state() == DeliveryState::Withdrawn {
            let pace = self.open.session.pace();
            let messages = outcome.parts.len();
            let turns = self.open.store.turns_of_more(self.chat, messages, pace);
            let turns = turns.await?;
            outcome.turn = Some(Wanting { turns, pace });
        }
        self.answer(outcome, None).await
    }

    /// The outcome, if this call may be answered with it, else the error that it is.
    async fn answer(
        &self,
        mut outcome: Outcome,
        over: Option<SessionError>,
    ) -> Result<Outcome, WireError> {
        outcome.retry_after = self.retry_after(&outcome).await?;
        match (&outcome.error, over) {
            (Some((code, reason)), _) if !self.degrade => {
                let error = WireError::new(code.clone(), reason);
                Err(told_what_left(outcome.told_when(error), &outcome))
            }
            (Some(_), _) => Ok(outcome),
            (None, _) if outcome.is_confirmed() => Ok(outcome),
            (None, Some(error)) => Err(told_what_left(error.into(), &outcome)),
            (None, None) if self.degrade => Ok(outcome),
            (None, None) => Err(self.too_late(&outcome).await),
        }
    }

    /// When the same call would get through; nothing where nobody can say.
    async fn retry_after(&self, outcome: &Outcome) -> Result<Option<Duration>, StoreError> {
        if outcome.is_confirmed() {
            return Ok(None);
        }
        if let Some((code, _)) = &outcome.error {
            match code.as_str() {
                RATE_LIMITED => {}
                RESTRICTED => {
                    let paced = self.open.store.paced(crate::clock::now_us()).await?;
                    let left = paced
                        .restricted
                        .map(|until| until.until - crate::clock::now());
                    return Ok(
                        left.and_then(|left| Some(Duration::from_secs(left.try_into().ok()?)))
                    );
                }
                _ => return Ok(None),
            }
        }
        Ok(match outcome.turn {
            Some(turn) if turn.is_awaited() => turn.retry_after(outcome.parts.len(), self.budget),
            _ => outcome.rate_limited.then_some(SERVER_PAUSE),
        })
    }

    /// The error of a call whose time was up.
    async fn too_late(&self, outcome: &Outcome) -> WireError {
        let connected = self.open.session.online(Instant::now()).await;
        let paced = outcome
            .turn
            .filter(|turn| turn.is_awaited() && connected.is_ok());
        let rest_is_paced = paced.filter(|_| outcome.lacks_only_turns());
        let error = match (outcome.gone().is_empty(), paced) {
            (false, _) if let Some(turn) = rest_is_paced => turn.error(outcome, self.budget),
            (false, _) => unknown(outcome),
            (true, _) if let Some(reason) = &outcome.not_uploaded => WireError::new(
                "attachment_upload_failed",
                format_args!(
                    "an attachment could not be uploaded to WhatsApp ({reason}); send the message again later"
                ),
            ),
            (true, _) if outcome.rate_limited => WireError::new(
                RATE_LIMITED,
                "fewer messages and questions may go from this account now; send it again in a minute",
            ),
            (true, Some(turn)) => turn.error(outcome, self.budget),
            (true, None) => match connected {
                Err(error) => error.into(),
                Ok(()) => SessionError::Unreachable {
                    reason: "the message could not be handed over in time".to_owned(),
                }
                .into(),
            },
        };
        told_what_left(outcome.told_when(error), outcome)
    }

    /// Returns when the limits let it go too late for this call. A reply of a process that is gone after its answer uses
    /// the time as long as any of it goes.
    async fn turn_comes_too_late(&self, entered: &[PartState]) {
        let waits = |part: &PartState| part.open && part.state == DeliveryState::Queued;
        let mut news = self.open.store.outbound_signal();
        while entered.iter().any(waits) {
            let (mut look, mut asking) = (LOOK, false);
            news.borrow_and_update();
            let pace = self.open.session.pace();
            let left = self.deadline.saturating_duration_since(Instant::now());
            let end = pace.now.saturating_add(left.as_micros() as i64);
            // Who cannot read it now waits for the deadline.
            if let Ok(Some(turns)) = self.open.store.turns(self.request, pace).await {
                asking = turns.asking;
                let decides = match self.degrade && !self.queued_will_do {
                    true => turns.first,
                    false => turns.last,
                };
                if decides > end {
                    return;
                }
                // Until then it has no reason to be asked again.
                let until = u64::try_from(decides - pace.now).unwrap_or_default();
                look = look.max(Duration::from_micros(until));
            }
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                // Whose number it is has been said, and with it whether they are strangers.
                Ok(()) = news.changed(), if asking => {}
            }
        }
        std::future::pending().await
    }

    /// Returns when to wait longer makes no sense: with an error when the session is over, without when a reply may
    /// as well be queued.
    async fn hopeless(&self) -> Option<SessionError> {
        let mut connection = self.open.session.connection();
        let now = connection
            .wait_for(|now| match now {
                Connection::Banned(_)
                | Connection::Ended(_)
                | Connection::Storage(_)
                | Connection::Closed => true,
                Connection::Reconnecting { .. } => self.queued_will_do,
                _ => false,
            })
            .await
            .ok()?;
        match &*now {
            Connection::Banned(terminal) | Connection::Ended(terminal) => {
                Some(SessionError::Ended(terminal.clone()))
            }
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

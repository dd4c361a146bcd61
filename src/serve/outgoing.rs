//! `deliver` and `push`: from the host's message to the outbox, and what to answer.
//!
//! A failed `deliver` ends the host's whole runtime, so a reply answers with a state wherever the request itself was
//! sound (`degrade`), while everything else gets an error that says what to do and leaves nothing behind (`fail`).

use std::sync::Arc;

use tokio::time::Instant;

use super::account::{Account, Open, wire};
use super::answer::call_deadline;
use crate::access::Policy;
use crate::account::Role;
use crate::config::{Config, DeliverErrors};
use crate::identity::{Address, parse_target};
use crate::outbound::{self, Built};
use crate::protocol::PLATFORM;
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::OutboundMessage;
use crate::protocol::response::DeliveryReceipt;
use crate::session::{Connection, Fate, SessionError};
use crate::store::{
    DeliveryState, Enqueued, NewPart, OutboundRequest, PartState, Peer, RequestId, StoreError,
};

/// Sends one message of the host.
pub(super) async fn send(
    account: &Arc<Account>,
    config: &Config,
    message: OutboundMessage,
) -> Result<DeliveryReceipt, WireError> {
    let deadline = call_deadline(&account.process, config);
    let given = |key: &str| {
        message
            .metadata
            .get(key)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let reply_to = given("reply_to_message_id");
    // A failed reply ends the host's whole runtime; everything else has somebody who reads the error.
    let degrade = match config.deliver_errors {
        Some(chosen) => chosen == DeliverErrors::Degrade,
        None => reply_to.is_some(),
    };
    let target = destination(config, given("conversation_id"))?;
    account.linked()?;
    let peer = match admitted(account, config, &target).await {
        Ok(peer) => peer,
        Err(error) if degrade && error.code == "unauthorized_destination" => {
            return Ok(receipt(
                &target,
                reply_to,
                Outcome::rejected(error.code, &error.message),
            ));
        }
        Err(error) => return Err(error),
    };
    let store = account.store().await?;
    let quoted = match reply_to {
        Some(id) => store
            .message(peer.public_id.clone(), id.to_owned())
            .await
            .map_err(stored)?,
        None => None,
    };
    let built = outbound::build(&message, config, &peer, quoted, degrade)
        .map_err(|error| WireError::new(error.code(), error))?;
    let Built {
        parts,
        degraded,
        content_hash,
    } = built;
    let parts: Vec<NewPart> = parts
        .into_iter()
        .map(|part| NewPart {
            message_id: mint(),
            payload: part.payload,
            kind: part.kind,
        })
        .collect();
    let ids: Vec<String> = parts.iter().map(|part| part.message_id.clone()).collect();
    let now = chrono::Utc::now().timestamp();
    let request = OutboundRequest {
        idempotency_key: given("idempotency_key").map(str::to_owned),
        content_hash,
        reply_to: reply_to.map(|id| (peer.public_id.clone(), id.to_owned())),
        chat: vec![target.clone()],
        parts,
        expires_at: now + i64::from(config.queue_ttl_secs),
    };
    let open = account.open(config, Role::OneShot).await?;
    let mut following = open.session.follow(&ids);
    let (id, chat, states, deduplicated) = match open
        .store
        .enqueue(request, now)
        .await
        .map_err(stored)?
    {
        Enqueued::New {
            request,
            chat,
            parts,
        } => (request, chat, parts, false),
        Enqueued::Joined {
            request,
            chat,
            parts,
        } => {
            let ids: Vec<String> = parts.iter().map(|part| part.message_id.clone()).collect();
            following = open.session.follow(&ids);
            (request, chat, parts, true)
        }
        Enqueued::Conflict => {
            return Err(WireError::new(
                "idempotency_conflict",
                "another message was sent under this idempotency_key; use a new key for new content",
            ));
        }
    };
    let wait = Wait {
        open: &open,
        request: id,
        degrade,
        deadline,
        persistent: account.process.is_persistent(),
    };
    let mut outcome = match states.iter().all(|part| part.state.is_final()) {
        true => Outcome::of(states, None),
        false => wait.settled(&mut following).await?,
    };
    outcome.degraded = degraded;
    outcome.deduplicated = deduplicated;
    if let (false, Some((code, reason))) = (degrade, &outcome.error) {
        return Err(WireError::new("rejected", reason).with("reason_code", code.as_str()));
    }
    Ok(receipt(&chat.public_id, reply_to, outcome))
}

/// Where a message or a status frame goes: what it says, else the default recipient.
pub(super) fn destination(config: &Config, given: Option<&str>) -> Result<Address, WireError> {
    let text = given.or(config.default_recipient.as_deref()).ok_or_else(|| {
        WireError::new(
            "missing_destination",
            "nothing says where this goes; give metadata.conversation_id, or set default_recipient",
        )
    })?;
    parse_target(text, &config.account).map_err(|error| WireError::new(error.code(), error))
}

/// The peer at this address, if this configuration lets us write there.
pub(super) async fn admitted(
    account: &Arc<Account>,
    config: &Config,
    target: &Address,
) -> Result<Peer, WireError> {
    let store = account.store().await?;
    let known = store.peer(target.clone()).await.map_err(stored)?;
    let forms = known
        .as_ref()
        .map_or(std::slice::from_ref(target), |peer| &peer.aliases);
    Policy::new(config)
        .outbound(forms)
        .map_err(|error| WireError::new(error.code(), error))?;
    match known {
        Some(peer) => Ok(peer),
        None => store.resolve(vec![target.clone()]).await.map_err(stored),
    }
}

fn stored(error: StoreError) -> WireError {
    WireError::new(error.code(), error)
}

/// A message id as WhatsApp Web makes them: `3EB0` and 18 hexadecimal digits.
fn mint() -> String {
    let random = fastrand::u128(..);
    format!("3EB0{:018X}", random >> 56)
}

/// What a call waits for, and how long.
struct Wait<'a> {
    open: &'a Open,
    request: RequestId,
    degrade: bool,
    deadline: Instant,
    persistent: bool,
}

impl Wait<'_> {
    async fn settled(
        &self,
        following: &mut crate::session::Following,
    ) -> Result<Outcome, WireError> {
        tokio::select! {
            () = following.settled() => {}
            () = tokio::time::sleep_until(self.deadline) => {}
            over = self.hopeless() => if let Some(error) = over { return Err(error) },
        }
        let fates = following.fates();
        let states = match self.degrade {
            true => self
                .open
                .store
                .request(self.request)
                .await
                .map_err(stored)?,
            // Whatever has not gone by now must not go later: the caller is told that it failed.
            false => self
                .open
                .store
                .withdraw(self.request)
                .await
                .map_err(stored)?,
        };
        let outcome = Outcome::of(states, Some(fates));
        if self.degrade || outcome.error.is_some() || outcome.state().is_confirmed() {
            return Ok(outcome);
        }
        if outcome.handed() {
            return Err(WireError::new(
                "delivery_unknown",
                "WhatsApp has not said in time whether it took the message; it is tried again under the same id",
            )
            .with("message_id", outcome.last_id()));
        }
        let error = match self.open.session.online(Instant::now()).await {
            Err(error) => error,
            Ok(()) => SessionError::Unreachable {
                reason: "the message could not be handed over in time".into(),
            },
        };
        Err(wire(&error))
    }

    /// Waiting longer makes no sense: an error when the session is over, none when a reply may as well be queued.
    async fn hopeless(&self) -> Option<WireError> {
        let mut connection = self.open.session.connection();
        let queued_will_do = self.degrade && self.persistent;
        let now = connection
            .wait_for(|now| match now {
                Connection::Ended(_) | Connection::Closed => true,
                Connection::Reconnecting { .. } => queued_will_do,
                _ => false,
            })
            .await
            .ok()?;
        match &*now {
            Connection::Ended(terminal) => Some(wire(&SessionError::Ended(terminal.clone()))),
            _ => None,
        }
    }
}

/// How far the messages of a request got.
#[derive(Default)]
struct Outcome {
    parts: Vec<PartState>,
    /// Code and reason of a refusal.
    error: Option<(String, String)>,
    degraded: Vec<String>,
    deduplicated: bool,
}

impl Outcome {
    /// What the store says, moved on by what the session knows already and the store is about to hear.
    fn of(mut parts: Vec<PartState>, fates: Option<Vec<Fate>>) -> Self {
        let mut error = None;
        for (part, fate) in parts.iter_mut().zip(fates.unwrap_or_default()) {
            match fate {
                Fate::Sent if part.state < DeliveryState::Sent => part.state = DeliveryState::Sent,
                Fate::Rejected { code, reason } => {
                    part.state = DeliveryState::Rejected;
                    error = error.or(Some((code, reason)));
                }
                _ => {}
            }
        }
        let refused = parts
            .iter()
            .find(|part| part.state == DeliveryState::Rejected);
        let error = error.or_else(|| {
            let code = refused?
                .error
                .clone()
                .unwrap_or_else(|| "rejected".to_owned());
            Some((code, "WhatsApp refused the message".to_owned()))
        });
        Self {
            parts,
            error,
            ..Self::default()
        }
    }

    fn rejected(code: &str, reason: &str) -> Self {
        Self {
            error: Some((code.to_owned(), reason.to_owned())),
            ..Self::default()
        }
    }

    /// The state of the whole: that of the part that got least far, and a refusal before all.
    fn state(&self) -> DeliveryState {
        if self.error.is_some() {
            return DeliveryState::Rejected;
        }
        self.parts
            .iter()
            .map(|part| part.state)
            .min()
            .unwrap_or(DeliveryState::Sent)
    }

    fn handed(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(part.state, DeliveryState::Handed | DeliveryState::Unknown)
                || part.state.is_confirmed()
        })
    }

    fn last_id(&self) -> String {
        self.parts
            .last()
            .map(|part| part.message_id.clone())
            .unwrap_or_default()
    }
}

fn receipt(conversation: &Address, reply_to: Option<&str>, outcome: Outcome) -> DeliveryReceipt {
    let mut metadata = crate::protocol::StringMap::new();
    let mut put = |key: &str, value: String| {
        metadata.insert(key.to_owned(), value);
    };
    let nothing = outcome.parts.is_empty() && outcome.error.is_none();
    put("platform", PLATFORM.to_owned());
    put("kind", if nothing { "none" } else { "text" }.to_owned());
    // A part that was handed over and not acknowledged in time is of unknown fate to the caller.
    let state = match outcome.state() {
        _ if nothing => "nothing_to_send",
        DeliveryState::Handed => "unknown",
        state => state.as_str(),
    };
    put("delivery_state", state.to_owned());
    let ids: Vec<&str> = outcome
        .parts
        .iter()
        .map(|part| part.message_id.as_str())
        .collect();
    put("message_ids", ids.join(","));
    if let Some(id) = reply_to {
        put("reply_to_message_id", id.to_owned());
    }
    if let Some((code, reason)) = &outcome.error {
        put("error_code", code.clone());
        put("error", reason.clone());
    }
    if !outcome.degraded.is_empty() {
        put("degraded", outcome.degraded.join("; "));
    }
    if outcome.deduplicated {
        put("deduplicated", "true".to_owned());
    }
    DeliveryReceipt {
        message_id: outcome.last_id(),
        conversation_id: conversation.to_string(),
        metadata,
    }
}

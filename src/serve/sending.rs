//! A message with nothing left to decide, on its way through the outbox of whoever owns the connection.
//!
//! Invariant: it may be handed to one owner after another, since its messages have their ids: the outbox joins what it
//! has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::account::{Account, NotOpened, Open};
use super::answer::Process;
use super::outcome::Outcome;
use super::passing::{self, Asked, Said, Way};
use super::wait::{Wait, told_what_left, unknown};
use crate::account::InUse;
use crate::config::Config;
use crate::identity::Address;
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::DeliveryReceipt;
use crate::store::{DeliveryState, Enqueued, OutboundRequest, PartState, Peer, RequestId, Store};

/// A message of the host with nothing left to decide, so that whoever owns the connection can send it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sending {
    pub request: OutboundRequest,
    /// Whether a state is as good an answer as an error.
    pub degrade: bool,
    /// What was left out.
    pub degraded: Vec<String>,
}

impl Sending {
    fn ids(&self) -> Vec<String> {
        let parts = self.request.parts.iter();
        parts.map(|part| part.message_id.clone()).collect()
    }

    fn receipt(&self, mut outcome: Outcome, entered: Entered) -> DeliveryReceipt {
        outcome.degraded = entered.degraded;
        // It may have been entered by an owner that died: that is no other call.
        let ids = outcome.parts.iter().map(|part| part.message_id.as_str());
        outcome.deduplicated = entered.joined && !ids.eq(self.ids().iter());
        self.told(outcome, &entered.chat.public_id.to_string())
    }

    fn told(&self, mut outcome: Outcome, conversation: &str) -> DeliveryReceipt {
        let mut kinds = outcome.parts.iter().map(|part| &part.kind);
        outcome.kind = kinds.find(|kind| *kind != "text").cloned();
        let reply_to = self.request.reply_to.as_ref();
        outcome.receipt(conversation, reply_to.map(|(_, id)| id.as_str()))
    }

    /// The chat in which the agent says something with it. With a reaction it may be about to.
    fn says_in(&self) -> Option<&Address> {
        let mut parts = self.request.parts.iter();
        let says = parts.any(|part| part.kind != "reaction");
        self.request.chat.first().filter(|_| says)
    }

    /// Takes back what of it has not been tried; what became of it, if the outbox has it under its own ids.
    async fn taken_back(&self, store: &Store) -> Result<Option<Outcome>, WireError> {
        let first = self.ids().into_iter().next().unwrap_or_default();
        let Some(request) = store.request_of(first).await? else {
            return Ok(None);
        };
        let parts = store.withdraw(request).await?;
        Ok(Some(Outcome::of(parts, Vec::new())))
    }

    /// What the outbox says of it.
    async fn entered(&self, store: &Store, enqueued: Enqueued) -> Result<Entered, WireError> {
        let joined = matches!(enqueued, Enqueued::Joined { .. });
        let (request, chat, parts) = match enqueued {
            Enqueued::New {
                request,
                chat,
                parts,
            }
            | Enqueued::Joined {
                request,
                chat,
                parts,
            } => (request, chat, parts),
            Enqueued::Conflict => return Err(conflict()),
        };
        let degraded = match joined {
            true => store.degraded(request).await?.map(|what| vec![what]),
            false => None,
        };
        if !joined && !self.degraded.is_empty() {
            // Nobody waits for it.
            drop(store.note_degraded(request, self.degraded.join("; ")));
        }
        Ok(Entered {
            request,
            chat,
            parts,
            joined,
            degraded: degraded.unwrap_or_else(|| self.degraded.clone()),
        })
    }
}

/// Sends it over the connection, whoever owns that.
pub(super) async fn sent(
    account: &Arc<Account>,
    config: &Config,
    store: &Store,
    sending: &Sending,
    deadline: Instant,
) -> Result<DeliveryReceipt, WireError> {
    let asked = Asked::Send(sending.clone());
    match passing::way(account, config, deadline, &asked).await {
        Ok(Way::Own(open)) => carry_out(&open, &account.process, sending, deadline).await,
        Ok(Way::Passed(Said::Sent(receipt))) => Ok(receipt),
        Ok(Way::Passed(Said::Failed(error))) => Err(error),
        Ok(Way::Passed(_)) => Err(WireError::new(
            "internal_error",
            "the owner of the connection answered something else; please report this",
        )),
        Err(NotOpened::InUse(in_use)) => without_owner(store, sending, in_use).await,
        Err(NotOpened::Other(error)) => Err(error),
    }
}

/// Sends it over the connection that this process owns.
pub(super) async fn carry_out(
    open: &Open,
    process: &Process,
    sending: &Sending,
    deadline: Instant,
) -> Result<DeliveryReceipt, WireError> {
    let mut following = open.session.follow(&sending.ids());
    let budget = deadline.saturating_duration_since(Instant::now());
    // Where nothing may stay queued, nothing leaves of what cannot leave as a whole.
    let whole_by = (!sending.degrade).then_some(budget);
    // Before it proves anything: what is shown from then on is for the next event.
    if let Some(chat) = sending.says_in()
        && let Some(peer) = open.store.peer(chat.clone()).await?
    {
        open.session.answered(&peer.route);
    }
    let enqueued = open
        .session
        .enter(sending.request.clone(), whole_by)
        .await?;
    let mut entered = sending.entered(&open.store, enqueued).await?;
    if entered.joined {
        let ids: Vec<String> = entered
            .parts
            .iter()
            .map(|part| part.message_id.clone())
            .collect();
        following = open.session.follow(&ids);
    }
    crate::crash::point("after_outbox_commit");
    let wait = Wait {
        open,
        request: entered.request,
        chat: entered.chat.key,
        degrade: sending.degrade,
        deadline,
        budget,
        // A one-shot process has nobody who could send it later, so it uses its time.
        queued_will_do: sending.degrade && process.is_persistent(),
    };
    let parts = std::mem::take(&mut entered.parts);
    let outcome = match parts.iter().any(|part| part.open) {
        true => wait.settled(&mut following, parts).await?,
        false => wait.settled_before(parts).await?,
    };
    crate::crash::point("before_answer");
    Ok(sending.receipt(outcome, entered))
}

/// The time is up, and the owner never said what became of it. What it was given may be in the outbox.
async fn without_owner(
    store: &Store,
    sending: &Sending,
    in_use: InUse,
) -> Result<DeliveryReceipt, WireError> {
    if sending.degrade {
        // The owner, or the next one, sends it.
        let now = crate::clock::now();
        let enqueued = store.enqueue(sending.request.clone(), now).await?;
        let mut entered = sending.entered(store, enqueued).await?;
        let outcome = Outcome::of(std::mem::take(&mut entered.parts), Vec::new());
        return Ok(sending.receipt(outcome, entered));
    }
    Err(match sending.taken_back(store).await? {
        Some(outcome) if !outcome.gone().is_empty() => told_what_left(unknown(&outcome), &outcome),
        _ => in_use.into(),
    })
}

/// What to answer where its files could not be [settled](super::attachments::Given::settle): a message that waits may lose
/// them, so that it is taken back; to all others nothing can happen any more. Only who is answered with a state is told of
/// one that waits, and is told of this with a state as well.
pub(super) async fn unsettled(
    store: &Store,
    sending: &Sending,
    sent: Result<DeliveryReceipt, WireError>,
    error: WireError,
) -> Result<DeliveryReceipt, WireError> {
    tracing::warn!(code = %error.code, "what became of staged files cannot be noted");
    let receipt = sent?;
    let state = receipt.metadata.get("delivery_state").map(String::as_str);
    if state != Some(DeliveryState::Queued.as_str()) {
        return Ok(receipt);
    }
    let mut outcome = match sending.taken_back(store).await {
        Ok(Some(outcome)) => outcome,
        // It joined an earlier call, which has its own files.
        Ok(None) => return Ok(receipt),
        Err(error) => {
            tracing::error!(code = %error.code, "a message waits on whose files a power cut may take");
            return Ok(receipt);
        }
    };
    if outcome.state() == DeliveryState::Withdrawn {
        outcome.error = Some((error.code.into_owned(), error.message));
        // Nobody waits for it.
        drop(store.count_refused());
    }
    outcome.degraded.clone_from(&sending.degraded);
    Ok(sending.told(outcome, &receipt.conversation_id))
}

/// A request that is in the outbox.
struct Entered {
    request: RequestId,
    chat: Peer,
    parts: Vec<PartState>,
    joined: bool,
    /// What was left out.
    degraded: Vec<String>,
}

pub(super) fn conflict() -> WireError {
    WireError::new(
        "idempotency_conflict",
        "another message was sent under this idempotency_key; use a new key for new content",
    )
}

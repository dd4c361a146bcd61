//! `deliver` and `push`: from the host's message to the outbox, and what to answer.
//!
//! A failed `deliver` ends the host's whole runtime, so a reply answers with a state wherever the request itself was
//! sound (`degrade`), while everything else gets an error that says what to do (`fail`). Invariant: a caller that is
//! answered with an error finds nothing of the call in the outbox afterwards, but what had left before.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::account::{Account, NotOpened, Open};
use super::answer::{Process, call_deadline};
use super::attachments;
use super::mentions;
use super::outcome::Outcome;
use super::passing::{self, Asked, Said, Way};
use super::reading;
use super::wait::{Wait, told_what_left, unknown};
use crate::access::Policy;
use crate::account::InUse;
use crate::config::{Config, DeliverErrors, ReadReceipts};
use crate::identity::{Address, ChatKind, check_typed, parse_target};
use crate::outbound::{self, Action, Built, Known, OutboundError};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::OutboundMessage;
use crate::protocol::response::DeliveryReceipt;
use crate::store::{
    Enqueued, NewPart, OutboundRequest, PartState, Peer, Repeats, RequestId, Search, Store,
};

/// What a call takes beyond its deadline to take back what did not go. Less than a one-shot process has left to leave.
const LATE: Duration = Duration::from_secs(2);

/// Sends one message of the host, and answers in time even where nobody can say what became of it, since a disk takes or
/// gives nothing. What is under way goes on then, and ends as it would have.
pub(super) async fn send_in_time(
    account: &Arc<Account>,
    config: &Arc<Config>,
    message: OutboundMessage,
) -> Result<DeliveryReceipt, WireError> {
    let late = call_deadline(&account.process, config) + LATE;
    let given = |key: &str| message.metadata.get(key).cloned();
    let (chat, reply_to) = (given("conversation_id"), given("reply_to_message_id"));
    let degrade = degrades(config, &message);
    let (account, config) = (account.clone(), config.clone());
    let mut sending = Box::pin(async move { send(&account, &config, message).await });
    if let Ok(sent) = tokio::time::timeout_at(late, &mut sending).await {
        return sent;
    }
    tracing::error!("the disk of the account takes longer than a call may");
    tokio::spawn(sending);
    match degrade {
        true => Ok(Outcome::not_known().receipt(&chat.unwrap_or_default(), reply_to.as_deref())),
        false => Err(WireError::new(
            "delivery_unknown",
            "the disk of this account did not answer in time, so it is not known whether the message goes; ask whether \
             it arrived before you send it again, and look at that disk",
        )),
    }
}

/// Whether a state is as good an answer as an error.
fn degrades(config: &Config, message: &OutboundMessage) -> bool {
    let reply_to = message.metadata.get("reply_to_message_id");
    match config.deliver_errors {
        Some(chosen) => chosen == DeliverErrors::Degrade,
        None => reply_to.is_some_and(|id| !id.is_empty()),
    }
}

/// Sends one message of the host.
async fn send(
    account: &Arc<Account>,
    config: &Config,
    mut message: OutboundMessage,
) -> Result<DeliveryReceipt, WireError> {
    let files = std::mem::take(&mut message.attachments);
    let deadline = call_deadline(&account.process, config);
    let given = |key: &str| {
        message
            .metadata
            .get(key)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    };
    let reply_to = given("reply_to_message_id");
    let degrade = degrades(config, &message);
    let named = given("conversation_id");
    let target = match destination(config, named) {
        // It came from a conversation of ours, where nobody can answer; that must not end the host.
        Err(error) if reply_to.is_some() && degrade && error.code == "not_sendable" => {
            let refused = Outcome::refused(&error.code, &error.message);
            return Ok(refused.receipt(given("conversation_id").unwrap_or_default(), reply_to));
        }
        target => target?,
    };
    account.check_linked()?;
    let store = account.store().await?;
    let known_peer = store.peer(target.clone()).await?;
    if let Some(text) = named.or(config.default_recipient.as_deref())
        && known_peer.is_none()
    {
        check_typed(text, &target)?;
    }
    let peer = match admit(&store, config, &target, known_peer).await {
        Ok(peer) => peer,
        Err(error) if degrade && error.code == "unauthorized_destination" => {
            if let Some(id) = reply_to {
                // The turn is over all the same.
                store.prove_by_reply(target.clone(), id.to_owned()).await?;
            }
            store.count_refused().await?;
            return Ok(Outcome::refused(&error.code, &error.message)
                .receipt(&target.to_string(), reply_to));
        }
        Err(error) => return Err(error),
    };
    let (content_hash, files) = attachments::content_hash(&message, files, &peer).await?;
    // What a caller waits for does not expire under its eyes.
    let lifetime = config.queue_ttl_secs.max(config.send_timeout_secs);
    let mut request = OutboundRequest {
        idempotency_key: given("idempotency_key").map(str::to_owned),
        content_hash,
        reply_to: reply_to.map(|id| (peer.public_id.clone(), id.to_owned())),
        marks_read: config.read_receipts == ReadReceipts::Replied,
        chat: vec![target],
        parts: Vec::new(),
        expires_at: crate::clock::now() + i64::from(lifetime),
    };
    if !files.is_empty() {
        // The file of an earlier call need not be where it was then.
        match store.repeats(request.clone(), crate::clock::now()).await? {
            Repeats::Conflict => return Err(conflict()),
            Repeats::Earlier => {
                let sending = Sending {
                    request,
                    degrade,
                    degraded: Vec::new(),
                };
                return sent(account, config, &store, &sending, deadline).await;
            }
            Repeats::Nothing | Repeats::GivenUp => {}
        }
    }
    let quoted = match reply_to.filter(|_| outbound::quotes(&message, &peer)) {
        Some(id) => store.kept(peer.public_id.clone(), id.to_owned()).await?,
        None => None,
    };
    // A known action that cannot be done is answered like a message that WhatsApp refuses: nothing of it goes.
    mentions::know_group(account, config, &peer, &message.content, deadline).await?;
    let prepared =
        attachments::prepare(account, config, &message, files, &peer, degrade, deadline).await?;
    let built = match known(&store, config, &message, &peer).await {
        Ok(known) => {
            let files = &prepared.attachments;
            outbound::build(&message, files, config, &peer, quoted, &known, degrade)
                .map_err(WireError::from)
        }
        Err(error) => Err(error),
    };
    let read = match Action::parse(&message.metadata) {
        Ok(Some(Action::Read { target_message_id })) => Some(target_message_id),
        _ => None,
    };
    let built = match (built, &read) {
        (Ok(built), Some(target)) => {
            reading::read(account, config, &store, &peer, target.as_str(), deadline)
                .await
                .map(|()| built)
        }
        (built, _) => built,
    };
    let Built {
        parts,
        mut degraded,
    } = match built {
        Ok(built) => built,
        Err(error) if degrade && is_refusal(&error, read.is_some()) => {
            if let Some(id) = reply_to {
                let (chat, id) = (peer.public_id.clone(), id.to_owned());
                store.prove_by_reply(chat, id).await?;
            }
            store.count_refused().await?;
            return Ok(Outcome::refused(&error.code, &error.message)
                .receipt(&peer.public_id.to_string(), reply_to));
        }
        Err(error) => return Err(error),
    };
    degraded.extend(prepared.degraded);
    request.parts = parts
        .into_iter()
        .map(|part| NewPart {
            message_id: mint(),
            payload: part.payload,
            kind: part.kind,
            file: part.file,
        })
        .collect();
    if request.parts.is_empty() {
        // A model that answers with nothing has answered.
        if let Some(id) = reply_to {
            let (chat, id) = (peer.public_id.clone(), id.to_owned());
            if request.marks_read {
                drop(store.want_read_by_reply(chat.clone(), id.clone()));
            }
            store.prove_by_reply(chat, id).await?;
        }
        let outcome = Outcome {
            degraded,
            kind: read.map(|_| "read".to_owned()),
            ..Outcome::default()
        };
        return Ok(outcome.receipt(&peer.public_id.to_string(), reply_to));
    }
    let sending = Sending {
        request,
        degrade,
        degraded,
    };
    let given = prepared.files.give()?;
    let sent = sent(account, config, &store, &sending, deadline).await;
    given.settle(&store).await?;
    sent
}

/// Sends it over the connection, whoever owns that.
async fn sent(
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

/// Whether a reply is answered with this error as a state. A read mark is made now or never, so no connection is one.
fn is_refusal(error: &WireError, read: bool) -> bool {
    let away = matches!(error.code.as_ref(), "unreachable" | "session_in_use");
    outbound::is_refusal(&error.code) || read && away
}

/// What is known of the chat and its messages, as far as this message needs it.
async fn known(
    store: &Store,
    config: &Config,
    message: &OutboundMessage,
    peer: &Peer,
) -> Result<Known, WireError> {
    let mut known = Known::default();
    let phones = outbound::candidates(&message.content);
    if !phones.is_empty() && peer.kind() == ChatKind::Group {
        let group = peer.public_id.clone();
        known.forms = store.mention_forms(group, phones).await?;
    }
    // What is wrong with an action is said where the message is built.
    let Ok(Some(action)) = Action::parse(&message.metadata) else {
        return Ok(known);
    };
    known.now_ms = crate::clock::now_ms();
    if let Action::Poll { .. } = action {
        getrandom::fill(&mut known.secret).map_err(|error| {
            WireError::new(
                "internal_error",
                format_args!("the system gives no random numbers ({error})"),
            )
        })?;
    }
    let Some(id) = action
        .target()
        .filter(|_| !matches!(action, Action::Read { .. }))
    else {
        return Ok(known);
    };
    known.target = match &action {
        Action::Forward {
            target_conversation_id,
            ..
        } => {
            let chat = target_conversation_id
                .as_deref()
                .filter(|text| !text.is_empty());
            let chat = chat.map(|text| parse_target(text, &config.account));
            let chat = chat
                .transpose()
                .map_err(|error| OutboundError::InvalidAction {
                    action: action.name().to_owned(),
                    reason: format!("metadata.target_conversation_id: {error}"),
                })?;
            match store.search(id.to_owned(), chat).await? {
                Search::One(kept) => Some(kept),
                Search::Nothing => None,
                Search::Several => return Err(OutboundError::AmbiguousTarget(id.to_owned()).into()),
            }
        }
        _ => store.kept(peer.public_id.clone(), id.to_owned()).await?,
    };
    Ok(known)
}

/// A message of the host with nothing left to decide, so that whoever owns the connection can send it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sending {
    request: OutboundRequest,
    /// Whether a state is as good an answer as an error.
    pub degrade: bool,
    /// What was left out.
    degraded: Vec<String>,
}

impl Sending {
    fn ids(&self) -> Vec<String> {
        let parts = self.request.parts.iter();
        parts.map(|part| part.message_id.clone()).collect()
    }

    fn receipt(&self, mut outcome: Outcome, entered: Entered) -> DeliveryReceipt {
        outcome.degraded = entered.degraded;
        let mut kinds = outcome.parts.iter().map(|part| &part.kind);
        outcome.kind = kinds.find(|kind| *kind != "text").cloned();
        // It may have been entered by an owner that died: that is no other call.
        let ids = outcome.parts.iter().map(|part| part.message_id.as_str());
        outcome.deduplicated = entered.joined && !ids.eq(self.ids().iter());
        let reply_to = self.request.reply_to.as_ref();
        outcome.receipt(
            &entered.chat.public_id.to_string(),
            reply_to.map(|(_, id)| id.as_str()),
        )
    }

    /// The chat in which the agent says something with it. With a reaction it may be about to.
    fn says_in(&self) -> Option<&Address> {
        let mut parts = self.request.parts.iter();
        let says = parts.any(|part| part.kind != "reaction");
        self.request.chat.first().filter(|_| says)
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
    let first = sending.ids().into_iter().next().unwrap_or_default();
    let outcome = match store.request_of(first).await? {
        Some(request) => Outcome::of(store.withdraw(request).await?, Vec::new()),
        None => Outcome::default(),
    };
    Err(match outcome.gone().is_empty() {
        true => in_use.into(),
        false => told_what_left(unknown(&outcome), &outcome),
    })
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

fn conflict() -> WireError {
    WireError::new(
        "idempotency_conflict",
        "another message was sent under this idempotency_key; use a new key for new content",
    )
}

/// Where a message or a status frame goes: what it says, else the default recipient.
pub(super) fn destination(config: &Config, given: Option<&str>) -> Result<Address, WireError> {
    let text = given.or(config.default_recipient.as_deref()).ok_or_else(|| {
        WireError::new(
            "missing_destination",
            "nothing says where this goes; give metadata.conversation_id, or set default_recipient",
        )
    })?;
    Ok(parse_target(text, &config.account)?)
}

/// The peer at this address, if this configuration lets us write there.
pub(super) async fn admitted(
    account: &Arc<Account>,
    config: &Config,
    target: &Address,
) -> Result<Peer, WireError> {
    let store = account.store().await?;
    let known = store.peer(target.clone()).await?;
    admit(&store, config, target, known).await
}

/// The same with what the store knows of the address.
async fn admit(
    store: &Store,
    config: &Config,
    target: &Address,
    known: Option<Peer>,
) -> Result<Peer, WireError> {
    let (forms, approved) = match &known {
        Some(peer) => (peer.credentials(), peer.approved),
        None => (vec![target.clone()], false),
    };
    Policy::new(config).outbound(&forms, approved)?;
    match known {
        Some(peer) => Ok(peer),
        None => Ok(store.resolve(vec![target.clone()]).await?),
    }
}

/// A message id as WhatsApp Web makes them: `3EB0` and 18 hexadecimal digits.
pub(super) fn mint() -> String {
    let random = fastrand::u128(..);
    format!("3EB0{:018X}", random >> 56)
}

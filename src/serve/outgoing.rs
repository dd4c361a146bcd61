//! `deliver` and `push`: from the host's message to the outbox, and what to answer.
//!
//! A failed `deliver` ends the host's whole runtime, so a reply answers with a state wherever the request itself was
//! sound (`degrade`), while everything else gets an error that says what to do (`fail`). Invariant: a caller that is
//! answered with an error finds nothing of the call in the outbox afterwards, but what had left before.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::answer::call_deadline;
use super::attachments;
use super::mentions;
use super::outcome::Outcome;
use super::reading;
use super::sending::{Sending, conflict, sent, unsettled};
use crate::access::Policy;
use crate::config::{Config, DeliverErrors, ReadReceipts};
use crate::identity::{Address, ChatKind, check_typed, parse_target};
use crate::outbound::{self, Action, Built, Known, OutboundError};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::OutboundMessage;
use crate::protocol::response::DeliveryReceipt;
use crate::store::{NewPart, OutboundRequest, Peer, Repeats, Search, Store};

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
    match given.settle(&store).await {
        Ok(()) => sent,
        Err(error) => {
            let told = unsettled(&store, &sending, sent, error).await;
            // What was taken back waits for no file: on a disk that is full its space is wanted.
            let _ = given.settle(&store).await;
            told
        }
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

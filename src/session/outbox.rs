//! Sends what waits in the outbox, and tells those who wait what became of it.
//!
//! Invariants: a message goes out only under the id it was stored with, and the next message of a chat only after
//! the one before is settled: acknowledged, rejected, or given up on. A message whose acknowledgement did not come
//! is sent again under the same id, so a recipient that has it already drops it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wacore::types::events;
use wacore::types::presence::ReceiptType;
use whatsapp_rust::Client;

use super::fate::Fate;
use super::handing::{Outcome, hand_over};
use super::lanes::Lane;
use super::lookup::{self, Found};
use super::state::Connection;
use super::{Shared, reachout, upload};
use crate::clock::{now, now_us};
use crate::store::{
    Commit, Enqueued, Foreseen, Heads, OutboundRequest, Outgoing, Receipt, StoreError, Turn,
};

/// Sends side by side, each in a chat of its own, besides those that wait for their files.
const CHATS_AT_ONCE: usize = 64;
/// After the server said "too many".
const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// Turns are by the wall clock, which may be set while one is awaited.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// After a failure that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Sends while there is a connection, each chat's messages one after the other, different chats' side by side.
pub(super) async fn send_waiting(shared: Arc<Shared>) {
    let mut lanes = shared.lanes.subscribe();
    let mut connection = shared.connection.subscribe();
    let mut outbox = shared.store.outbound_signal();
    let mut limits = shared.limits.subscribe();
    recover(&shared).await;
    upload::begin(&shared).await;
    loop {
        let mut next = None;
        limits.borrow_and_update();
        outbox.borrow_and_update();
        lanes.borrow_and_update();
        connection.borrow_and_update();
        if shared.lanes.lost() {
            tracing::error!("a send ended unexpectedly");
            recover(&shared).await;
        }
        if let Some(client) = online(&shared) {
            match heads(&shared).await {
                Ok(heads) => {
                    next = heads.next;
                    for head in heads.ready {
                        if let Some(mut lane) = Lane::enter(&shared, head.chat.key) {
                            let (task, client) = (shared.clone(), client.clone());
                            shared.lanes.spawn(async move {
                                send(task, client, head, false, &mut lane).await;
                                lane.leave();
                            });
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "the outbox cannot be read"),
            }
        }
        tokio::select! {
            changed = lanes.changed() => if changed.is_err() { return },
            changed = outbox.changed() => if changed.is_err() { return },
            changed = connection.changed() => if changed.is_err() { return },
            changed = limits.changed() => if changed.is_err() { return },
            () = turn(next) => {}
        }
    }
}

/// Until the limits let the next message go.
async fn turn(next: Option<i64>) {
    let Some(next) = next else {
        return std::future::pending().await;
    };
    let left = u64::try_from(next.saturating_sub(now_us())).unwrap_or_default();
    tokio::time::sleep(Duration::from_micros(left).min(LOOK_AT_CLOCK)).await;
}

pub(super) fn online(shared: &Shared) -> Option<Arc<Client>> {
    let online = matches!(*shared.connection.borrow(), Connection::Online);
    shared.client().filter(|_| online)
}

/// Enters a request into the outbox, and sends its first message at once if the connection is there and nothing of
/// the chat waits before it: then one commit both enters it and notes that it may leave, and the message is encrypted
/// while that commit is on its way.
pub(super) async fn enter(
    shared: &Arc<Shared>,
    request: OutboundRequest,
    whole_within: Option<Duration>,
) -> Result<Enqueued, StoreError> {
    let Some(client) = online(shared) else {
        return shared.store.enqueue(request, now()).await;
    };
    let (reply, entered) = oneshot::channel();
    let again = request.clone();
    // A task of its own: a caller that goes away must not take along what is noted as handed over.
    let task = shared.clone();
    shared.lanes.spawn(async move {
        let pace = task.pace();
        let whole_by = whole_within.map(|time| pace.now.saturating_add(time.as_micros() as i64));
        let entering = task.store.enqueue_handed(request, pace, whole_by, now());
        let Foreseen { value, mut commit } = entering;
        let (entered, head) = match value.await {
            Ok(foreseen) => foreseen,
            Err(_) => {
                let failed = commit.done().await.and(Err(StoreError::Stopped));
                let _ = reply.send(failed);
                return;
            }
        };
        let kept = commit.clone();
        let tell = async {
            let _ = reply.send(commit.done().await.map(|()| entered));
        };
        let Some(head) = head else {
            return tell.await;
        };
        match Lane::enter(&task, head.chat.key) {
            Some(mut lane) => {
                tokio::join!(tell, send_foreseen(task, client, head, kept, &mut lane));
                lane.leave();
            }
            // The one before it is settled and its sender not gone yet.
            None => {
                tell.await;
                let limits = task.pace().limits;
                if let Err(error) = task.store.mark_not_handed(head.message_id, limits).await {
                    tracing::error!(%error, "how far a message got could not be stored");
                    recover(&task).await;
                }
            }
        }
    });
    match entered.await {
        Ok(entered) => entered,
        // The session closes, and the commit may be on its way all the same: the outbox joins what it has by its ids.
        Err(_) => shared.store.enqueue(again, now()).await,
    }
}

/// Sends a message whose commit is still on its way, and must be on the disk before anything leaves.
async fn send_foreseen(
    shared: Arc<Shared>,
    client: Arc<Client>,
    part: Outgoing,
    mut kept: Commit,
    lane: &mut Lane,
) {
    shared.barrier.hold(kept.clone());
    let id = part.message_id.clone();
    let lost = async {
        if kept.done().await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = send(shared.clone(), client, part, true, lane) => {}
        // It was never entered, and who asked is told.
        () = lost => shared.outbox.forget_ack(&id),
    }
}

/// What was with a connection and has no outcome is of unknown fate, and tried again.
async fn recover(shared: &Shared) {
    if let Err(error) = shared.store.recover_outbox().await {
        tracing::error!(%error, "messages of unknown fate wait for the next start");
    }
}

/// The next message of each chat, without those that waited too long for a connection.
async fn heads(shared: &Shared) -> Result<Heads, StoreError> {
    // Answered in the order of asking, in one transaction.
    let expired = shared.store.expire(now());
    let (room, busy) = shared.lanes.room(CHATS_AT_ONCE);
    let heads = shared.store.next_to_send(room, busy, shared.pace());
    if expired.await? > 0 {
        upload::let_go(shared).await;
    }
    heads.await
}

/// Whether a message may go now: the number of a peer that never wrote is looked up first, then its file is uploaded.
/// It takes its place within the limits, and counts as handed over, only after that.
async fn may_go(
    shared: &Shared,
    client: &Arc<Client>,
    part: &mut Outgoing,
    lane: &mut Lane,
) -> Result<bool, StoreError> {
    let outcome = match lookup::before_first(shared, client, &part.chat).await? {
        Found::Known => None,
        Found::Peer(peer) => {
            let same = peer.key == part.chat.key;
            part.chat = *peer;
            // It belongs to the chat of an older peer now, and has its turn there.
            if !same {
                return Ok(false);
            }
            None
        }
        Found::Refused { code, reason } => Some(Outcome::Rejected {
            code: code.to_owned(),
            reason: reason.to_owned(),
        }),
        Found::NoAnswer(reason) => Some(Outcome::NotTaken(reason)),
        Found::Later => Some(Outcome::Busy("too many numbers".to_owned())),
    };
    let outcome = match outcome {
        None => {
            let _aside = part.file.is_some().then(|| lane.aside());
            upload::before_sending(shared, client, part).await?
        }
        some => some,
    };
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => {
            let id = part.message_id.clone();
            match shared.store.mark_handed(id, shared.pace()).await? {
                Turn::Now => return Ok(true),
                Turn::Gone | Turn::At(_) => return Ok(false),
                Turn::Doubtful => {
                    shared.outbox.tell(&part.message_id, Fate::GivenUp);
                    return Ok(false);
                }
                Turn::Restricted => reachout::restricted(),
            }
        }
    };
    settle(shared, part, outcome, lane).await.map(|()| false)
}

/// Sends one message and waits for the server's word, after which the chat's next message may follow.
async fn send(
    shared: Arc<Shared>,
    client: Arc<Client>,
    mut part: Outgoing,
    handed: bool,
    lane: &mut Lane,
) {
    let id = part.message_id.clone();
    let handed = match handed {
        true => Ok(true),
        false => may_go(&shared, &client, &mut part, lane).await,
    };
    let stored = match handed {
        Ok(true) => {
            let ack = shared.outbox.expect_ack(&id);
            let outcome = hand_over(&shared, &client, &part, ack).await;
            shared.outbox.forget_ack(&id);
            if !matches!(outcome, Outcome::Sent(_)) {
                shared.outbox.linger_no_more(&id);
            }
            settle(&shared, &part, outcome, lane).await
        }
        // Taken back, or expired, since it was read; or its number stands in the way; or others took the place.
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        tracing::error!(%error, "how far a message got could not be stored");
        tokio::time::sleep(RETRY_PAUSE).await;
        recover(&shared).await;
    }
}

async fn settle(
    shared: &Shared,
    part: &Outgoing,
    outcome: Outcome,
    lane: &mut Lane,
) -> Result<(), StoreError> {
    let id = part.message_id.clone();
    let chat = part.chat.route.redacted();
    match outcome {
        Outcome::Sent(at) => {
            // Asked for first: whatever is entered from now on finds it noted.
            let noted = shared.store.mark_sent(id.clone(), at.unwrap_or_else(now));
            lane.free();
            shared.typing.message_went(&part.chat.route);
            shared.outbox.tell(&id, Fate::Sent);
            noted.await
        }
        Outcome::Suspect => {
            tracing::warn!(
                chat,
                "a message was acknowledged that no device of its recipient can read"
            );
            shared.outbox.tell(&id, Fate::Suspect);
            shared.store.mark_suspect(id).await
        }
        Outcome::Rejected { code, reason } => {
            tracing::warn!(chat, code, "a message was rejected");
            let stored = shared.store.mark_rejected(id.clone(), code.clone()).await;
            if part.file.is_some() {
                upload::let_go(shared).await;
            }
            shared.outbox.tell(&id, Fate::Rejected { code, reason });
            stored
        }
        Outcome::NotTaken(reason) => {
            tracing::info!(chat, "a message waits for the connection");
            tracing::debug!(reason, "why it was not taken");
            shared.outbox.tell(&id, Fate::Waiting);
            let limits = shared.pace().limits;
            let stored = shared.store.mark_not_handed(id, limits).await;
            tokio::time::sleep(RETRY_PAUSE).await;
            stored
        }
        Outcome::Busy(code) => {
            tracing::warn!(chat, code, "fewer messages must go");
            shared.outbox.tell(&id, Fate::RateLimited);
            let stored = shared.store.mark_put_off(id, shared.pace()).await;
            tokio::time::sleep(BUSY_PAUSE).await;
            stored
        }
        Outcome::Open(reason) => {
            tracing::info!(chat, "a message is not acknowledged yet");
            tracing::debug!(reason, "why it is open");
            let again = shared.store.mark_unknown(id.clone()).await?;
            if again {
                tokio::time::sleep(RETRY_PAUSE).await;
            } else {
                shared.outbox.tell(&id, Fate::GivenUp);
            }
            Ok(())
        }
    }
}

/// A receipt moves the state of our messages on; it never moves back.
pub(super) fn receipt(shared: &Arc<Shared>, receipt: &events::Receipt) {
    let kind = match receipt.r#type {
        // Type `sender` is what a device of ours says of what another one sent.
        ReceiptType::Sender => Receipt::Own,
        ReceiptType::Delivered | ReceiptType::Inactive if receipt.source.is_from_me => Receipt::Own,
        ReceiptType::Delivered | ReceiptType::Inactive => Receipt::Delivered,
        ReceiptType::Read => Receipt::Read,
        ReceiptType::Played => Receipt::Played,
        _ => return,
    };
    let ids: Vec<String> = receipt
        .message_ids
        .iter()
        .map(|id| id.to_string())
        .collect();
    let device = receipt.source.sender.to_string();
    for id in &ids {
        // Who has the message proves that the server took it.
        shared.outbox.acknowledged(id, None, None);
        if kind != Receipt::Own {
            shared.outbox.confirmed(id, &device);
        }
    }
    // Nobody waits for it; a receipt that is lost with the process is only a state that lags behind.
    drop(shared.store.receipt(ids, kind));
}

//! Sends what waits in the outbox, and tells those who wait what became of it.
//!
//! Invariants: a message goes out only under the id it was stored with, and the next message of a chat only after
//! the one before is settled: acknowledged, rejected, or given up on. A message whose acknowledgement did not come
//! is sent again under the same id, so a recipient that has it already drops it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use wacore::types::events;
use wacore::types::presence::ReceiptType;
use waproto::codec::message_decode;
use whatsapp_rust::send::{SendError, SendOptions};
use whatsapp_rust::{Client, ClientError};

use super::state::Connection;
use super::{Shared, jid};
use crate::clock::now;
use crate::store::{Outgoing, PeerKey, Receipt, StoreError};

/// How long WhatsApp may take to acknowledge. An acknowledgement takes milliseconds; one that has not come by now
/// will not come on this connection.
const ACK_WAIT: Duration = Duration::from_secs(20);
/// The library may wait for the offline queue (60 s) and ask for keys (75 s) before it writes.
const HAND_OVER: Duration = Duration::from_secs(150);
/// Sends side by side, each in a chat of its own.
const CHATS_AT_ONCE: u32 = 64;
/// After the server said "too many".
const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// After a failure that may pass.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What became of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It waits in the outbox.
    Waiting,
    /// The server refused it for now; it waits in the outbox.
    RateLimited,
    /// It was given to the connection; no word of it yet.
    Handed,
    /// The server acknowledged it.
    Sent,
    /// The server, or the library, refuses it for good.
    Rejected {
        /// Code on the wire.
        code: String,
        /// What happened and what to do.
        reason: String,
    },
}

/// The server's word on one message.
struct Ack {
    at: Option<i64>,
    error: Option<String>,
}

/// Who waits for what.
#[derive(Default)]
pub(super) struct Waiters {
    acks: Mutex<HashMap<String, oneshot::Sender<Ack>>>,
    fates: Mutex<HashMap<String, watch::Sender<Fate>>>,
}

impl Waiters {
    /// The server acknowledged or refused a message.
    pub(super) fn acknowledged(
        &self,
        id: &str,
        at: Option<chrono::DateTime<chrono::Utc>>,
        error: Option<&str>,
    ) {
        let waiter = lock(&self.acks).remove(id);
        if let Some(waiter) = waiter {
            let _ = waiter.send(Ack {
                at: at.map(|at| at.timestamp()),
                error: error.map(str::to_owned),
            });
        }
    }

    fn expect_ack(&self, id: &str) -> oneshot::Receiver<Ack> {
        let (waiter, ack) = oneshot::channel();
        lock(&self.acks).insert(id.to_owned(), waiter);
        ack
    }

    fn tell(&self, id: &str, fate: Fate) {
        if let Some(follower) = lock(&self.fates).get(id) {
            follower.send_replace(fate);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows messages from before they are stored until it is dropped.
pub struct Following {
    shared: Arc<Shared>,
    ids: Vec<String>,
    fates: Vec<watch::Receiver<Fate>>,
}

impl Following {
    pub(super) fn new(shared: Arc<Shared>, ids: &[String]) -> Self {
        let mut followed = lock(&shared.outbox.fates);
        let fates = ids
            .iter()
            .map(|id| {
                followed
                    .entry(id.clone())
                    .or_insert_with(|| watch::Sender::new(Fate::Waiting))
                    .subscribe()
            })
            .collect();
        drop(followed);
        Self {
            shared,
            ids: ids.to_vec(),
            fates,
        }
    }

    /// Waits until every message is settled, or one is rejected. Cut short, [`Following::fates`] says how far it got.
    pub async fn settled(&mut self) {
        for fate in &mut self.fates {
            let seen = fate
                .wait_for(|fate| matches!(fate, Fate::Sent | Fate::Rejected { .. }))
                .await;
            if !seen.is_ok_and(|fate| *fate == Fate::Sent) {
                return;
            }
        }
    }

    /// What is known now, in the order of the ids.
    pub fn fates(&self) -> Vec<Fate> {
        self.fates
            .iter()
            .map(|fate| fate.borrow().clone())
            .collect()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut followed = lock(&self.shared.outbox.fates);
        self.fates.clear();
        for id in &self.ids {
            if followed
                .get(id)
                .is_some_and(|fate| fate.receiver_count() == 0)
            {
                followed.remove(id);
            }
        }
    }
}

/// Sends while there is a connection, each chat's messages one after the other, different chats' side by side.
pub(super) async fn send_waiting(shared: Arc<Shared>) {
    let mut busy = HashSet::new();
    let mut sending = JoinSet::new();
    let mut connection = shared.connection.subscribe();
    let mut outbox = shared.store.outbound_signal();
    recover(&shared).await;
    loop {
        outbox.borrow_and_update();
        let online = matches!(*connection.borrow_and_update(), Connection::Online);
        if let Some(client) = shared.client().filter(|_| online) {
            match heads(&shared).await {
                Ok(heads) => {
                    for head in heads {
                        if busy.insert(head.chat.key) {
                            sending.spawn(send(shared.clone(), client.clone(), head));
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "the outbox cannot be read"),
            }
        }
        tokio::select! {
            Some(done) = sending.join_next() => match done {
                Ok(chat) => { busy.remove(&chat); }
                Err(error) => {
                    tracing::error!(%error, "a send ended unexpectedly");
                    sending.abort_all();
                    busy.clear();
                    recover(&shared).await;
                }
            },
            changed = outbox.changed() => if changed.is_err() { return },
            changed = connection.changed() => if changed.is_err() { return },
        }
    }
}

/// What was with a connection and has no outcome is of unknown fate, and tried again.
async fn recover(shared: &Shared) {
    if let Err(error) = shared.store.recover_outbox().await {
        tracing::error!(%error, "messages of unknown fate wait for the next start");
    }
}

/// The next message of each chat, without those that waited too long for a connection.
async fn heads(shared: &Shared) -> Result<Vec<Outgoing>, StoreError> {
    // Answered in the order of asking, in one transaction.
    let expired = shared.store.expire(now());
    let heads = shared.store.next_to_send(CHATS_AT_ONCE);
    expired.await?;
    heads.await
}

/// Sends one message and waits for the server's word. Gives back the chat, whose next message may then follow.
async fn send(shared: Arc<Shared>, client: Arc<Client>, part: Outgoing) -> PeerKey {
    let id = part.message_id.clone();
    let chat = part.chat.key;
    let stored = match shared.store.mark_handed(id.clone()).await {
        Ok(true) => {
            let ack = shared.outbox.expect_ack(&id);
            let outcome = hand_over(&shared, &client, &part, ack).await;
            lock(&shared.outbox.acks).remove(&id);
            settle(&shared, &part, outcome).await
        }
        // Taken back, or expired, since it was read.
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = stored {
        tracing::error!(%error, "how far a message got could not be stored");
        tokio::time::sleep(RETRY_PAUSE).await;
        recover(&shared).await;
    }
    chat
}

async fn settle(shared: &Shared, part: &Outgoing, outcome: Outcome) -> Result<(), StoreError> {
    let id = part.message_id.clone();
    let chat = part.chat.route.redacted();
    match outcome {
        Outcome::Sent(at) => {
            shared.outbox.tell(&id, Fate::Sent);
            shared.store.mark_sent(id, at.unwrap_or_else(now)).await
        }
        Outcome::Rejected { code, reason } => {
            tracing::warn!(chat, code, "a message was rejected");
            let stored = shared.store.mark_rejected(id.clone(), code.clone()).await;
            shared.outbox.tell(&id, Fate::Rejected { code, reason });
            stored
        }
        Outcome::NotTaken(reason) => {
            tracing::info!(chat, reason, "a message waits for the connection");
            shared.outbox.tell(&id, Fate::Waiting);
            let stored = shared.store.mark_not_handed(id).await;
            tokio::time::sleep(RETRY_PAUSE).await;
            stored
        }
        Outcome::Busy(code) => {
            tracing::warn!(chat, code, "WhatsApp wants fewer messages");
            shared.outbox.tell(&id, Fate::RateLimited);
            let stored = shared.store.mark_not_handed(id).await;
            tokio::time::sleep(BUSY_PAUSE).await;
            stored
        }
        Outcome::Open(reason) => {
            tracing::info!(chat, reason, "a message is not acknowledged yet");
            let stored = shared.store.mark_unknown(id).await;
            tokio::time::sleep(RETRY_PAUSE).await;
            stored
        }
    }
}

enum Outcome {
    Sent(Option<i64>),
    Rejected {
        code: String,
        reason: String,
    },
    /// The connection never had it.
    NotTaken(String),
    /// The server refused it for now, with this code.
    Busy(String),
    /// Nothing certain: it may have arrived.
    Open(String),
}

async fn hand_over(
    shared: &Shared,
    client: &Arc<Client>,
    part: &Outgoing,
    ack: oneshot::Receiver<Ack>,
) -> Outcome {
    let rejected = |code: &str, reason: &str| Outcome::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    };
    let Some(to) = jid(&part.chat.route) else {
        return rejected("invalid_target", "the address cannot be written to");
    };
    let Ok(message) = message_decode(&part.payload) else {
        return rejected(
            "internal_error",
            "the stored message cannot be read; send it again",
        );
    };
    shared.outbox.tell(&part.message_id, Fate::Handed);
    let mut connection = shared.connection.subscribe();
    let options = SendOptions::default().with_message_id(part.message_id.clone());
    let sending = client.send_message_with_options(to, message, options);
    let lost = async {
        let _ = connection
            .wait_for(|now| !matches!(now, Connection::Online))
            .await;
    };
    tokio::pin!(lost);
    tokio::select! {
        sent = tokio::time::timeout(HAND_OVER, sending) => match sent {
            Ok(Ok(_)) => {}
            Ok(Err(SendError::InvalidRequest(reason))) => {
                return Outcome::Rejected { code: "invalid_target".into(), reason };
            }
            Ok(Err(error @ (SendError::NotLoggedIn | SendError::Client(ClientError::NotConnected)))) => {
                return Outcome::NotTaken(error.to_string());
            }
            Ok(Err(error)) => return Outcome::Open(error.to_string()),
            Err(_) => return Outcome::Open("the message could not be handed over".into()),
        },
        () = &mut lost => return Outcome::Open("the connection was lost".into()),
    }
    crate::crash::point("after_send");
    tokio::select! {
        ack = tokio::time::timeout(ACK_WAIT, ack) => match ack {
            Ok(Ok(Ack { at, error: None })) => Outcome::Sent(at),
            Ok(Ok(Ack { error: Some(code), .. })) => nack(&code),
            _ => Outcome::Open("WhatsApp did not acknowledge".into()),
        },
        () = &mut lost => Outcome::Open("the connection was lost".into()),
    }
}

/// The server's refusals in words. Codes: whatsapp-rust's `ServerAck.error`, as WhatsApp Web sees them.
fn nack(code: &str) -> Outcome {
    let (name, reason) = match code {
        "463" => (
            "new_chats_restricted",
            "WhatsApp does not let this account write first to people it does not know; wait until they write, or some days",
        ),
        "479" => (
            "nack_479",
            "WhatsApp found the message malformed; please report this",
        ),
        "404" => (
            "not_on_whatsapp",
            "there is no WhatsApp account at this address",
        ),
        "401" | "403" => (
            "not_allowed",
            "WhatsApp does not let this account write there: it was removed from the group, is blocked, or only admins may write",
        ),
        "429" | "503" => return Outcome::Busy(code.to_owned()),
        other => {
            return Outcome::Rejected {
                code: format!("nack_{other}"),
                reason: format!("WhatsApp refused the message with code {other}"),
            };
        }
    };
    Outcome::Rejected {
        code: name.to_owned(),
        reason: reason.to_owned(),
    }
}

/// A receipt moves the state of our messages on; it never moves back.
pub(super) fn receipt(shared: &Arc<Shared>, receipt: &events::Receipt) {
    let kind = match receipt.r#type {
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
    for id in &ids {
        // Who has the message proves that the server took it.
        shared.outbox.acknowledged(id, None, None);
    }
    // Nobody waits for it; a receipt that is lost with the process is only a state that lags behind.
    drop(shared.store.receipt(ids, kind));
}

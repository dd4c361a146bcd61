//! What became of messages, told to those who wait for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Shared;

/// What became of a message so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It waits in the outbox.
    Waiting,
    /// The server refused it for now; it waits in the outbox.
    RateLimited,
    /// Its file could not be uploaded for now, for this reason; it waits in the outbox.
    NotUploaded(String),
    /// It was given to the connection; no word of it yet.
    Handed,
    /// The server acknowledged it.
    Sent,
    /// The server acknowledged it, but it was encrypted for no device of the recipient.
    Suspect,
    /// It was tried as often as it is tried, and nobody said what became of it.
    GivenUp,
    /// The server, or the library, refuses it for good.
    Rejected {
        /// Code on the wire.
        code: String,
        /// What happened and what to do.
        reason: String,
    },
}

impl Fate {
    fn is_settled(&self) -> bool {
        !matches!(
            self,
            Self::Waiting | Self::RateLimited | Self::NotUploaded(_) | Self::Handed
        )
    }
}

/// The server's word on one message.
pub(super) struct Ack {
    pub at: Option<i64>,
    pub error: Option<String>,
}

/// Who waits for what.
pub(super) struct Waiters {
    acks: Mutex<HashMap<String, oneshot::Sender<Ack>>>,
    fates: Mutex<HashMap<String, watch::Sender<Fate>>>,
    /// Messages whose recipients' devices have not all confirmed them.
    lingering: watch::Sender<HashMap<String, Lingering>>,
}

/// A message that went out in this session.
#[derive(Debug, Default)]
struct Lingering {
    /// Devices of the recipients that it was encrypted for.
    devices: usize,
    confirmed: HashSet<String>,
}

/// So many messages at most are watched for the receipts of their devices.
const LINGERING: usize = 64;

impl Default for Waiters {
    fn default() -> Self {
        Self {
            acks: Mutex::default(),
            fates: Mutex::default(),
            lingering: watch::Sender::new(HashMap::new()),
        }
    }
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
            // A send that was given up on waits no more.
            let _ = waiter.send(Ack {
                at: at.map(|at| at.timestamp()),
                error: error.map(str::to_owned),
            });
        }
    }

    pub(super) fn expect_ack(&self, id: &str) -> oneshot::Receiver<Ack> {
        let (waiter, ack) = oneshot::channel();
        lock(&self.acks).insert(id.to_owned(), waiter);
        ack
    }

    /// Whether a message is being sent now, and so is in the outbox.
    pub(super) fn expects_ack(&self, id: &str) -> bool {
        lock(&self.acks).contains_key(id)
    }

    pub(super) fn forget_ack(&self, id: &str) {
        lock(&self.acks).remove(id);
    }

    pub(super) fn tell(&self, id: &str, fate: Fate) {
        if let Some(follower) = lock(&self.fates).get(id) {
            follower.send_replace(fate);
        }
    }

    /// A message went out to so many devices of its recipients.
    pub(super) fn linger_for(&self, id: &str, devices: usize) {
        self.lingering.send_modify(|lingering| {
            if lingering.len() < LINGERING {
                lingering.entry(id.to_owned()).or_default().devices = devices;
            }
        });
    }

    /// Nobody is going to confirm it.
    pub(super) fn linger_no_more(&self, id: &str) {
        self.lingering
            .send_if_modified(|lingering| lingering.remove(id).is_some());
    }

    /// A device has a message.
    pub(super) fn confirmed(&self, id: &str, device: &str) {
        self.lingering.send_if_modified(|lingering| {
            let Some(message) = lingering.get_mut(id) else {
                return false;
            };
            message.confirmed.insert(device.to_owned());
            if message.confirmed.len() >= message.devices {
                lingering.remove(id);
            }
            true
        });
    }

    /// Until every device has confirmed what was sent to it, or the time is up: a device that cannot decrypt asks
    /// for the message again, and only a connected sender can answer.
    pub(super) async fn linger(&self, deadline: Instant) {
        let mut lingering = self.lingering.subscribe();
        let done = lingering.wait_for(HashMap::is_empty);
        // Whoever is away asks later, and is answered by the next session.
        let _ = tokio::time::timeout_at(deadline, done).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
            let seen = fate.wait_for(Fate::is_settled).await;
            if !seen.is_ok_and(|fate| matches!(*fate, Fate::Sent | Fate::Suspect)) {
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

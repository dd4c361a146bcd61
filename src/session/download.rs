//! Decides what is fetched and when: what the store says is to be fetched, a few at a time, for as long as there is a
//! connection. How one file is fetched is in `fetch`.
//!
//! Invariants: a file is fetched once however many messages carry it; a chat takes half of the places at most; a
//! failure is a note in the store, and never ends anything else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::fetch::{NO_SPACE, fetch};
use super::sink::Meter;
use super::state::Connection;
use super::tidy::{let_go, let_refused_go, tidy};
use crate::clock::now;
use crate::identity::Address;
use crate::media::shelf::Shelf;
use crate::store::{AttachmentId, AttachmentToken, ContentHash, Fetching, ToFetch};

/// Files at a time.
const AT_ONCE: usize = 4;
/// Of them from one chat.
const PER_CHAT: usize = AT_ONCE / 2;
/// What is looked through for something whose turn it is.
const LOOKED_AT: u32 = 256;
/// Phones asked at a time to upload a file again.
const ASKED_AT_ONCE: usize = 2;
/// Larger files WhatsApp does not have.
const LARGEST: u64 = 2 << 30;
/// How often is looked for what may be let go.
const TIDY: Duration = Duration::from_secs(3600);

/// What may be fetched, and for how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLimits {
    /// Larger files are left at the server.
    pub max_bytes: u64,
    /// Days for which a file is kept.
    pub keep_days: u32,
    /// Bytes of all files.
    pub keep_bytes: u64,
}

/// The downloads of a session.
pub(super) struct Downloads {
    shelf: Mutex<Option<Arc<Shelf>>>,
    pub(super) path: std::path::PathBuf,
    limits: watch::Sender<Option<MediaLimits>>,
    running: Mutex<HashMap<AttachmentId, Running>>,
    /// What somebody has asked for by name, whatever the limits.
    asked: Mutex<HashSet<AttachmentToken>>,
    pub(super) asking: Semaphore,
    /// Held while a file gets or loses its name, so that its row says the same.
    pub(super) naming: tokio::sync::Mutex<()>,
}

struct Running {
    chat: Address,
    sha256: ContentHash,
}

impl Downloads {
    pub(super) fn new(path: std::path::PathBuf) -> Self {
        Self {
            shelf: Mutex::default(),
            path,
            limits: watch::Sender::new(None),
            running: Mutex::default(),
            asked: Mutex::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
            naming: tokio::sync::Mutex::default(),
        }
    }

    /// What may be fetched from now on; nothing without limits.
    pub(super) fn limit(&self, limits: Option<MediaLimits>) {
        self.limits.send_if_modified(|now| {
            let changed = *now != limits;
            *now = limits;
            changed
        });
    }

    fn asked(&self) -> MutexGuard<'_, HashSet<AttachmentToken>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<AttachmentId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shelf, opened when it is first needed. Blocks for a moment.
    pub(super) fn shelf(&self) -> std::io::Result<Arc<Shelf>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shelf) = &*shelf {
            return Ok(shelf.clone());
        }
        let opened = Arc::new(Shelf::open(&self.path)?);
        Ok(shelf.insert(opened).clone())
    }

    /// How large this file may be; none if it is not to be fetched.
    fn most(&self, file: &ToFetch, limits: Option<&MediaLimits>) -> Option<u64> {
        let asked = self.asked();
        match file.token.is_some_and(|token| asked.contains(&token)) {
            true => Some(LARGEST),
            false => limits.map(|limits| limits.max_bytes),
        }
    }

    /// Whether it is this file's turn.
    fn has_room(&self, file: &ToFetch) -> bool {
        let running = self.running();
        let of_chat = running.values().filter(|other| other.chat == file.chat);
        of_chat.count() < PER_CHAT
            && running
                .values()
                .all(|other| other.sha256 != file.source.sha256)
    }
}

/// Fetches what is wanted until the session ends.
pub(super) async fn fetch_wanted(shared: Arc<Shared>) {
    let mut limits = shared.downloads.limits.subscribe();
    let mut wanted = shared.store.media_signal();
    let mut connection = shared.connection.subscribe();
    let mut under_way = JoinSet::new();
    let mut tidy_at = None;
    // A download that panicked has not taken itself out.
    shared.downloads.running().clear();
    loop {
        wanted.borrow_and_update();
        let limit = limits.borrow_and_update().clone();
        let online = *connection.borrow_and_update() == Connection::Online;
        let mut next = None;
        let_refused_go(&shared).await;
        if let Some(limit) = &limit
            && tidy_at.is_none_or(|at| Instant::now() >= at)
        {
            tidy(&shared, limit, tidy_at.is_none()).await;
            tidy_at = Some(Instant::now() + TIDY);
        }
        let asked = !shared.downloads.asked().is_empty();
        if online && (limit.is_some() || asked) {
            match start(&shared, limit.as_ref(), &mut under_way).await {
                Ok(soonest) => next = soonest,
                Err(error) => {
                    tracing::warn!(%error, "it cannot be seen which media to fetch");
                    next = Some(now() + NO_SPACE);
                }
            }
        }
        let pause =
            next.map(|at| Duration::from_secs(at.saturating_sub(now()).max(1).unsigned_abs()));
        tokio::select! {
            Some(done) = under_way.join_next(), if !under_way.is_empty() => {
                // What was fetched may be more than is to be kept.
                if matches!(done, Ok(true)) && let Some(limit) = &limit {
                    let_go(&shared, limit).await;
                }
            }
            changed = wanted.changed() => if changed.is_err() { return },
            changed = limits.changed() => if changed.is_err() { return },
            changed = connection.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause.unwrap_or(TIDY)) => {}
        }
    }
}

/// Begins what there is room for; when the next is due.
async fn start(
    shared: &Arc<Shared>,
    limits: Option<&MediaLimits>,
    under_way: &mut JoinSet<bool>,
) -> Result<Option<i64>, crate::store::StoreError> {
    if under_way.len() < AT_ONCE && shared.client().is_some() {
        for file in shared.store.media_to_fetch(LOOKED_AT, now()).await? {
            if under_way.len() >= AT_ONCE {
                break;
            }
            let Some(most) = shared.downloads.most(&file, limits) else {
                continue;
            };
            if !shared.downloads.has_room(&file) {
                continue;
            }
            let size = file.size.unwrap_or_default();
            let meter = Arc::new(Meter::new(shared.transfers.begin("download", size)));
            let running = Running {
                chat: file.chat.clone(),
                sha256: file.source.sha256,
            };
            shared.downloads.running().insert(file.id, running);
            let guard = Guard {
                shared: shared.clone(),
                id: file.id,
                meter,
            };
            under_way.spawn(fetch(guard, file, most));
        }
    }
    shared.store.next_fetch(now()).await
}

/// Fetches a file that somebody asks for by name, whatever became of it before and however large it is.
///
/// # Errors
/// The code of [`crate::media::reason`] that says why it cannot be had now.
pub(super) async fn fetch_now(
    shared: &Shared,
    token: AttachmentToken,
    deadline: Instant,
) -> Result<Result<(), String>, crate::store::StoreError> {
    let mut changed = shared.store.media_signal();
    shared.downloads.asked().insert(token);
    let Some(id) = shared.store.want_attachment(token, now()).await? else {
        return Ok(Err("incomplete".to_owned()));
    };
    loop {
        changed.borrow_and_update();
        let failed = match shared.store.fetching(id).await? {
            Some((Fetching::Here, _)) => return Ok(Ok(())),
            Some((Fetching::Wanted, None)) => None,
            // It is tried again at once, a few times.
            Some((Fetching::Wanted, Some(reason))) if reason == "download_failed" => None,
            Some((_, reason)) => Some(reason.unwrap_or_default()),
            None => Some("incomplete".to_owned()),
        };
        if let Some(reason) = failed {
            return Ok(Err(reason));
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return Ok(Err("pending".to_owned())) },
            () = tokio::time::sleep_until(deadline) => return Ok(Err("pending".to_owned())),
        }
    }
}

/// A download under way. Dropped, it is no more.
pub(super) struct Guard {
    pub(super) shared: Arc<Shared>,
    id: AttachmentId,
    pub(super) meter: Arc<Meter>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.meter.transfer.stop();
        self.shared.downloads.running().remove(&self.id);
    }
}

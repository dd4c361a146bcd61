//! Decides what is fetched and when: what the store says is to be fetched, a few at a time, for as long as there is a
//! connection. How one file is fetched is in `fetch`.
//!
//! Invariants: an encrypted file is fetched once however many messages carry it; up to as many chats as there are places
//! wait for their own files alone, and with more of them the next place is that of the chat whose turn it is; no download
//! takes the disk's last bytes, or those that another was promised; a failure is a note in the store, and never ends
//! anything else.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::failure::NO_SPACE;
use super::fetch::fetch;
use super::sink::{Meter, Room};
use super::state::Connection;
use super::tidy::{clear, let_go, let_refused_go, sweep};
use super::{AbortOnDrop, Shared, kept_up};
use crate::clock::now;
use crate::identity::Address;
use crate::inbound::MediaSource;
use crate::media::depot::{Depot, is_object};
use crate::store::{AttachmentId, AttachmentToken, ContentHash, RESERVE, ToFetch, available};

/// Files at a time, from as many chats.
const AT_ONCE: usize = 16;
/// Files at a time while a chat may have two.
const FEW: usize = 4;
/// What is looked through for something whose turn it is.
const LOOKED_AT: usize = 256;
/// Files at a time that the phone is asked to upload again.
const ASKED_AT_ONCE: usize = 2;
/// Those of a chat that wait for that, without a place; more are tried later.
const WAITING_FOR_PHONE: usize = 64;
/// Parts at a time of large files on their way into an object store, each of them in memory. As many as files of few chats,
/// so that no chat's large files fill them all.
const PUT_AT_ONCE: usize = FEW;
/// What stays free on the disk: the reserve, and room for what else is written meanwhile.
const FREE: u64 = RESERVE + (16 << 20);
/// How often is looked for what may be let go.
const TIDY: Duration = Duration::from_secs(3600);

/// What may be fetched, and for how long it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaLimits {
    /// What is wanted is fetched by itself. Otherwise only what somebody asks for by name; that is kept no longer, either.
    pub fetch: bool,
    /// Larger files are left at the server.
    pub max_bytes: u64,
    /// What is to be seen once is fetched too.
    pub view_once: bool,
    /// Days for which a file is kept.
    pub keep_days: u32,
    /// Bytes of all files.
    pub keep_bytes: u64,
}

/// The downloads of a session.
pub(super) struct Downloads {
    depot: Mutex<Option<Arc<Depot>>>,
    pub(super) path: std::path::PathBuf,
    limits: watch::Sender<Option<MediaLimits>>,
    /// As the configuration has it; see [`super::Session::keep_media_in`].
    kept_in: Mutex<Option<String>>,
    /// The object store did not take something, and nothing since.
    pub(super) fails: AtomicBool,
    running: Mutex<HashMap<AttachmentId, Running>>,
    /// What people wait for who asked for it by name, whatever the limits; and how large it may be for each of them.
    asked: Mutex<Vec<(AttachmentToken, u64)>>,
    pub(super) asking: Semaphore,
    /// Of each chat one at a time is among those, so that no chat waits for all that another has.
    turns: Mutex<HashMap<Address, Arc<Semaphore>>>,
    pub(super) putting: Semaphore,
    /// Something in an object store belongs to no file.
    pub(super) remain: Notify,
    /// The content whose object is being removed, and whether a file of it waits for that.
    removing: Mutex<Option<(ContentHash, bool)>>,
    /// A place was given back.
    freed: Notify,
    /// Held while a file gets or loses its name, so that its row says the same.
    pub(super) naming: tokio::sync::Mutex<()>,
}

struct Running {
    chat: Address,
    source: MediaSource,
    meter: Arc<Meter>,
    /// It takes one of the places.
    placed: bool,
}

impl Downloads {
    pub(super) fn new(path: std::path::PathBuf) -> Self {
        Self {
            depot: Mutex::default(),
            path,
            limits: watch::Sender::new(None),
            kept_in: Mutex::default(),
            fails: AtomicBool::new(false),
            running: Mutex::default(),
            asked: Mutex::default(),
            asking: Semaphore::new(ASKED_AT_ONCE),
            turns: Mutex::default(),
            putting: Semaphore::new(PUT_AT_ONCE),
            remain: Notify::new(),
            removing: Mutex::default(),
            freed: Notify::new(),
            naming: tokio::sync::Mutex::default(),
        }
    }

    /// What may be fetched from now on. Without limits nothing is, and nothing is let go.
    pub(super) fn limit(&self, limits: MediaLimits) {
        let limits = Some(limits);
        self.limits.send_if_modified(|now| {
            let changed = *now != limits;
            *now = limits;
            changed
        });
    }

    /// Whether anything is fetched.
    pub(super) fn is_at_work(&self) -> bool {
        let limits = self.limits.borrow();
        limits.as_ref().is_some_and(|limits| limits.fetch) || !self.asked().is_empty()
    }

    pub(super) fn asked(&self) -> MutexGuard<'_, Vec<(AttachmentToken, u64)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<AttachmentId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept, opened when it is first needed. Blocks for a moment.
    pub(super) fn depot(&self) -> std::io::Result<Arc<Depot>> {
        let mut depot = self.depot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(depot) = &*depot {
            return Ok(depot.clone());
        }
        let opened = Arc::new(Depot::open(&self.path)?);
        Ok(depot.insert(opened).clone())
    }

    /// Where files are kept from now on; whether that is news.
    pub(super) fn keep_in(&self, store: &str) -> bool {
        let mut known = self.kept_in.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == Some(store) {
            return false;
        }
        *known = Some(store.to_owned());
        true
    }

    /// The URL of the object store that files go to; none if they stay on the disk.
    pub(super) fn bucket(&self) -> Option<String> {
        let known = self.kept_in.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone().filter(|place| is_object(place))
    }

    /// Has files of this content wait while what an object store has of it is removed; nothing if one is on its way. Only one
    /// is removed at a time. Content that nobody knows is no file's.
    pub(super) fn begin_removal(&self, sha256: Option<ContentHash>) -> Option<Removal<'_>> {
        let running = self.running();
        let mut on_their_way = running.values().map(|one| one.source.sha256);
        if on_their_way.any(|one| Some(one) == sha256) {
            return None;
        }
        *self.removing() = sha256.map(|sha256| (sha256, false));
        Some(Removal(self))
    }

    fn removing(&self) -> MutexGuard<'_, Option<(ContentHash, bool)>> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its turn among those of its chat that the phone is to upload again.
    pub(super) fn turn_of(&self, chat: &Address) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        let turn = turns.entry(chat.clone());
        turn.or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }

    /// How large this file may be, or why it is not to be fetched by itself; none if nothing is.
    fn most(
        &self,
        file: &ToFetch,
        limits: Option<&MediaLimits>,
    ) -> Option<Result<u64, &'static str>> {
        let limits = limits.filter(|limits| limits.fetch);
        let asked = self.asked();
        let asked = asked.iter().filter(|(token, _)| file.token == Some(*token));
        let asked = asked.map(|(_, most)| *most).max();
        let may = limits.filter(|limits| limits.view_once || !file.source.view_once);
        match asked.max(may.map(|limits| limits.max_bytes)) {
            Some(most) => Some(Ok(most)),
            None => limits.map(|_| Err("view_once")),
        }
    }

    /// Lets a file that is on its way be larger than it might be when it was begun.
    pub(super) fn allow(&self, id: AttachmentId, most: u64) {
        if let Some(running) = self.running().get(&id) {
            running.meter.allow(most);
        }
    }

    /// Whether there is a place at all.
    fn has_place(&self) -> bool {
        let running = self.running();
        running.values().filter(|one| one.placed).count() < AT_ONCE
    }

    /// Whether this file may take a place.
    fn may_begin(&self, file: &ToFetch) -> bool {
        let running = self.running();
        if let Some((sha256, waits)) = &mut *self.removing()
            && *sha256 == file.source.sha256
        {
            *waits = true;
            return false;
        }
        let placed: Vec<&Running> = running.values().filter(|other| other.placed).collect();
        let placed_of_chat = placed.iter().filter(|other| other.chat == file.chat);
        let may = match placed_of_chat.count() {
            0 => true,
            1 => placed.len() < FEW,
            _ => false,
        };
        // An object has one place whoever's key led to its content, and one alone puts it there.
        let one_place = self.bucket().is_some();
        may && !running.contains_key(&file.id)
            && !running.values().any(|other| {
                let same_content = other.source.sha256 == file.source.sha256;
                other.source.is_same_file(&file.source) || one_place && other.placed && same_content
            })
    }

    /// Has a download wait for the phone instead of bytes: others get its place, and what it was promised of the disk.
    /// Whether it may; too many of its chat wait already, if not.
    fn give_way(&self, id: AttachmentId) -> bool {
        let mut running = self.running();
        let chat = running.get(&id).map(|own| own.chat.clone());
        let waiting = running.values().filter(|one| !one.placed);
        let waiting = waiting.filter(|one| Some(&one.chat) == chat.as_ref());
        if waiting.count() >= WAITING_FOR_PHONE {
            return false;
        }
        if let Some(own) = running.get_mut(&id) {
            own.placed = false;
            // It is begun anew once the phone has answered.
            own.meter.transfer.stop();
            own.meter.promise(0);
        }
        self.freed.notify_one();
        true
    }

    /// Promises a download so many bytes of the disk, if they are there beside what others were promised.
    fn promise(&self, id: AttachmentId, bytes: u64) -> bool {
        let running = self.running();
        let fits = self.has_free(others(&running, id).saturating_add(bytes));
        if let Some(own) = running.get(&id).filter(|_| fits) {
            own.meter.promise(bytes);
        }
        fits
    }

    /// Whether a download may take more of the disk: what it was promised, or what nobody was.
    fn may_go_on(&self, id: AttachmentId) -> bool {
        let running = self.running();
        let promised = running
            .get(&id)
            .is_some_and(|own| own.meter.outstanding() > 0);
        self.has_free(if promised { 0 } else { others(&running, id) })
    }

    /// What changes with each download that has a place as long as it moves, and whether it has all its bytes and is only put away.
    pub(super) fn progress(&self) -> HashMap<AttachmentId, (u64, bool)> {
        let running = self.running();
        let placed = running.iter().filter(|(_, one)| one.placed);
        placed
            .map(|(id, one)| {
                (
                    *id,
                    (one.meter.transfer.life(), one.meter.transfer.is_whole()),
                )
            })
            .collect()
    }

    /// What has been begun and has not ended.
    pub(super) fn under_way(&self) -> HashSet<AttachmentId> {
        self.running().keys().copied().collect()
    }

    /// Whether the disk has so many bytes more than what stays free.
    pub(super) fn has_free(&self, bytes: u64) -> bool {
        available(&self.path).is_none_or(|free| free >= FREE.saturating_add(bytes))
    }
}

/// What others were promised of the disk and have not taken yet.
fn others(running: &HashMap<AttachmentId, Running>, id: AttachmentId) -> u64 {
    let others = running.iter().filter(|(other, _)| **other != id);
    others.map(|(_, other)| other.meter.outstanding()).sum()
}

/// An object is being removed. Dropped, it is not any more.
pub(super) struct Removal<'a>(&'a Downloads);

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let removed = self.0.removing().take();
        if let Some((_, true)) = removed {
            self.0.freed.notify_one();
        }
    }
}

/// Fetches what is wanted until the session ends.
pub(super) async fn fetch_wanted(shared: Arc<Shared>) {
    let mut limits = shared.downloads.limits.subscribe();
    let mut wanted = shared.store.media_signal();
    let mut connection = shared.connection.subscribe();
    let mut under_way = JoinSet::new();
    let mut tidy_at = Instant::now();
    let mut swept = false;
    // A download that panicked has not taken itself out.
    shared.downloads.running().clear();
    let clearing = shared.clone();
    let clearing = kept_up("tidying", move || clear(clearing.clone()));
    let _clearing = AbortOnDrop(tokio::spawn(clearing));
    loop {
        wanted.borrow_and_update();
        let limit = limits.borrow_and_update().clone();
        let online = *connection.borrow_and_update() == Connection::Online;
        let mut next = None;
        let_refused_go(&shared).await;
        let at_work = shared.downloads.is_at_work();
        // Before the first download: what lies there then is nobody's.
        if !swept && (limit.is_some() || at_work) {
            sweep(&shared).await;
            swept = true;
        }
        if let Some(limit) = &limit
            && Instant::now() >= tidy_at
        {
            let_go(&shared, limit).await;
            tidy_at = Instant::now() + TIDY;
        }
        if online && at_work {
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
            () = shared.downloads.freed.notified() => {}
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
    if shared.downloads.has_place() && shared.client().is_some() {
        // Those that are running are among them.
        let looked_at = LOOKED_AT + shared.downloads.running().len();
        for file in shared.store.media_to_fetch(looked_at, now()).await? {
            if !shared.downloads.has_place() {
                break;
            }
            let Some(most) = shared.downloads.most(&file, limits) else {
                continue;
            };
            if !shared.downloads.may_begin(&file) {
                continue;
            }
            let size = file.size.unwrap_or_default();
            let meter = Arc::new(Meter::new(shared.transfers.begin("download", size)));
            let running = Running {
                chat: file.chat.clone(),
                source: file.source.clone(),
                meter: meter.clone(),
                placed: true,
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

/// A download under way. Dropped, it is no more.
pub(super) struct Guard {
    pub(super) shared: Arc<Shared>,
    id: AttachmentId,
    pub(super) meter: Arc<Meter>,
}

impl Guard {
    /// Gives its place to others, and its part of the disk, to wait for the phone; whether it may.
    pub(super) fn give_way(&self) -> bool {
        self.shared.downloads.give_way(self.id)
    }

    /// Whether the disk has these bytes for it, now and until it ends.
    pub(super) fn promise(&self, bytes: u64) -> bool {
        self.shared.downloads.promise(self.id, bytes)
    }

    /// Says of the disk, again and again, whether it has room for more of this file.
    pub(super) fn room(&self) -> Room {
        let (shared, id) = (self.shared.clone(), self.id);
        Box::new(move || shared.downloads.may_go_on(id))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.meter.transfer.stop();
        self.shared.downloads.running().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;

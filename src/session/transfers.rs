//! Files on their way, for those who ask how far they are.
//!
//! Invariant: what is listed is under way; whoever carries a file holds its [`Transfer`], and a drop ends it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// What is done with a file before it is uploaded, for people.
pub const STAGE: &str = "stage";
/// Smaller files are there before anybody could ask.
const LONG: u64 = 8 << 20;
/// The target of the lines that say how far a long transfer is. People wait for those, so they are shown where other lines
/// of their level are not.
pub const PROGRESS: &str = "channel_whatsapp::progress";
/// How often a long transfer says how far it is.
const SAYS: Duration = Duration::from_secs(5);

/// All that is under way.
#[derive(Default)]
pub(super) struct Transfers(Mutex<Vec<Weak<Transfer>>>);

/// One file on its way.
#[derive(Debug)]
pub struct Transfer {
    what: &'static str,
    /// 0 where nobody knows.
    total: u64,
    done: Arc<AtomicU64>,
    /// Grows with what comes, though it is not done with yet.
    signs: AtomicU64,
    stopped: AtomicBool,
}

impl Transfers {
    /// A transfer of so many bytes begins; `what` is its direction, for people.
    pub(super) fn begin(&self, what: &'static str, total: u64) -> Arc<Transfer> {
        let transfer = Arc::new(Transfer::new(what, total));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&transfer));
        transfer
    }

    /// How far the long ones are, for people.
    pub(super) fn told(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.iter().filter_map(Weak::upgrade);
        all.filter(|one| one.is_long() && !one.is_stopped())
            .map(|one| one.told())
            .collect()
    }
}

impl Transfer {
    /// One that is in no list.
    pub fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            done: Arc::default(),
            signs: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Counts its bytes from elsewhere.
    pub fn meter(&self) -> Arc<AtomicU64> {
        self.done.clone()
    }

    fn is_long(&self) -> bool {
        self.total.max(self.done()) > LONG
    }

    /// All bytes that were announced have gone by.
    pub(super) fn is_whole(&self) -> bool {
        self.total > 0 && self.done() >= self.total
    }

    /// So many bytes more have gone by.
    pub(super) fn add(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It goes on from here.
    pub(super) fn set(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that have gone by.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Something came.
    pub(super) fn sign(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Differs from what it was if anything has come or gone since.
    pub(super) fn life(&self) -> u64 {
        self.done().wrapping_add(self.signs.load(Ordering::Relaxed))
    }

    /// Nobody waits for it any more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn told(&self) -> String {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (done, total) = (mebibytes(self.done()), mebibytes(self.total));
        match self.total {
            0 => format!("{} {done:.0} MiB", self.what),
            _ => format!("{} {done:.0} of {total:.0} MiB", self.what),
        }
    }

    /// Says now and then how far a long transfer is, and returns once no byte has gone by for `patience`.
    pub async fn stalls(&self, patience: Duration) {
        let mut seen = self.life();
        let mut since = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(SAYS.min(patience)).await;
            if self.is_long() {
                tracing::info!(target: PROGRESS, "{}", self.told());
            }
            let life = self.life();
            if life != seen {
                (seen, since) = (life, tokio::time::Instant::now());
            } else if since.elapsed() >= patience {
                return;
            }
        }
    }
}

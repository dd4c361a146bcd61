//! The one thread that writes to SQLite, and the group commit.
//!
//! Invariant: what is [promised](super::promise) is answered with `Ok` only after the transaction that holds the work is on
//! the disk.
//! Whatever waits in the channel shares one transaction and so one sync. The thread waits for more to come only while
//! it holds nothing but work that is patient.
//! Each piece of work has a savepoint of its own, so that a failing one takes nothing else with it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell, RefMut};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::counters::Tally;
use super::promise::{Commit, Foreseen, Pending};
use super::{Space, StoreError};

/// Work that may wait. Who has more to store is held up, which is the back pressure towards WhatsApp.
const QUEUE: usize = 1024;

/// Most work in one transaction; keeps the answer to the first of a long queue from waiting for the last.
const BATCH: usize = 512;

/// How long patient work waits for company. Longer than a host takes from an answer to its next message; shorter than
/// anybody notices.
const PATIENCE: Duration = Duration::from_millis(1);

/// How often the log is cut off at most, after something was erased.
const WIPE_EVERY: Duration = Duration::from_secs(60);

/// Nobody has asked for anything for so long.
const IDLE: Duration = Duration::from_millis(100);

/// How long another process is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// The transaction as the work sees it: the connection, and what to tell the listeners once it is committed.
pub(super) struct Tx<'a> {
    conn: &'a Connection,
    inbound: Cell<bool>,
    outbound: Cell<bool>,
    given_up: Cell<bool>,
    media: Cell<bool>,
    turns: Cell<bool>,
    reads: Cell<bool>,
    erased: Cell<bool>,
    counted: RefCell<Vec<(Cow<'static, str>, i64)>>,
}

impl Tx<'_> {
    pub(super) fn counted(&self) -> RefMut<'_, Vec<(Cow<'static, str>, i64)>> {
        self.counted.borrow_mut()
    }

    /// Wakes who waits for events to emit.
    pub(super) fn inbound_changed(&self) {
        self.inbound.set(true);
    }

    /// Wakes who waits for the outbox.
    pub(super) fn outbound_changed(&self) {
        self.outbound.set(true);
    }

    /// The same, also if nothing is left to send: somebody may be at work for what was given up.
    pub(super) fn outbound_given_up(&self) {
        self.given_up.set(true);
    }

    /// Wakes who waits for media, or fetches them.
    pub(super) fn media_changed(&self) {
        self.media.set(true);
    }

    /// Wakes who follows which event the agent is at.
    pub(super) fn turns_changed(&self) {
        self.turns.set(true);
    }

    /// Wakes who marks messages as read.
    pub(super) fn reads_changed(&self) {
        self.reads.set(true);
    }

    /// Has older copies of what was erased removed from the write-ahead log too.
    pub(super) fn text_erased(&self) {
        self.erased.set(true);
    }

    /// Under test every statement has its plan looked at.
    #[cfg(test)]
    pub(super) fn prepare_cached(
        &self,
        sql: &str,
    ) -> rusqlite::Result<rusqlite::CachedStatement<'_>> {
        super::tests::plan::check(self.conn, sql);
        self.conn.prepare_cached(sql)
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(conn: &'a Connection) -> Self {
        Self {
            conn,
            inbound: Cell::new(false),
            outbound: Cell::new(false),
            given_up: Cell::new(false),
            media: Cell::new(false),
            turns: Cell::new(false),
            reads: Cell::new(false),
            erased: Cell::new(false),
            counted: RefCell::default(),
        }
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

/// How soon work has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// At once.
    Now,
    /// With the next that is, or after [`PATIENCE`].
    Patient,
}

trait Job: Send {
    fn haste(&self) -> Haste;
    fn run(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Task<T, F> {
    haste: Haste,
    work: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send,
{
    fn haste(&self) -> Haste {
        self.haste
    }

    fn run(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(tx)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        // Who asked may have gone away; the work is done all the same.
        let _ = reply.send(outcome.and_then(|()| value.ok_or(StoreError::Stopped)));
    }
}

/// Work whose result is told before it is committed.
struct Forerun<T, F> {
    work: Option<(F, oneshot::Sender<T>)>,
    told: watch::Sender<Option<Result<(), StoreError>>>,
}

impl<T, F> Job for Forerun<T, F>
where
    T: Send,
    F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send,
{
    fn haste(&self) -> Haste {
        Haste::Now
    }

    fn run(&mut self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        if let Some((work, value)) = self.work.take() {
            // Who asked may have gone away; the work is done all the same.
            let _ = value.send(work(tx)?);
            crate::crash::late_point("before_outbox_commit");
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        self.told.send_replace(Some(outcome));
    }
}

/// The sending half. Dropping it ends the thread after what is queued has been committed.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    pub(super) inbound: watch::Receiver<u64>,
    pub(super) outbound: watch::Receiver<u64>,
    pub(super) media: watch::Receiver<u64>,
    pub(super) turns: watch::Receiver<u64>,
    pub(super) reads: watch::Receiver<u64>,
}

/// Whom to tell what has changed.
#[derive(Default)]
struct Signals {
    inbound: watch::Sender<u64>,
    outbound: watch::Sender<u64>,
    media: watch::Sender<u64>,
    turns: watch::Sender<u64>,
    reads: watch::Sender<u64>,
}

impl Writer {
    pub(super) fn start(
        conn: Connection,
        path: PathBuf,
        space: Arc<Space>,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let signals = Signals::default();
        let [inbound, outbound, media, turns, reads] = [
            &signals.inbound,
            &signals.outbound,
            &signals.media,
            &signals.turns,
            &signals.reads,
        ]
        .map(watch::Sender::subscribe);
        let failed = StoreError::Failed {
            path: path.clone(),
            detail: "no thread could be started".to_owned(),
        };
        let thread = std::thread::Builder::new()
            .name("channel-store".to_owned())
            .spawn(move || run(&conn, &path, &space, &jobs, &signals))
            .map_err(|_| failed)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            inbound,
            outbound,
            media,
            turns,
            reads,
        })
    }

    pub(super) fn submit<T, F>(&self, haste: Haste, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.queue(Box::new(Task {
            haste,
            work: Some(work),
            value: None,
            reply,
        }));
        Pending(answer)
    }

    /// The same for work whose result is of use before it is committed.
    pub(super) fn submit_foreseen<T, F>(&self, work: F) -> Foreseen<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, value) = oneshot::channel();
        let (told, commit) = Commit::awaited();
        self.queue(Box::new(Forerun {
            work: Some((work, reply)),
            told,
        }));
        Foreseen { value, commit }
    }

    fn queue(&self, job: Box<dyn Job>) {
        if let Some(queue) = &self.queue {
            // A thread that is gone drops the job and with it who it answers to, which reads as `Stopped`.
            let _ = queue.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    conn: &Connection,
    path: &std::path::Path,
    space: &Space,
    jobs: &Receiver<Box<dyn Job>>,
    signals: &Signals,
) {
    let mut tally = Tally::default();
    let mut wiping = Wiping::default();
    while let Some(first) = wiping.next(conn, jobs) {
        let mut batch = vec![first];
        let until = Instant::now() + PATIENCE;
        while batch.iter().all(|job| job.haste() == Haste::Patient) && batch.len() < BATCH {
            let left = until.saturating_duration_since(Instant::now());
            match jobs.recv_timeout(left) {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        batch.extend(jobs.try_iter().take(BATCH - 1));
        let tx = Tx::new(conn);
        let outcomes = match space.is_corrupt() {
            // Nothing more is entrusted to a damaged file.
            Some(error) => vec![Err(error); batch.len()],
            None => commit(&tx, path, &mut batch, &mut tally),
        };
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            space.met(error);
        }
        wiping.due |= tx.erased.get();
        for (changed, signal) in [
            (&tx.inbound, &signals.inbound),
            (&tx.media, &signals.media),
            (&tx.turns, &signals.turns),
            (&tx.reads, &signals.reads),
        ] {
            if changed.get() {
                signal.send_modify(|n| *n += 1);
            }
        }
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            job.answer(outcome);
        }
        if tx.given_up.get() || tx.outbound.get() && something_to_send(&tx) {
            signals.outbound.send_modify(|n| *n += 1);
        }
    }
    if !tally.is_empty() && space.is_corrupt().is_none() {
        // Nobody waits for these sums, so nobody waits for the disk.
        let _ = conn.pragma_update(None, "synchronous", "NORMAL");
        let _ = tally.save(&Tx::new(conn));
    }
}

/// The write-ahead log keeps older copies of pages until it is written over: what was erased would be read there for
/// as long. It is cut off when nothing else is to be done.
#[derive(Default)]
struct Wiping {
    /// Something was erased since the log was cut off.
    due: bool,
    last: Option<Instant>,
}

impl Wiping {
    /// The next job; none when there will be no more. Waits for it, and cuts the log off meanwhile if need be.
    fn next(&mut self, conn: &Connection, jobs: &Receiver<Box<dyn Job>>) -> Option<Box<dyn Job>> {
        while self.due {
            let rested = self.last.map_or(Duration::ZERO, |last| {
                WIPE_EVERY.saturating_sub(last.elapsed())
            });
            match jobs.recv_timeout(rested.max(IDLE)) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.last = Some(Instant::now());
                    match cut_off(conn) {
                        Ok(whole) => self.due = !whole,
                        Err(error) => tracing::debug!(%error, "the log could not be cut off yet"),
                    }
                }
            }
        }
        jobs.recv().ok()
    }
}

/// Moves the log into the database and empties it; whether nobody was reading it, who prevents that.
fn cut_off(conn: &Connection) -> rusqlite::Result<bool> {
    // Whoever wants to write does not wait for a reader.
    conn.busy_timeout(Duration::ZERO)?;
    let busy = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        row.get::<_, bool>(0)
    });
    conn.busy_timeout(BUSY)?;
    Ok(!busy?)
}

/// Whether a message waits that is not with the connection. Most go there in the transaction that enters them, and
/// then nobody needs to look.
fn something_to_send(tx: &Tx<'_>) -> bool {
    tx.prepare_cached("SELECT 1 FROM part WHERE open = 1 AND state <> 1 LIMIT 1")
        .and_then(|mut waiting| waiting.exists([]))
        // Who looks then meets the error, and says it.
        .unwrap_or(true)
}

fn commit(
    tx: &Tx<'_>,
    path: &std::path::Path,
    batch: &mut [Box<dyn Job>],
    tally: &mut Tally,
) -> Vec<Result<(), StoreError>> {
    let error = |e: rusqlite::Error| StoreError::from_sqlite(path, &e);
    let statement =
        |sql: &str| -> rusqlite::Result<()> { tx.prepare_cached(sql)?.execute([]).map(|_| ()) };
    // Immediate: a transaction that reads first and writes later cannot wait for another process's lock.
    if let Err(e) = statement("BEGIN IMMEDIATE") {
        return vec![Err(error(e)); batch.len()];
    }
    let before = tx.total_changes();
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch.iter_mut() {
        let outcome = statement("SAVEPOINT job")
            .and_then(|()| {
                let done = job.run(tx);
                // A full disk may have rolled back everything; then there is no savepoint left to return to.
                if done.is_err() && !tx.is_autocommit() {
                    statement("ROLLBACK TO job")?;
                }
                if !tx.is_autocommit() {
                    statement("RELEASE job")?;
                }
                done
            })
            .map_err(error);
        let lost = tx.is_autocommit();
        let all = outcome.clone().err();
        outcomes.push(outcome);
        if let (true, Some(e)) = (lost, all) {
            return vec![Err(e); batch.len()];
        }
    }
    let changes = tx.total_changes() != before;
    let saved = tally.is_due(changes) && tally.save(tx).is_ok();
    let began = Instant::now();
    if let Err(e) = statement("COMMIT") {
        let e = error(e);
        if !tx.is_autocommit() {
            // If this fails too, the next BEGIN does and says so.
            let _ = statement("ROLLBACK");
        }
        return vec![Err(e); batch.len()];
    }
    if saved {
        tally.saved();
    }
    if changes {
        tally.commit(began.elapsed());
    }
    tally.add(tx.counted().drain(..).collect());
    outcomes
}

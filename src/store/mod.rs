//! `channel.db`: what came in, what goes out, and the evidence for how far each got.
//!
//! Every room before the store may die at any instant, and so may every room behind it: an incoming message is
//! acknowledged to WhatsApp after it is committed here, an outgoing one has its id here before a byte of it leaves.
//! Invariants: one message is one row however often it comes; evidence only moves forward; the text of a denied
//! message goes in the same transaction as its verdict.
//!
//! A [`Store`] is a handle to the one thread that writes ([`writer`]); calls return a [`Pending`] that resolves once the work is on
//! the disk. Times are Unix seconds and come in as arguments.

mod approvals;
mod counters;
mod device;
mod error;
mod groups;
mod inbox;
mod ledger;
mod letting_go;
mod media;
mod messages;
mod meta;
mod numbers;
mod outbox;
mod pacing;
mod pairing;
mod peers;
mod pending;
mod people;
mod promise;
mod rate;
mod reader;
mod reads;
mod remains;
mod repair;
mod repeats;
mod retention;
mod schema;
mod sealed;
mod sending;
mod space;
mod stored;
mod targets;
mod trace;
mod turns;
mod uploads;
mod votes;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::watch;

pub use approvals::{Approval, Revoked};
pub use counters::Counters;
pub use device::{SESSION_SCHEMA, linked_device};
pub use error::StoreError;
pub use groups::{Group, GroupChange, KnownGroup, Member};
pub use inbox::{Happened, Inserted, NewInbound, RowId};
pub use ledger::{Begun, LeftOver, Mode, SessionId};
pub use letting_go::Bounds;
pub use media::{
    Attached, AttachmentId, AttachmentToken, ContentHash, Fetching, Held as HeldMedia, Medium,
    ToFetch,
};
pub use messages::{Kept, KeptFile, Search};
pub use meta::{Connections, Counts, Dated, Linked, Terminal};
pub use numbers::{Asking, Registered};
pub use outbox::{DeliveryState, Enqueued, NewPart, OutboundRequest, PartState, RequestId};
pub use pacing::{Paced, Restriction, Turn};
pub use pairing::{Applicant, CODE_LIFETIME, Decided, PAIRING_CODE};
pub use peers::{Peer, PeerKey};
pub use pending::{Again, MessageName};
pub use people::Named;
pub use promise::Pending;
pub use rate::{Limits, Pace, Rate};
pub use reads::Unread;
pub use remains::Remnant;
pub use repair::{Repaired, repair};
pub use repeats::Repeats;
pub use retention::Swept;
pub use sending::{Heads, Outgoing, Receipt};
pub use space::{RESERVE, Space, available};
pub use stored::Stored;
pub use trace::{Dropped, Explained, Gate, Ruling, Trace};
pub use turns::Turns;
pub use uploads::{StagedName, Unsynced, Uploaded};
pub use votes::{Cast, Standing};

pub(crate) use promise::{Commit, Foreseen};
use reader::Reader;
use writer::{Haste, Tx, Writer};

/// A handle to an account's `channel.db`. Clones share it; dropping the last one waits until everything that was
/// asked for is committed and closes the file.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    id: String,
    space: Arc<Space>,
    /// SQLite's `data_version` at the last look; 0 before the first.
    seen: Arc<AtomicI64>,
    reader: Reader,
    writer: Writer,
}

impl Store {
    /// Opens the file, or creates it readable by its owner alone; brings an older schema up to date.
    /// The directory must exist. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and [`StoreError::TooNew`] leave the file as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let conn = match schema::open(path) {
            // What is known can still be read, and written down, in the place that was kept for that.
            Err(StoreError::Full { .. }) if space::release(path) => schema::open(path)?,
            opened => opened?,
        };
        let id = conn
            .query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| {
                row.get(0)
            })
            .map_err(|e| StoreError::from_sqlite(path, &e))?;
        let space = Arc::new(Space::new(path));
        let reader = Reader::new(path, space.clone());
        let writer = Writer::start(conn, path.to_owned(), space.clone())?;
        Ok(Self(Arc::new(Inner {
            id,
            space,
            seen: Arc::default(),
            reader,
            writer,
        })))
    }

    /// The random id of this file. A cursor that carries another one says nothing about it.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The state of the disk and of the file.
    pub fn space(&self) -> &Space {
        &self.0.space
    }

    /// Changes whenever there may be something new to emit; always after its commit.
    pub fn inbound_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.inbound.clone()
    }

    /// Changes whenever there may be something new to send; always after its commit.
    pub fn outbound_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.outbound.clone()
    }

    /// Changes whenever there may be media to fetch, or some was; always after its commit.
    pub fn media_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.media.clone()
    }

    /// Changes whenever the oldest event that is not proven may be another one; always after its commit.
    pub fn turn_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.turns.clone()
    }

    /// Changes whenever there may be something new to mark as read; always after its commit.
    pub fn read_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.reads.clone()
    }

    /// Wakes the listeners if another process has changed the file since the last look.
    pub fn look_for_others(&self) -> Pending<()> {
        let seen = self.0.seen.clone();
        self.submit(move |tx| {
            // Changes with the commits of other connections alone.
            let version: i64 = tx.pragma_query_value(None, "data_version", |row| row.get(0))?;
            let before = seen.swap(version, Ordering::Relaxed);
            if before != 0 && before != version {
                tx.inbound_changed();
                tx.outbound_changed();
                tx.media_changed();
                tx.turns_changed();
                tx.reads_changed();
            }
            Ok(())
        })
    }

    /// Resolves once everything that was asked for so far is on the disk.
    pub fn flush(&self) -> Pending<()> {
        self.submit(|_| Ok(()))
    }

    fn submit<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.writer.submit(Haste::Now, work)
    }

    /// For what can be prepared while the commit is on its way.
    fn submit_foreseen<T, F>(&self, work: F) -> Foreseen<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.writer.submit_foreseen(work)
    }

    /// For what may be lost with the process.
    fn submit_patient<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.writer.submit(Haste::Patient, work)
    }

    /// For what only reads, and depends on nothing that is still to be committed.
    fn look<T>(&self, work: impl FnOnce(&Tx<'_>) -> rusqlite::Result<T>) -> Pending<T> {
        self.0.reader.look(work).into()
    }
}

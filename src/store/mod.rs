//! `channel.db`: what came in, what goes out, and the evidence for how far each got.
//!
//! Every room before the store may die at any instant, and so may every room behind it: an incoming message is
//! acknowledged to WhatsApp after it is committed here, an outgoing one has its id here before a byte of it leaves.
//! Invariants: one message is one row however often it comes; evidence only moves forward; the text of a denied
//! message goes in the same transaction as its verdict.
//!
//! A [`Store`] is a handle to one thread ([`writer`]); calls return a [`Pending`] that resolves once the work is on
//! the disk. Times are Unix seconds and come in as arguments.

mod device;
mod error;
mod inbox;
mod ledger;
mod meta;
mod outbox;
mod peers;
mod retention;
mod schema;
mod sending;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

pub use device::linked_device;
pub use error::StoreError;
pub use inbox::{Held, Inserted, NewInbound, Original, RowId, Stored};
pub use ledger::{Begun, Mode, SessionId};
pub use meta::{Connections, Counts, Linked, Terminal};
pub use outbox::{DeliveryState, Enqueued, NewPart, OutboundRequest, PartState, RequestId};
pub use peers::{Peer, PeerKey};
pub use retention::Swept;
pub use sending::{Outgoing, Receipt};
pub use writer::Pending;

use writer::{Tx, Writer};

/// A handle to an account's `channel.db`. Clones share it; dropping the last one waits until everything that was
/// asked for is committed and closes the file.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    id: String,
    writer: Writer,
}

impl Store {
    /// Opens the file, or creates it readable by its owner alone; brings an older schema up to date.
    /// The directory must exist. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] and [`StoreError::TooNew`] leave the file as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let conn = schema::open(path)?;
        let id = conn
            .query_row("SELECT value FROM meta WHERE key = 'store_id'", [], |row| {
                row.get(0)
            })
            .map_err(|e| StoreError::from_sqlite(path, &e))?;
        let writer = Writer::start(conn, path.to_owned())?;
        Ok(Self(Arc::new(Inner { id, writer })))
    }

    /// The random id of this file. A cursor that carries another one says nothing about it.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Changes whenever there may be something new to emit; always after its commit.
    pub fn inbound_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.inbound.clone()
    }

    /// Changes whenever the outbox has something new to send or a message of it has a new state.
    pub fn outbound_signal(&self) -> watch::Receiver<u64> {
        self.0.writer.outbound.clone()
    }

    fn submit<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.0.writer.submit(work)
    }
}

//! Reads beside the writer: a look at what is committed costs no way to another thread and back, and waits for no
//! sync. Invariant: nothing is written over this connection, and what it shows was on the disk when it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::writer::Tx;
use super::{Space, StoreError, schema};

/// The connection for reading, opened when it is first needed.
pub(super) struct Reader {
    path: PathBuf,
    space: Arc<Space>,
    conn: Mutex<Option<Connection>>,
}

impl Reader {
    pub(super) fn new(path: &Path, space: Arc<Space>) -> Self {
        Self {
            path: path.to_owned(),
            space,
            conn: Mutex::default(),
        }
    }

    /// Reads at once, on the thread that asks; some tens of microseconds.
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if let Some(error) = self.space.is_corrupt() {
            return Err(error);
        }
        let mut slot = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let conn = match &mut *slot {
            Some(conn) => conn,
            none => none.insert(schema::open_reader(&self.path)?),
        };
        work(&Tx::new(conn))
            .map_err(|error| StoreError::from_sqlite(&self.path, &error))
            .inspect_err(|error| self.space.met(error))
    }
}

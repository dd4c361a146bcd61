//! An account on disk: where its files lie, who may read them, and who owns the connection.
//!
//! Everything is keyed on the canonical path of the store, so two spellings of one path are one account.
//! Files are 0600 and directories that we create 0700 whatever the umask; files are created here, empty, before
//! a database opens them, since SQLite would create them with the umask's mode (and gives `-wal` and `-shm` the
//! mode of their database).

mod lock;
mod paths;
pub mod socket;

pub use crate::platform::private_file;
pub use lock::{InUse, OwnerLock, Role};
pub use paths::{AccountError, DAMAGED, NEW, Paths};

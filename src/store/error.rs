use std::path::{Path, PathBuf};

/// Why the store could not do what it was asked; nothing of the failed call is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file is no database, or its pages contradict each other.
    #[error("{} is damaged; run `channel-whatsapp doctor --repair --sqlite-store-path {}`", path.display(), session_of(path).display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
    },
    /// A later version of this program wrote the file. It is left untouched.
    #[error("{} has schema {found}, this version knows up to {known}; install the newer version again", path.display())]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The file's schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// The disk, or the user's quota on it, is full.
    #[error("there is no space left for {}; free some space on that disk", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// Anything else: permissions, a lock held too long, a failing disk.
    #[error("{} cannot be used: {detail}; check its permissions and its disk", path.display())]
    Failed {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the operating system says.
        detail: String,
    },
    /// The store's thread is gone; the process has to be started again.
    #[error("the store has stopped; start the plugin again")]
    Stopped,
}

impl StoreError {
    /// The error code of the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "store_corrupt",
            Self::TooNew { .. } => "store_too_new",
            Self::Full { .. } => "storage_full",
            Self::Failed { .. } | Self::Stopped => "store_failed",
        }
    }

    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            // What a full disk is to the shared memory of the journal, and to a file that is to be made.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
                if super::space::is_exhausted(&path) =>
            {
                Self::Full { path }
            }
            _ => Self::Failed {
                path,
                detail: error.to_string(),
            },
        }
    }
}

/// The session's database, whose path names the account: `store.db` for `channel.db`, `x.db` for `x.channel.db`.
fn session_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_suffix("channel.db") {
        Some("") => path.with_file_name("store.db"),
        Some(prefix) => path.with_file_name(format!("{prefix}db")),
        None => path.to_owned(),
    }
}

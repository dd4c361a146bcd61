//! The disk that the account's files are on, and whether `channel.db` is still of use.
//!
//! A disk must not fill up under a connection: WhatsApp's messages could be decrypted and not be kept. So the session
//! stops reading while there are still [`RESERVE`] bytes left, and a file of that size stands beside `channel.db`,
//! which is given up then, so that what is already known can still be written down. Invariant: the file is given up
//! only when nothing is being received, and it is made again before anything is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs4::FileExt;
use tokio::sync::watch;

use super::StoreError;
use crate::account::private_file;

/// Size of the reserve file, and the least free space with which messages are received, bytes.
pub const RESERVE: u64 = 16 << 20;
/// Free space that has to be there in addition before receiving begins again, so that it does not flutter.
const MARGIN: u64 = 4 << 20;
/// With less than this an error of the disk is a full one, whatever SQLite makes of it.
const NOTHING: u64 = 256 << 10;

/// What is wrong with an account's disk or file. Clones share it.
#[derive(Debug)]
pub struct Space {
    path: PathBuf,
    trouble: watch::Sender<Option<StoreError>>,
}

impl Space {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            trouble: watch::Sender::new(None),
        }
    }

    /// Nothing, or why nothing may be received: [`StoreError::Full`], which passes, or [`StoreError::Corrupt`].
    pub fn trouble(&self) -> watch::Receiver<Option<StoreError>> {
        self.trouble.subscribe()
    }

    /// Looks at the disk; a system call, nothing more. A disk that cannot be asked counts as having space: then a
    /// write that fails is what tells.
    pub fn look(&self) -> Result<(), StoreError> {
        if available(&self.path).is_some_and(|bytes| bytes < RESERVE) {
            self.note(self.full());
        }
        self.trouble.borrow().clone().map_or(Ok(()), Err)
    }

    /// Makes the reserve, and ends a [`StoreError::Full`], if there is space enough; else gives the reserve up. Whether
    /// messages may be received. Not to be called while they are.
    pub fn settle(&self) -> Result<(), StoreError> {
        if let Some(error @ StoreError::Corrupt { .. }) = &*self.trouble.borrow() {
            return Err(error.clone());
        }
        let reserve = reserve(&self.path);
        let held = fs::metadata(&reserve).map_or(0, |file| file.len().min(RESERVE));
        let wanted = match &*self.trouble.borrow() {
            None if held == RESERVE => RESERVE,
            _ => RESERVE + MARGIN + (RESERVE - held),
        };
        let enough = available(&self.path).is_none_or(|bytes| bytes >= wanted);
        if enough && (held == RESERVE || make(&reserve).is_ok()) {
            self.trouble.send_if_modified(|now| now.take().is_some());
            return Ok(());
        }
        // Gone already is as good.
        let _ = fs::remove_file(&reserve);
        self.note(self.full());
        Err(self.full())
    }

    /// Takes note of what a call met.
    pub(super) fn met(&self, error: &StoreError) {
        if matches!(error, StoreError::Full { .. } | StoreError::Corrupt { .. }) {
            self.note(error.clone());
        }
    }

    pub(super) fn is_corrupt(&self) -> Option<StoreError> {
        let found = self.trouble.borrow();
        found
            .clone()
            .filter(|error| matches!(error, StoreError::Corrupt { .. }))
    }

    fn note(&self, error: StoreError) {
        self.trouble.send_if_modified(|now| {
            // Space comes back; a damaged file does not become whole.
            let news =
                *now != Some(error.clone()) && !matches!(now, Some(StoreError::Corrupt { .. }));
            if news {
                *now = Some(error);
            }
            news
        });
    }

    fn full(&self) -> StoreError {
        StoreError::Full {
            path: self.path.clone(),
        }
    }
}

/// Gives the reserve of a database up, if there is one; whether there was.
pub(super) fn release(path: &Path) -> bool {
    fs::remove_file(reserve(path)).is_ok()
}

/// Whether the disk of this file has nothing left.
pub(super) fn is_exhausted(path: &Path) -> bool {
    available(path).is_some_and(|bytes| bytes < NOTHING)
}

/// Free bytes on the disk of this file, as far as this user may use them; none if the system does not say.
pub fn available(path: &Path) -> Option<u64> {
    let directory = path.parent()?;
    fs4::available_space(directory).ok()
}

/// `channel.db` has `reserve` beside it, `x.channel.db` has `x.reserve`.
fn reserve(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = name.strip_suffix("channel.db").unwrap_or(&name);
    path.with_file_name(format!("{prefix}reserve"))
}

fn make(path: &Path) -> io::Result<()> {
    let made = private_file(path).and_then(|mut file| {
        if file.allocate(RESERVE).is_ok() {
            return Ok(());
        }
        // Not every file system can. Bytes that cannot be compressed away, or they would hold no place.
        file.set_len(0)?;
        let mut block = vec![0; 1 << 20];
        for _ in 0..RESERVE >> 20 {
            fastrand::fill(&mut block);
            file.write_all(&block)?;
        }
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

//! Files on their way out: the bytes of an attachment, as they are or encrypted, are written here, so that memory does not
//! grow with them.
//!
//! Invariant: a staged file is this user's alone, was counted as it was written, and is
//! removed when its owner is dropped, unless that owner gave it away with [`Staged::keep`] after the outbox had
//! noted it. What a killed process left is removed by [`Staging::sweep`].

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tempfile::{NamedTempFile, TempPath};

use crate::platform::{private_directory, private_file};
use crate::store::RESERVE;

/// The folder in the account's media directory.
const FOLDER: &str = "staged";
/// Whoever stages holds this file's lock shared, whoever sweeps alone.
const LOCK: &str = "lock";
/// Free space that staging, and what is brought here to be sent, leaves alone: what the store keeps for itself, and some of what comes in meanwhile.
pub const FLOOR: u64 = RESERVE + (8 << 20);
/// The disk is looked at after so many bytes.
const LOOK: u64 = 1 << 20;

/// Why a file could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It is larger than it may be.
    #[error(
        "the attachment has more than {limit} bytes; send a smaller one, or raise max_attachment_bytes"
    )]
    TooLarge { limit: u64 },
    /// Nobody waits for it any more.
    #[error(
        "the attachment could not be fetched and prepared within the time of this call; send a smaller one, or raise \
         send_timeout_secs"
    )]
    Late,
    /// What should be base64 is not. The position counts characters from 0.
    #[error(
        "data_base64 is not base64 in the standard alphabet: {what} at character {position}; encode the file's bytes, and nothing else, again"
    )]
    Base64 { what: String, position: usize },
    /// The disk.
    #[error("cannot write {path}: {source}; check the disk and the account's directory", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl StageError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "attachment_too_large",
            Self::Late => "attachment_not_ready",
            Self::Base64 { .. } => "invalid_params",
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "storage_full",
                _ => "store_failed",
            },
        }
    }
}

/// The folder of staged files of one account. Clones are the same folder.
#[derive(Debug, Clone)]
pub struct Staging {
    directory: PathBuf,
    /// Held shared: nobody sweeps.
    lock: Arc<File>,
    /// Size of the file that is being written, for people.
    meter: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Staging {
    /// Opens the folder in the account's media directory, and creates both for this user alone.
    ///
    /// # Errors
    /// When they cannot be created or written. Waits while another process sweeps, which is short.
    pub fn open(media: &Path) -> Result<Self, StageError> {
        let (directory, lock) = prepared(media)?;
        lock.lock_shared().map_err(failed(&directory))?;
        Ok(Self {
            directory,
            lock: Arc::new(lock),
            meter: Arc::default(),
            stopped: Arc::default(),
        })
    }

    /// The same folder for the files of one attachment, whose size is told there as they grow, and which can be stopped.
    pub fn of_one(self, meter: Arc<AtomicU64>) -> Self {
        Self {
            meter,
            stopped: Arc::default(),
            ..self
        }
    }

    /// Nobody waits for the attachment any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes note of how large a file of the attachment is by now.
    ///
    /// # Errors
    /// When nobody waits for it any more.
    pub fn grown(&self, size: u64) -> Result<(), StageError> {
        self.meter.store(size, Ordering::Relaxed);
        self.goes_on()
    }

    /// To be asked before what takes long.
    ///
    /// # Errors
    /// When nobody waits for the attachment any more.
    pub fn goes_on(&self) -> Result<(), StageError> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(StageError::Late),
            false => Ok(()),
        }
    }

    /// Removes what nobody owns, and returns how many files that were. Does nothing while any process, this one
    /// included, has the folder open. `kept` names the files of the outbox; it is asked once nobody else can add to them.
    /// What somebody else removes meanwhile is as good, and what cannot be removed stays.
    ///
    /// # Errors
    /// When the folder cannot be read, or `kept` fails.
    pub fn sweep(
        media: &Path,
        kept: impl FnOnce() -> io::Result<HashSet<PathBuf>>,
    ) -> Result<usize, StageError> {
        let (directory, lock) = prepared(media)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(0),
            Err(TryLockError::Error(error)) => return Err(failed(&directory)(error)),
        }
        let swept = (|| {
            let kept = kept()?;
            let mut removed = 0;
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if kept.contains(&path) || path.file_name() == Some(LOCK.as_ref()) {
                    continue;
                }
                match fs::remove_file(&path) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let path = path.display();
                        tracing::warn!(%error, %path, "what nobody needs cannot be removed");
                    }
                }
            }
            Ok(removed)
        })();
        swept.map_err(failed(&directory))
    }

    /// A new file.
    ///
    /// # Errors
    /// When it cannot be created, or the disk is nearly full.
    pub fn create(&self) -> Result<StageWriter, StageError> {
        room(&self.directory, 0).map_err(failed(&self.directory))?;
        let file = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(16)
            .tempfile_in(&self.directory)
            .map_err(failed(&self.directory))?;
        Ok(StageWriter {
            file,
            size: 0,
            looked: 0,
            staging: self.clone(),
        })
    }

    /// Makes sure that these files of the folder outlive a power cut; who has removed one meanwhile has no need of that.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self, paths: &[PathBuf]) -> Result<(), StageError> {
        for path in paths {
            match File::open(path).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(path)(error));
                }
                _ => {}
            }
        }
        // Windows has no such thing as a directory to sync.
        if cfg!(unix) {
            let folder = File::open(&self.directory).and_then(|folder| folder.sync_all());
            folder.map_err(failed(&self.directory))?;
        }
        Ok(())
    }
}

fn prepared(media: &Path) -> Result<(PathBuf, File), StageError> {
    let directory = media.join(FOLDER);
    private_directory(media, true).map_err(failed(media))?;
    private_directory(&directory, true).map_err(failed(&directory))?;
    let lock = directory.join(LOCK);
    let file = private_file(&lock).map_err(failed(&lock))?;
    Ok((directory, file))
}

/// Whether there is space for so many bytes beside what is left alone. A disk that cannot be asked counts as having it.
pub(super) fn room(path: &Path, bytes: u64) -> io::Result<()> {
    match fs4::available_space(path) {
        Ok(free) if free < FLOOR + bytes => Err(io::ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StageError {
    let path = path.to_owned();
    move |source| StageError::Io { path, source }
}

/// A staged file that is being written. Dropped, it is gone.
#[derive(Debug)]
pub struct StageWriter {
    file: NamedTempFile,
    size: u64,
    /// The size at which the disk was looked at last.
    looked: u64,
    staging: Staging,
}

impl StageWriter {
    /// Appends.
    ///
    /// # Errors
    /// When nobody waits for it any more, or when the disk fails or is nearly full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.size += bytes.len() as u64;
        self.staging.grown(self.size)?;
        if self.size - self.looked >= LOOK {
            self.looked = self.size;
            room(self.file.path(), 0).map_err(failed(self.file.path()))?;
        }
        let written = self.file.write_all(bytes);
        written.map_err(failed(self.file.path()))
    }

    /// The finished file.
    pub fn finish(self) -> Staged {
        let (file, path) = self.file.into_parts();
        Staged {
            file,
            path,
            size: self.size,
            _lock: self.staging.lock,
        }
    }
}

/// A file of ours with its size. It is removed when this is dropped.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: TempPath,
    size: u64,
    _lock: Arc<File>,
}

impl Staged {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, from the first one.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn open(&mut self) -> io::Result<&mut (impl Read + Seek + use<>)> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&mut self.file)
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the file to whoever noted its path; from now on it is theirs to remove. To be called after the note was
    /// committed: until then a failure must remove the file.
    ///
    /// # Errors
    /// When the system cannot do that; the file is gone then.
    pub fn keep(self) -> Result<PathBuf, StageError> {
        let path = self.path.to_path_buf();
        self.path.keep().map_err(|error| failed(&path)(error.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(media: &Path) -> usize {
        fs::read_dir(media.join(FOLDER)).unwrap().count() - 1
    }

    fn staged(staging: &Staging) -> Staged {
        let mut file = staging.create().unwrap();
        file.write(b"abc").unwrap();
        file.finish()
    }

    #[test]
    fn what_nobody_keeps_is_gone() {
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let mut first = staged(&staging);
        assert_eq!((first.size(), files(media.path())), (3, 1));
        let mut text = String::new();
        first.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let kept = staged(&staging).keep().unwrap();
        drop((staging.create().unwrap(), first));
        assert_eq!((files(media.path()), fs::read(kept).unwrap().len()), (1, 3));
    }

    #[test]
    fn a_sweep_removes_what_a_killed_process_left_and_nothing_else() {
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let (kept, left) = (staged(&staging).keep().unwrap(), staged(&staging));
        let left = left.keep().unwrap();
        let sweep = || Staging::sweep(media.path(), || Ok([kept.clone()].into())).unwrap();
        // Somebody may be about to have one noted.
        assert_eq!((sweep(), files(media.path())), (0, 2));
        drop(staging);
        assert_eq!((sweep(), kept.exists(), left.exists()), (1, true, false));
    }

    #[test]
    fn what_cannot_be_removed_keeps_nothing_else() {
        let media = tempfile::tempdir().unwrap();
        let left = staged(&Staging::open(media.path()).unwrap());
        let left = left.keep().unwrap();
        let folder = left.with_file_name("folder");
        fs::create_dir(&folder).unwrap();
        let swept = Staging::sweep(media.path(), || Ok(HashSet::new())).unwrap();
        assert_eq!((swept, left.exists(), folder.exists()), (1, false, true));
    }

    #[cfg(unix)]
    #[test]
    fn a_staged_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(&media.path().join("media")).unwrap();
        let staged = staged(&staging);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(staged.path()), 0o600);
        assert_eq!(mode(staged.path().parent().unwrap()), 0o700);
    }
}

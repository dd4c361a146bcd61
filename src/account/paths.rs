//! The layout of an account: `store.db` is the client library's, `channel.db` ours, beside them `lock` and `media/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::{self, HOME, private_directory, private_file};

/// Follows the name of a database that made place for another one.
const ASIDE: &str = ".aside-";
/// Follows the name of a damaged database that was repaired; a stamp comes behind it.
pub const DAMAGED: &str = ".damaged-";
/// Follows the name of the one that is to take its place.
pub const NEW: &str = ".new";

/// Why an account's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// `sqlite_store_path` is relative, so it would depend on the directory the host was started in.
    #[error("sqlite_store_path must be an absolute path, not {0:?}; write the whole path")]
    Relative(PathBuf),
    /// Neither `XDG_CONFIG_HOME` nor `HOME` (on Windows `USERPROFILE`) is set to an absolute path.
    #[error(
        "cannot tell where accounts are kept: neither XDG_CONFIG_HOME nor {HOME} is set; set one of them or sqlite_store_path"
    )]
    NoHome,
    /// The directory or a file in it cannot be created or read.
    #[error("cannot use {path}: {source}; check that the directory exists and belongs to this user", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl AccountError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Relative(_) => "invalid_config",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "storage_full"
            }
            Self::NoHome | Self::Io { .. } => "store_failed",
        }
    }
}

/// Where one account's files lie. Two values are equal exactly when they are one account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Paths {
    store: PathBuf,
    /// Prefix of the companions' names: empty for `store.db`, `x.` for any other `x.db`.
    prefix: String,
    /// Under our own root a loose directory is tightened; elsewhere it belongs to somebody else.
    ours: bool,
}

impl Paths {
    /// The files of `account`, or those named after `store` when that is given. Nothing is created.
    pub fn resolve(account: &str, store: Option<&Path>) -> Result<Self, AccountError> {
        let store = match store {
            Some(path) if path.is_relative() => {
                return Err(AccountError::Relative(path.to_owned()));
            }
            Some(path) => canonical(path)?,
            None => canonical(&default_root()?.join(account).join("store.db"))?,
        };
        let root = default_root().and_then(|root| canonical(&root));
        let ours = root.is_ok_and(|root| store.starts_with(root));
        let name = store.file_name().unwrap_or_default().to_string_lossy();
        let prefix = match name.as_ref() {
            "store.db" => String::new(),
            other => format!("{}.", other.strip_suffix(".db").unwrap_or(other)),
        };
        Ok(Self {
            store,
            prefix,
            ours,
        })
    }

    /// The client library's database.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Our database.
    pub fn channel(&self) -> PathBuf {
        self.beside("channel.db")
    }

    /// The file whose lock marks the owner of the connection.
    pub fn lock(&self) -> PathBuf {
        self.beside("lock")
    }

    /// The folder of downloaded media.
    pub fn media(&self) -> PathBuf {
        self.beside("media")
    }

    /// The folder of files that go out, until they are uploaded.
    pub fn staged(&self) -> PathBuf {
        self.media().join("staged")
    }

    /// Whether a session was ever kept here.
    pub fn exists(&self) -> bool {
        self.store.is_file()
    }

    /// Creates the directory and the library's database, empty and private to this user: the library itself would
    /// create it with the umask's mode. Existing files keep their content.
    pub fn prepare(&self) -> Result<(), AccountError> {
        let directory = self.directory();
        private_directory(directory, self.ours).map_err(|e| failed(directory, e))?;
        private_file(&self.store).map_err(|e| failed(&self.store, e))?;
        Ok(())
    }

    /// Moves one of the account's databases aside under a name with `stamp`: nothing is ever deleted, and what is no
    /// longer of use to us may be to its owner.
    pub fn set_aside(&self, database: &Path, stamp: i64) -> Result<(), AccountError> {
        for suffix in ["", "-wal", "-shm"] {
            let named = |middle: &str| {
                let mut name = database.as_os_str().to_owned();
                name.push(middle);
                name.push(suffix);
                PathBuf::from(name)
            };
            match fs::rename(named(""), named(&format!("{ASIDE}{stamp}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(database, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what is kept for the linked device, the session first: what is left when it is cut short has no account
    /// any more. With it goes what was kept of earlier ones, moved aside or damaged. The lock stays, since somebody may
    /// be waiting for it. What was removed.
    ///
    /// # Errors
    /// At the first that cannot be removed.
    pub fn remove(&self) -> Result<Vec<PathBuf>, AccountError> {
        let mut removed = Vec::new();
        for database in [self.store.clone(), self.channel()] {
            for suffix in ["", "-wal", "-shm", "-journal"] {
                let mut file = database.clone().into_os_string();
                file.push(suffix);
                remove(file.into(), &mut removed)?;
            }
        }
        remove(self.beside("reserve"), &mut removed)?;
        remove(self.media(), &mut removed)?;
        for earlier in self.earlier()? {
            remove(earlier, &mut removed)?;
        }
        Ok(removed)
    }

    /// What is still there of databases that stood in the place of these.
    fn earlier(&self) -> Result<Vec<PathBuf>, AccountError> {
        let names = [self.store.clone(), self.channel()].map(|database| {
            let name = database.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        });
        let is_earlier = |file: &str| {
            names.iter().any(|name| {
                let rest = file.strip_prefix(name.as_str());
                rest.is_some_and(|rest| [ASIDE, DAMAGED, NEW].iter().any(|n| rest.starts_with(n)))
            })
        };
        let directory = self.directory();
        let entries = fs::read_dir(directory).map_err(|e| failed(directory, e))?;
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut earlier: Vec<_> = files
            .filter(|path| {
                let name = path.file_name().unwrap_or_default();
                is_earlier(&name.to_string_lossy())
            })
            .collect();
        earlier.sort();
        Ok(earlier)
    }

    /// Which of the account's files and its directory other users may read or enter, with their modes; none on a system
    /// where that cannot be told.
    pub fn loose(&self) -> Option<Vec<(PathBuf, u32)>> {
        let directory = self.directory().to_owned();
        platform::loose([directory, self.store.clone(), self.channel(), self.lock()])
    }

    pub(super) fn prepare_lock(&self) -> Result<fs::File, AccountError> {
        let directory = self.directory();
        private_directory(directory, self.ours).map_err(|e| failed(directory, e))?;
        let path = self.lock();
        private_file(&path).map_err(|e| failed(&path, e))
    }

    fn directory(&self) -> &Path {
        self.store.parent().unwrap_or(Path::new("/"))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory().join(format!("{}{name}", self.prefix))
    }
}

fn remove(path: PathBuf, removed: &mut Vec<PathBuf>) -> Result<(), AccountError> {
    let gone = fs::symlink_metadata(&path).and_then(|found| match found.is_dir() {
        true => fs::remove_dir_all(&path),
        false => fs::remove_file(&path),
    });
    match gone {
        Ok(()) => removed.push(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&path, error)),
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> AccountError {
    AccountError::Io {
        path: path.to_owned(),
        source,
    }
}

fn default_root() -> Result<PathBuf, AccountError> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute(HOME).map(|home| home.join(".config")))
        .ok_or(AccountError::NoHome)?;
    Ok(config.join("dispatch/channels/whatsapp"))
}

/// The canonical form of a path whose last parts may not exist yet: links in the part that exists are resolved.
fn canonical(path: &Path) -> Result<PathBuf, AccountError> {
    match path.canonicalize() {
        Ok(found) => Ok(found),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok(canonical(parent)?.join(name)),
            _ => Err(failed(path, e)),
        },
        Err(e) => Err(failed(path, e)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn companions_are_named_after_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let plain = Paths::resolve("x", Some(&root.join("store.db"))).unwrap();
        assert_eq!(plain.channel(), root.join("channel.db"));
        assert_eq!(plain.lock(), root.join("lock"));
        let named = Paths::resolve("x", Some(&root.join("work.db"))).unwrap();
        assert_eq!(named.channel(), root.join("work.channel.db"));
        assert_eq!(named.lock(), root.join("work.lock"));
        assert_eq!(named.media(), root.join("work.media"));
    }

    #[test]
    fn two_spellings_are_one_account() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        let direct = Paths::resolve("x", Some(&real.join("a.db"))).unwrap();
        let linked = Paths::resolve("x", Some(&dir.path().join("link/../link/a.db"))).unwrap();
        assert_eq!(direct, linked);
    }

    #[test]
    fn what_is_created_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve("x", Some(&dir.path().join("new/deep/store.db"))).unwrap();
        paths.prepare().unwrap();
        assert_eq!(mode(&dir.path().join("new/deep")), 0o700);
        assert_eq!(mode(paths.store()), 0o600);
    }

    #[test]
    fn loose_files_are_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store.db");
        fs::write(&store, b"").unwrap();
        fs::set_permissions(&store, fs::Permissions::from_mode(0o644)).unwrap();
        Paths::resolve("x", Some(&store))
            .unwrap()
            .prepare()
            .unwrap();
        assert_eq!(mode(&store), 0o600);
    }

    #[test]
    fn a_relative_store_is_refused() {
        let error = Paths::resolve("x", Some(Path::new("store.db"))).unwrap_err();
        assert_eq!(error.code(), "invalid_config");
    }
}

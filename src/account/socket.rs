//! The local socket on which an account's owner takes what other processes ask of it.
//!
//! Here, and in `paths`, is all that differs by platform. On Unix it is a file in a directory that nobody else can
//! enter, with a short name, since a socket's path has about a hundred bytes; on Windows a named pipe. Its name is
//! in the lock file, so that processes with different environments find each other. Who binds it holds the account's
//! lock, so whatever lies there is of an owner that died.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use interprocess::local_socket::tokio::Listener as Socket;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions};

use super::Paths;

pub use interprocess::local_socket::tokio::Stream;

/// A bound socket. Dropped, its name is gone.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Listens under this name, in place of an owner that died. For the holder of the account's lock alone, in an
    /// asynchronous runtime.
    pub fn bind(name: &str) -> io::Result<Self> {
        remove(name);
        let options = ListenerOptions::new().name(name.to_fs_name::<GenericFilePath>()?);
        options.create_tokio().map(Self)
    }

    /// The next process that has something to ask.
    pub async fn accept(&self) -> io::Result<Stream> {
        self.0.accept().await
    }
}

/// Connects to the owner that listens under this name. An owner that is gone, or is leaving, is an error.
pub async fn connect(name: &str) -> io::Result<Stream> {
    Stream::connect(name.to_fs_name::<GenericFilePath>()?).await
}

/// The name of an account's socket: the same for each spelling of its path.
pub fn name(paths: &Paths) -> io::Result<String> {
    let mut hash = DefaultHasher::new();
    paths.store().hash(&mut hash);
    place(&format!("channel-whatsapp-{:016x}", hash.finish()))
}

/// Takes away what an owner that died has left under this name. Touches nothing but a socket.
#[cfg(unix)]
pub(super) fn remove(name: &str) {
    use std::os::unix::fs::FileTypeExt;
    let socket = std::fs::symlink_metadata(name).is_ok_and(|found| found.file_type().is_socket());
    if socket && let Err(error) = std::fs::remove_file(name) {
        tracing::warn!(%error, "the socket of an owner that is gone cannot be removed");
    }
}

/// `sun_path` has 104 bytes on macOS and the BSDs, 108 on Linux, the end mark included.
#[cfg(unix)]
const LONGEST: usize = 103;

#[cfg(unix)]
fn place(name: &str) -> io::Result<String> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    let me = rustix::process::geteuid().as_raw();
    let fit = |directory: &Path| {
        let found = std::fs::symlink_metadata(directory).ok()?;
        let private = found.is_dir() && found.uid() == me && found.mode() & 0o077 == 0;
        let path = directory.join(name).into_os_string().into_string().ok()?;
        (private && directory.is_absolute() && path.len() <= LONGEST).then_some(path)
    };
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    if let Some(path) = runtime.as_deref().and_then(fit) {
        return Ok(path);
    }
    for temporary in [std::env::temp_dir(), PathBuf::from("/tmp")] {
        let directory = temporary.join(format!("channel-whatsapp-{me}"));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&directory);
        if made.is_ok() {
            // The umask may have taken more away than meant.
            std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
        }
        if let Some(path) = fit(&directory) {
            return Ok(path);
        }
    }
    Err(io::Error::other(
        "no private directory with a short path; set XDG_RUNTIME_DIR to one",
    ))
}

/// A named pipe goes with the process that made it.
#[cfg(not(unix))]
pub(super) fn remove(_name: &str) {}

#[cfg(not(unix))]
fn place(name: &str) -> io::Result<String> {
    Ok(format!(r"\\.\pipe\{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(dir: &tempfile::TempDir) -> Paths {
        Paths::resolve("x", Some(&dir.path().join("store.db"))).unwrap()
    }

    #[test]
    fn each_account_has_a_name_of_its_own() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(name(&account(&one)).unwrap(), name(&account(&one)).unwrap());
        assert_ne!(
            name(&account(&one)).unwrap(),
            name(&account(&other)).unwrap()
        );
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_owner_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let name = name(&account(&dir)).unwrap();
        let dead = Listener::bind(&name).unwrap();
        let living = Listener::bind(&name).unwrap();
        let (accepted, connected) = tokio::join!(living.accept(), connect(&name));
        accepted.unwrap();
        connected.unwrap();
        drop((living, dead));
        assert!(connect(&name).await.is_err());
    }
}

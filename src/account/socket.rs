//! The local socket on which an account's owner takes what other processes ask of it.
//!
//! On Unix it is a file in a directory that nobody else can enter, with a short name, since a socket's path has about a
//! hundred bytes; on Windows a named pipe. Its name is in the lock file, so that processes with different environments
//! find each other. Who binds it holds the account's lock, so whatever lies there is of an owner that died.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use interprocess::local_socket::tokio::Listener as Socket;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions};

use super::Paths;
use crate::platform::{remove_socket, socket_name};

pub use interprocess::local_socket::tokio::Stream;

/// A bound socket. Dropped, its name is gone.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Listens under this name, in place of an owner that died. For the holder of the account's lock alone, in an
    /// asynchronous runtime.
    pub fn bind(name: &str) -> io::Result<Self> {
        remove_socket(name);
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
    socket_name(&format!("channel-whatsapp-{:016x}", hash.finish()))
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

//! One owner: two connections for one account would corrupt the ratchets and throw each other out, so whoever
//! wants the connection takes an OS lock on the account's lock file first. The OS releases it when the process
//! dies, however it dies; what the file says is for people and for those who wait.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{AccountError, Paths};
use crate::platform::remove_socket;

/// How often and how long to wait for somebody who only looks.
const LOOKS: u32 = 10;
const LOOK: std::time::Duration = std::time::Duration::from_millis(3);

/// What the owner of the connection is doing with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Linking the account.
    Link,
    /// Logging the account's device out.
    Unlink,
    /// Serves one call and leaves.
    OneShot,
    /// Receives until it is stopped.
    Persistent,
}

/// What the lock file says of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    role: Role,
    pid: u32,
    /// When an owner that serves one call is gone at the latest, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    /// Where the owner takes what others ask of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    socket: Option<String>,
}

/// The lock is held by somebody else.
#[derive(Debug, thiserror::Error)]
pub enum InUse {
    /// Another process owns the connection. The file may be unreadable for an instant while its owner writes it, and on
    /// Windows always is: there a lock keeps others from reading.
    #[error("this WhatsApp account is in use by {}; stop it or wait until it has finished", described(*.pid, *.role))]
    Owned {
        pid: Option<u32>,
        role: Option<Role>,
        /// The name of the socket on which it takes what others ask; none if it takes nothing.
        socket: Option<String>,
    },
    /// The lock file cannot be used at all.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl InUse {
    /// The owner, if it is one that will not leave by itself.
    pub fn stays(&self) -> Option<u32> {
        match self {
            Self::Owned {
                pid,
                role: Some(Role::Persistent | Role::Link | Role::Unlink),
                ..
            } => *pid,
            _ => None,
        }
    }

    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "session_in_use",
            Self::Account(error) => error.code(),
        }
    }
}

fn described(pid: Option<u32>, role: Option<Role>) -> String {
    let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = match role {
        Some(Role::Link) => " (linking)",
        Some(Role::Unlink) => " (unlinking)",
        Some(Role::OneShot) => " (one call)",
        Some(Role::Persistent) => " (receiving)",
        None => "",
    };
    who + what
}

/// Held for as long as this process may connect; dropped, the next one may.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
    socket: Option<String>,
    role: Mutex<Role>,
}

impl OwnerLock {
    /// Takes the account's lock for this process, or says who has it. Waits no longer than somebody needs to look.
    /// Such an owner takes nothing from others.
    pub fn take(paths: &Paths, role: Role) -> Result<Self, InUse> {
        let mut looks = LOOKS;
        loop {
            match Self::try_take(paths, role, None, None) {
                Err(InUse::Owned { .. }) if looks > 0 => {
                    looks -= 1;
                    std::thread::sleep(LOOK);
                }
                other => return other,
            }
        }
    }

    /// The same without waiting, for an owner that is gone after `until` (Unix seconds) and listens on `socket`.
    /// Who only looks may be in the way for an instant. What a dead owner left is taken away.
    pub fn try_take(
        paths: &Paths,
        role: Role,
        until: Option<i64>,
        socket: Option<String>,
    ) -> Result<Self, InUse> {
        let mut file = paths.prepare_lock()?;
        let failed = |source| AccountError::Io {
            path: paths.lock(),
            source,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(owned(&mut file)),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source).into()),
        }
        if let InUse::Owned {
            socket: Some(left), ..
        } = owned(&mut file)
        {
            remove_socket(&left);
        }
        let lock = Self {
            file,
            socket,
            role: Mutex::new(role),
        };
        lock.write(role, until).map_err(failed)?;
        Ok(lock)
    }

    /// Says from now on that this process has become an owner of another kind.
    pub fn become_owner(&self, role: Role, until: Option<i64>) {
        let before = std::mem::replace(
            &mut *self.role.lock().unwrap_or_else(PoisonError::into_inner),
            role,
        );
        if before != role
            && let Err(error) = self.write(role, until)
        {
            tracing::warn!(%error, "the lock file does not say what its owner does");
        }
    }

    fn write(&self, role: Role, until: Option<i64>) -> io::Result<()> {
        let owner = Owner {
            role,
            pid: std::process::id(),
            until,
            socket: self.socket.clone(),
        };
        let text = serde_json::to_vec(&owner).map_err(io::Error::other)?;
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&text)
    }

    /// Ok if nobody owns the connection now, else who does. Looks without taking anything: what it holds for the
    /// instant of looking keeps no other looker out, and who wants to own waits that long. Creates no file.
    pub fn owner(paths: &Paths) -> Result<(), InUse> {
        let mut file = match File::open(paths.lock()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(AccountError::Io {
                    path: paths.lock(),
                    source,
                }
                .into());
            }
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => Err(owned(&mut file)),
            Err(std::fs::TryLockError::Error(source)) => Err(AccountError::Io {
                path: paths.lock(),
                source,
            }
            .into()),
        }
    }
}

impl Drop for OwnerLock {
    /// An owner that leaves in order leaves no name behind for the next one's.
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the lock file keeps its text");
        }
    }
}

/// What the file says of who holds its lock.
fn owned(file: &mut File) -> InUse {
    let mut text = String::new();
    let read = file.read_to_string(&mut text).ok();
    let owner = read.and_then(|_| serde_json::from_str::<Owner>(&text).ok());
    InUse::Owned {
        pid: owner.as_ref().map(|owner| owner.pid),
        role: owner.as_ref().map(|owner| owner.role),
        socket: owner.and_then(|owner| owner.socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_is_refused_and_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::resolve("x", Some(&dir.path().join("store.db"))).unwrap();
        let first = OwnerLock::take(&paths, Role::Persistent).unwrap();
        let refused = OwnerLock::take(&paths, Role::OneShot).unwrap_err();
        assert_eq!(refused.code(), "session_in_use");
        let InUse::Owned { pid, role, .. } = &refused else {
            panic!("{refused}")
        };
        assert_eq!(
            (*pid, *role),
            (Some(std::process::id()), Some(Role::Persistent))
        );
        assert_eq!(
            OwnerLock::owner(&paths).unwrap_err().code(),
            "session_in_use"
        );
        drop(first);
        OwnerLock::owner(&paths).unwrap();
        OwnerLock::take(&paths, Role::OneShot).unwrap();
    }
}

//! Where the files that people sent are kept: on the account's shelf, or in an object store. A place says which of them:
//! a name is on the shelf, a URL is an object.
//!
//! Invariant: what is read here was compared with the hash that it is known by, or is by who opened it; a file that
//! somebody changed where it lies is lost, and never passed on.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::bucket::Bucket;
use super::shelf::{self, Shelf};
use super::stage::room;
use crate::store::{ContentHash, Remnant};

/// Bytes that are hashed at once.
const BLOCK: usize = 64 << 10;

/// Why a file cannot be kept, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// It is gone, or is not what it was. It may be fetched again.
    #[error("it is not where it was kept, or was changed there")]
    Lost,
    /// The disk.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The object store does not answer, or has troubles of its own.
    #[error(
        "the object store cannot be reached ({0}); check the network and, if it is not the provider's own, AWS_ENDPOINT_URL or its like"
    )]
    Unreachable(String),
    /// The object store does not want this.
    #[error(
        "the object store refuses ({0}); check that the bucket exists, and that the credentials in the environment may write, \
         read and delete in it"
    )]
    Refused(String),
}

impl DepotError {
    /// The code of [`crate::media::reason`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::Lost => "let_go",
            Self::Disk(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "storage_full",
                _ => "disk_failed",
            },
            Self::Unreachable(_) => "store_unreachable",
            Self::Refused(_) => "store_refused",
        }
    }
}

/// How a file goes into an object store.
pub struct Passage<'a> {
    /// One for each part that may be on its way, and in memory, at a time. They come in the order in which they are asked for.
    pub turns: &'a Semaphore,
    /// Whether it is to end with an error.
    pub stopped: &'a dyn Fn() -> bool,
    /// Told the number of an upload in parts before the first of them goes.
    pub begun: &'a dyn Fn(&str) -> io::Result<()>,
    /// Told it again once nothing is left of that upload but, if it went well, its object.
    pub over: &'a dyn Fn(&str),
}

/// The files of one account.
#[derive(Debug)]
pub struct Depot {
    shelf: Shelf,
    /// The bucket that was used last.
    bucket: Mutex<Option<Arc<Bucket>>>,
}

impl Depot {
    /// Opens what is kept in the account's folder, and makes the folder if need be.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            shelf: Shelf::open(folder)?,
            bucket: Mutex::default(),
        })
    }

    /// The files on the disk.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The bucket of an object, or of the configuration's URL.
    pub fn bucket(&self, url: &str) -> Result<Arc<Bucket>, DepotError> {
        let mut slot = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = slot.as_ref().filter(|bucket| bucket.has(url)) {
            return Ok(bucket.clone());
        }
        let opened = Arc::new(Bucket::open(url)?);
        Ok(slot.insert(opened).clone())
    }

    /// Opens a file, from its first byte, for who compares what it reads with the hash. An object is brought into a file
    /// without a name, which is gone with its reader; `goes_on` is told how much of it is here, and may end that.
    pub fn open_unchecked(
        &self,
        place: &str,
        size: u64,
        goes_on: &dyn Fn(u64) -> bool,
    ) -> Result<File, DepotError> {
        if is_object(place) {
            return self.brought(place, size, goes_on);
        }
        self.shelf.read(place).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DepotError::Lost,
            _ => error.into(),
        })
    }

    fn brought(
        &self,
        place: &str,
        size: u64,
        goes_on: &dyn Fn(u64) -> bool,
    ) -> Result<File, DepotError> {
        let folder = self.shelf.path();
        // Others write meanwhile: it is looked again before each piece.
        room(folder, size)?;
        let mut part = self.shelf.unnamed()?;
        let mut here = 0;
        self.bucket(place)?.read(place, size, |piece| {
            room(folder, piece.len() as u64)?;
            part.write_all(piece)?;
            here += piece.len() as u64;
            match goes_on(here) {
                true => Ok(()),
                false => Err(io::Error::other("nobody waits for it any more")),
            }
        })?;
        part.rewind()?;
        Ok(part)
    }

    /// Opens a file, from its first byte, that is what it was.
    pub fn read(&self, place: &str, sha256: &ContentHash, size: u64) -> Result<File, DepotError> {
        let mut file = self.open_unchecked(place, size, &|_| true)?;
        if hashed(&mut file)? != *sha256 {
            return Err(DepotError::Lost);
        }
        file.rewind()?;
        Ok(file)
    }

    /// Whether somebody has removed the file that should be in this place. Of an object its store is asked.
    pub fn is_gone(&self, place: &str) -> Result<bool, DepotError> {
        match is_object(place) {
            true => self.bucket(place)?.is_gone(place),
            false => Ok(self.shelf.is_gone(place)),
        }
    }

    /// Removes what is in an object store; what is not there is as good.
    pub fn remove(&self, what: &Remnant) -> Result<(), DepotError> {
        self.bucket(&what.place)?.remove(what)
    }
}

/// The hash of what is left to be read of a file.
pub fn hashed(file: &mut File) -> io::Result<ContentHash> {
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&block[..count]),
        }
    }
}

/// Whether this is the place of an object, and not of a file on the shelf.
pub fn is_object(place: &str) -> bool {
    place.contains("://")
}

/// The URL of the folder that an object is in.
pub fn folder(place: &str) -> &str {
    place.rsplit_once('/').map_or(place, |(folder, _)| folder)
}

/// The place of a file in the object store with this URL: no account comes upon the files of another by chance.
pub fn object(root: &str, store: &str, sha256: &ContentHash, mime_type: Option<&str>) -> String {
    let root = root.trim_end_matches('/');
    format!("{root}/{store}/{}", shelf::name(sha256, mime_type))
}

/// The URL of a place, for programs of this machine or for those that may read the object store; `folder` is the shelf's.
pub fn url(folder: &Path, place: &str) -> String {
    match is_object(place) {
        true => place.to_owned(),
        false => shelf::url(folder, place),
    }
}

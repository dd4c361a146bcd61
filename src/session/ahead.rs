//! Work on a stream beside the thread that the stream goes through: reading ahead of it, and hashing behind it.
//!
//! Invariant: a few blocks wait at most; when either side ends, the other does.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

use crate::store::ContentHash;

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;
/// Blocks that wait.
const AHEAD: usize = 4;

/// A reader whose source is read on a thread of its own.
pub(super) struct Ahead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: io::Cursor<Vec<u8>>,
}

impl Ahead {
    /// Begins to read. Dropped, it leaves the source once the read under way has ended.
    pub(super) fn of(mut source: impl Read + Send + 'static) -> io::Result<Self> {
        let (to, blocks) = sync_channel(AHEAD);
        thread::Builder::new().spawn(move || {
            loop {
                let mut block = Vec::with_capacity(BLOCK);
                let read = source.by_ref().take(BLOCK as u64).read_to_end(&mut block);
                // What came before an error counts.
                let last = read.is_err() || block.is_empty();
                if !block.is_empty() && to.send(Ok(block)).is_err() {
                    return;
                }
                if let Err(error) = read {
                    let _ = to.send(Err(error));
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(Self {
            blocks,
            block: io::Cursor::default(),
        })
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.block.read(buffer)? {
                0 if !buffer.is_empty() => match self.blocks.recv() {
                    Ok(block) => self.block = io::Cursor::new(block?),
                    Err(_) => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

/// A SHA-256 that is computed on a thread of its own.
pub(super) struct Hashing {
    blocks: SyncSender<Vec<u8>>,
    hash: JoinHandle<ContentHash>,
}

impl Hashing {
    pub(super) fn begin() -> io::Result<Self> {
        let (blocks, from) = sync_channel::<Vec<u8>>(AHEAD);
        let hash = thread::Builder::new().spawn(move || {
            let mut hash = Sha256::new();
            for block in from {
                hash.update(block);
            }
            hash.finalize().into()
        })?;
        Ok(Self { blocks, hash })
    }

    pub(super) fn update(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.blocks.send(bytes.to_vec());
        sent.map_err(|_| io::Error::other("the thread that hashes has failed"))
    }

    /// Of all that came.
    pub(super) fn finish(self) -> io::Result<ContentHash> {
        drop(self.blocks);
        let hash = self.hash.join();
        hash.map_err(|_| io::Error::other("the thread that hashes has failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_is_there_up_to_its_error() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.min(buffer.len()).min(1000);
                self.0 -= count;
                buffer[..count].fill(7);
                match count {
                    0 => Err(io::ErrorKind::ConnectionReset.into()),
                    _ => Ok(count),
                }
            }
        }
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 5] {
            let mut bytes = vec![0; length];
            fastrand::fill(&mut bytes);
            let mut read = Vec::new();
            let mut ahead = Ahead::of(io::Cursor::new(bytes.clone())).unwrap();
            ahead.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{length}");
            let mut read = Vec::new();
            let error = Ahead::of(Broken(length)).unwrap().read_to_end(&mut read);
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(read.len(), length);
        }
    }

    #[test]
    fn nobody_reads_on_for_a_reader_that_is_gone() {
        struct Told(SyncSender<()>);
        impl Read for Told {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                buffer.fill(0);
                Ok(buffer.len())
            }
        }
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (dropped, seen) = sync_channel(1);
        let mut ahead = Ahead::of(Told(dropped)).unwrap();
        ahead.read_exact(&mut [0; 3 * BLOCK]).unwrap();
        drop(ahead);
        let patience = std::time::Duration::from_secs(10);
        assert!(seen.recv_timeout(patience).is_ok());
    }

    #[test]
    fn it_is_the_hash_of_all_that_came() {
        let hashing = Hashing::begin().unwrap();
        for block in [&b"ab"[..], b"", b"c"] {
            hashing.update(block).unwrap();
        }
        let whole: ContentHash = Sha256::digest(b"abc").into();
        assert_eq!(hashing.finish().unwrap(), whole);
    }
}

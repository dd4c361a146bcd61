//! Work on a stream beside the thread that it goes through: reading ahead of it, and what is done behind it.
//!
//! Invariant: a few blocks wait at most; when either side ends, the other does.

use std::io::{self, Read};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// Most bytes that are read at once. What there is of them goes on: a slow line is not to look like a dead one.
const PIECE: usize = 16 << 10;
/// What nobody takes yet grows to this: to wake the other side for each piece costs as much as to read it.
const BLOCK: usize = 128 << 10;
/// Blocks that were read and wait.
const AHEAD: usize = 4;
/// Blocks that are still to be worked on.
const BEHIND: usize = 4;

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
            let (mut piece, mut block) = (vec![0; PIECE], Vec::new());
            let ended = loop {
                match source.read(&mut piece) {
                    Ok(0) => break Ok(Vec::new()),
                    Ok(count) => block.extend_from_slice(&piece[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => break Err(error),
                }
                if block.len() < BLOCK {
                    // What is not taken now is offered again after the next read.
                    match to.try_send(Ok(block)) {
                        Err(TrySendError::Full(Ok(waits))) => block = waits,
                        Ok(()) => block = Vec::new(),
                        Err(_) => return,
                    }
                } else if to.send(Ok(mem::take(&mut block))).is_err() {
                    return;
                }
            };
            // Nobody may be there any more.
            let _ = to.send(Ok(block)).and_then(|()| to.send(ended));
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

/// What is done with the blocks of a stream, one after the other.
pub(super) trait Work: Send + 'static {
    fn take(&mut self, block: &[u8]) -> io::Result<()>;
}

/// Work that is done on a thread of its own.
pub(super) struct Behind<W> {
    blocks: SyncSender<Vec<u8>>,
    done: JoinHandle<(W, io::Result<()>)>,
}

impl<W: Work> Behind<W> {
    pub(super) fn begin(mut work: W) -> io::Result<Self> {
        let (blocks, from) = sync_channel::<Vec<u8>>(BEHIND);
        let done = thread::Builder::new().spawn(move || {
            let done = from.into_iter().try_for_each(|block| work.take(&block));
            (work, done)
        })?;
        Ok(Self { blocks, done })
    }

    /// Gives it a block; false once it has failed.
    pub(super) fn take(&self, block: Vec<u8>) -> bool {
        self.blocks.send(block).is_ok()
    }

    /// The work after its last block, and how it went.
    pub(super) fn end(self) -> io::Result<(W, io::Result<()>)> {
        drop(self.blocks);
        let done = self.done.join();
        done.map_err(|_| io::Error::other("the thread that writes has failed"))
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
    fn what_is_done_behind_is_done_in_order_up_to_its_error() {
        struct Kept(Vec<u8>);
        impl Work for Kept {
            fn take(&mut self, block: &[u8]) -> io::Result<()> {
                self.0.extend_from_slice(block);
                match self.0.len() {
                    ..5 => Ok(()),
                    _ => Err(io::ErrorKind::StorageFull.into()),
                }
            }
        }
        let behind = Behind::begin(Kept(Vec::new())).unwrap();
        assert!(behind.take(b"ab".to_vec()) && behind.take(b"cd".to_vec()));
        let (kept, done) = behind.end().unwrap();
        assert!(kept.0 == b"abcd" && done.is_ok());
        let behind = Behind::begin(kept).unwrap();
        while behind.take(b"e".to_vec()) {}
        let (kept, done) = behind.end().unwrap();
        assert_eq!(kept.0, b"abcde");
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

//! Work on a stream beside the thread that it goes through: reading ahead of it, and what is done behind it.
//!
//! Invariant: a few blocks wait at most; when either side ends, the other does.

use std::io::{self, Cursor, Read};
use std::mem;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Most bytes that are read at once. What there is of them goes on: a slow line is not to look like a dead one.
const PIECE: usize = 16 << 10;
/// Once so many bytes wait that were read, no more are.
const AHEAD: usize = 512 << 10;
/// Blocks that are still to be worked on: some milliseconds' worth, a scheduler's turn.
const BEHIND: usize = 16;

/// A reader whose source is read on a thread of its own.
pub(super) struct Ahead {
    between: Side,
    /// What was taken of it. All that waits is taken at once: to wake the other side for each piece costs as much as to
    /// read it.
    block: Cursor<Vec<u8>>,
}

/// What is between a reader and its source.
struct Between {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waits: Vec<u8>,
    /// How reading has ended, once it has.
    ended: io::Result<()>,
    /// One of the sides is gone.
    over: bool,
}

impl Between {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state once it is no longer so, or one of the sides is gone.
    fn while_it_is(&self, so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = |state: &mut State| !state.over && so(state);
        let waited = self.changed.wait_while(self.state(), wait);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the sides. Dropped, it is gone.
struct Side(Arc<Between>);

impl Drop for Side {
    fn drop(&mut self) {
        self.0.state().over = true;
        self.0.changed.notify_all();
    }
}

impl Ahead {
    /// Begins to read. Dropped, it leaves the source once the read under way has ended.
    pub(super) fn of(source: impl Read + Send + 'static) -> io::Result<Self> {
        let between = Arc::new(Between {
            state: Mutex::new(State {
                waits: Vec::new(),
                ended: Err(io::Error::other("the thread that reads has failed")),
                over: false,
            }),
            changed: Condvar::new(),
        });
        let side = Side(between.clone());
        thread::Builder::new().spawn(move || {
            let ended = read(source, &side.0);
            side.0.state().ended = ended;
        })?;
        Ok(Self {
            between: Side(between),
            block: Cursor::default(),
        })
    }

    /// Takes what waits; false at the end.
    fn take(&mut self) -> io::Result<bool> {
        let mut state = self.between.0.while_it_is(|state| state.waits.is_empty());
        if state.waits.is_empty() {
            return mem::replace(&mut state.ended, Ok(())).map(|()| false);
        }
        let mut block = mem::take(&mut self.block).into_inner();
        block.clear();
        self.block = Cursor::new(mem::replace(&mut state.waits, block));
        if self.block.get_ref().len() >= AHEAD {
            self.between.0.changed.notify_one();
        }
        Ok(true)
    }
}

/// Reads all of the source, as long as there is somebody for whom.
fn read(mut source: impl Read, between: &Between) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut state = between.while_it_is(|state| state.waits.len() >= AHEAD);
        if state.over {
            return Ok(());
        }
        let waited_for = state.waits.is_empty();
        state.waits.extend_from_slice(&piece[..count]);
        drop(state);
        if waited_for {
            between.changed.notify_one();
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.block.read(buffer)? {
                0 if !buffer.is_empty() && self.take()? => {}
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
    use std::sync::mpsc::Receiver;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

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
        for length in [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 3 * AHEAD + 5] {
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
    fn what_has_come_is_taken_while_the_source_says_nothing() {
        const PIECES: usize = 10;
        struct Paused {
            pieces: usize,
            pauses: SyncSender<()>,
            go_on: Receiver<()>,
        }
        impl Read for Paused {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.pieces == 0 {
                    let _ = self.pauses.send(());
                    let waited = self.go_on.recv_timeout(PATIENCE);
                    return waited.map(|()| 0).map_err(io::Error::other);
                }
                self.pieces -= 1;
                buffer[..1000].fill(7);
                Ok(1000)
            }
        }
        let ((pauses, paused), (goes_on, go_on)) = (sync_channel(1), sync_channel(1));
        let mut ahead = Ahead::of(Paused {
            pieces: PIECES,
            pauses,
            go_on,
        })
        .unwrap();
        paused.recv().unwrap();
        ahead.read_exact(&mut [0; 1000 * PIECES]).unwrap();
        // It has not given up meanwhile.
        goes_on.send(()).unwrap();
        assert_eq!(ahead.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_source_that_panics_has_not_come_to_its_end() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("as it should");
            }
        }
        assert!(Ahead::of(Panics).unwrap().read(&mut [0]).is_err());
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
        ahead.read_exact(&mut vec![0; 3 * AHEAD]).unwrap();
        drop(ahead);
        assert!(seen.recv_timeout(PATIENCE).is_ok());
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

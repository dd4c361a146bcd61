//! An upload's bytes on their way into the store. Invariant: they count as held from the moment they are here, and
//! what is here when the client goes away stays for a resume.

use std::mem;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use hyper::StatusCode;
use sha2::{Digest, Sha256};

use super::{Blob, Hash, MediaStore};

/// Bytes that are handed on at once.
const BLOCK: usize = 256 << 10;

/// An upload under way. Its bytes count as held; on drop they stay behind for a resume.
pub(super) struct Upload<'a> {
    store: &'a MediaStore,
    hash: Hash,
    /// None once it has ended.
    gathering: Option<Gathering>,
    /// What does not make up a block yet.
    block: Vec<u8>,
    length: u64,
    /// Bytes of this request alone.
    pub(super) received: u64,
}

impl<'a> Upload<'a> {
    /// From this offset on; so many bytes are said to come.
    pub(super) fn begin(
        store: &'a MediaStore,
        hash: Hash,
        offset: u64,
        announced: u64,
    ) -> Result<Self, StatusCode> {
        let mut state = store.state();
        let mut data = state.partial.remove(&hash).unwrap_or_default();
        match usize::try_from(offset) {
            Ok(offset) if offset <= data.len() => {
                state.release((data.len() - offset) as u64);
                data.truncate(offset);
            }
            _ => {
                state.partial.insert(hash, data);
                return Err(StatusCode::RANGE_NOT_SATISFIABLE);
            }
        }
        drop(state);
        data.reserve_exact(usize::try_from(announced).unwrap_or(0));
        Ok(Self {
            store,
            hash,
            block: Vec::with_capacity(BLOCK),
            length: data.len() as u64,
            gathering: Some(Gathering::begin(data)),
            received: 0,
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StatusCode> {
        let mut state = self.store.state();
        if self.length + bytes.len() as u64 > state.limits.blob {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let full = StatusCode::INSUFFICIENT_STORAGE;
        state.reserve(bytes.len() as u64).ok_or(full)?;
        state.received += bytes.len() as u64;
        drop(state);
        self.received += bytes.len() as u64;
        self.length += bytes.len() as u64;
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK
            && let Some(gathering) = &self.gathering
        {
            gathering.pass_on(&mut self.block);
        }
        Ok(())
    }

    /// All that came, and its hash; once.
    fn end(&mut self) -> Option<(Vec<u8>, Hash)> {
        let gathering = self.gathering.take()?;
        gathering.pass_on(&mut self.block);
        gathering.end()
    }

    pub(super) fn finish(mut self, path: String) -> Result<(), StatusCode> {
        let (data, sum) = self.end().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let mut state = self.store.state();
        if sum != self.hash {
            state.release(self.length);
            return Err(StatusCode::BAD_REQUEST);
        }
        let blob = Blob {
            bytes: data.into(),
            kind: "application/octet-stream",
            expired: None,
        };
        if let Some(old) = state.blobs.insert(path, blob) {
            state.release(old.bytes.len() as u64);
        }
        state.uploads += 1;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let Some((data, _)) = self.end().filter(|(data, _)| !data.is_empty()) else {
            return;
        };
        let mut state = self.store.state();
        if let Some(older) = state.partial.insert(self.hash, data) {
            state.release(older.len() as u64);
        }
    }
}

/// What came is put together and hashed on a thread of its own, as a server of many cores would. Its blocks come back
/// to be filled again: memory that is new each time costs more than the hash.
struct Gathering {
    to: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<(Vec<u8>, Hash)>,
}

impl Gathering {
    fn begin(mut data: Vec<u8>) -> Self {
        let (to, blocks) = channel::<Vec<u8>>();
        let (back, empty) = channel();
        let thread = std::thread::spawn(move || {
            let mut sum = Sha256::new();
            sum.update(&data);
            for mut block in blocks {
                sum.update(&block);
                data.extend_from_slice(&block);
                block.clear();
                let _ = back.send(block);
            }
            (data, sum.finalize().into())
        });
        Self { to, empty, thread }
    }

    /// Takes what is in the block, and leaves an empty one.
    fn pass_on(&self, block: &mut Vec<u8>) {
        let empty = self.empty.try_recv();
        let empty = empty.unwrap_or_else(|_| Vec::with_capacity(BLOCK));
        let _ = self.to.send(mem::replace(block, empty));
    }

    fn end(self) -> Option<(Vec<u8>, Hash)> {
        drop(self.to);
        self.thread.join().ok()
    }
}

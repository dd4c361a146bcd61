//! An upload's bytes on their way into the store. Invariant: they count as held from the moment they are here, and
//! what is here when the client goes away stays for a resume.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use hyper::StatusCode;
use sha2::{Digest, Sha256};

use super::{Blob, Hash, MediaStore};

/// An upload under way. Its bytes count as held; on drop they stay behind for a resume.
pub(super) struct Upload<'a> {
    store: &'a MediaStore,
    hash: Hash,
    data: Vec<u8>,
    /// Of `data`.
    sum: Sum,
    /// Bytes of this request alone.
    pub(super) received: u64,
}

impl<'a> Upload<'a> {
    pub(super) fn begin(
        store: &'a MediaStore,
        hash: Hash,
        offset: u64,
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
        let sum = Sum::of(&data);
        Ok(Self {
            store,
            hash,
            data,
            sum,
            received: 0,
        })
    }

    /// So many bytes are said to come.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.data.reserve_exact(usize::try_from(bytes).unwrap_or(0));
    }

    pub(super) fn append(&mut self, bytes: &Bytes) -> Result<(), StatusCode> {
        if (self.data.len() + bytes.len()) as u64 > self.store.state().limits.blob {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let full = StatusCode::INSUFFICIENT_STORAGE;
        let mut state = self.store.state();
        state.reserve(bytes.len() as u64).ok_or(full)?;
        state.received += bytes.len() as u64;
        drop(state);
        self.received += bytes.len() as u64;
        self.sum.update(bytes.clone());
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn finish(mut self, path: String) -> Result<(), StatusCode> {
        let data = std::mem::take(&mut self.data);
        let length = data.len() as u64;
        let sum = self.sum.finish();
        let mut state = self.store.state();
        if sum != Some(self.hash) {
            state.release(length);
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
        if self.data.is_empty() {
            return;
        }
        let data = std::mem::take(&mut self.data);
        let mut state = self.store.state();
        if let Some(older) = state.partial.insert(self.hash, data) {
            state.release(older.len() as u64);
        }
    }
}

/// A hash that is computed while more comes, as a server of many cores would.
struct Sum(Option<(Sender<Bytes>, JoinHandle<Hash>)>);

impl Sum {
    fn of(begun: &[u8]) -> Self {
        let mut sum = Sha256::new();
        sum.update(begun);
        let (to, from) = channel::<Bytes>();
        let summing = std::thread::spawn(move || {
            for bytes in from {
                sum.update(bytes);
            }
            sum.finalize().into()
        });
        Self(Some((to, summing)))
    }

    fn update(&self, bytes: Bytes) {
        if let Some((to, _)) = &self.0 {
            let _ = to.send(bytes);
        }
    }

    fn finish(&mut self) -> Option<Hash> {
        let (to, summing) = self.0.take()?;
        drop(to);
        summing.join().ok()
    }
}

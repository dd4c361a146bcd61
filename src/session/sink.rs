//! Where a download's plain bytes go: counted, hashed, and stopped when they are too many.
//!
//! Invariant: what [`Sink::finish`] says of a file is said of the bytes that were written to it last, from its
//! beginning. The library checks the encrypted file; that the plain one is what the message announced is checked here.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use wacore::download::DownloadWriter;

use super::transfers::Transfer;

/// Seen from outside while a thread writes.
#[derive(Debug)]
pub(super) struct Meter {
    /// How far it is. Stopped, it lets the next write fail.
    pub(super) transfer: Arc<Transfer>,
    too_large: AtomicBool,
    full: AtomicBool,
}

impl Meter {
    pub(super) fn new(transfer: Arc<Transfer>) -> Self {
        Self {
            transfer,
            too_large: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// There was more than the limit.
    pub(super) fn too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// The disk had no place for it.
    pub(super) fn full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

/// A file that is being written.
pub(super) struct Sink {
    file: File,
    hash: Sha256,
    written: u64,
    limit: u64,
    meter: Arc<Meter>,
}

impl Sink {
    /// Takes at most `limit` bytes.
    pub(super) fn new(file: File, limit: u64, meter: Arc<Meter>) -> Self {
        Self {
            file,
            hash: Sha256::new(),
            written: 0,
            limit,
            meter,
        }
    }

    /// SHA-256 and length of what was written.
    pub(super) fn finish(self) -> ([u8; 32], u64) {
        (self.hash.finalize().into(), self.written)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.meter.transfer.is_stopped() {
            return Err(io::Error::other("the download was stopped"));
        }
        if self.written.saturating_add(bytes.len() as u64) > self.limit {
            self.meter.too_large.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the file is larger than allowed"));
        }
        let count = self.file.write(bytes).inspect_err(|error| {
            let full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
            self.meter.full.store(full, Ordering::Relaxed);
        })?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        self.meter.transfer.set(self.written);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Sink {
    /// Only to the beginning: the hash is that of bytes in their order.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(0) => self.file.seek(to),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl DownloadWriter for Sink {
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if len != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hash = Sha256::new();
        self.written = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::transfers::Transfers;
    use super::*;

    fn sink(limit: u64) -> (Sink, Arc<Meter>) {
        let meter = Arc::new(Meter::new(Transfers::default().begin("download", limit)));
        let file = tempfile::tempfile().unwrap();
        (Sink::new(file, limit, meter.clone()), meter)
    }

    #[test]
    fn what_is_said_is_of_the_last_attempt() {
        let (mut sink, meter) = sink(10);
        sink.write_all(b"forged").unwrap();
        sink.truncate(0).unwrap();
        sink.rewind().unwrap();
        sink.write_all(b"true").unwrap();
        sink.rewind().unwrap();
        assert_eq!(meter.transfer.done(), 4);
        assert_eq!(sink.finish(), (Sha256::digest(b"true").into(), 4));
    }

    #[test]
    fn it_takes_no_more_than_the_limit_and_nothing_when_stopped() {
        let (mut sink, meter) = sink(4);
        sink.write_all(b"1234").unwrap();
        assert!(!meter.too_large());
        assert!(sink.write_all(b"5").is_err());
        assert!(meter.too_large() && !meter.full());
        let (mut sink, meter) = self::sink(4);
        meter.transfer.stop();
        assert!(sink.write_all(b"1").is_err());
    }
}

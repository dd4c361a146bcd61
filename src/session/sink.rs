//! Where a download's plain bytes go: counted, hashed, and stopped when they are too many for the limit or the disk.
//!
//! Invariants: what [`Sink::finish`] says of a file is said of the bytes that were written to it last, from its
//! beginning. The library checks the encrypted file; that the plain one is what the message announced is checked here.
//! The disk is looked at before each write, whatever the message says of the file's size.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wacore::download::DownloadWriter;

use super::ahead::Hashing;
use super::transfers::Transfer;
use crate::store::ContentHash;

/// Seen from outside while a thread writes.
#[derive(Debug)]
pub(super) struct Meter {
    /// How far it is. Stopped, it lets the next write fail.
    pub(super) transfer: Arc<Transfer>,
    /// Bytes that it may count on.
    promised: AtomicU64,
    /// How large it may be.
    most: AtomicU64,
    too_large: AtomicBool,
    full: AtomicBool,
}

impl Meter {
    pub(super) fn new(transfer: Arc<Transfer>) -> Self {
        Self {
            transfer,
            promised: AtomicU64::new(0),
            most: AtomicU64::new(0),
            too_large: AtomicBool::new(false),
            full: AtomicBool::new(false),
        }
    }

    /// It may be this large, if it might not be larger already.
    pub(super) fn allow(&self, bytes: u64) {
        self.most.fetch_max(bytes, Ordering::Relaxed);
    }

    /// How large it may be.
    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// It may count on so many bytes of the disk.
    pub(super) fn promise(&self, bytes: u64) {
        self.promised.store(bytes, Ordering::Relaxed);
    }

    /// What it was promised and has not taken yet; nothing if it takes more than that.
    pub(super) fn outstanding(&self) -> u64 {
        let promised = self.promised.load(Ordering::Relaxed);
        promised.saturating_sub(self.transfer.done())
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
    hash: Hashing,
    written: u64,
    meter: Arc<Meter>,
    has_room: Room,
}

/// Whether the disk has space for more.
pub(super) type Room = Box<dyn Fn() -> bool + Send>;

impl Sink {
    /// Takes as many bytes as the meter allows, and those only while there is room.
    pub(super) fn new(file: File, meter: Arc<Meter>, has_room: Room) -> io::Result<Self> {
        Ok(Self {
            file,
            hash: Hashing::begin()?,
            written: 0,
            meter,
            has_room,
        })
    }

    /// SHA-256 and length of what was written.
    pub(super) fn finish(self) -> io::Result<(ContentHash, u64)> {
        Ok((self.hash.finish()?, self.written))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.meter.transfer.is_stopped() {
            return Err(io::Error::other("the download was stopped"));
        }
        if self.written.saturating_add(bytes.len() as u64) > self.meter.most() {
            self.meter.too_large.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the file is larger than allowed"));
        }
        if !(self.has_room)() {
            self.meter.full.store(true, Ordering::Relaxed);
        }
        // The library tries the next host after whatever went wrong; a disk that was full ends that.
        if self.meter.full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = self.file.write(bytes).inspect_err(|error| {
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) {
                self.meter.full.store(true, Ordering::Relaxed);
            }
        })?;
        self.hash.update(&bytes[..count])?;
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
        self.hash = Hashing::begin()?;
        self.written = 0;
        self.meter.transfer.set(0);
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
        meter.allow(limit);
        let sink = Sink::new(file, meter.clone(), Box::new(|| true)).unwrap();
        (sink, meter)
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
        let (hash, size) = sink.finish().unwrap();
        assert_eq!((hash[..2].to_vec(), size), (vec![0xb5, 0xbe], 4));
    }

    #[test]
    fn it_takes_no_more_than_the_limit_and_nothing_when_stopped() {
        let (mut sink, meter) = sink(4);
        sink.write_all(b"1234").unwrap();
        assert!(!meter.too_large());
        assert!(sink.write_all(b"5").is_err());
        assert!(meter.too_large() && !meter.full());
        // Somebody asks for it by name meanwhile.
        let (mut sink, meter) = self::sink(4);
        meter.allow(5);
        meter.allow(1);
        sink.write_all(b"12345").unwrap();
        assert!(sink.write_all(b"6").is_err());
        let (mut sink, meter) = self::sink(4);
        meter.transfer.stop();
        assert!(sink.write_all(b"1").is_err());
    }

    #[test]
    fn the_disk_is_looked_at_all_the_time_and_once_full_ends_it() {
        let (mut sink, meter) = sink(u64::MAX);
        let seen = meter.clone();
        sink.has_room = Box::new(move || seen.transfer.done() < 30);
        let taken = (0..)
            .take_while(|_| sink.write_all(&[0; 10]).is_ok())
            .count();
        assert_eq!(taken, 3);
        assert!(meter.full() && !meter.too_large());
        // From another host it would be too much as well.
        sink.truncate(0).unwrap();
        assert!(sink.write_all(b"1").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_told_from_other_errors() {
        let (mut sink, meter) = sink(10);
        sink.file = File::options().write(true).open("/dev/full").unwrap();
        assert!(sink.write_all(b"1").is_err());
        assert!(meter.full());
        let (mut sink, meter) = self::sink(10);
        sink.file = File::open("/dev/null").unwrap();
        assert!(sink.write_all(b"1").is_err());
        assert!(!meter.full());
    }
}

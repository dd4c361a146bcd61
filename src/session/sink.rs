//! Where a download's plain bytes go: counted, hashed, and stopped when they are too many for the limit or the disk.
//!
//! Invariants: what [`Sink::finish`] says of a file is said of the bytes that were written to it last, from its
//! beginning. The library checks the encrypted file; that the plain one is what the message announced is checked here.
//! The disk is looked at before each write, whatever the message says of the file's size.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wacore::download::DownloadWriter;

use super::ahead::{Behind, Work};
use super::transfers::Transfer;
use crate::store::ContentHash;

/// Bytes between two writes.
const BLOCK: usize = 64 << 10;
/// Bytes that the disk is told to begin with at once.
const STRIDE: u64 = 8 << 20;
/// Bytes after which it is seen that something comes.
const SIGN: usize = 4 << 10;
/// Bytes that the cipher has in a block.
const CIPHER: usize = 16;

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
    broken: AtomicBool,
}

impl Meter {
    pub(super) fn new(transfer: Arc<Transfer>) -> Self {
        Self {
            transfer,
            promised: AtomicU64::new(0),
            most: AtomicU64::new(0),
            too_large: AtomicBool::new(false),
            full: AtomicBool::new(false),
            broken: AtomicBool::new(false),
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

    /// The disk did not take it for another reason.
    pub(super) fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Notes which of the two the disk's error is. The library tries its next host after whatever went wrong; this ends that.
    fn failed(&self, error: &io::Error) {
        let latch = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => &self.full,
            _ => &self.broken,
        };
        latch.store(true, Ordering::Relaxed);
    }
}

/// Whether the disk has space for more.
pub(super) type Room = Box<dyn Fn() -> bool + Send>;

/// A file that is being written, on a thread of its own: who writes here decrypts.
pub(super) struct Sink {
    /// None once the writer has failed.
    writing: Option<Behind<Writer>>,
    /// What does not make up a block yet.
    block: Vec<u8>,
    /// How much of it there may be until something is to be done; never so much that a block of the cipher has no room.
    edge: usize,
    taken: u64,
    meter: Arc<Meter>,
}

impl Sink {
    /// Takes as many bytes as the meter allows, and those only while there is room.
    pub(super) fn new(file: File, meter: Arc<Meter>, has_room: Room) -> io::Result<Self> {
        let writer = Writer {
            file,
            hash: Sha256::new(),
            written: 0,
            under_way: 0,
            meter: meter.clone(),
            has_room,
        };
        Ok(Self {
            writing: Some(Behind::begin(writer)?),
            block: Vec::with_capacity(BLOCK),
            edge: SIGN,
            taken: 0,
            meter,
        })
    }

    /// SHA-256 and length of what was written.
    pub(super) fn finish(mut self) -> io::Result<(ContentHash, u64)> {
        self.pass_on()?;
        let (writer, written) = ended(self.writing)?;
        written?;
        Ok((writer.hash.finalize().into(), writer.written))
    }
}

fn ended(writing: Option<Behind<Writer>>) -> io::Result<(Writer, io::Result<()>)> {
    let writing = writing.ok_or_else(|| io::Error::other("the file could not be written"))?;
    writing.end()
}

impl Sink {
    #[cold]
    fn write_slowly(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Shows that something comes, and has the block written once it is full.
    fn go_on(&mut self) -> io::Result<()> {
        self.meter.transfer.sign();
        if self.block.len() > BLOCK - CIPHER {
            self.pass_on()?;
        }
        self.edge = (self.block.len() + SIGN).min(BLOCK - CIPHER + 1);
        Ok(())
    }

    /// Has what there is written.
    fn pass_on(&mut self) -> io::Result<()> {
        if self.meter.transfer.is_stopped() {
            return Err(io::Error::other("the download was stopped"));
        }
        self.taken = self.taken.saturating_add(self.block.len() as u64);
        if self.taken > self.meter.most() {
            self.meter.too_large.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the file is larger than allowed"));
        }
        let block = mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let writing = self.writing.as_ref();
        if writing.is_some_and(|writing| writing.take(block)) {
            return Ok(());
        }
        // Kept, so that the library may begin again with its next host.
        let (writer, written) = ended(self.writing.take())?;
        self.writing = Some(Behind::begin(writer)?);
        Err(written.err().unwrap_or_else(|| io::ErrorKind::Other.into()))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() >= self.edge {
            self.go_on()?;
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// The library writes a block of its cipher at a time, of which a file of 64 MiB has four million.
    #[inline(always)]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match <&[u8; CIPHER]>::try_from(bytes) {
            Ok(bytes) if self.block.len() < self.edge => {
                self.block.extend_from_slice(bytes);
                Ok(())
            }
            _ => self.write_slowly(bytes),
        }
    }

    /// Nothing: what is still to be written is seen by [`Sink::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sink {
    /// Only to the beginning, where the library goes before it writes and once it is done.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(0) => Ok(0),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl DownloadWriter for Sink {
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if len != 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Whatever became of what there was.
        let (mut writer, _) = ended(self.writing.take())?;
        writer.restart()?;
        self.block.clear();
        self.edge = SIGN;
        self.taken = 0;
        self.writing = Some(Behind::begin(writer)?);
        Ok(())
    }
}

/// The file itself.
struct Writer {
    file: File,
    hash: Sha256,
    written: u64,
    /// How much the disk was told to begin with.
    under_way: u64,
    meter: Arc<Meter>,
    has_room: Room,
}

/// Has the disk begin with a stretch of the file, so that not all of it is left for the sync at its end. Linux does that for
/// dirty pages of which it is said that nobody needs them soon; elsewhere it is a hint without effect.
fn begin_writing(file: &File, from: u64) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        let _ = fadvise(file, from, NonZeroU64::new(STRIDE), Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from);
}

impl Writer {
    fn restart(&mut self) -> io::Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.inspect_err(|error| self.meter.failed(error))?;
        self.hash = Sha256::new();
        self.written = 0;
        self.under_way = 0;
        self.meter.transfer.set(0);
        Ok(())
    }
}

impl Work for Writer {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !(self.has_room)() {
            self.meter.full.store(true, Ordering::Relaxed);
        }
        if self.meter.full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.meter.broken() {
            return Err(io::Error::other("the disk has failed before"));
        }
        let written = self.file.write_all(bytes);
        written.inspect_err(|error| self.meter.failed(error))?;
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        if self.written - self.under_way >= STRIDE {
            begin_writing(&self.file, self.under_way);
            self.under_way = self.written;
        }
        self.meter.transfer.set(self.written);
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
        let said = (Sha256::digest(b"true").into(), 4);
        assert_eq!(sink.finish().unwrap(), said);
        assert_eq!(meter.transfer.done(), 4);
    }

    #[test]
    fn it_takes_no_more_than_the_limit_and_nothing_when_stopped() {
        let taken = |bytes: &[u8], prepare: fn(&Meter)| {
            let (mut sink, meter) = sink(4);
            prepare(&meter);
            sink.write_all(bytes).unwrap();
            let written = sink.finish().is_ok();
            assert_eq!(
                meter.transfer.done(),
                if written { bytes.len() as u64 } else { 0 }
            );
            (written, meter.too_large(), meter.full())
        };
        assert_eq!(taken(b"1234", |_| {}), (true, false, false));
        assert_eq!(taken(b"12345", |_| {}), (false, true, false));
        // Somebody asks for it by name meanwhile.
        let larger = |meter: &Meter| {
            meter.allow(5);
            meter.allow(1);
        };
        assert_eq!(taken(b"12345", larger), (true, false, false));
        assert_eq!(taken(b"123456", larger), (false, true, false));
        let stopped = |meter: &Meter| meter.transfer.stop();
        assert_eq!(taken(b"1", stopped), (false, false, false));
        let (mut sink, meter) = self::sink(BLOCK as u64);
        let error = (0..4).find_map(|_| sink.write_all(&[0; BLOCK]).err());
        assert!(error.is_some() && meter.too_large());
    }

    #[test]
    fn the_disk_is_looked_at_all_the_time_and_once_full_ends_it() {
        let meter = Arc::new(Meter::new(Transfers::default().begin("download", 0)));
        let seen = meter.clone();
        let has_room = Box::new(move || seen.transfer.done() < 3 * BLOCK as u64);
        let file = tempfile::tempfile().unwrap();
        meter.allow(u64::MAX);
        let mut sink = Sink::new(file, meter.clone(), has_room).unwrap();
        let block = vec![0; BLOCK];
        let error = (0..).find_map(|_| sink.write_all(&block).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(meter.transfer.done(), 3 * BLOCK as u64);
        assert!(meter.full() && !meter.too_large());
        // From another host it would be too much as well.
        sink.truncate(0).unwrap();
        let _ = sink.write_all(b"1");
        assert!(sink.finish().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_is_full_is_told_from_other_errors() {
        let latches = |meter: &Meter| (meter.full(), meter.broken());
        let sink = |file: File| {
            let meter = Arc::new(Meter::new(Transfers::default().begin("download", 0)));
            meter.allow(u64::MAX);
            let sink = Sink::new(file, meter.clone(), Box::new(|| true)).unwrap();
            (sink, meter)
        };
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let broken = || File::open("/dev/null").unwrap();
        for (file, told) in [(full(), (true, false)), (broken(), (false, true))] {
            let (mut sink, meter) = sink(file);
            sink.write_all(b"1").unwrap();
            assert!(sink.finish().is_err());
            assert_eq!(latches(&meter), told);
        }
        // What cannot be emptied for the next host.
        let (mut sink, meter) = sink(broken());
        assert!(sink.truncate(0).is_err());
        assert_eq!(latches(&meter), (false, true));
    }
}

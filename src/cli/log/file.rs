//! A log file that several processes append to and that does not grow without bound.
//!
//! A line is one write to a file opened for appending, so lines of different processes do not mix. When the file is
//! full it becomes the older one, in place of the one before; whoever still has it open notices by its length and opens
//! the new one. Invariant: there are never more than two files, each little longer than [`FULL`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::account::private_file;

/// Length at which a file is full, bytes.
const FULL: u64 = 8 << 20;

pub(super) struct Rotating {
    path: PathBuf,
    full: u64,
    file: Mutex<File>,
}

impl Rotating {
    /// Opens the file, or creates it, for this user alone. The directory must exist.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::with_bound(path, FULL)
    }

    fn with_bound(path: &Path, full: u64) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            full,
            file: Mutex::new(append(path)?),
        })
    }

    /// The file, if there is room in it, else the one that follows it.
    fn with_room(&self, file: &mut File) -> io::Result<()> {
        if file.metadata()?.len() < self.full {
            return Ok(());
        }
        // Who waited here finds that another process has made room.
        file.lock()?;
        if fs::metadata(&self.path).is_ok_and(|found| found.len() >= self.full) {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            fs::rename(&self.path, older)?;
        }
        // The old one's lock goes with it.
        *file = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    private_file(path)?;
    OpenOptions::new().append(true).open(path)
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that cannot be exchanged is better long than silent.
        let _ = self.with_room(&mut file);
        file.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_lose_no_line_of_the_last_two_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let older = directory.path().join("log.1");
        let writers = [1, 2].map(|_| Rotating::with_bound(&path, 1000).unwrap());
        let mut count = |n: usize| {
            let mut writer = &writers[n % 2];
            writer
                .write_all(format!("line {n:04}\n").as_bytes())
                .unwrap();
        };
        (0..350).for_each(&mut count);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert!(read(&path).len() <= 1010 && read(&older).len() <= 1010);
        let kept = read(&older) + &read(&path);
        let numbers: Vec<usize> = kept
            .lines()
            .map(|line| line[5..].parse().unwrap())
            .collect();
        assert_eq!(numbers.last(), Some(&349));
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{kept}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn it_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Rotating::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

//! The media store: what people sent, as files named after their content.
//!
//! Invariants: a file that has its name was whole and verified, is on the disk, and is written by nobody; one that has
//! none yet is in `part/`, and gone with whoever was writing it, or at the next start. A name is made of a hash and of an ending from a table of
//! ours, never of anything that a message says, and is opened beneath the store's directory alone, following no link.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::NamedTempFile;

use super::key::{hex, unhex};
use crate::platform::{private_directory, read_only};

/// Where downloads grow.
const PART: &str = "part";

/// The store of one account, in a folder.
#[derive(Debug)]
pub struct Shelf {
    path: PathBuf,
    dir: Dir,
}

impl Shelf {
    /// Opens the store, and makes its folder if need be.
    pub fn open(path: &Path) -> io::Result<Self> {
        private_directory(path, true)?;
        private_directory(&path.join(PART), true)?;
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        Ok(Self {
            path: path.to_owned(),
            dir,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file for a download; removed when it is dropped.
    pub fn begin(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix("")
            .tempfile_in(self.path.join(PART))
    }

    /// A file that is gone with its last reader.
    pub(super) fn unnamed(&self) -> io::Result<File> {
        tempfile::tempfile_in(self.path.join(PART))
    }

    /// Has a file that is whole on the disk. That may take long.
    pub fn settle(&self, part: NamedTempFile) -> io::Result<Settled> {
        read_only(part.as_file())?;
        part.as_file().sync_all()?;
        Ok(Settled(part))
    }

    /// Gives a file that has this content its name, which is its place from now on.
    pub fn keep(
        &self,
        Settled(part): Settled,
        sha256: &[u8; 32],
        mime_type: Option<&str>,
    ) -> io::Result<String> {
        let place = name(sha256, mime_type);
        part.persist(self.path.join(&place))
            .map_err(|error| error.error)?;
        // Windows has no such thing as a directory to sync.
        if let Ok(directory) = File::open(&self.path) {
            let _ = directory.sync_all();
        }
        Ok(place)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Those of the disk, and `InvalidInput` for what is no place that this store gives.
    pub fn read(&self, place: &str) -> io::Result<File> {
        let place = self.checked(place)?;
        let found = self.dir.symlink_metadata(place)?;
        if !found.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a file of the media store",
            ));
        }
        Ok(self.dir.open(place)?.into_std())
    }

    /// Removes a file; one that is not there is as good.
    pub fn remove(&self, place: &str) -> io::Result<()> {
        match self.dir.remove_file(self.checked(place)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes what no download is writing any more, and files of which the database knows nothing: a kill between
    /// the two leaves one. Nobody may be downloading. What is no file, or has no name of ours, is not ours to remove; what
    /// somebody else removes meanwhile is as good.
    pub fn sweep(&self, known: &HashSet<String>) -> io::Result<Swept> {
        let mut swept = Swept::default();
        for part in fs::read_dir(self.path.join(PART))?.flatten() {
            let file = part.file_type().is_ok_and(|found| found.is_file());
            swept.removed += usize::from(file && fs::remove_file(part.path()).is_ok());
        }
        for entry in self.dir.entries()?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let file = entry.file_type().is_ok_and(|found| found.is_file());
            if file && is_place(name) && !known.contains(name) {
                swept.removed += usize::from(self.dir.remove_file(name).is_ok());
            }
        }
        let missing = known.iter().filter(|place| self.is_gone(place));
        swept.missing = missing.cloned().collect();
        Ok(swept)
    }

    /// Whether there is no file in a place of this store.
    pub fn is_gone(&self, place: &str) -> bool {
        is_place(place)
            && match self.dir.symlink_metadata(place) {
                Ok(found) => !found.is_file(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            }
    }

    fn checked<'a>(&self, place: &'a str) -> io::Result<&'a str> {
        match is_place(place) {
            true => Ok(place),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a place in the media store",
            )),
        }
    }
}

/// A file that is on the disk and has no name yet.
pub struct Settled(NamedTempFile);

/// What a sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many files it removed.
    pub removed: usize,
    /// Places where there should be a file, and is none.
    pub missing: Vec<String>,
}

/// The name of a file with this content.
pub(super) fn name(sha256: &[u8; 32], mime_type: Option<&str>) -> String {
    format!("{}{}", hex(sha256), ending(mime_type))
}

/// The URL of a place, for programs of this machine; `folder` is the store's.
pub(super) fn url(folder: &Path, place: &str) -> String {
    file_url(&folder.join(place))
}

/// Whether this is a name that [`Shelf::keep`] gives.
fn is_place(name: &str) -> bool {
    let ending = name.get(64..).unwrap_or_default();
    let known = ending.is_empty() || ENDINGS.iter().any(|(_, known)| ending == *known);
    known && !name.contains('/') && content(name).is_some()
}

/// What must be in the file of this name, or in the object of this URL.
pub fn content(place: &str) -> Option<[u8; 32]> {
    unhex(place.rsplit('/').next()?.get(..64)?)
}

/// What programs expect the names of such files to end in.
const ENDINGS: [(&str, &str); 24] = [
    ("image/jpeg", ".jpg"),
    ("image/png", ".png"),
    ("image/gif", ".gif"),
    ("image/webp", ".webp"),
    ("image/heic", ".heic"),
    ("video/mp4", ".mp4"),
    ("video/3gpp", ".3gp"),
    ("video/quicktime", ".mov"),
    ("audio/ogg", ".ogg"),
    ("audio/mpeg", ".mp3"),
    ("audio/mp4", ".m4a"),
    ("audio/aac", ".aac"),
    ("audio/amr", ".amr"),
    ("audio/wav", ".wav"),
    ("application/pdf", ".pdf"),
    ("application/zip", ".zip"),
    ("application/json", ".json"),
    ("application/msword", ".doc"),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".docx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ".xlsx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        ".pptx",
    ),
    ("text/plain", ".txt"),
    ("text/csv", ".csv"),
    ("text/vcard", ".vcf"),
];

/// The ending for a type as a sender declares it, parameters and all; none for one that is not in the table.
pub(super) fn ending(mime_type: Option<&str>) -> &'static str {
    let plain = mime_type
        .and_then(|mime| mime.split(';').next())
        .unwrap_or_default();
    let known = ENDINGS
        .iter()
        .find(|(mime, _)| plain.trim().eq_ignore_ascii_case(mime));
    known.map_or("", |(_, ending)| ending)
}

/// RFC 3986: what may stand in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

fn file_url(path: &Path) -> String {
    let path = path.to_string_lossy().replace('\\', "/");
    let root = if path.starts_with('/') { "" } else { "/" };
    format!("file://{root}{}", utf8_percent_encode(&path, IN_PATH))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&home.path().join("a b")).unwrap();
        (home, shelf)
    }

    fn put(shelf: &Shelf, bytes: &[u8], hash: [u8; 32]) -> String {
        let mut part = shelf.begin().unwrap();
        part.write_all(bytes).unwrap();
        let part = shelf.settle(part).unwrap();
        shelf.keep(part, &hash, Some("Image/JPEG; q=1")).unwrap()
    }

    #[test]
    fn what_is_kept_can_be_read_and_removed() {
        let (_home, shelf) = shelf();
        let place = put(&shelf, b"bytes", [7; 32]);
        assert_eq!(place, format!("{}.jpg", "07".repeat(32)));
        let mut read = String::new();
        shelf
            .read(&place)
            .unwrap()
            .read_to_string(&mut read)
            .unwrap();
        assert_eq!(read, "bytes");
        assert!(url(shelf.path(), &place).ends_with(&format!("/a%20b/{place}")));
        assert!(url(shelf.path(), &place).starts_with("file:///"));
        shelf.remove(&place).unwrap();
        shelf.remove(&place).unwrap();
        assert_eq!(
            shelf.read(&place).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_download_that_ends_early_leaves_nothing() {
        let (_home, shelf) = shelf();
        let mut part = shelf.begin().unwrap();
        part.write_all(b"half").unwrap();
        drop(part);
        assert_eq!(fs::read_dir(shelf.path().join(PART)).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_leaves_what_is_known_or_not_ours() {
        let (_home, shelf) = shelf();
        let (kept, lost) = (put(&shelf, b"1", [1; 32]), put(&shelf, b"2", [2; 32]));
        let missing = name(&[3; 32], None);
        fs::write(shelf.path().join("notes.txt"), "mine").unwrap();
        fs::write(shelf.path().join(PART).join("x"), "half").unwrap();
        // What others may have put here ends no sweep.
        let folders = [
            shelf.path().join("04".repeat(32)),
            shelf.path().join(PART).join("folder"),
        ];
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let known = [kept.clone(), missing.clone(), "s3://bucket/x".to_owned()].into();
        let swept = shelf.sweep(&known).unwrap();
        assert_eq!((swept.removed, swept.missing), (2, vec![missing]));
        assert!(shelf.read(&kept).is_ok());
        assert!(shelf.read(&lost).is_err());
        assert!(shelf.path().join("notes.txt").is_file());
        assert!(folders.iter().all(|folder| folder.is_dir()));
    }

    #[test]
    fn no_place_leads_elsewhere() {
        let (home, shelf) = shelf();
        fs::write(home.path().join("secret"), "x").unwrap();
        for place in [
            "../secret",
            "/etc/passwd",
            "part",
            "",
            ".",
            "notes.txt",
            "a b/../../secret",
        ] {
            let error = shelf.read(place).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{place}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_are_private_and_links_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (home, shelf) = shelf();
        let place = put(&shelf, b"1", [1; 32]);
        let mode = fs::metadata(shelf.path().join(place))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o400);
        let secret = home.path().join("secret");
        fs::write(&secret, "x").unwrap();
        let link = "02".repeat(32);
        symlink(&secret, shelf.path().join(&link)).unwrap();
        assert!(shelf.read(&link).is_err());
        // Nor taken for a file that nobody knows.
        assert_eq!(shelf.sweep(&[].into()).unwrap().removed, 1);
        assert!(secret.is_file() && shelf.path().join(&link).is_symlink());
    }
}

//! An attachment's bytes as they come, from whatever source: what is seen at its beginning to be nothing but a document is
//! encrypted at once, and never lies on the disk as it is; of everything else more must be read, and it is staged.
//!
//! Invariant: no byte beyond the limit is taken.

use wacore::download::MediaType;
use wacore::upload::EncryptedMediaInfo;

use super::probe::{self, HEAD, Wanted};
use super::seal::{SealError, Sealer};
use super::stage::{StageError, StageWriter, Staged, Staging};

/// Where an attachment's bytes go.
pub struct Intake {
    staging: Staging,
    wanted: Wanted,
    limit: u64,
    size: u64,
    head: Vec<u8>,
    to: To,
}

enum To {
    /// Until there is enough of it to tell.
    Head,
    Staged(StageWriter),
    Sealed(Sealer),
}

/// What was taken in.
pub enum Taken {
    /// The file as it is.
    Staged(Staged),
    /// A document, encrypted.
    Sealed(SealedDocument),
}

/// A document that was encrypted as it came.
pub struct SealedDocument {
    /// How it begins.
    pub head: Vec<u8>,
    /// How many bytes it has.
    pub size: u64,
    /// The encrypted file.
    pub file: Staged,
    /// Its key and hashes.
    pub info: EncryptedMediaInfo,
}

impl Intake {
    /// Of a file of at most `limit` bytes, of which this is known beforehand.
    pub fn new(staging: &Staging, wanted: Wanted, limit: u64) -> Self {
        Self {
            staging: staging.clone(),
            wanted,
            limit,
            size: 0,
            head: Vec::new(),
            to: To::Head,
        }
    }

    /// Whether a file of `size` bytes would pass the limit; for a source that says its size beforehand.
    ///
    /// # Errors
    /// When it would.
    pub fn check(&self, size: u64) -> Result<(), StageError> {
        match self.limit {
            limit if size > limit => Err(StageError::TooLarge { limit }),
            _ => Ok(()),
        }
    }

    /// Appends.
    ///
    /// # Errors
    /// When that would pass the limit, when nobody waits for it any more, or when the disk fails or is nearly full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        self.size += bytes.len() as u64;
        self.check(self.size)?;
        match &mut self.to {
            To::Head => {
                self.head.extend_from_slice(bytes);
                if self.head.len() as u64 >= HEAD {
                    self.begin()?;
                }
                Ok(())
            }
            To::Staged(file) => Ok(file.write(bytes)?),
            To::Sealed(sealer) => sealer.write(bytes),
        }
    }

    fn begin(&mut self) -> Result<(), SealError> {
        if probe::is_document(&self.head, &self.wanted) {
            let mut sealer = Sealer::begin(&self.staging, MediaType::Document)?;
            sealer.write(&self.head)?;
            self.to = To::Sealed(sealer);
        } else {
            let mut file = self.staging.create()?;
            file.write(&self.head)?;
            self.to = To::Staged(file);
        }
        Ok(())
    }

    /// What came, and what is known of it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(mut self) -> Result<(Taken, Wanted), SealError> {
        if let To::Head = self.to {
            self.begin()?;
        }
        self.head.truncate(HEAD as usize);
        let taken = match self.to {
            To::Staged(file) => Taken::Staged(file.finish()),
            To::Sealed(sealer) => {
                let (file, info) = sealer.finish()?;
                Taken::Sealed(SealedDocument {
                    head: self.head,
                    size: self.size,
                    file,
                    info,
                })
            }
            To::Head => return Err(std::io::Error::other("it was not begun").into()),
        };
        Ok((taken, self.wanted))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn taken(bytes: &[u8], block: usize, wanted: Wanted) -> (Taken, usize) {
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let mut intake = Intake::new(&staging, wanted, 1 << 20);
        for block in bytes.chunks(block) {
            intake.write(block).unwrap();
        }
        let taken = intake.finish().unwrap().0;
        let files = std::fs::read_dir(media.path().join("staged")).unwrap();
        (taken, files.count() - 1)
    }

    #[test]
    fn a_document_is_encrypted_as_it_comes_and_nothing_else_is() {
        let head = HEAD as usize;
        for length in [0, 1, head - 1, head, head + 1, 5 * head] {
            let text = b"some text\n".repeat(length / 10 + 1);
            let text = &text[..length];
            let picture = [&b"\xff\xd8\xff\xe0"[..], text].concat();
            for block in [1000, head, 64 << 10] {
                let (taken, files) = taken(text, block, Wanted::default());
                let Taken::Sealed(sealed) = taken else {
                    panic!("{length}")
                };
                assert_eq!(sealed.size, length as u64);
                assert_eq!(sealed.info.file_length, length as u64);
                assert_eq!(sealed.head, text[..length.min(head)]);
                assert_eq!(files, 1, "the plain bytes lie nowhere");
                let Taken::Staged(mut staged) = self::taken(&picture, block, Wanted::default()).0
                else {
                    panic!("{length}")
                };
                let mut bytes = Vec::new();
                staged.open().unwrap().read_to_end(&mut bytes).unwrap();
                assert!(bytes == picture);
                let document = Wanted {
                    document: true,
                    ..Wanted::default()
                };
                let taken = self::taken(&picture, block, document).0;
                assert!(matches!(taken, Taken::Sealed(_)));
            }
        }
    }

    #[test]
    fn a_file_does_not_pass_its_limit() {
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let left = || {
            std::fs::read_dir(media.path().join("staged"))
                .unwrap()
                .count()
                - 1
        };
        for begun in [&b"text"[..], b"\xff\xd8\xff\xe0"] {
            let limit = 2 * HEAD;
            let mut intake = Intake::new(&staging, Wanted::default(), limit);
            assert!(intake.check(limit).is_ok() && intake.check(limit + 1).is_err());
            intake.write(begun).unwrap();
            intake
                .write(&vec![b'x'; limit as usize - begun.len()])
                .unwrap();
            assert_eq!(left(), 1);
            let error = intake.write(b"x").unwrap_err();
            assert_eq!(error.code(), "attachment_too_large");
            drop(intake);
            assert_eq!(left(), 0);
        }
    }
}

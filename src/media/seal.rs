//! Encrypts what is to be uploaded, from file to file.
//!
//! Invariant: memory does not grow with the file, and what comes out is what is uploaded, byte for byte, however often
//! an upload begins anew: the key is drawn once, here.

use std::io::{self, BufWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use wacore::download::MediaType;
use wacore::upload::{EncryptedMediaInfo, encrypt_media_streaming};

use super::stage::{StageError, StageWriter, Staged, Staging};

/// Bytes that are written at once; the encryption gives them out by the sixteen.
const BLOCK: usize = 64 << 10;

/// Why a file could not be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The encrypted file cannot be written.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The file cannot be read, or there was no time left for it.
    #[error("the attachment cannot be encrypted: {0}; check the disk")]
    Failed(anyhow::Error),
}

impl SealError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stage(error) => error.code(),
            Self::Failed(_) => "store_failed",
        }
    }
}

/// Encrypts `plain` as WhatsApp wants media of this type, into a new staged file. Blocks; ends soon after `stop` is set.
///
/// # Errors
/// When it cannot be read or written, or was stopped.
pub fn seal(
    plain: impl Read,
    staging: &Staging,
    media: MediaType,
    stop: &AtomicBool,
) -> Result<(Staged, EncryptedMediaInfo), SealError> {
    let mut sealing = Sealing {
        // What is too large was found to be so before it was encrypted; the encryption hashes.
        to: staging.create_unhashed()?,
        failed: None,
    };
    let plain = Stoppable { plain, stop };
    let to = BufWriter::with_capacity(BLOCK, &mut sealing);
    match (encrypt_media_streaming(plain, to, media), sealing.failed) {
        (Ok(info), None) => Ok((sealing.to.finish_as(info.file_enc_sha256), info)),
        (_, Some(error)) => Err(error.into()),
        (Err(error), None) => Err(SealError::Failed(error)),
    }
}

/// A staged file as the encryption writes it.
struct Sealing {
    to: StageWriter,
    /// What went wrong, in its own words.
    failed: Option<StageError>,
}

impl Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.to.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Stoppable<'a, R> {
    plain: R,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("there is no time left for it")),
            false => self.plain.read(buffer),
        }
    }
}

//! Encrypts what is to be uploaded, from file to file.
//!
//! Invariants: memory does not grow with the file; what comes out is what is uploaded, byte for byte, however often an
//! upload begins anew: the key is drawn once, here. It is what the library's `encrypt_media_streaming` would make of it
//! with that key (a test holds the two together). That one goes through a file in pieces of 16 bytes, on one thread;
//! here blocks are hashed by who brings them, encrypted in their place on one thread, and authenticated, hashed and
//! written on another. What is broken off leaves nothing: a file has its end only if its reader says so.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use aes::Aes256;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{Array, BlockModeEncrypt, KeyIvInit};
use sha2::{Digest, Sha256};
use wacore::download::{DownloadUtils, MediaType};
use wacore::libsignal::crypto::CryptographicMac;
use wacore::upload::EncryptedMediaInfo;

use super::stage::{StageError, StageWriter, Staged, Staging};

/// Bytes that are encrypted at once; of the cipher's blocks a whole number.
const BLOCK: usize = 64 << 10;
/// Blocks that wait to be encrypted, and encrypted ones that wait to be written: what one thread does in a scheduler's turn of
/// some milliseconds, so that no other stands still where two of them share a core.
const AHEAD: usize = 32;
/// Bytes of the cipher's block.
const CIPHER: usize = 16;
/// Bytes of an authentication code, of the file at its end as of a piece in the sidecar.
const CODE: usize = 10;
/// Bytes of the encrypted file that a code of the sidecar is for, besides those that it shares with the next one.
const PIECE: usize = 64 << 10;

/// Why a file could not be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The encrypted file cannot be written.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The file cannot be read.
    #[error("the attachment cannot be encrypted: {0}; check the disk")]
    Failed(anyhow::Error),
}

impl From<io::Error> for SealError {
    fn from(error: io::Error) -> Self {
        failed(error)
    }
}

fn failed(why: impl std::fmt::Display) -> SealError {
    SealError::Failed(anyhow::anyhow!("{why}"))
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

/// Encrypts `plain` as WhatsApp wants media of this type, into a new staged file. Blocks.
///
/// # Errors
/// When it cannot be read or written.
pub fn seal(
    mut plain: impl Read,
    staging: &Staging,
    media: MediaType,
) -> Result<(Staged, EncryptedMediaInfo), SealError> {
    let mut sealer = Sealer::begin(staging, media)?;
    while sealer.fill(&mut plain)? {}
    sealer.finish()
}

/// A file that is encrypted as it comes. Dropped, it is gone.
pub struct Sealer {
    /// None once no more comes.
    to: Option<SyncSender<Block>>,
    threads: Option<Threads>,
    /// What does not make up a block yet.
    block: Block,
    /// Of the blocks that are on their way.
    hash: Sha256,
    length: u64,
    media_key: [u8; 32],
}

/// The threads that encrypt and that write.
struct Threads {
    encrypting: JoinHandle<Result<(), SealError>>,
    writing: JoinHandle<Result<Written, SealError>>,
}

/// The file, its hash and its sidecar.
type Written = (Staged, [u8; 32], Option<Vec<u8>>);

/// A block of the file, or less than one, which is its end.
type Block = Vec<u8>;

impl Sealer {
    /// Begins a new staged file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn begin(staging: &Staging, media: MediaType) -> Result<Self, SealError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(failed)?;
        Self::begin_with(key, staging, media)
    }

    fn begin_with(
        media_key: [u8; 32],
        staging: &Staging,
        media: MediaType,
    ) -> Result<Self, SealError> {
        let keys = DownloadUtils::get_media_keys(&media_key, media).map_err(SealError::Failed)?;
        let (iv, cipher_key, mac_key) = keys;
        let sealing = Sealing {
            to: staging.create()?,
            hash: Sha256::new(),
            mac: mac(&mac_key, &iv)?,
            sidecar: matches!(media, MediaType::Audio | MediaType::Video).then(|| Sidecar {
                mac_key,
                piece: Vec::with_capacity(PIECE + CIPHER),
                codes: Vec::new(),
            }),
        };
        let cipher = Encryptor::new(&cipher_key.into(), &iv.into());
        let (to, plain) = sync_channel(AHEAD);
        let (blocks, encrypted) = sync_channel(AHEAD);
        let thread = thread::Builder::new;
        let writing = thread().spawn(move || sealing.take(encrypted))?;
        let encrypting = thread().spawn(move || encrypt(plain, cipher, blocks))?;
        Ok(Self {
            to: Some(to),
            threads: Some(Threads {
                encrypting,
                writing,
            }),
            block: Vec::with_capacity(BLOCK),
            hash: Sha256::new(),
            length: 0,
            media_key,
        })
    }

    /// Appends.
    ///
    /// # Errors
    /// When what came before could not be encrypted or written.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), SealError> {
        while !bytes.is_empty() {
            let room = BLOCK - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.pass_on()?;
            }
        }
        Ok(())
    }

    /// Appends a block, or what there is until the end; false at the end.
    fn fill(&mut self, mut plain: impl Read) -> Result<bool, SealError> {
        let room = BLOCK - self.block.len();
        let mut some = plain.by_ref().take(room as u64);
        if some.read_to_end(&mut self.block)? < room {
            return Ok(false);
        }
        self.pass_on()?;
        Ok(true)
    }

    fn pass_on(&mut self) -> Result<(), SealError> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.hash.update(&block);
        self.length += block.len() as u64;
        match self.to.as_ref().map(|to| to.send(block)) {
            Some(Ok(())) => Ok(()),
            _ => Err(match self.end() {
                Err(error) => error,
                Ok(_) => failed("it was at its end"),
            }),
        }
    }

    /// The encrypted file, its key and hashes.
    ///
    /// # Errors
    /// When something could not be encrypted or written.
    pub fn finish(mut self) -> Result<(Staged, EncryptedMediaInfo), SealError> {
        self.pass_on()?;
        let (staged, file_enc_sha256, streaming_sidecar) = self.end()?;
        let info = EncryptedMediaInfo {
            media_key: self.media_key,
            file_sha256: self.hash.finalize_reset().into(),
            file_enc_sha256,
            file_length: self.length,
            streaming_sidecar,
        };
        Ok((staged, info))
    }

    /// Waits for both threads. What stops the writing stops the encryption too.
    fn end(&mut self) -> Result<Written, SealError> {
        self.to = None;
        let threads = self.threads.take().ok_or_else(|| failed("it has ended"))?;
        let encrypted = threads.encrypting.join();
        let written = threads.writing.join();
        let panicked = |_| failed("a thread of it has failed");
        let written = written.map_err(panicked)??;
        encrypted.map_err(panicked)??;
        Ok(written)
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        // The file is gone when this is.
        let _ = self.end();
    }
}

/// Encrypts what comes. Its end is a block that is not full.
fn encrypt(
    plain: Receiver<Block>,
    mut cipher: Encryptor<Aes256>,
    to: SyncSender<Block>,
) -> Result<(), SealError> {
    let unwritten = |_| failed("it cannot be written");
    for mut block in plain {
        let length = block.len();
        if length == BLOCK {
            cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut block).0);
            to.send(block).map_err(unwritten)?;
            continue;
        }
        block.resize(length + CIPHER - length % CIPHER, 0);
        let padded = cipher.encrypt_padded::<Pkcs7>(&mut block, length);
        padded.map_err(failed)?;
        to.send(block).map_err(unwritten)?;
        return to.send(Vec::new()).map_err(unwritten);
    }
    Err(failed("it was broken off"))
}

/// An encrypted file that is being written.
struct Sealing {
    to: StageWriter,
    hash: Sha256,
    mac: CryptographicMac,
    sidecar: Option<Sidecar>,
}

impl Sealing {
    /// Writes what comes, and the code of it all; the file, its hash and its sidecar. Its end is an empty block.
    fn take(mut self, encrypted: Receiver<Block>) -> Result<Written, SealError> {
        for block in encrypted {
            if block.is_empty() {
                let code = code(&mut self.mac)?;
                self.append(&code)?;
                let sidecar = self.sidecar.map(Sidecar::finish).transpose()?;
                return Ok((self.to.finish(), self.hash.finalize().into(), sidecar));
            }
            self.mac.update(&block);
            self.append(&block)?;
        }
        Err(failed("it was broken off"))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SealError> {
        self.hash.update(bytes);
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.append(bytes)?;
        }
        Ok(self.to.write(bytes)?)
    }
}

/// The codes of the encrypted file's pieces, by which a player checks what it has so far. Each piece goes on for one
/// block of the cipher into the next.
struct Sidecar {
    mac_key: [u8; 32],
    piece: Vec<u8>,
    codes: Vec<u8>,
}

impl Sidecar {
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), SealError> {
        while !bytes.is_empty() {
            let room = PIECE + CIPHER - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if now.len() == room {
                self.code()?;
                self.piece.drain(..PIECE);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, SealError> {
        if !self.piece.is_empty() {
            self.code()?;
        }
        Ok(self.codes)
    }

    fn code(&mut self) -> Result<(), SealError> {
        let code = code(&mut mac(&self.mac_key, &self.piece)?)?;
        self.codes.extend_from_slice(&code);
        Ok(())
    }
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> Result<CryptographicMac, SealError> {
    let mac = CryptographicMac::new("HmacSha256", key);
    let mut mac = mac.map_err(failed)?;
    mac.update(bytes);
    Ok(mac)
}

fn code(mac: &mut CryptographicMac) -> Result<[u8; CODE], SealError> {
    let whole = mac.finalize_sha256_array();
    let whole = whole.map_err(failed)?;
    Ok(std::array::from_fn(|n| whole[n]))
}

#[cfg(test)]
mod tests {
    use wacore::upload::encrypt_media_streaming_with_key;

    use super::*;

    #[test]
    fn it_is_what_the_library_makes_of_it() {
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let edges = [0, 1, 15, 16, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 16];
        let pieces = [PIECE - 26, PIECE - 25, PIECE - 10, PIECE + 6, 5 * PIECE + 7];
        for length in edges.into_iter().chain(pieces) {
            let mut plain = vec![0; length];
            fastrand::fill(&mut plain);
            for kind in [MediaType::Document, MediaType::Video] {
                let mut expected = Vec::new();
                let said = encrypt_media_streaming_with_key(
                    &plain[..],
                    &mut expected,
                    kind,
                    Some(&[7; 32]),
                    None,
                );
                let said = said.unwrap();
                let mut sealer = Sealer::begin_with([7; 32], &staging, kind).unwrap();
                for some in plain.chunks(BLOCK - 1) {
                    sealer.write(some).unwrap();
                }
                let (mut file, info) = sealer.finish().unwrap();
                let mut written = Vec::new();
                file.open().unwrap().read_to_end(&mut written).unwrap();
                assert!(written == expected, "{length}");
                assert_eq!(info.file_sha256, said.file_sha256, "{length}");
                assert_eq!(info.file_enc_sha256, said.file_enc_sha256, "{length}");
                assert_eq!(info.file_length, said.file_length, "{length}");
                assert_eq!(info.streaming_sidecar, said.streaming_sidecar, "{length}");
                assert_eq!(file.size(), written.len() as u64);
            }
        }
        let key = || {
            let sealed = seal(&b"x"[..], &staging, MediaType::Image);
            sealed.unwrap().1.media_key
        };
        assert_ne!(key(), key());
    }

    #[test]
    fn what_is_stopped_or_cannot_be_read_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let media = tempfile::tempdir().unwrap();
        let staging = Staging::open(media.path()).unwrap();
        let sealed = seal(Broken, &staging, MediaType::Image);
        let error = sealed.err().unwrap().to_string();
        assert!(error.contains("broken"), "{error}");
        staging.stop();
        let sealed = seal(io::repeat(1), &staging, MediaType::Image);
        assert_eq!(sealed.err().unwrap().code(), "attachment_not_ready");
        let folder = media.path().join("staged");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1, "the lock");
    }
}

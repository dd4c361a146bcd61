//! Files that go out: which of them messages still wait for, and what was uploaded lately.
//!
//! Invariants: a file is its message's from the commit that enters the message, and nobody's once it was uploaded, or
//! the message is settled; a message that needs a file names it, so that no message goes without its file. A file that
//! is not noted as synced may be gone after a power cut; until it is noted nobody was told that its message waits.
//! What was uploaded is used again only while WhatsApp surely has it.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Pending, RequestId, Store, Tx};

/// What was uploaded is used again for this long, seconds. WhatsApp keeps it for some weeks.
const FRESH: i64 = 7 * 24 * 3600;

/// The name of a file in the account's folder of staged files. Nothing in it leads out of that folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StagedName(String);

impl StagedName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StagedName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let sound = (1..=128).contains(&name.len()) && name.bytes().all(plain);
        match sound && !name.starts_with('.') {
            true => Ok(Self(name)),
            false => Err("a staged file has a plain name".to_owned()),
        }
    }
}

impl From<StagedName> for String {
    fn from(name: StagedName) -> Self {
        name.0
    }
}

/// A file as WhatsApp has it: what a message says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// SHA-256 of the content.
    pub sha256: Vec<u8>,
    /// What it was encrypted as: `image`, `video`, `audio`, `document`, `sticker`.
    pub media: String,
    /// Where it is.
    pub url: String,
    /// The same without a host.
    pub direct_path: String,
    /// What it is encrypted with.
    pub media_key: Vec<u8>,
    /// When that key was made, Unix seconds.
    pub keyed: i64,
    /// SHA-256 of what was uploaded.
    pub enc_sha256: Vec<u8>,
    /// Bytes of content.
    pub length: u64,
    /// Hashes of its pieces, of audio and video.
    pub sidecar: Option<Vec<u8>>,
}

/// A message that waits for a file which may have gone in a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsynced {
    /// The request that it belongs to.
    pub request: RequestId,
    /// The `wa::Message`, encoded.
    pub payload: Vec<u8>,
    /// The file.
    pub file: StagedName,
}

impl Store {
    /// Content that was uploaded within the last days, encrypted as `media`.
    pub fn uploaded(&self, sha256: Vec<u8>, media: String, now: i64) -> Pending<Option<Uploaded>> {
        self.look(move |tx| {
            tx.prepare_cached(
                "SELECT url, direct_path, media_key, keyed, enc_sha256, length, sidecar FROM uploaded
                 WHERE sha256 = ?1 AND media = ?2 AND at > ?3",
            )?
            .query_row(params![sha256, media, now.saturating_sub(FRESH)], |row| {
                Ok(Uploaded {
                    url: row.get(0)?,
                    direct_path: row.get(1)?,
                    media_key: row.get(2)?,
                    keyed: row.get(3)?,
                    enc_sha256: row.get(4)?,
                    length: row.get::<_, i64>(5)?.unsigned_abs(),
                    sidecar: row.get(6)?,
                    sha256: sha256.clone(),
                    media: media.clone(),
                })
            })
            .optional()
        })
    }

    /// A message's file is uploaded: from now on the message is `payload`, and needs its file no more.
    pub fn mark_uploaded(
        &self,
        message_id: String,
        payload: Vec<u8>,
        uploaded: Uploaded,
        now: i64,
    ) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached("UPDATE part SET payload = ?2, file = NULL WHERE message_id = ?1")?
                .execute(params![message_id, payload])?;
            // The older one stays if it is the same; else the newer one lives longer.
            tx.prepare_cached(
                "INSERT INTO uploaded (sha256, media, at, url, direct_path, media_key, keyed, enc_sha256, length, sidecar)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (sha256, media) DO UPDATE SET at = excluded.at, url = excluded.url,
                    direct_path = excluded.direct_path, media_key = excluded.media_key, keyed = excluded.keyed,
                    enc_sha256 = excluded.enc_sha256, length = excluded.length, sidecar = excluded.sidecar
                 WHERE uploaded.enc_sha256 <> excluded.enc_sha256",
            )?
            .execute(params![
                uploaded.sha256,
                uploaded.media,
                now,
                uploaded.url,
                uploaded.direct_path,
                uploaded.media_key,
                uploaded.keyed,
                uploaded.enc_sha256,
                uploaded.length.cast_signed(),
                uploaded.sidecar
            ])?;
            Ok(())
        })
    }

    /// Whether a message is still to go.
    pub fn still_waits(&self, message_id: String) -> Pending<bool> {
        self.look(move |tx| {
            tx.prepare_cached("SELECT 1 FROM part WHERE message_id = ?1 AND open = 1")?
                .exists([message_id])
        })
    }

    /// The files that messages which may still go wait for.
    pub fn files_awaited(&self) -> Pending<Vec<StagedName>> {
        self.submit(|tx| files(tx, true))
    }

    /// The files that messages which may still go wait for are on the disk.
    pub fn files_synced(&self, names: Vec<StagedName>) -> Pending<()> {
        self.submit(move |tx| {
            for name in names {
                tx.prepare_cached("UPDATE part SET synced = 1 WHERE file = ?1 AND open = 1")?
                    .execute([name.as_str()])?;
            }
            Ok(())
        })
    }

    /// The messages that wait for files which may have gone in a power cut.
    pub fn not_synced(&self) -> Pending<Vec<Unsynced>> {
        self.submit(|tx| {
            tx.prepare_cached(
                "SELECT request, payload, file FROM part
                 WHERE file IS NOT NULL AND open = 1 AND synced = 0 AND payload IS NOT NULL",
            )?
            .query_map([], |row| {
                let (request, payload, file) = (row.get(0)?, row.get(1)?, row.get::<_, String>(2)?);
                let request = RequestId(request);
                let file = file.try_into().ok();
                Ok(file.map(|file| Unsynced {
                    request,
                    payload,
                    file,
                }))
            })?
            .filter_map(Result::transpose)
            .collect()
        })
    }

    /// The files of messages that will not go: they may be removed, and then [let go](Self::files_removed).
    pub fn files_left(&self) -> Pending<Vec<StagedName>> {
        self.submit(|tx| files(tx, false))
    }

    /// Notes that the files of [`files_left`](Self::files_left) are removed.
    pub fn files_removed(&self, names: Vec<StagedName>) -> Pending<()> {
        self.submit(move |tx| {
            for name in names {
                tx.prepare_cached("UPDATE part SET file = NULL WHERE file = ?1 AND open = 0")?
                    .execute([name.as_str()])?;
            }
            Ok(())
        })
    }
}

fn files(tx: &Tx<'_>, open: bool) -> rusqlite::Result<Vec<StagedName>> {
    let names: Vec<String> = tx
        .prepare_cached("SELECT file FROM part WHERE file IS NOT NULL AND open = ?1")?
        .query_map([open], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    // What is no plain name was never written by us, and is nobody's to remove.
    Ok(names
        .into_iter()
        .filter_map(|name| name.try_into().ok())
        .collect())
}

/// Lets go what is no longer used again; how much it was.
pub(super) fn forget(tx: &Tx<'_>, now: i64) -> rusqlite::Result<usize> {
    tx.prepare_cached("DELETE FROM uploaded WHERE at <= ?1")?
        .execute([now.saturating_sub(FRESH)])
}

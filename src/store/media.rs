//! What is known of the media that people sent: where WhatsApp keeps each, how far its download got, and which files
//! are on the shelf.
//!
//! An attachment is a message's word for a file; a medium is a file that is really there, once however many messages
//! carry it. Invariants: a file counts as a message's only after that message's own path and key have led to it, or
//! the very same encrypted file has been verified before: for a hash that somebody has merely written into a message
//! no event is told of a file, and no key leads to one. What was downloaded is entered here after it is whole in its
//! place, and taken out before it is removed there.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use super::inbox::RowId;
use super::peers::address;
use super::remains::forget;
use super::{KeptFile, Pending, Store, Tx};
use crate::identity::Address;
use crate::inbound::{AttachmentMeta, MediaSource};

/// SHA-256 of a plain file, by which it is known.
pub type ContentHash = [u8; 32];

/// Names an attachment to those who are told of it: drawn, so that nobody else knows it.
pub type AttachmentToken = [u8; 16];

/// How far an attachment's download got. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetching {
    /// Nobody has asked for it.
    Known = 0,
    /// It is to be fetched, now or later.
    Wanted = 1,
    /// It was fetched and verified.
    Here = 2,
    /// It is not tried again by itself.
    Failed = 3,
}

/// An attachment as its event tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its place among the message's attachments.
    pub nth: usize,
    /// What its storage key says. None in a row that a repair took from an older file.
    pub token: Option<AttachmentToken>,
    /// Bytes, as the sender declared them.
    pub size: Option<u64>,
    /// To be seen once.
    pub view_once: bool,
    /// How far it got.
    pub fetching: Fetching,
    /// The code of what went wrong last.
    pub reason: Option<String>,
    /// Where the file is. None for one that was here and has been let go.
    pub place: Option<String>,
}

/// Key of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttachmentId(i64);

#[cfg(test)]
impl AttachmentId {
    pub fn new(id: i64) -> Self {
        Self(id)
    }
}

/// An attachment to fetch.
#[derive(Debug, Clone)]
pub struct ToFetch {
    /// Its row.
    pub id: AttachmentId,
    /// What its storage key says.
    pub token: Option<AttachmentToken>,
    /// Where it is and what it must be.
    pub source: MediaSource,
    /// `image`, `video`, `audio`, `document` or `sticker`: what the file is encrypted as.
    pub kind: String,
    /// As the sender declared it.
    pub mime_type: Option<String>,
    /// Bytes, as the sender declared them.
    pub size: Option<u64>,
    /// How often it was tried.
    pub attempts: u32,
    /// The code of what went wrong last.
    pub reason: Option<String>,
    /// The chat, as the message's stanza had it.
    pub chat: Address,
    /// In groups its sender, as the message's stanza had them.
    pub author: Option<Address>,
    /// The stanza id of the message.
    pub stanza_id: String,
}

/// An attachment whose file is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// Its content.
    pub sha256: ContentHash,
    /// Where it is; see [`crate::media::depot`].
    pub place: String,
    /// Bytes.
    pub size: u64,
    /// `image`, `video`, `audio`, `document` or `sticker`.
    pub kind: String,
    /// As its sender declared it.
    pub mime_type: Option<String>,
    /// The file name that its sender gave it; a name for people, never a path.
    pub name: Option<String>,
    /// To be seen once.
    pub view_once: bool,
}

/// An attachment whose file is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// How far it got.
    pub fetching: Fetching,
    /// Why it is not here, as far as that is known.
    pub reason: Option<String>,
    /// Bytes, as the sender declared them.
    pub size: Option<u64>,
    /// To be seen once.
    pub view_once: bool,
}

/// What a storage key of this account leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A file.
    Here(Medium),
    /// One that is not here.
    NotHere(Lacking),
}

/// The columns of a [`ToFetch`], of `attachment a JOIN inbox i`.
const TO_FETCH: &str = "a.id, a.sha256, a.direct_path, a.key, a.enc_sha256, a.view_once, a.kind, a.mime_type, a.size, a.attempts, \
     i.route, a.author, i.stanza, a.token, a.reason";

/// Whether an attachment is the very same encrypted file as the attachment `o`: whoever has its key has the file. What is
/// not encrypted (newsletters) is the same only at the same path.
const SAME: &str = "o.sha256 = attachment.sha256 AND o.key IS attachment.key AND o.enc_sha256 IS attachment.enc_sha256
     AND (o.key IS NOT NULL OR o.direct_path = attachment.direct_path)";

impl Store {
    /// Asks for those of a message's attachments, by their places in it, that nobody has asked for. What is known to be
    /// the same encrypted file as one that is here is here at once. For the rest each chat has its turn: a file comes
    /// after those of its chat, and beside the first of others, however many they have (start-time fair queueing).
    pub fn want_media(&self, message: RowId, files: Vec<usize>, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            for nth in files {
                let here = tx
                    .prepare_cached(&format!(
                        "UPDATE attachment SET state = 2, reason = NULL WHERE message = ?1 AND nth = ?2 AND state = 0 AND EXISTS (
                            SELECT 1 FROM attachment o JOIN media m ON m.sha256 = o.sha256 WHERE o.state = 2 AND {SAME})"
                    ))?
                    .execute([message.0, nth as i64])?;
                if here > 0 {
                    tx.prepare_cached(
                        "UPDATE media SET at = max(at, ?3)
                         WHERE sha256 = (SELECT sha256 FROM attachment WHERE message = ?1 AND nth = ?2)",
                    )?
                    .execute([message.0, nth as i64, now])?;
                    tx.inbound_changed();
                }
                tx.prepare_cached(
                    "UPDATE attachment SET state = 1, next = ?3, turn = max(
                        coalesce((SELECT o.turn FROM attachment o WHERE o.state = 1 AND o.turn >= 0 AND +o.next <= ?3
                            ORDER BY o.turn LIMIT 1), 0),
                        coalesce((SELECT o.turn + 1 FROM attachment o WHERE o.state = 1 AND o.chat = attachment.chat
                            AND +o.next <= ?3 ORDER BY o.turn DESC LIMIT 1), 0))
                     WHERE message = ?1 AND nth = ?2 AND state = 0",
                )?
                .execute([message.0, nth as i64, now])?;
            }
            tx.media_changed();
            Ok(())
        })
    }

    /// Asks for the file of one attachment before all others, whatever became of it before, unless it is here; none if
    /// no admitted message carries it.
    pub fn want_attachment(
        &self,
        token: AttachmentToken,
        now: i64,
    ) -> Pending<Option<AttachmentId>> {
        self.submit(move |tx| {
            let found = tx
                .prepare_cached("SELECT id FROM attachment WHERE token = ?1")?
                .query_row([token], |row| row.get(0))
                .optional()?;
            let Some(id) = found else { return Ok(None) };
            tx.prepare_cached(
                "UPDATE attachment SET state = 1, reason = NULL, attempts = 0, next = ?2, turn = -1 WHERE id = ?1
                 AND NOT (state = 2 AND EXISTS (SELECT 1 FROM media m WHERE m.sha256 = attachment.sha256))",
            )?
            .execute(params![id, now])?;
            tx.media_changed();
            Ok(Some(AttachmentId(id)))
        })
    }

    /// Where a content is kept already.
    pub fn media_place(&self, sha256: ContentHash) -> Pending<Option<String>> {
        self.submit(move |tx| {
            tx.prepare_cached("SELECT place FROM media WHERE sha256 = ?1")?
                .query_row([sha256], |row| row.get(0))
                .optional()
        })
    }

    /// How far an attachment got, and what went wrong last.
    pub fn fetching(&self, id: AttachmentId) -> Pending<Option<(Fetching, Option<String>)>> {
        self.submit(move |tx| {
            tx.prepare_cached("SELECT state, reason FROM attachment WHERE id = ?1")?
                .query_row([id.0], |row| Ok((fetching(row.get(0)?), row.get(1)?)))
                .optional()
        })
    }

    /// What is to be fetched by now, those whose turn is first before the rest.
    pub fn media_to_fetch(&self, limit: usize, now: i64) -> Pending<Vec<ToFetch>> {
        self.submit(move |tx| {
            tx.prepare_cached(&format!(
                "SELECT {TO_FETCH} FROM attachment a JOIN inbox i ON i.id = a.message
                 WHERE a.state = 1 AND +a.next <= ?1 ORDER BY a.turn, a.id LIMIT ?2"
            ))?
            .query_map([now, limit as i64], to_fetch)?
            .collect()
        })
    }

    /// When something will be to be fetched that is not by now, Unix seconds.
    pub fn next_fetch(&self, now: i64) -> Pending<Option<i64>> {
        self.submit(move |tx| {
            tx.prepare_cached("SELECT min(next) FROM attachment WHERE state = 1 AND next > ?1")?
                .query_row([now], |row| row.get(0))
        })
    }

    /// Enters a file that is whole in its place, for this attachment and for all that are the same encrypted file.
    /// The place of the file: where it was put first, if that was elsewhere; none at all if no row knows of it.
    pub fn media_here(
        &self,
        id: AttachmentId,
        place: String,
        size: u64,
        now: i64,
    ) -> Pending<String> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "INSERT INTO media (sha256, place, size, kind, mime_type, name, at)
                 SELECT sha256, ?2, ?3, kind, mime_type, name, ?4 FROM attachment WHERE id = ?1
                 ON CONFLICT (sha256) DO UPDATE SET at = max(at, excluded.at)",
            )?
            .execute(params![id.0, place, size.cast_signed(), now])?;
            tx.prepare_cached(&format!(
                "UPDATE attachment SET state = 2, reason = NULL, direct_path = o.direct_path FROM attachment o WHERE o.id = ?1 AND {SAME}
                 AND (attachment.state IN (1, 3) OR attachment.id = o.id)",
            ))?
            .execute([id.0])?;
            tx.inbound_changed();
            tx.media_changed();
            // Nobody asks any more for what a message carried that has fallen out meanwhile, but the same content may have
            // come with another.
            let place = tx
                .prepare_cached(
                    "SELECT place FROM media WHERE place = ?2 OR sha256 = (SELECT sha256 FROM attachment WHERE id = ?1)",
                )?
                .query_row(params![id.0, place], |row| row.get(0))
                .optional()?;
            let place: String = place.unwrap_or_default();
            forget(tx, &place)?;
            Ok(place)
        })
    }

    /// Notes that its bytes are about to come: that is one of its attempts, even if this process does not see it end.
    pub fn media_begins(&self, id: AttachmentId) -> Pending<()> {
        self.submit_patient(move |tx| {
            tx.prepare_cached(
                "UPDATE attachment SET attempts = attempts + 1 WHERE id = ?1 AND state = 1",
            )?
            .execute([id.0])?;
            Ok(())
        })
    }

    /// Leaves it alone until then, whatever becomes of what is done for it now.
    pub fn media_rests(&self, id: AttachmentId, next: i64) -> Pending<()> {
        self.submit_patient(move |tx| {
            tx.prepare_cached("UPDATE attachment SET next = ?2 WHERE id = ?1 AND state = 1")?
                .execute([id.0, next])?;
            Ok(())
        })
    }

    /// Notes that it did not work: to be tried again at `next`, or not by itself; and how many attempts more it has had.
    /// With -1 the one that was noted as begun is none.
    pub fn media_not_here(
        &self,
        id: AttachmentId,
        reason: String,
        next: Option<i64>,
        more: i64,
    ) -> Pending<()> {
        self.submit(move |tx| {
            let state = match next {
                Some(_) => Fetching::Wanted,
                None => Fetching::Failed,
            };
            tx.prepare_cached(
                "UPDATE attachment SET state = ?2, reason = ?3, next = ?4, attempts = max(attempts + ?5, 0)
                 WHERE id = ?1 AND state = 1",
            )?
            .execute(params![id.0, state as i64, reason, next.unwrap_or_default(), more])?;
            tx.inbound_changed();
            tx.media_changed();
            Ok(())
        })
    }

    /// Notes of all that is due by `now` why nothing can be begun before `next`; but of those that are under way, and of
    /// those that somebody asked for by name, who is told of his own alone.
    pub fn media_waits(
        &self,
        reason: String,
        now: i64,
        next: i64,
        under_way: HashSet<AttachmentId>,
    ) -> Pending<()> {
        self.submit(move |tx| {
            let under_way: serde_json::Value = under_way.into_iter().map(|id| id.0).collect();
            // There may be thousands, and messages wait behind this.
            tx.prepare_cached(
                "UPDATE attachment SET reason = ?2, next = ?3 WHERE state = 1 AND turn >= 0 AND +next <= ?1
                 AND id NOT IN (SELECT value FROM json_each(?4))",
            )?
            .execute(params![now, reason, next, under_way.to_string()])?;
            tx.inbound_changed();
            tx.media_changed();
            Ok(())
        })
    }

    /// The phone has uploaded it again, under this path. It is to be fetched from there.
    pub fn media_moved(&self, id: AttachmentId, direct_path: String, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached(&format!(
                "UPDATE attachment SET direct_path = ?2 FROM attachment o WHERE o.id = ?1 AND {SAME}",
            ))?
            .execute(params![id.0, direct_path])?;
            tx.prepare_cached(
                "UPDATE attachment SET reason = NULL, next = ?2 WHERE id = ?1 AND state = 1",
            )?
            .execute([id.0, now])?;
            tx.media_changed();
            Ok(())
        })
    }

    /// What this account has of an attachment; none if no admitted message carries it.
    pub fn held(&self, token: AttachmentToken) -> Pending<Option<Held>> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "SELECT a.state, a.reason, m.place, m.size, a.sha256, a.kind, a.mime_type, a.name, a.view_once, a.size
                 FROM attachment a LEFT JOIN media m ON m.sha256 = a.sha256 AND a.state = 2 WHERE a.token = ?1",
            )?
            .query_row([token], |row| {
                let place: Option<String> = row.get(2)?;
                let view_once = row.get(8)?;
                Ok(match place {
                    None => Held::NotHere(Lacking {
                        fetching: fetching(row.get(0)?),
                        reason: row.get(1)?,
                        size: size(row.get(9)?),
                        view_once,
                    }),
                    Some(place) => Held::Here(Medium {
                        place,
                        size: size(row.get(3)?).unwrap_or_default(),
                        sha256: row.get(4)?,
                        kind: row.get(5)?,
                        mime_type: row.get(6)?,
                        name: row.get(7)?,
                        view_once,
                    }),
                })
            })
            .optional()
        })
    }
}

/// Enters what a message that is new carries; `author` is who sent it to a group.
pub(super) fn insert(
    tx: &Tx<'_>,
    message: i64,
    author: Option<&Address>,
    files: &[AttachmentMeta],
) -> rusqlite::Result<()> {
    for (nth, file) in files.iter().enumerate() {
        let Some(source) = &file.source else { continue };
        tx.prepare_cached(
            "INSERT INTO attachment (message, nth, sha256, kind, mime_type, name, size, direct_path, key, enc_sha256, view_once, author, token, chat)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, randomblob(16), chat FROM inbox WHERE id = ?1",
        )?
        .execute(params![
            message,
            nth as i64,
            source.sha256,
            file.kind,
            file.mime_type,
            file.name,
            file.size_bytes.and_then(|size| i64::try_from(size).ok()),
            source.direct_path,
            source.key,
            source.enc_sha256,
            source.view_once,
            author.map(Address::to_string),
        ])?;
    }
    Ok(())
}

/// What is known of the file that a message carries.
pub(super) fn kept_file(tx: &Tx<'_>, message: i64) -> rusqlite::Result<Option<KeptFile>> {
    tx.prepare_cached("SELECT direct_path, reason FROM attachment WHERE message = ?1 AND nth = 0")?
        .query_row([message], |row| {
            Ok(KeptFile {
                direct_path: row.get(0)?,
                reason: row.get(1)?,
            })
        })
        .optional()
}

/// What a message carries.
pub(super) fn attached(tx: &Tx<'_>, message: i64) -> rusqlite::Result<Vec<Attached>> {
    tx.prepare_cached(
        "SELECT a.nth, a.token, a.size, a.view_once, a.state, a.reason, m.place
         FROM attachment a LEFT JOIN media m ON m.sha256 = a.sha256 AND a.state = 2 WHERE a.message = ?1 ORDER BY a.nth",
    )?
    .query_map([message], |row| {
        Ok(Attached {
            nth: row.get::<_, i64>(0)?.unsigned_abs() as usize,
            token: row.get(1)?,
            size: size(row.get(2)?),
            view_once: row.get(3)?,
            fetching: fetching(row.get(4)?),
            reason: row.get(5)?,
            place: row.get(6)?,
        })
    })?
    .collect()
}

fn to_fetch(row: &Row<'_>) -> rusqlite::Result<ToFetch> {
    let author: Option<String> = row.get(11)?;
    Ok(ToFetch {
        id: AttachmentId(row.get(0)?),
        token: row.get(13)?,
        source: MediaSource {
            sha256: row.get(1)?,
            direct_path: row.get(2)?,
            key: row.get(3)?,
            enc_sha256: row.get(4)?,
            view_once: row.get(5)?,
        },
        kind: row.get(6)?,
        mime_type: row.get(7)?,
        size: size(row.get(8)?),
        attempts: row.get(9)?,
        reason: row.get(14)?,
        chat: address(row, 10)?,
        author: author.and_then(|author| author.parse().ok()),
        stanza_id: row.get(12)?,
    })
}

fn size(stored: Option<i64>) -> Option<u64> {
    stored.map(i64::unsigned_abs)
}

fn fetching(stored: i64) -> Fetching {
    match stored {
        0 => Fetching::Known,
        1 => Fetching::Wanted,
        2 => Fetching::Here,
        _ => Fetching::Failed,
    }
}

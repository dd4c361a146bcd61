//! How files leave the media store: too old, too many, gone already, or of nobody who may send any.
//!
//! Invariants: a file is taken out here before it is removed from its place; none is let go that an event needs which
//! nothing has proven handled, nor one because somebody merely claims it.

use super::media::ContentHash;
use super::{Pending, Store, Tx, remains};

/// What is to be kept at most. A file is as old as the last message that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files that came last before this, Unix seconds, are let go.
    pub before: i64,
    /// Bytes of all files.
    pub total: u64,
}

/// Files looked at in one step of letting go.
const STEP: i64 = 200;

impl Store {
    /// Takes out files that are not at their places any more, or are not what they were. What an event needs that nothing
    /// has proven handled is fetched again.
    pub fn media_lost(&self, places: Vec<String>) -> Pending<()> {
        self.submit(move |tx| {
            for place in places {
                tx.prepare_cached(
                    "UPDATE attachment SET state = 1, reason = NULL, attempts = 0, next = 0
                     WHERE sha256 = (SELECT sha256 FROM media WHERE place = ?1) AND state = 2
                     AND EXISTS (SELECT 1 FROM inbox i WHERE i.id = attachment.message AND i.state IN (0, 1, 4, 5))",
                )?
                .execute([&place])?;
                tx.prepare_cached("DELETE FROM media WHERE place = ?1")?
                    .execute([&place])?;
                remains::note(tx, &place)?;
            }
            tx.media_changed();
            Ok(())
        })
    }

    /// Takes out what is too old or too much, the oldest first, and never what an event needs that nothing has proven
    /// handled. The files at these places are the caller's to remove; whether there may be more.
    pub fn let_media_go(&self, bounds: Bounds) -> Pending<(Vec<String>, bool)> {
        self.submit(move |tx| {
            let total: i64 = tx
                .prepare_cached("SELECT coalesce(sum(size), 0) FROM media")?
                .query_row([], |row| row.get(0))?;
            let mut beyond = total - i64::try_from(bounds.total).unwrap_or(i64::MAX);
            let oldest: Vec<(ContentHash, String, i64, i64)> = tx
                .prepare_cached(
                    "SELECT m.sha256, m.place, m.size, m.at FROM media m WHERE (m.at < ?1 OR ?2 > 0)
                     AND NOT EXISTS (SELECT 1 FROM attachment a JOIN inbox i ON i.id = a.message
                        WHERE a.sha256 = m.sha256 AND i.state IN (0, 1, 4, 5))
                     ORDER BY m.at LIMIT ?3",
                )?
                .query_map([bounds.before, beyond, STEP], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let full_step = oldest.len() == STEP as usize;
            let mut gone = Vec::new();
            for (sha256, place, size, at) in oldest {
                if at >= bounds.before && beyond <= 0 {
                    break;
                }
                beyond -= size;
                tx.prepare_cached("DELETE FROM media WHERE sha256 = ?1")?
                    .execute([sha256])?;
                remains::note(tx, &place)?;
                gone.push(place);
            }
            let more = full_step && gone.len() == STEP as usize;
            Ok((gone, more))
        })
    }

    /// Takes out what only messages carried that were refused since. The files at these places are the caller's to
    /// remove.
    pub fn let_refused_media_go(&self) -> Pending<Vec<String>> {
        self.submit(|tx| {
            let gone: Vec<String> = tx
                .prepare_cached("DELETE FROM media WHERE at = ?1 RETURNING place")?
                .query_map([REFUSED], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for place in &gone {
                remains::note(tx, place)?;
            }
            Ok(gone)
        })
    }

    /// The places of all files, for finding files that nobody knows.
    pub fn places(&self) -> Pending<Vec<String>> {
        self.submit(|tx| {
            tx.prepare_cached("SELECT place FROM media ORDER BY at")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }
}

/// `at` of a file that only messages carried which were refused. Any other is later.
const REFUSED: i64 = i64::MIN;

/// Forgets what a message carried that was refused, and its file if no other message has it. To claim a file is not to have
/// it: what the refused one merely claims may be kept for a message that is forgotten by now.
pub(super) fn erase(tx: &Tx<'_>, message: i64) -> rusqlite::Result<()> {
    let refused = tx
        .prepare_cached(
            "UPDATE media SET at = ?2 WHERE sha256 IN (SELECT sha256 FROM attachment WHERE message = ?1 AND state = 2)
             AND NOT EXISTS (SELECT 1 FROM attachment o WHERE o.sha256 = media.sha256 AND o.state = 2 AND o.message <> ?1)",
        )?
        .execute([message, REFUSED])?;
    tx.prepare_cached("DELETE FROM attachment WHERE message = ?1")?
        .execute([message])?;
    if refused > 0 {
        tx.media_changed();
    }
    Ok(())
}

//! What may lie in an object store and belongs to no file: an upload that has not ended, an object that was let go.
//!
//! Invariant: whatever is put there is noted here before, and taken out in the commit that enters its file; what is let go
//! is noted in the commit that takes its file out. So a kill leaves nothing there that nobody knows of.

use rusqlite::params;

use super::{Pending, Store, Tx};
use crate::media::depot::is_object;

impl Store {
    /// Notes that an object is about to be put in this place, by the upload with this number if it goes in parts.
    pub fn media_goes(&self, place: String, upload: Option<String>) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached("INSERT OR REPLACE INTO remains (place, upload) VALUES (?1, ?2)")?
                .execute(params![place, upload])?;
            Ok(())
        })
    }

    /// The places of what belongs to no file, with the numbers of their uploads; those of uploads under way too.
    pub fn remains(&self) -> Pending<Vec<(String, Option<String>)>> {
        self.look(|tx| {
            tx.prepare_cached(
                "SELECT place, upload FROM remains r
                 WHERE NOT EXISTS (SELECT 1 FROM media m WHERE m.place = r.place)",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })
    }

    /// Notes that nothing is left in this place.
    pub fn remains_removed(&self, place: String) -> Pending<()> {
        self.submit(move |tx| forget(tx, &place))
    }
}

/// Notes that what is in this place belongs to nobody now; the same for a file on the shelf is found by the sweep.
pub(super) fn note(tx: &Tx<'_>, place: &str) -> rusqlite::Result<()> {
    if is_object(place) {
        tx.prepare_cached("INSERT OR IGNORE INTO remains (place) VALUES (?1)")?
            .execute([place])?;
    }
    Ok(())
}

/// What is in this place belongs to a file, or is gone.
pub(super) fn forget(tx: &Tx<'_>, place: &str) -> rusqlite::Result<()> {
    if is_object(place) {
        tx.prepare_cached("DELETE FROM remains WHERE place = ?1")?
            .execute([place])?;
    }
    Ok(())
}

//! What may lie in an object store and belongs to no file: an upload that has not ended, an object that was let go.
//!
//! Invariant: whatever is put there is noted here before; an object is taken out in the commit that enters its file, and
//! noted in the commit that takes its file out; an upload is taken out once it is known to be over. So a kill leaves nothing
//! there that nobody knows of.

use rusqlite::params;

use super::{Pending, Store, Tx};
use crate::media::depot::is_object;

/// An object, or what an upload in parts has left of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remnant {
    /// The URL of the object.
    pub place: String,
    /// The number of the upload; none for the object itself.
    pub upload: Option<String>,
}

impl Remnant {
    /// The object in this place.
    pub fn object(place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            upload: None,
        }
    }

    /// What the upload with this number has left of it.
    pub fn upload(place: impl Into<String>, upload: String) -> Self {
        Self {
            place: place.into(),
            upload: Some(upload),
        }
    }
}

/// What belongs to no file. An upload never does, even where the object of another one has its place.
const NO_FILE: &str =
    "(r.upload <> '' OR NOT EXISTS (SELECT 1 FROM media m WHERE m.place = r.place))";

impl Store {
    /// Notes what is about to be in an object store.
    pub fn media_goes(&self, what: Remnant) -> Pending<()> {
        self.take_remains(vec![what])
    }

    /// Notes what is, or may be, in an object store and belongs to no file of this database.
    pub fn take_remains(&self, remains: Vec<Remnant>) -> Pending<()> {
        self.submit(move |tx| remains.iter().try_for_each(|what| insert(tx, what)))
    }

    /// What belongs to no file; what is under way too.
    pub fn remains(&self) -> Pending<Vec<Remnant>> {
        self.look(|tx| {
            tx.prepare_cached(&format!(
                "SELECT place, upload FROM remains r WHERE {NO_FILE}"
            ))?
            .query_map([], |row| {
                let upload: String = row.get(1)?;
                Ok(Remnant {
                    place: row.get(0)?,
                    upload: Some(upload).filter(|upload| !upload.is_empty()),
                })
            })?
            .collect()
        })
    }

    /// Whether this still belongs to no file.
    pub fn remains_still(&self, what: Remnant) -> Pending<bool> {
        self.look(move |tx| {
            tx.prepare_cached(&format!(
                "SELECT 1 FROM remains r WHERE place = ?1 AND upload = ?2 AND {NO_FILE}"
            ))?
            .exists(params![what.place, what.upload.as_deref().unwrap_or("")])
        })
    }

    /// Notes that there is no such thing any more.
    pub fn remains_removed(&self, what: Remnant) -> Pending<()> {
        self.submit(move |tx| delete(tx, &what))
    }
}

/// Notes that the object in this place belongs to nobody now; the same for a file on the shelf is found by the sweep.
pub(super) fn note(tx: &Tx<'_>, place: &str) -> rusqlite::Result<()> {
    match is_object(place) {
        true => insert(tx, &Remnant::object(place)),
        false => Ok(()),
    }
}

/// The object in this place belongs to a file.
pub(super) fn forget(tx: &Tx<'_>, place: &str) -> rusqlite::Result<()> {
    match is_object(place) {
        true => delete(tx, &Remnant::object(place)),
        false => Ok(()),
    }
}

fn insert(tx: &Tx<'_>, what: &Remnant) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO remains (place, upload) VALUES (?1, ?2)")?
        .execute(params![what.place, what.upload.as_deref().unwrap_or("")])?;
    Ok(())
}

fn delete(tx: &Tx<'_>, what: &Remnant) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM remains WHERE place = ?1 AND upload = ?2")?
        .execute(params![what.place, what.upload.as_deref().unwrap_or("")])?;
    Ok(())
}

//! A look at the client library's database without opening it as the library does: no migration, no file created.
//! The columns are those of whatsapp-rust-sqlite-storage 0.7; `pn` and `lid` are empty while nothing is linked.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Linked, StoreError};

/// The account that the library's database at `path` is linked to; none if there is no such file, or nothing linked.
/// After a logout by the phone the row still names the account; see [`super::Store::terminal`].
pub fn linked_device(path: &Path) -> Result<Option<Linked>, StoreError> {
    // The file is made empty before the library fills it.
    if !std::fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        return Ok(None);
    }
    read(path).map_err(|error| StoreError::from_sqlite(path, &error))
}

fn read(path: &Path) -> rusqlite::Result<Option<Linked>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    let has_devices: bool = conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'device')",
        [],
        |row| row.get(0),
    )?;
    if !has_devices {
        return Ok(None);
    }
    let row: Option<(String, String, String)> = conn
        .query_row(
            "SELECT pn, lid, push_name FROM device WHERE pn <> '' LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    Ok(row.and_then(|(pn, lid, push_name)| {
        let device = pn
            .split_once('@')
            .and_then(|(user, _)| user.split_once(':'));
        Some(Linked {
            phone: pn.parse().ok()?,
            lid: lid.parse().ok(),
            device: device
                .and_then(|(_, device)| device.parse().ok())
                .unwrap_or_default(),
            push_name: Some(push_name).filter(|name| !name.is_empty()),
        })
    }))
}

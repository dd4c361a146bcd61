//! A look at the client library's database without opening it as the library does: no migration, no file created.
//! The columns are those of whatsapp-rust-sqlite-storage 0.7; `pn` and `lid` are empty while nothing is linked.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{Linked, StoreError, schema};

/// The latest migration that the library brings with it, its first 14 digits (2026-07-03, 000001); it neither reads nor refuses a file with later ones.
pub const SESSION_SCHEMA: i64 = 20_260_703_000_001;

/// The account that the library's database at `path` is linked to; none if there is no such file, or nothing linked.
/// After a logout by the phone the row still names the account; see [`super::Store::terminal`].
///
/// # Errors
/// Also when the file is damaged elsewhere, or a newer version of this program wrote it: then it is of no use.
pub fn linked_device(path: &Path) -> Result<Option<Linked>, StoreError> {
    // The file is made empty before the library fills it.
    let Some(length) = std::fs::metadata(path)
        .ok()
        .map(|file| file.len())
        .filter(|length| *length > 0)
    else {
        return Ok(None);
    };
    let failed = |error| StoreError::from_sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    let found = version(&conn).map_err(failed)?;
    if found > SESSION_SCHEMA {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found,
            known: SESSION_SCHEMA,
        });
    }
    schema::check(&conn, path, length)?;
    read(&conn).map_err(failed)
}

fn has_table(conn: &Connection, name: &str) -> rusqlite::Result<bool> {
    conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)",
        [name],
        |row| row.get(0),
    )
}

/// The latest migration that the file has been through. Its name begins with fourteen digits; some have more.
fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    if !has_table(conn, "__diesel_schema_migrations")? {
        return Ok(0);
    }
    conn.query_row(
        "SELECT coalesce(max(CAST(substr(version, 1, 14) AS INTEGER)), 0) FROM __diesel_schema_migrations",
        [],
        |row| row.get(0),
    )
}

fn read(conn: &Connection) -> rusqlite::Result<Option<Linked>> {
    if !has_table(conn, "device")? {
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

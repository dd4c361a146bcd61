//! A new database out of what can still be read of a damaged one.
//!
//! Invariants: the original is never written to, and stays beside the new file under another name; a file that is
//! sound, or that a newer version wrote, is left alone; at every instant there is a file under the old name. What is
//! uncertain after the loss of other rows is said to be (`unconfirmed`), not guessed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params, params_from_iter};

use super::{StoreError, device, schema};
use crate::account::{DAMAGED, NEW};

mod settle;

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged file is now.
    pub original: PathBuf,
    /// Rows that the new file has, by table.
    pub rows: Vec<(String, usize)>,
    /// Whether something could not be read.
    pub lost: bool,
    /// Whether there is a new file. Of a session that has lost its keys there is none: it has to be linked again.
    pub usable: bool,
}

/// Repairs `channel.db`, or the client library's database, if it is damaged; `None` if it is sound or not there.
/// Nobody else may have it open. `stamp` makes the original's new name.
///
/// # Errors
/// [`StoreError::TooNew`], [`StoreError::Full`] and failures of the disk; then nothing was changed.
pub fn repair(path: &Path, stamp: i64) -> Result<Option<Repaired>, StoreError> {
    let ours = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().ends_with("channel.db"));
    let looked = match ours {
        true => schema::look(path),
        false => device::linked_device(path).map(drop),
    };
    match looked {
        Ok(()) => return Ok(None),
        Err(StoreError::Corrupt { .. }) => {}
        Err(error) => return Err(error),
    }
    let new = named(path, NEW, "");
    remove(&new);
    let build = match ours {
        true => channel,
        false => session,
    };
    let built = build(path, &new).inspect_err(|_| remove(&new))?;
    let original =
        exchange(path, &new, built.usable, stamp).map_err(|error| StoreError::Failed {
            path: path.to_owned(),
            detail: error.to_string(),
        })?;
    Ok(Some(Repaired {
        original,
        rows: built.rows,
        lost: built.lost,
        usable: built.usable,
    }))
}

struct Built {
    rows: Vec<(String, usize)>,
    lost: bool,
    usable: bool,
}

/// Puts the new file in the place of the old one, which keeps a name of its own.
fn exchange(path: &Path, new: &Path, usable: bool, stamp: i64) -> std::io::Result<PathBuf> {
    let aside = format!("{DAMAGED}{stamp}");
    let original = named(path, &aside, "");
    if fs::hard_link(path, &original).is_err() {
        fs::copy(path, &original)?;
    }
    // The journal belongs to the old file alone; the new one must never be read together with it.
    for suffix in ["-wal", "-shm"] {
        match fs::rename(named(path, "", suffix), named(path, &aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match usable {
        true => fs::rename(new, path)?,
        false => {
            remove(new);
            fs::remove_file(path)?;
        }
    }
    // Windows has no such thing as a directory to sync.
    if let Some(directory) = path.parent().and_then(|path| File::open(path).ok()) {
        let _ = directory.sync_all();
    }
    Ok(original)
}

fn named(path: &Path, middle: &str, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(middle);
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes a file that was begun, with its journal.
fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(named(path, "", suffix));
    }
}

fn channel(path: &Path, new: &Path) -> Result<Built, StoreError> {
    let to = schema::open(new)?;
    let failed = |error: &rusqlite::Error| StoreError::from_sqlite(new, error);
    // The rows come in the order of tables, not of references.
    begin(&to).map_err(|e| failed(&e))?;
    let mut rows = Vec::new();
    let mut lost = false;
    if let Ok(from) = read_only(path) {
        for table in [
            "peer",
            "alias",
            "number",
            "approval",
            "pairing",
            "inbox",
            "pending",
            "ingress",
            "emission",
            "request",
            "part",
            "vote",
            "poll_option",
            "sealed",
            "attachment",
            "media",
            "remains",
            "meta",
            "counter",
        ] {
            let copied = copy(&from, &to, table).map_err(|e| failed(&e))?;
            rows.push((table.to_owned(), copied.rows));
            lost |= copied.lost;
        }
        lost |= sequences(&from, &to).is_err();
    } else {
        lost = true;
    }
    settle::settle(&to, lost).map_err(|e| failed(&e))?;
    end(&to).map_err(|e| failed(&e))?;
    Ok(Built {
        rows,
        lost,
        usable: true,
    })
}

/// The library's database: its own schema, taken from the file.
fn session(path: &Path, new: &Path) -> Result<Built, StoreError> {
    let failed = |error: &rusqlite::Error| StoreError::from_sqlite(new, error);
    crate::account::private_file(new).map_err(|error| StoreError::Failed {
        path: new.to_owned(),
        detail: error.to_string(),
    })?;
    let to = Connection::open(new).map_err(|e| failed(&e))?;
    let mut rows = Vec::new();
    let mut lost = true;
    let found = read_only(path).and_then(|from| {
        let tables = statements(&from, "table")?;
        Ok((tables, statements(&from, "index").unwrap_or_default(), from))
    });
    if let Ok((tables, indexes, from)) = found {
        begin(&to).map_err(|e| failed(&e))?;
        lost = false;
        for (table, sql) in tables {
            if table.starts_with("sqlite_") {
                continue;
            }
            to.execute_batch(&sql).map_err(|e| failed(&e))?;
            let copied = copy(&from, &to, &table).map_err(|e| failed(&e))?;
            rows.push((table, copied.rows));
            lost |= copied.lost;
        }
        lost |= sequences(&from, &to).is_err();
        for (_, sql) in indexes {
            lost |= to.execute_batch(&sql).is_err();
        }
        end(&to).map_err(|e| failed(&e))?;
    }
    drop(to);
    Ok(Built {
        rows,
        lost,
        // Without the device's own keys nothing of the rest is of use.
        usable: matches!(device::linked_device(new), Ok(Some(_))),
    })
}

fn begin(to: &Connection) -> rusqlite::Result<()> {
    to.pragma_update(None, "synchronous", "FULL")?;
    to.pragma_update(None, "foreign_keys", "OFF")?;
    to.execute_batch("BEGIN IMMEDIATE")
}

fn end(to: &Connection) -> rusqlite::Result<()> {
    to.execute_batch("COMMIT")?;
    // All of it into the file that is about to be renamed.
    to.pragma_update(None, "journal_mode", "DELETE")
}

/// Reading does not change the file; closing an ordinary connection would merge its journal into it.
fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    // Then an entry of the schema that makes no sense does not keep the others from being read.
    conn.execute_batch("PRAGMA writable_schema = ON")?;
    Ok(conn)
}

fn statements(from: &Connection, kind: &str) -> rusqlite::Result<Vec<(String, String)>> {
    from.prepare(
        "SELECT name, sql FROM sqlite_master WHERE type = ?1 AND sql IS NOT NULL ORDER BY rowid",
    )?
    .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

struct Copied {
    rows: usize,
    lost: bool,
}

/// Copies what can be read of a table. Errors are those of the new file alone.
fn copy(from: &Connection, to: &Connection, table: &str) -> rusqlite::Result<Copied> {
    let known = columns(to, table)?;
    let columns: Vec<(String, bool)> = columns(from, table)
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, _)| known.iter().any(|(known, _)| known == name))
        .collect();
    let mut copied = Copied {
        rows: 0,
        lost: columns.is_empty(),
    };
    if columns.is_empty() {
        return Ok(copied);
    }
    let quoted = |names: &mut dyn Iterator<Item = &String>| {
        names
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let list = quoted(&mut columns.iter().map(|(name, _)| name));
    let marks = vec!["?"; columns.len()].join(", ");
    let insert = format!("INSERT OR REPLACE INTO \"{table}\" ({list}) VALUES ({marks})");
    let mut insert = to.prepare(&insert)?;
    let mut take = |row: &rusqlite::Row<'_>, first: usize| -> rusqlite::Result<bool> {
        let values: Result<Vec<Value>, _> = (first..first + columns.len())
            .map(|column| row.get(column))
            .collect();
        // No text, or not what the column may hold: the bytes of something else.
        let Ok(values) = values else {
            return Ok(false);
        };
        match insert.execute(params_from_iter(values)) {
            Ok(_) => Ok(true),
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    };
    let by_row = format!("SELECT rowid, {list} FROM \"{table}\" WHERE rowid > ?1 ORDER BY rowid");
    if let Ok(mut select) = from.prepare(&by_row) {
        let mut at: i64 = 0;
        let mut passed: i64 = 0;
        loop {
            let mut rows = select.query([at])?;
            let ended = loop {
                match rows.next() {
                    Ok(Some(row)) => {
                        let number: i64 = row.get(0)?;
                        // Out of order: the tree leads astray here, and might for ever.
                        if number <= at || number > FARTHEST {
                            break false;
                        }
                        at = number;
                        passed = 0;
                        match take(row, 1)? {
                            true => copied.rows += 1,
                            false => copied.lost = true,
                        }
                    }
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            if ended || at > FARTHEST {
                return Ok(copied);
            }
            // One by one at first, then in strides: past a damaged page the next sound one goes on.
            copied.lost = true;
            let stride = 1 + passed / 64;
            at += stride;
            passed += stride;
        }
    }
    // A table that is its own index, read from both ends.
    let key = quoted(&mut columns.iter().filter(|(_, key)| *key).map(|(name, _)| name));
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT {list} FROM \"{table}\" ORDER BY {key} {order}");
        let Ok(mut select) = from.prepare(&sql) else {
            copied.lost = true;
            return Ok(copied);
        };
        let mut rows = select.query([])?;
        for _ in 0..MOST {
            match rows.next() {
                Ok(Some(row)) => copied.rows += usize::from(take(row, 0)?),
                Ok(None) => return Ok(copied),
                Err(_) => break,
            }
        }
        copied.lost = true;
    }
    Ok(copied)
}

/// Most rows that are read of a table that is its own index; a damaged one may lead in circles.
const MOST: usize = 1_000_000;
/// No table has rows beyond this number.
const FARTHEST: i64 = 1 << 40;

/// Names of the columns, and whether each is part of the primary key.
fn columns(of: &Connection, table: &str) -> rusqlite::Result<Vec<(String, bool)>> {
    of.prepare("SELECT name, pk > 0 FROM pragma_table_info(?1)")?
        .query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Numbers that were given once are not given again.
fn sequences(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence')";
    for conn in [from, to] {
        if !conn.query_row(exists, [], |row| row.get::<_, bool>(0))? {
            return Ok(());
        }
    }
    let given: Vec<(String, i64)> = from
        .prepare("SELECT name, seq FROM sqlite_sequence")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (table, seq) in given {
        let there = to.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1",
            params![table, seq],
        )?;
        if there == 0 {
            to.execute(
                "INSERT INTO sqlite_sequence VALUES (?1, ?2)",
                params![table, seq],
            )?;
        }
    }
    Ok(())
}

//! What was copied out of a damaged file, made to fit together: rows whose other half is lost, values that say nothing,
//! people who have to be made again out of what names them.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::inbox::state;
use super::super::schema::AUTHORS;
use super::super::turns::BY_THEM;
use crate::identity::Address;

/// Makes the rows of our tables fit each other again.
pub(super) fn settle(to: &Connection, lost: bool) -> rusqlite::Result<()> {
    if lost {
        // Evidence for numbers of the old file could be taken for evidence of others.
        to.execute_batch(
            "INSERT OR REPLACE INTO meta VALUES ('store_id', lower(hex(randomblob(8))));",
        )?;
    }
    readable(to)?;
    people(to)?;
    to.execute_batch(
        "DELETE FROM alias WHERE peer NOT IN (SELECT key FROM peer);
         INSERT OR IGNORE INTO alias (address, peer) SELECT public_id, key FROM peer;
         DELETE FROM emission WHERE session NOT IN (SELECT id FROM ingress);
         DELETE FROM part WHERE chat NOT IN (SELECT key FROM peer);
         DELETE FROM part WHERE request IN (SELECT id FROM request WHERE chat NOT IN (SELECT key FROM peer));
         DELETE FROM request WHERE chat NOT IN (SELECT key FROM peer);
         UPDATE request SET reply_chat = NULL WHERE reply_chat NOT IN (SELECT key FROM peer);
         INSERT OR IGNORE INTO request (id, content_hash, chat, created, expires)
             SELECT request, '', min(chat), unixepoch(), unixepoch() + 3600 FROM part
             WHERE request NOT IN (SELECT id FROM request) GROUP BY request;
         DELETE FROM pairing WHERE peer NOT IN (SELECT key FROM peer);
         DELETE FROM vote WHERE voter NOT IN (SELECT key FROM peer)
             OR (sent = 0 AND poll NOT IN (SELECT id FROM inbox)) OR (sent = 1 AND poll NOT IN (SELECT pos FROM part));
         DELETE FROM poll_option WHERE message NOT IN (SELECT id FROM inbox);
         DELETE FROM sealed WHERE message NOT IN (SELECT id FROM inbox);
         DELETE FROM attachment WHERE message NOT IN (SELECT id FROM inbox);",
    )?;
    // Nobody knows of their files now, so those go; what an event needs that nothing has proven handled is fetched again.
    to.execute(
        "UPDATE attachment SET state = 1, reason = NULL, attempts = 0, next = 0
         WHERE state = 2 AND sha256 NOT IN (SELECT sha256 FROM media)
         AND message IN (SELECT id FROM inbox WHERE state IN (0, 1, 4, 5))",
        [],
    )?;
    // A file of an earlier version has nobody there.
    to.execute_batch(AUTHORS)?;
    // Emitted, and the record of when and to whom is lost.
    to.execute(
        "UPDATE inbox SET state = ?1 WHERE state = ?2 AND (emission IS NULL OR emission NOT IN (SELECT number FROM emission))",
        [state::UNCONFIRMED, state::EMITTED],
    )?;
    // Who had to be made again would be a stranger.
    to.execute(
        "UPDATE peer SET opened = ?1 WHERE opened = 0
         AND (key IN (SELECT chat FROM inbox) OR key IN (SELECT chat FROM part WHERE attempts > 0))",
        [BY_THEM],
    )?;
    Ok(())
}

/// Lets go what was copied and says nothing: it would hold up those who read it.
fn readable(to: &Connection) -> rusqlite::Result<()> {
    let is_address = |text: &str| {
        text.parse::<Address>()
            .is_ok_and(|found| found.to_string() == text)
    };
    let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    for (table, column) in [
        ("peer", "public_id"),
        ("alias", "address"),
        ("approval", "address"),
        ("approval", "person"),
    ] {
        each(to, table, column, |text| match is_address(text) {
            true => None,
            false => Some(format!("DELETE FROM {table} WHERE {column} = ?1")),
        })?;
    }
    for (table, other) in [("peer", "public_id"), ("inbox", "'-'")] {
        each(to, table, "route", |text| match is_address(text) {
            true => None,
            false => Some(format!(
                "UPDATE {table} SET route = {other} WHERE route = ?1"
            )),
        })?;
    }
    to.execute(
        "UPDATE inbox SET route = coalesce((SELECT route FROM peer WHERE key = chat), substr(event_id, 10, instr(substr(event_id, 10), ':') - 1))
         WHERE route = '-'",
        [],
    )?;
    each(to, "meta", "value", |text| match is_json(text) {
        true => None,
        false => Some("DELETE FROM meta WHERE value = ?1 AND key <> 'store_id'".to_owned()),
    })
}

/// Runs what `cure` gives for a value of a column.
fn each(
    to: &Connection,
    table: &str,
    column: &str,
    cure: impl Fn(&str) -> Option<String>,
) -> rusqlite::Result<()> {
    let values: Vec<String> = to
        .prepare(&format!("SELECT DISTINCT {column} FROM {table}"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for value in values {
        if let Some(sql) = cure(&value) {
            to.execute(&sql, [value])?;
        }
    }
    Ok(())
}

/// Who wrote a message, and where, is in its event's id too.
fn people(to: &Connection) -> rusqlite::Result<()> {
    let orphans: Vec<(i64, i64, i64, String)> = to
        .prepare(
            "SELECT id, chat, sender, event_id FROM inbox
             WHERE chat NOT IN (SELECT key FROM peer) OR sender NOT IN (SELECT key FROM peer)",
        )?
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (id, chat, sender, event) in orphans {
        let mut names = event.split(':').skip(1);
        let mut known = |key: i64| -> rusqlite::Result<Option<i64>> {
            match names.next() {
                Some(address) if address.parse::<Address>().is_ok() => {
                    person(to, key, address).map(Some)
                }
                _ => Ok(None),
            }
        };
        match (known(chat)?, known(sender)?) {
            (Some(chat), Some(sender)) => {
                to.execute(
                    "UPDATE OR REPLACE inbox SET chat = ?2, sender = ?3 WHERE id = ?1",
                    [id, chat, sender],
                )?;
            }
            _ => {
                to.execute("DELETE FROM inbox WHERE id = ?1", [id])?;
            }
        }
    }
    Ok(())
}

fn person(to: &Connection, key: i64, address: &str) -> rusqlite::Result<i64> {
    let known: Option<i64> = to
        .query_row("SELECT key FROM peer WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(key) = known {
        return Ok(key);
    }
    let named: Option<i64> = to
        .query_row(
            "SELECT key FROM peer WHERE public_id = ?1 UNION SELECT peer FROM alias WHERE address = ?1",
            [address],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(key) = named {
        return Ok(key);
    }
    to.execute(
        "INSERT INTO peer (key, public_id, route) VALUES (?1, ?2, ?2)",
        params![key, address],
    )?;
    Ok(key)
}

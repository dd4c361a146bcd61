//! Votes and answers to events that came before what they are about, which may have to be sent again.
//!
//! Invariants: each waits a bounded time, and a bounded number of them wait; then it is told closed. One whose poll
//! comes after that is counted all the same.

use rusqlite::params;

use super::inbox::state;
use super::targets::{self, Closed};
use super::{PeerKey, Pending, RowId, Store, Tx, votes};
use crate::inbound::Draft;

/// What had to be sent again is there within seconds, if its sender is. In seconds.
const WAIT: i64 = 5;
/// So many wait, the latest.
const WAITING: i64 = 1000;

impl Store {
    /// Lets go what waited long enough for the poll or event that it is about.
    pub fn release_sealed(&self, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            let released = tx
                .prepare_cached("UPDATE inbox SET state = 0 WHERE state = 11 AND stored <= ?1")?
                .execute([now.saturating_sub(WAIT)])?;
            if released > 0 {
                tx.inbound_changed();
            }
            Ok(())
        })
    }
}

/// Notes that this message waits for the one of this id.
pub(super) fn wait(tx: &Tx<'_>, message: RowId, target: &str) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO sealed (message, target) VALUES (?1, ?2)")?
        .execute(params![message.0, target])?;
    let too_many: Vec<i64> = tx
        .prepare_cached("SELECT message FROM sealed ORDER BY message DESC LIMIT -1 OFFSET ?1")?
        .query_map([WAITING], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for message in too_many {
        tx.prepare_cached("UPDATE inbox SET state = 0 WHERE id = ?1 AND state = 11")?
            .execute([message])?;
        forget(tx, RowId(message))?;
    }
    Ok(())
}

/// It waits for nothing any more.
pub(super) fn forget(tx: &Tx<'_>, message: RowId) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM sealed WHERE message = ?1")?
        .execute([message.0])?;
    Ok(())
}

/// Opens what waited for the message of this id, which has come.
pub(super) fn open(tx: &Tx<'_>, chat: PeerKey, stanza: &str) -> rusqlite::Result<()> {
    let waiting: Vec<(i64, i64, String, Vec<u8>, i64)> = tx
        .prepare_cached(
            "SELECT i.id, i.sender, i.draft, i.raw, i.timestamp FROM sealed s CROSS JOIN inbox i ON i.id = s.message
             WHERE s.target = ?1 AND i.chat = ?2 AND i.draft IS NOT NULL AND i.raw IS NOT NULL ORDER BY s.message",
        )?
        .query_map(params![stanza, chat.0], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (message, sender, draft, raw, timestamp) in waiting {
        let Ok(draft) = serde_json::from_str::<Draft>(&draft) else {
            continue;
        };
        let sender = PeerKey(sender);
        let closed = Closed {
            draft: &draft,
            raw: &raw,
            timestamp,
            sender: super::peers::load(tx, sender)?.aliases,
        };
        let Some((draft, vote)) = targets::open(tx, chat, &closed)? else {
            continue;
        };
        let message = RowId(message);
        if let Some(vote) = vote {
            votes::record(tx, message, sender, &vote)?;
        }
        forget(tx, message)?;
        // What was told closed stays as it was told.
        tx.prepare_cached(
            "UPDATE inbox SET draft = ?2, state = ?3 WHERE id = ?1 AND state IN (0, 11)",
        )?
        .execute(params![
            message.0,
            super::stored::json(&draft)?,
            state::WAITING
        ])?;
    }
    Ok(())
}

const _: () = assert!(state::SEALED == 11 && state::WAITING == 0);

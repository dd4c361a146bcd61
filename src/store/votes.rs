//! How polls stand: one row a vote, for as long as the poll is here, and one an option that was added to a poll.
//!
//! Invariants: a vote is counted once however often its message comes, and of each voter only the last; what was
//! refused, or set aside without a verdict, is not counted, and a poll that was let go takes its votes along.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use super::{Peer, PeerKey, Pending, RowId, Store, Tx, peers};
use crate::inbound::reveal::Choice;

/// So many votes of one person in one poll are kept. Only the last counts; those before it are for events that are
/// told again.
const KEPT: i64 = 4;

/// Options that were added to a poll are told up to so many.
const ADDED: i64 = 100;

/// Somebody's last choice in a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    /// Who voted.
    pub voter: Peer,
    /// What they chose; nothing if the vote was taken back.
    pub choice: Choice,
}

/// How a poll stood with a vote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What this vote chose.
    pub choice: Choice,
    /// The names of the options that were added to the poll before it.
    pub added: Vec<String>,
    /// Everybody's last choice, in the order of their votes.
    pub cast: Vec<Cast>,
}

/// A vote that was opened.
pub(super) struct Vote {
    /// Whether the poll is one that we sent.
    pub(super) sent: bool,
    /// The poll's row, in the inbox or in the outbox.
    pub(super) poll: i64,
    /// When it was made, Unix milliseconds.
    pub(super) at: i64,
    /// What it is for.
    pub(super) choice: Choice,
}

impl Store {
    /// How the poll stood with this vote. `None` if the message is no vote that was opened, or its poll is gone.
    pub fn standing(&self, vote: RowId) -> Pending<Option<Standing>> {
        // In its turn: the verdicts that were asked for before must have erased what they refuse.
        self.submit(move |tx| {
            let found: Option<(bool, i64, Choice)> = tx
                .prepare_cached("SELECT options, later, sent, poll FROM vote WHERE message = ?1")?
                .query_row([vote.0], |row| Ok((row.get(2)?, row.get(3)?, choice(row, 0)?)))
                .optional()?;
            let Some((sent, poll, chosen)) = found else {
                return Ok(None);
            };
            let mut statement = tx.prepare_cached(
                "SELECT options, later, voter FROM vote WHERE sent = ?1 AND poll = ?2 AND message <= ?3
                   AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.id = message AND i.state = 4 AND i.emission IS NULL)
                 ORDER BY at DESC, message DESC",
            )?;
            let mut rows = statement.query(params![sent, poll, vote.0])?;
            let mut counted = HashSet::new();
            let mut cast = Vec::new();
            while let Some(row) = rows.next()? {
                let voter = PeerKey(row.get(2)?);
                if counted.insert(voter) {
                    let voter = peers::load(tx, voter)?;
                    let choice = choice(row, 0)?;
                    cast.push(Cast { voter, choice });
                }
            }
            cast.reverse();
            Ok(Some(Standing {
                choice: chosen,
                added: added(tx, vote, sent, poll)?,
                cast,
            }))
        })
    }
}

/// What a vote is for, in this column and the next.
fn choice(row: &Row<'_>, column: usize) -> rusqlite::Result<Choice> {
    let list = |column| -> rusqlite::Result<Vec<String>> {
        let list: String = row.get(column)?;
        Ok(serde_json::from_str(&list).unwrap_or_default())
    };
    Ok(Choice {
        options: list(column)?,
        later: list(column + 1)?,
    })
}

/// The options that were added to a poll before this vote came. What is refused, waits for approval or has no verdict
/// is not told.
fn added(tx: &Tx<'_>, vote: RowId, sent: bool, poll: i64) -> rusqlite::Result<Vec<String>> {
    let stanza = match sent {
        true => "SELECT message_id FROM part WHERE pos = ?1",
        false => "SELECT stanza FROM inbox WHERE id = ?1",
    };
    let stanza: Option<String> = tx
        .prepare_cached(stanza)?
        .query_row([poll], |row| row.get(0))
        .optional()?;
    tx.prepare_cached(
        "SELECT o.name FROM poll_option o CROSS JOIN inbox i ON i.id = o.message
         WHERE o.target = ?1 AND o.message <= ?2 AND i.state <> 8
           AND (i.state <> 4 OR i.emission IS NOT NULL)
           AND i.chat = (SELECT chat FROM inbox WHERE id = ?2)
         GROUP BY o.name ORDER BY min(o.message) LIMIT ?3",
    )?
    .query_map(params![stanza, vote.0, ADDED], |row| row.get(0))?
    .collect()
}

/// Notes that this message adds an option to the poll of this id.
pub(super) fn option_added(
    tx: &Tx<'_>,
    message: RowId,
    poll: &str,
    name: &str,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO poll_option (message, target, name) VALUES (?1, ?2, ?3)")?
        .execute(params![message.0, poll, name])?;
    Ok(())
}

/// Notes the vote that came with this message.
pub(super) fn record(
    tx: &Tx<'_>,
    message: RowId,
    voter: PeerKey,
    vote: &Vote,
) -> rusqlite::Result<()> {
    let list = |names: &[String]| serde_json::Value::from(names).to_string();
    tx.prepare_cached(
        "INSERT INTO vote (message, sent, poll, voter, at, options, later) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        message.0,
        vote.sent,
        vote.poll,
        voter.0,
        vote.at,
        list(&vote.choice.options),
        list(&vote.choice.later)
    ])?;
    tx.prepare_cached(
        "DELETE FROM vote WHERE message IN (SELECT message FROM vote WHERE sent = ?1 AND poll = ?2 AND voter = ?3
         ORDER BY at DESC, message DESC LIMIT -1 OFFSET ?4)",
    )?
    .execute(params![vote.sent, vote.poll, voter.0, KEPT])?;
    Ok(())
}

/// Forgets the vote or the option that this message is, or the votes in the poll that it is.
pub(super) fn erase(tx: &Tx<'_>, message: RowId) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM vote WHERE message = ?1",
        "DELETE FROM vote WHERE sent = 0 AND poll = ?1",
        "DELETE FROM poll_option WHERE message = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([message.0])?;
    }
    Ok(())
}

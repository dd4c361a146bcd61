//! How polls stand: one row a vote, for as long as the poll is here.
//!
//! Invariants: a vote is counted once however often its message comes, and of each voter only the last; what was
//! refused is not counted, and a poll that was let go takes its votes along.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::{Peer, PeerKey, Pending, RowId, Store, Tx, peers};

/// So many votes of one person in one poll are kept. Only the last counts; those before it are for events that are
/// told again.
const KEPT: i64 = 4;

/// Somebody's last choice in a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    /// Who voted.
    pub voter: Peer,
    /// The names of the options; none if the vote was taken back.
    pub options: Vec<String>,
}

/// A vote that was opened.
pub(super) struct Vote {
    /// Whether the poll is one that we sent.
    pub(super) sent: bool,
    /// The poll's row, in the inbox or in the outbox.
    pub(super) poll: i64,
    /// When it was made, Unix milliseconds.
    pub(super) at: i64,
    /// The names of the options.
    pub(super) options: Vec<String>,
}

impl Store {
    /// How the poll stood with this vote: everybody's last choice, in the order of their votes. `None` if the message
    /// is no vote that was opened, or its poll is gone.
    pub fn ballots(&self, vote: RowId) -> Pending<Option<Vec<Cast>>> {
        // In its turn: the verdicts that were asked for before must have erased what they refuse.
        self.submit(move |tx| {
            let poll: Option<(bool, i64)> = tx
                .prepare_cached("SELECT sent, poll FROM vote WHERE message = ?1")?
                .query_row([vote.0], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((sent, poll)) = poll else {
                return Ok(None);
            };
            let mut statement = tx.prepare_cached(
                "SELECT voter, options FROM vote WHERE sent = ?1 AND poll = ?2 AND message <= ?3
                 ORDER BY at DESC, message DESC",
            )?;
            let mut rows = statement.query(params![sent, poll, vote.0])?;
            let mut counted = HashSet::new();
            let mut ballots = Vec::new();
            while let Some(row) = rows.next()? {
                let voter = PeerKey(row.get(0)?);
                let options: String = row.get(1)?;
                if counted.insert(voter) {
                    let options = serde_json::from_str(&options).unwrap_or_default();
                    let voter = peers::load(tx, voter)?;
                    ballots.push(Cast { voter, options });
                }
            }
            ballots.reverse();
            Ok(Some(ballots))
        })
    }
}

/// Notes the vote that came with this message.
pub(super) fn record(
    tx: &Tx<'_>,
    message: RowId,
    voter: PeerKey,
    vote: &Vote,
) -> rusqlite::Result<()> {
    let options = serde_json::Value::from(vote.options.as_slice()).to_string();
    tx.prepare_cached(
        "INSERT INTO vote (message, sent, poll, voter, at, options) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        message.0, vote.sent, vote.poll, voter.0, vote.at, options
    ])?;
    tx.prepare_cached(
        "DELETE FROM vote WHERE message IN (SELECT message FROM vote WHERE sent = ?1 AND poll = ?2 AND voter = ?3
         ORDER BY at DESC, message DESC LIMIT -1 OFFSET ?4)",
    )?
    .execute(params![vote.sent, vote.poll, voter.0, KEPT])?;
    Ok(())
}

/// Forgets the vote that this message is, or the votes in the poll that it is.
pub(super) fn erase(tx: &Tx<'_>, message: RowId) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM vote WHERE message = ?1")?
        .execute([message.0])?;
    tx.prepare_cached("DELETE FROM vote WHERE sent = 0 AND poll = ?1")?
        .execute([message.0])?;
    Ok(())
}

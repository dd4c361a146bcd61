//! Why each message was, or was not, passed on: what `explain` tells.
//!
//! Invariants: nothing here says what anybody wrote; a ruling is kept in the transaction that acts upon it. What never
//! got into the inbox leaves a line, and of those only so many are kept.

use std::fmt::Display;

use rusqlite::types::Type;
use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use super::inbox::state;
use super::{PeerKey, Pending, Store, Tx, peers};
use crate::identity::Address;

/// Most lines of what never got into the inbox.
const LINES: i64 = 10_000;
/// They are kept this long, seconds.
const KEPT_FOR: i64 = 30 * 24 * 3600;

/// One rule that was asked, and what it said: keys of the configuration, places in its lists, words of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The key of the configuration, or what else decides.
    pub gate: String,
    /// What it said.
    pub said: String,
}

impl Gate {
    /// A gate and its word.
    pub fn new(gate: &str, said: impl Display) -> Self {
        Self {
            gate: gate.to_owned(),
            said: said.to_string(),
        }
    }
}

/// How a ruling came about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trace {
    /// When, Unix seconds.
    pub at: i64,
    /// The sender's addresses that were tried.
    pub forms: Vec<Address>,
    /// The gates, in order.
    pub gates: Vec<Gate>,
}

/// What was decided about a message.
#[derive(Debug, Clone, Default)]
pub struct Ruling {
    /// The rule that spoke.
    pub rule: String,
    /// How it came to that.
    pub trace: Trace,
}

impl From<String> for Ruling {
    /// Without anything to explain it.
    fn from(rule: String) -> Self {
        Self {
            rule,
            trace: Trace::default(),
        }
    }
}

impl Ruling {
    /// For the column.
    pub(super) fn stored(&self) -> String {
        // It consists of texts and numbers.
        serde_json::to_string(&self.trace).unwrap_or_default()
    }
}

/// A message that is not for the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The chat.
    pub chat: Address,
    /// Who wrote it.
    pub sender: Address,
    /// The stanza id.
    pub stanza_id: String,
    /// Why.
    pub reason: String,
}

/// What is known of the way of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The id of its event, if it got that far.
    pub event_id: Option<String>,
    /// The stanza id.
    pub message_id: String,
    /// The conversation.
    pub chat: Address,
    /// Who wrote it.
    pub sender: Address,
    /// When it came, or was sent if that is not known, Unix seconds.
    pub at: i64,
    /// What became of it, in one word.
    pub outcome: &'static str,
    /// The rule that spoke, or why it was dropped.
    pub rule: Option<String>,
    /// How it came to that; nothing while nobody has decided.
    pub trace: Option<Trace>,
}

impl Store {
    /// Notes messages that are not for the inbox. Lost with the process if that ends at once.
    pub fn note_dropped(&self, dropped: Vec<Dropped>) -> Pending<()> {
        self.submit_patient(move |tx| {
            for message in &dropped {
                note(tx, message)?;
            }
            Ok(())
        })
    }

    /// All messages that have this id, or the message of this event, the latest first.
    pub fn explain(&self, id: String) -> Pending<Vec<Explained>> {
        self.look(move |tx| {
            let mut found = Vec::new();
            for which in ["WHERE stanza = ?1", "WHERE event_id = ?1"] {
                let sql = format!(
                    "SELECT event_id, stanza, chat, sender, coalesce(stored, timestamp), state, verdict, trace
                     FROM inbox {which} ORDER BY id DESC"
                );
                let mut statement = tx.prepare_cached(&sql)?;
                let mut rows = statement.query([&id])?;
                while let Some(row) = rows.next()? {
                    found.push(in_inbox(tx, row)?);
                }
            }
            let lines: Vec<Explained> = tx
                .prepare_cached(
                    "SELECT stanza, chat, sender, at, reason FROM dropped WHERE stanza = ?1 ORDER BY id DESC",
                )?
                .query_map([&id], |row| {
                    Ok(Explained {
                        event_id: None,
                        message_id: row.get(0)?,
                        chat: peers::address(row, 1)?,
                        sender: peers::address(row, 2)?,
                        at: row.get(3)?,
                        outcome: "dropped",
                        rule: Some(row.get(4)?),
                        trace: None,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?;
            found.extend(lines);
            Ok(found)
        })
    }
}

fn in_inbox(tx: &Tx<'_>, row: &Row<'_>) -> rusqlite::Result<Explained> {
    let trace: Option<String> = row.get(7)?;
    let trace = trace.map(|text| serde_json::from_str(&text));
    let trace = trace
        .transpose()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(7, Type::Text, Box::new(e)))?;
    Ok(Explained {
        event_id: row.get(0)?,
        message_id: row.get(1)?,
        chat: peers::load(tx, PeerKey(row.get(2)?))?.public_id,
        sender: peers::load(tx, PeerKey(row.get(3)?))?.public_id,
        at: row.get(4)?,
        outcome: outcome(row.get(5)?),
        rule: row.get(6)?,
        trace: trace.filter(|trace: &Trace| !trace.gates.is_empty()),
    })
}

fn outcome(at: i64) -> &'static str {
    match at {
        state::WAITING => "waiting",
        state::EMITTED => "emitted",
        state::PROVEN => "handled",
        state::DENIED => "denied",
        state::UNCONFIRMED => "unconfirmed",
        state::POISONED => "poisoned",
        state::EXPIRED => "too_old",
        state::CONTEXT => "kept_as_context",
        state::PAIRING => "waits_for_approval",
        state::GIVEN => "given_as_context",
        state::OWN => "our_own",
        state::SEALED => "waits_for_what_it_is_about",
        _ => "unknown",
    }
}

pub(super) fn note(tx: &Tx<'_>, dropped: &Dropped) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO dropped (stanza, chat, sender, at, reason) VALUES (?1, ?2, ?3, unixepoch(), ?4)",
    )?
    .execute(params![
        dropped.stanza_id,
        dropped.chat.to_string(),
        dropped.sender.to_string(),
        dropped.reason
    ])?;
    tx.count_gate(&dropped.reason);
    let last = tx.last_insert_rowid();
    tx.prepare_cached("DELETE FROM dropped WHERE id <= ?1")?
        .execute([last - LINES])?;
    Ok(())
}

/// Lets go of old lines.
pub(super) fn sweep(tx: &Tx<'_>, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "DELETE FROM dropped WHERE id <= (SELECT max(id) FROM dropped WHERE at < ?1)",
    )?
    .execute([now.saturating_sub(KEPT_FOR)])?;
    Ok(())
}

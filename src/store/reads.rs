//! What is to be marked as read, and what was.
//!
//! Invariants: a chat is marked up to a message of it and never back; what is marked by itself was given to the agent,
//! so nobody who was refused learns that they were heard. A wish to mark is kept until it was done, by whichever
//! process connects next that may, or until nothing is to be marked any more. What came before the first wish since then
//! is never marked by itself.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::inbox::{RowId, state};
use super::ledger;
use super::messages::form_in;
use super::peers;
use super::{PeerKey, Pending, Store, Tx, meta};
use crate::identity::{Address, ChatKind};

/// What has not been marked as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The chat's address, as it was used last.
    pub chat: Address,
    /// Message ids by their sender, who is named in groups alone.
    pub ids: Vec<(Option<Address>, Vec<String>)>,
    /// The last of them.
    pub upto: RowId,
}

/// So many messages are marked as read at once, the latest.
const MARKED: i64 = 512;
/// Where it is kept from which message on anything is marked by itself.
const FROM: &str = "reads_from";

/// What the agent may ask to have marked: all that was not refused, and is not ours.
const NOT_REFUSED: &str = "state NOT IN (3, 8, 10)";
/// What is marked by itself: events that were emitted, and what was said around them. What was set aside without a
/// verdict was given to nobody.
const GIVEN: &str = "(state IN (1, 2, 5, 7, 9) OR state = 4 AND emission IS NOT NULL)";

impl Store {
    /// A message and what came before it in its chat, as far as it was not marked as read; `None` if the message is
    /// not there.
    pub fn unread(&self, chat: Address, stanza_id: String) -> Pending<Option<Unread>> {
        self.look(move |tx| {
            let Some(chat) = peers::find(tx, &chat)? else {
                return Ok(None);
            };
            let upto: Option<i64> = tx
                .prepare_cached(&format!(
                    "SELECT id FROM inbox WHERE chat = ?1 AND stanza = ?2 AND {NOT_REFUSED} ORDER BY id DESC LIMIT 1"
                ))?
                .query_row(params![chat.0, stanza_id], |row| row.get(0))
                .optional()?;
            upto.map(|upto| unread(tx, chat, 0, upto, NOT_REFUSED)).transpose()
        })
    }

    /// Notes that a message and what came before it in its chat was marked as read.
    pub fn mark_read(&self, upto: RowId) -> Pending<()> {
        self.submit(move |tx| {
            let chat = tx
                .prepare_cached("SELECT chat FROM inbox WHERE id = ?1")?
                .query_row([upto.0], |row| row.get(0))
                .optional()?;
            chat.map_or(Ok(()), |chat| marked(tx, PeerKey(chat), upto))
        })
    }

    /// Has the events with these emission numbers, and what came before them in their chats, marked as read.
    pub fn want_read(&self, first: i64, last: i64) -> Pending<()> {
        self.submit_patient(move |tx| want(tx, first, last))
    }

    /// The same for the event that a reply answers.
    pub fn want_read_by_reply(&self, chat: Address, stanza_id: String) -> Pending<()> {
        self.submit_patient(move |tx| {
            let answered = ledger::replied_to(tx, &chat, &stanza_id)?;
            answered.map_or(Ok(()), |number| want(tx, number, number))
        })
    }

    /// Has nothing marked any more that was to be.
    pub fn forget_reads(&self) -> Pending<()> {
        self.submit_patient(|tx| {
            tx.prepare_cached(
                "UPDATE peer SET read_due = read_upto WHERE read_due > read_upto AND read_due > 0",
            )?
            .execute([])?;
            meta::set(tx, FROM, None::<&i64>)
        })
    }

    /// The chat that has waited longest to be marked as read. To be told by [`marked_read`](Self::marked_read) when it
    /// is.
    pub fn wanted_read(&self) -> Pending<Option<(PeerKey, Unread)>> {
        self.look(|tx| {
            let wanted: Option<(i64, i64)> = tx
                .prepare_cached(
                    "SELECT key, read_due FROM peer WHERE read_due > read_upto ORDER BY read_due LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let from = meta::get(tx, FROM)?.unwrap_or(0);
            let wanted = wanted.map(|(chat, upto)| {
                let chat = PeerKey(chat);
                Ok((chat, unread(tx, chat, from, upto, GIVEN)?))
            });
            wanted.transpose()
        })
    }

    /// Notes that a chat was marked as read up to here.
    pub fn marked_read(&self, chat: PeerKey, upto: RowId) -> Pending<()> {
        self.submit(move |tx| marked(tx, chat, upto))
    }
}

fn marked(tx: &Tx<'_>, chat: PeerKey, upto: RowId) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE peer SET read_upto = max(read_upto, ?2) WHERE key = ?1")?
        .execute([chat.0, upto.0])?;
    Ok(())
}

pub(super) fn want(tx: &Tx<'_>, first: i64, last: i64) -> rusqlite::Result<()> {
    let latest: Vec<(i64, i64, i64)> = tx
        .prepare_cached(
            "SELECT i.chat, min(i.id), max(i.id) FROM emission e CROSS JOIN inbox i ON i.id = e.event
             WHERE e.number BETWEEN ?1 AND ?2 GROUP BY i.chat",
        )?
        .query_map([first, last], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(oldest) = latest.iter().map(|(_, first, _)| first).min()
        && meta::get::<i64>(tx, FROM)?.is_none()
    {
        meta::set(tx, FROM, Some(oldest))?;
    }
    for (chat, _, upto) in latest {
        // Elsewhere there is nobody who would see it.
        let kind = peers::load(tx, PeerKey(chat))?.kind();
        if matches!(kind, ChatKind::Private | ChatKind::Group) {
            tx.prepare_cached("UPDATE peer SET read_due = ?2 WHERE key = ?1 AND read_due < ?2")?
                .execute([chat, upto])?;
            tx.reads_changed();
        }
    }
    Ok(())
}

/// What came in a chat from one message to the other and was not marked as read.
fn unread(
    tx: &Tx<'_>,
    chat: PeerKey,
    from: i64,
    upto: i64,
    which: &str,
) -> rusqlite::Result<Unread> {
    let peer = peers::load(tx, chat)?;
    let group = peer.kind() != ChatKind::Private;
    let mut statement = tx.prepare_cached(&format!(
        "SELECT stanza, sender FROM inbox
         WHERE chat = ?1 AND id BETWEEN ?2 AND ?3 AND id > (SELECT read_upto FROM peer WHERE key = ?1) AND {which}
         ORDER BY id DESC LIMIT ?4"
    ))?;
    let mut rows = statement.query(params![chat.0, from, upto, MARKED])?;
    let mut ids: Vec<(Option<Address>, Vec<String>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let sender = match group {
            true => form_in(tx, chat, PeerKey(row.get(1)?))?,
            false => None,
        };
        let stanza = row.get(0)?;
        match ids.iter_mut().find(|(by, _)| *by == sender) {
            Some((_, theirs)) => theirs.push(stanza),
            None => ids.push((sender, vec![stanza])),
        }
    }
    Ok(Unread {
        chat: peer.route,
        ids,
        upto: RowId(upto),
    })
}

const _: () = assert!(state::DENIED == 3 && state::PAIRING == 8 && state::OWN == 10);
const _: () = assert!(state::EMITTED == 1 && state::PROVEN == 2 && state::UNCONFIRMED == 4);
const _: () = assert!(state::POISONED == 5 && state::CONTEXT == 7 && state::GIVEN == 9);

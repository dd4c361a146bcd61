//! The message cache: what was said, theirs and ours, for whatever refers to it later: quotations, edits, votes,
//! forwards. The messages themselves are in the inbox and in the outbox; here is how they are found, and what is kept
//! of their chats.
//!
//! Invariant: nothing of a message that was refused or too old, or whose sender still waits for approval, can be
//! referred to, nor what the owner wrote on another device: the agent never saw it.

use rusqlite::{OptionalExtension, Params, params};
use wacore::proto_helpers::MessageExt;
use waproto::codec::message_decode;

use super::groups;
use super::inbox::state;
use super::{Attached, Peer, PeerKey, Pending, Store, Tx, meta};
use super::{media, numbers, peers};
use crate::identity::Address;

/// A message that another one may refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its id: for an edit that of the message that was edited, by which everybody has it.
    pub id: String,
    /// Who wrote it, in the address form of its chat; absent if it was us.
    pub sender: Option<Address>,
    /// Our own address in the form of its chat, if it is known.
    pub own: Option<Address>,
    /// The `wa::Message`, encoded; absent once it is too much to keep.
    pub raw: Option<Vec<u8>>,
    /// The `wa::Message` that edited it last, encoded.
    pub edit: Option<Vec<u8>>,
    /// What is known of the file that somebody else sent with it.
    pub file: Option<KeptFile>,
    /// When it was sent, Unix seconds.
    pub at: i64,
}

/// The file of a message as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Where WhatsApp has it; the message itself may name an earlier place.
    pub direct_path: String,
    /// The code of what went wrong when it was fetched last.
    pub reason: Option<String>,
}

impl KeptFile {
    /// WhatsApp has it no more, unless the account's phone uploads it again.
    pub fn is_gone(&self) -> bool {
        matches!(self.reason.as_deref(), Some("expired" | "phone_offline"))
    }
}

/// What a search for a message across chats found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// There is none.
    Nothing,
    /// There is one.
    One(Kept),
    /// There are some, in several chats or by several senders. An id is its sender's choice, so none is taken.
    Several,
}

/// After so many seconds WhatsApp takes no edit of a message any more: 15 minutes, and room for clocks that differ.
const EDITED_WITHIN: i64 = 3600;

/// The agent was given these, or may be about to be. What was too old, was set aside or waits for its poll was never
/// judged, nor is what was kept for an approval judged anew yet.
const NOT_WITHHELD: &str = "state NOT IN (3, 6, 8, 10, 11) AND (state <> 0 OR held IS NULL) AND (state <> 4 OR emission IS NOT NULL)";

impl Store {
    /// A message of this chat; by the id of an edit the message that was edited. An id is its sender's choice, so an
    /// own message goes before another one of that id.
    pub fn kept(&self, chat: Address, stanza_id: String) -> Pending<Option<Kept>> {
        self.look(move |tx| {
            let Some(chat) = peers::find(tx, &chat)? else {
                return Ok(None);
            };
            Ok(within(tx, &stanza_id, Some(chat))?.into_iter().next())
        })
    }

    /// A message of whatever chat, or of this one; by the id of an edit the message that was edited.
    pub fn search(&self, stanza_id: String, chat: Option<Address>) -> Pending<Search> {
        self.look(move |tx| {
            let chat = match chat.map(|chat| peers::find(tx, &chat)).transpose()? {
                Some(None) => return Ok(Search::Nothing),
                chat => chat.flatten(),
            };
            let mut found = within(tx, &stanza_id, chat)?;
            Ok(match (found.len(), found.pop()) {
                (1, Some(one)) => Search::One(one),
                (0, _) => Search::Nothing,
                _ => Search::Several,
            })
        })
    }

    /// The first file of a message of this chat that the agent was given, by who wrote it, who comes with it.
    pub fn given_file(
        &self,
        chat: PeerKey,
        stanza_id: String,
        author: Address,
    ) -> Pending<Option<(Attached, Peer)>> {
        self.look(move |tx| {
            let Some(author) = numbers::owner(tx, &author)? else {
                return Ok(None);
            };
            let given = tx
                .prepare_cached(
                    "SELECT id FROM inbox WHERE chat = ?1 AND stanza = ?2 AND sender = ?3
                     AND (emission IS NOT NULL OR state = 9)",
                )?
                .query_row(params![chat.0, stanza_id, author.0], |row| row.get(0))
                .optional()?;
            let Some(message) = given else {
                return Ok(None);
            };
            let mut files = media::attached(tx, message)?.into_iter();
            let first = files.find(|file| file.nth == 0);
            first
                .map(|file| Ok((file, peers::load(tx, author)?)))
                .transpose()
        })
    }

    /// Notes after how many seconds messages of this chat disappear; 0 for never.
    pub fn learn_timer(&self, chat: Vec<Address>, seconds: u32) -> Pending<()> {
        self.submit(move |tx| {
            let chat = peers::arrived(tx, &chat)?;
            tx.prepare_cached("UPDATE peer SET timer = ?2 WHERE key = ?1 AND timer <> ?2")?
                .execute(params![chat.0, seconds])?;
            Ok(())
        })
    }
}

/// The messages of this id, ours first, then those that the agent was given.
fn within(tx: &Tx<'_>, stanza: &str, chat: Option<PeerKey>) -> rusqlite::Result<Vec<Kept>> {
    let mut found: Vec<Kept> = ours(tx, stanza, chat)?.into_iter().collect();
    let rows = match chat {
        Some(chat) => theirs(tx, "chat = ?1 AND stanza = ?2", params![chat.0, stanza])?,
        None => theirs(tx, "stanza = ?1", params![stanza])?,
    };
    for mut one in rows {
        let mut id = stanza.to_owned();
        if let Some(edited) = one.edits.take() {
            // What was edited is perhaps no longer kept; the edit says who wrote it.
            let author = params![one.chat.0, edited, one.sender.0];
            let original = theirs(tx, "chat = ?1 AND stanza = ?2 AND sender = ?3", author)?.pop();
            one = original.unwrap_or(Theirs { raw: None, ..one });
            id = edited;
        }
        found.push(Kept {
            sender: form_in(tx, one.chat, one.sender)?,
            own: own_form(tx, one.chat)?,
            edit: their_edit(tx, &one, &id)?,
            file: media::kept_file(tx, one.id)?,
            raw: one.raw,
            at: one.at,
            id,
        });
    }
    Ok(found)
}

/// A message of somebody else.
struct Theirs {
    id: i64,
    chat: PeerKey,
    sender: PeerKey,
    raw: Option<Vec<u8>>,
    at: i64,
    /// The message that it is an edit of.
    edits: Option<String>,
}

/// What others wrote, first what the agent was given.
fn theirs(tx: &Tx<'_>, which: &str, params: impl Params) -> rusqlite::Result<Vec<Theirs>> {
    tx.prepare_cached(&format!(
        "SELECT id, chat, sender, raw, timestamp, edits FROM inbox WHERE {which} AND {NOT_WITHHELD}
         ORDER BY emission IS NULL, id DESC"
    ))?
    .query_map(params, |row| {
        Ok(Theirs {
            id: row.get(0)?,
            chat: PeerKey(row.get(1)?),
            sender: PeerKey(row.get(2)?),
            raw: row.get(3)?,
            at: row.get(4)?,
            edits: row.get(5)?,
        })
    })?
    .collect()
}

/// The last edit of a message by its author. Some have no words: they stayed closed, or were no edit of a text.
fn their_edit(tx: &Tx<'_>, of: &Theirs, stanza: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = tx.prepare_cached(&format!(
        "SELECT raw FROM inbox
         WHERE chat = ?1 AND edits = ?3 AND sender = ?2 AND {NOT_WITHHELD} AND raw IS NOT NULL ORDER BY id DESC",
    ))?;
    let mut rows = statement.query(params![of.chat.0, of.sender.0, stanza])?;
    while let Some(row) = rows.next()? {
        let raw: Vec<u8> = row.get(0)?;
        if edited_by(&raw).is_some() {
            return Ok(Some(raw));
        }
    }
    Ok(None)
}

/// Our message of this id. Of one that was refused or never left, nobody else knows.
fn ours(tx: &Tx<'_>, stanza: &str, chat: Option<PeerKey>) -> rusqlite::Result<Option<Kept>> {
    type Part = (i64, i64, String, Option<Vec<u8>>, i64);
    let part: Option<Part> = tx
        .prepare_cached(
            "SELECT p.pos, p.chat, p.kind, p.payload, coalesce(p.sent, r.created) FROM part p JOIN request r ON r.id = p.request
             WHERE p.message_id = ?1 AND p.chat = coalesce(?2, p.chat) AND p.state < 8 AND p.kind NOT IN ('reaction', 'revoke')",
        )?
        .query_row(params![stanza, chat.map(|chat| chat.0)], |row| row.try_into())
        .optional()?;
    let Some((pos, chat, kind, raw, at)) = part else {
        return Ok(None);
    };
    let chat = PeerKey(chat);
    if kind == "edit" {
        return match raw.as_deref().and_then(edited_by) {
            Some(original) if original != stanza => ours(tx, &original, Some(chat)),
            _ => Ok(None),
        };
    }
    Ok(Some(Kept {
        id: stanza.to_owned(),
        sender: None,
        own: own_form(tx, chat)?,
        edit: our_edit(tx, chat, pos, at, stanza)?,
        file: None,
        raw,
        at,
    }))
}

/// Our last edit of the message that is at this place in the outbox.
fn our_edit(
    tx: &Tx<'_>,
    chat: PeerKey,
    pos: i64,
    at: i64,
    stanza: &str,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = tx.prepare_cached(
        "SELECT p.payload, r.created FROM part p JOIN request r ON r.id = p.request
         WHERE p.chat = ?1 AND p.kind = 'edit' AND p.pos > ?2 AND p.state < 8 AND p.payload IS NOT NULL ORDER BY p.pos",
    )?;
    let mut rows = statement.query(params![chat.0, pos])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? > at + EDITED_WITHIN {
            break;
        }
        let payload: Vec<u8> = row.get(0)?;
        if edited_by(&payload).is_some_and(|id| id == stanza) {
            last = Some(payload);
        }
    }
    Ok(last)
}

/// The id of the message that this one gives new words.
fn edited_by(raw: &[u8]) -> Option<String> {
    let message = message_decode(raw).ok()?;
    let protocol = message.get_base_message().protocol_message.as_option()?;
    let id = protocol.key.id.clone();
    id.filter(|_| protocol.edited_message.is_set())
}

/// A person's address in the form of this chat, or else the one that they used last.
pub(super) fn form_in(
    tx: &Tx<'_>,
    chat: PeerKey,
    person: PeerKey,
) -> rusqlite::Result<Option<Address>> {
    let peer = peers::load(tx, person)?;
    let form = match group(tx, chat)?.map(|group| group.by_lid) {
        Some(true) => peer.lid(),
        Some(false) => peer.phone(),
        None => None,
    };
    Ok(Some(form.unwrap_or(&peer.route).clone()))
}

/// Our address in the form of this chat; of a group that is not known the LID, as WhatsApp makes groups now.
fn own_form(tx: &Tx<'_>, chat: PeerKey) -> rusqlite::Result<Option<Address>> {
    let Some(own) = meta::get::<meta::Linked>(tx, "linked")? else {
        return Ok(None);
    };
    let by_lid = group(tx, chat)?.is_none_or(|group| group.by_lid);
    Ok(Some(own.lid.filter(|_| by_lid).unwrap_or(own.phone)))
}

fn group(tx: &Tx<'_>, chat: PeerKey) -> rusqlite::Result<Option<groups::Group>> {
    let address = peers::load(tx, chat)?.public_id;
    Ok(groups::known(tx, &address)?.map(|known| known.group))
}

/// What was said is kept up to so many bytes, theirs and ours each.
pub(super) const KEPT_BYTES: i64 = 64 << 20;

/// Lets go what the oldest messages said where all of it is more than `most` bytes; how many they were in this step.
pub(super) fn forget(tx: &Tx<'_>, most: i64, step: i64) -> rusqlite::Result<usize> {
    let theirs = beyond(
        tx,
        "SELECT sum(length(raw)) FROM inbox WHERE raw IS NOT NULL",
        "SELECT id, length(raw) FROM inbox WHERE raw IS NOT NULL ORDER BY id LIMIT ?1",
        "UPDATE inbox SET raw = NULL WHERE id = ?1",
        most,
        step,
    )?;
    let ours = beyond(
        tx,
        "SELECT sum(length(payload)) FROM part WHERE payload IS NOT NULL",
        "SELECT pos, length(payload) FROM part WHERE payload IS NOT NULL AND open = 0 ORDER BY pos LIMIT ?1",
        "UPDATE part SET payload = NULL WHERE pos = ?1",
        most,
        step,
    )?;
    Ok(theirs.max(ours))
}

fn beyond(
    tx: &Tx<'_>,
    total: &str,
    oldest: &str,
    drop: &str,
    most: i64,
    step: i64,
) -> rusqlite::Result<usize> {
    let total: Option<i64> = tx.prepare_cached(total)?.query_row([], |row| row.get(0))?;
    let mut over = total.unwrap_or_default() - most;
    if over <= 0 {
        return Ok(0);
    }
    let rows: Vec<(i64, i64)> = tx
        .prepare_cached(oldest)?
        .query_map([step], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut dropped = 0;
    for (row, length) in rows {
        if over <= 0 {
            break;
        }
        tx.prepare_cached(drop)?.execute([row])?;
        over -= length;
        dropped += 1;
    }
    Ok(dropped)
}

const _: () = assert!(state::DENIED == 3 && state::PAIRING == 8 && state::OWN == 10);
const _: () = assert!(state::EXPIRED == 6 && state::SEALED == 11 && state::WAITING == 0);
const _: () = assert!(state::UNCONFIRMED == 4 && state::GIVEN == 9);

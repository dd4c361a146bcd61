//! What a message is once the message that it is about is at hand: votes and answers to events are opened, and a
//! change that only the author may make is held against who that was.
//!
//! It happens in the transaction that stores the message, so a poll and a vote in one batch are in their order, and a
//! message that comes twice counts once. Nobody is asked, and what is not here stays closed.

use rusqlite::{OptionalExtension, params};
use waproto::codec::message_decode;
use waproto::whatsapp as wa;

use super::inbox::NewInbound;
use super::meta::{self, Linked};
use super::votes::Vote;
use super::{PeerKey, Tx, peers};
use crate::identity::Address;
use crate::inbound::reveal::{self, Sealed};
use crate::inbound::{Draft, addon};

/// Messages under one id that are tried at most. The id is its sender's choice, so a group's members can repeat it.
const TRIED: i64 = 8;

/// A message that another one is about.
struct Target {
    sent: bool,
    row: i64,
    author: Vec<Address>,
    message: wa::Message,
}

/// What the message says in the light of the one that it is about; `None` if that changes nothing.
pub(super) fn reveal(
    tx: &Tx<'_>,
    message: &NewInbound,
    chat: PeerKey,
    sender: PeerKey,
) -> rusqlite::Result<Option<(Draft, Option<Vote>)>> {
    let draft = &message.draft;
    let Some(target) = draft.target_message_id.as_deref() else {
        return Ok(None);
    };
    if let Some(sealed) = reveal::sealed(draft) {
        return open(tx, message, sealed, chat, sender, target).map(Some);
    }
    let Some(change) = reveal::by_author_alone(draft) else {
        return Ok(None);
    };
    let foreign = is_foreign(tx, chat, sender, target)?;
    Ok(foreign.then(|| (reveal::not_the_author(draft.clone(), change), None)))
}

fn open(
    tx: &Tx<'_>,
    message: &NewInbound,
    sealed: Sealed,
    chat: PeerKey,
    sender: PeerKey,
    target: &str,
) -> rusqlite::Result<(Draft, Option<Vote>)> {
    let closed = &message.draft;
    let author = match closed.refers_to() {
        Some(author) => peers::find(tx, &author)?,
        None => None,
    };
    let targets = targets(tx, chat, target, author)?;
    if targets.is_empty() {
        return Ok((reveal::unknown_target(closed.clone(), sealed), None));
    }
    let mut voter = peers::load(tx, sender)?.aliases;
    voter.extend(message.sender.iter().cloned());
    let opened = message_decode(&message.raw).ok().and_then(|raw| {
        let mut targets = targets.iter();
        targets.find_map(|target| open_with(&raw, target, &voter, message, sealed))
    });
    Ok(opened.unwrap_or_else(|| (reveal::unopened(closed.clone(), sealed), None)))
}

fn open_with(
    raw: &wa::Message,
    target: &Target,
    sender: &[Address],
    message: &NewInbound,
    sealed: Sealed,
) -> Option<(Draft, Option<Vote>)> {
    let (about, author, closed) = (&target.message, &target.author, &message.draft);
    match sealed {
        Sealed::Vote => {
            let selected = addon::open_vote(raw, about, author, sender)?;
            let (draft, options) = reveal::vote(closed, about, &selected)?;
            let vote = Vote {
                sent: target.sent,
                poll: target.row,
                at: addon::voted_at(raw, message.timestamp),
                options,
            };
            Some((draft, Some(vote)))
        }
        Sealed::EventAnswer => {
            let answer = addon::open_event_answer(raw, about, author, sender)?;
            let draft = reveal::event_answer(closed.clone(), Some(about), &answer);
            Some((draft, None))
        }
    }
}

/// The messages of a chat that have this id and are still kept, those of `author` first.
fn targets(
    tx: &Tx<'_>,
    chat: PeerKey,
    stanza: &str,
    author: Option<PeerKey>,
) -> rusqlite::Result<Vec<Target>> {
    let theirs: Vec<(i64, i64, Vec<u8>)> = tx
        .prepare_cached(
            "SELECT id, sender, raw FROM inbox WHERE chat = ?1 AND stanza = ?2 AND raw IS NOT NULL
             ORDER BY sender IS ?3 DESC, id LIMIT ?4",
        )?
        .query_map(
            params![chat.0, stanza, author.map(|author| author.0), TRIED],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::new();
    for (row, sender, raw) in theirs {
        if let Ok(message) = message_decode(&raw) {
            let author = peers::load(tx, PeerKey(sender))?.aliases;
            let sent = false;
            found.push(Target {
                sent,
                row,
                author,
                message,
            });
        }
    }
    let ours: Option<(i64, Vec<u8>)> = tx
        .prepare_cached(
            "SELECT pos, payload FROM part WHERE message_id = ?1 AND chat = ?2 AND payload IS NOT NULL",
        )?
        .query_row(params![stanza, chat.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((row, payload)) = ours
        && let Ok(message) = message_decode(&payload)
        && let Some(own) = meta::get::<Linked>(tx, "linked")?
    {
        found.push(Target {
            sent: true,
            row,
            author: [Some(own.phone), own.lid].into_iter().flatten().collect(),
            message,
        });
    }
    Ok(found)
}

/// Whether the messages that have this id in the chat are others', ours among them. A message that is not here may be
/// anybody's.
fn is_foreign(tx: &Tx<'_>, chat: PeerKey, sender: PeerKey, stanza: &str) -> rusqlite::Result<bool> {
    let own: Option<bool> = tx
        .prepare_cached(
            "SELECT sender = ?3 FROM inbox WHERE chat = ?1 AND stanza = ?2 ORDER BY sender = ?3 DESC LIMIT 1",
        )?
        .query_row(params![chat.0, stanza, sender.0], |row| row.get(0))
        .optional()?;
    match own {
        Some(own) => Ok(!own),
        None => tx
            .prepare_cached("SELECT 1 FROM part WHERE message_id = ?1 AND chat = ?2")?
            .exists(params![stanza, chat.0]),
    }
}

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

/// What a message says in the light of the one that it is about.
pub(super) enum Revealed {
    /// The same.
    Same,
    /// Something else, which may be a vote.
    Other(Draft, Option<Vote>),
    /// Nothing before the one that it is about is here.
    Nothing(Draft),
}

/// A vote or an answer that is not opened yet.
pub(super) struct Closed<'a> {
    pub(super) draft: &'a Draft,
    pub(super) raw: &'a [u8],
    pub(super) timestamp: i64,
    /// Every address of its sender.
    pub(super) sender: Vec<Address>,
}

/// What the message says, whose chat and sender these are.
pub(super) fn reveal(
    tx: &Tx<'_>,
    message: &NewInbound,
    chat: PeerKey,
    sender: PeerKey,
) -> rusqlite::Result<Revealed> {
    let draft = &message.draft;
    let Some(target) = draft.target_message_id.as_deref() else {
        return Ok(Revealed::Same);
    };
    if let Some(sealed) = reveal::sealed(draft) {
        let mut forms = peers::load(tx, sender)?.aliases;
        forms.extend(message.sender.iter().cloned());
        let closed = Closed {
            draft,
            raw: &message.raw,
            timestamp: message.timestamp,
            sender: forms,
        };
        let targets = targets(tx, chat, &closed)?;
        if targets.is_empty() {
            let closed = reveal::unknown_target(draft.clone(), sealed);
            return Ok(Revealed::Nothing(closed));
        }
        return Ok(match open_with(&closed, sealed, &targets) {
            Some((open, vote)) => Revealed::Other(open, vote),
            None => Revealed::Other(reveal::unopened(draft.clone(), sealed), None),
        });
    }
    let Some(change) = reveal::by_author_alone(draft) else {
        return Ok(Revealed::Same);
    };
    Ok(match is_foreign(tx, chat, sender, target)? {
        true => Revealed::Other(reveal::not_the_author(draft.clone(), change), None),
        false => Revealed::Same,
    })
}

/// What a vote or an answer says, if the message that it is about is here and opens it.
pub(super) fn open(
    tx: &Tx<'_>,
    chat: PeerKey,
    closed: &Closed<'_>,
) -> rusqlite::Result<Option<(Draft, Option<Vote>)>> {
    let Some(sealed) = reveal::sealed(closed.draft) else {
        return Ok(None);
    };
    let targets = targets(tx, chat, closed)?;
    Ok(open_with(closed, sealed, &targets))
}

fn open_with(
    closed: &Closed<'_>,
    sealed: Sealed,
    targets: &[Target],
) -> Option<(Draft, Option<Vote>)> {
    let raw = message_decode(closed.raw).ok()?;
    targets.iter().find_map(|target| {
        let (about, author) = (&target.message, &target.author);
        match sealed {
            Sealed::Vote => {
                let selected = addon::open_vote(&raw, about, author, &closed.sender)?;
                let (draft, choice) = reveal::vote(closed.draft, about, &selected)?;
                let vote = Vote {
                    sent: target.sent,
                    poll: target.row,
                    at: addon::voted_at(&raw, closed.timestamp),
                    choice,
                };
                Some((draft, Some(vote)))
            }
            Sealed::EventAnswer => {
                let answer = addon::open_event_answer(&raw, about, author, &closed.sender)?;
                let draft = reveal::event_answer(closed.draft.clone(), Some(about), &answer);
                Some((draft, None))
            }
        }
    })
}

/// The messages that it may be about: they have the id, and are still kept. Those of the author that it names are first.
fn targets(tx: &Tx<'_>, chat: PeerKey, closed: &Closed<'_>) -> rusqlite::Result<Vec<Target>> {
    let stanza = closed.draft.target_message_id.as_deref();
    let author = match closed.draft.refers_to() {
        Some(author) => peers::find(tx, &author)?,
        None => None,
    };
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

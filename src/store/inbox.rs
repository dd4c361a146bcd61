//! What came in, each message once, until the agent is proven to have had it.

use std::borrow::Cow;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::counters::Counter;
use super::groups;
use super::outbox::{self, OutboundRequest};
use super::peers;
use super::people;
use super::stored::select_each;
use super::stored::{Stored, group_of, json, select};
use super::targets::{self, Revealed};
use super::trace::{self, Dropped, Gate, Ruling, Trace};
use super::{PeerKey, Pending, SessionId, Store, Tx, letting_go, media, sealed, votes};
use crate::identity::{Address, ChatKind};
use crate::inbound::{Draft, reveal};

/// How far a row got. The numbers are stored.
pub(super) mod state {
    /// To be emitted.
    pub const WAITING: i64 = 0;
    /// Emitted in the ingress session at hand, not proven handled.
    pub const EMITTED: i64 = 1;
    /// Handled, as far as anything can be known.
    pub const PROVEN: i64 = 2;
    /// Refused; its text is gone.
    pub const DENIED: i64 = 3;
    /// Emitted in an earlier session, and nothing says what became of it.
    pub const UNCONFIRMED: i64 = 4;
    /// Three sessions ended in its turn.
    pub const POISONED: i64 = 5;
    /// Too old to be emitted when its turn came.
    pub const EXPIRED: i64 = 6;
    /// Group talk that was not meant for the agent, kept for the next message that is.
    pub const CONTEXT: i64 = 7;
    /// Waits for the operator to approve its sender.
    pub const PAIRING: i64 = 8;
    /// Was given as context of another event.
    pub const GIVEN: i64 = 9;
    /// Ours, written on another device; kept for what refers to it, and never told.
    pub const OWN: i64 = 10;
    /// Waits for the poll or event that it is about.
    pub const SEALED: i64 = 11;
}

/// Key of a message in the inbox; grows with arrival.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RowId(pub(super) i64);

/// A message as the session hands it over.
#[derive(Debug, Clone)]
pub struct NewInbound {
    /// The addresses of the chat, at least one; for a direct chat those of the person.
    pub chat: Vec<Address>,
    /// The addresses of the sender, at least one.
    pub sender: Vec<Address>,
    /// The chat's address as the stanza had it.
    pub route: Address,
    /// The stanza id, unique for the sender within the chat.
    pub stanza_id: String,
    /// The server's time, Unix seconds.
    pub timestamp: i64,
    /// The name that the sender sent along.
    pub push_name: Option<String>,
    /// What it says.
    pub draft: Draft,
    /// The `wa::Message`, encoded, for quoting it.
    pub raw: Vec<u8>,
    /// Whether it is ours, written on another device, and only kept for what refers to it.
    pub own: bool,
}

/// What became of one message of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is new and waits to be emitted, or is ours.
    Inserted(RowId),
    /// It had come before, possibly under other addresses.
    Duplicate,
}

/// Something that happened besides messages. It is told once and not kept.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The addresses of the chat, at least one.
    pub chat: Vec<Address>,
    /// The addresses of who did it, at least one.
    pub sender: Vec<Address>,
    /// What its `event_id` ends in.
    pub name: String,
    /// The id of the stanza, or what stands for it.
    pub stanza_id: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// What it says.
    pub draft: Draft,
}

impl Store {
    /// Stores messages, in their order, each once. The answer has one entry a message.
    pub fn insert(&self, batch: Vec<NewInbound>) -> Pending<Vec<Inserted>> {
        self.submit(move |tx| {
            let outcome: Vec<Inserted> = batch
                .iter()
                .map(|message| insert(tx, message))
                .collect::<rusqlite::Result<_>>()?;
            let new = outcome.iter().filter(|o| **o != Inserted::Duplicate);
            let new = new.count();
            if new > 0 {
                tx.count(Counter::In, new);
                tx.inbound_changed();
            }
            Ok(outcome)
        })
    }

    /// The next messages to emit, in arrival order, at most `limit`. Those among them that are older than `max_age`
    /// seconds are set aside. The same ones come again until each has a verdict: [`assign_emission`](Self::assign_emission),
    /// [`drop_denied`](Self::drop_denied), [`keep_as_context`](Self::keep_as_context) or
    /// [`hold_for_approval`](Self::hold_for_approval).
    pub fn next_to_emit(&self, limit: u32, max_age: i64, now: i64) -> Pending<Vec<Stored>> {
        self.next_to_emit_but(Vec::new(), limit, max_age, now)
    }

    /// The same, without anything of these chats.
    pub fn next_to_emit_but(
        &self,
        held: Vec<PeerKey>,
        limit: u32,
        max_age: i64,
        now: i64,
    ) -> Pending<Vec<Stored>> {
        self.next_to_emit_after(RowId::default(), held, limit, max_age, now)
    }

    /// The same, only what arrived after this one.
    pub fn next_to_emit_after(
        &self,
        after: RowId,
        held: Vec<PeerKey>,
        limit: u32,
        max_age: i64,
        now: i64,
    ) -> Pending<Vec<Stored>> {
        self.submit(move |tx| {
            let before = now.saturating_sub(max_age);
            let too_old = Ruling {
                rule: "max_event_age_secs".to_owned(),
                trace: Trace {
                    at: now,
                    forms: Vec::new(),
                    gates: vec![Gate::new("max_event_age_secs", "too old")],
                },
            };
            loop {
                let mut rows = Vec::new();
                if limit > 0 {
                    select_each(tx, "state = 0 AND id > ?1 ORDER BY id", &[&after.0], &held, |row| {
                        rows.push(row);
                        rows.len() < limit as usize
                    })?;
                }
                let last = rows.last().map_or(i64::MAX, |row| row.id.0);
                // A message that was emitted before, or was kept for an approval, is not old, only late.
                let expired = tx
                    .prepare_cached(
                        "UPDATE inbox SET state = ?1, verdict = ?4, trace = ?5
                         WHERE state = 0 AND id <= ?2 AND timestamp < ?3 AND attempts = 0 AND held IS NULL",
                    )?
                    .execute(params![state::EXPIRED, last, before, too_old.rule, too_old.stored()])?;
                if expired == 0 {
                    return Ok(rows);
                }
                (0..expired).for_each(|_| tx.count_gate(&too_old.rule));
            }
        })
    }

    /// Gives the message the number under which it is about to be written, and keeps the verdict for `explain`.
    /// The context that it carries, `given`, stays with it; what else was kept of its chat until then is not given any
    /// more, and erased. `None` if it no longer waits, or never was there.
    pub fn assign_emission(
        &self,
        id: RowId,
        session: SessionId,
        ruling: impl Into<Ruling>,
        given: Vec<RowId>,
        now: i64,
    ) -> Pending<Option<i64>> {
        let ruling = ruling.into();
        self.submit(move |tx| {
            let chat: Option<i64> = tx
                .prepare_cached("SELECT chat FROM inbox WHERE id = ?1 AND state = 0")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            let Some(chat) = chat else { return Ok(None) };
            tx.prepare_cached("INSERT INTO emission (session, event, at) VALUES (?1, ?2, ?3)")?
                .execute([session.0, id.0, now])?;
            let number = tx.last_insert_rowid();
            tx.prepare_cached(
                "UPDATE inbox SET state = ?4, emission = ?2, attempts = attempts + 1, verdict = ?3, trace = ?5,
                        held = NULL WHERE id = ?1",
            )?
            .execute(params![id.0, number, ruling.rule, state::EMITTED, ruling.stored()])?;
            for said in given {
                tx.prepare_cached(
                    "UPDATE inbox SET state = ?4, context_of = ?1
                     WHERE id = ?3 AND chat = ?2 AND id < ?1 AND state = 7",
                )?
                .execute([id.0, chat, said.0, state::GIVEN])?;
            }
            let beyond: Vec<i64> = tx
                .prepare_cached("SELECT id FROM inbox WHERE chat = ?1 AND id < ?2 AND state = 7")?
                .query_map([chat, id.0], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            forget_context(tx, &beyond)?;
            tx.turns_changed();
            Ok(Some(number))
        })
    }

    /// Refuses a message: keeps the verdict, erases what it said.
    pub fn drop_denied(&self, id: RowId, ruling: impl Into<Ruling>) -> Pending<()> {
        let ruling = ruling.into();
        self.submit(move |tx| deny(tx, id, &ruling).map(drop))
    }

    /// The same for the message of somebody who is to be told that they may only read, unless they were told within
    /// `every` seconds; whether they are.
    pub fn drop_and_answer(
        &self,
        id: RowId,
        ruling: Ruling,
        answer: OutboundRequest,
        every: i64,
        now: i64,
    ) -> Pending<bool> {
        self.submit(move |tx| {
            // A clock that was put back must not silence the answer for as long.
            let due = deny(tx, id, &ruling)?
                && tx
                    .prepare_cached(
                        "UPDATE peer SET answered = ?2 WHERE key = (SELECT sender FROM inbox WHERE id = ?1)
                         AND answered NOT BETWEEN ?2 - ?3 + 1 AND ?2",
                    )?
                    .execute([id.0, now, every])?
                    > 0;
            if due {
                outbox::enqueue(tx, &answer, now)?;
            }
            Ok(due)
        })
    }

    /// Erases a message that nobody wants to be told of, though its sender may speak. A vote counts all the same.
    pub fn drop_unwanted(&self, id: RowId, ruling: impl Into<Ruling>) -> Pending<()> {
        let ruling = ruling.into();
        self.submit(move |tx| {
            explain(tx, id, &ruling)?;
            if erase(tx, id, &ruling.rule)? {
                tx.count_gate(&ruling.rule);
            }
            Ok(())
        })
    }

    /// Sets a message aside on which there is no verdict: it is neither emitted nor erased, and counts as unconfirmed.
    /// With the sender's next one WhatsApp is asked anew who that is.
    pub fn set_aside(&self, id: RowId, ruling: impl Into<Ruling>) -> Pending<()> {
        let ruling = ruling.into();
        self.submit(move |tx| {
            let set_aside = tx
                .prepare_cached(
                    "UPDATE inbox SET state = ?2, verdict = ?3, trace = ?4 WHERE id = ?1 AND state IN (0, 7)",
                )?
                .execute(params![id.0, state::UNCONFIRMED, ruling.rule, ruling.stored()])?;
            if set_aside > 0 {
                tx.prepare_cached(
                    "UPDATE alias SET tries = 0 WHERE peer = (SELECT sender FROM inbox WHERE id = ?1)",
                )?
                .execute([id.0])?;
                tx.count_gate(&ruling.rule);
            }
            Ok(())
        })
    }

    /// Keeps group talk that was not meant for the agent for the next message that is, the latest `limit` of a chat; the
    /// others are erased. To be called in order: what was said before it has its verdict.
    pub fn keep_as_context(&self, id: RowId, ruling: impl Into<Ruling>, limit: u32) -> Pending<()> {
        let ruling = ruling.into();
        self.submit(move |tx| {
            let kept = tx
                .prepare_cached(
                    "UPDATE inbox SET state = ?2, verdict = ?3, trace = ?4 WHERE id = ?1 AND state = 0",
                )?
                .execute(params![id.0, state::CONTEXT, ruling.rule, ruling.stored()])?;
            if kept == 0 {
                return Ok(());
            }
            let beyond: Vec<i64> = tx
                .prepare_cached(
                    "SELECT id FROM inbox WHERE chat = (SELECT chat FROM inbox WHERE id = ?1) AND state = 7
                     ORDER BY id DESC LIMIT -1 OFFSET ?2",
                )?
                .query_map(params![id.0, limit], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            forget_context(tx, &beyond)
        })
    }

    /// The context for a group message: what was kept of its chat since the last event, at most the latest `limit`,
    /// oldest first. A redelivered event gets the context that it had.
    pub fn context(&self, id: RowId, limit: u32) -> Pending<Vec<Stored>> {
        self.submit(move |tx| {
            let mut rows = select(
                tx,
                "(context_of = ?1 OR (state = 7 AND id < ?1 AND chat = (SELECT chat FROM inbox WHERE id = ?1)))
                 ORDER BY id DESC LIMIT ?2",
                &[&id.0, &limit],
            )?;
            rows.reverse();
            Ok(rows)
        })
    }

    /// What happened, ready to become an event; whoever it concerns is somebody known from now on.
    pub fn introduce(&self, happened: Happened) -> Pending<Stored> {
        self.submit(move |tx| {
            let sender = peers::arrived(tx, &happened.sender)?;
            let chat = peers::arrived(tx, &happened.chat)?;
            // Who calls, or writes what cannot be read, has turned to us.
            let turns = ["call.incoming", "call.missed", "message.undecryptable"];
            if chat == sender && turns.contains(&happened.draft.event_type.as_str()) {
                peers::opened(tx, chat, happened.timestamp)?;
            }
            let sender = peers::load(tx, sender)?;
            let chat = peers::load(tx, chat)?;
            Ok(Stored {
                id: RowId(0),
                event_id: format!(
                    "whatsapp:{}:{}:{}",
                    chat.public_id, sender.public_id, happened.name
                ),
                route: happened.chat[0].clone(),
                stanza_id: happened.stanza_id,
                timestamp: happened.timestamp,
                push_name: None,
                people: people::named(tx, &chat, &happened.draft)?,
                group: group_of(tx, &chat)?,
                chat,
                sender,
                draft: happened.draft,
                media: Vec::new(),
                attempt: 1,
                redelivered: false,
                durable: false,
            })
        })
    }
}

/// Erases group talk that is given with nothing any more.
fn forget_context(tx: &Tx<'_>, said: &[i64]) -> rusqlite::Result<()> {
    for id in said {
        erase(tx, RowId(*id), "group_context_messages")?;
    }
    Ok(())
}

/// Refuses a message; whether there was something to refuse.
pub(super) fn deny(tx: &Tx<'_>, id: RowId, ruling: &Ruling) -> rusqlite::Result<bool> {
    explain(tx, id, ruling)?;
    let erased = erase(tx, id, &ruling.rule)?;
    if erased {
        votes::erase(tx, id)?;
        tx.count_gate(&ruling.rule);
    }
    Ok(erased)
}

fn explain(tx: &Tx<'_>, id: RowId, ruling: &Ruling) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE inbox SET trace = ?2 WHERE id = ?1 AND state IN (0, 7, 8, 9)")?
        .execute(params![id.0, ruling.stored()])?;
    Ok(())
}

/// Whether there was something to erase.
pub(super) fn erase(tx: &Tx<'_>, id: RowId, verdict: &str) -> rusqlite::Result<bool> {
    let erased = tx
        .prepare_cached(
            "UPDATE inbox SET state = ?2, verdict = ?3, draft = NULL, raw = NULL, held = NULL
             WHERE id = ?1 AND state IN (0, 7, 8, 9)",
        )?
        .execute(params![id.0, state::DENIED, verdict])?;
    sealed::forget(tx, id)?;
    if erased > 0 {
        tx.text_erased();
        letting_go::erase(tx, id.0)?;
    }
    Ok(erased > 0)
}

fn insert(tx: &Tx<'_>, message: &NewInbound) -> rusqlite::Result<Inserted> {
    peers::arrived(tx, &message.chat)?;
    let sender = peers::arrived(tx, &message.sender)?;
    // The sender's addresses may have shown that the chat is an older peer.
    let chat = peers::arrived(tx, &message.chat)?;
    let mut sealed = false;
    let (draft, vote) = match targets::reveal(tx, message, chat, sender)? {
        Revealed::Same => (Cow::Borrowed(&message.draft), None),
        Revealed::Other(draft, vote) => (Cow::Owned(draft), vote),
        Revealed::Nothing(draft) => {
            sealed = true;
            (Cow::Owned(draft), None)
        }
    };
    let state = match (message.own, sealed) {
        (true, _) => state::OWN,
        (false, true) => state::SEALED,
        (false, false) => state::WAITING,
    };
    let public = |key| peers::load(tx, key).map(|p| p.public_id);
    let event_id = format!(
        "whatsapp:{}:{}:{}",
        public(chat)?,
        public(sender)?,
        message.stanza_id
    );
    let edits = match draft.event_type.as_str() {
        "message.edited" => draft.target_message_id.as_deref(),
        _ => None,
    };
    let new = tx
        .prepare_cached(
            "INSERT INTO inbox (chat, sender, stanza, event_id, route, timestamp, push_name, draft, raw, state, edits, stored)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, unixepoch()) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            chat.0,
            sender.0,
            message.stanza_id,
            event_id,
            message.route.to_string(),
            message.timestamp,
            message.push_name,
            json(&draft)?,
            message.raw,
            state,
            edits
        ])?;
    if new == 0 {
        trace::note(
            tx,
            &Dropped {
                chat: message.chat[0].clone(),
                sender: message.sender[0].clone(),
                stanza_id: message.stanza_id.clone(),
                reason: "duplicate".to_owned(),
            },
        )?;
        return Ok(Inserted::Duplicate);
    }
    let id = RowId(tx.last_insert_rowid());
    if !message.own {
        let author = message.sender.first().filter(|_| chat != sender);
        media::insert(tx, id.0, author, &draft.attachments)?;
    }
    if let Some(vote) = vote {
        votes::record(tx, id, sender, &vote)?;
    }
    if let Some(target) = message.draft.target_message_id.as_deref() {
        if sealed {
            sealed::wait(tx, id, target)?;
        } else if let Some(option) = reveal::added_option(&message.draft) {
            votes::option_added(tx, id, target, option)?;
        }
    }
    if reveal::is_answered(&message.draft) {
        sealed::open(tx, chat, &message.stanza_id)?;
    }
    if message.own {
        return Ok(Inserted::Inserted(id));
    }
    if message.route.kind() == ChatKind::Group {
        groups::spoken_in(tx, &message.route, &message.sender[0])?;
        if draft.event_type == "message.revoked" {
            taken_back(tx, chat, &draft)?;
        }
    }
    let name = message.push_name.as_deref();
    if chat == sender {
        peers::seen(tx, chat, Some(&message.route), name, message.timestamp)?;
        peers::opened(tx, chat, message.timestamp)?;
    } else {
        peers::seen(tx, sender, message.sender.first(), name, message.timestamp)?;
        peers::seen(tx, chat, Some(&message.route), None, message.timestamp)?;
    }
    Ok(Inserted::Inserted(id))
}

/// What was deleted before it was given to the agent as context is not given any more. Who may delete it was looked at.
fn taken_back(tx: &Tx<'_>, chat: PeerKey, revocation: &Draft) -> rusqlite::Result<()> {
    let said: Vec<i64> = tx
        .prepare_cached("SELECT id FROM inbox WHERE chat = ?1 AND stanza = ?2 AND state = 7")?
        .query_map(params![chat.0, revocation.target_message_id], |row| {
            row.get(0)
        })?
        .collect::<rusqlite::Result<_>>()?;
    for said in said {
        erase(tx, RowId(said), "message.revoked")?;
    }
    Ok(())
}

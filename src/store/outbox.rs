//! What goes out: requests, the messages they consist of, and which request a repeated call belongs to.
//!
//! Invariant: a message has its id here before a byte of it leaves, and keeps it; a call that repeats an earlier one
//! gets the earlier one's ids.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Peer, Pending, StagedName, Store, Tx, ledger, peers, reads};
use crate::identity::Address;

/// An idempotency key stands for its request this long, seconds.
const KEY_LIFETIME: i64 = 7 * 24 * 3600;

/// A call for the outbox. Another process may hand it to the owner of the connection, and hand it over once more
/// when that one is gone: it is the same call as long as its messages have the same ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutboundRequest {
    /// The caller's key for this request.
    pub idempotency_key: Option<String>,
    /// Tells whether two calls ask for the same; see `outbound::content_hash`.
    pub content_hash: String,
    /// The message that this answers: its chat and stanza id.
    pub reply_to: Option<(Address, String)>,
    /// Whether what it answers is to be marked as read.
    #[serde(default)]
    pub marks_read: bool,
    /// The addresses of the destination, at least one.
    pub chat: Vec<Address>,
    /// The messages, in their order. Without any the request is done at once.
    pub parts: Vec<NewPart>,
    /// Until when it may wait for its first handing over, Unix seconds.
    pub expires_at: i64,
}

/// One message of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewPart {
    /// Its id on the wire, minted by the caller. One that is here already means that this very call is.
    pub message_id: String,
    /// The `wa::Message`, encoded.
    #[serde(serialize_with = "as_base64", deserialize_with = "from_base64")]
    pub payload: Vec<u8>,
    /// What it is: `text`, `image` and so on.
    pub kind: String,
    /// The file that has to be uploaded before it can go; the rest of what the message says of it is in `payload`.
    #[serde(default)]
    pub file: Option<StagedName>,
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64.encode(bytes))
}

fn from_base64<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    BASE64.decode(text).map_err(serde::de::Error::custom)
}

/// Key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) i64);

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// It is a new request.
    New {
        /// Its key.
        request: RequestId,
        /// Where it goes.
        chat: Peer,
        /// Its messages.
        parts: Vec<PartState>,
    },
    /// It repeats an earlier request, and has its outcome.
    Joined {
        /// The earlier request.
        request: RequestId,
        /// Where it goes.
        chat: Peer,
        /// The earlier request's messages.
        parts: Vec<PartState>,
    },
    /// Its idempotency key belongs to a request with other content.
    Conflict,
}

/// What a call repeats, as far as can be told before its messages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// Nothing.
    Nothing,
    /// An earlier request; without messages of its own the call joins it as it is.
    Earlier,
    /// An earlier request that was given up before all of it was tried; what was given up needs its files anew.
    GivenUp,
    /// Its idempotency key belongs to a request with other content.
    Conflict,
}

/// A message of the outbox and how far it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartState {
    /// Its id on the wire.
    pub message_id: String,
    /// What it is: `text`, `image` and so on.
    pub kind: String,
    /// How far it got.
    pub state: DeliveryState,
    /// Whether it is still going to be tried, or its answer awaited.
    pub open: bool,
    /// Why it was refused.
    pub error: Option<String>,
    /// When the server took it, Unix seconds.
    pub sent_at: Option<i64>,
}

/// How far a message got. Up to `Played` each is further than the one before it, and a message only moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryState {
    /// Nobody has tried yet.
    Queued = 0,
    /// With the connection; the server's answer is awaited.
    Handed = 1,
    /// Was handed over; whether the server took it is not known.
    Unknown = 2,
    /// The server took it.
    Sent = 3,
    /// The server took it, but there is reason to think that it reached no device.
    Suspect = 4,
    /// A device of the recipient has it.
    Delivered = 5,
    /// The recipient saw it.
    Read = 6,
    /// The recipient played it.
    Played = 7,
    /// It was refused.
    Rejected = 8,
    /// It waited too long for a connection.
    Expired = 9,
    /// The caller took it back before it went.
    Withdrawn = 10,
}

impl DeliveryState {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued | Self::Handed => "queued",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Suspect => "suspect",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Played => "played",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether the server has taken it.
    pub fn is_confirmed(self) -> bool {
        (Self::Sent..=Self::Played).contains(&self)
    }

    /// Whether nothing more is going to be tried. `Unknown` may still become better or be tried again.
    pub fn is_final(self) -> bool {
        self >= Self::Sent
    }

    pub(super) fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Queued,
            1 => Self::Handed,
            3 => Self::Sent,
            4 => Self::Suspect,
            5 => Self::Delivered,
            6 => Self::Read,
            7 => Self::Played,
            8 => Self::Rejected,
            9 => Self::Expired,
            10 => Self::Withdrawn,
            _ => Self::Unknown,
        }
    }
}

impl Store {
    /// Enters a call into the outbox, or joins it to the request that it repeats. What it answers is proven handled
    /// in the same transaction.
    pub fn enqueue(&self, request: OutboundRequest, now: i64) -> Pending<Enqueued> {
        self.submit(move |tx| enqueue(tx, &request, now))
    }

    /// What a call repeats, before it has any messages.
    pub fn repeats(&self, call: OutboundRequest, now: i64) -> Pending<Repeats> {
        self.look(move |tx| {
            let emission = answered(tx, &call)?;
            let request = match earlier(tx, &call, emission, now)? {
                Earlier::None => return Ok(Repeats::Nothing),
                Earlier::Conflict => return Ok(Repeats::Conflict),
                Earlier::Same(request, _) => request,
            };
            let given_up = tx
                .prepare_cached("SELECT 1 FROM part WHERE request = ?1 AND state IN (9, 10)")?
                .exists([request])?;
            Ok(match given_up {
                true => Repeats::GivenUp,
                false => Repeats::Earlier,
            })
        })
    }

    /// Notes what was left out of a request, for those who repeat it.
    pub fn note_degraded(&self, request: RequestId, degraded: String) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached("UPDATE request SET degraded = ?2 WHERE id = ?1")?
                .execute(params![request.0, degraded])?;
            Ok(())
        })
    }

    /// What was left out of a request.
    pub fn degraded(&self, request: RequestId) -> Pending<Option<String>> {
        self.submit(move |tx| {
            tx.prepare_cached("SELECT degraded FROM request WHERE id = ?1")?
                .query_row([request.0], |row| row.get(0))
                .optional()
                .map(Option::flatten)
        })
    }

    /// The request that has this message.
    pub fn request_of(&self, message_id: String) -> Pending<Option<RequestId>> {
        self.submit(move |tx| {
            Ok(with_message(tx, &message_id)?.map(|(request, _)| RequestId(request)))
        })
    }

    /// The messages of a request and how far they got.
    pub fn request(&self, request: RequestId) -> Pending<Vec<PartState>> {
        self.submit(move |tx| parts(tx, request))
    }

    /// How far one message got; `None` if it is not ours.
    pub fn part(&self, message_id: String) -> Pending<Option<PartState>> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "SELECT message_id, state, error, sent, open, kind FROM part WHERE message_id = ?1",
            )?
            .query_row([message_id], part_state)
            .optional()
        })
    }

    /// Takes a request back as far as it has not been tried; the messages and what became of them.
    pub fn withdraw(&self, request: RequestId) -> Pending<Vec<PartState>> {
        self.submit(move |tx| withdraw(tx, request))
    }
}

pub(super) fn withdraw(tx: &Tx<'_>, request: RequestId) -> rusqlite::Result<Vec<PartState>> {
    tx.prepare_cached("UPDATE part SET state = 10, open = 0 WHERE request = ?1 AND state = 0")?
        .execute([request.0])?;
    tx.outbound_given_up();
    parts(tx, request)
}

pub(super) fn enqueue(tx: &Tx<'_>, call: &OutboundRequest, now: i64) -> rusqlite::Result<Enqueued> {
    if let Some(part) = call.parts.first()
        && let Some(earlier) = with_message(tx, &part.message_id)?
    {
        return join(tx, earlier, call);
    }
    let chat = peers::resolve(tx, &call.chat)?;
    let emission = answered(tx, call)?;
    if let Some(emission) = emission {
        ledger::prove_reply(tx, emission)?;
    }
    let earlier = earlier(tx, call, emission, now)?;
    if matches!(earlier, Earlier::Conflict) {
        return Ok(Enqueued::Conflict);
    }
    if let Some(emission) = emission.filter(|_| call.marks_read) {
        reads::want(tx, emission, emission)?;
    }
    match earlier {
        Earlier::Same(id, chat) => {
            if call.idempotency_key.is_none() {
                // The next reply of this turn is the next one of the earlier turn, not the same again.
                tx.prepare_cached(
                    "UPDATE request SET reply_emission = coalesce(?2, reply_emission) WHERE id = ?1",
                )?
                .execute(params![id, emission])?;
            }
            return join(tx, (id, chat), call);
        }
        Earlier::None | Earlier::Conflict => {}
    }
    if let Some(key) = &call.idempotency_key {
        // Given again after its time, it was another call's.
        tx.prepare_cached("UPDATE request SET idempotency_key = NULL WHERE idempotency_key = ?1")?
            .execute([key])?;
    }
    let reply_chat = match &call.reply_to {
        Some((chat, _)) => peers::find(tx, chat)?,
        None => None,
    };
    tx.prepare_cached(
        "INSERT INTO request (idempotency_key, content_hash, chat, reply_chat, reply_stanza, reply_emission, created, expires)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        call.idempotency_key,
        call.content_hash,
        chat.0,
        reply_chat.map(|c| c.0),
        call.reply_to.as_ref().map(|(_, stanza)| stanza),
        emission,
        now,
        call.expires_at
    ])?;
    let request = RequestId(tx.last_insert_rowid());
    for part in &call.parts {
        tx.prepare_cached(
            "INSERT INTO part (message_id, request, chat, kind, payload, file) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            part.message_id,
            request.0,
            chat.0,
            part.kind,
            part.payload,
            part.file.as_ref().map(StagedName::as_str)
        ])?;
    }
    tx.outbound_changed();
    let parts = call.parts.iter().map(|part| PartState {
        message_id: part.message_id.clone(),
        kind: part.kind.clone(),
        state: DeliveryState::Queued,
        open: true,
        error: None,
        sent_at: None,
    });
    Ok(Enqueued::New {
        request,
        chat: peers::load(tx, chat)?,
        parts: parts.collect(),
    })
}

/// The request that has this message, and its chat.
fn with_message(tx: &Tx<'_>, message_id: &str) -> rusqlite::Result<Option<(i64, i64)>> {
    tx.prepare_cached(
        "SELECT r.id, r.chat FROM part p JOIN request r ON r.id = p.request WHERE p.message_id = ?1",
    )?
    .query_row([message_id], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

fn join(tx: &Tx<'_>, (id, chat): (i64, i64), call: &OutboundRequest) -> rusqlite::Result<Enqueued> {
    revive(tx, id, call)?;
    Ok(Enqueued::Joined {
        request: RequestId(id),
        chat: peers::load(tx, super::PeerKey(chat))?,
        parts: parts(tx, RequestId(id))?,
    })
}

/// What of a repeated request was given up before it was tried waits again, under its old ids: none of it ever left.
/// Their files may be gone, so they take those that the repeating call has brought.
fn revive(tx: &Tx<'_>, request: i64, call: &OutboundRequest) -> rusqlite::Result<()> {
    // It was not asked to, when the call saw that there was nothing to bring.
    if call.parts.is_empty() {
        return Ok(());
    }
    replace_files(tx, request, call)?;
    let revived = tx
        .prepare_cached(
            "UPDATE part SET state = 0, open = 1 WHERE request = ?1 AND state IN (9, 10)",
        )?
        .execute([request])?;
    if revived > 0 {
        tx.prepare_cached("UPDATE request SET expires = ?2 WHERE id = ?1")?
            .execute([request, call.expires_at])?;
        tx.outbound_changed();
    }
    Ok(())
}

/// None of what is given up ever left, so it may as well be what the same call has made of itself now.
fn replace_files(tx: &Tx<'_>, request: i64, call: &OutboundRequest) -> rusqlite::Result<()> {
    if call.parts.iter().all(|part| part.file.is_none()) {
        return Ok(());
    }
    let earlier = parts(tx, RequestId(request))?;
    if earlier.len() != call.parts.len() {
        return Ok(());
    }
    for (earlier, part) in earlier.iter().zip(&call.parts) {
        tx.prepare_cached(
            "UPDATE part SET payload = ?2, file = ?3, synced = 0 WHERE message_id = ?1 AND kind = ?4 AND state IN (9, 10) AND attempts = 0",
        )?
        .execute(params![
            earlier.message_id,
            part.payload,
            part.file.as_ref().map(StagedName::as_str),
            part.kind
        ])?;
    }
    Ok(())
}

/// The request that a call repeats.
enum Earlier {
    None,
    /// Its id and its chat.
    Same(i64, i64),
    Conflict,
}

/// The emission that a call answers.
fn answered(tx: &Tx<'_>, call: &OutboundRequest) -> rusqlite::Result<Option<i64>> {
    match &call.reply_to {
        Some((chat, stanza)) => ledger::replied_to(tx, chat, stanza),
        None => Ok(None),
    }
}

fn earlier(
    tx: &Tx<'_>,
    call: &OutboundRequest,
    emission: Option<i64>,
    now: i64,
) -> rusqlite::Result<Earlier> {
    let same = |found: Option<(i64, i64)>| {
        found.map_or(Earlier::None, |(id, chat)| Earlier::Same(id, chat))
    };
    let Some(key) = &call.idempotency_key else {
        return repeated_reply(tx, call, emission).map(same);
    };
    let found: Option<(String, i64, i64)> = tx
        .prepare_cached(
            "SELECT content_hash, id, chat FROM request WHERE idempotency_key = ?1 AND created >= ?2",
        )?
        .query_row(params![key, now.saturating_sub(KEY_LIFETIME)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(match found {
        Some((hash, ..)) if hash != call.content_hash => Earlier::Conflict,
        found => same(found.map(|(_, id, chat)| (id, chat))),
    })
}

/// A host that died while it replied runs the event again, and the agent words its reply anew: then the first
/// reply stands. And a host that gave up waiting asks for the same once more while it is still under way.
fn repeated_reply(
    tx: &Tx<'_>,
    call: &OutboundRequest,
    emission: Option<i64>,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let Some((chat, stanza)) = &call.reply_to else {
        return Ok(None);
    };
    let Some(chat) = peers::find(tx, chat)? else {
        return Ok(None);
    };
    tx.prepare_cached(
            "SELECT r.id, r.chat FROM request r
             WHERE r.reply_chat = ?1 AND r.reply_stanza = ?2 AND r.idempotency_key IS NULL
               AND NOT EXISTS (SELECT 1 FROM part p WHERE p.request = r.id AND p.state >= 8)
               AND (r.reply_emission < ?3
                    OR (r.content_hash = ?4 AND EXISTS (SELECT 1 FROM part p WHERE p.request = r.id AND p.state < 3)))
             ORDER BY r.id LIMIT 1",
        )?
        .query_row(params![chat.0, stanza, emission, call.content_hash], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

pub(super) fn parts(tx: &Tx<'_>, request: RequestId) -> rusqlite::Result<Vec<PartState>> {
    tx.prepare_cached(
        "SELECT message_id, state, error, sent, open, kind FROM part WHERE request = ?1 ORDER BY pos",
    )?
    .query_map([request.0], part_state)?
    .collect()
}

fn part_state(row: &Row<'_>) -> rusqlite::Result<PartState> {
    Ok(PartState {
        message_id: row.get(0)?,
        state: DeliveryState::from_number(row.get(1)?),
        error: row.get(2)?,
        sent_at: row.get(3)?,
        open: row.get(4)?,
        kind: row.get(5)?,
    })
}

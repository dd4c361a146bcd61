//! What goes out: requests, and the messages they consist of.
//!
//! Invariant: a message has its id here before a byte of it leaves, and keeps it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::repeats::{Earlier, answered, earlier, join, with_message};
use super::{Peer, Pending, StagedName, Store, Tx, ledger, peers, reads};
use crate::identity::Address;

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

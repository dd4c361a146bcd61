//! The outbox from the sender's side: which message is next in each chat, and what became of it.
//!
//! Invariant: per chat first in, first out. A message stays at the head until it is acknowledged, refused or expired,
//! or has been tried three times without an answer. It is handed over within the limits of `pacing`.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::counters::Counter;
use super::outbox::{self, DeliveryState, Enqueued, OutboundRequest};
use super::pacing::{self, Turn};
use super::rate::{Limits, Pace};
use super::{
    Foreseen, Peer, PeerKey, Pending, RequestId, StagedName, Store, Tx, numbers, peers, turns,
};
use crate::identity::Address;

/// So often is a message handed over before the chat goes on without knowing.
const ATTEMPTS: u32 = 3;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id on the wire.
    pub message_id: String,
    /// The request that it belongs to.
    pub request: RequestId,
    /// Where it goes: to the peer's `route`.
    pub chat: Peer,
    /// The `wa::Message`, encoded.
    pub payload: Vec<u8>,
    /// What it is: `text`, `image` and so on.
    pub kind: String,
    /// The file that has to be uploaded before it can go.
    pub file: Option<StagedName>,
    /// How often it was handed over already.
    pub attempts: u32,
    /// Until when it may wait for its first handing over, Unix seconds.
    pub expires_at: i64,
}

/// What may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    /// The messages.
    pub ready: Vec<Outgoing>,
    /// When the limits let the next of the others go, Unix microseconds.
    pub next: Option<i64>,
}

/// What a receipt of another device says about messages of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// A device has it.
    Delivered,
    /// The person saw it.
    Read,
    /// The person played it.
    Played,
    /// Another device of our own has it.
    Own,
}

impl Store {
    /// Who becomes owner calls this first: what an earlier owner had handed over is of unknown fate, and tried again.
    pub fn recover_outbox(&self) -> Pending<()> {
        self.submit(|tx| {
            tx.prepare_cached(
                "UPDATE part SET state = 2, open = attempts < ?1 WHERE open = 1 AND state = 1",
            )?
            .execute([ATTEMPTS])?;
            tx.outbound_changed();
            Ok(())
        })
    }

    /// The messages at the heads of their chats that may go now, unless they are with the connection; in the order in
    /// which they were entered, at most `limit`. The chats in `besides` do not count.
    pub fn next_to_send(
        &self,
        limit: usize,
        besides: HashSet<PeerKey>,
        pace: Pace,
    ) -> Pending<Heads> {
        self.submit(move |tx| {
            let (ready, next) = pacing::heads(tx, pace, limit, &besides)?;
            let ready = ready.into_iter().map(|pos| load(tx, pos));
            Ok(Heads {
                ready: ready.collect::<rusqlite::Result<_>>()?,
                next,
            })
        })
    }

    /// Enters a call like [`enqueue`](Self::enqueue), for who can send at once. If nothing of its chat waits before it,
    /// it has no file to be uploaded, WhatsApp need not be asked about its number
    /// ([`before_first`](Self::before_first)), and the limits leave a place for it, its first message is noted as handed
    /// over, as by [`mark_handed`](Self::mark_handed), and given back. It may leave once that is on the disk.
    /// If it is several messages, the last of which has its turn only after `whole_by`, Unix microseconds, it is taken
    /// back instead.
    pub(crate) fn enqueue_handed(
        &self,
        request: OutboundRequest,
        pace: Pace,
        whole_by: Option<i64>,
        now: i64,
    ) -> Foreseen<(Enqueued, Option<Outgoing>)> {
        self.submit_foreseen(move |tx| {
            let mut entered = outbox::enqueue(tx, &request, now)?;
            let mut head = None;
            if let (Enqueued::New { request, parts, .. }, Some(by)) = (&mut entered, whole_by)
                && parts.len() > 1
                && turns::turns(tx, *request, pace)?.is_some_and(|turns| turns.last > by)
            {
                *parts = outbox::withdraw(tx, *request)?;
            } else if let Enqueued::New {
                request: id,
                chat,
                parts,
            } = &mut entered
                && let Some((state, part)) = parts.first_mut().zip(request.parts.first())
                && part.file.is_none()
                && request.expires_at > now
                && numbers::question(tx, chat, now)?.is_none()
                && is_head(tx, chat.key, &part.message_id)?
                && let Ok(place) = pacing::take(tx, pace, &part.message_id)?
            {
                tx.prepare_cached(
                    "UPDATE part SET state = 1, attempts = 1, place = ?2 WHERE message_id = ?1",
                )?
                .execute(params![part.message_id, place])?;
                state.state = DeliveryState::Handed;
                head = Some(Outgoing {
                    message_id: part.message_id.clone(),
                    request: *id,
                    chat: chat.clone(),
                    payload: part.payload.clone(),
                    kind: part.kind.clone(),
                    file: None,
                    attempts: 0,
                    expires_at: request.expires_at,
                });
            }
            Ok((entered, head))
        })
    }

    /// Notes, before it is handed to the connection, that a message may from now on have left. It must not be sent if
    /// its turn is not now.
    pub fn mark_handed(&self, message_id: String, pace: Pace) -> Pending<Turn> {
        self.submit(move |tx| {
            let place: Option<i64> = tx
                .prepare_cached(
                    "SELECT place FROM part WHERE message_id = ?1 AND open = 1 AND state IN (0, 2)",
                )?
                .query_row([&message_id], |row| row.get(0))
                .optional()?;
            let place = match place {
                None => Err(Turn::Gone),
                Some(0) => pacing::take(tx, pace, &message_id)?,
                Some(_) if pacing::is_restricted(tx, pace, &message_id)? => {
                    tx.prepare_cached("UPDATE part SET open = 0 WHERE message_id = ?1")?
                        .execute([&message_id])?;
                    tx.outbound_changed();
                    Err(Turn::Doubtful)
                }
                Some(place) => Ok(place),
            };
            let place = match place {
                Ok(place) => place,
                Err(turn) => return Ok(turn),
            };
            tx.prepare_cached(
                "UPDATE part SET state = 1, attempts = attempts + 1, place = ?2 WHERE message_id = ?1",
            )?
            .execute(params![message_id, place])?;
            Ok(Turn::Now)
        })
    }

    /// The connection never took the message: it was not an attempt. The message waits on, without its place.
    pub fn mark_not_handed(&self, message_id: String, limits: Limits) -> Pending<()> {
        self.submit(move |tx| {
            pacing::give_back(tx, limits, &message_id)?;
            not_tried(tx, &message_id)
        })
    }

    /// The server refused the message for now: that was not an attempt either. It waits on for another place.
    pub fn mark_put_off(&self, message_id: String, pace: Pace) -> Pending<()> {
        self.submit(move |tx| {
            pacing::put_off(tx, pace, &message_id)?;
            not_tried(tx, &message_id)
        })
    }

    /// The server took the message at `at`, Unix seconds.
    pub fn mark_sent(&self, message_id: String, at: i64) -> Pending<()> {
        self.submit_patient(move |tx| {
            let sent = tx
                .prepare_cached(
                    "UPDATE part SET state = 3, open = 0, sent = ?2 WHERE message_id = ?1 AND state < 3",
                )?
                .execute(params![message_id, at])?;
            tx.count(Counter::Out, sent);
            tx.outbound_changed();
            Ok(())
        })
    }

    /// A message that was handed to the connection, encoded, for a device of its chat that asks for it again; none for
    /// another chat.
    pub fn sent_payload(&self, chat: Address, message_id: String) -> Pending<Option<Vec<u8>>> {
        self.look(move |tx| {
            let Some(chat) = peers::find(tx, &chat)? else {
                return Ok(None);
            };
            tx.prepare_cached(
                "SELECT payload FROM part WHERE message_id = ?1 AND chat = ?2 AND attempts > 0 AND payload IS NOT NULL",
            )?
            .query_row(params![message_id, chat.0], |row| row.get(0))
            .optional()
        })
    }

    /// What goes out is not what was entered, and whoever asks for it again has to get the same.
    pub fn replace_payload(&self, message_id: String, payload: Vec<u8>) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached("UPDATE part SET payload = ?2 WHERE message_id = ?1")?
                .execute(params![message_id, payload])?;
            Ok(())
        })
    }

    /// The server took the message, but it may have gone to no device of the recipient.
    pub fn mark_suspect(&self, message_id: String) -> Pending<()> {
        self.update(
            "UPDATE part SET state = 4, open = 0 WHERE message_id = ?1 AND state < 4",
            message_id,
        )
    }

    /// The message was refused, with this error code; what was said before of why is replaced.
    pub fn mark_rejected(&self, message_id: String, code: String) -> Pending<()> {
        self.submit(move |tx| reject(tx, &message_id, &code))
    }

    /// The message was handed over and no answer came. It is tried again under its id, three times in all.
    /// Whether it is.
    pub fn mark_unknown(&self, message_id: String) -> Pending<bool> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "UPDATE part SET state = 2, open = attempts < ?2 WHERE message_id = ?1 AND state = 1",
            )?
            .execute(params![message_id, ATTEMPTS])?;
            tx.outbound_changed();
            tx.prepare_cached("SELECT 1 FROM part WHERE message_id = ?1 AND open = 1")?
                .exists([message_id])
        })
    }

    /// Gives up what has waited too long without being tried, or put off; how many messages it were. Of what was put
    /// off after an attempt of unknown fate, the fate stays unknown.
    pub fn expire(&self, now: i64) -> Pending<usize> {
        self.submit(move |tx| {
            let n = tx
                .prepare_cached(
                    "UPDATE part SET state = iif(state = 0, 9, state), open = 0
                     WHERE open = 1 AND state IN (0, 2) AND place = 0
                     AND (SELECT expires FROM request WHERE id = part.request) <= ?1",
                )?
                .execute([now])?;
            if n > 0 {
                tx.outbound_given_up();
            }
            Ok(n)
        })
    }

    /// Takes a receipt for these stanza ids; those of them that are ours and got further by it.
    pub fn receipt(&self, message_ids: Vec<String>, receipt: Receipt) -> Pending<Vec<String>> {
        let to = match receipt {
            Receipt::Delivered => DeliveryState::Delivered,
            Receipt::Read => DeliveryState::Read,
            Receipt::Played => DeliveryState::Played,
            Receipt::Own => {
                return self.submit_patient(move |tx| {
                    for id in message_ids {
                        tx.prepare_cached("UPDATE part SET own = 1 WHERE message_id = ?1")?
                            .execute([id])?;
                    }
                    Ok(Vec::new())
                });
            }
        };
        self.submit_patient(move |tx| {
            let mut moved = Vec::new();
            for id in message_ids {
                // A receipt is also the proof for a message whose acknowledgement never came.
                let n = tx
                    .prepare_cached("UPDATE part SET state = ?2, open = 0 WHERE message_id = ?1 AND state BETWEEN 1 AND ?2 - 1")?
                    .execute(params![id, to as i64])?;
                if n == 0 {
                    continue;
                }
                // A device that has the later message has been told of the earlier one. If only our own devices have
                // confirmed that, it was encrypted for nobody else, or nobody else can read it.
                tx.prepare_cached(
                    "UPDATE part SET state = 4 WHERE own = 1 AND state = 3
                     AND chat = (SELECT chat FROM part WHERE message_id = ?1) AND pos < (SELECT pos FROM part WHERE message_id = ?1)",
                )?
                .execute([&id])?;
                moved.push(id);
            }
            if !moved.is_empty() {
                tx.outbound_changed();
            }
            Ok(moved)
        })
    }

    fn update(&self, sql: &'static str, message_id: String) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached(sql)?.execute([message_id])?;
            tx.outbound_changed();
            Ok(())
        })
    }
}

/// The message was refused, with this error code.
pub(super) fn reject(tx: &Tx<'_>, message_id: &str, code: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE part SET state = 8, open = 0, error = ?2 WHERE message_id = ?1 AND (state < 3 OR state = 8)",
    )?
    .execute([message_id, code])?;
    tx.outbound_changed();
    Ok(())
}

/// Takes back what waits of this kind in a chat: what was not tried does not go, and what was tried is not tried again,
/// whatever is heard of that attempt.
pub(super) fn take_back(tx: &Tx<'_>, chat: PeerKey, kind: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE part SET state = CASE state WHEN 0 THEN 10 ELSE state END, open = (state = 1),
                attempts = CASE state WHEN 0 THEN attempts ELSE ?3 END
         WHERE chat = ?1 AND open = 1 AND kind = ?2",
    )?
    .execute(params![chat.0, kind, ATTEMPTS + 1])?;
    tx.outbound_changed();
    Ok(())
}

fn load(tx: &Tx<'_>, pos: i64) -> rusqlite::Result<Outgoing> {
    tx.prepare_cached(
        "SELECT p.message_id, p.request, p.chat, p.payload, p.kind, p.attempts, r.expires, p.file
         FROM part p JOIN request r ON r.id = p.request WHERE p.pos = ?1",
    )?
    .query_row([pos], |row| {
        Ok(Outgoing {
            message_id: row.get(0)?,
            request: RequestId(row.get(1)?),
            chat: peers::load(tx, PeerKey(row.get(2)?))?,
            payload: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(),
            kind: row.get(4)?,
            attempts: row.get(5)?,
            expires_at: row.get(6)?,
            file: row
                .get::<_, Option<String>>(7)?
                .and_then(|name| name.try_into().ok()),
        })
    })
}

/// Whether nothing of its chat waits before this message.
fn is_head(tx: &Tx<'_>, chat: PeerKey, message_id: &str) -> rusqlite::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM part WHERE message_id = ?1
         AND pos = (SELECT min(pos) FROM part WHERE chat = ?2 AND open = 1)",
    )?
    .exists(params![message_id, chat.0])
}

/// The message waits on, unless it was taken back meanwhile, which counts as more attempts than there are.
fn not_tried(tx: &Tx<'_>, message_id: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE part SET attempts = attempts - 1, state = CASE WHEN attempts > 1 THEN 2 ELSE 0 END,
                open = attempts <= ?2
         WHERE message_id = ?1 AND state = 1",
    )?
    .execute(params![message_id, ATTEMPTS])?;
    tx.outbound_changed();
    Ok(())
}

//! Which request a repeated call belongs to, and what becomes of it then.
//!
//! Invariant: what has left, or may have, is never sent under another id; what was given up before that waits again, if
//! all that it needs is there.

use rusqlite::{OptionalExtension, params};

use super::outbox::{self, NewPart, OutboundRequest, RequestId};
use super::{PeerKey, Pending, StagedName, Store, Tx, ledger, peers};

/// An idempotency key stands for its request this long, seconds.
const KEY_LIFETIME: i64 = 7 * 24 * 3600;

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

impl Store {
    /// What a call repeats, before it has any messages.
    pub fn repeats(&self, call: OutboundRequest, now: i64) -> Pending<Repeats> {
        self.look(move |tx| {
            let emission = answered(tx, &call)?;
            let request = match earlier(tx, &call, emission, now)? {
                Earlier::None => return Ok(Repeats::Nothing),
                Earlier::Conflict => return Ok(Repeats::Conflict),
                Earlier::Same(request, _) => request,
            };
            Ok(match is_given_up(tx, request, now)? {
                true => Repeats::GivenUp,
                false => Repeats::Earlier,
            })
        })
    }
}

/// The request that a call repeats.
pub(super) enum Earlier {
    None,
    /// Its id and its chat.
    Same(i64, i64),
    Conflict,
}

/// The emission that a call answers.
pub(super) fn answered(tx: &Tx<'_>, call: &OutboundRequest) -> rusqlite::Result<Option<i64>> {
    match &call.reply_to {
        Some((chat, stanza)) => ledger::replied_to(tx, chat, stanza),
        None => Ok(None),
    }
}

pub(super) fn earlier(
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

/// Whether anything of a request was given up before it was tried, or is about to be.
pub(super) fn is_given_up(tx: &Tx<'_>, request: i64, now: i64) -> rusqlite::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM part p JOIN request r ON r.id = p.request
         WHERE r.id = ?1 AND (p.state IN (9, 10) OR p.state = 0 AND p.open = 1 AND r.expires <= ?2)",
    )?
    .exists([request, now])
}

/// What of a repeated request was given up before it was tried waits again, under its old ids: none of it ever left.
/// Whether it is wholly what the repeating call has made of itself now.
pub(super) fn revive(
    tx: &Tx<'_>,
    request: i64,
    chat: PeerKey,
    call: &OutboundRequest,
    now: i64,
) -> rusqlite::Result<bool> {
    if !is_given_up(tx, request, now)? {
        return Ok(false);
    }
    tx.prepare_cached(
        "UPDATE part SET state = 9, open = 0 WHERE request = ?1 AND state = 0 AND open = 1
         AND (SELECT expires FROM request WHERE id = ?1) <= ?2",
    )?
    .execute([request, now])?;
    // Of each whether it was never tried, and whether it cannot go as it stands.
    let earlier: Vec<(String, String, bool, bool)> = tx
        .prepare_cached(
            "SELECT message_id, kind, state IN (9, 10) AND attempts = 0, file IS NOT NULL OR payload IS NULL
             FROM part WHERE request = ?1 ORDER BY pos",
        )?
        .query_map([request], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let renewed = earlier.iter().all(|(_, _, untried, _)| *untried);
    let same = earlier.len() == call.parts.len();
    for ((id, kind, untried, lacking), part) in earlier.iter().zip(&call.parts) {
        // Beside something that has left what can go goes as it was.
        if renewed || same && *untried && *lacking && *kind == part.kind {
            remake(tx, id, part)?;
        }
    }
    if renewed {
        for (id, ..) in earlier.iter().skip(call.parts.len()) {
            tx.prepare_cached("DELETE FROM part WHERE message_id = ?1")?
                .execute([id])?;
        }
        for part in call.parts.iter().skip(earlier.len()) {
            outbox::insert(tx, RequestId(request), chat, part)?;
        }
    }
    // What lacks a file, or is forgotten, stays given up.
    tx.prepare_cached(
        "UPDATE part SET state = 0, open = 1
         WHERE request = ?1 AND state IN (9, 10) AND file IS NULL AND payload IS NOT NULL",
    )?
    .execute([request])?;
    tx.prepare_cached("UPDATE request SET expires = ?2 WHERE id = ?1")?
        .execute([request, call.expires_at])?;
    tx.outbound_given_up();
    Ok(renewed)
}

/// A message that was given up is another one under the same id, and waits for a file of its own.
fn remake(tx: &Tx<'_>, message_id: &str, part: &NewPart) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE part SET payload = ?2, file = ?3, kind = ?4, state = 0, open = 1 WHERE message_id = ?1",
    )?
    .execute(params![
        message_id,
        part.payload,
        part.file.as_ref().map(StagedName::as_str),
        part.kind
    ])?;
    Ok(())
}

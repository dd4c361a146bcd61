//! Which earlier request a call repeats, and what it makes of that.
//!
//! Invariant: a call that repeats an earlier one gets the earlier one's ids, and nothing of it that may have left goes
//! again.

use rusqlite::{OptionalExtension, params};

use super::outbox::{Enqueued, OutboundRequest, RequestId, parts};
use super::{Pending, StagedName, Store, Tx, ledger, peers};

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
            let given_up = tx
                .prepare_cached("SELECT 1 FROM part WHERE request = ?1 AND state IN (9, 10)")?
                .exists([request])?;
            Ok(match given_up {
                true => Repeats::GivenUp,
                false => Repeats::Earlier,
            })
        })
    }
}

/// The request that has this message, and its chat.
pub(super) fn with_message(tx: &Tx<'_>, message_id: &str) -> rusqlite::Result<Option<(i64, i64)>> {
    tx.prepare_cached(
        "SELECT r.id, r.chat FROM part p JOIN request r ON r.id = p.request WHERE p.message_id = ?1",
    )?
    .query_row([message_id], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

pub(super) fn join(
    tx: &Tx<'_>,
    (id, chat): (i64, i64),
    call: &OutboundRequest,
) -> rusqlite::Result<Enqueued> {
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

//! What the host's behaviour proves, and what is sent again after a restart.
//!
//! The host acknowledges nothing. It does take events strictly one after the other, so whatever shows that it got to
//! event *n* of an ingress session shows that it is through with all that were emitted before it in that session:
//! a cursor in a request, a reply to an event. Invariant: evidence only moves forward; a proven event is never
//! emitted again.
//!
//! The same state that carries a cursor names the event that came with it. The host saves it before that event's turn,
//! so what it brings back says in whose turn the session ended, and only that event gets a lost turn: those behind it
//! had only been written. A state that names no event (the answer to `start_ingress`, the end of a burst) was saved
//! while there was no turn. A host that never brings its state back, or dies of the line itself, says nothing at all;
//! what keeps one event from ending it for ever is the number of emissions alone.
//!
//! A polling session is one batch. Its host stores the batch's cursor before it runs the first event, so there the
//! cursor says only that the batch arrived; replies are the only evidence.

use rusqlite::{OptionalExtension, params};

use super::inbox::{RowId, state};
use super::{Peer, Pending, Store, Tx, peers};
use crate::identity::Address;

/// Most events of a session that are emitted again.
const REPEATED: i64 = 20;

/// Events written longer ago are not emitted again, seconds.
const REPEATED_WITHIN: i64 = 3600;

/// So many sessions may end in the turn of an event before it is set aside.
const LOST_TURNS: i64 = 3;

/// An event that was emitted so often and is still the first without evidence makes way for the others. Far more than
/// [`LOST_TURNS`]: each time, the host may have ended before it took it.
const IN_VAIN: i64 = 10;

/// Numbers beyond this were never given by anybody: what is left of the range is for counting on.
const LARGEST: i64 = 1 << 53;

/// How the host takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `start_ingress`: a stream of notifications.
    Websocket,
    /// `poll_ingress`: one batch in one answer.
    Polling,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Polling => "polling",
        }
    }
}

/// An ingress session: one `start_ingress` or one `poll_ingress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(super) i64);

/// A session that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The session.
    pub session: SessionId,
    /// The cursor to carry until the first event is emitted.
    pub cursor: String,
    /// Events of earlier sessions that are emitted again.
    pub redelivered: usize,
    /// Events of earlier sessions of which nobody knows what became.
    pub unconfirmed: usize,
    /// Events set aside because three sessions ended in their turn.
    pub poisoned: usize,
}

/// An event that is not sent again by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOver {
    /// Its id, for [`Store::redeliver`].
    pub event_id: String,
    /// Whether three sessions ended in its turn; else it is not known what became of it.
    pub poisoned: bool,
    /// The server's time, Unix seconds.
    pub timestamp: i64,
}

impl Store {
    /// The cursor that covers everything up to an emission number; also the name of that emission.
    pub fn cursor(&self, emission: i64) -> String {
        format!("{}:{emission}", self.id())
    }

    /// The emission number in a cursor of this store; anything else is nobody's evidence.
    fn number(&self, cursor: &str) -> Option<i64> {
        let (store, number) = cursor.split_once(':')?;
        (store == self.id()).then(|| number.parse().ok()).flatten()
    }

    /// Begins an ingress session: takes the evidence of `cursor` and of `event`, the event that the host's state came
    /// with (as [`cursor`](Self::cursor) writes it), then decides about everything that earlier sessions left unproven.
    /// Call it once the account is ours alone; it takes every other session for ended.
    pub fn begin_session(
        &self,
        mode: Mode,
        cursor: Option<&str>,
        event: Option<&str>,
        now: i64,
    ) -> Pending<Begun> {
        let number = cursor.and_then(|c| self.number(c));
        let turn = event.and_then(|e| self.number(e));
        let store = self.id().to_owned();
        self.submit(move |tx| {
            let number = number.map(|n| given(tx, n)).transpose()?.flatten();
            let turn = turn.map(|n| given(tx, n)).transpose()?.flatten();
            if let Some(number) = number {
                prove_cursor(tx, number)?;
            }
            let (redelivered, unconfirmed, poisoned) = settle(tx, turn, now)?;
            tx.prepare_cached("INSERT INTO ingress (mode, began) VALUES (?1, ?2)")?
                .execute(params![mode.as_str(), now])?;
            let session = SessionId(tx.last_insert_rowid());
            let proven: i64 = tx
                .prepare_cached("SELECT coalesce(max(proven), 0) FROM ingress")?
                .query_row([], |row| row.get(0))?;
            tx.inbound_changed();
            tx.turns_changed();
            Ok(Begun {
                session,
                cursor: format!("{store}:{}", number.map_or(proven, |n| n.max(proven))),
                redelivered,
                unconfirmed,
                poisoned,
            })
        })
    }

    /// Notes that the lines of a session have left for the host up to this emission. What has a number beyond it
    /// counts as never sent.
    pub fn mark_written(&self, session: SessionId, emission: i64) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached("UPDATE ingress SET written = max(written, ?2) WHERE id = ?1")?
                .execute([session.0, emission])?;
            Ok(())
        })
    }

    /// The cursor of the last event that got a number.
    pub fn last_cursor(&self) -> Pending<String> {
        let store = self.id().to_owned();
        self.submit(move |tx| Ok(format!("{store}:{}", last_number(tx)?)))
    }

    /// Takes a cursor as evidence; how many events it has newly proven. A foreign or older one proves nothing.
    pub fn prove_up_to(&self, cursor: &str) -> Pending<usize> {
        let number = self.number(cursor);
        self.submit(move |tx| number.map_or(Ok(0), |n| prove_cursor(tx, n)))
    }

    /// Takes a reply to a message as evidence; how many events it has newly proven.
    pub fn prove_by_reply(&self, chat: Address, stanza_id: String) -> Pending<usize> {
        self.submit(move |tx| match replied_to(tx, &chat, &stanza_id)? {
            Some(emission) => prove_reply(tx, emission),
            None => Ok(0),
        })
    }

    /// Of the events that are emitted and not proven the oldest with a number beyond `after`: its number and its chat.
    pub fn oldest_unproven(&self, after: i64) -> Pending<Option<(i64, Peer)>> {
        self.look(|tx| {
            let found: Option<(i64, i64)> = tx
                .prepare_cached(
                    "SELECT emission, chat FROM inbox WHERE state = 1 AND emission > ?1 ORDER BY emission LIMIT 1",
                )?
                .query_row([after], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            found
                .map(|(number, chat)| Ok((number, peers::load(tx, super::PeerKey(chat))?)))
                .transpose()
        })
    }

    /// The set-aside and unconfirmed events, oldest first, at most `limit`.
    pub fn left_over(&self, limit: u32) -> Pending<Vec<LeftOver>> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "SELECT event_id, state = 5, timestamp FROM inbox WHERE state IN (4, 5) AND draft IS NOT NULL ORDER BY id LIMIT ?1",
            )?
            .query_map([limit], |row| {
                Ok(LeftOver {
                    event_id: row.get(0)?,
                    poisoned: row.get(1)?,
                    timestamp: row.get(2)?,
                })
            })?
            .collect()
        })
    }

    /// Sends a set-aside or unconfirmed event again; whether there was one with this id.
    pub fn redeliver(&self, event_id: String) -> Pending<bool> {
        self.submit(move |tx| {
            let n = tx
                .prepare_cached(
                    "UPDATE inbox SET state = 0, lost_turns = 0 WHERE event_id = ?1 AND state IN (4, 5) AND draft IS NOT NULL",
                )?
                .execute([event_id])?;
            tx.inbound_changed();
            Ok(n > 0)
        })
    }
}

/// The latest emission of a message.
pub(super) fn replied_to(
    tx: &Tx<'_>,
    chat: &Address,
    stanza_id: &str,
) -> rusqlite::Result<Option<i64>> {
    let Some(chat) = peers::find(tx, chat)? else {
        return Ok(None);
    };
    tx.prepare_cached("SELECT max(emission) FROM inbox WHERE chat = ?1 AND stanza = ?2")?
        .query_row(params![chat.0, stanza_id], |row| row.get(0))
}

/// A reply to an event: it and all before it in its session.
pub(super) fn prove_reply(tx: &Tx<'_>, emission: i64) -> rusqlite::Result<usize> {
    let session = tx
        .prepare_cached("SELECT session FROM emission WHERE number = ?1")?
        .query_row([emission], |row| row.get(0))
        .optional()?;
    session.map_or(Ok(0), |session| prove(tx, session, emission))
}

/// The last emission number that was ever given; rows fall out in time, the count goes on.
fn last_number(tx: &Tx<'_>) -> rusqlite::Result<i64> {
    let last: Option<i64> = tx
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'emission'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// A cursor's number, if this file gave it. One that it did not comes from a later state of the file, of which this
/// one is a copy that was put back: it proves nothing, and its numbers are passed over, so that it never will.
fn given(tx: &Tx<'_>, number: i64) -> rusqlite::Result<Option<i64>> {
    let last = last_number(tx)?;
    if (0..=last).contains(&number) {
        return Ok(Some(number));
    }
    if (last..=LARGEST).contains(&number) {
        tracing::warn!(
            "the host's cursor is newer than this account's database; was a backup put back?"
        );
        let passed = tx
            .prepare_cached("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'emission'")?
            .execute([number])?;
        if passed == 0 {
            tx.prepare_cached("INSERT INTO sqlite_sequence (name, seq) VALUES ('emission', ?1)")?
                .execute([number])?;
        }
    }
    Ok(None)
}

fn prove_cursor(tx: &Tx<'_>, number: i64) -> rusqlite::Result<usize> {
    let session: Option<(i64, String)> = tx
        .prepare_cached(
            "SELECT i.id, i.mode FROM emission e JOIN ingress i ON i.id = e.session WHERE e.number = ?1",
        )?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match session {
        Some((id, mode)) if mode == Mode::Polling.as_str() => {
            tx.prepare_cached("UPDATE ingress SET received = 1 WHERE id = ?1")?
                .execute([id])?;
            Ok(0)
        }
        Some((id, _)) => prove(tx, id, number),
        None => Ok(0),
    }
}

fn prove(tx: &Tx<'_>, session: i64, number: i64) -> rusqlite::Result<usize> {
    // From the session's last evidence on, so that a long session does not read itself again with every reply.
    let n = tx
        .prepare_cached(
            "UPDATE inbox SET state = ?3 WHERE state IN (0, 1, 4, 5) AND id IN
                (SELECT e.event FROM emission e JOIN ingress s ON s.id = e.session
                 WHERE e.session = ?1 AND e.number > s.proven AND e.number <= ?2)",
        )?
        .execute([session, number, state::PROVEN])?;
    tx.prepare_cached(
        "UPDATE ingress SET proven = ?2, received = 1 WHERE id = ?1 AND proven < ?2",
    )?
    .execute([session, number])?;
    tx.turns_changed();
    Ok(n)
}

/// An event that its session left unproven.
struct Left {
    id: RowId,
    number: i64,
    at: i64,
    attempts: i64,
    lost_turns: i64,
}

/// Decides about all that is unproven; `turn` is the emission whose turn the host had begun last, as far as it says.
fn settle(tx: &Tx<'_>, turn: Option<i64>, now: i64) -> rusqlite::Result<(usize, usize, usize)> {
    let sessions: Vec<(i64, bool, i64, i64, bool)> = tx
        .prepare_cached(
            "SELECT DISTINCT s.id, s.mode = 'polling', s.proven, s.written, s.received
             FROM inbox i CROSS JOIN emission e ON e.number = i.emission CROSS JOIN ingress s ON s.id = e.session
             WHERE i.state = 1 ORDER BY s.id",
        )?
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut counts = [0; 10];
    for (session, polling, proven, written, received) in sessions {
        let left: Vec<Left> = tx
            .prepare_cached(
                "SELECT i.id, e.number, e.at, i.attempts, i.lost_turns FROM inbox i CROSS JOIN emission e ON e.number = i.emission
                 WHERE e.session = ?1 AND i.state = 1 ORDER BY e.number",
            )?
            .query_map([session], |row| {
                Ok(Left {
                    id: RowId(row.get(0)?),
                    number: row.get(1)?,
                    at: row.get(2)?,
                    attempts: row.get(3)?,
                    lost_turns: row.get(4)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (nth, event) in (0..).zip(&left) {
            let (to, lost) = if polling && (written > 0 || received) {
                (after_batch(offers(tx, event.id)?, proven > 0, received), 0)
            } else if event.number > written.max(turn.unwrap_or_default()) {
                // Nobody can have lost what never left.
                (state::WAITING, 0)
            } else {
                // Once only, however often the host brings this state: the event leaves `EMITTED` here, and when it is
                // emitted again it has another number.
                let lost = i64::from(turn == Some(event.number));
                (after_stream(event, nth, lost, now), lost)
            };
            counts[usize::try_from(to).unwrap_or(0)] += 1;
            tx.prepare_cached(
                "UPDATE inbox SET state = ?2, lost_turns = lost_turns + ?3 WHERE id = ?1",
            )?
            .execute([event.id.0, to, lost])?;
        }
    }
    Ok((
        counts[state::WAITING as usize],
        counts[state::UNCONFIRMED as usize],
        counts[state::POISONED as usize],
    ))
}

fn after_stream(event: &Left, nth: i64, lost: i64, now: i64) -> i64 {
    if event.lost_turns + lost >= LOST_TURNS {
        state::POISONED
    } else if nth == 0 && event.attempts >= IN_VAIN {
        state::UNCONFIRMED
    } else if nth < REPEATED && now.saturating_sub(event.at) <= REPEATED_WITHIN {
        state::WAITING
    } else {
        state::UNCONFIRMED
    }
}

/// How often an event was in a batch or a line that is known to have left.
fn offers(tx: &Tx<'_>, event: RowId) -> rusqlite::Result<i64> {
    tx.prepare_cached(
        "SELECT count(*) FROM emission e CROSS JOIN ingress s ON s.id = e.session
         WHERE e.event = ?1 AND (s.written >= e.number OR s.received = 1)",
    )?
    .query_row([event.0], |row| row.get(0))
}

fn after_batch(offers: i64, replied: bool, received: bool) -> i64 {
    match (replied, received) {
        // The agent answers, and has not answered these: once more.
        (true, _) if offers < 2 => state::WAITING,
        // It never answers, so silence says nothing; that the batch arrived is all there will ever be.
        (false, true) => state::PROVEN,
        _ => state::UNCONFIRMED,
    }
}

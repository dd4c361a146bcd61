//! How fast messages go, and which may go now.
//!
//! Invariant: a message takes its place in the transaction that notes it as handed over, and takes one place however
//! often it is handed over; it takes all that it needs or nothing. Whoever sends does it in this file, so the limits
//! are those of the account, over all processes and their ends.
//!
//! Of a chat, and of the account, it is kept when its burst is whole again (`rate`). First messages are counted over the last day as it moves. Times are the wall clock's,
//! in microseconds, since they outlive the process; what lies further ahead than the limits can have put it was written
//! by a clock that has been set back since, and is drawn in.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::numbers::{self, Question};
use super::rate::{Limits, Pace, SECOND};
use super::turns::{
    ACCOUNT, BY_THEM, Book, Chat, DAY, UNOPENED, first_messages, simulate, waiting,
};
use super::{PAIRING_CODE, PeerKey, Pending, Store, Tx, meta, sending};

/// Whether a message may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It has its place and is noted as handed over.
    Now,
    /// Not before this time, Unix microseconds.
    At(i64),
    /// WhatsApp takes no first messages from this account for now.
    Restricted,
    /// The same, and it was tried before: whether it arrived stays unknown.
    Doubtful,
    /// It was withdrawn, expired or answered meanwhile.
    Gone,
}

/// WhatsApp takes no first messages from this account: the reach-out time-lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// Since when, Unix seconds.
    pub since: i64,
    /// When it ends by itself, Unix seconds.
    pub until: i64,
    /// What WhatsApp calls it.
    pub kind: String,
}

/// What an operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paced {
    /// Messages that wait for their turn.
    pub waiting: usize,
    /// First messages to strangers that may still go now.
    pub strangers_left: usize,
    /// The restriction that holds.
    pub restricted: Option<Restriction>,
}

/// What a message has taken, in `part.place`, which is 0 before it is handed over.
const ORDINARY: i64 = 1;
/// Also one of the first messages to strangers. A negative value is that too, and how the chat had begun before, in
/// vain: what is taken back has to leave the refusal that counts.
const STRANGER: i64 = 2;

/// Key of the limits that were used last.
const LIMITS: &str = "limits";
/// Key of the restriction.
const RESTRICTED: &str = "restricted";

/// For so long it is looked up whether WhatsApp took anything in a chat that we began: what was sent is kept for longer.
const LATELY: i64 = 7 * DAY;

/// Whether somebody has written in their own chat. A peer's `last_inbound` is of groups too.
macro_rules! they_wrote {
    () => {
        "EXISTS (SELECT 1 FROM inbox WHERE sender = peer.key AND chat = peer.key)"
    };
}

impl Store {
    /// The limits that were used last.
    pub fn limits(&self) -> Pending<Limits> {
        self.look(|tx| Ok(meta::get(tx, LIMITS)?.unwrap_or_default()))
    }

    /// Keeps the limits for those who only look.
    pub fn set_limits(&self, limits: Limits) -> Pending<()> {
        self.submit_patient(move |tx| match meta::get(tx, LIMITS)? == Some(limits) {
            true => Ok(()),
            false => meta::set(tx, LIMITS, Some(&limits)),
        })
    }

    /// What an operator is told.
    pub fn paced(&self, now: i64) -> Pending<Paced> {
        self.look(move |tx| {
            let limits: Limits = meta::get(tx, LIMITS)?.unwrap_or_default();
            let mut waiting = 0;
            simulate(tx, Pace { limits, now }, i64::MAX, |told| {
                waiting += usize::from(told.turn > now);
            })?;
            let gone = first_messages(tx, now)?.len();
            Ok(Paced {
                waiting,
                strangers_left: (limits.strangers as usize).saturating_sub(gone),
                restricted: restriction(tx, now)?,
            })
        })
    }

    /// WhatsApp refused this first message: it is over, for this reason until another is found, and its chat has not
    /// begun, unless they have written there. Until it is known why, the account counts as restricted like this, or as
    /// it was if that lasts longer.
    pub fn refused_first(
        &self,
        message_id: String,
        code: &'static str,
        provisional: Restriction,
    ) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached(concat!(
                "UPDATE peer SET opened = iif(opened > 1, -opened, -?2)
                 WHERE key = (SELECT chat FROM part WHERE message_id = ?1) AND opened > 0 AND NOT ",
                they_wrote!()
            ))?
            .execute(params![message_id, provisional.since * SECOND])?;
            sending::reject(tx, &message_id, code)?;
            let known = restriction(tx, provisional.since * SECOND)?;
            let longer = known.filter(|known| known.until > provisional.until);
            meta::set(tx, RESTRICTED, Some(&longer.unwrap_or(provisional)))
        })
    }

    /// Notes that WhatsApp takes no first messages from this account, or that it takes them again.
    pub fn restrict(&self, restriction: Option<Restriction>) -> Pending<()> {
        self.submit(move |tx| {
            // Those who wait for a place are refused now.
            tx.outbound_changed();
            meta::set(tx, RESTRICTED, restriction.as_ref())
        })
    }
}

/// Takes a place for a message that is handed over in this transaction: the value for `part.place`. Else nothing is
/// taken, and it is said when it may go.
pub(super) fn take(
    tx: &Tx<'_>,
    pace: Pace,
    message_id: &str,
) -> rusqlite::Result<Result<i64, Turn>> {
    let chat = tx
        .prepare_cached(waiting!("", "p.message_id = ?1"))?
        .query_row([message_id], Chat::read)?;
    if restriction(tx, pace.now)?.is_some() && is_first(tx, chat, pace.now)? {
        return Ok(Err(Turn::Restricted));
    }
    let mut book = Book::open(tx, pace, chat.stranger)?;
    let turn = book.turn(chat);
    if turn > pace.now {
        return Ok(Err(Turn::At(turn)));
    }
    book.goes(chat, turn);
    meta::set(tx, ACCOUNT, Some(&book.account))?;
    tx.prepare_cached("UPDATE peer SET pace = ?2, opened = iif(?3, ?4, opened) WHERE key = ?1")?
        .execute(params![chat.key, book.whole(chat), chat.stranger, pace.now])?;
    Ok(Ok(match (chat.stranger, chat.opened) {
        (false, _) => ORDINARY,
        (true, refused) if refused < UNOPENED => refused,
        (true, _) => STRANGER,
    }))
}

/// Whether a message that has its place, and may go once more under its id, is one that WhatsApp takes for a first one
/// while it takes none.
pub(super) fn is_restricted(tx: &Tx<'_>, pace: Pace, message_id: &str) -> rusqlite::Result<bool> {
    if restriction(tx, pace.now)?.is_none() {
        return Ok(false);
    }
    let chat = tx
        .prepare_cached(waiting!("", "p.message_id = ?1"))?
        .query_row([message_id], Chat::read)?;
    is_first(tx, chat, pace.now)
}

/// Whether WhatsApp takes a message to this chat for a first one: also where we have begun it, as long as it is not
/// certain that anything of ours, or of theirs, has arrived there.
fn is_first(tx: &Tx<'_>, chat: Chat, now: i64) -> rusqlite::Result<bool> {
    if chat.cold || chat.opened <= now - LATELY {
        return Ok(chat.cold);
    }
    tx.prepare_cached(concat!(
        "SELECT 1 FROM peer WHERE key = ?1 AND NOT ",
        they_wrote!(),
        " AND NOT EXISTS (SELECT 1 FROM request r JOIN part p ON p.request = r.id
                          WHERE r.chat = peer.key AND p.state BETWEEN 3 AND 7)"
    ))?
    .exists([chat.key])
}

/// Gives back the place of a message whose first handing over came to nothing.
pub(super) fn give_back(tx: &Tx<'_>, limits: Limits, message_id: &str) -> rusqlite::Result<()> {
    let taken: Option<(i64, String, i64)> = tx
        .prepare_cached(
            "SELECT chat, kind, place FROM part WHERE message_id = ?1 AND state = 1 AND attempts = 1 AND place <> 0",
        )?
        .query_row([message_id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((chat, kind, place)) = taken else {
        return Ok(());
    };
    tx.prepare_cached("UPDATE part SET place = 0 WHERE message_id = ?1")?
        .execute([message_id])?;
    let account: i64 = meta::get(tx, ACCOUNT)?.unwrap_or_default();
    meta::set(tx, ACCOUNT, Some(&(account - limits.account.every)))?;
    // Who gets a code wrote first, and others may have written meanwhile.
    let before = match place {
        refused if refused < UNOPENED => refused,
        _ if kind == PAIRING_CODE => BY_THEM,
        _ => UNOPENED,
    };
    tx.prepare_cached(concat!(
        "UPDATE peer SET pace = pace - ?2,
                opened = CASE WHEN NOT ?3 THEN opened WHEN ",
        they_wrote!(),
        " THEN max(?5, -?4) ELSE ?4 END
         WHERE key = ?1"
    ))?
    .execute(params![
        chat,
        limits.chat.every,
        place != ORDINARY,
        before,
        BY_THEM
    ])?;
    Ok(())
}

/// WhatsApp wants fewer messages and refused this one for now: it takes another place when it goes again, and the
/// account's burst is used up. What was never handed over refused nobody.
pub(super) fn put_off(tx: &Tx<'_>, pace: Pace, message_id: &str) -> rusqlite::Result<()> {
    let refused = tx
        .prepare_cached("UPDATE part SET place = 0 WHERE message_id = ?1 AND state = 1")?
        .execute([message_id])?;
    match refused {
        0 => Ok(()),
        _ => meta::set(tx, ACCOUNT, Some(&pace.limits.account.furthest(pace.now))),
    }
}

/// The messages at the heads of their chats that may go now, by their place in the outbox; and when the next of the
/// others may.
pub(super) fn heads(
    tx: &Tx<'_>,
    pace: Pace,
    limit: usize,
    besides: &HashSet<PeerKey>,
) -> rusqlite::Result<(Vec<i64>, Option<i64>)> {
    draw_in(tx, pace)?;
    let book = Book::open(tx, pace, true)?;
    let restricted = restriction(tx, pace.now)?.is_some();
    let furthest = pace.limits.chat.furthest(pace.now);
    let (mut ready, mut next) = (Vec::new(), None);
    let mut asked = 0;
    let mut statement = tx.prepare_cached(waiting!(
        "",
        "p.pos IN (SELECT min(pos) FROM part WHERE open = 1 GROUP BY chat) AND p.state <> 1"
    ))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let chat = Chat::read(row)?;
        if besides.contains(&PeerKey(chat.key)) {
            continue;
        }
        if chat.whole > furthest {
            tx.prepare_cached("UPDATE peer SET pace = ?2 WHERE key = ?1")?
                .execute([chat.key, furthest])?;
        }
        // Who tries a first message in spite of a restriction is told at once that it is refused.
        let placed = row.get::<_, i64>(6)? != 0;
        let free = placed || restricted && is_first(tx, chat, pace.now)?;
        let mut turn = if free { pace.now } else { book.turn(chat) };
        // Whoever sends it asks whose number it is, and finds out so that it is nobody new, or that it has to wait.
        if !free
            && turn > book.rates(chat)
            && numbers::stands(tx, PeerKey(chat.key), pace.now / SECOND)? == Question::Due
            && asked < numbers::may_ask(tx, pace.now / SECOND)?
        {
            asked += 1;
            turn = book.rates(chat);
        }
        if turn > pace.now {
            next = Some(next.map_or(turn, |next: i64| next.min(turn)));
        } else if ready.len() < limit {
            ready.push(row.get(5)?);
        }
    }
    Ok((ready, next))
}

/// What a clock has written that was ahead of this one would hold everything up until it is reached.
fn draw_in(tx: &Tx<'_>, Pace { limits, now }: Pace) -> rusqlite::Result<()> {
    let furthest = limits.account.furthest(now);
    if meta::get(tx, ACCOUNT)?.is_some_and(|account: i64| account > furthest) {
        meta::set(tx, ACCOUNT, Some(&furthest))?;
    }
    tx.prepare_cached("UPDATE peer SET opened = ?1 WHERE opened > 1 AND opened > ?1")?
        .execute([now])?;
    tx.prepare_cached("UPDATE peer SET opened = -?1 WHERE opened < 0 AND opened < -?1")?
        .execute([now])?;
    Ok(())
}

/// The restriction that holds. One that begins in the future was written by such a clock.
fn restriction(tx: &Tx<'_>, now: i64) -> rusqlite::Result<Option<Restriction>> {
    let known: Option<Restriction> = meta::get(tx, RESTRICTED)?;
    let now = now / SECOND;
    Ok(known.filter(|known| known.since <= now && now < known.until))
}

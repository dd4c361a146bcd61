//! How fast messages go, and which may go now.
//!
//! Invariant: a message takes its place in the transaction that notes it as handed over, and takes one place however
//! often it is handed over; it takes all that it needs or nothing. Whoever sends does it in this file, so the limits
//! are those of the account, over all processes and their ends.
//!
//! Of a chat, and of the account, it is kept when its burst is whole again (`rate`). First messages are counted over the last day as it moves. Times are the wall clock's,
//! in microseconds, since they outlive the process; what lies further ahead than the limits can have put it was written
//! by a clock that has been set back since, and is drawn in.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::outbox::RequestId;
use super::rate::{Limits, Pace, SECOND};
use super::{PAIRING_CODE, PeerKey, Pending, Store, Tx, meta, peers};

/// A day in microseconds.
pub(super) const DAY: i64 = 24 * 3600 * SECOND;
/// Whether a message may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It has its place and is noted as handed over.
    Now,
    /// Not before this time, Unix microseconds.
    At(i64),
    /// WhatsApp takes no first messages from this account for now.
    Restricted,
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

/// When waiting messages have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// The first of them, Unix microseconds.
    pub first: i64,
    /// The last of them; [`i64::MAX`] for never.
    pub last: i64,
    /// Whether it is too many first messages to strangers that it waits for.
    pub stranger: bool,
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
/// Also one of the first messages to strangers.
const STRANGER: i64 = 2;

/// How a direct chat began, in `peer.opened`: not yet. Any smaller value is when we tried and WhatsApp refused it, as
/// negative Unix microseconds: it counts against the day, and the chat has not begun.
const UNOPENED: i64 = 0;
/// They wrote first. Any larger value is when we did, Unix microseconds.
pub(super) const BY_THEM: i64 = 1;

/// A chat, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Chat {
    key: i64,
    /// When its burst is whole again.
    whole: i64,
    /// Whether the message at hand is a first one to a stranger.
    stranger: bool,
    /// Whether WhatsApp would take it for that too. Who gets a code wrote first.
    cold: bool,
}

impl Chat {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Self::new(row, &row.get::<_, String>(4)?, row.get(8)?)
    }

    /// An answer goes to who has turned to us, if only by a call.
    fn new(row: &Row<'_>, kind: &str, answer: bool) -> rusqlite::Result<Self> {
        let (opened, direct): (i64, bool) = (row.get(2)?, peers::address(row, 3)?.is_user());
        let cold = direct && opened <= UNOPENED && !answer;
        Ok(Self {
            key: row.get(0)?,
            whole: row.get(1)?,
            stranger: cold || direct && opened == BY_THEM && kind == PAIRING_CODE,
            cold,
        })
    }
}

/// What the limits leave, now and after messages that are thought of as gone.
struct Book {
    limits: Limits,
    now: i64,
    /// When the account's burst is whole again.
    account: i64,
    /// The same of chats, where it differs from what is stored.
    chats: HashMap<i64, i64>,
    /// When the first messages of the last day went, the oldest first.
    strangers: Vec<i64>,
}

impl Book {
    /// The strangers are looked up only for who asks about one.
    fn open(tx: &Tx<'_>, pace: Pace, strangers: bool) -> rusqlite::Result<Self> {
        let Pace { limits, now } = pace;
        let account: i64 = meta::get(tx, ACCOUNT)?.unwrap_or_default();
        let strangers = match strangers {
            true => first_messages(tx, now)?,
            false => Vec::new(),
        };
        Ok(Self {
            limits,
            now,
            account: account.min(limits.account.furthest(now)),
            chats: HashMap::new(),
            strangers,
        })
    }

    fn whole(&self, chat: Chat) -> i64 {
        let stored = || chat.whole.min(self.limits.chat.furthest(self.now));
        self.chats.get(&chat.key).copied().unwrap_or_else(stored)
    }

    /// When a message to this chat may go, as far as the rates are concerned.
    fn rates(&self, chat: Chat) -> i64 {
        let Limits {
            chat: rate,
            account,
            ..
        } = self.limits;
        let account = account.next(self.account, self.now);
        account.max(rate.next(self.whole(chat), self.now))
    }

    /// When a first message to one more stranger may go.
    fn stranger(&self) -> i64 {
        let most = self.limits.strangers as usize;
        match self.strangers.len().checked_sub(most) {
            _ if most == 0 => i64::MAX,
            None => self.now,
            Some(nth) => self.now.max(self.strangers[nth].saturating_add(DAY)),
        }
    }

    /// Whether this is a first message to one more stranger: the second to the same one is not.
    fn is_first(&self, chat: Chat) -> bool {
        chat.stranger && !self.chats.contains_key(&chat.key)
    }

    /// When a message to this chat may go.
    fn turn(&self, chat: Chat) -> i64 {
        match self.is_first(chat) {
            true => self.rates(chat).max(self.stranger()),
            false => self.rates(chat),
        }
    }

    /// A message to this chat goes at its turn.
    fn goes(&mut self, chat: Chat, turn: i64) {
        let Limits {
            chat: rate,
            account,
            ..
        } = self.limits;
        if self.is_first(chat) {
            let nth = self.strangers.partition_point(|at| *at <= turn);
            self.strangers.insert(nth, turn);
        }
        self.chats
            .insert(chat.key, rate.after(self.whole(chat), turn));
        // While its chat holds it back, the account's place is another's.
        let at = account.next(self.account, self.now);
        self.account = account.after(self.account, at);
    }
}

/// Key of when the account's burst is whole again.
const ACCOUNT: &str = "pace";
/// Key of the limits that were used last.
const LIMITS: &str = "limits";
/// Key of the restriction.
const RESTRICTED: &str = "restricted";

/// Whether somebody has written in their own chat. A peer's `last_inbound` is of groups too.
macro_rules! they_wrote {
    () => {
        "EXISTS (SELECT 1 FROM inbox WHERE sender = peer.key AND chat = peer.key)"
    };
}

/// The start of a query about waiting messages and their chats.
macro_rules! waiting {
    ($of:literal, $which:literal) => {
        concat!(
            "SELECT e.key, e.pace, e.opened, e.public_id, p.kind, p.pos, p.place, p.request,
                    r.reply_stanza IS NOT NULL AND r.reply_chat IS p.chat
             FROM part p ",
            $of,
            " JOIN peer e ON e.key = p.chat JOIN request r ON r.id = p.request WHERE ",
            $which,
            " ORDER BY p.pos"
        )
    };
}

/// All that have no place yet. The index is named, since it holds only what is open.
const WITHOUT_PLACE: &str = waiting!(
    "INDEXED BY part_open",
    "p.open = 1 AND p.state IN (0, 2) AND p.place = 0"
);

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

    /// When the messages of this request have their turn that still wait for it; nothing if none does.
    pub fn turns(&self, request: RequestId, pace: Pace) -> Pending<Option<Turns>> {
        self.look(move |tx| turns(tx, request, pace))
    }

    /// When so many further messages to this chat would have their turn, after those that wait.
    pub fn turns_of_more(&self, chat: PeerKey, messages: usize, pace: Pace) -> Pending<Turns> {
        self.look(move |tx| {
            let mut book = simulate(tx, pace, i64::MAX, |_| {})?;
            let chat = tx
                .prepare_cached("SELECT key, pace, opened, public_id FROM peer WHERE key = ?1")?
                .query_row([chat.0], |row| Chat::new(row, "", false))?;
            let first = book.turn(chat);
            let stranger = first > book.rates(chat);
            let mut last = first;
            for _ in 0..messages {
                last = book.turn(chat);
                book.goes(chat, last);
            }
            Ok(Turns {
                first,
                last,
                stranger,
            })
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

    /// WhatsApp refused this first message: it is not handed over again while a restriction holds, and its chat has not
    /// begun, unless they have written there. Until it is known why, the account counts as restricted like this, or as
    /// it was if that lasts longer.
    pub fn refused_first(&self, message_id: String, provisional: Restriction) -> Pending<()> {
        self.submit(move |tx| {
            tx.prepare_cached(concat!(
                "UPDATE peer SET opened = -opened
                 WHERE key = (SELECT chat FROM part WHERE message_id = ?1) AND opened > 1 AND NOT ",
                they_wrote!()
            ))?
            .execute([&message_id])?;
            tx.prepare_cached("UPDATE part SET place = 0 WHERE message_id = ?1 AND state = 1")?
                .execute([&message_id])?;
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
    if chat.cold && restriction(tx, pace.now)?.is_some() {
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
    Ok(Ok(match chat.stranger {
        true => STRANGER,
        false => ORDINARY,
    }))
}

/// Gives back the place of a message whose first handing over came to nothing.
pub(super) fn give_back(tx: &Tx<'_>, limits: Limits, message_id: &str) -> rusqlite::Result<()> {
    let taken: Option<(i64, String, i64)> = tx
        .prepare_cached(
            "SELECT chat, kind, place FROM part WHERE message_id = ?1 AND state = 1 AND attempts = 1 AND place > 0",
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
    tx.prepare_cached(concat!(
        "UPDATE peer SET pace = pace - ?2, opened = iif(?3, ?4 OR ",
        they_wrote!(),
        ", opened) WHERE key = ?1"
    ))?
    .execute(params![
        chat,
        limits.chat.every,
        place == STRANGER,
        kind == PAIRING_CODE
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
        let free = row.get::<_, i64>(6)? != 0 || chat.cold && restricted;
        let turn = if free { pace.now } else { book.turn(chat) };
        if turn > pace.now {
            next = Some(next.map_or(turn, |next: i64| next.min(turn)));
        } else if ready.len() < limit {
            ready.push(row.get(5)?);
        }
    }
    Ok((ready, next))
}

/// A message that waits, as [`simulate`] tells of it.
struct Told {
    request: i64,
    turn: i64,
    /// Whether it is too many first messages that it waits for.
    stranger: bool,
}

/// Lets all that wait go in thought, up to this request, each at its turn, in their order. A first message that has to wait for others to be
/// a day old takes nothing from those behind it.
fn simulate(
    tx: &Tx<'_>,
    pace: Pace,
    up_to: i64,
    mut tell: impl FnMut(Told),
) -> rusqlite::Result<Book> {
    let mut book = Book::open(tx, pace, true)?;
    let mut statement = tx.prepare_cached(WITHOUT_PLACE)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let request = row.get(7)?;
        if request > up_to {
            break;
        }
        let chat = Chat::read(row)?;
        let turn = book.turn(chat);
        let stranger = turn > book.rates(chat);
        tell(Told {
            request,
            turn,
            stranger,
        });
        if !stranger {
            book.goes(chat, turn);
        }
    }
    Ok(book)
}

pub(super) fn turns(
    tx: &Tx<'_>,
    request: RequestId,
    pace: Pace,
) -> rusqlite::Result<Option<Turns>> {
    let mut turns: Option<Turns> = None;
    simulate(tx, pace, request.0, |told| {
        if told.request == request.0 {
            turns = Some(Turns {
                first: turns.map_or(told.turn, |turns| turns.first),
                last: told.turn,
                stranger: told.stranger,
            });
        }
    })?;
    Ok(turns)
}

/// When the first messages of the last day went, the oldest first.
fn first_messages(tx: &Tx<'_>, now: i64) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached(
        "SELECT opened FROM peer WHERE opened > 1 AND opened > ?1
         UNION ALL SELECT -opened FROM peer WHERE opened < 0 AND opened < -?1 ORDER BY 1",
    )?
    .query_map([now - DAY], |row| Ok(now.min(row.get(0)?)))?
    .collect()
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

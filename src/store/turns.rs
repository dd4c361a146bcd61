//! When messages that wait have their turn: the limits, applied in thought.
//!
//! Invariant: nothing is taken here, and nothing written; what is said of a turn comes true unless others are quicker,
//! the limits change, or somebody who is taken for a stranger turns out to be known. Times are the wall clock's, in
//! microseconds.

use std::collections::HashMap;

use rusqlite::Row;

use super::numbers::{self, Question};
use super::outbox::RequestId;
use super::rate::{Limits, Pace, SECOND};
use super::{PAIRING_CODE, PeerKey, Pending, Store, Tx, meta, peers};

/// A day in microseconds.
pub(super) const DAY: i64 = 24 * 3600 * SECOND;
/// Key of when the account's burst is whole again.
pub(super) const ACCOUNT: &str = "pace";

/// How a direct chat began, in `peer.opened`: not yet. Any smaller value is when we tried and WhatsApp refused it, as
/// negative Unix microseconds: it counts against the day, and the chat has not begun.
pub(super) const UNOPENED: i64 = 0;
/// They wrote first. Any larger value is when we did, Unix microseconds.
pub(super) const BY_THEM: i64 = 1;

/// When waiting messages have their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// The first of them, Unix microseconds.
    pub first: i64,
    /// The last of them; [`i64::MAX`] for never.
    pub last: i64,
    /// Whether it is too many first messages to strangers that it waits for.
    pub stranger: bool,
    /// Whether it would be, but WhatsApp is asked first whose number it is, who may be nobody new. As long as that is
    /// open, no stranger is waited for.
    pub asking: bool,
    /// Until when they may wait, Unix microseconds.
    pub expire: i64,
}

impl Turns {
    /// Whether they wait for a turn, and will have expired before any of them has it.
    pub fn come_too_late(&self, now: i64) -> bool {
        self.first > now && self.first >= self.expire
    }
}

/// A chat, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chat {
    pub key: i64,
    /// When its burst is whole again.
    pub whole: i64,
    /// How it began.
    pub opened: i64,
    /// Whether the message at hand is a first one to a stranger.
    pub stranger: bool,
    /// Whether WhatsApp would take it for that too. Who gets a code wrote first.
    pub cold: bool,
}

impl Chat {
    /// Reads the columns of [`waiting`].
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (opened, direct): (i64, bool) = (row.get(2)?, peers::address(row, 3)?.is_user());
        let cold = direct && opened <= UNOPENED;
        Ok(Self {
            key: row.get(0)?,
            whole: row.get(1)?,
            opened,
            stranger: cold
                || direct && opened == BY_THEM && row.get::<_, String>(4)? == PAIRING_CODE,
            cold,
        })
    }
}

/// What the limits leave, now and after messages that are thought of as gone.
pub(super) struct Book {
    limits: Limits,
    now: i64,
    /// When the account's burst is whole again.
    pub account: i64,
    /// The same of chats, where it differs from what is stored.
    chats: HashMap<i64, i64>,
    /// When the first messages of the last day went, the oldest first.
    strangers: Vec<i64>,
}

impl Book {
    /// The strangers are looked up only for who asks about one.
    pub(super) fn open(tx: &Tx<'_>, pace: Pace, strangers: bool) -> rusqlite::Result<Self> {
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

    pub(super) fn whole(&self, chat: Chat) -> i64 {
        let stored = || chat.whole.min(self.limits.chat.furthest(self.now));
        self.chats.get(&chat.key).copied().unwrap_or_else(stored)
    }

    /// When a message to this chat may go, as far as the rates are concerned.
    pub(super) fn rates(&self, chat: Chat) -> i64 {
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
    pub(super) fn turn(&self, chat: Chat) -> i64 {
        match self.is_first(chat) {
            true => self.rates(chat).max(self.stranger()),
            false => self.rates(chat),
        }
    }

    /// A message to this chat goes at its turn.
    pub(super) fn goes(&mut self, chat: Chat, turn: i64) {
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

/// The start of a query about waiting messages and their chats.
macro_rules! waiting {
    ($of:literal, $which:literal) => {
        concat!(
            "SELECT e.key, e.pace, e.opened, e.public_id, p.kind, p.pos, p.place, p.request FROM part p ",
            $of,
            " JOIN peer e ON e.key = p.chat WHERE ",
            $which,
            " ORDER BY p.pos"
        )
    };
}
pub(super) use waiting;

/// All that have no place yet. The index is named, since it holds only what is open.
const WITHOUT_PLACE: &str = waiting!(
    "INDEXED BY part_open",
    "p.open = 1 AND p.state IN (0, 2) AND p.place = 0"
);

impl Store {
    /// When the messages of this request have their turn that still wait for it; nothing if none does.
    pub fn turns(&self, request: RequestId, pace: Pace) -> Pending<Option<Turns>> {
        self.look(move |tx| turns(tx, request, pace))
    }

    /// When so many further messages to this chat would have their turn, after those that wait.
    pub fn turns_of_more(&self, chat: PeerKey, messages: usize, pace: Pace) -> Pending<Turns> {
        self.look(move |tx| {
            let mut book = simulate(tx, pace, i64::MAX, |_| {})?;
            let chat = tx
                .prepare_cached("SELECT key, pace, opened, public_id, '' FROM peer WHERE key = ?1")?
                .query_row([chat.0], Chat::read)?;
            let held = book.turn(chat) > book.rates(chat);
            let asking = held && is_asked_first(tx, chat, pace.now)?;
            let stranger = chat.stranger && !asking;
            let chat = Chat { stranger, ..chat };
            let first = book.turn(chat);
            let mut last = first;
            for _ in 0..messages {
                last = book.turn(chat);
                book.goes(chat, last);
            }
            Ok(Turns {
                first,
                last,
                stranger: held && !asking,
                asking,
                expire: i64::MAX,
            })
        })
    }
}

/// The same within a transaction.
pub(super) fn turns(
    tx: &Tx<'_>,
    request: RequestId,
    pace: Pace,
) -> rusqlite::Result<Option<Turns>> {
    let expires: i64 = tx
        .prepare_cached("SELECT expires FROM request WHERE id = ?1")?
        .query_row([request.0], |row| row.get(0))?;
    let mut turns: Option<Turns> = None;
    simulate(tx, pace, request.0, |told| {
        if told.request == request.0 {
            turns = Some(Turns {
                first: turns.map_or(told.turn, |turns| turns.first),
                last: told.turn,
                stranger: told.stranger,
                asking: told.asking,
                expire: expires.saturating_mul(SECOND),
            });
        }
    })?;
    Ok(turns)
}

/// A message that waits, as [`simulate`] tells of it.
pub(super) struct Told {
    pub request: i64,
    pub turn: i64,
    /// Whether it is too many first messages that it waits for.
    pub stranger: bool,
    /// Whether it would be, if it were not asked first whose number it is.
    pub asking: bool,
}

/// Lets all that wait go in thought, up to this request, each at its turn, in their order. A first message that has to
/// wait for others to be a day old takes nothing from those behind it.
pub(super) fn simulate(
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
        let (turn, rates) = (book.turn(chat), book.rates(chat));
        let held = turn > rates;
        let asking = held && is_asked_first(tx, chat, pace.now)?;
        tell(Told {
            request,
            turn: if asking { rates } else { turn },
            stranger: held && !asking,
            asking,
        });
        if !held {
            book.goes(chat, turn);
        }
    }
    Ok(book)
}

/// Whether WhatsApp is asked first whose number this is, who may be nobody new.
fn is_asked_first(tx: &Tx<'_>, chat: Chat, now: i64) -> rusqlite::Result<bool> {
    let question = numbers::stands(tx, PeerKey(chat.key), now / SECOND)?;
    Ok(matches!(question, Question::Due | Question::Asked))
}

/// When the first messages of the last day went, the oldest first.
pub(super) fn first_messages(tx: &Tx<'_>, now: i64) -> rusqlite::Result<Vec<i64>> {
    tx.prepare_cached(
        "SELECT opened FROM peer WHERE opened > 1 AND opened > ?1
         UNION ALL SELECT -opened FROM peer WHERE opened < 0 AND opened < -?1 ORDER BY 1",
    )?
    .query_map([now - DAY], |row| Ok(now.min(row.get(0)?)))?
    .collect()
}

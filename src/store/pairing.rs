//! Strangers who ask to be let in: each waits with a code, until the operator decides.
//!
//! Invariants: a stranger gets one code, and what they write is kept for an hour and then erased, unless they are
//! approved. A code is of use to nobody but the operator, who can try wrong ones only so often, and none is told after
//! it was decided about its owner.

use rusqlite::{OptionalExtension, params};

use super::approvals::admit;
use super::inbox::{self, RowId, state};
use super::outbox::{self, OutboundRequest};
use super::trace::{Gate, Ruling};
use super::{Peer, PeerKey, Pending, Store, Tx, meta, peers, sending, votes};
use crate::identity::Address;

/// How long a code is valid and what its owner writes is kept, seconds.
pub const CODE_LIFETIME: i64 = 3600;
/// Most strangers who have a code.
const MOST_CODES: i64 = 3;
/// Who was denied gets no other code for this long, seconds.
const DENIED_FOR: i64 = 24 * 3600;
/// So many wrong codes in [`CODE_LIFETIME`], then no more are tried until it is over.
const ATTEMPTS: i64 = 10;
/// `kind` of the message with a code, which is a first message to a stranger although the stranger wrote first.
pub const PAIRING_CODE: &str = "pairing_code";

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// Their code.
    pub code: String,
    /// Their public id.
    pub id: Address,
    /// Their phone number, if it is known.
    pub phone: Option<Address>,
    /// The name that they send along.
    pub name: Option<String>,
    /// Until when the code is valid, Unix seconds.
    pub expires: i64,
    /// How many messages of theirs wait.
    pub messages: i64,
}

impl Applicant {
    /// Since when they wait, Unix seconds.
    pub fn since(&self) -> i64 {
        self.expires - CODE_LIFETIME
    }

    /// What an operator should do about those who wait, if anybody does.
    pub fn told(waiting: &[Self]) -> Option<String> {
        let who = match waiting.len() {
            0 => return None,
            1 => "one stranger waits".to_owned(),
            n => format!("{n} strangers wait"),
        };
        Some(format!(
            "{who} to be let in; `channel-whatsapp access pending` lists them, `access approve` and `access deny` decide"
        ))
    }
}

/// What became of a code that the operator gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// This person is let in, or sent away; so many messages of theirs go on, or were erased.
    Done {
        /// Who.
        id: Address,
        /// The name that they send along.
        name: Option<String>,
        /// How many.
        messages: usize,
    },
    /// Nobody waits with it.
    Unknown,
    /// Too many were wrong. Holds until then, Unix seconds.
    TooMany(i64),
}

impl Store {
    /// Keeps a stranger's message back; the first of one who may have a code is answered with it. `answer` carries
    /// `code`, and goes into the outbox with it. Whether it did.
    pub fn hold_for_approval(
        &self,
        id: RowId,
        ruling: Ruling,
        code: String,
        answer: Option<OutboundRequest>,
        now: i64,
    ) -> Pending<bool> {
        self.submit(move |tx| hold(tx, id, ruling, &code, answer.as_ref(), now))
    }

    /// Lets the owner of this code in, from now on and in every process; what they wrote goes on to the agent.
    pub fn approve(&self, code: String, now: i64) -> Pending<Decided> {
        self.submit(move |tx| {
            let peer = match with_code(tx, &code, now)? {
                Ok(peer) => peer,
                Err(decided) => return Ok(decided),
            };
            admit(tx, &peer, now)?;
            let messages = release(tx, peer.key)?;
            Ok(done(peer, messages))
        })
    }

    /// Sends the owner of this code away: what they wrote is erased, and for a day they get no other code.
    pub fn deny(&self, code: String, now: i64) -> Pending<Decided> {
        self.submit(move |tx| {
            let peer = match with_code(tx, &code, now)? {
                Ok(peer) => peer,
                Err(decided) => return Ok(decided),
            };
            tx.prepare_cached("UPDATE pairing SET denied = 1, expires = ?2 WHERE peer = ?1")?
                .execute([peer.key.0, now + DENIED_FOR])?;
            withdraw_code(tx, peer.key)?;
            let held: Vec<i64> = tx
                .prepare_cached(
                    "SELECT id FROM inbox WHERE sender = ?1 AND state IN (0, 8) AND held IS NOT NULL",
                )?
                .query_map([peer.key.0], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &held {
                erase(tx, RowId(*id), DENIED)?;
            }
            Ok(done(peer, held.len()))
        })
    }

    /// Everybody who waits with a code, the first one first.
    pub fn applicants(&self, now: i64) -> Pending<Vec<Applicant>> {
        self.look(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT code, peer, expires, (SELECT count(*) FROM inbox WHERE sender = peer AND state IN (0, 8) AND held IS NOT NULL)
                 FROM pairing WHERE denied = 0 AND expires > ?1 ORDER BY expires",
            )?;
            let mut rows = statement.query([now])?;
            let mut applicants = Vec::new();
            while let Some(row) = rows.next()? {
                let peer = peers::load(tx, PeerKey(row.get(1)?))?;
                applicants.push(Applicant {
                    code: row.get(0)?,
                    phone: peer.phone().cloned(),
                    id: peer.public_id,
                    name: peer.push_name,
                    expires: row.get(2)?,
                    messages: row.get(3)?,
                });
            }
            Ok(applicants)
        })
    }

    /// Erases what was kept for an approval that did not come within the hour.
    pub fn expire_held(&self, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            expire(tx, now)?;
            // What is to be judged anew may be about to be emitted; where nobody does that for another hour, it goes
            // too, unless its sender was let in.
            let late = "SELECT id, sender FROM inbox WHERE state = 0 AND held <= ?1";
            let late = rows(tx, late, now - 2 * CODE_LIFETIME)?;
            for (id, sender) in late {
                if !peers::load(tx, sender)?.approved {
                    erase(tx, id, LATE)?;
                }
            }
            Ok(())
        })
    }

    /// Lets what is kept for an approval be judged anew: the rules have changed. What was kept for an hour is erased.
    pub fn judge_held_again(&self, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            expire(tx, now)?;
            let n = tx
                .prepare_cached("UPDATE inbox SET state = 0 WHERE state = 8")?
                .execute([])?;
            if n > 0 {
                tx.inbound_changed();
            }
            Ok(())
        })
    }
}

/// The rule of who was sent away.
const DENIED: &str = "access deny";
/// The rule of what was kept long enough.
const LATE: &str = "dm_policy: pairing, not approved within the hour";

fn done(peer: Peer, messages: usize) -> Decided {
    Decided::Done {
        id: peer.public_id,
        name: peer.push_name,
        messages,
    }
}

fn hold(
    tx: &Tx<'_>,
    id: RowId,
    mut ruling: Ruling,
    code: &str,
    answer: Option<&OutboundRequest>,
    now: i64,
) -> rusqlite::Result<bool> {
    let row: Option<(i64, Option<i64>)> = tx
        .prepare_cached("SELECT sender, held FROM inbox WHERE id = ?1 AND state = 0")?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((sender, held)) = row else {
        return Ok(false);
    };
    // The operator may have decided since this was judged, in another process too.
    if peers::load(tx, PeerKey(sender))?.approved {
        tx.inbound_changed();
        return Ok(false);
    }
    if held.is_some_and(|since| since <= now - CODE_LIFETIME) {
        erase(tx, id, LATE)?;
        return Ok(false);
    }
    tx.prepare_cached("DELETE FROM pairing WHERE expires <= ?1")?
        .execute([now])?;
    let denied: Option<bool> = tx
        .prepare_cached("SELECT denied FROM pairing WHERE peer = ?1")?
        .query_row([sender], |row| row.get(0))
        .optional()?;
    let mut asked = false;
    let said = match (denied, answer) {
        (Some(true), _) => DENIED,
        (Some(false), _) => "has a code",
        (None, None) => "no code for this",
        (None, Some(answer)) => {
            // One that is taken by chance goes to nobody else; the next message gets another one.
            asked = tx
                .prepare_cached(
                    "INSERT OR IGNORE INTO pairing (peer, code, expires) SELECT ?1, ?2, ?3
                     WHERE (SELECT count(*) FROM pairing WHERE denied = 0) < ?4",
                )?
                .execute(params![sender, code, now + CODE_LIFETIME, MOST_CODES])?
                > 0;
            if asked {
                outbox::enqueue(tx, answer, now)?;
            }
            if asked {
                "gets a code"
            } else {
                "no code, since three wait already"
            }
        }
    };
    ruling.trace.gates.push(Gate::new("pairing", said));
    if said == DENIED {
        ruling.rule = DENIED.to_owned();
        inbox::deny(tx, id, &ruling)?;
        return Ok(false);
    }
    tx.prepare_cached(
        "UPDATE inbox SET state = ?2, verdict = ?3, trace = ?4, held = coalesce(held, ?5) WHERE id = ?1",
    )?
    .execute(params![id.0, state::PAIRING, ruling.rule, ruling.stored(), now])?;
    Ok(asked)
}

/// The one who waits with this code, or why that cannot be told.
fn with_code(tx: &Tx<'_>, code: &str, now: i64) -> rusqlite::Result<Result<Peer, Decided>> {
    let (wrong, since): (i64, i64) = meta::get(tx, "wrong_codes")?.unwrap_or_default();
    let lately = (0..CODE_LIFETIME).contains(&(now - since));
    if lately && wrong >= ATTEMPTS {
        return Ok(Err(Decided::TooMany(since + CODE_LIFETIME)));
    }
    let key = tx
        .prepare_cached("SELECT peer FROM pairing WHERE code = ?1 AND denied = 0 AND expires > ?2")?
        .query_row(params![code, now], |row| row.get(0).map(PeerKey))
        .optional()?;
    match key {
        Some(key) => peers::load(tx, key).map(Ok),
        None => {
            let counted = if lately { (wrong + 1, since) } else { (1, now) };
            meta::set(tx, "wrong_codes", Some(&counted))?;
            Ok(Err(Decided::Unknown))
        }
    }
}

/// Once it was decided about its owner a code is of no use. One that nobody decides about leaves the outbox when it ends.
pub(super) fn withdraw_code(tx: &Tx<'_>, peer: PeerKey) -> rusqlite::Result<()> {
    sending::take_back(tx, peer, PAIRING_CODE)
}

/// `held` stays until a message is emitted: it says that the message is not too old, only late.
pub(super) fn release(tx: &Tx<'_>, sender: PeerKey) -> rusqlite::Result<usize> {
    let released = tx
        .prepare_cached(
            "UPDATE inbox SET state = 0 WHERE sender = ?1 AND state IN (0, 8) AND held IS NOT NULL",
        )?
        .execute([sender.0])?;
    tx.inbound_changed();
    Ok(released)
}

/// Lets what is kept of this person be judged anew: more is known of who they are.
pub(super) fn judge_again(tx: &Tx<'_>, sender: PeerKey) -> rusqlite::Result<()> {
    let kept = tx
        .prepare_cached("UPDATE inbox SET state = 0 WHERE sender = ?1 AND state = 8")?
        .execute([sender.0])?;
    if kept > 0 {
        tx.inbound_changed();
    }
    Ok(())
}

fn expire(tx: &Tx<'_>, now: i64) -> rusqlite::Result<()> {
    let late = "SELECT id, sender FROM inbox WHERE state = 8 AND held <= ?1";
    for (id, _) in rows(tx, late, now - CODE_LIFETIME)? {
        erase(tx, id, LATE)?;
    }
    Ok(())
}

fn rows(tx: &Tx<'_>, query: &str, before: i64) -> rusqlite::Result<Vec<(RowId, PeerKey)>> {
    tx.prepare_cached(query)?
        .query_map([before], |row| {
            Ok((RowId(row.get(0)?), PeerKey(row.get(1)?)))
        })?
        .collect()
}

fn erase(tx: &Tx<'_>, id: RowId, rule: &str) -> rusqlite::Result<()> {
    if inbox::erase(tx, id, rule)? {
        votes::erase(tx, id)?;
    }
    Ok(())
}

/// Whoever waited as one of two peers that turn out to be one waits as the other; who was sent away as one of them was
/// sent away.
pub(super) fn merge(tx: &Tx<'_>, into: PeerKey, from: PeerKey) -> rusqlite::Result<()> {
    for sql in [
        "UPDATE pairing AS w SET denied = 1, expires = max(w.expires, l.expires) FROM pairing AS l
         WHERE w.peer = ?1 AND l.peer = ?2 AND l.denied = 1",
        "UPDATE OR IGNORE pairing SET peer = ?1 WHERE peer = ?2",
        "DELETE FROM pairing WHERE peer = ?2 AND ?1 <> ?2",
    ] {
        tx.prepare_cached(sql)?.execute([into.0, from.0])?;
    }
    judge_again(tx, into)
}

//! Whom the operator lets in: strangers who wait with a code, and who was approved.
//!
//! Invariants: an approval is of a person, by all addresses that were known as theirs; a number that somebody else has
//! by now is not one of them. A stranger gets one code, and what they write is kept for an hour and then erased, unless
//! they are approved. A code is of use to nobody but the operator, who can try wrong ones only so often.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::inbox::{self, RowId, state};
use super::outbox::{self, OutboundRequest};
use super::trace::{Gate, Ruling};
use super::{Peer, PeerKey, Pending, Store, Tx, meta, numbers, peers, votes};
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

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Their public id.
    pub id: Address,
    /// The addresses that the approval holds for.
    pub addresses: Vec<Address>,
    /// The name that they send along.
    pub name: Option<String>,
    /// Since when, Unix seconds.
    pub since: i64,
}

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

/// What became of an approval that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// It was this person's, who is let in no more.
    Done(Address),
    /// Nobody was let in under this address.
    Nobody,
    /// The number was one person's and is another's now, and both were let in: their unmistakable addresses.
    Ambiguous(Vec<Address>),
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
                .prepare_cached("SELECT id FROM inbox WHERE sender = ?1 AND state = 8")?
                .query_map([peer.key.0], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for id in &held {
                erase(tx, RowId(*id), DENIED)?;
            }
            Ok(done(peer, held.len()))
        })
    }

    /// Lets in who has a number now that an entry of the configuration was written for somebody else's sake; `who` is
    /// the number, or the address of its new holder. `None` if it is no such number.
    pub fn approve_holder(&self, who: Address, now: i64) -> Pending<Option<Address>> {
        self.submit(move |tx| {
            let holder = tx
                .prepare_cached(
                    "SELECT holder FROM number WHERE holder IS NOT NULL AND (phone = ?1 OR holder = ?1) LIMIT 1",
                )?
                .query_row([who.to_string()], |row| peers::address(row, 0))
                .optional()?;
            let Some(holder) = holder else {
                return Ok(None);
            };
            let key = peers::resolve(tx, &[holder])?;
            let peer = peers::load(tx, key)?;
            admit(tx, &peer, now)?;
            release(tx, key)?;
            Ok(Some(peer.public_id))
        })
    }

    /// Takes an approval back, given any address of the person. A number that has gone to somebody else may stand for
    /// either of the two, if only one of them was let in.
    pub fn revoke(&self, who: Address) -> Pending<Revoked> {
        self.submit(move |tx| {
            let mut forms = vec![who.clone()];
            let known = [numbers::owner(tx, &who)?, peers::find(tx, &who)?];
            for key in known.into_iter().flatten() {
                forms.extend(peers::load(tx, key)?.aliases);
            }
            let mut meant: Vec<(Address, Option<PeerKey>)> = Vec::new();
            for form in forms {
                let found = tx
                    .prepare_cached(
                        "SELECT person, peer FROM approval LEFT JOIN alias USING (address) WHERE approval.address = ?1
                         UNION SELECT person, peer FROM approval LEFT JOIN alias USING (address)
                         WHERE person = ?1 AND ?1 = ?2",
                    )?
                    .query_map([form.to_string(), who.to_string()], |row| {
                        let peer: Option<i64> = row.get(1)?;
                        Ok((peers::address(row, 0)?, peer.map(PeerKey)))
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()?;
                meant.extend(found);
            }
            let Some((id, one)) = meant.first().cloned() else {
                return Ok(Revoked::Nobody);
            };
            if meant.iter().any(|(_, other)| *other != one) {
                let mut ids = Vec::new();
                for (id, peer) in meant {
                    let peer = peer.map(|key| peers::load(tx, key)).transpose()?;
                    ids.push(peer.and_then(|peer| peer.lid().cloned()).unwrap_or(id));
                }
                ids.sort();
                ids.dedup();
                return Ok(Revoked::Ambiguous(ids));
            }
            for (person, _) in &meant {
                tx.prepare_cached("DELETE FROM approval WHERE person = ?1")?
                    .execute([person.to_string()])?;
            }
            let id = match one {
                Some(key) => peers::load(tx, key)?.public_id,
                None => id,
            };
            Ok(Revoked::Done(id))
        })
    }

    /// Whether the operator has let in whoever has these addresses, numbers that went to somebody else not among them.
    pub fn is_approved(&self, credentials: Vec<Address>) -> Pending<bool> {
        self.look(move |tx| {
            for address in &credentials {
                let approved = tx
                    .prepare_cached("SELECT 1 FROM approval WHERE address = ?1")?
                    .exists([address.to_string()])?;
                if approved {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Everybody who was let in, the first one first; without numbers that went to somebody else, since an approval
    /// does not go with the number.
    pub fn approvals(&self) -> Pending<Vec<Approval>> {
        self.look(|tx| {
            let mut statement = tx.prepare_cached(
                "SELECT person, address, at FROM approval
                 WHERE NOT EXISTS (SELECT 1 FROM number WHERE phone = address AND holder IS NOT NULL)
                 ORDER BY at, person, address",
            )?;
            let mut rows = statement.query([])?;
            let mut approvals: Vec<Approval> = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, address) = (peers::address(row, 0)?, peers::address(row, 1)?);
                if let Some(same) = approvals.iter_mut().find(|approval| approval.id == id) {
                    same.addresses.push(address);
                    continue;
                }
                let person = peers::find(tx, &address)?.map(|key| peers::load(tx, key));
                approvals.push(Approval {
                    id,
                    addresses: vec![address],
                    name: person.transpose()?.and_then(|person| person.push_name),
                    since: row.get(2)?,
                });
            }
            Ok(approvals)
        })
    }

    /// Takes over the approvals of another file of this account.
    pub fn take_approvals(&self, approvals: Vec<Approval>) -> Pending<()> {
        self.submit(move |tx| {
            for approval in &approvals {
                peers::resolve(tx, &approval.addresses)?;
                for address in &approval.addresses {
                    note(tx, &approval.id, address, approval.since)?;
                }
            }
            Ok(())
        })
    }

    /// Everybody who waits with a code, the first one first.
    pub fn applicants(&self, now: i64) -> Pending<Vec<Applicant>> {
        self.look(move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT code, peer, expires, (SELECT count(*) FROM inbox WHERE sender = peer AND state = 8)
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

fn admit(tx: &Tx<'_>, peer: &Peer, now: i64) -> rusqlite::Result<()> {
    for address in peer.credentials() {
        note(tx, &peer.public_id, &address, now)?;
    }
    tx.prepare_cached("DELETE FROM pairing WHERE peer = ?1")?
        .execute([peer.key.0])?;
    withdraw_code(tx, peer.key)
}

/// A code that has not gone out is of no use once it was decided about its owner. One that nobody decides about
/// leaves the outbox when it ends.
fn withdraw_code(tx: &Tx<'_>, peer: PeerKey) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE part SET state = 10, open = 0 WHERE chat = ?1 AND open = 1 AND state = 0 AND kind = ?2",
    )?
    .execute(params![peer.0, PAIRING_CODE])?;
    tx.outbound_changed();
    Ok(())
}

fn note(tx: &Tx<'_>, person: &Address, address: &Address, at: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO approval (address, person, at) VALUES (?1, ?2, ?3)")?
        .execute(params![address.to_string(), person.to_string(), at])?;
    Ok(())
}

/// `held` stays until a message is emitted: it says that the message is not too old, only late.
fn release(tx: &Tx<'_>, sender: PeerKey) -> rusqlite::Result<usize> {
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

//! What is known of phone numbers: which are on WhatsApp, and whose they are.
//!
//! A number is an attribute of a LID, and carriers give numbers to others. Invariant: a number that turned up with
//! another LID, and of which WhatsApp did not say that its owner took it along, stays with the peer that had it (its
//! conversations keep their ids) and speaks for nobody: it is no credential, nothing more is sent to that peer by it,
//! and what comes from it alone is its new holder's.

use rusqlite::{OptionalExtension, params};

use super::peers::{self, PeerKey};
use super::{Peer, Pending, Store, Tx};
use crate::identity::Address;

/// How long an answer that there is an account holds, seconds.
const YES: i64 = 30 * 24 * 3600;
/// Who hears that they are missing there may join at once.
const NO: i64 = 3600;
/// So many questions may be asked in [`WINDOW`], over all processes: who asks for many numbers is taken for a harvester.
const QUESTIONS: i64 = 20;
/// Seconds.
const WINDOW: i64 = 60;
/// An answer is on its way no longer than this, seconds; see `session::lookup`.
const ON_ITS_WAY: i64 = 20;

/// How addresses of either kind end.
const NUMBER: &str = "%@s.whatsapp.net";
const LID: &str = "%@lid";

/// What to do before a first message to a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asking {
    /// Nothing: they have written, or WhatsApp has said that there is an account.
    Needless,
    /// WhatsApp said lately that there is no account.
    NotRegistered,
    /// Ask for this number; that it is asked is noted.
    Ask(Address),
    /// Too much was asked lately.
    Later,
}

/// How the question stands who has a peer's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// There is none.
    Needless,
    /// It is asked before something goes to them, or the answer says at once that nothing does.
    Due,
    /// It was asked just now.
    Asked,
    /// It was asked in vain, or too much was asked; not before long again.
    Later,
}

/// What WhatsApp says of a number that has an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The number as WhatsApp writes it; some countries' numbers have several forms.
    pub phone: Address,
    /// The LID of its account.
    pub lid: Option<Address>,
}

impl Store {
    /// Whether WhatsApp is to be asked before something goes to this peer.
    pub fn before_first(&self, peer: Peer, now: i64) -> Pending<Asking> {
        self.submit(move |tx| {
            let Some(phone) = question(tx, &peer, now)? else {
                return Ok(Asking::Needless);
            };
            tx.prepare_cached("DELETE FROM number WHERE asked < ?1 AND holder IS NULL")?
                .execute([now - YES])?;
            if answer(tx, phone, now - NO)? == Some(false) {
                return Ok(Asking::NotRegistered);
            }
            if may_ask(tx, now)? <= 0 {
                return Ok(Asking::Later);
            }
            tx.prepare_cached(
                "INSERT INTO number (phone, asked) VALUES (?1, ?2)
                 ON CONFLICT (phone) DO UPDATE SET asked = ?2, registered = NULL",
            )?
            .execute(params![phone.to_string(), now])?;
            Ok(Asking::Ask(phone.clone()))
        })
    }

    /// Takes the answer about a number; the peer that it leads to, whose route is the number as WhatsApp writes it.
    /// None if there is no account, or the number is another peer's than the one it was known for.
    pub fn answered(
        &self,
        asked: Address,
        answer: Option<Registered>,
        now: i64,
    ) -> Pending<Option<Peer>> {
        self.submit(move |tx| {
            let Some(Registered { phone, lid }) = answer else {
                note(tx, &asked, false, now)?;
                return Ok(None);
            };
            note(tx, &asked, true, now)?;
            note(tx, &phone, true, now)?;
            let Some(key) = owned(tx, asked, &phone, lid)? else {
                return Ok(None);
            };
            tx.outbound_changed();
            Ok(Some(peers::load(tx, key)?))
        })
    }

    /// Takes what WhatsApp says of somebody who wrote: this number is theirs. Nobody asked for the number, so it is none of
    /// those in [`WINDOW`].
    pub fn belongs(&self, phone: Address, lid: Address) -> Pending<()> {
        self.submit(move |tx| owned(tx, phone.clone(), &phone, Some(lid)).map(drop))
    }

    /// Whether somebody was let in of whom nothing but a phone number is known, so that they are not known by their LID.
    pub fn approved_by_number(&self) -> Pending<bool> {
        self.approved_by_one(NUMBER, LID)
    }

    /// The same of whom nothing but a LID is known.
    pub fn approved_by_lid(&self) -> Pending<bool> {
        self.approved_by_one(LID, NUMBER)
    }

    fn approved_by_one(&self, known: &'static str, missing: &'static str) -> Pending<bool> {
        self.look(move |tx| {
            tx.prepare_cached(
                "SELECT 1 FROM approval CROSS JOIN alias met ON met.address = approval.address
                 WHERE approval.address LIKE ?1 AND NOT EXISTS
                     (SELECT 1 FROM alias other WHERE other.peer = met.peer AND other.address LIKE ?2) LIMIT 1",
            )?
            .exists([known, missing])
        })
    }

    /// WhatsApp says that a person took another number: `old` and `new` are the person's addresses before and after.
    pub fn number_changed(&self, old: Vec<Address>, new: Vec<Address>) -> Pending<()> {
        self.submit(move |tx| number_changed(tx, &old, &new))
    }

    /// The numbers that have gone to somebody else, and the LID of who has them now, unless the operator has let that
    /// one in.
    pub fn lost_numbers(&self) -> Pending<Vec<(Address, Address)>> {
        self.look(|tx| {
            tx.prepare_cached(
                "SELECT phone, holder FROM number WHERE holder IS NOT NULL
                 AND holder NOT IN (SELECT address FROM approval) ORDER BY phone",
            )?
            .query_map([], |row| {
                Ok((peers::address(row, 0)?, peers::address(row, 1)?))
            })?
            .collect()
        })
    }

    /// The numbers that have gone to somebody else, and the LID of who has them now, whoever was let in since.
    pub fn passed_on(&self) -> Pending<Vec<(Address, Address)>> {
        self.look(|tx| {
            tx.prepare_cached(
                "SELECT phone, holder FROM number WHERE holder IS NOT NULL ORDER BY phone",
            )?
            .query_map([], |row| {
                Ok((peers::address(row, 0)?, peers::address(row, 1)?))
            })?
            .collect()
        })
    }

    /// Takes over from another file of this account which numbers have gone to somebody else.
    pub fn take_passed_on(&self, numbers: Vec<(Address, Address)>) -> Pending<()> {
        self.submit(move |tx| {
            for (phone, holder) in &numbers {
                // By the number alone the holder is found from the start.
                peers::resolve(tx, std::slice::from_ref(holder))?;
                tx.prepare_cached(
                    "INSERT INTO number (phone, holder) VALUES (?1, ?2)
                     ON CONFLICT (phone) DO UPDATE SET holder = ?2",
                )?
                .execute([phone.to_string(), holder.to_string()])?;
            }
            Ok(())
        })
    }
}

/// The number of a peer that never wrote, unless WhatsApp has lately said that there is an account.
pub(super) fn question<'a>(
    tx: &Tx<'_>,
    peer: &'a Peer,
    now: i64,
) -> rusqlite::Result<Option<&'a Address>> {
    let unmet = peer.route.phone().is_some() && peer.last_inbound.is_none();
    match unmet && answer(tx, &peer.route, now - YES)? != Some(true) {
        true => Ok(Some(&peer.route)),
        false => Ok(None),
    }
}

/// How the question stands who has this peer's number.
pub(super) fn stands(tx: &Tx<'_>, key: PeerKey, now: i64) -> rusqlite::Result<Question> {
    let peer = peers::load(tx, key)?;
    let Some(phone) = question(tx, &peer, now)? else {
        return Ok(Question::Needless);
    };
    let last: Option<(i64, Option<bool>)> = tx
        .prepare_cached("SELECT coalesce(asked, 0), registered FROM number WHERE phone = ?1")?
        .query_row([phone.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match last {
        Some((_, Some(_))) => Question::Due,
        // One that lies ahead was written by a clock that was.
        Some((asked, None)) if asked > now - ON_ITS_WAY && asked <= now => Question::Asked,
        Some((asked, None)) if asked > now - WINDOW && asked <= now => Question::Later,
        _ if may_ask(tx, now)? <= 0 => Question::Later,
        _ => Question::Due,
    })
}

/// How many questions may be asked now.
pub(super) fn may_ask(tx: &Tx<'_>, now: i64) -> rusqlite::Result<i64> {
    let lately: i64 = tx
        .prepare_cached("SELECT count(*) FROM number WHERE asked > ?1")?
        .query_row([now - WINDOW], |row| row.get(0))?;
    Ok(QUESTIONS - lately)
}

/// Has a number be that of who has this LID, or of whoever it was known for; who that is. None if the number is another
/// peer's than that one's.
fn owned(
    tx: &Tx<'_>,
    asked: Address,
    phone: &Address,
    lid: Option<Address>,
) -> rusqlite::Result<Option<PeerKey>> {
    if let (Some(lid), Some(key)) = (&lid, peers::find(tx, &asked)?)
        && peers::is_somebody_else(tx, key, lid)?
    {
        passed_on(tx, key, &asked, lid)?;
        return Ok(None);
    }
    let mut forms = vec![asked, phone.clone()];
    forms.dedup();
    forms.extend(lid);
    let key = peers::resolve(tx, &forms)?;
    if peers::find(tx, phone)? == Some(key) {
        is_current(tx, key, phone)?;
        tx.prepare_cached("UPDATE peer SET route = ?2 WHERE key = ?1 AND last_inbound IS NULL")?
            .execute(params![key.0, phone.to_string()])?;
    }
    Ok(Some(key))
}

/// What WhatsApp said of a number, if that was after `since`.
fn answer(tx: &Tx<'_>, phone: &Address, since: i64) -> rusqlite::Result<Option<bool>> {
    let answer = tx
        .prepare_cached("SELECT registered FROM number WHERE phone = ?1 AND asked > ?2")?
        .query_row(params![phone.to_string(), since], |row| row.get(0))
        .optional()?;
    Ok(answer.flatten())
}

fn note(tx: &Tx<'_>, phone: &Address, registered: bool, now: i64) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO number (phone, asked, registered) VALUES (?1, ?2, ?3)
         ON CONFLICT (phone) DO UPDATE SET asked = ?2, registered = ?3",
    )?
    .execute(params![phone.to_string(), now, registered])?;
    Ok(())
}

/// Who has this number, if it is not whom it was known for.
pub(super) fn holder(tx: &Tx<'_>, phone: &Address) -> rusqlite::Result<Option<Address>> {
    tx.prepare_cached("SELECT holder FROM number WHERE phone = ?1 AND holder IS NOT NULL")?
        .query_row([phone.to_string()], |row| peers::address(row, 0))
        .optional()
}

/// The peer with this address; of a number the one who has it now.
pub(super) fn owner(tx: &Tx<'_>, address: &Address) -> rusqlite::Result<Option<PeerKey>> {
    let holder = match address.phone() {
        Some(_) => holder(tx, address)?,
        None => None,
    };
    peers::find(tx, holder.as_ref().unwrap_or(address))
}

/// Notes that an address of this peer turned up with somebody else's LID.
pub(super) fn passed_on(
    tx: &Tx<'_>,
    from: PeerKey,
    phone: &Address,
    to: &Address,
) -> rusqlite::Result<()> {
    if phone.phone().is_none() {
        return Ok(());
    }
    let news = tx
        .prepare_cached(
            "INSERT INTO number (phone, holder) VALUES (?1, ?2)
             ON CONFLICT (phone) DO UPDATE SET holder = ?2 WHERE holder IS NOT ?2",
        )?
        .execute([phone.to_string(), to.to_string()])?;
    if news == 0 {
        return Ok(());
    }
    tracing::warn!(
        number = phone.redacted(),
        "a phone number has gone to somebody else; entries for it admit nobody until the operator decides"
    );
    tx.prepare_cached(
        "UPDATE peer SET route = (SELECT min(address) FROM alias WHERE peer = ?1 AND address LIKE '%@lid')
         WHERE key = ?1 AND route = ?2",
    )?
    .execute(params![from.0, phone.to_string()])?;
    Ok(())
}

/// Of a peer's numbers this is the one it has; the others are former ones, which stay its names.
pub(super) fn is_current(tx: &Tx<'_>, key: PeerKey, phone: &Address) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE alias SET former = (address <> ?2)
         WHERE peer = ?1 AND address LIKE '%@s.whatsapp.net' AND former <> (address <> ?2)",
    )?
    .execute(params![key.0, phone.to_string()])?;
    Ok(())
}

fn number_changed(tx: &Tx<'_>, old: &[Address], new: &[Address]) -> rusqlite::Result<()> {
    let is_lid = |address: &&Address| matches!(address, Address::Lid(_));
    let old_lid = old.iter().find(is_lid);
    let old_phone = old.iter().find(|a| a.phone().is_some());
    // The LID says who it is; the number does so only while nobody else has it.
    let mut person = old_lid
        .map(|lid| peers::find(tx, lid))
        .transpose()?
        .flatten();
    if let (None, Some(phone)) = (person, old_phone)
        && let Some(key) = peers::find(tx, phone)?
    {
        let another = match old_lid {
            Some(lid) => peers::is_somebody_else(tx, key, lid)?,
            None => holder(tx, phone)?.is_some(),
        };
        person = Some(key).filter(|_| !another);
    }
    let Some(mut person) = person else {
        return Ok(());
    };
    if let Some(lid) = old_lid {
        peers::add(tx, lid, person)?;
    }
    let new_lid = new.iter().find(is_lid);
    if let Some(lid) = new_lid {
        match peers::find(tx, lid)? {
            Some(other) if other != person => {
                let older = person.min(other);
                peers::merge(tx, older, person.max(other))?;
                person = older;
            }
            Some(_) => {}
            None => peers::add(tx, lid, person)?,
        }
        // What looked like somebody else's number was theirs.
        tx.prepare_cached(
            "UPDATE number SET holder = NULL WHERE holder = ?1
             AND phone IN (SELECT address FROM alias WHERE peer = ?2)",
        )?
        .execute(params![lid.to_string(), person.0])?;
    }
    let known = peers::load(tx, person)?;
    let lid = new_lid.or(old_lid).or(known.lid());
    let phone = new.iter().find(|a| a.phone().is_some());
    let forms: Vec<Address> = phone.into_iter().chain(lid).cloned().collect();
    if lid.is_some() {
        peers::resolve(tx, &forms)?;
    } else if let [phone] = forms.as_slice() {
        // Whoever has this number and a LID may be a third one.
        let third = peers::find(tx, phone)?
            .map(|key| peers::load(tx, key))
            .transpose()?;
        if third.is_none_or(|third| third.lid().is_none()) {
            let key = peers::resolve(tx, &[known.public_id, phone.clone()])?;
            is_current(tx, key, phone)?;
        }
    }
    Ok(())
}

//! Persons and chats, and which addresses are one of them.
//!
//! Invariants: a peer's public id is the form first met and never changes; every public id is an alias of its peer;
//! a peer has one LID, and more only where WhatsApp said that it is the same person (`numbers`). A direct chat is its
//! peer. Two peers that turn out to be one become the older of them, with everything re-keyed in the same transaction.

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};

use super::rate::SECOND;
use super::{Pending, Store, Tx, numbers, pairing, turns};
use crate::identity::{Address, ChatKind};

/// Key of a person or chat within this store. Lower is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub(super) i64);

/// A person or a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its key here. A merge can end a key's life; addresses and the public id stay good.
    pub key: PeerKey,
    /// The id that the host sees: the form first met.
    pub public_id: Address,
    /// The address that the peer used last; where sends, receipts and chatstates go.
    pub route: Address,
    /// Every address known to be this peer, the public id among them.
    pub aliases: Vec<Address>,
    /// Those of them that are phone numbers which have gone to somebody else by now.
    pub lost: Vec<Address>,
    /// Whether the operator has approved the person.
    pub approved: bool,
    /// The name that the person last sent along.
    pub push_name: Option<String>,
    /// Time of the latest message that came from here, by the server's clock; none ever came if absent.
    pub last_inbound: Option<i64>,
    /// After how many seconds messages of this chat disappear; 0 for never.
    pub timer: u32,
}

impl Peer {
    /// What kind of conversation this is.
    pub fn kind(&self) -> ChatKind {
        self.public_id.kind()
    }

    /// The peer's phone address, if one is known.
    pub fn phone(&self) -> Option<&Address> {
        let mut numbers = self.aliases.iter().filter(|a| a.phone().is_some());
        numbers.find(|number| !self.lost.contains(number))
    }

    /// The addresses by which access is judged: a number that somebody else has by now says nothing about anybody.
    pub fn credentials(&self) -> Vec<Address> {
        let kept = self.aliases.iter().filter(|a| !self.lost.contains(a));
        kept.cloned().collect()
    }

    /// The peer's LID, if it is known.
    pub fn lid(&self) -> Option<&Address> {
        self.aliases.iter().find(|a| matches!(a, Address::Lid(_)))
    }
}

impl Store {
    /// The peer with these addresses, which belong to one person or chat; created, linked or merged as need be.
    /// At least one address has to be given; an empty list is an error.
    pub fn resolve(&self, addresses: Vec<Address>) -> Pending<Peer> {
        self.submit(move |tx| {
            let key = resolve(tx, &addresses)?;
            load(tx, key)
        })
    }

    /// By what access is judged where something arrives with these addresses of one peer: they and all that are known
    /// to be the same, without numbers that are somebody else's.
    pub fn credentials(&self, given: Vec<Address>) -> Pending<Vec<Address>> {
        self.look(move |tx| {
            let lid = given.iter().find(|a| matches!(a, Address::Lid(_)));
            let mut forms = Vec::new();
            for address in &given {
                let Some(key) = find(tx, address)? else {
                    forms.push(address.clone());
                    continue;
                };
                match (lid, numbers::holder(tx, address)?) {
                    (Some(lid), _) if is_somebody_else(tx, key, lid)? => {}
                    (None, Some(holder)) => {
                        if let Some(key) = find(tx, &holder)? {
                            forms.extend(load(tx, key)?.credentials());
                        }
                        forms.push(holder);
                    }
                    _ => forms.extend(load(tx, key)?.credentials()),
                }
            }
            forms.sort();
            forms.dedup();
            Ok(forms)
        })
    }

    /// How often WhatsApp was asked whose this address is, since it answered last, or a message was set aside for want of an
    /// answer.
    pub fn tries(&self, address: Address) -> Pending<u32> {
        self.look(move |tx| {
            let tries = tx
                .prepare_cached("SELECT tries FROM alias WHERE address = ?1")?
                .query_row([address.to_string()], |row| row.get(0))
                .optional()?;
            Ok(tries.unwrap_or_default())
        })
    }

    /// Notes that number.
    pub fn set_tries(&self, tries: Vec<(Address, u32)>) -> Pending<()> {
        self.submit(move |tx| {
            for (address, tries) in &tries {
                tx.prepare_cached("UPDATE alias SET tries = ?2 WHERE address = ?1")?
                    .execute(params![address.to_string(), tries])?;
            }
            Ok(())
        })
    }

    /// The peer that has this address, if it was ever met.
    pub fn peer(&self, address: Address) -> Pending<Option<Peer>> {
        self.look(move |tx| find(tx, &address)?.map(|key| load(tx, key)).transpose())
    }
}

pub(super) fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<Address> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

pub(super) fn find(tx: &Tx<'_>, address: &Address) -> rusqlite::Result<Option<PeerKey>> {
    tx.prepare_cached("SELECT peer FROM alias WHERE address = ?1")?
        .query_row([address.to_string()], |row| row.get(0).map(PeerKey))
        .optional()
}

pub(super) fn load(tx: &Tx<'_>, key: PeerKey) -> rusqlite::Result<Peer> {
    let mut aliases = Vec::new();
    let mut lost = Vec::new();
    let mut approved = false;
    let mut statement = tx.prepare_cached(
        "SELECT a.address, n.holder IS NOT NULL, p.address IS NOT NULL
         FROM alias a LEFT JOIN number n ON n.phone = a.address LEFT JOIN approval p ON p.address = a.address
         WHERE a.peer = ?1 ORDER BY a.former, a.address",
    )?;
    let mut rows = statement.query([key.0])?;
    while let Some(row) = rows.next()? {
        let alias = address(row, 0)?;
        if row.get(1)? {
            lost.push(alias.clone());
        } else if row.get(2)? {
            approved = true;
        }
        aliases.push(alias);
    }
    tx.prepare_cached(
        "SELECT public_id, route, push_name, last_inbound,
                coalesce((SELECT json_extract(info, '$.ephemeral_secs') FROM known_group WHERE address = public_id), timer)
         FROM peer WHERE key = ?1",
    )?
        .query_row([key.0], |row| {
            Ok(Peer {
                key,
                public_id: address(row, 0)?,
                route: address(row, 1)?,
                aliases,
                lost,
                approved,
                push_name: row.get(2)?,
                last_inbound: row.get(3)?,
                timer: row.get(4)?,
            })
        })
}

pub(super) fn resolve(tx: &Tx<'_>, addresses: &[Address]) -> rusqlite::Result<PeerKey> {
    let Some(first) = addresses.first() else {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    };
    let lid = addresses.iter().find(|a| matches!(a, Address::Lid(_)));
    let mut known: Vec<PeerKey> = Vec::new();
    let mut news = Vec::new();
    for address in addresses {
        let Some(key) = find(tx, address)? else {
            news.push(address);
            continue;
        };
        // A LID is the person; a phone number is something that the person has at the moment. So a peer with
        // another LID than the one at hand is somebody else, and keeps the number until an operator decides.
        match lid {
            Some(lid) if is_somebody_else(tx, key, lid)? => {
                numbers::passed_on(tx, key, address, lid)?;
            }
            _ if known.contains(&key) => {}
            _ => known.push(key),
        }
    }
    known.sort_unstable();
    let key = match known.split_first() {
        None => {
            let phone = addresses.iter().find(|a| a.phone().is_some());
            let mut public = phone.or(lid).unwrap_or(first);
            if find(tx, public)?.is_some() {
                public = lid.unwrap_or(first);
            }
            create(tx, public, first)?
        }
        Some((&oldest, others)) => {
            for &other in others {
                merge(tx, oldest, other)?;
            }
            oldest
        }
    };
    for address in news {
        add(tx, address, key)?;
    }
    if let Some(phone) = addresses.iter().find(|a| a.phone().is_some())
        && lid.is_some()
        && find(tx, phone)? == Some(key)
    {
        numbers::is_current(tx, key, phone)?;
    }
    Ok(key)
}

/// Gives the peer an address, unless somebody has it.
pub(super) fn add(tx: &Tx<'_>, address: &Address, key: PeerKey) -> rusqlite::Result<()> {
    let new = tx
        .prepare_cached("INSERT OR IGNORE INTO alias (address, peer) VALUES (?1, ?2)")?
        .execute(params![address.to_string(), key.0])?;
    match new {
        0 => Ok(()),
        _ => pairing::judge_again(tx, key),
    }
}

/// The peer that a message came from, or in whose chat it came. One that names the phone number alone is from whoever
/// has that number now.
pub(super) fn arrived(tx: &Tx<'_>, addresses: &[Address]) -> rusqlite::Result<PeerKey> {
    match addresses {
        [phone] if phone.phone().is_some() => match numbers::holder(tx, phone)? {
            Some(holder) => resolve(tx, &[holder]),
            None => resolve(tx, addresses),
        },
        _ => resolve(tx, addresses),
    }
}

/// Notes that a message came from this peer, by way of `route`.
pub(super) fn seen(
    tx: &Tx<'_>,
    key: PeerKey,
    route: Option<&Address>,
    push_name: Option<&str>,
    at: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "UPDATE peer SET route = coalesce(?2, route), push_name = coalesce(?3, push_name),
                last_inbound = max(coalesce(last_inbound, 0), ?4) WHERE key = ?1",
    )?
    .execute(params![key.0, route.map(Address::to_string), push_name, at])?;
    Ok(())
}

/// Notes that they wrote in their own chat at `at`, Unix seconds. When we did before them is kept while it counts.
pub(super) fn opened(tx: &Tx<'_>, key: PeerKey, at: i64) -> rusqlite::Result<()> {
    let counts = at.saturating_mul(SECOND).saturating_sub(turns::DAY);
    tx.prepare_cached(
        "UPDATE peer SET opened = max(?2, -opened) WHERE key = ?1 AND (opened < ?2 OR opened > ?2 AND opened < ?3)",
    )?
    .execute([key.0, turns::BY_THEM, counts])?;
    Ok(())
}

/// Whether the LIDs of this peer are known and this is none of them.
pub(super) fn is_somebody_else(tx: &Tx<'_>, key: PeerKey, lid: &Address) -> rusqlite::Result<bool> {
    let lids: Vec<String> = tx
        .prepare_cached("SELECT address FROM alias WHERE peer = ?1 AND address LIKE '%@lid'")?
        .query_map([key.0], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(!lids.is_empty() && !lids.contains(&lid.to_string()))
}

fn create(tx: &Tx<'_>, public: &Address, route: &Address) -> rusqlite::Result<PeerKey> {
    tx.prepare_cached("INSERT INTO peer (public_id, route) VALUES (?1, ?2)")?
        .execute([public.to_string(), route.to_string()])?;
    let key = tx.last_insert_rowid();
    tx.prepare_cached("INSERT INTO alias (address, peer) VALUES (?1, ?2)")?
        .execute(params![public.to_string(), key])?;
    Ok(PeerKey(key))
}

pub(super) fn merge(tx: &Tx<'_>, into: PeerKey, from: PeerKey) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE alias SET peer = ?1 WHERE peer = ?2")?
        .execute([into.0, from.0])?;
    tx.prepare_cached(
        "UPDATE peer AS w SET
            route = CASE WHEN coalesce(l.last_inbound, 0) > coalesce(w.last_inbound, 0) THEN l.route ELSE w.route END,
            push_name = CASE WHEN coalesce(l.last_inbound, 0) > coalesce(w.last_inbound, 0)
                THEN coalesce(l.push_name, w.push_name) ELSE coalesce(w.push_name, l.push_name) END,
            timer = CASE WHEN coalesce(l.last_inbound, 0) > coalesce(w.last_inbound, 0) THEN l.timer ELSE w.timer END,
            read_upto = max(w.read_upto, l.read_upto),
            read_due = max(w.read_due, l.read_due),
            pace = max(w.pace, l.pace),
            opened = CASE WHEN max(w.opened, l.opened) > 0
                THEN max(w.opened, l.opened, -min(w.opened, l.opened)) ELSE min(w.opened, l.opened) END,
            answered = max(w.answered, l.answered),
            last_inbound = nullif(max(coalesce(l.last_inbound, 0), coalesce(w.last_inbound, 0)), 0)
         FROM peer AS l WHERE w.key = ?1 AND l.key = ?2",
    )?
    .execute([into.0, from.0])?;
    rekey_inbox(tx, into, from)?;
    pairing::merge(tx, into, from)?;
    for sql in [
        "UPDATE part SET chat = ?1 WHERE request IN (SELECT id FROM request WHERE chat = ?2)",
        "UPDATE request SET chat = ?1 WHERE chat = ?2",
        "UPDATE attachment SET chat = ?1 WHERE chat = ?2 AND state = 1",
        "UPDATE vote SET voter = ?1 WHERE voter = ?2",
        "UPDATE request SET reply_chat = ?1 WHERE reply_chat = ?2 AND reply_stanza IS NOT NULL",
        "DELETE FROM peer WHERE key = ?2 AND key <> ?1",
    ] {
        tx.prepare_cached(sql)?.execute([into.0, from.0])?;
    }
    Ok(())
}

/// The same message may have come once under each form. Then the copy that got further stays.
fn rekey_inbox(tx: &Tx<'_>, into: PeerKey, from: PeerKey) -> rusqlite::Result<()> {
    let rows: Vec<(i64, i64, i64, String, Option<i64>)> = tx
        .prepare_cached(
            "SELECT id, chat, sender, stanza, emission FROM inbox WHERE chat = ?1
             UNION SELECT id, chat, sender, stanza, emission FROM inbox WHERE sender = ?1 ORDER BY id",
        )?
        .query_map([from.0], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let new = |key: i64| if key == from.0 { into.0 } else { key };
    for (id, chat, sender, stanza, emission) in rows {
        let (chat, sender) = (new(chat), new(sender));
        let twin: Option<(i64, Option<i64>)> = tx
            .prepare_cached(
                "SELECT id, emission FROM inbox WHERE chat = ?1 AND stanza = ?2 AND sender = ?3",
            )?
            .query_row(params![chat, stanza, sender], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let gone = match twin {
            Some((twin, theirs)) if emission.is_some() && theirs.is_none() => Some((twin, id)),
            Some((twin, _)) => Some((id, twin)),
            None => None,
        };
        if let Some((gone, stays)) = gone {
            take_over(tx, stays, gone)?;
        }
        let gone = gone.map(|(gone, _)| gone);
        if gone != Some(id) {
            tx.prepare_cached("UPDATE inbox SET chat = ?2, sender = ?3 WHERE id = ?1")?
                .execute([id, chat, sender])?;
        }
    }
    Ok(())
}

/// A message takes the place of its copy: in the tallies, and with the context that it was told with.
fn take_over(tx: &Tx<'_>, stays: i64, gone: i64) -> rusqlite::Result<()> {
    for sql in [
        "UPDATE vote SET poll = ?1 WHERE sent = 0 AND poll = ?2",
        "UPDATE OR REPLACE vote SET message = ?1 WHERE message = ?2",
        "UPDATE inbox SET context_of = ?1 WHERE context_of = ?2",
    ] {
        tx.prepare_cached(sql)?.execute([stays, gone])?;
    }
    tx.prepare_cached("DELETE FROM inbox WHERE id = ?1")?
        .execute([gone])?;
    Ok(())
}

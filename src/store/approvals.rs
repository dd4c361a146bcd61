//! Whom the operator has let in.
//!
//! Invariant: an approval is of a person, by all addresses that were known as theirs; a number that somebody else has
//! by now is not one of them.

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::pairing::{release, withdraw_code};
use super::{Peer, PeerKey, Pending, Store, Tx, numbers, peers};
use crate::identity::Address;

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
}

/// Lets a person in by every address that is theirs; what they wait with is of no use any more.
pub(super) fn admit(tx: &Tx<'_>, peer: &Peer, now: i64) -> rusqlite::Result<()> {
    for address in peer.credentials() {
        note(tx, &peer.public_id, &address, now)?;
    }
    tx.prepare_cached("DELETE FROM pairing WHERE peer = ?1")?
        .execute([peer.key.0])?;
    withdraw_code(tx, peer.key)
}

fn note(tx: &Tx<'_>, person: &Address, address: &Address, at: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO approval (address, person, at) VALUES (?1, ?2, ?3)")?
        .execute(params![address.to_string(), person.to_string(), at])?;
    Ok(())
}

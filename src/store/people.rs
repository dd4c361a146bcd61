//! Who the people are that a message names: those whom it mentions or quotes, or whose message it is about.
//!
//! Invariant: a person has the same id wherever they are named, however they were addressed; a number is the person's
//! who has it now.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Peer, Tx, groups, numbers, peers};
use crate::identity::{Address, ChatKind};
use crate::inbound::Draft;

/// A person, as they are called here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The public id.
    pub id: Address,
    /// The name that the person last sent along.
    pub name: Option<String>,
}

/// The people that a message of this chat names, as far as they are known, by the addresses that it has for them.
pub(super) fn named(
    tx: &Tx<'_>,
    chat: &Peer,
    draft: &Draft,
) -> rusqlite::Result<BTreeMap<Address, Named>> {
    let mut named = BTreeMap::new();
    for address in draft.mentions.iter().cloned().chain(draft.refers_to()) {
        if named.contains_key(&address) {
            continue;
        }
        let mut found = one(tx, &address)?;
        if found.as_ref().is_none_or(|found| found.name.is_none())
            && chat.kind() == ChatKind::Group
            && let Some(member) = groups::member(tx, &chat.public_id, &address)?
        {
            // Met so far under the other address alone, which the group knows.
            for other in [Some(member.address), member.other].into_iter().flatten() {
                let known = one(tx, &other)?.filter(|known| known.name.is_some());
                found = known.or(found);
            }
        }
        if let Some(found) = found {
            named.insert(address, found);
        }
    }
    Ok(named)
}

/// The person with this address, if they were ever met.
fn one(tx: &Tx<'_>, address: &Address) -> rusqlite::Result<Option<Named>> {
    let Some(key) = numbers::owner(tx, address)? else {
        return Ok(None);
    };
    let mut statement =
        tx.prepare_cached("SELECT public_id, push_name FROM peer WHERE key = ?1")?;
    let named = statement.query_row(params![key.0], |row| {
        Ok(Named {
            id: peers::address(row, 0)?,
            name: row.get(1)?,
        })
    })?;
    Ok(Some(named))
}

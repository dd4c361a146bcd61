//! What is known of groups: what they say about themselves, and who is in them.
//!
//! A copy of what the server said, so that nobody asks it for each message: fetched once, moved on by the changes that
//! are reported, and marked as `stale` by those that do not say enough. Nothing is decided by it against a person
//! without asking the server again. That two addresses are one person is learnt from it, with the rules of `numbers`.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::peers::{self, address};
use super::{Pending, Store, Tx, numbers};
use crate::identity::Address;

/// What a group says about itself. Stored as JSON, so every field has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Its name.
    pub subject: String,
    /// What its admins say it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Only admins may write.
    pub announcement: bool,
    /// Only admins may change subject, description and picture.
    pub locked: bool,
    /// After so many seconds its messages disappear; 0: they stay.
    pub ephemeral_secs: u32,
    /// Members are addressed by LID, not by phone number.
    pub by_lid: bool,
    /// The community that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Address>,
    /// It is a community, in which nobody writes, and not one of its groups.
    pub community: bool,
    /// It is the announcement group of its community.
    pub community_announcements: bool,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The address in the namespace of the group.
    pub address: Address,
    /// The address in the other namespace, if the server said it.
    pub other: Option<Address>,
    /// May write and change things where only admins may.
    pub admin: bool,
}

/// A change of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupChange {
    /// Another subject.
    Subject(String),
    /// Another description, or none.
    Description(Option<String>),
    /// Whether only admins may write.
    Announcement(bool),
    /// Whether only admins may change the details.
    Locked(bool),
    /// After how many seconds messages disappear; 0 for never.
    Ephemeral(u32),
    /// Who came.
    Joined(Vec<Member>),
    /// Who went.
    Left(Vec<Address>),
    /// Who is an admin now, or no longer.
    Admins(Vec<Address>, bool),
    /// Something else: what is known has to be fetched again.
    Other,
}

/// A group as it was known last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownGroup {
    /// What it says about itself.
    pub group: Group,
    /// When it was fetched, Unix seconds.
    pub fetched: i64,
    /// It has changed since, in a way that was not told.
    pub stale: bool,
}

impl Store {
    /// Keeps what the server said of a group and its members. `stale`: it may have changed meanwhile.
    pub fn set_group(
        &self,
        chat: Address,
        group: Group,
        members: Vec<Member>,
        stale: bool,
        now: i64,
    ) -> Pending<()> {
        self.submit(move |tx| {
            let chat = chat.to_string();
            tx.prepare_cached(
                "INSERT INTO known_group (address, info, fetched, stale) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET info = ?2, fetched = ?3, stale = ?4",
            )?
            .execute(params![chat, json(&group)?, now, stale])?;
            tx.prepare_cached("DELETE FROM member WHERE chat = ?1")?
                .execute([&chat])?;
            join(tx, &chat, &members)
        })
    }

    /// Notes a change. Of a group that was never fetched nothing is noted.
    pub fn change_group(&self, chat: Address, change: GroupChange) -> Pending<()> {
        self.submit(move |tx| {
            let Some(mut known) = known(tx, &chat)? else {
                return Ok(());
            };
            let chat = chat.to_string();
            let group = &mut known.group;
            match change {
                GroupChange::Subject(subject) => group.subject = subject,
                GroupChange::Description(description) => group.description = description,
                GroupChange::Announcement(only_admins) => group.announcement = only_admins,
                GroupChange::Locked(only_admins) => group.locked = only_admins,
                GroupChange::Ephemeral(seconds) => group.ephemeral_secs = seconds,
                GroupChange::Joined(members) => join(tx, &chat, &members)?,
                GroupChange::Left(gone) => {
                    for address in gone {
                        tx.prepare_cached("DELETE FROM member WHERE chat = ?1 AND address = ?2")?
                            .execute([&chat, &address.to_string()])?;
                    }
                }
                GroupChange::Admins(who, admin) => {
                    for address in who {
                        tx.prepare_cached(
                            "UPDATE member SET admin = ?3 WHERE chat = ?1 AND address = ?2",
                        )?
                        .execute(params![
                            chat,
                            address.to_string(),
                            admin
                        ])?;
                    }
                }
                GroupChange::Other => known.stale = true,
            }
            tx.prepare_cached("UPDATE known_group SET info = ?2, stale = ?3 WHERE address = ?1")?
                .execute(params![chat, json(&known.group)?, known.stale])?;
            Ok(())
        })
    }

    /// A group as it was known last.
    pub fn group(&self, chat: Address) -> Pending<Option<KnownGroup>> {
        self.look(move |tx| known(tx, &chat))
    }

    /// The member of a group who has one of these addresses.
    pub fn member(&self, chat: Address, addresses: Vec<Address>) -> Pending<Option<Member>> {
        self.look(move |tx| {
            for address in &addresses {
                if let Some(member) = member(tx, &chat, address)? {
                    return Ok(Some(member));
                }
            }
            Ok(None)
        })
    }

    /// How people of these phone addresses are mentioned in a group: by LID, where the group addresses its members so
    /// and theirs is known. Who is not in the answer is mentioned by phone number.
    pub fn mention_forms(
        &self,
        chat: Address,
        phones: Vec<Address>,
    ) -> Pending<BTreeMap<Address, Address>> {
        self.look(move |tx| {
            let mut forms = BTreeMap::new();
            if !known(tx, &chat)?.is_some_and(|known| known.group.by_lid) {
                return Ok(forms);
            }
            for phone in phones {
                let lid = match member(tx, &chat, &phone)? {
                    Some(member) => Some(member.address),
                    None => match numbers::owner(tx, &phone)? {
                        Some(key) => peers::load(tx, key)?.lid().cloned(),
                        None => None,
                    },
                };
                if let Some(lid) = lid {
                    forms.insert(phone, lid);
                }
            }
            Ok(forms)
        })
    }
}

/// How often a group is fetched again at most because its members are addressed otherwise than it says, seconds.
const OTHERWISE: i64 = 600;

/// Somebody spoke in a group under this address. Groups change from phone numbers to LIDs, which nobody reports: then
/// what is known is to be fetched again.
pub(super) fn spoken_in(tx: &Tx<'_>, chat: &Address, sender: &Address) -> rusqlite::Result<()> {
    if !sender.is_user() {
        return Ok(());
    }
    let by_lid = matches!(sender, Address::Lid(_));
    tx.prepare_cached(
        "UPDATE known_group SET stale = 1 WHERE address = ?1 AND stale = 0
         AND json_extract(info, '$.by_lid') <> ?2 AND fetched < unixepoch() - ?3",
    )?
    .execute(params![chat.to_string(), by_lid, OTHERWISE])?;
    Ok(())
}

fn json(group: &Group) -> rusqlite::Result<String> {
    serde_json::to_string(group).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn join(tx: &Tx<'_>, chat: &str, members: &[Member]) -> rusqlite::Result<()> {
    for member in members {
        let other = member.other.as_ref().map(Address::to_string);
        tx.prepare_cached(
            "INSERT OR REPLACE INTO member (chat, address, other, admin) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            chat,
            member.address.to_string(),
            other,
            member.admin
        ])?;
        same_person(tx, member)?;
    }
    Ok(())
}

/// Both addresses of a member are one person's, if that is somebody who was met. Others are met when they say something.
fn same_person(tx: &Tx<'_>, member: &Member) -> rusqlite::Result<()> {
    let Some(other) = &member.other else {
        return Ok(());
    };
    let known = (peers::find(tx, &member.address)?, peers::find(tx, other)?);
    if known.0 != known.1 {
        peers::resolve(tx, &[member.address.clone(), other.clone()])?;
    }
    Ok(())
}

/// What is known of a group. What cannot be read is not known.
pub(super) fn known(tx: &Tx<'_>, chat: &Address) -> rusqlite::Result<Option<KnownGroup>> {
    let row: Option<(String, i64, bool)> = tx
        .prepare_cached("SELECT info, fetched, stale FROM known_group WHERE address = ?1")?
        .query_row([chat.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(row.and_then(|(info, fetched, stale)| {
        Some(KnownGroup {
            group: serde_json::from_str(&info).ok()?,
            fetched,
            stale,
        })
    }))
}

/// The member with this address, in either namespace.
pub(super) fn member(
    tx: &Tx<'_>,
    chat: &Address,
    who: &Address,
) -> rusqlite::Result<Option<Member>> {
    let (chat, who) = (chat.to_string(), who.to_string());
    for sql in [
        "SELECT address, other, admin FROM member WHERE chat = ?1 AND address = ?2",
        "SELECT address, other, admin FROM member WHERE chat = ?1 AND other = ?2",
    ] {
        let found = tx
            .prepare_cached(sql)?
            .query_row([&chat, &who], |row| {
                let other: Option<String> = row.get(1)?;
                Ok(Member {
                    address: address(row, 0)?,
                    other: other.and_then(|other| other.parse().ok()),
                    admin: row.get(2)?,
                })
            })
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

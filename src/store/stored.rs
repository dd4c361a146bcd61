//! Messages of the inbox as they are read, with what is known of their people and groups.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Type;

use super::groups::{self, KnownGroup};
use super::inbox::{RowId, state};
use super::peers::{self, address};
use super::people::{self, Named};
use super::{Attached, Peer, PeerKey, Tx, media};
use crate::identity::{Address, ChatKind};
use crate::inbound::Draft;

/// A message of the inbox, ready to become an event.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its row.
    pub id: RowId,
    /// The id of its event; stays the same however its peers are re-keyed.
    pub event_id: String,
    /// The conversation.
    pub chat: Peer,
    /// Who wrote it.
    pub sender: Peer,
    /// The chat's address as the stanza had it.
    pub route: Address,
    /// The stanza id.
    pub stanza_id: String,
    /// The server's time, Unix seconds.
    pub timestamp: i64,
    /// The name that the sender sent along with this message.
    pub push_name: Option<String>,
    /// What it says.
    pub draft: Draft,
    /// The attachments among those of the draft that can be fetched.
    pub media: Vec<Attached>,
    /// The people that it mentions or quotes, as far as they are known, by the addresses that it has for them.
    pub people: BTreeMap<Address, Named>,
    /// What is known of the group that it was said in.
    pub group: Option<KnownGroup>,
    /// Which attempt its next emission is, from 1.
    pub attempt: u32,
    /// Whether it was emitted before.
    pub redelivered: bool,
    /// Whether it is kept until it is proven handled.
    pub durable: bool,
}

impl Stored {
    /// What can be fetched of the attachment at this place in the draft.
    pub fn media_at(&self, nth: usize) -> Option<&Attached> {
        self.media.iter().find(|file| file.nth == nth)
    }
}

/// A draft as it is stored.
pub(super) fn json(draft: &Draft) -> rusqlite::Result<String> {
    serde_json::to_string(draft).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// Rows that match `condition`, which may order and limit. A draft that cannot be read is set aside, not returned:
/// it must not hold up the others.
pub(super) fn select(
    tx: &Tx<'_>,
    condition: &str,
    args: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Stored>> {
    let mut stored = Vec::new();
    select_each(tx, condition, args, &[], |row| {
        stored.push(row);
        true
    })?;
    Ok(stored)
}

/// The same one by one, without those of some chats, for as long as `take` wants more.
pub(super) fn select_each(
    tx: &Tx<'_>,
    condition: &str,
    args: &[&dyn rusqlite::ToSql],
    but: &[PeerKey],
    mut take: impl FnMut(Stored) -> bool,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT id, event_id, chat, sender, route, stanza, timestamp, push_name, draft, attempts
         FROM inbox WHERE {condition}"
    );
    let mut known = Known::default();
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query(args)?;
    let mut unreadable: Vec<i64> = Vec::new();
    while let Some(row) = rows.next()? {
        if !but.is_empty() && but.contains(&PeerKey(row.get(2)?)) {
            continue;
        }
        match known.read(tx, row) {
            Ok(message) => {
                if !take(message) {
                    break;
                }
            }
            // Damage in the middle of a value, which SQLite does not see.
            Err(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..),
            ) => unreadable.push(row.get(0)?),
            Err(error) => return Err(error),
        }
    }
    for id in unreadable {
        tx.prepare_cached("UPDATE inbox SET state = ?2, verdict = 'unreadable' WHERE id = ?1")?
            .execute([id, state::POISONED])?;
    }
    Ok(())
}

/// What several rows have in common is looked up once.
#[derive(Default)]
struct Known {
    peers: HashMap<i64, Peer>,
    groups: HashMap<i64, Option<KnownGroup>>,
}

impl Known {
    fn read(&mut self, tx: &Tx<'_>, row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
        let draft: String = row.get(8)?;
        let draft: Draft = serde_json::from_str(&draft).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(8, Type::Text, Box::new(error))
        })?;
        let attempts: u32 = row.get(9)?;
        let media = match draft.attachments.is_empty() {
            true => Vec::new(),
            false => media::attached(tx, row.get(0)?)?,
        };
        let (chat, sender) = (self.peer(tx, row.get(2)?)?, self.peer(tx, row.get(3)?)?);
        Ok(Stored {
            id: RowId(row.get(0)?),
            event_id: row.get(1)?,
            route: address(row, 4)?,
            stanza_id: row.get(5)?,
            timestamp: row.get(6)?,
            push_name: row.get(7)?,
            people: people::named(tx, &chat, &draft)?,
            group: self.group(tx, &chat)?,
            chat,
            sender,
            draft,
            media,
            attempt: attempts + 1,
            redelivered: attempts > 0,
            durable: true,
        })
    }

    fn peer(&mut self, tx: &Tx<'_>, key: i64) -> rusqlite::Result<Peer> {
        if let Some(peer) = self.peers.get(&key) {
            return Ok(peer.clone());
        }
        let peer = peers::load(tx, PeerKey(key))?;
        self.peers.insert(key, peer.clone());
        Ok(peer)
    }

    fn group(&mut self, tx: &Tx<'_>, chat: &Peer) -> rusqlite::Result<Option<KnownGroup>> {
        if let Some(group) = self.groups.get(&chat.key.0) {
            return Ok(group.clone());
        }
        let group = group_of(tx, chat)?;
        self.groups.insert(chat.key.0, group.clone());
        Ok(group)
    }
}

pub(super) fn group_of(tx: &Tx<'_>, chat: &Peer) -> rusqlite::Result<Option<KnownGroup>> {
    match chat.kind() {
        ChatKind::Group => groups::known(tx, &chat.public_id),
        _ => Ok(None),
    }
}

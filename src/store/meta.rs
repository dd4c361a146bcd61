//! What the account is, and the numbers that an operator looks at.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::counters::Counter;
use super::{Pending, Store, Tx};
use crate::identity::Address;

/// The account that is linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Its phone address.
    pub phone: Address,
    /// Its LID, once known.
    #[serde(default)]
    pub lid: Option<Address>,
    /// The number of our companion device.
    #[serde(default)]
    pub device: u16,
    /// The account's own name.
    #[serde(default)]
    pub push_name: Option<String>,
}

/// A state that forbids connecting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `logged_out`, `banned`, `replaced` or `outdated`.
    pub state: String,
    /// Since when, Unix seconds.
    pub since: i64,
    /// When it ends by itself, Unix seconds.
    #[serde(default)]
    pub until: Option<i64>,
    /// What WhatsApp said.
    pub reason: String,
}

/// The last login, and the last connection that stood and was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// When the last login succeeded, Unix seconds.
    #[serde(default)]
    pub connected: Option<i64>,
    /// When the last one that was lost ended, Unix seconds.
    #[serde(default)]
    pub disconnected: Option<i64>,
    /// Why it ended.
    #[serde(default)]
    pub reason: Option<String>,
    /// It was lost, and there was no login since.
    #[serde(default)]
    pub lost: bool,
}

/// A value, and since when it holds, Unix seconds.
pub type Dated<T> = (T, i64);

/// How many messages are where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Waiting to be emitted.
    pub waiting: i64,
    /// Server time of the oldest of them, Unix seconds.
    pub oldest_waiting: Option<i64>,
    /// Emitted, not proven handled.
    pub unproven: i64,
    /// Emitted in an earlier session, fate unknown.
    pub unconfirmed: i64,
    /// Set aside after three sessions ended in their turn.
    pub poisoned: i64,
    /// Outgoing, not yet acknowledged.
    pub queued: i64,
    /// Outgoing, handed to the connection, never acknowledged.
    pub unknown: i64,
    /// Outgoing, acknowledged, but perhaps sent to no device.
    pub suspect: i64,
    /// Outgoing, refused.
    pub rejected: i64,
    /// Outgoing, given up since neither a connection nor their turn came in time.
    pub expired: i64,
    /// Fell out of the inbox for their age or number before anything proved them handled, or were lost before they got
    /// there and not sent again; only ever grows.
    pub dropped: i64,
}

impl Store {
    /// The linked account.
    pub fn linked(&self) -> Pending<Option<Linked>> {
        self.submit(|tx| get(tx, "linked"))
    }

    /// Sets or removes the linked account.
    pub fn set_linked(&self, linked: Option<Linked>) -> Pending<()> {
        self.submit(move |tx| set(tx, "linked", linked.as_ref()))
    }

    /// The state that forbids connecting, if there is one.
    pub fn terminal(&self) -> Pending<Option<Terminal>> {
        self.submit(|tx| get(tx, "terminal"))
    }

    /// Sets or lifts the state that forbids connecting.
    pub fn set_terminal(&self, terminal: Option<Terminal>) -> Pending<()> {
        self.submit(move |tx| set(tx, "terminal", terminal.as_ref()))
    }

    /// The version of WhatsApp Web that WhatsApp named last, and when, Unix seconds.
    pub fn web_version(&self) -> Pending<Option<Dated<(u32, u32, u32)>>> {
        self.submit(|tx| get(tx, "web_version"))
    }

    /// Keeps the version of WhatsApp Web that WhatsApp named.
    pub fn set_web_version(&self, version: (u32, u32, u32), now: i64) -> Pending<()> {
        self.submit(move |tx| set(tx, "web_version", Some(&(version, now))))
    }

    /// `file`, or the URL of the object store, as the configuration said last.
    pub fn media_store(&self) -> Pending<Option<String>> {
        self.look(|tx| get(tx, "media_store"))
    }

    /// Notes what the configuration says, for those who look at the account without one.
    pub fn note_media_store(&self, said: String) -> Pending<()> {
        self.submit(move |tx| match get::<String>(tx, "media_store")? {
            Some(known) if known == said => Ok(()),
            _ => set(tx, "media_store", Some(&said)),
        })
    }

    /// The last login, and the last connection that was lost.
    pub fn connections(&self) -> Pending<Connections> {
        self.look(|tx| Ok(get(tx, "connections")?.unwrap_or_default()))
    }

    /// Notes a login; the first after a lost connection is a reconnect.
    pub fn set_connected(&self, now: i64) -> Pending<()> {
        self.submit(move |tx| {
            let mut seen: Connections = get(tx, "connections")?.unwrap_or_default();
            seen.connected = Some(now);
            if std::mem::take(&mut seen.lost) {
                tx.count(Counter::Reconnects, 1);
            }
            set(tx, "connections", Some(&seen))
        })
    }

    /// Notes that a connection that stood was lost.
    pub fn set_disconnected(&self, now: i64, reason: String) -> Pending<()> {
        self.submit(move |tx| {
            let mut seen: Connections = get(tx, "connections")?.unwrap_or_default();
            seen.disconnected = Some(now);
            seen.reason = Some(reason);
            seen.lost = true;
            set(tx, "connections", Some(&seen))
        })
    }

    /// When the account's phone last gave a sign of life, Unix seconds.
    pub fn phone_seen(&self) -> Pending<Option<i64>> {
        self.look(|tx| get(tx, PHONE))
    }

    /// Notes a sign of life of the account's phone; an older one than is known says nothing.
    pub fn note_phone(&self, at: i64) -> Pending<()> {
        self.submit_patient(move |tx| {
            let known: Option<i64> = get(tx, PHONE)?;
            match known.is_some_and(|known| known >= at) {
                true => Ok(()),
                false => set(tx, PHONE, Some(&at)),
            }
        })
    }

    /// Counts a call that was refused before it got into the outbox.
    pub fn count_refused(&self) -> Pending<()> {
        self.submit(|tx| {
            let before: i64 = get(tx, "refused")?.unwrap_or_default();
            set(tx, "refused", Some(&(before + 1)))
        })
    }

    /// How many messages are where.
    pub fn counts(&self) -> Pending<Counts> {
        self.look(|tx| {
            let count = |sql: &str| -> rusqlite::Result<i64> {
                tx.prepare_cached(sql)?.query_row([], |row| row.get(0))
            };
            let by_state = |sql: &str| -> rusqlite::Result<HashMap<i64, i64>> {
                tx.prepare_cached(sql)?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            };
            let troubled =
                by_state("SELECT state, count(*) FROM inbox WHERE state IN (4, 5) GROUP BY state")?;
            let uncertain = by_state(
                "SELECT state, count(*) FROM part WHERE state IN (2, 4, 8, 9) GROUP BY state",
            )?;
            let of =
                |counts: &HashMap<i64, i64>, state| counts.get(&state).copied().unwrap_or_default();
            Ok(Counts {
                waiting: count("SELECT count(*) FROM inbox WHERE state = 0")?,
                oldest_waiting: tx
                    .prepare_cached("SELECT min(timestamp) FROM inbox WHERE state = 0")?
                    .query_row([], |row| row.get(0))?,
                unproven: count("SELECT count(*) FROM inbox WHERE state = 1")?,
                unconfirmed: of(&troubled, 4),
                poisoned: of(&troubled, 5),
                queued: count("SELECT count(*) FROM part WHERE open = 1")?,
                unknown: of(&uncertain, 2),
                suspect: of(&uncertain, 4),
                rejected: of(&uncertain, 8) + get::<i64>(tx, "refused")?.unwrap_or_default(),
                expired: of(&uncertain, 9),
                dropped: get::<i64>(tx, DROPPED)?.unwrap_or_default(),
            })
        })
    }
}

/// Key of the last sign of the account's phone.
const PHONE: &str = "phone_seen";

/// Key of the count of events that fell out unproven.
pub(super) const DROPPED: &str = "dropped";

pub(super) fn get<T: DeserializeOwned>(tx: &Tx<'_>, key: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = tx
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    text.map(|text| {
        serde_json::from_str(&text).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
        })
    })
    .transpose()
}

pub(super) fn set<T: Serialize>(tx: &Tx<'_>, key: &str, value: Option<&T>) -> rusqlite::Result<()> {
    match value {
        Some(value) => {
            let text = serde_json::to_string(value)
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
            tx.prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
                .execute(params![key, text])?;
        }
        None => {
            tx.prepare_cached("DELETE FROM meta WHERE key = ?1")?
                .execute([key])?;
        }
    }
    Ok(())
}

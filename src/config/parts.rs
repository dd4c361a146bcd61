//! The settings that are objects of their own: contacts, routes, media, pacing.

use super::pattern::{self, Pattern, pattern};
use super::read::{ConfigError, Keys};
use super::words::{Download, Permission};
use super::{id_entry, some_text};
use crate::identity::IdEntry;
use crate::media::bucket;

/// A person with a permission.
#[derive(Debug, Clone, PartialEq)]
pub struct Contact {
    /// Who.
    pub id: IdEntry,
    /// What the operator calls them.
    pub name: Option<String>,
    /// What they may do.
    pub permission: Permission,
}

/// One route. A condition that is absent holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Becomes `event.metadata.route`.
    pub name: String,
    /// The platform: `whatsapp`.
    pub channel: Option<String>,
    /// The conversation.
    pub chat: Option<IdEntry>,
    /// A group, or somebody who writes in one.
    pub group: Option<IdEntry>,
    /// The sender.
    pub from: Option<IdEntry>,
    /// Our own account.
    pub to: Option<IdEntry>,
    /// A regular expression for the text.
    pub text_regex: Option<Pattern>,
}

/// What becomes of inbound media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Whether it is fetched.
    pub download: Download,
    /// Larger media is left at the server.
    pub max_bytes: u64,
    /// `file`, or the URL of an object store.
    pub store: String,
    /// Days for which it is kept.
    pub retention_days: u32,
    /// Bytes that are kept; beyond it the oldest goes.
    pub max_total_bytes: u64,
    /// Whether what was sent to be seen once is fetched too.
    pub view_once: bool,
}

/// Limits of outbound speed, each a steady rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Messages a second to one chat.
    pub chat_per_second: u32,
    /// At once to one chat.
    pub chat_burst: u32,
    /// Messages a minute of the account.
    pub account_per_minute: u32,
    /// At once of the account.
    pub account_burst: u32,
    /// First messages to strangers a day.
    pub strangers_per_day: u32,
}

pub(super) fn media(keys: &mut Keys<'_>, unknown: &mut Vec<String>) -> Result<Media, ConfigError> {
    let mut k = keys.object("media")?;
    let media = Media {
        download: k.word_or("download", Download::Auto)?,
        max_bytes: k.number("max_bytes", 0..=2 << 30, 64 << 20)?,
        store: k.text_or("store", media_store, "file")?,
        retention_days: k.number("retention_days", 1..=3660, 30)? as u32,
        max_total_bytes: k.number("max_total_bytes", 0..=1 << 50, 4 << 30)?,
        view_once: k.flag("view_once")?,
    };
    k.unknown(unknown);
    Ok(media)
}

pub(super) fn pacing(
    keys: &mut Keys<'_>,
    unknown: &mut Vec<String>,
) -> Result<Pacing, ConfigError> {
    let mut k = keys.object("pacing")?;
    let mut rate = |key, default| k.number(key, 1..=100_000, default).map(|n| n as u32);
    let pacing = Pacing {
        chat_per_second: rate("chat_per_second", 1)?,
        chat_burst: rate("chat_burst", 5)?,
        account_per_minute: rate("account_per_minute", 20)?,
        account_burst: rate("account_burst", 20)?,
        strangers_per_day: k.number("strangers_per_day", 0..=100_000, 20)? as u32,
    };
    k.unknown(unknown);
    Ok(pacing)
}

pub(super) fn mention_patterns(keys: &mut Keys<'_>) -> Result<Vec<Pattern>, ConfigError> {
    let patterns = keys.list("mention_patterns", pattern)?.unwrap_or_default();
    match patterns.len() <= pattern::MOST {
        true => Ok(patterns),
        false => Err(keys.error(
            "mention_patterns",
            format!("at most {} expressions", pattern::MOST),
        )),
    }
}

pub(super) fn contacts(
    keys: &mut Keys<'_>,
    unknown: &mut Vec<String>,
) -> Result<Vec<Contact>, ConfigError> {
    let read = |mut k: Keys<'_>| {
        let contact = Contact {
            id: {
                let id = k.text("id", person)?;
                k.needed("id", id, PERSON)?
            },
            name: k.text("name", some_text)?,
            permission: {
                let permission = k.word("permission")?;
                k.needed("permission", permission, "one of read, write, admin")?
            },
        };
        k.unknown(unknown);
        Ok(contact)
    };
    keys.objects("contacts")?.into_iter().map(read).collect()
}

pub(super) fn routes(
    keys: &mut Keys<'_>,
    unknown: &mut Vec<String>,
) -> Result<Vec<Route>, ConfigError> {
    let read = |mut k: Keys<'_>| {
        let name = k.text("name", some_text)?;
        let name = k.needed("name", name, "a text")?;
        let mut m = k.object("match")?;
        let route = Route {
            name,
            channel: m.text("channel", some_text)?,
            chat: m.text("chat", id_entry)?,
            group: m.text("group", id_entry)?,
            from: m.text("from", id_entry)?,
            to: m.text("to", id_entry)?,
            text_regex: m.text("text_regex", pattern)?,
        };
        m.unknown(unknown);
        k.unknown(unknown);
        Ok(route)
    };
    keys.objects("routes")?.into_iter().map(read).collect()
}

const PERSON: &str = "a phone number like +15551230000, or a person's JID or LID";

pub(super) fn person(text: &str) -> Result<IdEntry, String> {
    match text.parse() {
        Ok(IdEntry::One(address)) if address.is_user() => Ok(IdEntry::One(address)),
        _ => Err(PERSON.to_owned()),
    }
}

fn media_store(text: &str) -> Result<String, String> {
    match text {
        "file" => Ok(text.to_owned()),
        url => bucket::folder(url),
    }
}

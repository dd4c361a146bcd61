//! The configuration that comes with every request: typed, defaulted, and when it is wrong, explained.
//!
//! Invariant: a [`Config`] is valid. An unknown key is reported and ignored, so that one configuration serves several
//! versions; a known key with a bad value is an error, since a guess at a policy is worse than a stop.

mod changes;
mod parts;
mod pattern;
mod read;
mod schema;
mod words;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::identity::{Address, IdEntry, parse_target};
use crate::protocol::StringMap;
use crate::protocol::capabilities::DEFAULT_MAX_ATTACHMENT_BYTES;
pub use parts::{Contact, Media, Pacing, Route};
pub use pattern::Pattern;
pub use read::ConfigError;
use read::{Keys, Notes};
pub use schema::schema;
pub use words::{
    DeliverErrors, DmPolicy, Download, Family, GroupActivation, Permission, Presence, ReadReceipts,
    ReplyDelivery, TextFormat, Typing,
};

/// The account that a request without `account` means.
pub const DEFAULT_ACCOUNT: &str = "default";
const DAY: u64 = 86_400;
const YEAR: u64 = 366 * DAY;

/// The settings of one request. Lists are empty where the key is absent.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the account's directory.
    pub account: String,
    /// Absolute; instead of the account's directory.
    pub sqlite_store_path: Option<PathBuf>,
    /// Where a message without a destination goes, as it is written; it is a destination of this account.
    pub default_recipient: Option<String>,
    /// Longest one `poll_ingress`, in seconds.
    pub poll_timeout_secs: u32,
    /// A drain is over when nothing came for this many milliseconds.
    pub poll_idle_ms: u32,
    /// Most events in one answer.
    pub poll_max_events: u32,
    /// Messages older than this many seconds are not emitted.
    pub max_event_age_secs: u32,
    /// As it is written; see [`crate::access::Policy`] for what follows from its absence.
    pub dm_policy: Option<DmPolicy>,
    /// Who may write in direct chats. `allowed_dm_sender_ids` is another name for it.
    pub allowed_sender_ids: Vec<IdEntry>,
    /// Persons with a permission of their own.
    pub contacts: Vec<Contact>,
    /// The answer to a contact who may only read.
    pub read_only_reply: Option<String>,
    /// Always allowed, as an administrator.
    pub owner_id: Option<IdEntry>,
    /// Whether groups may speak at all.
    pub allow_group_messages: bool,
    /// Groups and chats that may speak. `allowed_chat_ids` is another name for it.
    pub allowed_conversation_ids: Vec<IdEntry>,
    /// Within an allowed group only these; `None` is all members.
    pub allowed_group_sender_ids: Option<Vec<IdEntry>>,
    /// Which group messages are for the agent.
    pub group_activation: GroupActivation,
    /// Regular expressions that count as a mention.
    pub mention_patterns: Vec<Pattern>,
    /// Unaddressed group messages that are given with the next addressed one.
    pub group_context_messages: usize,
    /// Who may be written to; empty is no wider than inbound.
    pub outbound_recipient_ids: Vec<IdEntry>,
    /// In order; the first that matches names the event's route.
    pub routes: Vec<Route>,
    /// The families of events to emit.
    pub events: BTreeSet<Family>,
    /// Inbound media.
    pub media: Media,
    /// Outbound, in bytes.
    pub max_attachment_bytes: u64,
    /// How outbound text is written.
    pub text_format: TextFormat,
    /// Longest part of an outbound text, in characters.
    pub text_chunk_chars: usize,
    /// When a typing indicator is shown.
    pub typing: Typing,
    /// Go available while typing.
    pub typing_presence: bool,
    /// When messages are marked read.
    pub read_receipts: ReadReceipts,
    /// What others see of us.
    pub presence: Presence,
    /// How fast messages go out.
    pub pacing: Pacing,
    /// What becomes of a message that cannot be sent as asked. Absent: replies degrade, since a failed reply ends the
    /// host's whole runtime, and all else fails.
    pub deliver_errors: Option<DeliverErrors>,
    /// How many seconds a queued message waits for a connection.
    pub queue_ttl_secs: u32,
    /// How many seconds one `deliver` or `push` may take.
    pub send_timeout_secs: u32,
    /// Attachments by URL may point at private addresses.
    pub allow_private_urls: bool,
    /// Passed on to the host.
    pub reply_delivery: ReplyDelivery,
    /// WhatsApp Web version to present instead of the one that is looked up.
    pub web_version: Option<(u32, u32, u32)>,
    /// `health` may open a connection of its own.
    pub health_probe: bool,
}

/// A configuration that was read, and what is to be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The settings.
    pub config: Config,
    /// Keys that this version does not know, with their path.
    pub unknown_keys: Vec<String>,
    /// Settings that are valid and do less than they say. One sentence each.
    pub warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        // Null has no values that could be wrong; a test holds that.
        match Self::parse(&Value::Null) {
            Ok(parsed) => parsed.config,
            Err(error) => unreachable!("{error}"),
        }
    }
}

impl Config {
    /// Reads the `config` of a request; null is an empty object.
    ///
    /// # Errors
    /// The first known key whose value is not allowed.
    pub fn parse(value: &Value) -> Result<Parsed, ConfigError> {
        Self::read(value, None)
    }

    fn read(value: &Value, notes: Option<&Notes>) -> Result<Parsed, ConfigError> {
        let mut unknown_keys = Vec::new();
        let mut keys = Keys::new("", value)?.noted(notes);
        let k = &mut keys;
        let account = k.text_or("account", account_name, DEFAULT_ACCOUNT)?;
        let config = Self {
            sqlite_store_path: k.text("sqlite_store_path", absolute_path)?,
            default_recipient: k.text("default_recipient", |text| {
                parse_target(text, &account)
                    .map(|_| text.to_owned())
                    .map_err(|error| format!("a destination ({error})"))
            })?,
            poll_timeout_secs: k.number("poll_timeout_secs", 1..=3600, 10)? as u32,
            poll_idle_ms: k.number("poll_idle_ms", 1..=3_600_000, 1500)? as u32,
            poll_max_events: k.number("poll_max_events", 1..=10_000, 50)? as u32,
            max_event_age_secs: k.number("max_event_age_secs", 1..=YEAR, 7 * DAY)? as u32,
            dm_policy: k.word("dm_policy")?,
            allowed_sender_ids: ids(k, "allowed_sender_ids", "allowed_dm_sender_ids")?,
            contacts: parts::contacts(k, &mut unknown_keys)?,
            read_only_reply: k.text("read_only_reply", some_text)?,
            owner_id: k.text("owner_id", parts::person)?,
            allow_group_messages: k.flag("allow_group_messages")?,
            allowed_conversation_ids: ids(k, "allowed_conversation_ids", "allowed_chat_ids")?,
            allowed_group_sender_ids: k.list("allowed_group_sender_ids", id_entry)?,
            group_activation: k.word_or("group_activation", GroupActivation::Mention)?,
            mention_patterns: parts::mention_patterns(k)?,
            group_context_messages: k.number("group_context_messages", 0..=1000, 20)? as usize,
            outbound_recipient_ids: k
                .list("outbound_recipient_ids", id_entry)?
                .unwrap_or_default(),
            routes: parts::routes(k, &mut unknown_keys)?,
            events: match k.words::<Family>("events")? {
                Some(families) => families.into_iter().collect(),
                None => [
                    Family::Message,
                    Family::MessageEdited,
                    Family::MessageRevoked,
                ]
                .into(),
            },
            media: parts::media(k, &mut unknown_keys)?,
            max_attachment_bytes: k.number(
                "max_attachment_bytes",
                0..=2 << 30,
                DEFAULT_MAX_ATTACHMENT_BYTES,
            )?,
            text_format: k.word_or("text_format", TextFormat::Markdown)?,
            text_chunk_chars: k.number("text_chunk_chars", 1..=65_536, 4000)? as usize,
            typing: k.word_or("typing", Typing::Auto)?,
            typing_presence: k.flag("typing_presence")?,
            read_receipts: k.word_or("read_receipts", ReadReceipts::Off)?,
            presence: k.word_or("presence", Presence::Offline)?,
            pacing: parts::pacing(k, &mut unknown_keys)?,
            deliver_errors: k.word("deliver_errors")?,
            queue_ttl_secs: k.number("queue_ttl_secs", 0..=YEAR, 3600)? as u32,
            send_timeout_secs: k.number("send_timeout_secs", 1..=3600, 25)? as u32,
            allow_private_urls: k.flag("allow_private_urls")?,
            reply_delivery: k.word_or("reply_delivery", ReplyDelivery::RuntimeOwned)?,
            web_version: k.text("web_version", web_version)?,
            health_probe: k.flag("health_probe")?,
            account,
        };
        keys.unknown(&mut unknown_keys);
        let warnings = config.warnings();
        Ok(Parsed {
            config,
            unknown_keys,
            warnings,
        })
    }

    /// Whether events of this type are to be emitted. A type of no known family is not.
    pub fn emits(&self, event_type: &str) -> bool {
        let family = match event_type.split_once('.').unwrap_or((event_type, "")) {
            ("message", "edited") => Family::MessageEdited,
            ("message", "revoked") => Family::MessageRevoked,
            ("message", "undecryptable") | ("undecryptable", _) => Family::Undecryptable,
            ("message", _) => Family::Message,
            ("reaction", _) => Family::Reaction,
            ("receipt", _) => Family::Receipt,
            ("poll", "vote") => Family::PollVote,
            ("group", _) => Family::Group,
            ("call", _) => Family::Call,
            ("presence", _) => Family::Presence,
            ("contact", _) => Family::Contact,
            ("connection", _) => Family::Connection,
            _ => return false,
        };
        self.events.contains(&family)
    }

    /// Whether anything besides messages and what is done to them is to be emitted.
    pub fn emits_happenings(&self) -> bool {
        let durable = [
            Family::Message,
            Family::MessageEdited,
            Family::MessageRevoked,
            Family::Reaction,
            Family::PollVote,
        ];
        self.events.iter().any(|family| !durable.contains(family))
    }

    /// The resolved settings for people, as strings. Of lists only their length: they are persons.
    pub fn resolved(&self) -> StringMap {
        let families: Vec<&str> = self.events.iter().map(|family| family.as_str()).collect();
        let mut settings: StringMap = [
            ("account", self.account.clone()),
            (
                "allow_group_messages",
                self.allow_group_messages.to_string(),
            ),
            (
                "allowed_conversation_count",
                self.allowed_conversation_ids.len().to_string(),
            ),
            (
                "allowed_sender_count",
                self.allowed_sender_ids.len().to_string(),
            ),
            ("contact_count", self.contacts.len().to_string()),
            ("events", families.join(",")),
            (
                "group_activation",
                self.group_activation.as_str().to_owned(),
            ),
            (
                "max_attachment_bytes",
                self.max_attachment_bytes.to_string(),
            ),
            ("media_download", self.media.download.as_str().to_owned()),
            ("media_max_bytes", self.media.max_bytes.to_string()),
            ("media_store", self.media.store.clone()),
            ("max_event_age_secs", self.max_event_age_secs.to_string()),
            (
                "outbound_recipient_count",
                self.outbound_recipient_ids.len().to_string(),
            ),
            ("poll_idle_ms", self.poll_idle_ms.to_string()),
            ("poll_max_events", self.poll_max_events.to_string()),
            ("poll_timeout_secs", self.poll_timeout_secs.to_string()),
            ("presence", self.presence.as_str().to_owned()),
            ("queue_ttl_secs", self.queue_ttl_secs.to_string()),
            ("read_receipts", self.read_receipts.as_str().to_owned()),
            ("reply_delivery", self.reply_delivery.as_str().to_owned()),
            ("route_count", self.routes.len().to_string()),
            ("send_timeout_secs", self.send_timeout_secs.to_string()),
            ("text_chunk_chars", self.text_chunk_chars.to_string()),
            ("text_format", self.text_format.as_str().to_owned()),
            ("typing", self.typing.as_str().to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(path) = &self.sqlite_store_path {
            settings.insert("sqlite_store_path".to_owned(), path.display().to_string());
        }
        settings
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.sqlite_store_path.is_some() && self.account != DEFAULT_ACCOUNT {
            warnings
                .push("sqlite_store_path is set, so account does not select the store".to_owned());
        }
        if !self.allow_group_messages
            && (self.allowed_group_sender_ids.is_some()
                || self.allowed_conversation_ids.iter().any(is_group))
        {
            warnings.push(
                "groups are listed, but allow_group_messages is not true, so none may speak"
                    .to_owned(),
            );
        }
        if self.allow_group_messages && self.allowed_conversation_ids.is_empty() {
            warnings.push(
                "allow_group_messages is true, but allowed_conversation_ids lists no group, so none may speak; \
                 [\"*\"] allows all"
                    .to_owned(),
            );
        }
        if self.dm_policy == Some(DmPolicy::Deny) && !self.allowed_sender_ids.is_empty() {
            warnings.push(
                "dm_policy is deny, yet those in allowed_sender_ids may write: lists come first"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn is_group(entry: &IdEntry) -> bool {
    matches!(entry, IdEntry::One(Address::Group(_)))
}

/// Both names of a list, together.
fn ids(
    keys: &mut Keys<'_>,
    name: &'static str,
    other: &'static str,
) -> Result<Vec<IdEntry>, ConfigError> {
    let mut ids = keys.list(name, id_entry)?.unwrap_or_default();
    for id in keys.list(other, id_entry)?.unwrap_or_default() {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn id_entry(text: &str) -> Result<IdEntry, String> {
    text.parse()
        .map_err(|_| "a phone number like +15551230000, a JID, a LID, or \"*\"".to_owned())
}

/// An account's name is a directory's: nothing in it may lead elsewhere.
///
/// # Errors
/// What is allowed.
pub fn account_name(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let first = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() <= 64 && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("a name of up to 64 letters, digits, dots, underscores and dashes that begins with a letter or digit".to_owned())
    }
}

fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() && path.file_name().is_some() && !text.contains('\0') {
        Ok(path.to_owned())
    } else {
        Err("the absolute path of a file".to_owned())
    }
}

fn some_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("a text that is not empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn web_version(text: &str) -> Result<(u32, u32, u32), String> {
    let mut parts = text.split('.').map(str::parse);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(a)), Some(Ok(b)), Some(Ok(c)), None) => Ok((a, b, c)),
        _ => Err("three numbers like 2.3000.1023456789".to_owned()),
    }
}

#[cfg(test)]
mod tests;

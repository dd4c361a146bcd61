//! Phone numbers, JIDs, LIDs and the destinations that people write: the only place that knows their syntax.
//!
//! Invariant: an [`Address`] is bare and canonical. It has no device, no agent and no legacy server name, so two
//! addresses are the same account exactly when they are equal, and `Display` and `FromStr` are inverse.
//! One person may still have two addresses, a phone number and a LID; which belong together is the store's knowledge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod phone;
mod plan;
mod target;
#[cfg(test)]
mod tests;

pub use phone::{Phone, PhoneError};
pub use target::{IdEntry, TargetError, check_typed, parse_target};

/// Longest JID that is taken from outside. Real ones have fewer than 50 characters.
const MAX_JID_BYTES: usize = 256;

/// What a conversation is, as `conversation.kind` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatKind {
    /// A direct chat with one account.
    Private,
    /// A group, a community's groups included.
    Group,
    /// A channel that one follows.
    Newsletter,
    /// A broadcast list, or everybody's status.
    Broadcast,
}

impl ChatKind {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Group => "group",
            Self::Newsletter => "newsletter",
            Self::Broadcast => "broadcast",
        }
    }
}

/// One address of an account or a conversation, without device. Its text form is the JID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// A person by phone number: `15551230000@s.whatsapp.net`.
    Phone(Phone),
    /// A person by WhatsApp's number-hiding id: `123456789012345@lid`.
    Lid(String),
    /// A group: `120363000000000000@g.us`.
    Group(String),
    /// A newsletter (WhatsApp "channel"): `120363000000000000@newsletter`.
    Newsletter(String),
    /// A broadcast list: `1400000000@broadcast`.
    Broadcast(String),
    /// Everybody's status updates: `status@broadcast`.
    Status,
    /// Anything else that has an address, as its whole JID: bots, WhatsApp's own account, other networks.
    Other(String),
}

/// Why a text is no JID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a JID; a JID is like 15551230000@s.whatsapp.net, 123456789012345@lid or 120363000000000000@g.us"
)]
pub struct AddressError;

impl Address {
    /// What kind of conversation has this address.
    pub fn kind(&self) -> ChatKind {
        match self {
            Self::Phone(_) | Self::Lid(_) | Self::Other(_) => ChatKind::Private,
            Self::Group(_) => ChatKind::Group,
            Self::Newsletter(_) => ChatKind::Newsletter,
            Self::Broadcast(_) | Self::Status => ChatKind::Broadcast,
        }
    }

    /// Whether this is a person: a phone number or a LID.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::Phone(_) | Self::Lid(_))
    }

    /// The phone number, if this address is one.
    pub fn phone(&self) -> Option<&Phone> {
        match self {
            Self::Phone(phone) => Some(phone),
            _ => None,
        }
    }

    /// The part before the `@`.
    pub fn user(&self) -> &str {
        match self {
            Self::Phone(phone) => phone.digits(),
            Self::Lid(id) | Self::Group(id) | Self::Newsletter(id) | Self::Broadcast(id) => id,
            Self::Status => "status",
            Self::Other(jid) => jid.split_once('@').map_or(jid, |(user, _)| user),
        }
    }

    fn server(&self) -> &str {
        match self {
            Self::Phone(_) => "s.whatsapp.net",
            Self::Lid(_) => "lid",
            Self::Group(_) => "g.us",
            Self::Newsletter(_) => "newsletter",
            Self::Broadcast(_) | Self::Status => "broadcast",
            Self::Other(jid) => jid.split_once('@').map_or("", |(_, server)| server),
        }
    }

    /// A form for logs: the last two characters of the id. Enough to tell two chats apart while one looks for a
    /// fault, not enough to call somebody.
    pub fn redacted(&self) -> String {
        let user = self.user();
        let tail = user.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
        format!("…{}@{}", &user[tail..], self.server())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(jid) => f.write_str(jid),
            _ => write!(f, "{}@{}", self.user(), self.server()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Takes what WhatsApp and its libraries write, with device (`…:12@`), agent (`…_1@`, `….1@`), hosted and legacy
    /// servers, and keeps the account.
    fn from_str(jid: &str) -> Result<Self, AddressError> {
        let jid = jid.trim();
        let (user, server) = jid.split_once('@').ok_or(AddressError)?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        let (account, device) = user.split_once(':').unwrap_or((user, "0"));
        if jid.len() > MAX_JID_BYTES || !word(account) || !digits(device) || !word(server) {
            return Err(AddressError);
        }
        let account = account.split('_').next().unwrap_or_default();
        let address = match server.to_ascii_lowercase().as_str() {
            "s.whatsapp.net" | "c.us" | "hosted" => {
                let number = account.split('.').next().unwrap_or_default();
                if !digits(number) {
                    return Err(AddressError);
                }
                match Phone::from_digits(number) {
                    Ok(phone) => Self::Phone(phone),
                    // WhatsApp's own announcements come from 0@s.whatsapp.net.
                    Err(_) => Self::Other(format!("{number}@s.whatsapp.net")),
                }
            }
            // A dot belongs to the id here; the library reads it so (wacore-binary 0.7, `parse_jid_scan`).
            "lid" | "hosted.lid"
                if account.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                    && !account.is_empty() =>
            {
                Self::Lid(account.to_owned())
            }
            "lid" | "hosted.lid" => return Err(AddressError),
            // Devices are of people.
            "g.us" | "newsletter" | "broadcast" if user.contains(':') => return Err(AddressError),
            "g.us" => Self::Group(account.to_owned()),
            "newsletter" => Self::Newsletter(account.to_owned()),
            "broadcast" if account == "status" => Self::Status,
            "broadcast" => Self::Broadcast(account.to_owned()),
            server => {
                let account = user.split(':').next().unwrap_or_default();
                Self::Other(format!("{account}@{server}"))
            }
        };
        if address.user().is_empty() {
            Err(AddressError)
        } else {
            Ok(address)
        }
    }
}

/// What is kept and sent of these is their text.
macro_rules! is_text {
    ($($type:ty: $error:ty),+ $(,)?) => {$(
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
    )+};
}

is_text!(Address: AddressError, Phone: PhoneError);

//! Phone numbers, JIDs, LIDs and the destinations that people write: the only place that knows their syntax.
//!
//! Invariant: an [`Address`] is bare and canonical. It has no device, no agent and no legacy server name, so two
//! addresses are the same account exactly when they are equal, and `Display` and `FromStr` are inverse.
//! One person may still have two addresses, a phone number and a LID; which belong together is the store's knowledge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod plan;
mod target;

pub use target::{IdEntry, TargetError, check_typed, parse_target};

/// Longest JID that is taken from outside. Real ones have fewer than 50 characters.
const MAX_JID_BYTES: usize = 256;

/// A phone number of the international plan: 7 to 15 digits, country code first (E.164).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Phone(String);

/// Why a text is no international phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Something besides digits and the usual separators.
    #[error("a phone number consists of digits, with a leading + if you like")]
    NotDigits,
    /// A national number: the first digit is 0.
    #[error("the country code is missing; write the number as +1 555 123 4567")]
    NoCountryCode,
    /// Fewer than 7 or more than 15 digits.
    #[error("an international phone number has 7 to 15 digits, country code included")]
    Length,
    /// It begins with no country's code.
    #[error("no country has this code; write the number with its country code, as +1 555 123 4567")]
    UnknownCountry,
    /// More or fewer digits than numbers of that country have.
    #[error(
        "numbers of this country do not have so many, or so few, digits; check it digit by digit"
    )]
    ImpossibleLength,
}

impl Phone {
    /// The digits alone, as they stand in a JID.
    pub fn digits(&self) -> &str {
        &self.0
    }

    fn from_digits(digits: &str) -> Result<Self, PhoneError> {
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PhoneError::NotDigits);
        }
        if digits.starts_with('0') {
            return Err(PhoneError::NoCountryCode);
        }
        if !(7..=15).contains(&digits.len()) {
            return Err(PhoneError::Length);
        }
        Ok(Self(digits.to_owned()))
    }
}

/// Characters that people and address books put between digits; the last range is invisible direction marks,
/// which come along when a number is copied out of a contact card.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2015}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
}

impl FromStr for Phone {
    type Err = PhoneError;

    fn from_str(text: &str) -> Result<Self, PhoneError> {
        let text = text.trim_matches(is_separator);
        let (international, rest) = match text.strip_prefix('+').or_else(|| text.strip_prefix("00"))
        {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // "+44 (0)20 …": the trunk prefix is only dialled inside the country.
        let rest = match rest.split_once("(0)") {
            Some((country, national)) if international => format!("{country}{national}"),
            _ => rest.to_owned(),
        };
        let digits: String = rest.chars().filter(|&c| !is_separator(c)).collect();
        Self::from_digits(&digits)
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl From<Phone> for String {
    fn from(phone: Phone) -> Self {
        phone.to_string()
    }
}

impl TryFrom<String> for Phone {
    type Error = PhoneError;

    fn try_from(text: String) -> Result<Self, PhoneError> {
        text.parse()
    }
}

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

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(jid: String) -> Result<Self, AddressError> {
        jid.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn phones_as_people_write_them() {
        for text in [
            "+15551230000",
            "15551230000",
            "0015551230000",
            "+1 555 123 0000",
            "+1 (555) 123-0000",
            "(+1) 555.123.0000",
            "1-555-123-0000",
            " +1\u{a0}555\u{2011}123\u{2011}0000 ",
            "\u{202a}+1 555 123 0000\u{202c}",
            "+1 (0)555 123 0000",
        ] {
            assert_eq!(
                text.parse::<Phone>().map(|p| p.to_string()),
                Ok("+15551230000".to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_no_phone() {
        for (text, error) in [
            ("", PhoneError::Length),
            ("+", PhoneError::Length),
            ("123456", PhoneError::Length),
            ("1234567890123456", PhoneError::Length),
            ("0171 1234567", PhoneError::NoCountryCode),
            ("+0015551230000", PhoneError::NoCountryCode),
            ("++15551230000", PhoneError::NotDigits),
            ("1555123000x", PhoneError::NotDigits),
            ("١٥٥٥١٢٣٠٠٠٠", PhoneError::NotDigits),
        ] {
            assert_eq!(text.parse::<Phone>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn jids_lose_device_agent_and_legacy_names() {
        for (text, bare, kind) in [
            (
                "15551230000@s.whatsapp.net",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "15551230000:12@s.whatsapp.net",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "15551230000_1:2@s.whatsapp.net",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "15551230000.0:2@s.whatsapp.net",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "15551230000:99@hosted",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "15551230000@c.us",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                " 15551230000@S.WhatsApp.Net ",
                "15551230000@s.whatsapp.net",
                ChatKind::Private,
            ),
            (
                "123456789012345:7@lid",
                "123456789012345@lid",
                ChatKind::Private,
            ),
            (
                "123456789012345:99@hosted.lid",
                "123456789012345@lid",
                ChatKind::Private,
            ),
            ("0@c.us", "0@s.whatsapp.net", ChatKind::Private),
            ("13135550002@bot", "13135550002@bot", ChatKind::Private),
            (
                "15551230000-1400000000@g.us",
                "15551230000-1400000000@g.us",
                ChatKind::Group,
            ),
            (
                "120363000000000000@newsletter",
                "120363000000000000@newsletter",
                ChatKind::Newsletter,
            ),
            ("status@broadcast", "status@broadcast", ChatKind::Broadcast),
            (
                "1400000000@broadcast",
                "1400000000@broadcast",
                ChatKind::Broadcast,
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), bare, "{text}");
            assert_eq!(address.kind(), kind, "{text}");
        }
    }

    #[test]
    fn what_is_no_jid() {
        for text in [
            "",
            "@",
            "a@s.whatsapp.net",
            "@lid",
            ":1@lid",
            "x@lid",
            ":1@g.us",
            "1@g.us@g.us",
            "home:1@g.us",
            "home:1@newsletter",
            "1 2@g.us",
            "1@g us",
            "a:group:1@g.us",
            "1:2:3@lid",
            "1551@é",
            "15551230000",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text:?}");
        }
        assert!(
            format!("{}@g.us", "1".repeat(300))
                .parse::<Address>()
                .is_err()
        );
    }

    #[test]
    fn json_is_the_jid() {
        let address: Address = serde_json::from_str("\"15551230000:3@s.whatsapp.net\"").unwrap();
        assert_eq!(
            serde_json::to_string(&address).unwrap(),
            "\"15551230000@s.whatsapp.net\""
        );
        assert!(serde_json::from_str::<Address>("\"nobody\"").is_err());
    }

    pub(super) fn any_address() -> impl Strategy<Value = Address> {
        prop_oneof![
            "[1-9][0-9]{6,14}".prop_map(|digits| Address::Phone(Phone(digits))),
            "[0-9]{1,20}".prop_map(Address::Lid),
            "[0-9]{5,18}(-[0-9]{10})?".prop_map(Address::Group),
            "[0-9]{5,18}".prop_map(Address::Newsletter),
            "[0-9]{5,18}".prop_map(Address::Broadcast),
            Just(Address::Status),
            "[0-9]{5,18}@bot".prop_map(Address::Other),
        ]
    }

    #[test]
    fn logs_get_two_digits() {
        for (jid, log) in [
            ("15551230042@s.whatsapp.net", "…42@s.whatsapp.net"),
            ("120363000000000017@g.us", "…17@g.us"),
            ("status@broadcast", "…us@broadcast"),
            ("7@newsletter", "…7@newsletter"),
        ] {
            assert_eq!(jid.parse::<Address>().unwrap().redacted(), log);
        }
    }

    proptest! {
        #[test]
        fn every_address_is_what_it_writes(address in any_address(), device in 0u16..100) {
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address.clone()));
            let json = serde_json::to_string(&address).unwrap();
            prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address.clone());
            if address.is_user() || matches!(address, Address::Other(_)) {
                let (user, server) = (address.user(), address.server());
                let with_device = format!("{user}:{device}@{server}");
                prop_assert_eq!(with_device.parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn a_number_is_the_same_however_it_is_set(
            digits in "[1-9][0-9]{6,14}",
            marks in prop::collection::vec("[ ()./-]{0,2}", 15),
            plus in prop::sample::select(vec!["", "+", "00", " +"]),
        ) {
            let set: String = digits.chars().zip(&marks).flat_map(|(digit, mark)| [digit.to_string(), mark.clone()]).collect();
            // An isolated zero in brackets is the trunk prefix, which nobody dials from abroad.
            prop_assume!(!set.contains("(0)"));
            let phone: Phone = format!("{plus}{set}").parse().unwrap();
            prop_assert_eq!(phone.digits(), digits);
            prop_assert_eq!(phone.to_string().parse::<Phone>(), Ok(phone));
        }

        #[test]
        fn parsers_never_panic_and_what_they_take_round_trips(text in "\\PC{0,40}|[0-9+@:._a-z-]{0,40}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address.clone()));
                let _ = address.redacted();
            }
            if let Ok(phone) = text.parse::<Phone>() {
                prop_assert_eq!(phone.to_string().parse::<Phone>(), Ok(phone));
            }
        }
    }
}

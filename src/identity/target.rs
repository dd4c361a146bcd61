//! Destinations and list entries, in all the forms that people, models and other plugins write.

use std::fmt;
use std::str::FromStr;

use super::{Address, AddressError, PhoneError, plan};

/// Why a text is no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing was given.
    #[error("no destination: set metadata.conversation_id or the config key default_recipient")]
    Missing,
    /// None of the known forms.
    #[error(
        "not a destination: use a conversation id (…@s.whatsapp.net, …@lid, …@g.us, …@newsletter), a phone number \
         like +15551230000, contact:<number or JID> or group:<JID>"
    )]
    Malformed,
    /// A text that looks like a phone number and is none.
    #[error("not a phone number: {0}")]
    Phone(#[from] PhoneError),
    /// `contact:` with a group, or `group:` with a person.
    #[error("the destination says {said} and names something else")]
    KindMismatch {
        /// `contact` or `group`.
        said: &'static str,
    },
    /// The destination names another account than the one that the request's config selects.
    #[error(
        "the destination belongs to account {named}, but this request is for account {selected}"
    )]
    WrongAccount {
        /// The account in the destination.
        named: String,
        /// The account of the request.
        selected: String,
    },
    /// An address that nobody can write to: status, broadcast lists, other networks.
    #[error(
        "messages cannot be sent to this kind of address; use a person, a group or a newsletter"
    )]
    NotSendable,
}

impl TargetError {
    /// The wire's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "missing_destination",
            Self::WrongAccount { .. } => "wrong_account",
            Self::Malformed | Self::Phone(_) | Self::KindMismatch { .. } => "invalid_destination",
            Self::NotSendable => "not_sendable",
        }
    }
}

/// A destination as people, models and other plugins write it: a conversation id or JID, a phone number,
/// `contact:<number or JID>`, `group:<JID>`, and either of these behind `whatsapp:<account>:`,
/// `whatsapp-personal:<account>:`, `whatsapp-web:<account>:` or `wa-personal:<account>:`.
///
/// # Errors
/// [`TargetError::WrongAccount`] if the text names another account than `account`; else what is wrong with it.
pub fn parse_target(text: &str, account: &str) -> Result<Address, TargetError> {
    let address = parse_prefixed(text.trim(), account)?;
    match address {
        Address::Phone(_) | Address::Lid(_) | Address::Group(_) | Address::Newsletter(_) => {
            Ok(address)
        }
        Address::Broadcast(_) | Address::Status | Address::Other(_) => {
            Err(TargetError::NotSendable)
        }
    }
}

/// Whether the number in this destination, if somebody typed one, can exist at all. One in a JID comes from WhatsApp, and
/// is taken as it is. The first such question loads the world's numbering plans, for tens of milliseconds, so it is for
/// who has not been met yet.
///
/// # Errors
/// [`TargetError::Phone`] with what is wrong with it.
pub fn check_typed(text: &str, address: &Address) -> Result<(), TargetError> {
    match address {
        Address::Phone(phone) if !text.contains('@') => Ok(plan::possible(phone)?),
        _ => Ok(()),
    }
}

fn parse_prefixed(text: &str, account: &str) -> Result<Address, TargetError> {
    const NETWORKS: [&str; 4] = [
        "whatsapp",
        "whatsapp-personal",
        "whatsapp-web",
        "wa-personal",
    ];
    let rest = match text.split_once(':') {
        Some((network, rest)) if NETWORKS.contains(&network.trim()) => rest,
        _ => return parse_plain(text),
    };
    let Some((named, inner)) = rest.split_once(':') else {
        return parse_plain(rest);
    };
    if named.trim() == account {
        return parse_plain(inner);
    }
    match (parse_plain(rest), parse_plain(inner)) {
        (Err(TargetError::Malformed), Ok(_)) => Err(TargetError::WrongAccount {
            named: named.trim().to_owned(),
            selected: account.to_owned(),
        }),
        (without_account, _) => without_account,
    }
}

/// Without network and account.
fn parse_plain(text: &str) -> Result<Address, TargetError> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix("contact:") {
        let address = parse_bare(rest)?;
        return if address.is_user() {
            Ok(address)
        } else {
            Err(TargetError::KindMismatch { said: "contact" })
        };
    }
    if let Some(rest) = text.strip_prefix("group:") {
        let rest = rest.trim();
        let id = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let address = if id {
            Address::Group(rest.to_owned())
        } else {
            parse_bare(rest)?
        };
        return match address {
            Address::Group(_) => Ok(address),
            _ => Err(TargetError::KindMismatch { said: "group" }),
        };
    }
    parse_bare(text)
}

/// A JID or a phone number.
fn parse_bare(text: &str) -> Result<Address, TargetError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(TargetError::Missing);
    }
    if text.contains('@') {
        return text.parse().map_err(|AddressError| TargetError::Malformed);
    }
    match text.parse() {
        Ok(phone) => Ok(Address::Phone(phone)),
        Err(PhoneError::NotDigits) => Err(TargetError::Malformed),
        Err(error) => Err(error.into()),
    }
}

/// One entry of a list of persons or chats in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdEntry {
    /// `"*"`: everybody.
    Any,
    /// One address.
    One(Address),
}

impl IdEntry {
    /// Whether the entry means this person or chat, given every address that is known of it.
    pub fn matches(&self, addresses: &[Address]) -> bool {
        match self {
            Self::Any => true,
            Self::One(address) => addresses.contains(address),
        }
    }
}

impl FromStr for IdEntry {
    type Err = TargetError;

    /// A phone number, a JID or LID, `contact:…`, `group:…` or `*`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        if text.trim() == "*" {
            Ok(Self::Any)
        } else {
            parse_plain(text).map(Self::One)
        }
    }
}

impl fmt::Display for IdEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(Address::Phone(phone)) => phone.fmt(f),
            Self::One(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERSON: &str = "15551230000@s.whatsapp.net";
    const GROUP: &str = "120363000000000000@g.us";

    #[test]
    fn every_form_of_a_destination() {
        for (text, jid) in [
            (PERSON, PERSON),
            ("15551230000:4@s.whatsapp.net", PERSON),
            ("123456789012345@lid", "123456789012345@lid"),
            (GROUP, GROUP),
            (
                "120363000000000000@newsletter",
                "120363000000000000@newsletter",
            ),
            ("+1 555 123 0000", PERSON),
            ("15551230000", PERSON),
            ("contact:+15551230000", PERSON),
            ("contact: 15551230000@s.whatsapp.net", PERSON),
            ("contact:123456789012345@lid", "123456789012345@lid"),
            ("group:120363000000000000@g.us", GROUP),
            ("group:120363000000000000", GROUP),
            ("whatsapp:default:contact:+15551230000", PERSON),
            (
                "whatsapp-personal:default:group:120363000000000000@g.us",
                GROUP,
            ),
            (
                "whatsapp-web:default:contact:15551230000@s.whatsapp.net",
                PERSON,
            ),
            ("wa-personal:default:contact:+15551230000", PERSON),
            ("wa-personal:contact:+15551230000", PERSON),
            ("whatsapp:+15551230000", PERSON),
            ("whatsapp:15551230000:4@s.whatsapp.net", PERSON),
        ] {
            assert_eq!(
                parse_target(text, "default").map(|a| a.to_string()),
                Ok(jid.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_destination() {
        let wrong = TargetError::WrongAccount {
            named: "work".into(),
            selected: "default".into(),
        };
        for (text, error, code) in [
            ("", TargetError::Missing, "missing_destination"),
            ("contact:", TargetError::Missing, "missing_destination"),
            ("whatsapp:work:contact:+15551230000", wrong, "wrong_account"),
            ("Anna", TargetError::Malformed, "invalid_destination"),
            (
                "anna@example.org@x",
                TargetError::Malformed,
                "invalid_destination",
            ),
            (
                "whatsapp:work:Anna",
                TargetError::Malformed,
                "invalid_destination",
            ),
            (
                "12345",
                TargetError::Phone(PhoneError::Length),
                "invalid_destination",
            ),
            (
                "0171 1234567",
                TargetError::Phone(PhoneError::NoCountryCode),
                "invalid_destination",
            ),
            (
                "contact:120363000000000000@g.us",
                TargetError::KindMismatch { said: "contact" },
                "invalid_destination",
            ),
            (
                "group:15551230000@s.whatsapp.net",
                TargetError::KindMismatch { said: "group" },
                "invalid_destination",
            ),
            ("status@broadcast", TargetError::NotSendable, "not_sendable"),
            ("0@s.whatsapp.net", TargetError::NotSendable, "not_sendable"),
            (
                "somebody@example.org",
                TargetError::NotSendable,
                "not_sendable",
            ),
        ] {
            assert_eq!(error.code(), code);
            assert_eq!(parse_target(text, "default"), Err(error), "{text}");
        }
    }

    #[test]
    fn only_what_is_typed_must_be_possible() {
        for (text, possible) in [
            ("+1 555 123 0000", true),
            ("contact:+210 123 4567", false),
            ("44 20 7946 0958 123", false),
            ("2101234567@s.whatsapp.net", true),
            (GROUP, true),
        ] {
            let address = parse_target(text, "default").unwrap();
            assert_eq!(check_typed(text, &address).is_ok(), possible, "{text}");
        }
    }

    #[test]
    fn entries_match_any_form_of_the_person() {
        let person: Vec<Address> = vec![
            PERSON.parse().unwrap(),
            "123456789012345@lid".parse().unwrap(),
        ];
        for (entry, matches) in [
            ("*", true),
            ("+1 555 123 0000", true),
            ("15551230000@s.whatsapp.net", true),
            ("123456789012345@lid", true),
            ("contact:+15551230000", true),
            ("+15551230001", false),
            ("15551230000@lid", false),
            (GROUP, false),
        ] {
            assert_eq!(
                entry.parse::<IdEntry>().unwrap().matches(&person),
                matches,
                "{entry}"
            );
        }
        assert!("Anna".parse::<IdEntry>().is_err());
        assert!(!"+15551230000".parse::<IdEntry>().unwrap().matches(&[]));
    }

    proptest! {
        #[test]
        fn every_form_leads_to_the_same_place(
            address in crate::identity::tests::any_address(),
            prefix in prop::sample::select(vec![
                "", "whatsapp:", "whatsapp:home:", "whatsapp-web:home:", "whatsapp-personal:home:", "wa-personal:home:",
            ]),
            kind in any::<bool>(),
        ) {
            let sendable = matches!(
                address,
                Address::Phone(_) | Address::Lid(_) | Address::Group(_) | Address::Newsletter(_)
            );
            let kind = match &address {
                Address::Phone(_) | Address::Lid(_) if kind => "contact:",
                Address::Group(_) if kind => "group:",
                _ => "",
            };
            let parsed = parse_target(&format!("{prefix}{kind}{address}"), "home");
            prop_assert_eq!(parsed, if sendable { Ok(address.clone()) } else { Err(TargetError::NotSendable) });
            let entry = IdEntry::One(address);
            prop_assert_eq!(entry.to_string().parse(), Ok(entry));
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}|(whatsapp|contact|group|default|:|@|lid|[0-9+]){0,12}") {
            if let Ok(address) = parse_target(&text, "default") {
                prop_assert_eq!(parse_target(&address.to_string(), "default"), Ok(address));
            }
        }
    }
}

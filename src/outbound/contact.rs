//! Contact cards: a vCard that was given, or one made of a name and a number.

use std::borrow::Cow;

use calcard::vcard::{VCard, VCardProperty, VCardValue};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use waproto::whatsapp as wa;

use super::fields::{Name, PhoneText, quoted};

/// A photograph in a card makes it long; phones refuse what is longer than a message may be.
const LONGEST: usize = 256 << 10;

/// Whom a card is of: a vCard, or a name and a number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Card(Known);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Given(VCardText),
    Made(Name, PhoneText),
}

/// The keys of a card.
#[derive(Deserialize, JsonSchema)]
struct Keys {
    /// One vCard with a formatted name (`FN`), from `BEGIN:VCARD` to `END:VCARD`.
    #[schemars(with = "Option<String>")]
    vcard: Option<VCardText>,
    /// The person's name, where no vCard is given.
    name: Option<Name>,
    phone: Option<PhoneText>,
}

impl JsonSchema for Card {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Keys::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Keys::json_schema(generator)
    }
}

impl TryFrom<Keys> for Card {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, &'static str> {
        match (keys.vcard, keys.name, keys.phone) {
            (Some(vcard), ..) => Ok(Self(Known::Given(vcard))),
            (None, Some(name), Some(phone)) => Ok(Self(Known::Made(name, phone))),
            _ => Err("give metadata.vcard, or both metadata.name and metadata.phone"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct VCardText {
    name: String,
    text: String,
}

impl TryFrom<String> for VCardText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |reason: &str| Err(format!("metadata.vcard {reason}"));
        if text.len() > LONGEST {
            return wrong("is longer than 256 KiB; leave the photograph out");
        }
        let cards = text
            .lines()
            .filter(|line| line.trim().eq_ignore_ascii_case("BEGIN:VCARD"));
        if cards.count() != 1 {
            return wrong(&format!(
                "is one vCard, from BEGIN:VCARD to END:VCARD, not {}",
                quoted(&text)
            ));
        }
        let Ok(card) = VCard::parse(&text) else {
            return wrong("cannot be read; it goes from BEGIN:VCARD to END:VCARD");
        };
        let name = card
            .properties(&VCardProperty::Fn)
            .find_map(|entry| entry.values.first().and_then(VCardValue::as_text))
            .map(|name| name.trim().to_owned());
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self { name, text }),
            None => wrong("has no name; give it a line FN:…"),
        }
    }
}

/// The message that carries a card.
pub(super) fn message(Card(card): &Card) -> wa::Message {
    let (name, vcard) = match card {
        Known::Given(given) => (&given.name, given.text.clone()),
        Known::Made(name, phone) => (&name.0, made(name, phone)),
    };
    wa::Message {
        contact_message: wa::message::ContactMessage {
            display_name: Some(name.clone()),
            vcard: Some(vcard),
            ..wa::message::ContactMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}

/// A vCard made of a name and a number.
fn made(Name(name): &Name, PhoneText(phone): &PhoneText) -> String {
    let escaped: String = name.chars().fold(String::new(), |mut text, c| {
        if matches!(c, '\\' | ',' | ';') {
            text.push('\\');
        }
        text.push(if c.is_control() { ' ' } else { c });
        text
    });
    // `waid` makes the number a chat to open.
    format!(
        "BEGIN:VCARD\nVERSION:3.0\nN:;{escaped};;;\nFN:{escaped}\nTEL;type=CELL;waid={}:{phone}\nEND:VCARD",
        phone.digits()
    )
}

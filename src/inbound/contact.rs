//! Contact cards. Their vCards are 3.0 as a rule, with WhatsApp's own `waid` at a number that has an account.

use std::collections::HashSet;

use calcard::vcard::{VCard, VCardEntry, VCardParameterName, VCardProperty, VCardValue};
use serde_json::json;
use waproto::whatsapp as wa;

use super::content::{Found, line, summary};
use super::draft::Draft;
use crate::identity::Phone;

/// One card.
pub(super) fn one(card: &wa::message::ContactMessage) -> Found<'_> {
    let draft = cards(std::slice::from_ref(card));
    (draft, card.context_info.as_option())
}

/// Several.
pub(super) fn several(several: &wa::message::ContactsArrayMessage) -> Found<'_> {
    let draft = cards(&several.contacts);
    (draft, several.context_info.as_option())
}

/// Somebody met us without our number and would like to have it.
pub(super) fn number_wanted(request: &wa::message::RequestPhoneNumberMessage) -> Found<'_> {
    let draft = summary("Asks for your phone number");
    (draft, request.context_info.as_option())
}

fn cards(cards: &[wa::message::ContactMessage]) -> Draft {
    let read: Vec<Card> = cards.iter().map(Card::read).collect();
    let lines: Vec<String> = read.iter().map(Card::line).collect();
    let mut draft = summary(match lines.is_empty() {
        true => "Contact".to_owned(),
        false => lines.join("\n"),
    });
    let contacts: Vec<serde_json::Value> = read.iter().map(Card::json).collect();
    if !contacts.is_empty() {
        draft.set("contacts", Some(serde_json::Value::from(contacts)));
    }
    let vcards: Vec<&str> = cards.iter().filter_map(|c| c.vcard.as_deref()).collect();
    match vcards[..] {
        [] => {}
        [one] => draft.set("vcard", Some(one)),
        _ => draft.set("vcards", serde_json::to_string(&vcards).ok()),
    }
    draft
}

/// What a card says of a person.
struct Card {
    name: Option<String>,
    phones: Vec<String>,
    emails: Vec<String>,
    organisation: Option<String>,
}

impl Card {
    fn read(card: &wa::message::ContactMessage) -> Self {
        // A card that is none leaves the name that the message gives.
        let vcard = card.vcard.as_deref().map(VCard::parse);
        let vcard = vcard.and_then(Result::ok).unwrap_or_default();
        let mut seen = HashSet::new();
        let phones = vcard
            .properties(&VCardProperty::Tel)
            .filter_map(phone)
            .filter(|phone| seen.insert(phone.clone()))
            .collect();
        let texts = |property| {
            vcard
                .properties(property)
                .filter_map(text)
                .collect::<Vec<_>>()
        };
        let given = card.display_name.clone().filter(|name| !name.is_empty());
        Self {
            name: given.or_else(|| texts(&VCardProperty::Fn).into_iter().next()),
            phones,
            emails: texts(&VCardProperty::Email),
            organisation: texts(&VCardProperty::Org).into_iter().next(),
        }
    }

    fn line(&self) -> String {
        let details = [&self.name, &self.organisation];
        let named = details.into_iter().map(Option::as_deref);
        let reached = self.phones.iter().chain(&self.emails);
        line("Contact", named.chain(reached.map(|r| Some(r.as_str()))))
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "phones": self.phones,
            "emails": self.emails,
            "organisation": self.organisation,
        })
    }
}

fn text(entry: &VCardEntry) -> Option<String> {
    let text = entry.values.first().and_then(VCardValue::as_text)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `TEL;type=CELL;waid=15551230000:+1 555-123-0000`: the account's number, if it has one, else what stands there.
fn phone(entry: &VCardEntry) -> Option<String> {
    let waid = entry
        .params
        .iter()
        .find_map(|parameter| match &parameter.name {
            VCardParameterName::Other(name) if name.eq_ignore_ascii_case("waid") => {
                parameter.value.as_text()
            }
            _ => None,
        });
    let written = text(entry)?;
    let number = waid
        .and_then(|id| id.parse::<Phone>().ok())
        .or_else(|| written.parse().ok());
    Some(number.map_or(written, |number| number.to_string()))
}

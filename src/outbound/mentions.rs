//! `@+15551230000` → a mention that notifies.
//!
//! Invariant: code and URLs stay as they are. A group that addresses its members by LID wants the LID, in the text too:
//! its members' applications look for that one.

use std::collections::BTreeMap;

use super::verbatim::{code, urls, within};
use crate::identity::{Address, Phone};

/// How people are addressed where a message goes, by their phone addresses; who is not in it, by phone number.
pub type Forms = BTreeMap<Address, Address>;

/// The phone addresses that a text may mention.
pub fn candidates(text: &str) -> Vec<Address> {
    let numbers = text.match_indices("@+").filter_map(|(at, _)| {
        let number = &text[at + 2..];
        let end = number.find(|c: char| !c.is_ascii_digit());
        let phone = text[at + 1..at + 2 + end.unwrap_or(number.len())].parse();
        phone.ok().map(Address::Phone)
    });
    numbers.collect()
}

/// The text as WhatsApp wants it, with the bare number or LID after each `@`, and the JIDs that are mentioned.
pub(super) fn resolve(text: &str, forms: &Forms) -> (String, Vec<String>) {
    if !text.contains("@+") {
        return (text.to_owned(), Vec::new());
    }
    let (code, urls) = (code(text), urls(text));
    let mut out = String::with_capacity(text.len());
    let mut mentioned = Vec::new();
    let mut copied = 0;
    for (at, _) in text.match_indices("@+") {
        // An address like `a@+1…` is no mention, and neither is `@@+1…`.
        let free = text[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !before.is_alphanumeric() && before != '@');
        if !free || within(&code, at) || within(&urls, at) {
            continue;
        }
        let number = &text[at + 2..];
        let end = number
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(number.len());
        let Ok(phone) = text[at + 1..at + 2 + end].parse::<Phone>() else {
            continue;
        };
        let by_phone = Address::Phone(phone);
        let address = forms.get(&by_phone).unwrap_or(&by_phone);
        out.push_str(&text[copied..=at]);
        out.push_str(address.user());
        copied = at + 2 + end;
        let jid = address.to_string();
        if !mentioned.contains(&jid) {
            mentioned.push(jid);
        }
    }
    out.push_str(&text[copied..]);
    (out, mentioned)
}

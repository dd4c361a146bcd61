//! `@+15551230000` → a mention that notifies.
//!
//! Invariant: code and URLs stay as they are.

use super::verbatim::{code, urls, within};
use crate::identity::{Address, Phone};

/// The text as WhatsApp wants it, with the bare number after each `@`, and the JIDs that are mentioned.
pub(super) fn resolve(text: &str) -> (String, Vec<String>) {
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
        out.push_str(&text[copied..=at]);
        out.push_str(phone.digits());
        copied = at + 2 + end;
        let jid = Address::Phone(phone).to_string();
        if !mentioned.contains(&jid) {
            mentioned.push(jid);
        }
    }
    out.push_str(&text[copied..]);
    (out, mentioned)
}

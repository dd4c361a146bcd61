//! `@+15551230000` → a mention that notifies.

use crate::identity::{Address, Phone};

/// The text as WhatsApp wants it, with the bare number after each `@`, and the JIDs that are mentioned.
pub(super) fn resolve(text: &str) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len());
    let mut mentioned = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("@+") {
        // An address like `a@+1…` is no mention, and neither is `@@+1…`.
        let free = rest[..at]
            .chars()
            .next_back()
            .or_else(|| out.chars().next_back())
            .is_none_or(|before| !before.is_alphanumeric() && before != '@');
        let number = &rest[at + 2..];
        let end = number
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(number.len());
        let phone = number[..end].parse::<Phone>();
        out.push_str(&rest[..at]);
        match phone {
            Ok(phone) if free => {
                out.push('@');
                out.push_str(phone.digits());
                let jid = Address::Phone(phone).to_string();
                if !mentioned.contains(&jid) {
                    mentioned.push(jid);
                }
            }
            _ => out.push_str(&rest[at..at + 2 + end]),
        }
        rest = &number[end..];
    }
    out.push_str(rest);
    (out, mentioned)
}

//! Masks who is spoken of in a line of the log: users of JIDs, and phone numbers however they are written; and what
//! opens something, the query of a URL.
//!
//! What is left of a person is the form of [`crate::identity::Address::redacted`]: the last two characters, enough to
//! tell two chats apart. At debug and below persons are left alone, since whoever looks for a fault among them needs
//! them. A query is cut at every level: WhatsApp's media are had with the token in it, and others' files with theirs.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// First what stands before the server of a JID, with device and agent; then a number behind a plus sign, with what
/// people put between its digits; then seven digits and more that are no part of a word. E.164 has at most fifteen
/// digits, a LID as many.
static PERSONS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        …?(?<user>[0-9A-Za-z+][0-9A-Za-z+_.-]*)(?::[0-9]{1,5})?@(?<server>s\.whatsapp\.net|c\.us|lid|hosted(?:\.lid)?|g\.us|newsletter|broadcast|bot)\b
        |\+(?:[\s().-]{0,2}[0-9]){5,}
        |\b[0-9]{7,}\b",
    )
    .ok()
});

/// A URL or a path, and what names the first value of its query. The quotes of JSON end it.
static QUERIES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?<place>(?:https?:/)?/[^\s?"'\\<>]*)\?[^\s="'\\<>]+=[^\s"'\\<>]*"#).ok()
});

/// The text without queries.
fn unlocked(text: &str) -> Cow<'_, str> {
    match &*QUERIES {
        Some(queries) => queries.replace_all(text, "$place?…"),
        None => Cow::Borrowed(""),
    }
}

/// The text without persons.
pub(in crate::cli) fn masked(text: &str) -> Cow<'_, str> {
    match &*PERSONS {
        Some(persons) => {
            persons.replace_all(text, |found: &Captures<'_>| match found.name("user") {
                // A device's number is nobody's.
                Some(user) => {
                    let user = user.as_str().split(['_', '.']).next().unwrap_or_default();
                    format!("…{}@{}", last_two(user), &found["server"])
                }
                None => format!("…{}", last_two(&found[0])),
            })
        }
        // An expression that does not compile would be seen by the first test; silence is what is safe.
        None => Cow::Borrowed(""),
    }
}

fn last_two(text: &str) -> &str {
    let tail = text.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
    &text[tail..]
}

/// Masks every text in a line of JSON; numbers stay numbers.
fn mask_values(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(masked) = masked(text) {
                *text = masked;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_values),
        Value::Object(values) => values.values_mut().for_each(mask_values),
        Value::Number(number)
            if number
                .as_u64()
                .is_some_and(|number| number >= 1_000_000_000) =>
        {
            *value = Value::String(masked(&number.to_string()).into_owned());
        }
        _ => {}
    }
}

/// Makes writers that mask persons at info level and above, and queries at every level.
pub(super) struct Redacting<W> {
    pub writer: W,
    pub json: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacting<W> {
    type Writer = Line<W::Writer>;

    /// Without its level a line is masked.
    fn make_writer(&'a self) -> Self::Writer {
        Line {
            writer: self.writer.make_writer(),
            mask: true,
            json: self.json,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Line {
            writer: self.writer.make_writer_for(meta),
            mask: *meta.level() <= Level::INFO,
            json: self.json,
        }
    }
}

/// Takes whole lines: the subscriber formats one and writes it at once.
pub(super) struct Line<W> {
    writer: W,
    mask: bool,
    json: bool,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let text = unlocked(&text);
        if !self.mask {
            return self.writer.write_all(text.as_bytes()).map(|()| line.len());
        }
        let parsed = match self.json {
            true => serde_json::from_str::<Value>(&text).ok(),
            false => None,
        };
        match parsed {
            Some(mut event) => {
                mask_values(&mut event);
                self.writer.write_all(format!("{event}\n").as_bytes())?;
            }
            None => self.writer.write_all(masked(&text).as_bytes())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_masked_and_the_rest_is_left() {
        for (line, expected) in [
            (
                "to 15551234567@s.whatsapp.net now",
                "to …67@s.whatsapp.net now",
            ),
            ("15551234567:12@s.whatsapp.net", "…67@s.whatsapp.net"),
            ("chat=…67@s.whatsapp.net", "chat=…67@s.whatsapp.net"),
            ("15551234567_1:3@s.whatsapp.net", "…67@s.whatsapp.net"),
            ("jid=100000012345678@lid,", "jid=…78@lid,"),
            ("in 15551234567-1400000000@g.us", "in …00@g.us"),
            ("in 120363041234567890@g.us", "in …90@g.us"),
            ("120363041234567890@newsletter", "…90@newsletter"),
            (
                "call +1 (555) 123-4567 or +49171 1234567!",
                "call …67 or …67!",
            ),
            (
                "user 15551234567 and \"15551234567\"",
                "user …67 and \"…67\"",
            ),
            (
                "whatsapp:15551234567@s.whatsapp.net:3EB0",
                "whatsapp:…67@s.whatsapp.net:3EB0",
            ),
            (
                "2026-11-20T16:17:25.123456Z  WARN channel_whatsapp::session: delay_ms=30000 pid=41943",
                "2026-11-20T16:17:25.123456Z  WARN channel_whatsapp::session: delay_ms=30000 pid=41943",
            ),
            ("id 3EB0C767D01234567890AB", "id 3EB0C767D01234567890AB"),
            (
                "web.whatsapp.com:443 status@broadcast",
                "web.whatsapp.com:443 …us@broadcast",
            ),
        ] {
            assert_eq!(masked(line), expected, "{line}");
        }
    }

    #[test]
    fn no_level_shows_what_opens_a_file() {
        for mask in [true, false] {
            for (json, line, expected) in [
                (
                    false,
                    "from URL https://mmg.whatsapp.net/v/t62/x.enc?ccb=11-4&auth=SeCrEt&mms3=true: refused",
                    "from URL https://mmg.whatsapp.net/v/t62/x.enc?… refused",
                ),
                (
                    false,
                    "path=/v/t62/x.enc?oh=SeCrEt next",
                    "path=/v/t62/x.enc?… next",
                ),
                (
                    true,
                    r#"{"url":"https://h/x?auth=SeCrEt","said":"\"https://h/y?z=SeCrEt\" and on"}"#,
                    r#"{"url":"https://h/x?…","said":"\"https://h/y?…\" and on"}"#,
                ),
                (false, "and/or? a=b", "and/or? a=b"),
            ] {
                let mut writer = Vec::new();
                let mut to = Line {
                    writer: &mut writer,
                    mask,
                    json,
                };
                to.write_all(line.as_bytes()).unwrap();
                let said = String::from_utf8(writer).unwrap();
                match json {
                    true => {
                        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                        assert_eq!(parsed(&said), parsed(expected));
                    }
                    false => assert_eq!(said, expected),
                }
            }
        }
    }

    #[test]
    fn json_stays_json() {
        let mut event = serde_json::json!({
            "level": "INFO", "fields": {"message": "to 15551234567@lid", "ms": 12_345, "n": 15_551_234_567u64}
        });
        mask_values(&mut event);
        assert_eq!(
            event,
            serde_json::json!({"level": "INFO", "fields": {"message": "to …67@lid", "ms": 12_345, "n": "…67"}})
        );
    }
}

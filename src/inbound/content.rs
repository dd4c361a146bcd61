//! What a message says: the way from its kind to a draft, and the phrases that the kinds share.

use chrono::{DateTime, SecondsFormat};
use waproto::whatsapp as wa;

use super::draft::Draft;
use super::kinds::{self, Fate};
use super::{context, unwrap};

/// A draft and the context of the message part that it was made of.
pub(super) type Found<'a> = (Draft, Option<&'a wa::ContextInfo>);

/// A line that we write about a message.
pub(super) fn summary(content: impl Into<String>) -> Draft {
    with_origin(content.into(), "summary")
}

/// Words of the sender.
pub(super) fn words(content: &str, origin: &str) -> Draft {
    with_origin(content.to_owned(), origin)
}

fn with_origin(content: String, origin: &str) -> Draft {
    Draft {
        event_type: "message.received".to_owned(),
        content,
        content_origin: origin.to_owned(),
        ..Draft::default()
    }
}

/// `head: a, b`, or `head` alone when nothing else is known.
pub(super) fn line<'a>(head: &str, details: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let details: Vec<&str> = details
        .into_iter()
        .flatten()
        .map(str::trim)
        .filter(|detail| !detail.is_empty())
        .collect();
    if details.is_empty() {
        head.to_owned()
    } else {
        format!("{head}: {}", details.join(", "))
    }
}

/// `1 picture`, `2 pictures`; nothing for none.
pub(super) fn count(n: i64, one: &str) -> Option<String> {
    (n > 0).then(|| format!("{n} {one}{}", if n == 1 { "" } else { "s" }))
}

/// Unix seconds as RFC 3339. Zero is not a time.
pub(super) fn time(seconds: Option<i64>) -> Option<String> {
    let time = DateTime::from_timestamp(seconds.filter(|&s| s != 0)?, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Unix milliseconds as RFC 3339.
pub(super) fn time_ms(milliseconds: Option<i64>) -> Option<String> {
    time(milliseconds.map(|ms| ms / 1000))
}

/// What an unwrapped message says. The error is why it is nobody's words.
pub(super) fn draft(message: &wa::Message) -> Result<Draft, &'static str> {
    let Some(kind) = kinds::of(message) else {
        // A group's sender key comes with the first words of a session, or alone.
        return match message.sender_key_distribution_message.is_set() {
            true => Err("sender key"),
            // A field that the library's own description lacks leaves nothing behind.
            false => Ok(unsupported("unknown")),
        };
    };
    match kind.fate {
        Fate::Internal => Err(kind.note),
        Fate::Outer(_, read) => match read(message) {
            Some(outer) => Ok(told(outer?, true)),
            None => Ok(unsupported(kind.field)),
        },
        _ => Ok(inner(kind, message, true)),
    }
}

/// What a message within another says. Kinds that have a message within are not read here, so no nesting is followed
/// for ever.
pub(super) fn within(message: &wa::Message) -> Draft {
    nested(message, true)
}

/// What a quoted message said; a quotation inside it is left out.
pub(super) fn quoted(message: &wa::Message) -> Draft {
    nested(message, false)
}

fn nested(message: &wa::Message, quoting: bool) -> Draft {
    let (message, wrapped) = unwrap::peel(message);
    let mut draft = match kinds::of(message) {
        Some(kind) => inner(kind, message, quoting),
        None => unsupported("unknown"),
    };
    wrapped.mark(&mut draft);
    draft
}

fn inner(kind: &kinds::Kind, message: &wa::Message, quoting: bool) -> Draft {
    let found = match kind.fate {
        Fate::Told(_, read) => read(message),
        _ => None,
    };
    let mut draft = match found {
        Some(found) => told(found, quoting),
        None => unsupported(kind.field),
    };
    if !matches!(kind.field, "conversation" | "extended_text_message") {
        draft.set("whatsapp_kind", Some(kind.field));
    }
    draft
}

fn told((mut draft, context): Found<'_>, quoting: bool) -> Draft {
    context::apply(&mut draft, context, quoting);
    draft
}

/// A kind that nobody here reads, by the name of the protocol's field.
fn unsupported(field: &str) -> Draft {
    let mut draft = summary(format!(
        "(a message of a kind that cannot be shown: {field})"
    ));
    draft.set("unsupported_kind", Some(field));
    draft
}

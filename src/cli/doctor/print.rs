//! The report of `doctor` for people: what to do first, then what was found, in sections.
//!
//! Every fact is shown, one that no section names under the last heading; JSON has them under the same names, as they are
//! stored. Nothing is coloured, so what a terminal shows is what a pipe gets, but for the lines being broken.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::Value;

/// The headings, and the facts under each in the order in which they are read.
const SECTIONS: [(&str, &[&str]); 6] = [
    (
        "Account",
        &[
            "linked",
            "device",
            "state",
            "state_until",
            "phone_last_seen",
            "phone_silent_days",
            "unlink_in_days",
        ],
    ),
    (
        "Connection",
        &[
            "owner",
            "connection",
            "connect",
            "server",
            "last_connect",
            "last_disconnect",
            "last_disconnect_reason",
            "reconnects",
        ],
    ),
    (
        "Queues",
        &[
            "messages",
            "messages_in",
            "inbox_waiting",
            "oldest_waiting",
            "inbox_unproven",
            "unconfirmed",
            "poisoned",
            "dropped_unproven",
            "dropped_by_gate",
            "messages_out",
            "outbox_queued",
            "outbox_paced",
            "outbox_unknown",
            "suspect",
            "rejected",
            "expired",
            "strangers_left",
            "new_chats_restricted_until",
        ],
    ),
    (
        "Access",
        &["applicants", "oldest_applicant", "suspended_numbers"],
    ),
    (
        "Storage",
        &[
            "store",
            "permissions",
            "free_bytes",
            "media_store",
            "repair_channel",
            "repair_session",
            "commits",
            "commit_ms_mean",
            "commit_ms_slowest",
        ],
    ),
    (
        "Versions",
        &["version", "system", "whatsapp_web", "whatsapp_web_since"],
    ),
];

/// Where values begin: behind the longest name.
const VALUES: usize = 30;

/// What was found, and what to do about it.
pub(super) struct Found<'a> {
    pub facts: &'a [(String, Value)],
    pub problems: &'a [String],
    pub notes: &'a [String],
}

/// The whole report at this time, in lines of at most `width` columns if there is a window.
pub(super) fn told(found: &Found<'_>, now: DateTime<Utc>, width: Option<usize>) -> String {
    let mut text = String::new();
    let width = width.unwrap_or(usize::MAX);
    if found.problems.is_empty() {
        text += "all is well\n";
    }
    for (mark, sentences) in [("! ", found.problems), ("- ", found.notes)] {
        for sentence in sentences {
            entry(&mut text, mark, sentence, width);
        }
    }
    for (n, (heading, names)) in SECTIONS.iter().enumerate() {
        let last = n + 1 == SECTIONS.len();
        let named = names
            .iter()
            .filter_map(|name| found.facts.iter().find(|(fact, _)| fact == name));
        let others = found
            .facts
            .iter()
            .filter(|(fact, _)| last && !is_named(fact));
        let mut facts = named.chain(others).peekable();
        if facts.peek().is_some() {
            let _ = write!(text, "\n{heading}\n");
        }
        for (name, value) in facts {
            let label = name.trim_end_matches("_bytes").replace('_', " ");
            let label = format!("  {label:<0$}", VALUES - 2);
            entry(&mut text, &label, &readable(name, value, now), width);
        }
    }
    text
}

fn is_named(fact: &str) -> bool {
    SECTIONS.iter().any(|(_, names)| names.contains(&fact))
}

/// A text behind its label, in as many lines as it takes; only what is too long for a line of its own is longer.
fn entry(text: &mut String, label: &str, value: &str, width: usize) {
    let indent = label.chars().count();
    let mut at = indent;
    *text += label;
    for (n, word) in value.split(' ').enumerate() {
        let takes = word.chars().count();
        if n > 0 && at + 1 + takes > width {
            let _ = write!(text, "\n{:indent$}", "");
            at = indent;
        } else if n > 0 {
            text.push(' ');
            at += 1;
        }
        *text += word;
        at += takes;
    }
    text.push('\n');
}

fn readable(name: &str, value: &Value, now: DateTime<Utc>) -> String {
    match value {
        Value::String(value) => match DateTime::parse_from_rfc3339(value) {
            Ok(at) => format!("{value} ({})", from_now(at.into(), now)),
            Err(_) => value.clone(),
        },
        Value::Number(value) if name.ends_with("_bytes") => size(value.as_u64().unwrap_or(0)),
        value => value.to_string(),
    }
}

fn size(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB", "TiB"].into_iter();
    let (mut count, mut unit) = (bytes as f64, "bytes");
    while count >= 1024.0
        && let Some(next) = units.next()
    {
        (count, unit) = (count / 1024.0, next);
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        _ => format!("{count:.1} {unit}"),
    }
}

fn from_now(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (at - now).num_seconds();
    let (count, unit) = match seconds.unsigned_abs() {
        s @ ..60 => (s, "second"),
        s @ 60..3600 => (s / 60, "minute"),
        s @ 3600..172_800 => (s / 3600, "hour"),
        s => (s / 86_400, "day"),
    };
    let s = if count == 1 { "" } else { "s" };
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {count} {unit}{s}"),
        _ => format!("{count} {unit}{s} ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        for (bytes, told) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(size(bytes), told);
        }
        for (seconds, told) in [
            (0, "now"),
            (-1, "1 second ago"),
            (-59, "59 seconds ago"),
            (-3599, "59 minutes ago"),
            (-3 * 86_400, "3 days ago"),
            (90, "in 1 minute"),
            (7200, "in 2 hours"),
        ] {
            let at = now() + chrono::Duration::seconds(seconds);
            assert_eq!(from_now(at, now()), told);
        }
    }

    #[test]
    fn what_to_do_comes_first_and_nothing_is_left_out() {
        let fact = |name: &str, value: Value| (name.to_owned(), value);
        let facts = [
            fact("version", "0.1.0".into()),
            fact("a_fact_of_tomorrow", 7.into()),
            fact("linked", "…42@s.whatsapp.net".into()),
            fact("last_connect", "2023-11-11T22:13:20Z".into()),
            fact("free_bytes", (5_u64 << 30).into()),
        ];
        let found = Found {
            facts: &facts,
            problems: &["the phone was silent for ten days; open WhatsApp there".to_owned()],
            notes: &["2 messages wait".to_owned()],
        };
        insta::assert_snapshot!(told(&found, now(), Some(50)), @r"
        ! the phone was silent for ten days; open WhatsApp
          there
        - 2 messages wait

        Account
          linked                      …42@s.whatsapp.net

        Connection
          last connect                2023-11-11T22:13:20Z
                                      (3 days ago)

        Storage
          free                        5.0 GiB

        Versions
          version                     0.1.0
          a fact of tomorrow          7
        ");
    }
}

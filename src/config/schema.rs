//! The JSON Schema of the configuration: what the reader asked for when it read one, and in words what each key means.
//!
//! Invariant: every key that is read is in the schema with the range and the default that it is read with, since both
//! come from the same call; tests hold that every key has its words and that the README says the same.

use serde_json::{Map, Value, json};

use super::Config;
use super::read::{Asked, Notes, Takes};

/// What each key means. Those of objects in a list stand behind `[]`.
const MEANINGS: &[(&str, &str)] = &[
    (
        "account",
        "the account's directory; letters, digits, `.`, `_`, `-`, at most 64",
    ),
    (
        "sqlite_store_path",
        "absolute path of the store, instead of the account's directory",
    ),
    (
        "dm_policy",
        "who may write in a direct chat; absent, it follows from the lists",
    ),
    (
        "allowed_sender_ids",
        "who may write in direct chats; `\"*\"` is everybody",
    ),
    (
        "allowed_dm_sender_ids",
        "another name for `allowed_sender_ids`",
    ),
    ("contacts", "persons with a permission of their own"),
    ("contacts[].id", "who: a phone number, JID or LID"),
    ("contacts[].name", "what the operator calls them"),
    (
        "contacts[].permission",
        "`write` and `admin` reach the agent, `read` does not",
    ),
    (
        "read_only_reply",
        "the fixed answer to a contact who may only read, at most once an hour each",
    ),
    ("owner_id", "always allowed, as `admin`"),
    ("allow_group_messages", "whether groups may speak at all"),
    (
        "allowed_conversation_ids",
        "groups, newsletters and direct chats that may speak; `[\"*\"]` is all groups",
    ),
    (
        "allowed_chat_ids",
        "another name for `allowed_conversation_ids`",
    ),
    (
        "allowed_group_sender_ids",
        "within an allowed group only these, the owner and contacts",
    ),
    (
        "group_activation",
        "which messages of a group are for the agent: those that mention or answer us, or all",
    ),
    (
        "mention_patterns",
        "regular expressions that count as a mention",
    ),
    (
        "group_context_messages",
        "unaddressed group messages kept and given with the next addressed one",
    ),
    (
        "outbound_recipient_ids",
        "who may be written to. Empty: whoever may write to us, and `default_recipient`; without any inbound policy, anybody",
    ),
    (
        "default_recipient",
        "where a message without a destination goes",
    ),
    (
        "routes",
        "the first that matches is named in the event; with routes, what matches none is not emitted",
    ),
    ("routes[].name", "becomes `event.metadata.route`"),
    ("routes[].match", "conditions; one that is absent holds"),
    ("routes[].match.channel", "the platform, `whatsapp`"),
    ("routes[].match.chat", "the conversation"),
    (
        "routes[].match.group",
        "a group, or somebody who writes in one",
    ),
    ("routes[].match.from", "the sender"),
    ("routes[].match.to", "our own account"),
    (
        "routes[].match.text_regex",
        "a regular expression for the text",
    ),
    ("events", "families of events to emit"),
    (
        "max_event_age_secs",
        "older messages are stored and not emitted",
    ),
    ("poll_timeout_secs", "longest one `poll_ingress`"),
    (
        "poll_idle_ms",
        "a poll is over when nothing came for this long after the offline queue",
    ),
    ("poll_max_events", "most events in one answer"),
    ("media", "inbound media"),
    ("media.download", "whether it is fetched as it comes"),
    ("media.max_bytes", "larger media is left at the server"),
    ("media.store", "`file`, or the URL of an object store"),
    ("media.retention_days", "days for which it is kept"),
    (
        "media.max_total_bytes",
        "how much is kept; the oldest goes first",
    ),
    (
        "media.view_once",
        "whether what is to be seen once is fetched",
    ),
    ("max_attachment_bytes", "largest attachment that is sent"),
    (
        "text_format",
        "`markdown` is rendered to WhatsApp's markup, `plain` is sent as it is",
    ),
    (
        "text_chunk_chars",
        "longest part of a text; longer text becomes several messages",
    ),
    (
        "typing",
        "when a typing indicator is shown: while an event is handled and on status frames, on status frames alone, never",
    ),
    (
        "typing_presence",
        "be available while a typing indicator is shown",
    ),
    (
        "read_receipts",
        "when messages are marked as read: never, when they were emitted, when they are answered",
    ),
    (
        "presence",
        "`offline` keeps the owner's phone ringing; `online` shows this device as available",
    ),
    ("pacing", "how fast messages go out"),
    ("pacing.chat_per_second", "messages a second to one chat"),
    ("pacing.chat_burst", "at once to one chat"),
    (
        "pacing.account_per_minute",
        "messages a minute of the account",
    ),
    ("pacing.account_burst", "at once of the account"),
    (
        "pacing.strangers_per_day",
        "first messages a day to people who never wrote",
    ),
    (
        "deliver_errors",
        "what becomes of a message that cannot be sent as asked; absent, replies degrade and all else fails",
    ),
    (
        "queue_ttl_secs",
        "how long a queued message waits for a connection",
    ),
    (
        "send_timeout_secs",
        "how long one `deliver`, `push` or `status` may take",
    ),
    (
        "allow_private_urls",
        "attachments by URL may point at private addresses",
    ),
    ("reply_delivery", "passed on to the host in the policy"),
    (
        "web_version",
        "WhatsApp Web version to present, such as `2.3000.1023456789`; the default is looked up",
    ),
    (
        "health_probe",
        "`health` opens a connection of its own if nobody has one",
    ),
];

/// The JSON Schema (draft 2020-12) of the `config` of a request. Keys that it does not name are reported, and otherwise
/// ignored.
pub fn schema() -> Value {
    let mut root = object();
    for asked in asked() {
        place(&mut root, &asked);
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("config");
    root
}

/// Every key, in the order in which it is read.
fn asked() -> Vec<Asked> {
    // What stands in a list is asked for only where the list has something.
    let full = json!({
        "contacts": [{"id": "+15551230000", "permission": "write"}],
        "routes": [{"name": "all"}],
    });
    let notes = Notes::default();
    // A test holds that it is valid; what was noted up to an error would still be true.
    let _ = Config::read(&full, Some(&notes));
    notes.into_inner()
}

fn object() -> Value {
    json!({"type": "object", "properties": {}})
}

fn place(root: &mut Value, asked: &Asked) {
    let (parents, key) = asked.path.rsplit_once('.').unwrap_or(("", &asked.path));
    let mut at = root;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        let (name, listed) = match parent.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (parent, false),
        };
        at = &mut at["properties"][name];
        if listed {
            at = &mut at["items"];
        }
    }
    at["properties"][key] = described(asked);
    if asked.needed {
        match at["required"].as_array_mut() {
            Some(required) => required.push(json!(key)),
            None => at["required"] = json!([key]),
        }
    }
}

fn described(asked: &Asked) -> Value {
    let text = json!({"type": "string"});
    let mut schema = match &asked.takes {
        Takes::Flag => json!({"type": "boolean", "default": false}),
        Takes::Number {
            least,
            most,
            default,
        } => {
            json!({"type": "integer", "minimum": least, "maximum": most, "default": default})
        }
        Takes::Text { default } => with_default(text, *default),
        Takes::Word { words, default } => {
            with_default(json!({"type": "string", "enum": words}), *default)
        }
        Takes::Texts => json!({"type": "array", "items": text}),
        Takes::Words(words) => {
            json!({"type": "array", "items": {"type": "string", "enum": words}, "uniqueItems": true})
        }
        Takes::Object => object(),
        Takes::Objects => json!({"type": "array", "items": object()}),
    };
    schema["description"] = json!(meaning(&asked.path).unwrap_or_default());
    schema
}

fn with_default(mut schema: Value, default: Option<&str>) -> Value {
    if let (Some(default), Some(map)) = (default, schema.as_object_mut()) {
        let map: &mut Map<String, Value> = map;
        map.insert("default".to_owned(), json!(default));
    }
    schema
}

fn meaning(path: &str) -> Option<&'static str> {
    let found = MEANINGS.iter().find(|(key, _)| *key == path);
    found.map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_key_has_its_words() {
        let asked: BTreeSet<String> = asked().into_iter().map(|asked| asked.path).collect();
        let meant: BTreeSet<String> = MEANINGS.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(asked, meant);
        assert_eq!(MEANINGS.len(), meant.len(), "one meaning each");
    }

    #[test]
    fn what_the_schema_says_is_what_the_reader_does() {
        let schema = schema();
        let properties = schema["properties"].as_object().unwrap();
        let refused = |config: Value| Config::parse(&config).is_err();
        for (key, about) in properties {
            let ok = |value: &Value| !refused(json!({key: value}));
            if let Some(default) = about.get("default") {
                assert!(ok(default), "{key}");
                let given = Config::parse(&json!({key: default})).unwrap().config;
                assert_eq!(given, Config::default(), "{key}");
            }
            match about["type"].as_str().unwrap() {
                "integer" => {
                    let (least, most) = (&about["minimum"], &about["maximum"]);
                    assert!(ok(least) && ok(most), "{key}");
                    assert!(!ok(&json!(most.as_u64().unwrap() + 1)), "{key}");
                    assert!(
                        least == 0 || !ok(&json!(least.as_u64().unwrap() - 1)),
                        "{key}"
                    );
                }
                "boolean" => assert!(ok(&json!(true)) && !ok(&json!("true")), "{key}"),
                "string" => {
                    let words = about.get("enum").and_then(Value::as_array);
                    assert!(words.into_iter().flatten().all(ok), "{key}");
                    assert!(
                        !ok(&json!(7)) && (words.is_none() || !ok(&json!("nonsense"))),
                        "{key}"
                    );
                }
                "array" => assert!(ok(&json!([])) && !ok(&json!({}))),
                "object" => assert!(ok(&json!({})) && !ok(&json!([]))),
                other => panic!("{key}: {other}"),
            }
        }
        assert_eq!(
            schema["properties"]["contacts"]["items"]["required"],
            json!(["id", "permission"])
        );
        assert_eq!(
            schema["properties"]["routes"]["items"]["required"],
            json!(["name"])
        );
        assert_eq!(
            schema["properties"]["media"]["properties"]["max_bytes"]["default"],
            64 << 20
        );
    }

    /// The rows of the README's table of keys: name, default, meaning.
    fn readme() -> BTreeMap<&'static str, (&'static str, &'static str)> {
        let rows = include_str!("../../README.md")
            .lines()
            .skip_while(|line| !line.starts_with("| key | default |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        rows.flat_map(|row| {
            let mut cells = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ']));
            let (keys, default) = (cells.next().unwrap(), cells.next().unwrap_or_default());
            let meaning = row.rsplit(" | ").next().unwrap().trim_matches(['|', ' ']);
            keys.split([' ', '(', ')', ','])
                .filter_map(|key| key.strip_prefix('`')?.strip_suffix('`'))
                .map(move |key| (key, (default, meaning)))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn the_readme_has_the_same_keys_and_defaults() {
        let schema = schema();
        let properties = schema["properties"].as_object().unwrap();
        let rows = readme();
        for (key, about) in properties {
            let Some((default, meaning)) = rows.get(key.as_str()) else {
                panic!("{key} is not in the README");
            };
            assert!(!meaning.is_empty(), "{key}");
            match about.get("default") {
                Some(Value::String(word)) if key != "typing" => {
                    assert_eq!(*default, format!("`{word}`"), "{key}");
                }
                Some(Value::Bool(flag)) => assert_eq!(*default, format!("`{flag}`"), "{key}"),
                Some(Value::Number(number)) => assert_eq!(*default, number.to_string(), "{key}"),
                _ => {}
            }
            let range = [&about["minimum"], &about["maximum"]].map(Value::to_string);
            if meaning.contains(&format!("{} to ", range[0])) {
                // Large ones are written as people write them.
                let written = meaning.contains(&range.join(" to ")) || meaning.contains("GiB");
                assert!(written, "{key}: {meaning}");
            }
        }
        for key in rows.keys() {
            assert!(properties.contains_key(*key), "{key} is in the README only");
        }
    }
}

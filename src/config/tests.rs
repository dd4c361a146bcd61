//! Every key: its default, what it takes, what it refuses and how it says so.

use serde_json::{Value, json};

use super::*;

fn parse(value: Value) -> Config {
    let parsed = Config::parse(&value).unwrap_or_else(|error| panic!("{value}: {error}"));
    assert_eq!(parsed.unknown_keys, Vec::<String>::new(), "{value}");
    parsed.config
}

fn ids(entries: &[&str]) -> Vec<IdEntry> {
    entries.iter().map(|entry| entry.parse().unwrap()).collect()
}

#[test]
fn the_defaults() {
    let config = parse(Value::Null);
    assert_eq!(config, parse(json!({})));
    assert_eq!(config, Config::default());
    assert_eq!(config.account, "default");
    assert_eq!(config.poll_timeout_secs, 10);
    assert_eq!(config.poll_idle_ms, 1500);
    assert_eq!(config.poll_max_events, 50);
    assert_eq!(config.max_event_age_secs, 604_800);
    assert_eq!(config.dm_policy, None);
    assert!(config.allowed_sender_ids.is_empty() && config.allowed_conversation_ids.is_empty());
    assert!(!config.allow_group_messages);
    assert_eq!(config.group_activation, GroupActivation::Mention);
    assert_eq!(config.group_context_messages, 20);
    assert_eq!(config.events.len(), 3);
    let media = Media {
        download: Download::Auto,
        max_bytes: 67_108_864,
        store: "file".into(),
        retention_days: 30,
        max_total_bytes: 4 << 30,
        view_once: false,
    };
    assert_eq!(config.media, media);
    assert_eq!(config.max_attachment_bytes, 67_108_864);
    assert_eq!(config.text_format, TextFormat::Markdown);
    assert_eq!(config.text_chunk_chars, 4000);
    assert_eq!(config.typing, Typing::Auto);
    assert_eq!(config.read_receipts, ReadReceipts::Off);
    assert_eq!(config.presence, Presence::Offline);
    let pacing = config.pacing;
    assert_eq!(
        (
            pacing.chat_per_second,
            pacing.chat_burst,
            pacing.strangers_per_day
        ),
        (1, 5, 20)
    );
    assert_eq!((pacing.account_per_minute, pacing.account_burst), (20, 20));
    assert_eq!(config.queue_ttl_secs, 3600);
    assert_eq!(config.send_timeout_secs, 25);
    assert_eq!(config.reply_delivery, ReplyDelivery::RuntimeOwned);
    assert_eq!(config.deliver_errors, None);
}

#[test]
fn every_key_is_taken() {
    let config = parse(json!({
        "account": "work-2",
        "sqlite_store_path": "/srv/x.db",
        "default_recipient": "whatsapp:work-2:contact:+1 555 123 0000",
        "poll_timeout_secs": 5,
        "poll_idle_ms": 200,
        "poll_max_events": 7,
        "max_event_age_secs": 60,
        "dm_policy": "pairing",
        "allowed_sender_ids": ["+15551230000", "15551230001@s.whatsapp.net"],
        "allowed_dm_sender_ids": ["123456789012345@lid", "+15551230000"],
        "contacts": [{"id": "+15551230002", "name": "Anna", "permission": "read"}, {"id": "1555123@lid", "permission": "admin"}],
        "read_only_reply": "Later.",
        "owner_id": "contact:+15551230003",
        "allow_group_messages": true,
        "allowed_conversation_ids": ["120363000000000000@g.us"],
        "allowed_chat_ids": ["*"],
        "allowed_group_sender_ids": [],
        "group_activation": "all",
        "mention_patterns": ["(?i)bot"],
        "group_context_messages": 0,
        "outbound_recipient_ids": ["group:120363000000000000"],
        "routes": [{"name": "sales", "match": {"channel": "whatsapp", "chat": "*", "group": "+15551230000", "from": "1@lid", "to": "+15551230004", "text_regex": "x"}}, {"name": "rest"}],
        "events": ["message", "reaction", "receipt", "poll_vote", "group", "call", "presence", "contact", "connection", "undecryptable", "message.edited", "message.revoked"],
        "media": {"download": "none", "max_bytes": 1, "store": "file", "retention_days": 1},
        "max_attachment_bytes": 1024,
        "text_format": "plain",
        "text_chunk_chars": 65536,
        "typing": "status",
        "typing_presence": true,
        "read_receipts": "replied",
        "presence": "online",
        "pacing": {"chat_per_second": 2, "chat_burst": 3, "account_per_minute": 4, "account_burst": 5, "strangers_per_day": 0},
        "deliver_errors": "fail",
        "queue_ttl_secs": 0,
        "send_timeout_secs": 20,
        "allow_private_urls": true,
        "reply_delivery": "tool_owned",
        "web_version": "2.3000.1023456789",
        "health_probe": true,
    }));
    assert_eq!(config.account, "work-2");
    assert_eq!(
        config.sqlite_store_path.as_deref(),
        Some(Path::new("/srv/x.db"))
    );
    assert_eq!(
        config.default_recipient,
        Some("whatsapp:work-2:contact:+1 555 123 0000".to_owned())
    );
    assert_eq!(config.poll_timeout_secs, 5);
    assert_eq!(config.poll_idle_ms, 200);
    assert_eq!(config.poll_max_events, 7);
    assert_eq!(config.max_event_age_secs, 60);
    assert_eq!(config.dm_policy, Some(DmPolicy::Pairing));
    assert_eq!(
        config.allowed_sender_ids,
        ids(&["+15551230000", "+15551230001", "123456789012345@lid"])
    );
    assert_eq!(config.contacts[0].name.as_deref(), Some("Anna"));
    assert_eq!(config.contacts[0].permission, Permission::Read);
    assert_eq!(config.contacts[1].id, ids(&["1555123@lid"])[0]);
    assert_eq!(config.read_only_reply.as_deref(), Some("Later."));
    assert_eq!(config.owner_id, ids(&["+15551230003"]).pop());
    assert!(config.allow_group_messages);
    assert_eq!(
        config.allowed_conversation_ids,
        ids(&["120363000000000000@g.us", "*"])
    );
    assert_eq!(config.allowed_group_sender_ids, Some(Vec::new()));
    assert_eq!(config.group_activation, GroupActivation::All);
    assert_eq!(config.mention_patterns.len(), 1);
    assert!(config.mention_patterns[0].is_match("Robots?"));
    assert_eq!(config.group_context_messages, 0);
    assert_eq!(
        config.outbound_recipient_ids,
        ids(&["120363000000000000@g.us"])
    );
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.routes[0].to, ids(&["+15551230004"]).pop());
    assert_eq!(
        config.routes[0].text_regex.as_ref().map(Pattern::as_str),
        Some("x")
    );
    assert_eq!(
        (config.routes[1].name.as_str(), &config.routes[1].from),
        ("rest", &None)
    );
    assert_eq!(config.events.len(), 12);
    assert_eq!(
        (config.media.download, config.media.max_bytes),
        (Download::None, 1)
    );
    assert_eq!(
        (config.media.store.as_str(), config.media.retention_days),
        ("file", 1)
    );
    assert_eq!(config.max_attachment_bytes, 1024);
    assert_eq!(config.text_format, TextFormat::Plain);
    assert_eq!(config.text_chunk_chars, 65_536);
    assert_eq!(config.typing, Typing::Status);
    assert!(config.typing_presence);
    assert_eq!(config.read_receipts, ReadReceipts::Replied);
    assert_eq!(config.presence, Presence::Online);
    assert_eq!(
        (
            config.pacing.chat_per_second,
            config.pacing.strangers_per_day
        ),
        (2, 0)
    );
    assert_eq!(config.deliver_errors, Some(DeliverErrors::Fail));
    assert_eq!(config.queue_ttl_secs, 0);
    assert_eq!(config.send_timeout_secs, 20);
    assert!(config.allow_private_urls && config.health_probe);
    assert_eq!(config.reply_delivery, ReplyDelivery::ToolOwned);
    assert_eq!(config.web_version, Some((2, 3000, 1_023_456_789)));
}

/// Key, bad value, the key that the error names.
#[test]
fn bad_values_are_named() {
    for (key, value, named) in [
        ("account", json!("../x"), "account"),
        ("account", json!(""), "account"),
        ("account", json!(".x"), "account"),
        ("account", json!("a".repeat(65)), "account"),
        ("account", json!(7), "account"),
        ("sqlite_store_path", json!("x.db"), "sqlite_store_path"),
        ("sqlite_store_path", json!("/"), "sqlite_store_path"),
        ("sqlite_store_path", json!("/a\0b"), "sqlite_store_path"),
        ("default_recipient", json!("Anna"), "default_recipient"),
        (
            "default_recipient",
            json!("whatsapp:work:contact:+15551230000"),
            "default_recipient",
        ),
        ("poll_timeout_secs", json!(0), "poll_timeout_secs"),
        ("poll_timeout_secs", json!(3601), "poll_timeout_secs"),
        ("poll_timeout_secs", json!("10"), "poll_timeout_secs"),
        ("poll_timeout_secs", json!(1.5), "poll_timeout_secs"),
        ("poll_timeout_secs", json!(-1), "poll_timeout_secs"),
        ("poll_idle_ms", json!(0), "poll_idle_ms"),
        ("poll_max_events", json!(0), "poll_max_events"),
        ("max_event_age_secs", json!(0), "max_event_age_secs"),
        ("dm_policy", json!("Open"), "dm_policy"),
        ("dm_policy", json!(true), "dm_policy"),
        ("allowed_sender_ids", json!("*"), "allowed_sender_ids"),
        (
            "allowed_sender_ids",
            json!(["+15551230000", "Anna"]),
            "allowed_sender_ids[1]",
        ),
        (
            "allowed_sender_ids",
            json!([15_551_230_000_u64]),
            "allowed_sender_ids[0]",
        ),
        (
            "allowed_dm_sender_ids",
            json!([null]),
            "allowed_dm_sender_ids[0]",
        ),
        ("contacts", json!({}), "contacts"),
        (
            "contacts",
            json!([{"id": "*", "permission": "read"}]),
            "contacts[0].id",
        ),
        (
            "contacts",
            json!([{"permission": "read"}]),
            "contacts[0].id",
        ),
        (
            "contacts",
            json!([{"id": "+15551230000"}]),
            "contacts[0].permission",
        ),
        (
            "contacts",
            json!([{"id": "+15551230000", "permission": "all"}]),
            "contacts[0].permission",
        ),
        ("contacts", json!(["+15551230000"]), "contacts[0]"),
        ("read_only_reply", json!(" "), "read_only_reply"),
        ("owner_id", json!("*"), "owner_id"),
        ("owner_id", json!("120363000000000000@g.us"), "owner_id"),
        ("allow_group_messages", json!("yes"), "allow_group_messages"),
        (
            "allowed_conversation_ids",
            json!(["x"]),
            "allowed_conversation_ids[0]",
        ),
        ("allowed_chat_ids", json!(["x"]), "allowed_chat_ids[0]"),
        (
            "allowed_group_sender_ids",
            json!(["x"]),
            "allowed_group_sender_ids[0]",
        ),
        ("group_activation", json!("some"), "group_activation"),
        ("mention_patterns", json!([""]), "mention_patterns[0]"),
        (
            "mention_patterns",
            json!(["bot", "bot("]),
            "mention_patterns[1]",
        ),
        (
            "mention_patterns",
            json!(["(a{1000}){1000}"]),
            "mention_patterns[0]",
        ),
        (
            "mention_patterns",
            json!(["a".repeat(1001)]),
            "mention_patterns[0]",
        ),
        (
            "mention_patterns",
            json!(vec!["a"; 101]),
            "mention_patterns",
        ),
        (
            "routes",
            json!([{"name": "a", "match": {"text_regex": "(?=x)"}}]),
            "routes[0].match.text_regex",
        ),
        (
            "group_context_messages",
            json!(1001),
            "group_context_messages",
        ),
        (
            "outbound_recipient_ids",
            json!(["x"]),
            "outbound_recipient_ids[0]",
        ),
        ("routes", json!([{}]), "routes[0].name"),
        (
            "routes",
            json!([{"name": "a", "match": {"from": "x"}}]),
            "routes[0].match.from",
        ),
        ("events", json!(["messages"]), "events[0]"),
        ("media", json!(true), "media"),
        ("media", json!({"download": "yes"}), "media.download"),
        ("media", json!({"max_bytes": -1}), "media.max_bytes"),
        ("media", json!({"store": "disk"}), "media.store"),
        ("media", json!({"store": "ftp://bucket/x"}), "media.store"),
        (
            "media",
            json!({"store": "s3://key:secret@bucket/x"}),
            "media.store",
        ),
        (
            "media",
            json!({"retention_days": 0}),
            "media.retention_days",
        ),
        ("max_attachment_bytes", json!(1e9), "max_attachment_bytes"),
        ("text_format", json!("html"), "text_format"),
        ("text_chunk_chars", json!(0), "text_chunk_chars"),
        ("text_chunk_chars", json!(65_537), "text_chunk_chars"),
        ("typing", json!("on"), "typing"),
        ("typing_presence", json!(1), "typing_presence"),
        ("read_receipts", json!("on"), "read_receipts"),
        ("presence", json!("available"), "presence"),
        ("pacing", json!({"chat_burst": 0}), "pacing.chat_burst"),
        ("deliver_errors", json!("ignore"), "deliver_errors"),
        ("queue_ttl_secs", json!("null"), "queue_ttl_secs"),
        ("send_timeout_secs", json!(0), "send_timeout_secs"),
        ("allow_private_urls", json!("no"), "allow_private_urls"),
        ("reply_delivery", json!("both"), "reply_delivery"),
        ("web_version", json!("2.3000"), "web_version"),
        ("web_version", json!("2.3000.x"), "web_version"),
        ("health_probe", json!("no"), "health_probe"),
    ] {
        let error = Config::parse(&json!({ key: value })).expect_err(&format!("{key}: {value}"));
        assert_eq!(error.key, named, "{error}");
        assert_eq!(error.code(), "invalid_config");
        assert!(!error.allowed.is_empty() && error.to_string().contains(named));
    }
    for whole in [json!([]), json!("x"), json!(1)] {
        assert_eq!(Config::parse(&whole).unwrap_err().allowed, "an object");
    }
}

#[test]
fn an_error_shows_little_of_the_value() {
    let error = Config::parse(&json!({"account": "x/".repeat(1000)})).unwrap_err();
    assert!(error.to_string().len() < 250, "{error}");
    let error = Config::parse(&json!({"dm_policy": "closed"})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "config key dm_policy is \"closed\"; allowed is one of deny, allowlist, pairing, open"
    );
}

#[test]
fn null_is_absent_and_unknown_keys_are_told() {
    let nulls =
        json!({"account": null, "allowed_sender_ids": null, "media": null, "contacts": null});
    assert_eq!(parse(nulls), Config::default());
    let parsed = Config::parse(&json!({
        "acount": "x",
        "fake": {"events": 1},
        "media": {"dowload": "none"},
        "contacts": [{"id": "+15551230000", "permission": "write", "nick": "A"}],
        "routes": [{"name": "a", "match": {"sender": "x"}, "extra": 1}],
    }))
    .unwrap();
    let mut unknown = parsed.unknown_keys;
    unknown.sort();
    assert_eq!(
        unknown,
        [
            "acount",
            "contacts[0].nick",
            "fake",
            "media.dowload",
            "routes[0].extra",
            "routes[0].match.sender"
        ]
    );
}

#[test]
fn settings_that_do_less_than_they_say() {
    for (config, word) in [
        (
            json!({"account": "a", "sqlite_store_path": "/x.db"}),
            "does not select",
        ),
        (
            json!({"allowed_chat_ids": ["120363000000000000@g.us"]}),
            "allow_group_messages is not true",
        ),
        (
            json!({"allowed_group_sender_ids": ["+15551230000"]}),
            "allow_group_messages is not true",
        ),
        (json!({"allow_group_messages": true}), "lists no group"),
        (
            json!({"dm_policy": "deny", "allowed_sender_ids": ["+15551230000"]}),
            "lists come first",
        ),
    ] {
        let warnings = Config::parse(&config).unwrap().warnings;
        assert!(
            warnings.len() == 1 && warnings[0].contains(word),
            "{config}: {warnings:?}"
        );
    }
    let quiet =
        json!({"allow_group_messages": true, "allowed_chat_ids": ["*"], "dm_policy": "open"});
    assert_eq!(
        Config::parse(&quiet).unwrap().warnings,
        Vec::<String>::new()
    );
}

#[test]
fn settings_for_people_name_no_person() {
    let config =
        parse(json!({"allowed_sender_ids": ["+15551230000"], "sqlite_store_path": "/srv/x.db"}));
    let settings = config.resolved();
    assert_eq!(settings["allowed_sender_count"], "1");
    assert_eq!(settings["sqlite_store_path"], "/srv/x.db");
    assert_eq!(settings["media_store"], "file");
    assert_eq!(settings["events"], "message,message.edited,message.revoked");
    assert!(!settings.values().any(|value| value.contains("1555")));
}

#[test]
fn families_of_event_types() {
    let config = Config::default();
    for (event_type, emitted) in [
        ("message.received", true),
        ("message.edited", true),
        ("message.revoked", true),
        ("reaction.added", false),
        ("receipt.read", false),
        ("poll.vote", false),
        ("group.subject", false),
        ("call.incoming", false),
        ("undecryptable", false),
        ("message.undecryptable", false),
        ("", false),
        ("something.else", false),
    ] {
        assert_eq!(config.emits(event_type), emitted, "{event_type}");
    }
    let config = parse(json!({"events": ["reaction", "poll_vote", "group"]}));
    for (event_type, emitted) in [
        ("reaction.removed", true),
        ("poll.vote", true),
        ("group.join", true),
        ("message.received", false),
    ] {
        assert_eq!(config.emits(event_type), emitted, "{event_type}");
    }
}

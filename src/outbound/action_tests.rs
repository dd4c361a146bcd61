use super::tests::{ANN, GROUP, config, message, peer, text};
use super::*;
use waproto::codec::message_decode;

const NOW: i64 = 1_800_000_000;

pub(super) fn kept(sender: Option<&str>, body: &wa::Message, age: i64) -> Known {
    Known {
        target: Some(Kept {
            id: "M1".to_owned(),
            sender: sender.map(|jid| jid.parse().unwrap()),
            own: Some("99@lid".parse().unwrap()),
            raw: Some(message_to_vec(body)),
            edit: None,
            file: None,
            at: NOW - age,
        }),
        now_ms: NOW * 1000,
        secret: [7; SECRET],
        ..Known::default()
    }
}

pub(super) fn acted_on(
    to: &str,
    content: &str,
    metadata: &[(&str, &str)],
    known: &Known,
) -> Result<Vec<(String, wa::Message)>, OutboundError> {
    let message = message(content, metadata);
    // What cannot be done is an error for replies too.
    let built = build(&message, &[], &config(4000), &peer(to), None, known, true)?;
    let part = |part: &Part| (part.kind.clone(), message_decode(&part.payload).unwrap());
    Ok(built.parts.iter().map(part).collect())
}

pub(super) fn one(
    to: &str,
    content: &str,
    metadata: &[(&str, &str)],
    known: &Known,
) -> wa::Message {
    let mut parts = acted_on(to, content, metadata, known).unwrap();
    assert_eq!(parts.len(), 1, "{metadata:?}");
    parts.remove(0).1
}

#[test]
fn every_wrong_key_is_named() {
    let vcard = "BEGIN:VCARD\nVERSION:3.0\nFN:Ann\nEND:VCARD";
    let long = "x".repeat(300);
    let many = serde_json::to_string(&(0..13).map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
    let (m1, poll) = (("target_message_id", "M1"), r#"["a","b"]"#);
    for (action, keys, names) in [
        ("react", vec![("emoji", "👍")], "target_message_id"),
        ("react", vec![m1], "emoji"),
        ("react", vec![m1, ("emoji", "ok")], "metadata.emoji"),
        ("react", vec![m1, ("emoji", "👍👍")], "metadata.emoji"),
        ("react", vec![m1, ("emoji", "é")], "metadata.emoji"),
        ("react", vec![m1, ("emoji", "€")], "metadata.emoji"),
        ("react", vec![m1, ("emoji", "…")], "metadata.emoji"),
        (
            "react",
            vec![("target_message_id", "a b"), ("emoji", "")],
            "metadata.target_message_id",
        ),
        ("edit", vec![], "target_message_id"),
        (
            "edit",
            vec![("target_message_id", "")],
            "metadata.target_message_id",
        ),
        ("revoke", vec![], "target_message_id"),
        ("read", vec![], "target_message_id"),
        ("forward", vec![], "target_message_id"),
        ("poll", vec![], "options"),
        ("poll", vec![("options", "a, b")], "metadata.options"),
        ("poll", vec![("options", "[1, 2]")], "metadata.options"),
        ("poll", vec![("options", r#"["a"]"#)], "metadata.options"),
        ("poll", vec![("options", many.as_str())], "metadata.options"),
        (
            "poll",
            vec![("options", r#"["a"," a"]"#)],
            "metadata.options",
        ),
        ("poll", vec![("options", r#"["a",""]"#)], "metadata.options"),
        (
            "poll",
            vec![("options", poll), ("selectable", "x")],
            "metadata.selectable",
        ),
        (
            "poll",
            vec![("options", poll), ("selectable", "3")],
            "metadata.selectable",
        ),
        (
            "poll",
            vec![("options", poll), ("selectable", "-1")],
            "metadata.selectable",
        ),
        ("location", vec![("longitude", "1")], "latitude"),
        ("location", vec![("latitude", "1")], "longitude"),
        (
            "location",
            vec![("latitude", "90.1"), ("longitude", "1")],
            "metadata.latitude",
        ),
        (
            "location",
            vec![("latitude", "NaN"), ("longitude", "1")],
            "metadata.latitude",
        ),
        (
            "location",
            vec![("latitude", "1"), ("longitude", "east")],
            "metadata.longitude",
        ),
        (
            "location",
            vec![("latitude", "1"), ("longitude", "1"), ("name", " ")],
            "metadata.name",
        ),
        (
            "location",
            vec![
                ("latitude", "1"),
                ("longitude", "1"),
                ("address", long.as_str()),
            ],
            "metadata.address",
        ),
        ("contact", vec![], "metadata.vcard"),
        ("contact", vec![("name", "Ann")], "metadata.phone"),
        (
            "contact",
            vec![("name", "Ann"), ("phone", "0171 1")],
            "metadata.phone",
        ),
        ("contact", vec![("vcard", "Ann")], "metadata.vcard"),
        (
            "contact",
            vec![("vcard", "BEGIN:VCARD\nVERSION:3.0\nEND:VCARD")],
            "metadata.vcard",
        ),
        (
            "contact",
            vec![("vcard", &*format!("{vcard}\n{vcard}"))],
            "metadata.vcard",
        ),
    ] {
        let mut metadata = vec![("action", action)];
        metadata.extend(keys);
        let known = kept(None, &text("old"), 10);
        let error = acted_on(ANN, "which?", &metadata, &known).unwrap_err();
        assert_eq!(error.code(), "invalid_action", "{metadata:?}: {error}");
        assert!(error.to_string().contains(names), "{metadata:?}: {error}");
        assert!(is_refusal(error.code()));
    }
}

#[test]
fn names_of_actions_and_their_schema_agree() {
    let schema = schemars::schema_for!(Action);
    let variants = schema.get("oneOf").and_then(|v| v.as_array()).unwrap();
    let names: Vec<&str> = variants
        .iter()
        .map(|variant| variant["properties"]["action"]["const"].as_str().unwrap())
        .collect();
    for name in &names {
        // Known, whatever is wrong with its keys.
        let parsed = Action::parse(&[("action".to_owned(), (*name).to_owned())].into());
        assert_eq!(parsed.unwrap_err().code(), "invalid_action", "{name}");
    }
    assert_eq!(names.len(), 8);
    // Whatever a key is to us, on the wire it is a string.
    for variant in variants {
        for (key, value) in variant["properties"].as_object().unwrap() {
            let text = value.to_string();
            let string = text.contains("\"string\"") || text.contains("$ref");
            assert!(string, "{key}: {text}");
        }
    }
}

#[test]
fn a_reaction_names_its_message() {
    let keys = [
        ("action", "react"),
        ("target_message_id", "M1"),
        ("emoji", "1️⃣"),
    ];
    for (to, sender, from_me, participant) in [
        (ANN, Some(ANN), false, None),
        (ANN, None, true, None),
        (GROUP, Some("42@lid"), false, Some("42@lid")),
        (GROUP, None, true, Some("99@lid")),
    ] {
        let sent = one(to, "", &keys, &kept(sender, &text("x"), 9_999_999));
        let reaction = sent.reaction_message.as_option().unwrap();
        assert_eq!(reaction.text.as_deref(), Some("1️⃣"));
        assert_eq!(reaction.sender_timestamp_ms, Some(NOW * 1000));
        assert_eq!(reaction.key.id.as_deref(), Some("M1"));
        assert_eq!(reaction.key.remote_jid.as_deref(), Some(to));
        assert_eq!(reaction.key.from_me, Some(from_me));
        assert_eq!(reaction.key.participant.as_deref(), participant);
    }
    let with_text = acted_on(ANN, "great", &keys, &kept(Some(ANN), &text("x"), 1)).unwrap();
    let kinds: Vec<&str> = with_text.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["reaction", "text"]);
}

#[test]
fn every_emoji_is_one() {
    for emoji in [
        "👍",
        "👍🏽",
        "❤",
        "❤️",
        "ℹ️",
        "Ⓜ️",
        "🅰️",
        "㊗️",
        "#️⃣",
        "🇩🇪",
        "👩‍👩‍👧",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    ] {
        let keys = [
            ("action", "react"),
            ("target_message_id", "M1"),
            ("emoji", emoji),
        ];
        let reaction = one(ANN, "", &keys, &kept(Some(ANN), &text("x"), 1));
        assert_eq!(reaction.reaction_message.text.as_deref(), Some(emoji));
    }
}

#[test]
fn edits_and_revocations_have_their_bounds() {
    let media = wa::Message {
        image_message: wa::message::ImageMessage {
            caption: Some("old".to_owned()),
            url: Some("https://mmg.whatsapp.net/x".to_owned()),
            ..wa::message::ImageMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    let sticker = wa::Message {
        sticker_message: wa::message::StickerMessage::default().into(),
        ..wa::Message::default()
    };
    let plain = text("old");
    let long = "word ".repeat(2000);
    for (action, to, sender, body, age, content, code) in [
        ("edit", ANN, None, &plain, 900, "new", None),
        (
            "edit",
            ANN,
            None,
            &plain,
            901,
            "new",
            Some("edit_window_over"),
        ),
        (
            "edit",
            ANN,
            Some(ANN),
            &plain,
            1,
            "new",
            Some("not_own_message"),
        ),
        (
            "edit",
            GROUP,
            Some(ANN),
            &plain,
            1,
            "new",
            Some("not_own_message"),
        ),
        ("edit", ANN, None, &media, 1, "new", None),
        ("edit", ANN, None, &sticker, 1, "new", Some("not_editable")),
        ("edit", ANN, None, &plain, 1, " ", Some("invalid_action")),
        (
            "edit",
            ANN,
            None,
            &plain,
            1,
            long.as_str(),
            Some("edit_too_long"),
        ),
        ("revoke", ANN, None, &plain, 216_000, "", None),
        (
            "revoke",
            ANN,
            None,
            &plain,
            216_001,
            "",
            Some("revoke_window_over"),
        ),
        (
            "revoke",
            ANN,
            Some(ANN),
            &plain,
            1,
            "",
            Some("not_own_message"),
        ),
        ("revoke", GROUP, Some(ANN), &plain, 1, "", None),
    ] {
        let keys = [("action", action), ("target_message_id", "M1")];
        let sent = acted_on(to, content, &keys, &kept(sender, body, age));
        let case = format!("{action} {to} {sender:?} {age}");
        match code {
            Some(code) => assert_eq!(sent.unwrap_err().code(), code, "{case}"),
            None => {
                let sent = sent.unwrap().remove(0).1;
                let protocol = sent.protocol_message.as_option().unwrap();
                assert_eq!(protocol.key.id.as_deref(), Some("M1"), "{case}");
                assert_eq!(protocol.key.from_me, Some(sender.is_none()), "{case}");
                let edited = &protocol.edited_message;
                assert_eq!(edited.is_set(), action == "edit", "{case}");
                if body.image_message.is_set() {
                    assert_eq!(edited.image_message.caption.as_deref(), Some("new"));
                    assert!(edited.image_message.url.is_some());
                } else if edited.is_set() {
                    assert_eq!(edited.conversation.as_deref(), Some("new"));
                }
            }
        }
    }
    let nothing = Known::default();
    for action in ["react", "edit", "revoke", "forward"] {
        let keys = [
            ("action", action),
            ("target_message_id", "M1"),
            ("emoji", ""),
        ];
        let error = acted_on(ANN, "new", &keys, &nothing).unwrap_err();
        assert_eq!(error.code(), "unknown_target_message", "{action}");
    }
    for action in ["react", "edit", "revoke"] {
        let keys = [
            ("action", action),
            ("target_message_id", "M1"),
            ("emoji", ""),
        ];
        let known = kept(None, &plain, 1);
        let error = acted_on("123@newsletter", "new", &keys, &known).unwrap_err();
        assert_eq!(error.code(), "action_not_here", "{action}");
    }
}

#[test]
fn a_poll_has_its_secret_and_its_version() {
    for (selectable, third) in [
        (None, true),
        (Some("1"), true),
        (Some("0"), false),
        (Some("2"), false),
    ] {
        let mut keys = vec![("action", "poll"), ("options", r#"["Pizza"," Pasta "]"#)];
        keys.extend(selectable.map(|n| ("selectable", n)));
        let sent = one(GROUP, " What to eat? ", &keys, &kept(None, &text(""), 1));
        assert_eq!(sent.poll_creation_message_v3.is_set(), third);
        let poll = match third {
            true => sent.poll_creation_message_v3.as_option(),
            false => sent.poll_creation_message.as_option(),
        };
        let poll = poll.unwrap();
        assert_eq!(poll.name.as_deref(), Some("What to eat?"));
        let options = poll.options.iter().map(|o| o.option_name.as_deref());
        assert_eq!(options.collect::<Vec<_>>(), [Some("Pizza"), Some("Pasta")]);
        let secret = sent.message_context_info.message_secret.as_deref();
        assert_eq!(secret, Some(&[7; SECRET][..]));
    }
    let keys = [("action", "poll"), ("options", r#"["a","b"]"#)];
    let error = acted_on(ANN, "", &keys, &Known::default()).unwrap_err();
    assert_eq!(error.code(), "invalid_action");
}

#[test]
fn places_and_cards_come_behind_the_text() {
    let keys = [
        ("action", "location"),
        ("latitude", "52.520008"),
        ("longitude", "-13.404954"),
        ("name", "Here"),
        ("address", "Some street 1"),
    ];
    let sent = acted_on(ANN, "meet me", &keys, &Known::default()).unwrap();
    assert_eq!(sent[0].1.conversation.as_deref(), Some("meet me"));
    let place = sent[1].1.location_message.as_option().unwrap();
    assert_eq!(place.degrees_latitude, Some(52.520008));
    assert_eq!(place.degrees_longitude, Some(-13.404954));
    assert_eq!(place.name.as_deref(), Some("Here"));
    assert_eq!(place.address.as_deref(), Some("Some street 1"));

    let keys = [
        ("action", "contact"),
        ("name", "Ann; \"the\n Great\""),
        ("phone", "+1 555 123 0001"),
    ];
    let card = one(ANN, "", &keys, &Known::default());
    let card = card.contact_message.as_option().unwrap();
    let vcard = card.vcard.as_deref().unwrap();
    assert!(vcard.contains("\nFN:Ann\\; \"the  Great\"\n"), "{vcard}");
    assert!(vcard.contains("waid=15551230001:+15551230001"), "{vcard}");
    // It is read again as it was meant.
    let keys = [("action", "contact"), ("vcard", vcard)];
    let again = one(ANN, "", &keys, &Known::default());
    let again = again.contact_message.as_option().unwrap();
    assert_eq!(again.vcard.as_deref(), Some(vcard));
    assert_eq!(again.display_name.as_deref(), Some("Ann; \"the  Great\""));
}

#[test]
fn the_timer_of_the_chat_is_honoured() {
    let mut to = peer(ANN);
    to.timer = 86_400;
    for (content, metadata) in [
        ("hi", vec![]),
        (
            "",
            vec![
                ("action", "location"),
                ("latitude", "1"),
                ("longitude", "2"),
            ],
        ),
        ("q", vec![("action", "poll"), ("options", r#"["a","b"]"#)]),
    ] {
        let message = message(content, &metadata);
        let built = build(
            &message,
            &[],
            &config(4000),
            &to,
            None,
            &Known::default(),
            false,
        )
        .unwrap();
        let sent = message_decode(&built.parts[0].payload).unwrap();
        assert_eq!(
            sent.get_ephemeral_expiration(),
            Some(86_400),
            "{metadata:?}"
        );
    }
}

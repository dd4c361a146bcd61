// Not every protobuf type that is built here has more fields than those given.
#![allow(clippy::needless_update)]

#[macro_use]
mod samples;

mod addon;
mod event;
mod events;
mod happenings;
mod reveal;
mod table;

use samples::*;

use super::*;

fn info() -> Info {
    Info {
        chat: ANN.parse().unwrap(),
        sender: ANN.parse().unwrap(),
        sender_alt: None,
        is_from_me: false,
        is_group: false,
        stanza_id: "M1".to_owned(),
        timestamp: NOW,
        push_name: None,
        is_peer: false,
    }
}

fn draft(message: &Message) -> Draft {
    match classify(message, &info()) {
        Classified::Draft(draft) | Classified::Own(draft) => draft,
        Classified::Ignore(reason) => panic!("ignored: {reason}"),
    }
}

#[test]
fn every_kind_is_told() {
    let table: serde_json::Map<String, serde_json::Value> = samples()
        .into_iter()
        .map(|(name, message)| {
            let draft = draft(&message);
            assert!(!draft.content.trim().is_empty(), "{name}");
            // What is stored is read again as it was.
            let stored = serde_json::to_string(&draft).unwrap();
            assert_eq!(
                serde_json::from_str::<Draft>(&stored).unwrap(),
                draft,
                "{name}"
            );
            (name.to_owned(), serde_json::to_value(&draft).unwrap())
        })
        .collect();
    insta::assert_json_snapshot!("kinds", table);
}

#[test]
fn what_nobody_said_is_ignored() {
    let keys = message!(sender_key_distribution_message: fields!(m::SenderKeyDistributionMessage { group_id: s(GROUP) }));
    let plain = info();
    for (message, info) in [
        (
            text("x"),
            Info {
                is_peer: true,
                ..plain.clone()
            },
        ),
        (
            text("x"),
            Info {
                is_from_me: true,
                ..plain.clone()
            },
        ),
        (
            text("x"),
            Info {
                chat: Address::Status,
                ..plain.clone()
            },
        ),
        (keys.clone(), plain.clone()),
        (
            message!(protocol_message: protocol(Type::EPHEMERAL_SETTING)),
            plain.clone(),
        ),
        (
            message!(protocol_message: protocol(Type::APP_STATE_SYNC_KEY_SHARE)),
            plain.clone(),
        ),
        (
            message!(protocol_message: protocol(Type::MESSAGE_EDIT)),
            plain.clone(),
        ),
    ] {
        assert!(
            matches!(classify(&message, &info), Classified::Ignore(_)),
            "{message:?}"
        );
    }
    let with_words = Message {
        conversation: s("first words"),
        ..keys
    };
    assert_eq!(draft(&with_words).content, "first words");
}

#[test]
fn a_reply_carries_what_it_answers() {
    let message = with_context(
        "yes @15550000000",
        ContextInfo {
            stanza_id: s("Q1"),
            participant: s("15551230002:3@s.whatsapp.net"),
            quoted_message: some(image(Some("shall we?"))),
            mentioned_jid: vec![ME.to_owned(), "nonsense".to_owned()],
            is_forwarded: Some(true),
            forwarding_score: Some(2),
            ..ContextInfo::default()
        },
    );
    let draft = draft(&message);
    assert_eq!(
        draft.reply_to,
        Some(Quoted {
            stanza_id: "Q1".to_owned(),
            sender: Some(BOB.parse().unwrap()),
            text: s("shall we?"),
        })
    );
    assert_eq!(draft.mentions, [ME.parse().unwrap()]);
    assert_eq!(draft.metadata["forwarding_score"], "2");
}

#[test]
fn nesting_without_end_comes_to_an_end() {
    let mut message = text("deep");
    for _ in 0..200 {
        message = Message {
            ephemeral_message: future(message),
            ..Message::default()
        };
    }
    assert!(draft(&message).metadata.contains_key("unsupported_kind"));
    let mut quoted = text("deep");
    for _ in 0..200 {
        let context = ContextInfo {
            stanza_id: s("Q"),
            quoted_message: some(quoted),
            ..ContextInfo::default()
        };
        quoted = with_context("again", context);
    }
    assert_eq!(draft(&quoted).reply_to.unwrap().text, s("again"));
    let mut comment = text("deep");
    for _ in 0..200 {
        comment = message!(comment_message: fields!(m::CommentMessage { message: some(comment) }));
    }
    assert!(draft(&comment).metadata.contains_key("unsupported_kind"));
}

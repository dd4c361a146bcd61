use proptest::prelude::*;
use serde_json::json;
use unicode_segmentation::UnicodeSegmentation;
use waproto::codec::message_decode;

use super::split::split;
use super::*;
use crate::identity::Address;

pub(super) const ANN: &str = "15551230001@s.whatsapp.net";
pub(super) const GROUP: &str = "120363000000000001@g.us";

pub(super) fn peer(jid: &str) -> Peer {
    let address: Address = jid.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(&dir.path().join("channel.db")).unwrap();
    store.resolve(vec![address]).wait().unwrap()
}

pub(super) fn message(content: &str, metadata: &[(&str, &str)]) -> OutboundMessage {
    OutboundMessage {
        content: content.to_owned(),
        metadata: metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..OutboundMessage::default()
    }
}

pub(super) fn config(chunk: u32) -> Config {
    Config::parse(&json!({"text_chunk_chars": chunk}))
        .unwrap()
        .config
}

fn original() -> Option<Kept> {
    Some(kept(&text("the question"), None))
}

/// A message of Ann's, and the one that edited it.
pub(super) fn kept(body: &wa::Message, edit: Option<&wa::Message>) -> Kept {
    Kept {
        id: "M1".to_owned(),
        sender: Some(ANN.parse().unwrap()),
        own: None,
        raw: Some(message_to_vec(body)),
        edit: edit.map(message_to_vec),
        file: None,
        at: 0,
    }
}

fn built(message: &OutboundMessage, to: &str) -> Vec<wa::Message> {
    let built = build(
        message,
        &[],
        &config(4000),
        &peer(to),
        original(),
        &Known::default(),
        true,
    )
    .unwrap();
    built
        .parts
        .iter()
        .map(|part| message_decode(&part.payload).unwrap())
        .collect()
}

#[test]
fn plain_text_is_a_plain_message() {
    let parts = built(&message("hello", &[]), ANN);
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].conversation.as_deref(), Some("hello"));
    assert!(!parts[0].extended_text_message.is_set());
}

#[test]
fn without_content_nothing_is_sent() {
    for content in ["", " ", "\n\t "] {
        assert!(built(&message(content, &[]), ANN).is_empty(), "{content:?}");
    }
}

#[test]
fn answers_quote_in_groups_and_on_request() {
    let reply = ("reply_to_message_id", "M1");
    for (to, metadata, quotes) in [
        (GROUP, vec![reply], true),
        (GROUP, vec![reply, ("quote", "false")], false),
        (GROUP, vec![], false),
        (ANN, vec![reply], false),
        (ANN, vec![reply, ("quote", "true")], true),
    ] {
        let part = built(&message("the answer", &metadata), to).remove(0);
        let context = &part.extended_text_message.context_info;
        assert_eq!(context.stanza_id.is_some(), quotes, "{to} {metadata:?}");
        if quotes {
            assert_eq!(context.stanza_id.as_deref(), Some("M1"));
            assert_eq!(context.participant.as_deref(), Some(ANN));
            assert!(context.quoted_message.is_set());
        }
    }
}

#[test]
fn only_the_first_part_quotes() {
    let text = "word ".repeat(20);
    let message = message(&text, &[("reply_to_message_id", "M1")]);
    let built = build(
        &message,
        &[],
        &config(30),
        &peer(GROUP),
        original(),
        &Known::default(),
        false,
    )
    .unwrap();
    let quoting: Vec<bool> = built
        .parts
        .iter()
        .map(|part| {
            message_decode(&part.payload)
                .unwrap()
                .extended_text_message
                .is_set()
        })
        .collect();
    assert_eq!(quoting, [true, false, false, false]);
}

#[test]
fn an_original_that_cannot_be_read_is_not_quoted() {
    let broken = Kept {
        raw: Some(vec![0xff; 9]),
        ..original().unwrap()
    };
    let ours = Kept {
        sender: None,
        ..original().unwrap()
    };
    for quoted in [None, Some(broken), Some(ours)] {
        let message = message("text", &[("reply_to_message_id", "M1")]);
        let built = build(
            &message,
            &[],
            &config(4000),
            &peer(GROUP),
            quoted,
            &Known::default(),
            false,
        )
        .unwrap();
        let part = message_decode(&built.parts[0].payload).unwrap();
        assert_eq!(part.conversation.as_deref(), Some("text"));
    }
}

/// What a reply in a group quotes of this message.
fn quoted(original: Kept) -> Option<wa::Message> {
    let message = message("the answer", &[("reply_to_message_id", "M1")]);
    let (config, to, known) = (config(4000), peer(GROUP), Known::default());
    let built = build(&message, &[], &config, &to, Some(original), &known, false).unwrap();
    let part = message_decode(&built.parts[0].payload).unwrap();
    let context = &part.extended_text_message.context_info;
    let quoted = context.quoted_message.as_option()?.clone();
    assert_eq!(context.stanza_id.as_deref(), Some("M1"));
    Some(quoted)
}

pub(super) fn text(text: &str) -> wa::Message {
    wa::Message {
        conversation: Some(text.to_owned()),
        ..wa::Message::default()
    }
}

/// An edit to this, as it comes.
pub(super) fn edit_to(new: wa::Message) -> wa::Message {
    wa::Message {
        protocol_message: wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::MESSAGE_EDIT),
            edited_message: new.into(),
            ..wa::message::ProtocolMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}

#[test]
fn a_message_is_quoted_as_it_reads_now() {
    let edit = edit_to(text("the new question"));
    let wrapped = wa::Message {
        edited_message: wa::message::FutureProofMessage {
            message: edit.clone().into(),
        }
        .into(),
        ..wa::Message::default()
    };
    let old = text("the question");
    for edit in [&edit, &wrapped] {
        let lost = Kept {
            raw: None,
            ..kept(&old, Some(edit))
        };
        for original in [kept(&old, Some(edit)), lost] {
            assert_eq!(quoted(original), Some(text("the new question")));
        }
        // It was somebody else's to change.
        assert_eq!(quoted(kept(edit, None)), None);
    }
    // A medium keeps all but its caption, and what is seen once shows nothing of either.
    let photo = |caption: &str, once| wa::Message {
        image_message: wa::message::ImageMessage {
            url: Some("https://mmg.whatsapp.net/x".to_owned()),
            caption: Some(caption.to_owned()),
            view_once: once,
            ..wa::message::ImageMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    let bare = wa::Message {
        image_message: wa::message::ImageMessage {
            caption: Some("a cat".to_owned()),
            ..wa::message::ImageMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    let edit = edit_to(bare);
    let body = quoted(kept(&photo("a dog", None), Some(&edit)));
    assert_eq!(body, Some(photo("a cat", None)));
    let body = quoted(kept(&photo("a dog", Some(true)), Some(&edit))).unwrap();
    assert_eq!(body.image_message.caption, None);
}

#[test]
fn what_stands_in_no_chat_is_not_quoted_and_no_secret_is_given_on() {
    let reaction = wa::Message {
        reaction_message: wa::message::ReactionMessage::default().into(),
        ..wa::Message::default()
    };
    let revocation = wa::Message {
        protocol_message: wa::message::ProtocolMessage::default().into(),
        ..wa::Message::default()
    };
    let vote = wa::Message {
        poll_update_message: wa::message::PollUpdateMessage::default().into(),
        ..wa::Message::default()
    };
    for body in [reaction, revocation, vote] {
        assert_eq!(quoted(kept(&body, None)), None, "{body:?}");
    }
    let photo = |url: Option<&str>, caption: Option<&str>, once| wa::Message {
        image_message: wa::message::ImageMessage {
            url: url.map(str::to_owned),
            media_key: url.map(|_| vec![1; 32]),
            caption: caption.map(str::to_owned),
            view_once: once,
            ..wa::message::ImageMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    let url = Some("https://mmg.whatsapp.net/x");
    let mut plain = photo(url, Some("a dog"), None);
    let body = quoted(kept(&plain, None)).unwrap();
    assert_eq!(body, plain);
    let once = photo(url, Some("a dog"), Some(true));
    let wrapped = wa::Message {
        view_once_message_v2: wa::message::FutureProofMessage {
            message: plain.clone().into(),
        }
        .into(),
        ..wa::Message::default()
    };
    for once in [once, wrapped] {
        let body = quoted(kept(&once, None)).unwrap();
        assert_eq!(body, photo(None, None, Some(true)));
    }
    plain.message_context_info = wa::MessageContextInfo {
        message_secret: Some(vec![7; 32]),
        ..wa::MessageContextInfo::default()
    }
    .into();
    let body = quoted(kept(&plain, None)).unwrap();
    assert!(!body.message_context_info.is_set());
}

#[test]
fn what_cannot_be_done_is_named_or_an_error() {
    let message = message("text", &[("action", "dance")]);
    let (config, to) = (config(4000), peer(ANN));
    let degraded = build(&message, &[], &config, &to, None, &Known::default(), true).unwrap();
    assert_eq!(degraded.parts.len(), 1);
    assert_eq!(degraded.degraded, ["action \"dance\": not supported"]);
    let error = build(&message, &[], &config, &to, None, &Known::default(), false).unwrap_err();
    assert_eq!(error.code(), "unsupported_action");
}

#[test]
fn whether_to_quote_is_yes_or_no() {
    let message = message("text", &[("reply_to_message_id", "M1"), ("quote", "maybe")]);
    let (config, to, known) = (config(4000), peer(GROUP), Known::default());
    let built = |degrade| build(&message, &[], &config, &to, original(), &known, degrade);
    let degraded = built(true).unwrap();
    let named = "metadata.quote is true or false, not \"maybe\"";
    assert_eq!(degraded.degraded, [named]);
    let part = message_decode(&degraded.parts[0].payload).unwrap();
    assert!(part.extended_text_message.context_info.stanza_id.is_some());
    let error = built(false).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("invalid_metadata", named)
    );
}

#[test]
fn numbers_behind_an_at_sign_are_mentions() {
    for (text, sent, jids) in [
        ("@+15551230001 hi", "@15551230001 hi", vec![ANN]),
        (
            "(@+15551230001), @+15551230001 and @+4915112345678!",
            "(@15551230001), @15551230001 and @4915112345678!",
            vec![ANN, "4915112345678@s.whatsapp.net"],
        ),
        ("mail me@+15551230001", "mail me@+15551230001", vec![]),
        (
            "@+123 @+ @+0155512300012",
            "@+123 @+ @+0155512300012",
            vec![],
        ),
        (
            "`@+15551230001` ```\n@+15551230001\n``` https://example.org/@+15551230001",
            "`@+15551230001` ```\n@+15551230001\n``` https://example.org/@+15551230001",
            vec![],
        ),
        (
            "`a` @+15551230001 `b\n@+0015551230001",
            "`a` @15551230001 `b\n@+0015551230001",
            vec![ANN],
        ),
        (
            "1@+15551230001@+15551230001",
            "1@+15551230001@+15551230001",
            vec![],
        ),
    ] {
        let (resolved, mentioned) = mentions::resolve(text, &Forms::new());
        assert_eq!(
            (resolved.as_str(), mentioned),
            (sent, jids.iter().map(ToString::to_string).collect())
        );
    }
    let part = built(&message("hello @+15551230001", &[]), GROUP).remove(0);
    assert_eq!(
        part.extended_text_message.text.as_deref(),
        Some("hello @15551230001")
    );
    assert_eq!(part.extended_text_message.context_info.mentioned_jid, [ANN]);
}

#[test]
fn the_hash_tells_contents_apart_and_nothing_else() {
    let hash =
        |message: &OutboundMessage, to| content_hash(message, &message.attachments, &peer(to));
    let one = hash(
        &message("a", &[("idempotency_key", "1"), ("conversation_id", ANN)]),
        ANN,
    );
    assert_eq!(
        one,
        hash(
            &message(
                "a",
                &[
                    ("idempotency_key", "2"),
                    ("conversation_id", "+15551230001")
                ]
            ),
            ANN
        )
    );
    assert_ne!(one, hash(&message("b", &[]), ANN));
    assert_ne!(one, hash(&message("a", &[]), GROUP));
    assert_ne!(one, hash(&message("a", &[("quote", "true")]), ANN));
}

#[test]
fn cuts_are_made_at_the_best_place() {
    for (text, limit, parts) in [
        ("short", 10, vec!["short"]),
        ("exactly 10", 10, vec!["exactly 10"]),
        ("one two three", 8, vec!["one two", "three"]),
        ("one two", 3, vec!["one", "two"]),
        (
            "abc def.\n\nghi jkl mno",
            16,
            vec!["abc def.", "ghi jkl mno"],
        ),
        (
            "abcd efgh\nijkl mnop qrst",
            18,
            vec!["abcd efgh", "ijkl mnop qrst"],
        ),
        (
            "Hello there. How are you doing",
            20,
            vec!["Hello there.", "How are you doing"],
        ),
        (
            "list:\n  - indented line",
            9,
            vec!["list:", "  -", "indented", "line"],
        ),
        ("abcdefghij", 4, vec!["abcd", "efgh", "ij"]),
        ("a\u{a0}b c", 4, vec!["a\u{a0}b", "c"]),
        ("👨‍👩‍👧👨‍👩‍👧", 6, vec!["👨‍👩‍👧", "👨‍👩‍👧"]),
        ("👨‍👩‍👧x", 2, vec!["👨‍👩‍👧", "x"]),
        ("          word", 4, vec!["word"]),
    ] {
        assert_eq!(split(text, limit), parts, "{text:?} at {limit}");
    }
}

#[test]
fn fences_are_not_torn_or_torn_with_care() {
    let table = "```\nName | Price\nTea  |     3\n```";
    for (text, limit, parts) in [
        // It fits into a part of its own.
        (
            format!("Here is the list of it all:\n\n{table}\nand so on"),
            50,
            vec![
                "Here is the list of it all:".to_owned(),
                format!("{table}\nand so on"),
            ],
        ),
        (
            "```\nfn one() {}\n\n  fn two() {}\nfn three() {}\n```".to_owned(),
            36,
            vec![
                "```\nfn one() {}\n\n  fn two() {}\n```".to_owned(),
                "```\nfn three() {}\n```".to_owned(),
            ],
        ),
        (
            format!("```{}```", "x".repeat(40)),
            36,
            vec![
                format!("```{}\n```", "x".repeat(29)),
                format!("```\n{}```", "x".repeat(11)),
            ],
        ),
        // Not closed: no fence.
        (
            format!("```{}", "x".repeat(40)),
            36,
            vec![format!("```{}", "x".repeat(33)), "x".repeat(7)],
        ),
    ] {
        assert_eq!(split(&text, limit), parts, "{text:?}");
    }
}

#[test]
fn markdown_is_rendered_unless_the_text_is_plain() {
    let sent = |settings| {
        let config = Config::parse(&settings).unwrap().config;
        let message = message("**hi** `@+15551230001` @+15551230001", &[]);
        let built = build(
            &message,
            &[],
            &config,
            &peer(ANN),
            None,
            &Known::default(),
            false,
        )
        .unwrap();
        let part = message_decode(&built.parts[0].payload).unwrap();
        part.extended_text_message.text.clone().unwrap_or_default()
    };
    assert_eq!(sent(json!({})), "*hi* `@+15551230001` @15551230001");
    assert_eq!(
        sent(json!({"text_format": "plain"})),
        "**hi** `@+15551230001` @15551230001"
    );
}

#[test]
fn typing_follows_the_stages() {
    assert_eq!(
        chatstate(StatusKind::Processing),
        Some(Chatstate::Composing)
    );
    assert_eq!(
        chatstate(StatusKind::OperationFinished),
        Some(Chatstate::Paused)
    );
    assert_eq!(chatstate(StatusKind::Info), None);
    assert_eq!(chatstate(StatusKind::Unknown), None);
}

fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn parts_hold_the_limit_and_lose_nothing(text in "([a-c .!\n\r\u{a0}]|\u{301}|👨‍👩‍👧|é|\\PC){0,200}", limit in 1..60usize) {
        let parts = split(&text, limit);
        let mut from = 0;
        for part in &parts {
            prop_assert!(!part.trim().is_empty());
            let graphemes = part.graphemes(true).count();
            prop_assert!(part.chars().count() <= limit || graphemes == 1, "{part:?} over {limit}");
            // Found in the text, in order, with nothing but white space between, at the ends of graphemes.
            let at = from + text[from..].find(part.as_str()).unwrap();
            prop_assert!(text[from..at].trim().is_empty());
            from = at + part.len();
            let is_boundary = |at| at == text.len() || text.grapheme_indices(true).any(|(i, _)| i == at);
            prop_assert!(is_boundary(at) && is_boundary(from));
        }
        prop_assert!(text[from..].trim().is_empty());
        prop_assert_eq!(parts.iter().map(|part| bare(part)).collect::<String>(), bare(&text));
    }

    #[test]
    fn fences_are_closed_and_opened_again(text in "([a-c]{1,9}|[ \n]|````?[a \n]|é|👨‍👩‍👧){0,120}", limit in 32..90usize) {
        let balanced = |text: &str| {
            let marks = text.split(|c| c != '`').filter(|run| run.len() > 2);
            marks.count() % 2 == 0
        };
        let parts = split(&text, limit);
        let (mut rest, mut opened) = (text.trim_start(), "");
        for part in &parts {
            prop_assert!(part.chars().count() <= limit, "{part:?}");
            prop_assert!(balanced(part) || !balanced(&text), "{part:?}");
            let part = part.strip_prefix(opened).unwrap().trim();
            opened = "";
            let torn = (3..5).find_map(|ticks| {
                let body = part.strip_suffix(&"`".repeat(ticks))?;
                let torn = body.ends_with('\n') && !rest.starts_with(part);
                torn.then(|| (body.trim_end(), ticks))
            });
            let body = torn.map_or(part, |(body, _)| body);
            prop_assert!(rest.starts_with(body), "{part:?} is not at {rest:?}");
            if torn.is_some() {
                let done = &text[..text.len() - rest.len() + body.len()];
                let open = done.split(|c| c != '`').rfind(|run| run.len() > 2).unwrap();
                opened = if open.len() == 3 { "```\n" } else { "````\n" };
            }
            rest = rest[body.len()..].trim_start();
        }
        prop_assert!(rest.is_empty() && opened.is_empty());
    }

    #[test]
    fn mentions_change_nothing_but_the_plus(text in "[@+0-9a z]{0,60}") {
        let (resolved, mentioned) = mentions::resolve(&text, &Forms::new());
        prop_assert!(mentioned.len() <= text.matches("@+").count());
        prop_assert_eq!(resolved.replace('+', ""), text.replace('+', ""));
    }
}

#[test]
fn a_group_that_knows_people_by_lid_is_told_the_lid() {
    let jid = |text: &str| text.parse::<Address>().unwrap();
    let (ann, bob) = (jid(ANN), jid("15551230002@s.whatsapp.net"));
    let number = |address: &Address| format!("@+{}", address.user());
    let text = format!(
        "{} and {}, not `{}`",
        number(&ann),
        number(&bob),
        number(&ann)
    );
    assert_eq!(candidates(&text), [ann.clone(), bob.clone(), ann.clone()]);
    let forms = Forms::from([(ann.clone(), jid("100000000000001@lid"))]);
    let (resolved, mentioned) = mentions::resolve(&text, &forms);
    let expected = format!(
        "@100000000000001 and @{}, not `{}`",
        bob.user(),
        number(&ann)
    );
    assert_eq!(resolved, expected);
    assert_eq!(
        mentioned,
        ["100000000000001@lid".to_owned(), bob.to_string()]
    );
}

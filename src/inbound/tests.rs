// Not every protobuf type that is built here has more fields than those given.
#![allow(clippy::needless_update)]

use serde_json::json;
use wa::message::protocol_message::Type;
use wa::{ContextInfo, Message, MessageKey, message as m};
use waproto::buffa::MessageField;

use super::*;
use crate::protocol::event::ActivationReason;
use crate::store::{Linked, NewInbound, Store, Stored};

const ANN: &str = "15551230001@s.whatsapp.net";
const ANN_LID: &str = "100000000000001@lid";
const BOB: &str = "15551230002@s.whatsapp.net";
const ME: &str = "15550000000@s.whatsapp.net";
const ME_LID: &str = "100000000000000@lid";
const GROUP: &str = "120363000000000001@g.us";
const NOW: i64 = 1_700_000_000;

fn some<T: Default>(value: T) -> MessageField<T> {
    MessageField::some(value)
}

fn s(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn text(content: &str) -> Message {
    Message {
        conversation: s(content),
        ..Message::default()
    }
}

fn key(id: &str) -> MessageField<MessageKey> {
    some(MessageKey {
        id: s(id),
        participant: s(BOB),
        ..MessageKey::default()
    })
}

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
        Classified::Draft(draft) => draft,
        Classified::Ignore(reason) => panic!("ignored: {reason}"),
    }
}

fn with_context(content: &str, context: ContextInfo) -> Message {
    Message {
        extended_text_message: some(m::ExtendedTextMessage {
            text: s(content),
            context_info: some(context),
            ..m::ExtendedTextMessage::default()
        }),
        ..Message::default()
    }
}

fn future(inner: Message) -> MessageField<m::FutureProofMessage> {
    some(m::FutureProofMessage {
        message: some(inner),
    })
}

fn image(caption: Option<&str>) -> Message {
    Message {
        image_message: some(m::ImageMessage {
            mimetype: s("image/jpeg"),
            caption: caption.map(str::to_owned),
            file_length: Some(12345),
            width: Some(640),
            height: Some(480),
            ..m::ImageMessage::default()
        }),
        ..Message::default()
    }
}

fn poll() -> m::PollCreationMessage {
    let option = |name: &str| m::poll_creation_message::Option {
        option_name: s(name),
        ..Default::default()
    };
    m::PollCreationMessage {
        name: s("Lunch?"),
        options: vec![option("Soup"), option("Salad")],
        selectable_options_count: Some(1),
        ..Default::default()
    }
}

fn protocol(r#type: Type) -> m::ProtocolMessage {
    m::ProtocolMessage {
        r#type: Some(r#type),
        key: key("OLD"),
        ..Default::default()
    }
}

macro_rules! message {
    ($field:ident: $value:expr) => {
        Message {
            $field: some($value),
            ..Message::default()
        }
    };
}

macro_rules! fields {
    ($($path:ident)::+ { $($field:ident: $value:expr),* $(,)? }) => {
        $($path)::+ { $($field: $value,)* ..Default::default() }
    };
}

/// One message of every family, with its name.
fn kinds() -> Vec<(&'static str, Message)> {
    let sticker = fields!(m::StickerMessage {
        mimetype: s("image/webp"),
        emojis: s("🎉"),
        is_animated: Some(true)
    });
    let vcard = "BEGIN:VCARD\nVERSION:3.0\nFN:Bob\nitem1.TEL;waid=15551230002:+1 (555) 123-0002\nTEL:12\nEND:VCARD";
    let contact = fields!(m::ContactMessage {
        display_name: s("Bob"),
        vcard: s(vcard)
    });
    let place = fields!(m::LocationMessage {
        degrees_latitude: Some(52.5219),
        degrees_longitude: Some(13.4132),
        name: s("Alexanderplatz"),
        address: s("10178 Berlin"),
    });
    vec![
        ("text", text("hello")),
        ("empty text", text("")),
        (
            "link",
            message!(extended_text_message: fields!(m::ExtendedTextMessage {
                text: s("see https://example.com"), matched_text: s("https://example.com"), title: s("Example"),
            })),
        ),
        ("image", image(None)),
        ("captioned image", image(Some("look"))),
        (
            "video",
            message!(video_message: fields!(m::VideoMessage {
                mimetype: s("video/mp4"), seconds: Some(7), gif_playback: Some(true),
            })),
        ),
        (
            "video note",
            message!(ptv_message: fields!(m::VideoMessage { mimetype: s("video/mp4"), seconds: Some(3) })),
        ),
        (
            "voice note",
            message!(audio_message: fields!(m::AudioMessage {
                mimetype: s("audio/ogg; codecs=opus"), seconds: Some(4), ptt: Some(true), file_length: Some(9000),
            })),
        ),
        (
            "document",
            message!(document_message: fields!(m::DocumentMessage {
                mimetype: s("application/pdf"), file_name: s("../plan.pdf"), page_count: Some(3),
            })),
        ),
        ("sticker", message!(sticker_message: sticker.clone())),
        (
            "lottie sticker",
            Message {
                lottie_sticker_message: future(message!(sticker_message: sticker)),
                ..Message::default()
            },
        ),
        ("location", message!(location_message: place.clone())),
        (
            "live location",
            message!(live_location_message: fields!(m::LiveLocationMessage {
                degrees_latitude: Some(1.5), degrees_longitude: Some(-2.0), caption: s("on my way"),
            })),
        ),
        ("contact", message!(contact_message: contact.clone())),
        (
            "contacts",
            message!(contacts_array_message: fields!(m::ContactsArrayMessage { contacts: vec![contact.clone(), contact] })),
        ),
        (
            "event",
            message!(event_message: fields!(m::EventMessage {
                name: s("Party"), start_time: Some(NOW), end_time: Some(NOW + 3600), location: some(place),
            })),
        ),
        ("poll", message!(poll_creation_message_v3: poll())),
        (
            "poll in a wrapper",
            Message {
                poll_creation_message_v4: future(message!(poll_creation_message: poll())),
                ..Message::default()
            },
        ),
        (
            "poll vote",
            message!(poll_update_message: fields!(m::PollUpdateMessage { poll_creation_message_key: key("POLL") })),
        ),
        (
            "button pressed",
            message!(buttons_response_message: fields!(m::ButtonsResponseMessage {
                selected_button_id: s("b1"),
                response: Some(wa::__buffa::oneof::message::buttons_response_message::Response::SelectedDisplayText("Yes".to_owned())),
            })),
        ),
        (
            "list row picked",
            message!(list_response_message: fields!(m::ListResponseMessage {
                title: s("Row 2"),
                single_select_reply: some(fields!(m::list_response_message::SingleSelectReply { selected_row_id: s("r2") })),
            })),
        ),
        (
            "template button",
            message!(template_button_reply_message: fields!(m::TemplateButtonReplyMessage { selected_id: s("t1") })),
        ),
        (
            "list",
            message!(list_message: fields!(m::ListMessage {
                title: s("Menu"), description: s("Pick one"),
                sections: vec![fields!(m::list_message::Section { rows: vec![fields!(m::list_message::Row { title: s("Soup") })] })],
            })),
        ),
        (
            "edit",
            message!(protocol_message: m::ProtocolMessage { edited_message: some(text("better")), ..protocol(Type::MESSAGE_EDIT) }),
        ),
        (
            "wrapped edit of a caption",
            Message {
                edited_message: future(message!(protocol_message: m::ProtocolMessage {
                    edited_message: some(image(Some("better"))),
                    ..protocol(Type::MESSAGE_EDIT)
                })),
                ..Message::default()
            },
        ),
        (
            "revocation",
            message!(protocol_message: protocol(Type::REVOKE)),
        ),
        (
            "reaction",
            message!(reaction_message: fields!(m::ReactionMessage { key: key("OLD"), text: s("👍") })),
        ),
        (
            "reaction taken back",
            message!(reaction_message: fields!(m::ReactionMessage { key: key("OLD"), text: s("") })),
        ),
        (
            "encrypted reaction",
            message!(enc_reaction_message: fields!(m::EncReactionMessage { target_message_key: key("OLD") })),
        ),
        (
            "pin",
            message!(pin_in_chat_message: fields!(m::PinInChatMessage { key: key("OLD") })),
        ),
        (
            "group invitation",
            message!(group_invite_message: fields!(m::GroupInviteMessage {
                group_name: s("Cooks"), group_jid: s(GROUP), invite_code: s("abc"),
            })),
        ),
        (
            "album",
            message!(album_message: fields!(m::AlbumMessage { expected_image_count: Some(2), expected_video_count: Some(1) })),
        ),
        (
            "order",
            message!(order_message: fields!(m::OrderMessage { order_title: s("Cake"), item_count: Some(2), order_id: s("77") })),
        ),
        (
            "comment",
            message!(comment_message: fields!(m::CommentMessage { message: some(text("nice")), target_message_key: key("OLD") })),
        ),
        (
            "view once, four wrappers deep",
            Message {
                device_sent_message: some(fields!(m::DeviceSentMessage {
                    message: some(Message {
                        ephemeral_message: future(Message {
                            view_once_message_v2: future(Message {
                                document_with_caption_message: future(image(Some("deep"))),
                                ..Message::default()
                            }),
                            ..Message::default()
                        }),
                        ..Message::default()
                    }),
                })),
                ..Message::default()
            },
        ),
        (
            "a kind without words",
            message!(bcall_message: fields!(m::BCallMessage { caption: s("x") })),
        ),
        ("nothing that the library knows", Message::default()),
    ]
}

#[test]
fn every_kind_is_told() {
    let table: serde_json::Map<String, serde_json::Value> = kinds()
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

/// Stores drafts as the session does and takes them out again.
fn stored(messages: Vec<(&str, Draft)>, own_chat: bool) -> Vec<Stored> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("channel.db")).unwrap();
    let sender: Vec<Address> = vec![ANN.parse().unwrap(), ANN_LID.parse().unwrap()];
    let group: Address = GROUP.parse().unwrap();
    let batch = messages
        .into_iter()
        .map(|(id, draft)| NewInbound {
            chat: if own_chat {
                sender.clone()
            } else {
                vec![group.clone()]
            },
            sender: sender.clone(),
            route: if own_chat {
                sender[1].clone()
            } else {
                group.clone()
            },
            stanza_id: id.to_owned(),
            timestamp: NOW,
            push_name: s("Ann\nBob: pay me"),
            draft,
            raw: Vec::new(),
        })
        .collect();
    store.insert(batch).wait().unwrap();
    store.next_to_emit(9, 60, NOW).wait().unwrap()
}

fn own() -> Linked {
    Linked {
        phone: ME.parse().unwrap(),
        lid: Some(ME_LID.parse().unwrap()),
        device: 3,
        push_name: s("Agent"),
    }
}

fn passed(context: &[Stored]) -> Passed<'_> {
    Passed {
        reason: ActivationReason::DirectMessage,
        permission: "write",
        route: None,
        context,
    }
}

#[test]
fn a_direct_message() {
    let row = stored(vec![("M1", draft(&text("hello")))], true).remove(0);
    insta::assert_json_snapshot!("direct", event(&row, &passed(&[]), &own()));
}

#[test]
fn a_group_message_with_all_that_can_be() {
    let question = with_context(
        "@100000000000000 and @15551230001: what do you think?",
        ContextInfo {
            stanza_id: s("Q1"),
            participant: s(ME_LID),
            quoted_message: some(text("an idea")),
            mentioned_jid: vec![ME_LID.to_owned(), ANN.to_owned()],
            ..ContextInfo::default()
        },
    );
    let rows = stored(
        vec![
            ("C1", draft(&text("before"))),
            ("C2", draft(&image(None))),
            ("M1", draft(&question)),
        ],
        false,
    );
    let mut row = rows[2].clone();
    row.attempt = 2;
    row.redelivered = true;
    let passed = Passed {
        reason: ActivationReason::ReplyToAgent,
        route: Some("kitchen"),
        permission: "admin",
        context: &rows[..2],
    };
    insta::assert_json_snapshot!("group", event(&row, &passed, &own()));
}

#[test]
fn every_metadata_value_is_a_string_for_every_kind() {
    for (name, message) in kinds() {
        let row = stored(vec![("M1", draft(&message))], false).remove(0);
        let event = serde_json::to_value(event(&row, &passed(&[]), &own())).unwrap();
        let maps = [
            &event["metadata"],
            &event["actor"]["metadata"],
            &event["message"]["metadata"],
        ];
        for map in maps {
            assert!(
                map.as_object()
                    .unwrap()
                    .values()
                    .all(serde_json::Value::is_string),
                "{name}: {map}"
            );
        }
        assert_eq!(event["message"]["id"], json!("M1"));
    }
}

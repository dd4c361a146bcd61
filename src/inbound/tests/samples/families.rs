use super::*;

/// One message of every family, with its name.
pub(super) fn all() -> Vec<(&'static str, Message)> {
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
            "revocation by an admin",
            message!(protocol_message: m::ProtocolMessage {
                key: some(MessageKey { id: s("OLD"), from_me: Some(false), participant: s(BOB), ..MessageKey::default() }),
                ..protocol(Type::REVOKE)
            }),
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

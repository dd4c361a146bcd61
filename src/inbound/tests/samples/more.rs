use super::*;

/// Messages of the kinds that calls, channels, statuses and WhatsApp's AI add.
pub(super) fn all() -> Vec<(&'static str, Message)> {
    let mut all = around();
    all.extend(closed());
    all
}

fn around() -> Vec<(&'static str, Message)> {
    vec![
        (
            "sticker pack",
            message!(sticker_pack_message: fields!(m::StickerPackMessage {
                name: s("Cats"), publisher: s("Ann"), stickers: vec![m::sticker_pack_message::Sticker::default(); 2],
            })),
        ),
        (
            "invitation to an event",
            message!(event_invite_message: fields!(m::EventInviteMessage {
                event_title: s("Party"), start_time: Some(NOW), event_id: s("E1"),
            })),
        ),
        (
            "invitation to run a channel",
            message!(newsletter_admin_invite_message: fields!(m::NewsletterAdminInviteMessage {
                newsletter_jid: s("120363000000000009@newsletter"), newsletter_name: s("News"), invite_expiration: Some(NOW),
            })),
        ),
        (
            "invitation to a channel",
            message!(newsletter_follower_invite_message_v2: fields!(m::NewsletterFollowerInviteMessage { newsletter_name: s("News") })),
        ),
        (
            "call that was missed",
            message!(call_log_messsage: fields!(m::CallLogMessage {
                is_video: Some(true), call_outcome: Some(m::call_log_message::CallOutcome::MISSED),
            })),
        ),
        (
            "call to come",
            message!(scheduled_call_creation_message: fields!(m::ScheduledCallCreationMessage {
                title: s("Planning"), scheduled_timestamp_ms: Some(NOW * 1000),
            })),
        ),
        (
            "call to come cancelled",
            message!(scheduled_call_edit_message: fields!(m::ScheduledCallEditMessage {
                key: key("OLD"), edit_type: Some(m::scheduled_call_edit_message::EditType::CANCEL),
            })),
        ),
        (
            "pin taken back",
            message!(pin_in_chat_message: fields!(m::PinInChatMessage {
                key: key("OLD"), r#type: Some(m::pin_in_chat_message::Type::UNPIN_FOR_ALL),
            })),
        ),
        (
            "kept",
            message!(keep_in_chat_message: fields!(m::KeepInChatMessage {
                key: key("OLD"), keep_type: Some(wa::KeepType::KEEP_FOR_ALL), timestamp_ms: Some(NOW * 1000),
            })),
        ),
        (
            "kept no longer",
            message!(keep_in_chat_message: fields!(m::KeepInChatMessage {
                key: key("OLD"), keep_type: Some(wa::KeepType::UNDO_KEEP_FOR_ALL),
            })),
        ),
        (
            "number wanted",
            message!(request_phone_number_message: m::RequestPhoneNumberMessage::default()),
        ),
        (
            "number given",
            message!(protocol_message: protocol(Type::SHARE_PHONE_NUMBER)),
        ),
        (
            "mentioned in a status",
            Message {
                status_mention_message: future(
                    message!(protocol_message: protocol(Type::STATUS_MENTION_MESSAGE)),
                ),
                ..Message::default()
            },
        ),
        (
            "shown on the phone only",
            message!(placeholder_message: m::PlaceholderMessage::default()),
        ),
        (
            "poll result",
            message!(poll_result_snapshot_message: fields!(m::PollResultSnapshotMessage {
                name: s("Lunch?"),
                poll_votes: vec![fields!(m::poll_result_snapshot_message::PollVote {
                    option_name: s("Soup"), option_vote_count: Some(3),
                })],
            })),
        ),
        (
            "option added to a poll",
            message!(poll_add_option_message: fields!(m::PollAddOptionMessage {
                poll_creation_message_key: key("POLL"),
                add_option: some(fields!(m::poll_creation_message::Option { option_name: s("Cake") })),
            })),
        ),
        (
            "answer of the AI",
            message!(rich_response_message: fields!(wa::AIRichResponseMessage {
                submessages: vec![
                    fields!(wa::AIRichResponseSubMessage { message_text: s("Like this:") }),
                    fields!(wa::AIRichResponseSubMessage {
                        code_metadata: some(fields!(wa::AIRichResponseCodeMetadata {
                            code_language: s("rust"),
                            code_blocks: vec![fields!(wa::ai_rich_response_code_metadata::AIRichResponseCodeBlock {
                                code_content: s("fn main() {}"),
                            })],
                        })),
                    }),
                ],
            })),
        ),
        (
            "status shared on",
            message!(status_notification_message: fields!(m::StatusNotificationMessage {
                original_message_key: key("OLD"),
                r#type: Some(m::status_notification_message::StatusNotificationType::STATUS_RESHARE),
            })),
        ),
        (
            "answer to a status's question",
            message!(status_question_answer_message: fields!(m::StatusQuestionAnswerMessage { key: key("OLD"), text: s("42") })),
        ),
        (
            "answer to a channel's question",
            message!(question_response_message: fields!(m::QuestionResponseMessage { key: key("OLD"), text: s("42") })),
        ),
        (
            "answer to a status, shared on",
            message!(status_quoted_message: fields!(m::StatusQuotedMessage { text: s("42"), original_status_id: key("OLD") })),
        ),
        (
            "sticker on a status",
            message!(status_sticker_interaction_message: fields!(m::StatusStickerInteractionMessage { key: key("OLD") })),
        ),
        (
            "reply to a status",
            with_context(
                "nice",
                ContextInfo {
                    stanza_id: s("Q1"),
                    remote_jid: s("status@broadcast"),
                    quoted_message: some(image(None)),
                    ..ContextInfo::default()
                },
            ),
        ),
        (
            "forwarded from a channel, disappearing, for everyone",
            with_context(
                "@all look",
                ContextInfo {
                    is_forwarded: Some(true),
                    forwarding_score: Some(1),
                    expiration: Some(86_400),
                    non_jid_mentions: Some(1),
                    group_mentions: vec![wa::GroupMention {
                        group_jid: s(GROUP),
                        group_subject: s("Cooks"),
                    }],
                    forwarded_newsletter_message_info: some(fields!(
                        wa::context_info::ForwardedNewsletterMessageInfo {
                            newsletter_name: s("News"),
                            newsletter_jid: s("120363000000000009@newsletter"),
                        }
                    )),
                    ..ContextInfo::default()
                },
            ),
        ),
        (
            "from an advertisement",
            with_context(
                "Is it still there?",
                ContextInfo {
                    external_ad_reply: some(fields!(wa::context_info::ExternalAdReplyInfo {
                        title: s("Bicycle"),
                        source_url: s("https://example.com/ad"),
                    })),
                    ..ContextInfo::default()
                },
            ),
        ),
        (
            "status of a group",
            Message {
                group_status_message_v2: future(text("hello, all")),
                ..Message::default()
            },
        ),
        (
            "picture of an album",
            beside("ALBUM", Association::MEDIA_ALBUM),
        ),
        (
            "the same picture in better quality",
            Message {
                associated_child_message: future(beside("OLD", Association::HD_IMAGE_DUAL_UPLOAD)),
                ..Message::default()
            },
        ),
    ]
}

use wa::message_association::AssociationType as Association;

fn beside(parent: &str, kind: Association) -> Message {
    Message {
        message_context_info: some(fields!(wa::MessageContextInfo {
            message_association: some(wa::MessageAssociation {
                association_type: Some(kind),
                parent_message_key: key(parent),
                ..Default::default()
            }),
        })),
        ..image(None)
    }
}

fn closed() -> Vec<(&'static str, Message)> {
    use m::secret_encrypted_message::SecretEncType;
    vec![
        (
            "encrypted edit",
            message!(secret_encrypted_message: fields!(m::SecretEncryptedMessage {
                target_message_key: key("OLD"), secret_enc_type: Some(SecretEncType::MESSAGE_EDIT),
            })),
        ),
        (
            "encrypted comment",
            message!(enc_comment_message: fields!(m::EncCommentMessage { target_message_key: key("OLD") })),
        ),
        (
            "encrypted answer to an event",
            message!(enc_event_response_message: fields!(m::EncEventResponseMessage { event_creation_message_key: key("OLD") })),
        ),
        (
            "scheduled message",
            message!(conditional_reveal_message: m::ConditionalRevealMessage::default()),
        ),
        (
            "edit that was decrypted",
            message!(protocol_message: m::ProtocolMessage {
                r#type: None,
                edited_message: some(text("better")),
                timestamp_ms: Some(NOW * 1000),
                ..protocol(Type::MESSAGE_EDIT)
            }),
        ),
    ]
}

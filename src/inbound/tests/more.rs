use wa::__buffa::oneof;

use super::*;

fn money(value: i64) -> MessageField<wa::Money> {
    some(fields!(wa::Money {
        value: Some(value),
        offset: Some(1000),
        currency_code: s("EUR"),
    }))
}

fn hsm(name: &str) -> m::HighlyStructuredMessage {
    fields!(m::HighlyStructuredMessage {
        element_name: s(name),
        params: vec!["Ann".to_owned(), "12".to_owned()],
    })
}

fn filled() -> m::template_message::HydratedFourRowTemplate {
    use oneof::hydrated_template_button::HydratedButton;
    use oneof::message::template_message::hydrated_four_row_template::Title;
    let button = |button: HydratedButton| {
        fields!(wa::HydratedTemplateButton {
            hydrated_button: Some(button)
        })
    };
    fields!(m::template_message::HydratedFourRowTemplate {
        title: Some(Title::HydratedTitleText("Your parcel".to_owned())),
        hydrated_content_text: s("It comes today."),
        hydrated_footer_text: s("No reply"),
        hydrated_buttons: vec![
            button(HydratedButton::QuickReplyButton(Box::new(fields!(
                wa::hydrated_template_button::HydratedQuickReplyButton {
                    display_text: s("Fine"),
                    id: s("ok"),
                }
            )))),
            button(HydratedButton::UrlButton(Box::new(fields!(
                wa::hydrated_template_button::HydratedURLButton {
                    display_text: s("Follow it"),
                    url: s("https://example.com/p/1"),
                }
            )))),
            button(HydratedButton::CallButton(Box::new(fields!(
                wa::hydrated_template_button::HydratedCallButton {
                    display_text: s("Call us"),
                    phone_number: s("+15551230009"),
                }
            )))),
        ],
    })
}

fn card(title: &str) -> m::InteractiveMessage {
    use oneof::message::interactive_message::InteractiveMessage as Part;
    let button = |json: &str| {
        fields!(
            m::interactive_message::native_flow_message::NativeFlowButton {
                name: s("quick_reply"),
                button_params_json: s(json),
            }
        )
    };
    fields!(m::InteractiveMessage {
        header: some(fields!(m::interactive_message::Header { title: s(title) })),
        body: some(fields!(m::interactive_message::Body {
            text: s("Choose one")
        })),
        interactive_message: Some(Part::NativeFlowMessage(Box::new(fields!(
            m::interactive_message::NativeFlowMessage {
                buttons: vec![
                    button(r#"{"display_text":"Soup","id":"1"}"#),
                    button("not JSON"),
                ],
            }
        )))),
    })
}

/// Messages of the kinds that businesses, channels, statuses and WhatsApp's AI add.
pub(super) fn all() -> Vec<(&'static str, Message)> {
    let mut all = business();
    all.extend(payments());
    all.extend(around());
    all.extend(closed());
    all
}

fn business() -> Vec<(&'static str, Message)> {
    use oneof::message::interactive_message::InteractiveMessage as Part;
    use oneof::message::interactive_response_message::InteractiveResponseMessage as Answer;
    use oneof::message::template_message::Format;
    let picture = || image(None).image_message;
    vec![
        (
            "buttons under a picture",
            message!(buttons_message: fields!(m::ButtonsMessage {
                header: Some(oneof::message::buttons_message::Header::ImageMessage(Box::new(picture().into_option().unwrap()))),
                content_text: s("Coming?"),
                buttons: vec![fields!(m::buttons_message::Button {
                    button_id: s("y"),
                    button_text: some(fields!(m::buttons_message::button::ButtonText { display_text: s("Yes") })),
                })],
            })),
        ),
        (
            "template, filled in",
            message!(template_message: fields!(m::TemplateMessage { hydrated_template: some(filled()) })),
        ),
        (
            "template, as a card",
            message!(template_message: fields!(m::TemplateMessage {
                format: Some(Format::InteractiveMessageTemplate(Box::new(card("Offer")))),
            })),
        ),
        (
            "template, in parts",
            message!(template_message: fields!(m::TemplateMessage {
                format: Some(Format::FourRowTemplate(Box::new(fields!(m::template_message::FourRowTemplate {
                    content: some(hsm("welcome")),
                })))),
            })),
        ),
        (
            "template by name",
            message!(highly_structured_message: hsm("welcome")),
        ),
        (
            "card with buttons",
            message!(interactive_message: card("Lunch")),
        ),
        (
            "cards in a row",
            message!(interactive_message: fields!(m::InteractiveMessage {
                interactive_message: Some(Part::CarouselMessage(Box::new(fields!(m::interactive_message::CarouselMessage {
                    cards: vec![card("First"), card("Second")],
                })))),
            })),
        ),
        (
            "form filled in",
            message!(interactive_response_message: fields!(m::InteractiveResponseMessage {
                body: some(fields!(m::interactive_response_message::Body { text: s("Sent") })),
                interactive_response_message: Some(Answer::NativeFlowResponseMessage(Box::new(fields!(
                    m::interactive_response_message::NativeFlowResponseMessage {
                        name: s("flow"), params_json: s(r#"{"size":"L"}"#),
                    }
                )))),
            })),
        ),
        (
            "product",
            message!(product_message: fields!(m::ProductMessage {
                product: some(fields!(m::product_message::ProductSnapshot {
                    product_image: picture(), product_id: s("p1"), title: s("Cake"), description: s("with cherries"),
                    currency_code: s("EUR"), price_amount1000: Some(12_500), url: s("https://example.com/cake"),
                })),
                business_owner_jid: s(BOB),
            })),
        ),
    ]
}

fn payments() -> Vec<(&'static str, Message)> {
    vec![
        (
            "payment",
            message!(send_payment_message: fields!(m::SendPaymentMessage {
                note_message: some(text("for lunch")), request_message_key: key("OLD"),
            })),
        ),
        (
            "payment request",
            message!(request_payment_message: fields!(m::RequestPaymentMessage {
                note_message: some(with_context("lunch", ContextInfo { stanza_id: s("Q1"), ..ContextInfo::default() })),
                amount: money(7_125), request_from: s(BOB), expiry_timestamp: Some(NOW),
            })),
        ),
        (
            "payment request of an old version",
            message!(request_payment_message: fields!(m::RequestPaymentMessage {
                currency_code_iso4217: s("INR"), amount1000: Some(5_000),
            })),
        ),
        (
            "payment request declined",
            message!(decline_payment_request_message: fields!(m::DeclinePaymentRequestMessage { key: key("OLD") })),
        ),
        (
            "payment request withdrawn",
            message!(cancel_payment_request_message: fields!(m::CancelPaymentRequestMessage { key: key("OLD") })),
        ),
        (
            "invoice",
            message!(invoice_message: fields!(m::InvoiceMessage {
                note: s("October"), attachment_mimetype: s("application/pdf"),
                attachment_type: Some(m::invoice_message::AttachmentType::PDF),
            })),
        ),
        (
            "invitation to payments",
            message!(payment_invite_message: fields!(m::PaymentInviteMessage {
                service_type: Some(m::payment_invite_message::ServiceType::UPI),
            })),
        ),
        (
            "payment reminder",
            message!(payment_reminder_message: fields!(m::PaymentReminderMessage {
                description: s("rent"), amount: money(-500), payer_jid: s(BOB),
                status: Some(m::payment_reminder_message::ReminderStatus::ACTIVE),
            })),
        ),
        (
            "bill that is split",
            message!(split_payment_message: fields!(m::SplitPaymentMessage {
                description: s("dinner"), total_amount: money(60_000),
                participants: vec![fields!(m::SplitPaymentParticipant { jid: s(BOB), amount: money(30_000) })],
            })),
        ),
    ]
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

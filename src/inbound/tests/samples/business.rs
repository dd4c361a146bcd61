use wa::__buffa::oneof;

use super::*;

/// Messages of businesses, and about money.
pub(super) fn all() -> Vec<(&'static str, Message)> {
    let mut all = menus();
    all.extend(payments());
    all
}

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

fn menus() -> Vec<(&'static str, Message)> {
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

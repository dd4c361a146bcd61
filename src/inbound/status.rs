//! What goes on around status updates and a channel's questions, and what only a phone shows.

use waproto::whatsapp as wa;

use super::content::{Found, summary, words};

/// An answer to a question in a status.
pub(super) fn answer(answer: &wa::message::StatusQuestionAnswerMessage) -> Found<'_> {
    let mut draft = words(answer.text.as_deref().unwrap_or_default(), "text").about(&answer.key);
    draft.set("reply_to_status", Some("true"));
    (draft, None)
}

/// An answer to a question of a channel.
pub(super) fn channel_answer(answer: &wa::message::QuestionResponseMessage) -> Found<'_> {
    let draft = words(answer.text.as_deref().unwrap_or_default(), "text");
    (draft.about(&answer.key), None)
}

/// An answer to a status, shared on.
pub(super) fn quoted(quoted: &wa::message::StatusQuotedMessage) -> Found<'_> {
    let draft = words(quoted.text.as_deref().unwrap_or_default(), "text");
    let mut draft = draft.about(&quoted.original_status_id);
    draft.set("reply_to_status", Some("true"));
    (draft, None)
}

/// A sticker that somebody put on a status of ours.
pub(super) fn sticker(sticker: &wa::message::StatusStickerInteractionMessage) -> Found<'_> {
    let mut draft = summary("Reacted to a status update with a sticker").about(&sticker.key);
    draft.event_type = "reaction.added".to_owned();
    draft.set("reply_to_status", Some("true"));
    (draft, None)
}

/// What others did with a status of ours.
pub(super) fn notification(notice: &wa::message::StatusNotificationMessage) -> Found<'_> {
    use wa::message::status_notification_message::StatusNotificationType as Type;
    let draft = summary(match notice.r#type {
        Some(Type::STATUS_ADD_YOURS) => "Added to a status update of yours",
        Some(Type::STATUS_RESHARE) => "Shared a status update of yours",
        Some(Type::STATUS_QUESTION_ANSWER_RESHARE) => {
            "Shared an answer of yours to a status update"
        }
        Some(Type::UNKNOWN) | None => "Did something with a status update of yours",
    });
    (draft.about(&notice.original_message_key), None)
}

/// A message that a business lets phones alone show.
pub(super) fn phone_only(_: &wa::message::PlaceholderMessage) -> Found<'_> {
    (
        summary("(a message that WhatsApp shows on the phone only)"),
        None,
    )
}

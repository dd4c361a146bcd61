//! Messages about another message: reactions, comments, and those whose substance is encrypted once more with a
//! secret of the message that they are about.
//!
//! The library opens encrypted edits, reactions and comments when it has kept that secret; they arrive here in the
//! clear then. Votes and answers to events it leaves to us: see [`reveal`](super::reveal).

use waproto::buffa::Enumeration;
use waproto::whatsapp as wa;

use super::content::{self, Found, summary};
use super::draft::Draft;

/// A reaction, or its end: an empty one.
pub(super) fn reaction(reaction: &wa::message::ReactionMessage) -> Found<'_> {
    let mut draft = match reaction.text.as_deref().filter(|text| !text.is_empty()) {
        Some(emoji) => {
            let mut draft = summary(format!("Reacted {emoji} to a message"));
            draft.event_type = "reaction.added".to_owned();
            draft.set("emoji", Some(emoji));
            draft
        }
        None => {
            let mut draft = summary("Took back a reaction to a message");
            draft.event_type = "reaction.removed".to_owned();
            draft
        }
    };
    draft.set("reacted_at", content::time_ms(reaction.sender_timestamp_ms));
    (draft.about(&reaction.key), None)
}

/// A comment. The one inside is read as any message is.
pub(super) fn comment(comment: &wa::message::CommentMessage) -> Result<Found<'_>, &'static str> {
    let mut draft = content::within(&comment.message);
    draft.event_type = COMMENTED.to_owned();
    Ok((draft.about(&comment.target_message_key), None))
}

pub(super) const COMMENTED: &str = "message.commented";

/// A reaction that stayed closed.
pub(super) fn encrypted_reaction(closed: &wa::message::EncReactionMessage) -> Found<'_> {
    sealed_change(
        "reaction.added",
        "Reacted to a message",
        &closed.target_message_key,
    )
}

/// A comment that stayed closed.
pub(super) fn encrypted_comment(closed: &wa::message::EncCommentMessage) -> Found<'_> {
    sealed_change(
        COMMENTED,
        "Commented on a message; the comment could not be decrypted",
        &closed.target_message_key,
    )
}

/// An answer to an event.
pub(super) fn event_response(closed: &wa::message::EncEventResponseMessage) -> Found<'_> {
    sealed_change(
        "message.event_answered",
        "Answered an invitation to an event",
        &closed.event_creation_message_key,
    )
}

/// An edit that stayed closed.
pub(super) fn encrypted_edit(closed: &wa::message::SecretEncryptedMessage) -> Found<'_> {
    use wa::message::secret_encrypted_message::SecretEncType as Type;
    let (event_type, content) = match closed.secret_enc_type {
        Some(Type::MESSAGE_EDIT) => (
            "message.edited",
            "Edited a message; what it says now could not be decrypted",
        ),
        Some(Type::EVENT_EDIT) => (
            "message.edited",
            "Changed an event; what it says now could not be decrypted",
        ),
        Some(Type::POLL_EDIT) => (
            "message.edited",
            "Changed a poll; what it says now could not be decrypted",
        ),
        Some(Type::POLL_ADD_OPTION) => (
            "message.edited",
            "Added an option to a poll; it could not be decrypted",
        ),
        Some(Type::MESSAGE_SCHEDULE) => ("message.received", "Scheduled a message"),
        Some(Type::UNKNOWN) | None => ("message.received", "Sent an encrypted message"),
    };
    let (mut draft, context) = sealed_change(event_type, content, &closed.target_message_key);
    let kind = closed.secret_enc_type.unwrap_or(Type::UNKNOWN);
    draft.set(ENCRYPTED_KIND, Some(kind.proto_name().to_ascii_lowercase()));
    (draft, context)
}

/// A message that is sent now and opens later.
pub(super) fn sealed(_: &wa::message::ConditionalRevealMessage) -> Found<'_> {
    let mut draft = summary("Scheduled a message; it cannot be read before its time");
    draft.set(ENCRYPTED, Some("true"));
    (draft, None)
}

/// Marks a draft whose substance could not be read.
pub(super) const ENCRYPTED: &str = "encrypted";
/// What the substance is: `message_edit`, `event_edit` and so on.
pub(super) const ENCRYPTED_KIND: &str = "encrypted_kind";

fn sealed_change<'a>(event_type: &str, content: &str, key: &wa::MessageKey) -> Found<'a> {
    let mut draft: Draft = summary(content).about(key);
    draft.event_type = event_type.to_owned();
    draft.set(ENCRYPTED, Some("true"));
    (draft, None)
}

//! Messages about another message: edits, revocations, reactions, votes.

use waproto::whatsapp as wa;

use super::content::{self, summary};
use super::draft::Draft;
use super::unwrap;

/// The change that an unwrapped message makes, if it makes one.
pub(super) fn draft(message: &wa::Message) -> Option<Draft> {
    protocol(message)
        .or_else(|| reaction(message))
        .or_else(|| encrypted(message))
}

fn protocol(message: &wa::Message) -> Option<Draft> {
    use wa::message::protocol_message::Type;
    let protocol = message.protocol_message.as_option()?;
    match protocol.r#type? {
        Type::MESSAGE_EDIT => {
            let (edited, _) = unwrap::peel(protocol.edited_message.as_option()?);
            let mut draft = content::draft(edited);
            draft.event_type = "message.edited".to_owned();
            Some(about(draft, &protocol.key))
        }
        Type::REVOKE => {
            let mut draft = summary("(deleted a message)".to_owned());
            draft.event_type = "message.revoked".to_owned();
            Some(about(draft, &protocol.key))
        }
        _ => None,
    }
}

fn reaction(message: &wa::Message) -> Option<Draft> {
    let reaction = message.reaction_message.as_option()?;
    let draft = match reaction.text.as_deref().filter(|text| !text.is_empty()) {
        Some(emoji) => {
            let mut draft = summary(format!("Reacted {emoji} to a message"));
            draft.event_type = "reaction.added".to_owned();
            draft.metadata.insert("emoji".to_owned(), emoji.to_owned());
            draft
        }
        None => {
            let mut draft = summary("Took back a reaction to a message".to_owned());
            draft.event_type = "reaction.removed".to_owned();
            draft
        }
    };
    Some(about(draft, &reaction.key))
}

/// Changes whose substance is encrypted once more, with a secret of the message that they are about.
fn encrypted(message: &wa::Message) -> Option<Draft> {
    let (event_type, text, key) = if let Some(vote) = message.poll_update_message.as_option() {
        (
            "poll.vote",
            "Voted in a poll",
            &vote.poll_creation_message_key,
        )
    } else if let Some(reaction) = message.enc_reaction_message.as_option() {
        (
            "reaction.added",
            "Reacted to a message",
            &reaction.target_message_key,
        )
    } else if let Some(comment) = message.enc_comment_message.as_option() {
        (
            "message.received",
            "Commented on a message",
            &comment.target_message_key,
        )
    } else if let Some(answer) = message.enc_event_response_message.as_option() {
        (
            "message.received",
            "Answered an invitation to an event",
            &answer.event_creation_message_key,
        )
    } else {
        return None;
    };
    let mut draft = summary(text.to_owned());
    draft.event_type = event_type.to_owned();
    draft
        .metadata
        .insert("encrypted".to_owned(), "true".to_owned());
    Some(about(draft, key))
}

fn about(mut draft: Draft, key: &wa::MessageKey) -> Draft {
    draft.target_message_id = key.id.clone().filter(|id| !id.is_empty());
    if let Some(author) = &key.participant {
        draft
            .metadata
            .insert("target_sender".to_owned(), author.clone());
    }
    draft
}

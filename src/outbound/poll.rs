//! Polls. Votes are encrypted with a secret that the poll carries; it is stored with the message, so that they can be
//! opened whenever they come.

use waproto::whatsapp as wa;

use super::OutboundError;
use super::fields::{PollOptions, QUESTION, Selectable};

/// Length of the secret, bytes.
pub const SECRET: usize = 32;

/// A poll with this question.
pub(super) fn message(
    question: &str,
    options: &PollOptions,
    selectable: Selectable,
    secret: [u8; SECRET],
) -> Result<wa::Message, OutboundError> {
    let invalid = |reason: String| OutboundError::InvalidAction {
        action: "poll".to_owned(),
        reason,
    };
    let question = question.trim();
    let length = question.chars().count();
    if !(1..=QUESTION).contains(&length) {
        return Err(invalid(format!(
            "the content is the question, of 1 to {QUESTION} characters; it has {length}"
        )));
    }
    let count = options.0.len();
    let Selectable(selectable) = selectable;
    if usize::try_from(selectable).is_ok_and(|n| n > count) {
        return Err(invalid(format!(
            "metadata.selectable is {selectable}, of {count} options"
        )));
    }
    let option = |name: &String| wa::message::poll_creation_message::Option {
        option_name: Some(name.clone()),
        ..wa::message::poll_creation_message::Option::default()
    };
    let poll = wa::message::PollCreationMessage {
        name: Some(question.to_owned()),
        options: options.0.iter().map(option).collect(),
        selectable_options_count: Some(selectable),
        poll_content_type: Some(wa::message::PollContentType::TEXT),
        ..wa::message::PollCreationMessage::default()
    };
    let mut message = wa::Message {
        message_context_info: wa::MessageContextInfo {
            message_secret: Some(secret.to_vec()),
            ..wa::MessageContextInfo::default()
        }
        .into(),
        ..wa::Message::default()
    };
    // WhatsApp Web sends those with one choice as the third version.
    match selectable {
        1 => message.poll_creation_message_v3 = poll.into(),
        _ => message.poll_creation_message = poll.into(),
    }
    Ok(message)
}

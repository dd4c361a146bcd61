//! The quotation of the message that an answer is for.
//!
//! Invariant: what is quoted stands in the chat for everybody, under the id that everybody has it by, and nothing of it
//! is given on that its author has limited.

use wacore::proto_helpers::{MessageExt, build_quote_context};
use waproto::whatsapp as wa;

use super::fields::{self, Flag};
use super::{OutboundError, change};
use crate::identity::ChatKind;
use crate::protocol::request::OutboundMessage;
use crate::store::{Kept, Peer};

/// What `metadata.quote` asks for.
pub(super) fn wish(message: &OutboundMessage) -> Result<Option<Flag>, OutboundError> {
    fields::word(&message.metadata, "quote", "true or false")
        .map_err(OutboundError::InvalidMetadata)
}

/// Whether this message quotes what it answers: in groups always, where it shows whom the answer is for; in direct chats
/// when asked for.
pub fn quotes(message: &OutboundMessage, to: &Peer) -> bool {
    let asked = wish(message).ok().flatten();
    let quotes = asked.map_or(to.kind() == ChatKind::Group, |asked| asked == Flag::True);
    quotes && message.metadata.contains_key("reply_to_message_id")
}

/// The quotation of the answered message. A message of our own is not quoted.
pub(super) fn quotation(
    message: &OutboundMessage,
    to: &Peer,
    quoted: Option<Kept>,
) -> Option<wa::ContextInfo> {
    let original = quoted.filter(|_| quotes(message, to))?;
    let sender = original.sender.as_ref()?;
    let body = shown(&change::current(&original)?)?;
    Some(build_quote_context(&original.id, sender.to_string(), &body))
}

/// What people see of a message; reactions, votes, pins and deletions are nothing that could be quoted.
fn shown(raw: &wa::Message) -> Option<wa::Message> {
    let once = raw.is_view_once();
    let said = raw.get_base_message();
    let is_about_another = said.protocol_message.is_set()
        || said.reaction_message.is_set()
        || said.enc_reaction_message.is_set()
        || said.poll_update_message.is_set()
        || said.enc_event_response_message.is_set()
        || said.secret_encrypted_message.is_set()
        || said.enc_comment_message.is_set()
        || said.pin_in_chat_message.is_set()
        || said.keep_in_chat_message.is_set()
        || said.poll_add_option_message.is_set()
        || said.scheduled_call_edit_message.is_set();
    if is_about_another {
        return None;
    }
    let mut shown = match once || said.is_view_once() {
        true => seen_once(said)?,
        false => said.clone(),
    };
    // The secret by which votes and edits are opened is for those who were given the message itself.
    shown.message_context_info = Default::default();
    Some(shown)
}

/// A medium that may be seen once: that there was one.
fn seen_once(said: &wa::Message) -> Option<wa::Message> {
    let mut shown = wa::Message::default();
    if said.image_message.is_set() {
        shown.image_message = wa::message::ImageMessage {
            view_once: Some(true),
            ..Default::default()
        }
        .into();
    } else if said.video_message.is_set() {
        shown.video_message = wa::message::VideoMessage {
            view_once: Some(true),
            ..Default::default()
        }
        .into();
    } else if said.audio_message.is_set() {
        shown.audio_message = wa::message::AudioMessage {
            view_once: Some(true),
            ptt: said.audio_message.ptt,
            ..Default::default()
        }
        .into();
    } else {
        return None;
    }
    Some(shown)
}

//! The quotation of the message that an answer is for.
//!
//! Invariant: what is quoted stands in the chat for everybody, under the id that everybody has it by, and nothing of it
//! is given on that its author has limited.

use wacore::proto_helpers::{MessageExt, build_quote_context};
use waproto::codec::message_decode;
use waproto::whatsapp as wa;

use crate::identity::ChatKind;
use crate::protocol::request::OutboundMessage;
use crate::store::{Original, Peer};

/// The quotation of the answered message: in groups always, where it shows whom the answer is for; in direct chats
/// when asked for. A message of our own is not quoted.
pub(super) fn quotation(
    message: &OutboundMessage,
    to: &Peer,
    quoted: Option<Original>,
) -> Option<wa::ContextInfo> {
    let id = message.metadata.get("reply_to_message_id")?;
    let asked = message.metadata.get("quote").map(String::as_str);
    let wanted = match to.kind() {
        ChatKind::Group => asked != Some("false"),
        _ => asked == Some("true"),
    };
    let original = quoted.filter(|_| wanted)?;
    let sender = original.sender?;
    let raw = message_decode(&original.raw).ok()?;
    let (id, body) = shown(&raw, id, original.edits)?;
    Some(build_quote_context(id, sender.to_string(), &body))
}

/// What people see of a message, and by which id. Of an edit that is the message that was edited, as it reads now;
/// reactions, votes, pins and deletions are nothing that could be quoted.
fn shown<'a>(raw: &'a wa::Message, id: &'a str, edits: bool) -> Option<(&'a str, wa::Message)> {
    let once = raw.is_view_once();
    let mut said = raw.get_base_message();
    let mut id = id;
    if let Some(protocol) = said.protocol_message.as_option() {
        id = protocol.key.id.as_deref().filter(|_| edits)?;
        said = protocol.edited_message.as_option()?.get_base_message();
    }
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
    Some((id, shown))
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

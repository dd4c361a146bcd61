//! Messages about another message: reactions, edits, revocations; and forwarding.
//!
//! Invariant: what WhatsApp would not take, or would take and not show, is refused here, before anything is sent; so is
//! what carries a file that nobody could fetch.

use wacore::proto_helpers::{MessageExt, build_reaction_message};
use waproto::codec::message_decode;
use waproto::whatsapp as wa;

use super::OutboundError;
use super::fields::Emoji;
use super::media;
use crate::identity::ChatKind;
use crate::store::{Kept, Peer};

/// How long WhatsApp lets people edit a message, seconds.
const EDIT_WINDOW: i64 = 15 * 60;
/// How long it lets them delete one for everybody: two days and a half, seconds.
const REVOKE_WINDOW: i64 = 60 * 3600;

/// A message that another one is about.
pub(super) struct About<'a> {
    /// Its id.
    pub id: &'a str,
    /// What is known of it.
    pub kept: &'a Kept,
    /// The chat that it is in.
    pub chat: &'a Peer,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

impl About<'_> {
    fn key(&self) -> wa::MessageKey {
        let author = self.kept.sender.as_ref().or(self.kept.own.as_ref());
        let group = self.chat.kind() == ChatKind::Group;
        wa::MessageKey {
            remote_jid: Some(self.chat.route.to_string()),
            from_me: Some(self.kept.sender.is_none()),
            id: Some(self.id.to_owned()),
            participant: author.filter(|_| group).map(ToString::to_string),
        }
    }

    fn within(&self, window: i64) -> bool {
        self.now_ms / 1000 - self.kept.at <= window
    }
}

/// What a message says now: an edit gives a text other words, and a medium another caption.
pub(super) fn current(kept: &Kept) -> Option<wa::Message> {
    let read =
        |raw: &Option<Vec<u8>>| -> Option<wa::Message> { message_decode(raw.as_ref()?).ok() };
    let edit = read(&kept.edit).and_then(|edit| {
        let protocol = &edit.get_base_message().protocol_message;
        let edited = protocol.edited_message.as_option()?;
        Some(edited.get_base_message().clone())
    });
    let Some(said) = read(&kept.raw) else {
        return edit;
    };
    let Some(edit) = edit.filter(|_| !said.is_view_once()) else {
        return Some(said);
    };
    let mut now = said.into_base_message();
    let words = edit.text_content().or(edit.get_caption());
    match recaption(&mut now, words.unwrap_or_default()) {
        true => Some(now),
        false => Some(edit),
    }
}

/// Gives a medium another caption; whether it is one that has any.
fn recaption(message: &mut wa::Message, text: &str) -> bool {
    let caption = if let Some(image) = message.image_message.as_option_mut() {
        &mut image.caption
    } else if let Some(video) = message.video_message.as_option_mut() {
        &mut video.caption
    } else if let Some(document) = message.document_message.as_option_mut() {
        &mut document.caption
    } else {
        return false;
    };
    *caption = Some(text.to_owned());
    true
}

/// A reaction, or its end.
pub(super) fn react(about: &About<'_>, emoji: &Emoji) -> wa::Message {
    build_reaction_message(about.key(), emoji.as_str(), about.now_ms)
}

/// The text of an own message anew; `with` makes it a message.
pub(super) fn edit(about: &About<'_>, new: wa::Message) -> Result<wa::Message, OutboundError> {
    if about.kept.sender.is_some() {
        return Err(OutboundError::NotOwnMessage(about.id.to_owned()));
    }
    if !about.within(EDIT_WINDOW) {
        return Err(OutboundError::EditWindowOver(about.id.to_owned()));
    }
    let not_editable = |reason| OutboundError::NotEditable {
        id: about.id.to_owned(),
        reason,
    };
    let no_text = || not_editable("it has no text or caption; send a new message");
    let mut edited = current(about.kept).ok_or_else(no_text)?;
    let text = new.text_content().unwrap_or_default();
    if edited.conversation.is_some() || edited.extended_text_message.is_set() {
        edited = new;
    } else if !recaption(&mut edited, text) {
        return Err(no_text());
    } else if media::place(&mut edited).is_some_and(|place| place.is_unknown()) {
        return Err(not_editable(
            "its file is still being uploaded; edit it once it is sent",
        ));
    }
    Ok(protocol(wa::message::ProtocolMessage {
        key: about.key().into(),
        r#type: Some(wa::message::protocol_message::Type::MESSAGE_EDIT),
        edited_message: edited.into(),
        timestamp_ms: Some(about.now_ms),
        ..wa::message::ProtocolMessage::default()
    }))
}

/// A message deleted for everybody.
pub(super) fn revoke(about: &About<'_>) -> Result<wa::Message, OutboundError> {
    let ours = about.kept.sender.is_none();
    if !ours && about.chat.kind() != ChatKind::Group {
        return Err(OutboundError::NotOwnMessage(about.id.to_owned()));
    }
    if !about.within(REVOKE_WINDOW) {
        return Err(OutboundError::RevokeWindowOver(about.id.to_owned()));
    }
    let mut key = about.key();
    if ours {
        // Whose it is says `from_me`; WhatsApp's clients name nobody beside it.
        key.participant = None;
    }
    Ok(protocol(wa::message::ProtocolMessage {
        key: key.into(),
        r#type: Some(wa::message::protocol_message::Type::REVOKE),
        ..wa::message::ProtocolMessage::default()
    }))
}

fn protocol(message: wa::message::ProtocolMessage) -> wa::Message {
    wa::Message {
        protocol_message: message.into(),
        ..wa::Message::default()
    }
}

/// A message as it is forwarded. Media stay the ones that they are on WhatsApp's servers.
pub(super) fn forward(kept: &Kept, to: &Peer) -> Result<wa::Message, OutboundError> {
    let refused = |reason| OutboundError::NotForwardable {
        id: kept.id.clone(),
        reason,
    };
    let body = current(kept).ok_or_else(|| refused("it is no longer kept"))?;
    let inner = body.get_base_message();
    if body.is_view_once() || inner.is_view_once() {
        return Err(refused("it may be seen once only"));
    }
    let mut forwarded = *inner.prepare_for_forward();
    let mut can_be = false;
    macro_rules! forwardable {
        ($($kind:ident),+) => {
            $(if let Some(kind) = forwarded.$kind.as_option_mut() {
                can_be = true;
                // The timer is that of the chat it came from.
                if let Some(context) = kind.context_info.as_option_mut() {
                    context.expiration = None;
                    context.ephemeral_setting_timestamp = None;
                }
            })+
        };
    }
    forwardable!(
        extended_text_message,
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
        location_message,
        contact_message,
        contacts_array_message
    );
    if !can_be {
        return Err(refused(
            "only texts, media, places and contact cards can be",
        ));
    }
    if let Some(place) = media::place(&mut forwarded) {
        if to.kind() == ChatKind::Newsletter {
            return Err(refused("a newsletter takes no files"));
        }
        match &kept.file {
            Some(file) if file.is_gone() => {
                return Err(refused(
                    "WhatsApp has its file no more, and the account's phone has not uploaded it again",
                ));
            }
            _ if !place.sealed => {
                return Err(refused(
                    "the files of newsletters are not encrypted as those of chats are; send it by its storage_key",
                ));
            }
            Some(file) => place.moved(&file.direct_path),
            None if !place.is_unknown() => {}
            None if kept.sender.is_none() => {
                return Err(refused(
                    "its file is still being uploaded; forward it once it is sent",
                ));
            }
            None => return Err(refused("it does not say where its file is")),
        }
    }
    Ok(forwarded)
}

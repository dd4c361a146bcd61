//! The host's message → WhatsApp messages. Pure: values in, values out.
//!
//! Invariants: no part is empty, the parts are in order, and whatever is left out is either an error or named in
//! [`Built::degraded`].

mod actions;
mod change;
mod contact;
mod fields;
mod markup;
mod media;
mod mentions;
mod place;
mod poll;
mod quote;
mod split;
mod verbatim;

#[cfg(test)]
mod action_tests;
#[cfg(test)]
mod forward_tests;
#[cfg(test)]
mod media_tests;
#[cfg(test)]
mod tests;

pub use actions::{Action, Metadata};
pub use fields::{SentAs, Wish};
pub use media::{Attachment, encrypted_as};
pub use poll::SECRET;
pub use quote::quotes;

use wacore::proto_helpers::MessageExt;
use waproto::codec::message_to_vec;
use waproto::whatsapp as wa;

pub use mentions::{Forms, candidates};

use crate::config::{Config, TextFormat};
use crate::identity::ChatKind;
use crate::protocol::request::{OutboundAttachment, OutboundMessage, StatusKind};
use crate::store::{Kept, Peer, StagedName};
use change::About;

/// What a message of the host becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The messages, in order. None for a message without content.
    pub parts: Vec<Part>,
    /// What was left out, each with its reason.
    pub degraded: Vec<String>,
}

/// One WhatsApp message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The `wa::Message`, encoded.
    pub payload: Vec<u8>,
    /// What it is: `text`, or by what action it is: `reaction`, `edit`, `revoke`, `poll`, `location`, `contact`,
    /// `forward`; or which kind of file: `image`, `video`, `gif`, `audio`, `voice`, `sticker`, `document`.
    pub kind: String,
    /// The file that has to be uploaded before it can go.
    pub file: Option<StagedName>,
}

/// What is known of the chat and its messages, as far as this message needs it.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The message that it is about.
    pub target: Option<Kept>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// Random, for a poll.
    pub secret: [u8; SECRET],
    /// How people are addressed there.
    pub forms: Forms,
}

/// Why a message of the host cannot be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// It has an attachment where there can be none.
    #[error("{0} takes no attachments; send them in a message of their own")]
    AttachmentNotHere(&'static str),
    /// A key that says how attachments are to be sent is wrong.
    #[error("{0}")]
    InvalidWish(String),
    /// Another key is wrong.
    #[error("{0}")]
    InvalidMetadata(String),
    /// It asks for something else than sending.
    #[error("this version knows no metadata.action {0:?}; send without it")]
    UnsupportedAction(String),
    /// A key of the action is missing or wrong.
    #[error("metadata.action {action}: {reason}")]
    InvalidAction {
        /// The action.
        action: String,
        /// What is wrong with which key.
        reason: String,
    },
    /// Newsletters have other ways for it.
    #[error(
        "metadata.action {0} is for direct chats and groups; a newsletter takes new messages only"
    )]
    ActionNotHere(&'static str),
    /// The message that the action is about is not in this chat, or no longer kept.
    #[error(
        "no message {0} is known in this conversation; give the message.id of an event or the message_id of a receipt, and its own conversation_id"
    )]
    UnknownTarget(String),
    /// More than one conversation has a message of this id.
    #[error(
        "several conversations have a message {0}; say which with metadata.target_conversation_id"
    )]
    AmbiguousTarget(String),
    /// Somebody else wrote it.
    #[error(
        "message {0} is not ours; only own messages can be edited, and only an admin can delete those of others, in a group"
    )]
    NotOwnMessage(String),
    /// It cannot be changed, or not yet.
    #[error("message {id} cannot be edited: {reason}")]
    NotEditable {
        /// The message.
        id: String,
        /// Why.
        reason: &'static str,
    },
    /// The new text is longer than one message.
    #[error(
        "the new text would be {0} messages, and an edit is one; shorten it, or raise text_chunk_chars"
    )]
    EditTooLong(usize),
    /// It is too late to edit.
    #[error(
        "message {0} is older than 15 minutes, after which WhatsApp takes no edit; send a new message"
    )]
    EditWindowOver(String),
    /// It is too late to delete.
    #[error(
        "message {0} is older than 60 hours, after which WhatsApp deletes nothing for everybody"
    )]
    RevokeWindowOver(String),
    /// It must not, or cannot, be forwarded.
    #[error("message {id} cannot be forwarded: {reason}")]
    NotForwardable {
        /// The message.
        id: String,
        /// Why.
        reason: &'static str,
    },
}

impl OutboundError {
    /// The error code of the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AttachmentNotHere(_) => "attachment_unsupported",
            Self::InvalidWish(_) => "invalid_attachment",
            Self::InvalidMetadata(_) => "invalid_metadata",
            Self::UnsupportedAction(_) => "unsupported_action",
            Self::InvalidAction { .. } => "invalid_action",
            Self::ActionNotHere(_) => "action_not_here",
            Self::UnknownTarget(_) => "unknown_target_message",
            Self::AmbiguousTarget(_) => "ambiguous_target_message",
            Self::NotOwnMessage(_) => "not_own_message",
            Self::NotEditable { .. } => "not_editable",
            Self::EditTooLong(_) => "edit_too_long",
            Self::EditWindowOver(_) => "edit_window_over",
            Self::RevokeWindowOver(_) => "revoke_window_over",
            Self::NotForwardable { .. } => "not_forwardable",
        }
    }
}

/// Whether an error of this code is about what was to be done and not about the request: the host's turn is over, and
/// nothing was sent.
pub fn is_refusal(code: &str) -> bool {
    matches!(
        code,
        "invalid_action"
            | "action_not_here"
            | "unknown_target_message"
            | "ambiguous_target_message"
            | "not_own_message"
            | "not_editable"
            | "edit_too_long"
            | "edit_window_over"
            | "revoke_window_over"
            | "not_forwardable"
    )
}

/// What a typing indicator shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chatstate {
    /// Typing.
    Composing,
    /// Not typing any more.
    Paused,
}

/// The typing indicator for a stage of the agent's work; `None` for stages that show nothing.
pub fn chatstate(kind: StatusKind) -> Option<Chatstate> {
    match kind {
        StatusKind::Processing | StatusKind::Delivering | StatusKind::OperationStarted => {
            Some(Chatstate::Composing)
        }
        StatusKind::Completed | StatusKind::Cancelled | StatusKind::OperationFinished => {
            Some(Chatstate::Paused)
        }
        StatusKind::ApprovalNeeded
        | StatusKind::Info
        | StatusKind::AuthRequired
        | StatusKind::Unknown => None,
    }
}

/// Nothing, or why a message to this peer cannot have attachments.
pub fn no_attachments(message: &OutboundMessage, to: &Peer) -> Option<OutboundError> {
    let here = match Action::parse(&message.metadata) {
        Ok(Some(Action::Edit { .. })) => "metadata.action edit",
        Ok(Some(Action::Poll { .. })) => "metadata.action poll",
        // They are not encrypted, and so go another way.
        _ if to.kind() == ChatKind::Newsletter => "a newsletter",
        _ => return None,
    };
    Some(OutboundError::AttachmentNotHere(here))
}

/// Builds the messages. `attachments` are those of the message's that can be sent; `quoted` is the message that this one
/// answers, if it is known; with `degrade` what this version does not do is left out and named, otherwise it is an
/// error. What cannot be done to this message is always one.
pub fn build(
    message: &OutboundMessage,
    attachments: &[Attachment],
    config: &Config,
    to: &Peer,
    quoted: Option<Kept>,
    known: &Known,
    degrade: bool,
) -> Result<Built, OutboundError> {
    let mut degraded = Vec::new();
    let mut refuse = |error: OutboundError, what: String| {
        if !degrade {
            return Err(error);
        }
        degraded.push(what);
        Ok(())
    };
    let action = match Action::parse(&message.metadata) {
        Err(OutboundError::UnsupportedAction(name)) => {
            let what = format!("action {name:?}: not supported");
            refuse(OutboundError::UnsupportedAction(name), what)?;
            None
        }
        parsed => parsed?,
    };
    if let Err(error) = quote::wish(message) {
        let what = error.to_string();
        refuse(error, what)?;
    }
    let mut quote = quote::quotation(message, to, quoted);
    let text = match config.text_format {
        TextFormat::Markdown => markup::render(&message.content),
        TextFormat::Plain => message.content.clone(),
    };
    let texts = split::split(&text, config.text_chunk_chars);
    let mut messages = match &action {
        Some(action) => acted(action, message, texts, attachments, to, known, &mut quote)?,
        None => media::content(texts, attachments, &mut quote, &known.forms),
    };
    for Sent { message, .. } in &mut messages {
        // A kind that cannot carry a timer is none that disappears.
        message.set_ephemeral_expiration(to.timer);
    }
    let part = |sent: Sent| Part {
        payload: message_to_vec(&sent.message),
        kind: sent.kind.to_owned(),
        file: sent.file,
    };
    Ok(Built {
        parts: messages.into_iter().map(part).collect(),
        degraded,
    })
}

/// A message, what it is, and the file that it waits for.
struct Sent {
    kind: &'static str,
    message: wa::Message,
    file: Option<StagedName>,
}

impl Sent {
    fn new(kind: &'static str, message: wa::Message) -> Self {
        Self {
            kind,
            message,
            file: None,
        }
    }
}

/// The messages of an action with the texts of the content, in the order in which they make sense.
fn acted(
    action: &Action,
    message: &OutboundMessage,
    texts: Vec<String>,
    attachments: &[Attachment],
    to: &Peer,
    known: &Known,
    quote: &mut Option<wa::ContextInfo>,
) -> Result<Vec<Sent>, OutboundError> {
    if to.kind() == ChatKind::Newsletter && action.is_about_a_message_here() {
        return Err(OutboundError::ActionNotHere(action.name()));
    }
    let target = || {
        let id = action.target().unwrap_or_default();
        let kept = known.target.as_ref();
        let kept = kept.ok_or_else(|| OutboundError::UnknownTarget(id.to_owned()))?;
        Ok(About {
            id: &kept.id,
            kept,
            chat: to,
            now_ms: known.now_ms,
        })
    };
    let content = |texts, quote: &mut _| media::content(texts, attachments, quote, &known.forms);
    let mut behind = |kind, mut thing: wa::Message| {
        let mut messages = content(texts.clone(), quote);
        if let Some(context) = quote.take() {
            thing.set_context_info(context);
        }
        messages.push(Sent::new(kind, thing));
        messages
    };
    Ok(match action {
        Action::Read { .. } => content(texts, quote),
        Action::React { emoji, .. } => {
            let mut messages = vec![Sent::new("reaction", change::react(&target()?, emoji))];
            messages.extend(content(texts, quote));
            messages
        }
        Action::Revoke { .. } => {
            let mut messages = vec![Sent::new("revoke", change::revoke(&target()?)?)];
            messages.extend(content(texts, quote));
            messages
        }
        Action::Edit { .. } => {
            let [text] = texts.as_slice() else {
                return Err(match texts.len() {
                    0 => OutboundError::InvalidAction {
                        action: action.name().to_owned(),
                        reason: "the content is the new text, and it is empty".to_owned(),
                    },
                    parts => OutboundError::EditTooLong(parts),
                });
            };
            vec![Sent::new(
                "edit",
                change::edit(&target()?, text_message(text, None, &known.forms))?,
            )]
        }
        Action::Poll {
            options,
            selectable,
        } => {
            let question = message.content.trim();
            let mut poll = poll::message(question, options, *selectable, known.secret)?;
            if let Some(context) = quote.take() {
                poll.set_context_info(context);
            }
            vec![Sent::new("poll", poll)]
        }
        Action::Location {
            latitude,
            longitude,
            name,
            address,
        } => {
            let (name, address) = (name.as_ref(), address.as_ref());
            behind(
                "location",
                place::message(*latitude, *longitude, name, address),
            )
        }
        Action::Contact { card, .. } => behind("contact", contact::message(card)),
        Action::Forward { .. } => {
            let mut messages = content(texts, quote);
            messages.push(Sent::new("forward", change::forward(target()?.kept, to)?));
            messages
        }
    })
}

/// Texts, the first of which quotes.
fn said(texts: Vec<String>, quote: &mut Option<wa::ContextInfo>, forms: &Forms) -> Vec<Sent> {
    let texts = texts.iter();
    texts
        .map(|text| Sent::new("text", text_message(text, quote.take(), forms)))
        .collect()
}

fn text_message(text: &str, context: Option<wa::ContextInfo>, forms: &Forms) -> wa::Message {
    let (text, mentioned) = mentions::resolve(text, forms);
    if context.is_none() && mentioned.is_empty() {
        return wa::Message {
            conversation: Some(text),
            ..wa::Message::default()
        };
    }
    let mut context = context.unwrap_or_default();
    context.mentioned_jid = mentioned;
    wa::Message {
        extended_text_message: wa::message::ExtendedTextMessage {
            text: Some(text),
            context_info: context.into(),
            ..wa::message::ExtendedTextMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}

/// Equal for two calls that ask for the same: FNV-1a over everything that makes the message what it is, the sources of
/// its attachments among it. Two calls with the same key are compared by it, so it has to be the same in every version;
/// a collision that somebody contrives would only hurt the one who does.
pub fn content_hash(
    message: &OutboundMessage,
    attachments: &[OutboundAttachment],
    to: &Peer,
) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut take = |field: &str| {
        let length = (field.len() as u64).to_le_bytes();
        for byte in length.iter().chain(field.as_bytes()) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    take(&to.public_id.to_string());
    take(&message.content);
    for attachment in attachments {
        take(&attachment.name);
        take(&attachment.mime_type);
        for source in [
            attachment.data_base64.as_deref(),
            attachment.url.as_deref(),
            attachment.storage_key.as_deref(),
        ] {
            take(source.unwrap_or_default());
        }
    }
    for (key, value) in &message.metadata {
        // The host repeats a message with the same words; how it was addressed may differ from call to call.
        if !matches!(
            key.as_str(),
            "idempotency_key" | "conversation_id" | "thread_id"
        ) {
            take(key);
            take(value);
        }
    }
    format!("{hash:032x}")
}

//! The host's message → WhatsApp messages. Pure: values in, values out.
//!
//! Invariants: no part is empty, the parts are in order, and whatever is left out is either an error or named in
//! [`Built::degraded`].

mod markup;
mod mentions;
mod split;
mod verbatim;

#[cfg(test)]
mod tests;

use wacore::proto_helpers::build_quote_context;
use waproto::codec::{message_decode, message_to_vec};
use waproto::whatsapp as wa;

pub use mentions::{Forms, candidates};

use crate::config::{Config, TextFormat};
use crate::identity::ChatKind;
use crate::protocol::request::{OutboundMessage, StatusKind};
use crate::store::{Original, Peer};

/// What a message of the host becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The messages, in order. None for a message without content.
    pub parts: Vec<Part>,
    /// What was left out, each with its reason.
    pub degraded: Vec<String>,
    /// Equal for two calls that ask for the same.
    pub content_hash: String,
}

/// One WhatsApp message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The `wa::Message`, encoded.
    pub payload: Vec<u8>,
    /// What it is: `text`.
    pub kind: String,
}

/// Why a message of the host cannot be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// It has an attachment.
    #[error(
        "this version sends no attachments ({0:?}); send the text alone, or set deliver_errors to degrade"
    )]
    AttachmentUnsupported(String),
    /// It asks for something else than sending.
    #[error("this version knows no metadata.action {0:?}; send without it")]
    UnsupportedAction(String),
}

impl OutboundError {
    /// The error code of the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AttachmentUnsupported(_) => "attachment_unsupported",
            Self::UnsupportedAction(_) => "unsupported_action",
        }
    }
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

/// Builds the messages. `quoted` is the message that this one answers, if it is known; `forms` is how people are
/// addressed there; with `degrade` what cannot be
/// sent is left out and named, otherwise it is an error.
pub fn build(
    message: &OutboundMessage,
    config: &Config,
    to: &Peer,
    quoted: Option<Original>,
    forms: &Forms,
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
    if let Some(action) = message
        .metadata
        .get("action")
        .filter(|action| !action.is_empty())
    {
        let what = format!("action {action:?}: not supported");
        refuse(OutboundError::UnsupportedAction(action.clone()), what)?;
    }
    for attachment in &message.attachments {
        let what = format!("attachment {:?}: not supported", attachment.name);
        refuse(
            OutboundError::AttachmentUnsupported(attachment.name.clone()),
            what,
        )?;
    }
    let mut quote = quotation(message, to, quoted);
    let text = match config.text_format {
        TextFormat::Markdown => markup::render(&message.content),
        TextFormat::Plain => message.content.clone(),
    };
    let parts = split::split(&text, config.text_chunk_chars)
        .into_iter()
        .map(|text| Part {
            payload: message_to_vec(&text_message(&text, quote.take(), forms)),
            kind: "text".to_owned(),
        })
        .collect();
    Ok(Built {
        parts,
        degraded,
        content_hash: content_hash(message, to),
    })
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

/// The quotation of the answered message: in groups always, where it shows whom the answer is for; in direct chats
/// when asked for. A message of our own is not quoted.
fn quotation(
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
    let body = message_decode(&original.raw).ok()?;
    Some(build_quote_context(id, sender.to_string(), &body))
}

/// FNV-1a over everything that makes the message what it is. Two calls with the same key are compared by it, so it
/// has to be the same in every version; a collision that somebody contrives would only hurt the one who does.
fn content_hash(message: &OutboundMessage, to: &Peer) -> String {
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
    for attachment in &message.attachments {
        take(&attachment.name);
        take(&attachment.mime_type);
        for source in [
            &attachment.data_base64,
            &attachment.url,
            &attachment.storage_key,
        ] {
            take(source.as_deref().unwrap_or_default());
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

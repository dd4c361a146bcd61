//! `metadata.action`: what else a person does in a chat than writing a text.
//!
//! One type says which keys an action has and what they may be. The parser and the schema that
//! `channel-whatsapp schema message` prints are both made of it. Invariant: a value of [`Action`] can be sent as far as
//! its own keys go; what depends on the chat is checked where the message is built.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::OutboundError;
use super::contact::Card;
use super::fields::{
    Address, Emoji, Flag, Latitude, Longitude, MessageId, Name, PollOptions, Selectable, SentAs,
};
use crate::protocol::StringMap;

/// What `metadata.action` asks for, with the keys that belong to it. Every value is a string. Without an action the
/// content is sent as a text.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Puts an emoji to a message, instead of the one that was there. Content is sent as a message behind it.
    React {
        /// The message, of anybody in this chat.
        target_message_id: MessageId,
        emoji: Emoji,
    },
    /// Replaces the text, or the caption, of an own message by the content, within 15 minutes.
    Edit {
        /// An own message in this chat.
        target_message_id: MessageId,
    },
    /// Deletes a message for everybody, within 60 hours: an own one, or as an admin of the group anybody's.
    /// Content is sent as a message behind it.
    Revoke {
        /// The message.
        target_message_id: MessageId,
    },
    /// Marks a message, and what came before it in this chat, as read. Content is sent as a message behind it.
    Read {
        /// A message of somebody else in this chat.
        target_message_id: MessageId,
    },
    /// A poll, whose question is the content.
    Poll {
        options: PollOptions,
        #[serde(default)]
        selectable: Selectable,
    },
    /// A place on the map. Content is sent as a message before it.
    Location {
        latitude: Latitude,
        longitude: Longitude,
        /// What the place is called.
        name: Option<Name>,
        /// Where it is, in words.
        address: Option<Address>,
    },
    /// A contact card: a vCard, or a name and a phone number. Content is sent as a message before it.
    Contact {
        #[serde(flatten)]
        card: Card,
    },
    /// A message again, in this chat, marked as forwarded. Content is sent as a message before it.
    Forward {
        /// The message, of any chat.
        target_message_id: MessageId,
        /// The conversation that it is in, where more than one has a message of that id.
        target_conversation_id: Option<String>,
    },
}

/// The names of the actions.
const NAMES: [&str; 8] = [
    "react", "edit", "revoke", "read", "poll", "location", "contact", "forward",
];

impl Action {
    /// The action that the metadata asks for, if it asks for one.
    ///
    /// # Errors
    /// [`OutboundError::UnsupportedAction`] for a name that is none of them, [`OutboundError::InvalidAction`] for keys
    /// that are missing or wrong.
    pub fn parse(metadata: &StringMap) -> Result<Option<Self>, OutboundError> {
        let Some(name) = metadata.get("action").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        if !NAMES.contains(&name.as_str()) {
            return Err(OutboundError::UnsupportedAction(name.clone()));
        }
        let invalid = |reason: String| OutboundError::InvalidAction {
            action: name.clone(),
            reason,
        };
        let keys = metadata.iter();
        let keys = keys.map(|(key, value)| (key.clone(), Value::String(value.clone())));
        let action: Self = serde_json::from_value(Value::Object(keys.collect()))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Some(action))
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::React { .. } => "react",
            Self::Edit { .. } => "edit",
            Self::Revoke { .. } => "revoke",
            Self::Read { .. } => "read",
            Self::Poll { .. } => "poll",
            Self::Location { .. } => "location",
            Self::Contact { .. } => "contact",
            Self::Forward { .. } => "forward",
        }
    }

    /// Whether it is about a message of the chat that it is done in.
    pub(super) fn is_about_a_message_here(&self) -> bool {
        self.target().is_some() && !matches!(self, Self::Forward { .. })
    }

    /// The message that it is about.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::React {
                target_message_id, ..
            }
            | Self::Edit { target_message_id }
            | Self::Revoke { target_message_id }
            | Self::Read { target_message_id }
            | Self::Forward {
                target_message_id, ..
            } => Some(target_message_id.as_str()),
            Self::Poll { .. } | Self::Location { .. } | Self::Contact { .. } => None,
        }
    }
}

/// What `message.metadata` may say. Every value is a string; other keys are ignored.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct Metadata {
    /// Where the message goes: the `conversation.id` of an event, a JID, a phone number, `contact:<number or JID>`,
    /// `group:<JID>`. Absent: `default_recipient`.
    conversation_id: Option<String>,
    /// The message that this one answers. It makes the message a reply: see `deliver_errors`.
    reply_to_message_id: Option<String>,
    /// Whether a reply quotes the message that it answers. Absent: in groups yes, in direct chats no.
    quote: Option<Flag>,
    /// What the attachments are sent as, where their bytes can be that. Absent: as what they are.
    #[serde(rename = "as")]
    sent_as: Option<SentAs>,
    /// Whether sound is sent as a voice note. Absent: Opus in Ogg is.
    voice: Option<Flag>,
    /// Calls with one key are one message, for 7 days.
    idempotency_key: Option<String>,
    #[serde(flatten)]
    action: Option<Action>,
}

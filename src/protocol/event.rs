//! What the host is told: inbound events and the ingress state that travels with them.

use serde::{Deserialize, Serialize};

use super::StringMap;
use super::request::string_map;

/// How events reach the host. `Websocket` satisfies the host's poll and websocket bindings alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngressMode {
    /// One answer with what waits.
    Polling,
    /// Notifications as they come.
    Websocket,
    /// A mode of other plugins, in a state that the host restored.
    #[default]
    #[serde(other)]
    Unknown,
}

/// What the host keeps for the plugin between runs. It replaces its copy with each one that it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressState {
    /// How events are carried.
    #[serde(default)]
    pub mode: IngressMode,
    /// `connecting`, `running`, `stopped`, or why the session ended.
    #[serde(default)]
    pub status: String,
    /// Small facts: the cursor, the event that the state came with.
    #[serde(default, deserialize_with = "string_map")]
    pub metadata: StringMap,
}

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InboundEvent {
    /// Unique and stable: the same for every emission of the same event.
    pub event_id: String,
    /// Always [`super::PLATFORM`].
    pub platform: String,
    /// `message.received`, `reaction.added` and so on.
    pub event_type: String,
    /// The server's time, RFC 3339 in UTC.
    pub received_at: String,
    /// Where it was said.
    pub conversation: Conversation,
    /// Who said it.
    pub actor: Actor,
    /// What was said.
    pub message: InboundMessage,
    /// Phone JID of the linked account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Why it passed. Dispatch 0.5 and newer; an older host ignores it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Transport, route, redelivery.
    pub metadata: StringMap,
}

/// The conversation of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Works verbatim as `metadata.conversation_id`.
    pub id: String,
    /// `private`, `group`, `newsletter` or `broadcast`.
    pub kind: String,
    /// Id of the quoted message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_message_id: Option<String>,
}

/// The sender of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The person's public id.
    pub id: String,
    /// Contact name or push name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Phone number in E.164, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Whether WhatsApp marks the account as a bot.
    pub is_bot: bool,
    /// Every known address, names, permission.
    pub metadata: StringMap,
}

/// The message of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InboundMessage {
    /// The id of the stanza that made the event; comes back as `reply_to_message_id`.
    pub id: String,
    /// The text for the agent.
    pub content: String,
    /// Always `text/plain`.
    pub content_type: String,
    /// Id of the quoted message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to_message_id: Option<String>,
    /// Media.
    pub attachments: Vec<InboundAttachment>,
    /// Structured detail of the content.
    pub metadata: StringMap,
}

/// Media of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InboundAttachment {
    /// Unique within the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `image`, `video`, `audio`, `document`, `sticker`.
    pub kind: String,
    /// Where the bytes are, once they are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// As the sender declared it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Bytes, as the sender declared them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// File name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A key to fetch or to forward it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_key: Option<String>,
    /// Dimensions, duration, caption.
    pub extras: StringMap,
}

/// Evidence for the host that the event is meant for the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Why the event passed.
    pub reason: ActivationReason,
    /// Phone JID of the linked account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_account_id: Option<String>,
    /// Who wrote the message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referenced_message_author_id: Option<String>,
}

/// Why an event passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationReason {
    /// A direct chat.
    DirectMessage,
    /// A group message that names us, or calls us by a pattern of the configuration.
    DirectMention,
    /// A group message that answers one of ours.
    ReplyToAgent,
    /// A group or newsletter whose every message is for the agent.
    AllMessages,
}

//! What this plugin answers.

use serde::{Deserialize, Serialize};

use super::StringMap;
use super::capabilities::ChannelCapabilities;
use super::event::{InboundEvent, IngressState};

/// The result of a request. Each has the one kind that the host expects for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "named after the request that each answers")]
pub enum Response {
    Capabilities {
        capabilities: ChannelCapabilities,
    },
    Configured {
        configuration: Box<Configuration>,
    },
    Health {
        health: HealthReport,
    },
    IngressStarted {
        state: IngressState,
    },
    IngressStopped {
        state: IngressState,
    },
    IngressEventsReceived {
        events: Vec<InboundEvent>,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<IngressState>,
    },
    Delivered {
        delivery: DeliveryReceipt,
    },
    Pushed {
        delivery: DeliveryReceipt,
    },
    StatusAccepted {
        status: StatusAcceptance,
    },
    Ok,
}

/// The answer to `configure`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Configuration {
    /// Resolved settings, unknown keys, warnings.
    pub metadata: StringMap,
    /// Who may speak and be spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<HostPolicy>,
    /// The linked account and cursors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeSnapshot>,
}

/// The policy in the host's words. The host prints it; enforcing it is this plugin's work.
/// The fields from `allowed_dm_sender_ids` on are Dispatch 0.5's; an older host ignores them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HostPolicy {
    /// The owner, always allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// Who may write in direct chats.
    pub allowed_sender_ids: Vec<String>,
    /// Groups and chats that may speak.
    pub allowed_conversation_ids: Vec<String>,
    /// `deny`, `allowlist`, `pairing` or `open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dm_policy: Option<String>,
    /// Whether groups may speak at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_group_messages: Option<bool>,
    /// Outbound limit in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attachment_bytes: Option<u64>,
    /// As `allowed_sender_ids`, under its newer name.
    pub allowed_dm_sender_ids: Vec<String>,
    /// Who may be written to; empty means no wider than inbound.
    pub allowed_outbound_conversation_ids: Vec<String>,
    /// `runtime_owned` or `tool_owned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_delivery: Option<String>,
    /// More settings, for people.
    pub metadata: StringMap,
}

/// Where the account stands, for `configure`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RuntimeSnapshot {
    /// Phone JID of the linked account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account_id: Option<String>,
    /// The last event that was emitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_id: Option<String>,
    /// The last message that was emitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message_id: Option<String>,
    /// Cursors by name.
    pub cursors: StringMap,
    /// LID, device, store path and the like.
    pub metadata: StringMap,
}

/// The answer to `health`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HealthReport {
    /// Whether messages flow.
    pub ok: bool,
    /// One word: `ok`, `connecting`, `not_linked` and so on.
    pub status: String,
    /// Phone JID of the linked account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Its push name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What to do, and the counts.
    pub metadata: StringMap,
}

/// The answer to `deliver` and `push`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReceipt {
    /// The id of the last part that was sent; empty if nothing was.
    pub message_id: String,
    /// The chat that it went to.
    pub conversation_id: String,
    /// Ids of all parts, kind, delivery state.
    pub metadata: StringMap,
}

/// The answer to `status`. A refused frame is no error: `reason_code` and `reason` are in the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatusAcceptance {
    /// Whether the frame was taken.
    pub accepted: bool,
    /// What it became, or why it was refused.
    pub metadata: StringMap,
}

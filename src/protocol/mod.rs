//! The host's wire: one JSON-RPC 2.0 object a line, channel plugin protocol version 1.
//!
//! Reading is lenient where a host may differ (absent, null and unknown fields) and strict where a misreading could
//! send a message somewhere else. Writing is exact: the host's maps take strings only, one wrong value makes the whole
//! line a protocol error there, so every map that leaves is a `BTreeMap<String, String>`.

pub mod capabilities;
pub mod event;
pub mod jsonrpc;
pub mod request;
pub mod response;
pub mod text;

/// The protocol version of every request and notification.
pub const PROTOCOL_VERSION: u64 = 1;
/// `platform` of every event, state and capability: part of the host's session key, so it never changes.
pub const PLATFORM: &str = "whatsapp";

/// Metadata, as the host's types have it.
pub type StringMap = std::collections::BTreeMap<String, String>;

#[cfg(test)]
mod tests;

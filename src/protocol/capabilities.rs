//! What this plugin can do. The same is said in `channel-plugin.json`, which the host reads at install; the test below
//! holds the two together.

use serde::Serialize;

use super::PLATFORM;

/// Outbound limit in bytes where the configuration sets none.
pub const DEFAULT_MAX_ATTACHMENT_BYTES: u64 = 64 << 20;

/// What can be sent: the words of `metadata.kind` in a receipt.
const OUTBOUND: &[&str] = &[
    "text", "image", "video", "gif", "audio", "voice", "sticker", "document", "reaction", "edit",
    "revoke", "poll", "location", "contact", "forward",
];

/// The answer to `capabilities`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the host's own words, which it only prints")]
pub struct ChannelCapabilities {
    pub plugin_id: &'static str,
    pub platform: &'static str,
    pub ingress_modes: &'static [&'static str],
    pub outbound_message_types: &'static [&'static str],
    pub threading_model: &'static str,
    pub attachment_support: bool,
    pub reply_verification_support: bool,
    pub account_scoped_config: bool,
    pub accepts_push: bool,
    pub accepts_status_frames: bool,
    pub attachment_sources: &'static [&'static str],
    pub max_attachment_bytes: u64,
    /// Version and commit of this binary. Ours: the host ignores what it does not know.
    pub version: &'static str,
    /// Present in a build that skips certificate checks and so talks to loopback addresses only. Ours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loopback: bool,
}

/// Needs no network and no store.
pub fn capabilities() -> ChannelCapabilities {
    ChannelCapabilities {
        plugin_id: PLATFORM,
        platform: PLATFORM,
        ingress_modes: &["polling", "websocket"],
        outbound_message_types: OUTBOUND,
        threading_model: "chat_or_thread",
        attachment_support: true,
        reply_verification_support: false,
        account_scoped_config: true,
        accepts_push: true,
        accepts_status_frames: true,
        attachment_sources: &["data_base64", "url", "storage_key"],
        max_attachment_bytes: DEFAULT_MAX_ATTACHMENT_BYTES,
        version: crate::VERSION,
        loopback: cfg!(feature = "loopback"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_manifest_says_the_same() {
        let manifest: Value =
            serde_json::from_str(include_str!("../../channel-plugin.json")).unwrap();
        let declared = &manifest["capabilities"]["channel"];
        let answered = serde_json::to_value(capabilities()).unwrap();
        for key in [
            "platform",
            "ingress_modes",
            "outbound_message_types",
            "threading_model",
            "attachment_support",
            "reply_verification_support",
            "account_scoped_config",
        ] {
            assert!(!answered[key].is_null(), "{key}");
            assert_eq!(declared[key], answered[key], "{key}");
        }
        let delivery = &declared["delivery"];
        assert_eq!(delivery["push"], answered["accepts_push"]);
        assert_eq!(delivery["status_frames"], answered["accepts_status_frames"]);
        assert_eq!(
            delivery["attachment_sources"],
            answered["attachment_sources"]
        );
        assert_eq!(
            delivery["max_attachment_bytes"],
            answered["max_attachment_bytes"]
        );

        assert_eq!(manifest["name"], env!("CARGO_PKG_NAME"));
        assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(manifest["protocol"], "jsonl");
        assert_eq!(manifest["protocol_version"], super::super::PROTOCOL_VERSION);
        assert_eq!(manifest["kind"], "channel");
        // The host looks up no bare name in $PATH, and a catalog rewrites this key only.
        let command = manifest["entrypoint"]["command"].as_str().unwrap();
        assert!(
            command.contains('/') && command.ends_with("/channel-whatsapp"),
            "{command}"
        );
    }
}

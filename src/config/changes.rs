//! What differs between two configurations.

use super::Config;

/// Keys that a running session does not take over: they say where it is, or how it dialled.
const AT_START: [&str; 3] = ["account", "sqlite_store_path", "web_version"];

macro_rules! differing {
    ($old:expr, $new:expr, $($field:ident),+ $(,)?) => {{
        // Names them all, so that a new key cannot be forgotten here.
        let Config { $($field: _),+ } = $new;
        let mut keys = Vec::new();
        $(if $old.$field != $new.$field { keys.push(stringify!($field)); })+
        keys
    }};
}

impl Config {
    /// The keys whose meaning differs, whether they are written or not.
    pub fn changes(&self, new: &Self) -> Vec<&'static str> {
        differing!(
            self,
            new,
            account,
            sqlite_store_path,
            default_recipient,
            poll_timeout_secs,
            poll_idle_ms,
            poll_max_events,
            max_event_age_secs,
            dm_policy,
            allowed_sender_ids,
            contacts,
            read_only_reply,
            owner_id,
            allow_group_messages,
            allowed_conversation_ids,
            allowed_group_sender_ids,
            group_activation,
            mention_patterns,
            group_context_messages,
            outbound_recipient_ids,
            routes,
            events,
            media,
            max_attachment_bytes,
            text_format,
            text_chunk_chars,
            typing,
            typing_presence,
            read_receipts,
            presence,
            pacing,
            deliver_errors,
            queue_ttl_secs,
            send_timeout_secs,
            allow_private_urls,
            reply_delivery,
            web_version,
            health_probe,
        )
    }

    /// Whether a change of this key waits for the next start of the process.
    pub fn is_for_start(key: &str) -> bool {
        AT_START.contains(&key)
    }
}

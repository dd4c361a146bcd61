//! The bytes of attachments: what they are, and where they lie until they have gone.
//!
//! Invariant: nothing that comes with a file is trusted. What it is follows from its bytes; its name is never a path;
//! what is read of it at once, and for how long, has bounds of ours. Everything here blocks, and belongs on a thread
//! where that is allowed.

pub mod aside;
pub mod base64;
#[cfg_attr(not(feature = "object-store"), path = "no_bucket.rs")]
pub mod bucket;
pub mod depot;
pub mod intake;
pub mod key;
pub mod name;
pub mod probe;
pub mod seal;
pub mod shelf;
pub mod stage;
pub mod url;

/// Why a file is not in the media store, in words for the agent and whoever reads its log.
pub fn reason(code: &str) -> &'static str {
    match code {
        "incomplete" => {
            "the message does not say where its file is, or how to tell that it is the right one"
        }
        "not_downloaded" => "the configuration says to leave media at WhatsApp (media.download)",
        "view_once" => {
            "it was sent to be seen once, and the configuration leaves such files alone (media.view_once)"
        }
        "too_large" => "it is larger than the configuration allows (media.max_bytes)",
        "pending" => "it is being fetched; the storage key works as soon as it is here",
        "expired" => "WhatsApp has the file no more, and the phone could not give it again",
        "phone_offline" => {
            "WhatsApp has the file no more; the account's phone was asked for it and has not given it yet"
        }
        "storage_full" => "there is not enough space on the disk; it is fetched when there is",
        "disk_failed" => "the disk does not take it, or cannot be read; the log says why",
        "store_unreachable" => {
            "the object store for media (media.store) cannot be reached; it is tried again every minute"
        }
        "store_refused" => {
            "the object store for media (media.store) does not take it, for its bucket or the credentials are wrong; it is tried \
             again every minute"
        }
        "corrupt" => "what was downloaded is not the file that the message announced",
        "let_go" => {
            "it was here, and was removed for its age or for space (media.retention_days, media.max_total_bytes)"
        }
        _ => "it could not be downloaded",
    }
}

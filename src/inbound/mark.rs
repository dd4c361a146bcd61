//! Messages pinned for all, and disappearing ones that are kept.

use waproto::whatsapp as wa;

use super::content::{Found, summary, time_ms};

/// A pin, or its end.
pub(super) fn pin(pin: &wa::message::PinInChatMessage) -> Found<'_> {
    use wa::message::pin_in_chat_message::Type;
    let (event_type, content) = match pin.r#type {
        Some(Type::UNPIN_FOR_ALL) => ("message.unpinned", "Unpinned a message"),
        _ => ("message.pinned", "Pinned a message"),
    };
    marked(event_type, content, &pin.key, pin.sender_timestamp_ms)
}

/// A disappearing message that stays, or is let go after all.
pub(super) fn keep(keep: &wa::message::KeepInChatMessage) -> Found<'_> {
    let (event_type, content) = match keep.keep_type {
        Some(wa::KeepType::UNDO_KEEP_FOR_ALL) => {
            ("message.unkept", "No longer keeps a disappearing message")
        }
        _ => ("message.kept", "Kept a disappearing message"),
    };
    marked(event_type, content, &keep.key, keep.timestamp_ms)
}

fn marked<'a>(event_type: &str, content: &str, key: &wa::MessageKey, at: Option<i64>) -> Found<'a> {
    let mut draft = summary(content).about(key);
    draft.event_type = event_type.to_owned();
    draft.set("marked_at", time_ms(at));
    (draft, None)
}

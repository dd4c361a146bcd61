//! Who is there, and who is typing.

use wacore::types::events::{ChatPresenceUpdate, PresenceUpdate};
use wacore::types::presence::{ChatPresence, ChatPresenceMedia};

use super::{Notice, address, told};

/// Somebody types, records, or stopped.
pub(super) fn chat(update: &ChatPresenceUpdate, now: i64) -> Option<Notice> {
    let source = &update.source;
    let (word, content) = match (update.state, update.media) {
        (ChatPresence::Composing, ChatPresenceMedia::Text) => ("composing", "Is typing"),
        (ChatPresence::Composing, ChatPresenceMedia::Audio) => ("recording", "Is recording"),
        (ChatPresence::Paused, _) => ("paused", "Stopped typing"),
    };
    (!source.is_from_me).then(|| Notice {
        id: format!("presence:{word}:{now}"),
        chat: address(&source.chat),
        actor: address(&source.sender),
        actor_alt: source.sender_alt.as_ref().and_then(address),
        timestamp: now / 1000,
        draft: told(&format!("presence.{word}"), content),
    })
}

/// Somebody came or went.
pub(super) fn person(update: &PresenceUpdate, now: i64) -> Notice {
    let (word, content) = match update.unavailable {
        true => ("unavailable", "Is offline"),
        false => ("available", "Is online"),
    };
    let mut draft = told(&format!("presence.{word}"), content);
    let last_seen = update.last_seen.map(|time| time.timestamp());
    draft.set("last_seen", crate::inbound::content::time(last_seen));
    Notice {
        id: format!("presence:{word}:{now}"),
        chat: address(&update.from),
        actor: address(&update.from),
        timestamp: now / 1000,
        draft,
        ..Notice::default()
    }
}

//! WhatsApp message → event. Pure: values in, values out.
//!
//! [`classify`] says what a message is before anybody decides whether the agent may see it; the result is stored.
//! [`event`] makes the host's event of it once that is decided. Invariant: a message that a person sent is never
//! dropped here for its kind; what this version cannot read becomes a line that names it.

pub mod addon;
mod bot;
mod call;
mod change;
mod commerce;
mod contact;
mod content;
mod context;
mod draft;
mod event;
pub mod events;
mod interactive;
mod invite;
mod kinds;
mod mark;
mod media;
mod meeting;
mod place;
mod poll;
mod protocol;
pub mod reveal;
mod status;
mod text;
mod unwrap;

#[cfg(test)]
mod tests;

use waproto::whatsapp as wa;

pub use draft::{AttachmentMeta, Draft, MediaSource, Quoted};
pub use event::{Keys, Passed, event, name_of};

use crate::identity::Address;

/// Where a message comes from, as far as its meaning depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The chat.
    pub chat: Address,
    /// Who wrote it.
    pub sender: Address,
    /// The sender's other address, if it is known.
    pub sender_alt: Option<Address>,
    /// Written on another device of ours.
    pub is_from_me: bool,
    /// The chat is a group.
    pub is_group: bool,
    /// The stanza id.
    pub stanza_id: String,
    /// The server's time, Unix seconds.
    pub timestamp: i64,
    /// The name that the sender sent along.
    pub push_name: Option<String>,
    /// Talk between the account's own devices.
    pub is_peer: bool,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one statement, and nearly all are drafts"
)]
pub enum Classified {
    /// Nothing that anybody said to us; the reason is for the log.
    Ignore(&'static str),
    /// Something to tell, if its sender may.
    Draft(Draft),
    /// Ours, from another device. It is not told, and kept for what others say of it: a poll, an event, or a vote.
    Own(Draft),
}

/// Reads a message.
pub fn classify(message: &wa::Message, info: &Info) -> Classified {
    if info.is_peer {
        return Classified::Ignore("between our own devices");
    }
    if info.chat == Address::Status {
        return Classified::Ignore("status");
    }
    let (message, wrapped) = unwrap::peel(message);
    if info.is_from_me && !is_shared(message) {
        return Classified::Ignore("our own");
    }
    let mut draft = match content::draft(message) {
        Ok(draft) => draft,
        Err(reason) => return Classified::Ignore(reason),
    };
    wrapped.mark(&mut draft);
    if draft.content.trim().is_empty() {
        draft.content = match draft.attachments.len() {
            0 => "(empty message)".to_owned(),
            n => format!("({n} attachment(s))"),
        };
        draft.content_origin = "empty".to_owned();
    }
    match info.is_from_me {
        true => Classified::Own(draft),
        false => Classified::Draft(draft),
    }
}

/// Whether what others say of this message, or of the one that it is about, is told together with it.
fn is_shared(message: &wa::Message) -> bool {
    poll::of(message).is_some()
        || message.event_message.is_set()
        || message.poll_update_message.vote.is_set()
        || message.poll_add_option_message.is_set()
}

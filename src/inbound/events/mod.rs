//! What becomes of each kind of event that the library has, besides messages: one row for each.
//!
//! Invariant: nothing that somebody did is left out by oversight. What is neither told nor offered is machinery, or
//! says why; a test walks the library's kinds and fails at one without a row. Pure, as all of `inbound`: [`notices`]
//! makes what the opt-in families tell, and leaves to others whether it is told.

mod call;
mod connection;
mod contact;
mod group;
mod presence;
mod receipt;
mod table;

use serde::Serialize;
use wacore::types::events::{DecryptFailMode, Event, UnavailableType, UndecryptableMessage};
use wacore_binary::Jid;

pub use table::{Decision, EVENTS};

use super::content::summary;
use super::draft::Draft;
use crate::identity::Address;

/// Something that happened, for one of the opt-in families.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What makes its `event_id` unique after chat and sender: `receipt:read:<message id>:<device>` and so on.
    pub id: String,
    /// Where it happened, if it was in a chat or concerns a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<Address>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Address>,
    /// The actor's other address, if it came along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_alt: Option<Address>,
    /// Unix seconds; the server's where it gives a time.
    pub timestamp: i64,
    /// Type, content and details.
    pub draft: Draft,
}

/// What an event of the library tells, in order; empty for those that no opt-in family has. `now` is in Unix
/// milliseconds, for what comes without a time.
pub fn notices(event: &Event, now: i64) -> Vec<Notice> {
    match event {
        Event::Receipt(receipt) => receipt::read(receipt),
        Event::GroupUpdate(update) => vec![group::update(update)],
        Event::IncomingCall(incoming) => call::signal(incoming).into_iter().collect(),
        Event::MissedCall(missed) => vec![call::missed(missed)],
        Event::CallEndedElsewhere(ended) => vec![call::elsewhere(ended)],
        Event::ChatPresence(update) => presence::chat(update, now).into_iter().collect(),
        Event::Presence(update) => vec![presence::person(update, now)],
        Event::PictureUpdate(update) => vec![contact::picture(update)],
        Event::UserAboutUpdate(update) => vec![contact::about(update)],
        Event::ContactNumberChanged(change) => vec![contact::number(change)],
        Event::ContactUpdate(update) => contact::saved(update).into_iter().collect(),
        Event::PushNameUpdate(update) => vec![contact::push_name(update, now)],
        Event::IdentityChange(change) => vec![contact::identity(change, now)],
        Event::BusinessStatusUpdate(update) => vec![contact::business(update)],
        Event::DisappearingModeChanged(change) => vec![contact::disappearing(change)],
        Event::UndecryptableMessage(failed) => undecryptable(failed).into_iter().collect(),
        other => connection::notice(other, now).into_iter().collect(),
    }
}

/// A message that this device could not decrypt. What the sender's application hides when it fails is not told.
fn undecryptable(failed: &UndecryptableMessage) -> Option<Notice> {
    let source = &failed.info.source;
    if source.is_from_me || failed.decrypt_fail_mode == DecryptFailMode::Hide {
        return None;
    }
    let (reason, content) = match failed.unavailable_type {
        UnavailableType::ViewOnce => (
            "view_once",
            "(a message to be seen once; the phone alone has it)",
        ),
        UnavailableType::Hosted => ("hosted", "(a message that a business's systems alone have)"),
        UnavailableType::Bot => ("bot", "(an answer of a bot that the phone alone has)"),
        UnavailableType::Unknown => ("unknown", "(a message that could not be decrypted)"),
    };
    let mut draft = told("message.undecryptable", content);
    draft.set("reason", Some(reason));
    draft.set("unavailable", failed.is_unavailable.then_some("true"));
    Some(Notice {
        id: format!("{}:undecryptable", failed.info.id),
        chat: address(&source.chat),
        actor: address(&source.sender),
        actor_alt: source.sender_alt.as_ref().and_then(address),
        timestamp: failed.info.timestamp.timestamp(),
        draft,
    })
}

fn told(event_type: &str, content: impl Into<String>) -> Draft {
    let mut draft = summary(content);
    draft.event_type = event_type.to_owned();
    draft
}

/// The bare address of a JID; `None` for what is none of ours.
fn address(jid: &Jid) -> Option<Address> {
    jid.to_non_ad().to_string().parse().ok()
}

/// A person as people write them: the number, or what there is.
fn person(jid: &Jid) -> String {
    let address = address(jid);
    match address.as_ref().and_then(Address::phone) {
        Some(phone) => phone.to_string(),
        None => address.map_or_else(|| jid.to_string(), |address| address.to_string()),
    }
}

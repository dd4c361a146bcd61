//! Opens what WhatsApp calls add-ons: votes and answers that are encrypted with a secret of the poll or event that they
//! are about. Pure: the messages are at hand, nobody is asked.
//!
//! The key is derived from the addresses that author and sender had when the add-on was made, a phone number or a LID
//! each, so every form that is known of the two is tried.

use wa::message::EventResponseMessage;
use wacore::event::decrypt_event_response_with_secret;
use wacore::poll::{PollVoteCiphertext, decrypt_poll_vote_with_secret};
use waproto::whatsapp as wa;

use super::unwrap;
use crate::identity::Address;

/// The option hashes that a vote is for. `poll` is the message that made the poll, `author` and `voter` every address
/// known of the two. `None` if `vote` is no vote, the poll has no secret, or the vote does not open.
pub fn open_vote(
    vote: &wa::Message,
    poll: &wa::Message,
    author: &[Address],
    voter: &[Address],
) -> Option<Vec<Vec<u8>>> {
    let update = unwrap::peel(vote).0.poll_update_message.as_option()?;
    let id = update.poll_creation_message_key.id.as_deref()?;
    let sealed = PollVoteCiphertext {
        enc_payload: update.vote.enc_payload.as_deref()?,
        enc_iv: update.vote.enc_iv.as_deref()?,
    };
    let secret = unwrap::secret(poll)?;
    each(author, voter, |author, voter| {
        decrypt_poll_vote_with_secret(sealed, secret, id, author, voter).ok()
    })
}

/// When a vote was made by its sender's clock, Unix milliseconds; not later than `received`, Unix seconds by the
/// server's. A vote that had to be sent again comes after its successor.
pub fn voted_at(vote: &wa::Message, received: i64) -> i64 {
    let received = received.saturating_add(1).saturating_mul(1000);
    let update = unwrap::peel(vote).0.poll_update_message.as_option();
    update
        .and_then(|update| update.sender_timestamp_ms)
        .map_or(received, |at| at.min(received))
}

/// The answer to an event. `event` is the message that announced it, `author` and `guest` every address known of the
/// two. `None` if `answer` is none, the event has no secret, or the answer does not open.
pub fn open_event_answer(
    answer: &wa::Message,
    event: &wa::Message,
    author: &[Address],
    guest: &[Address],
) -> Option<EventResponseMessage> {
    let sealed = unwrap::peel(answer)
        .0
        .enc_event_response_message
        .as_option()?;
    let id = sealed.event_creation_message_key.id.as_deref()?;
    let payload = sealed.enc_payload.as_deref()?;
    let iv = sealed.enc_iv.as_deref()?;
    let secret = unwrap::secret(event)?;
    each(author, guest, |author, guest| {
        decrypt_event_response_with_secret(payload, iv, secret, id, author, guest).ok()
    })
}

/// The secret with which what refers to a message is encrypted, if the message has one.
pub fn secret(message: &wa::Message) -> Option<&[u8]> {
    unwrap::secret(message)
}

fn each<T>(
    author: &[Address],
    sender: &[Address],
    open: impl Fn(&str, &str) -> Option<T>,
) -> Option<T> {
    let mut pairs = author
        .iter()
        .flat_map(|author| sender.iter().map(move |sender| (author, sender)));
    pairs.find_map(|(author, sender)| open(&author.to_string(), &sender.to_string()))
}

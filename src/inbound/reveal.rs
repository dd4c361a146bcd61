//! What a message turns out to say once something beside it is known: votes and answers that are encrypted with a
//! secret of the poll or event, and comments that the library hands over without what they are about.
//!
//! [`classify`](super::classify) makes a closed draft of such a message, which is good enough to be stored and told.
//! Whoever has the poll or event opens it with [`addon`](super::addon), and makes an open draft of it here.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use wacore::poll::compute_option_hash;
use waproto::whatsapp as wa;

use super::change::{COMMENTED, ENCRYPTED};
use super::content::line;
use super::draft::Draft;
use super::{poll, unwrap};

/// The vote of one person that counts: the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// The voter's name.
    pub voter: String,
    /// The options chosen, by name.
    pub options: Vec<String>,
}

/// The names of the options that a vote is for, in the poll's order, and how many others it is for: options that were
/// added to the poll later. `poll` is the message that made the poll, `selected` the SHA-256 of each option's name.
/// `None` if that message is no poll.
pub fn choice(poll: &wa::Message, selected: &[Vec<u8>]) -> Option<(Vec<String>, usize)> {
    let poll = poll::of(unwrap::peel(poll).0)?;
    let hashes: HashSet<&[u8]> = selected.iter().map(Vec::as_slice).collect();
    let chosen: Vec<String> = poll::options(poll)
        .into_iter()
        .filter(|name| hashes.contains(&compute_option_hash(name)[..]))
        .map(str::to_owned)
        .collect();
    let unknown = selected.len().saturating_sub(chosen.len());
    Some((chosen, unknown))
}

/// A vote that was decrypted: what was chosen, and how the poll stands. `others` are the ballots of everybody else,
/// as far as they are known. The draft comes back as it was if `poll` is no poll.
pub fn vote(
    closed: Draft,
    poll: &wa::Message,
    voter: &str,
    selected: &[Vec<u8>],
    others: &[Ballot],
) -> Draft {
    let Some((chosen, unknown)) = choice(poll, selected) else {
        return closed;
    };
    let Some(poll) = poll::of(unwrap::peel(poll).0) else {
        return closed;
    };
    let name = poll.name.as_deref().unwrap_or_default();
    let mut draft = opened(closed);
    let more = (unknown > 0).then(|| format!("{unknown} added later"));
    draft.content = match selected.is_empty() {
        true => format!("Took back the vote in the poll \"{name}\""),
        false => {
            let choices = chosen.iter().map(|option| Some(option.as_str()));
            let head = format!("Voted in the poll \"{name}\"");
            line(&head, choices.chain([more.as_deref()]))
        }
    };
    let mut voters: HashMap<&str, Vec<&str>> = HashMap::new();
    let theirs = others.iter().map(|b| (b.voter.as_str(), &b.options));
    for (voter, options) in theirs.chain([(voter, &chosen)]) {
        for option in options {
            voters.entry(option).or_default().push(voter);
        }
    }
    let mut tally = Vec::new();
    for option in poll::options(poll) {
        let voters = voters.remove(option).unwrap_or_default();
        draft.content.push_str(&match voters.is_empty() {
            true => format!("\n- {option}: 0"),
            false => format!("\n- {option}: {} ({})", voters.len(), voters.join(", ")),
        });
        tally.push(json!({"option": option, "votes": voters.len(), "voters": voters}));
    }
    draft.set("poll_name", Some(name));
    draft.set("poll_voter", Some(voter));
    draft.set("poll_choice", serde_json::to_string(&chosen).ok());
    draft.set("poll_choice_unknown", Some(unknown).filter(|&n| n > 0));
    draft.set("poll_tally", Some(serde_json::Value::from(tally)));
    draft
}

/// An answer to an event that was decrypted. `event` is the message that announced it, if it is known.
pub fn event_answer(
    closed: Draft,
    event: Option<&wa::Message>,
    answer: &wa::message::EventResponseMessage,
) -> Draft {
    use wa::message::event_response_message::EventResponseType as Answer;
    let (word, said) = match answer.response {
        Some(Answer::GOING) => ("going", "going"),
        Some(Answer::NOT_GOING) => ("not_going", "not going"),
        Some(Answer::MAYBE) => ("maybe", "maybe"),
        Some(Answer::UNKNOWN) | None => ("unknown", "an answer that cannot be shown"),
    };
    let event = event.and_then(|event| unwrap::peel(event).0.event_message.as_option());
    let name = event.and_then(|event| event.name.as_deref());
    let head = match name {
        Some(name) => format!("Answered the event \"{name}\""),
        None => "Answered an invitation to an event".to_owned(),
    };
    let guests = answer.extra_guest_count.filter(|&guests| guests > 0);
    let with = guests.map(|n| format!("with {n} more"));
    let mut draft = opened(closed);
    draft.content = line(&head, [Some(said), with.as_deref()]);
    draft.set("event_name", name);
    draft.set("event_answer", Some(word));
    draft.set("event_guests", guests);
    draft
}

/// A comment that the library decrypted. What it is about comes beside the message then (`comment_target`).
pub fn comment(mut draft: Draft, target: &wa::MessageKey) -> Draft {
    draft.event_type = COMMENTED.to_owned();
    draft.about(target)
}

fn opened(mut closed: Draft) -> Draft {
    closed.metadata.remove(ENCRYPTED);
    closed
}

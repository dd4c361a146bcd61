//! What a message turns out to say once something beside it is known: votes and answers that are encrypted with a
//! secret of the poll or event, comments that the library hands over without what they are about, and changes of
//! messages that somebody else wrote.
//!
//! [`classify`](super::classify) makes a closed draft of a vote or an answer, which is good enough to be stored and
//! told. Whoever has the poll or event opens it with [`addon`](super::addon), and makes an open draft of it here.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use wacore::poll::compute_option_hash;
use waproto::whatsapp as wa;

use super::change::{COMMENTED, ENCRYPTED, ENCRYPTED_KIND};
use super::content::line;
use super::draft::Draft;
use super::poll::LISTED;
use super::protocol::REVOKED_BY;
use super::{poll, unwrap};

/// The vote of one person that counts: the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// The voter's name.
    pub voter: String,
    /// The options chosen, by name.
    pub options: Vec<String>,
}

/// What is encrypted in a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// A vote in a poll.
    Vote,
    /// An answer to an event.
    EventAnswer,
}

/// What somebody's secret is needed for to read this draft, if anything.
pub fn sealed(draft: &Draft) -> Option<Sealed> {
    draft.metadata.get(ENCRYPTED)?;
    match draft.event_type.as_str() {
        poll::VOTE => Some(Sealed::Vote),
        "message.event_answered" => Some(Sealed::EventAnswer),
        _ => None,
    }
}

/// Says that the poll or event of a sealed draft is not at hand.
pub fn unknown_target(mut closed: Draft, sealed: Sealed) -> Draft {
    closed.content = match sealed {
        Sealed::Vote => "Voted in a poll that is not kept here",
        Sealed::EventAnswer => "Answered an invitation to an event that is not kept here",
    }
    .to_owned();
    closed
}

/// Says that a sealed draft could not be opened with what is known of its poll or event.
pub fn unopened(mut closed: Draft, sealed: Sealed) -> Draft {
    closed.content = match sealed {
        Sealed::Vote => "Voted in a poll; the vote could not be decrypted",
        Sealed::EventAnswer => {
            "Answered an invitation to an event; the answer could not be decrypted"
        }
    }
    .to_owned();
    closed
}

/// The names of the options that a vote is for, in the poll's order, and how many others it is for: options that were
/// added to the poll later. `poll` is the message that made the poll, `selected` the SHA-256 of each option's name.
/// `None` if that message is no poll.
pub fn choice(poll: &wa::Message, selected: &[Vec<u8>]) -> Option<(Vec<String>, usize)> {
    let poll = poll::of(unwrap::peel(poll).0)?;
    let mut open: HashSet<&[u8]> = selected.iter().map(Vec::as_slice).collect();
    let chosen: Vec<String> = poll::options(poll)
        .into_iter()
        // Taken out once, so that a name that stands in the poll twice is not chosen twice.
        .filter(|name| !open.is_empty() && open.remove(&compute_option_hash(name)[..]))
        .map(str::to_owned)
        .collect();
    Some((chosen, open.len()))
}

/// A vote that was decrypted, and the options that it chose. `None` if `poll` is no poll.
pub fn vote(
    closed: &Draft,
    poll: &wa::Message,
    selected: &[Vec<u8>],
) -> Option<(Draft, Vec<String>)> {
    let (chosen, unknown) = choice(poll, selected)?;
    let poll = poll::of(unwrap::peel(poll).0)?;
    let name = poll.name.as_deref().unwrap_or_default();
    let mut draft = opened(closed.clone());
    let more = (unknown > 0).then(|| format!("{unknown} added later"));
    draft.content = match selected.is_empty() {
        true => format!("Took back the vote in the poll \"{name}\""),
        false => {
            let named = chosen
                .iter()
                .take(LISTED)
                .map(|option| Some(option.as_str()));
            let cut = chosen.len().saturating_sub(LISTED);
            let cut = (cut > 0).then(|| format!("{cut} more"));
            let head = format!("Voted in the poll \"{name}\"");
            line(&head, named.chain([cut.as_deref(), more.as_deref()]))
        }
    };
    let options = poll::options(poll);
    let few = options.len() <= LISTED;
    draft.set("poll_name", Some(name));
    draft.set(
        OPTIONS,
        few.then(|| serde_json::to_string(&options).ok()).flatten(),
    );
    draft.set(CHOICE, serde_json::to_string(&chosen).ok());
    draft.set("poll_choice_unknown", Some(unknown).filter(|&n| n > 0));
    Some((draft, chosen))
}

/// Whether this is a vote whose choice is known.
pub fn is_open_vote(draft: &Draft) -> bool {
    draft.event_type == poll::VOTE && draft.metadata.contains_key(CHOICE)
}

/// Adds to an open vote how the poll stands. `ballots` are those of everybody, the voter's included, in the order of
/// their last votes.
pub fn tally(mut open: Draft, voter: &str, ballots: &[Ballot]) -> Draft {
    let options = open.metadata.get(OPTIONS);
    let options: Vec<String> = options
        .and_then(|options| serde_json::from_str(options).ok())
        .unwrap_or_default();
    let mut voters: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut listed: Vec<&str> = Vec::new();
    // A poll too long to be listed shows the options that have votes.
    let voted = ballots.iter().flat_map(|ballot| &ballot.options);
    for option in options.iter().chain(voted) {
        if listed.len() < LISTED && !voters.contains_key(option.as_str()) {
            voters.insert(option, Vec::new());
            listed.push(option);
        }
    }
    for ballot in ballots {
        for option in &ballot.options {
            if let Some(voters) = voters.get_mut(option.as_str()) {
                voters.push(&ballot.voter);
            }
        }
    }
    let mut tally = Vec::new();
    for option in listed {
        let voters = voters.remove(option).unwrap_or_default();
        open.content.push_str(&match voters.is_empty() {
            true => format!("\n- {option}: 0"),
            false => format!("\n- {option}: {} ({})", voters.len(), voters.join(", ")),
        });
        tally.push(json!({"option": option, "votes": voters.len(), "voters": voters}));
    }
    open.set("poll_voter", Some(voter));
    open.set("poll_tally", Some(serde_json::Value::from(tally)));
    open
}

/// An open vote whose poll was let go in the meantime: it must not say any more what the poll said.
pub fn close_vote(mut open: Draft) -> Draft {
    open.metadata.retain(|key, _| !key.starts_with("poll_"));
    open.set(ENCRYPTED, Some("true"));
    unknown_target(open, Sealed::Vote)
}

const OPTIONS: &str = "poll_options";
const CHOICE: &str = "poll_choice";

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

/// Who made a change of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An edit that only the author of the message can make.
    Edit,
    /// A revocation by the author.
    Revocation,
}

/// What this draft changes in a message, if only that message's author may. An admin's revocation is none: the server
/// vouches for it. Options can be added to a poll by those who did not make it.
pub fn by_author_alone(draft: &Draft) -> Option<Change> {
    let meta = |key| draft.metadata.get(key).map(String::as_str);
    match draft.event_type.as_str() {
        "message.edited" => match (meta("whatsapp_kind"), meta(ENCRYPTED_KIND)) {
            (Some("poll_add_option_message" | "scheduled_call_edit_message"), _) => None,
            (_, Some(kind)) if kind != "message_edit" => None,
            _ => Some(Change::Edit),
        },
        "message.revoked" => (meta(REVOKED_BY) == Some("sender")).then_some(Change::Revocation),
        _ => None,
    }
}

/// A change of a message that somebody else wrote: no client shows the message changed. What was said is told as the
/// words of the one who said it.
pub fn not_the_author(mut draft: Draft, change: Change) -> Draft {
    draft.event_type = "message.received".to_owned();
    let (word, content) = match change {
        Change::Edit => (
            "edit",
            format!(
                "(tried to edit a message of somebody else, which stays as it was; the new text would be) {}",
                draft.content
            ),
        ),
        Change::Revocation => (
            "revocation",
            "(tried to delete a message of somebody else, which stays)".to_owned(),
        ),
    };
    draft.content = content;
    draft.content_origin = "summary".to_owned();
    draft.metadata.remove(REVOKED_BY);
    draft.set("refused_change", Some(word));
    draft
}

/// Says by whom a revocation is. `admin`: the server vouches for an admin of the group.
pub fn revocation(draft: &mut Draft, admin: bool) {
    if draft.event_type == "message.revoked" {
        draft.set(REVOKED_BY, Some(if admin { "admin" } else { "sender" }));
    }
}

fn opened(mut closed: Draft) -> Draft {
    closed.metadata.remove(ENCRYPTED);
    closed
}

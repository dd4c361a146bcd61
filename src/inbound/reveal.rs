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
    /// What they chose.
    pub choice: Choice,
}

/// The options that a vote is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those that the poll had when it was made, by name, in its order.
    pub options: Vec<String>,
    /// The others, each by the SHA-256 of its name in hexadecimal: they were added later.
    pub later: Vec<String>,
}

/// An option that was added to a poll: the hash of its name, and the name.
type Added<'a> = (String, &'a str);

impl Choice {
    /// The names of the options, as far as those that were `added` later are known, and how many more they are.
    fn named<'a>(&'a self, added: &[Added<'a>]) -> (Vec<&'a str>, usize) {
        let later = added.iter().filter(|(hash, _)| self.later.contains(hash));
        let mut names: Vec<&str> = self.options.iter().map(String::as_str).collect();
        names.extend(later.map(|(_, name)| name));
        let unknown = (self.options.len() + self.later.len()).saturating_sub(names.len());
        (names, unknown)
    }
}

fn hash(sha256: &[u8]) -> String {
    sha256.iter().map(|byte| format!("{byte:02x}")).collect()
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

/// What a vote is for. `poll` is the message that made the poll, `selected` the SHA-256 of each option's name. `None`
/// if that message is no poll.
pub fn choice(poll: &wa::Message, selected: &[Vec<u8>]) -> Option<Choice> {
    let poll = poll::of(unwrap::peel(poll).0)?;
    let mut open: HashSet<&[u8]> = selected.iter().map(Vec::as_slice).collect();
    let options = poll::options(poll)
        .into_iter()
        // Taken out once, so that a name that stands in the poll twice is not chosen twice.
        .filter(|name| !open.is_empty() && open.remove(&compute_option_hash(name)[..]))
        .map(str::to_owned)
        .collect();
    let mut later: Vec<String> = open.into_iter().map(hash).collect();
    later.sort_unstable();
    later.truncate(LISTED);
    Some(Choice { options, later })
}

/// A vote that was decrypted, and what it chose. `None` if `poll` is no poll.
pub fn vote(closed: &Draft, poll: &wa::Message, selected: &[Vec<u8>]) -> Option<(Draft, Choice)> {
    let choice = choice(poll, selected)?;
    let poll = poll::of(unwrap::peel(poll).0)?;
    let mut draft = opened(closed.clone());
    draft.set("poll_name", poll.name.as_deref());
    let options = poll::options(poll);
    let few = options.len() <= LISTED;
    draft.set(
        OPTIONS,
        few.then(|| serde_json::to_string(&options).ok()).flatten(),
    );
    say_choice(&mut draft, &choice, &[]);
    Some((draft, choice))
}

/// Says in an open vote what was chosen.
fn say_choice(draft: &mut Draft, choice: &Choice, added: &[Added<'_>]) {
    let (chosen, unknown) = choice.named(added);
    let name = draft.metadata.get("poll_name").map_or("", String::as_str);
    draft.content = match (chosen.len(), unknown) {
        (0, 0) => format!("Took back the vote in the poll \"{name}\""),
        _ => {
            let named = chosen.iter().take(LISTED).map(|&option| Some(option));
            let cut = chosen.len().saturating_sub(LISTED);
            let cut = (cut > 0).then(|| format!("{cut} more"));
            let more = (unknown > 0).then(|| format!("{unknown} added later"));
            let head = format!("Voted in the poll \"{name}\"");
            line(&head, named.chain([cut.as_deref(), more.as_deref()]))
        }
    };
    draft.set(CHOICE, serde_json::to_string(&chosen).ok());
    draft.metadata.remove(CHOICE_UNKNOWN);
    draft.set(CHOICE_UNKNOWN, Some(unknown).filter(|&n| n > 0));
}

/// Whether this is a vote whose choice is known.
pub fn is_open_vote(draft: &Draft) -> bool {
    draft.event_type == poll::VOTE && draft.metadata.contains_key(CHOICE)
}

/// How a poll stands with a vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What this vote chose.
    pub choice: Choice,
    /// The names of the options that were added to the poll.
    pub added: Vec<String>,
    /// The votes of everybody, the voter's included, in the order of their last votes.
    pub ballots: Vec<Ballot>,
}

/// Adds to an open vote how the poll stands.
pub fn tally(mut open: Draft, voter: &str, standing: &Standing) -> Draft {
    let options = open.metadata.get(OPTIONS);
    let options: Vec<String> = options
        .and_then(|options| serde_json::from_str(options).ok())
        .unwrap_or_default();
    let added: Vec<Added<'_>> = standing
        .added
        .iter()
        .filter(|name| !options.contains(name))
        .map(|name| (hash(&compute_option_hash(name)), name.as_str()))
        .collect();
    say_choice(&mut open, &standing.choice, &added);
    let votes: Vec<(&str, Vec<&str>)> = standing
        .ballots
        .iter()
        .map(|ballot| (ballot.voter.as_str(), ballot.choice.named(&added).0))
        .collect();
    let mut voters: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut listed: Vec<&str> = Vec::new();
    // A poll too long to be listed shows the options that have votes.
    let voted = votes.iter().flat_map(|(_, options)| options).copied();
    let known: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .chain(added.iter().map(|(_, name)| *name))
        .collect();
    for option in known.iter().copied().chain(voted) {
        if listed.len() < LISTED && !voters.contains_key(option) {
            voters.insert(option, Vec::new());
            listed.push(option);
        }
    }
    for (voter, options) in &votes {
        for option in options {
            if let Some(voters) = voters.get_mut(option) {
                voters.push(voter);
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
    if !options.is_empty() {
        open.set(OPTIONS, serde_json::to_string(&known).ok());
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
const CHOICE_UNKNOWN: &str = "poll_choice_unknown";

/// The name of the option that this draft adds to a poll, if it does that.
pub fn added_option(draft: &Draft) -> Option<&str> {
    draft.metadata.get(poll::ADDED).map(String::as_str)
}

/// Whether votes or answers may be about this message.
pub fn is_answered(draft: &Draft) -> bool {
    let kind = draft.metadata.get("whatsapp_kind").map(String::as_str);
    kind.is_some_and(|kind| kind.starts_with("poll_creation_message") || kind == "event_message")
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

/// What came as an edit by the server's word. An encrypted edit of an event is handed over as the event that it makes;
/// which one that was, nothing says.
pub fn edited(draft: &mut Draft) {
    let kind = draft.metadata.get("whatsapp_kind").map(String::as_str);
    if draft.event_type == "message.received" && kind == Some("event_message") {
        draft.event_type = "message.edited".to_owned();
    }
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

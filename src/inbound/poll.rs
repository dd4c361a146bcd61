//! Polls, their options and their results. Votes are opened elsewhere: see [`reveal`](super::reveal).

use waproto::whatsapp as wa;

use super::change::ENCRYPTED;
use super::content::{Found, line, summary, time_ms};

/// So many options of a poll are listed at most. Phones make polls of twelve; a hostile sender makes what fits.
pub(super) const LISTED: usize = 100;

/// A poll or a quiz.
pub(super) fn creation(poll: &wa::message::PollCreationMessage) -> Found<'_> {
    use wa::message::PollType;
    let options = options(poll);
    let quiz = poll.poll_type == Some(PollType::QUIZ);
    let mut content = line(if quiz { "Quiz" } else { "Poll" }, [poll.name.as_deref()]);
    for option in options.iter().take(LISTED) {
        content.push_str("\n- ");
        content.push_str(option);
    }
    if let more @ 1.. = options.len().saturating_sub(LISTED) {
        content.push_str(&format!("\n({more} more options)"));
    }
    let mut draft = summary(content);
    draft.set("poll_options", serde_json::to_string(&options).ok());
    draft.set("poll_name", poll.name.as_ref());
    // Zero stands for any number.
    draft.set("poll_selectable", poll.selectable_options_count);
    draft.set("poll_quiz", quiz.then_some("true"));
    draft.set(
        "poll_correct_option",
        poll.correct_answer.option_name.as_ref(),
    );
    draft.set("poll_ends", time_ms(poll.end_time));
    draft.set(
        "poll_anonymous",
        poll.hide_participant_name.filter(|&hidden| hidden),
    );
    draft.set(
        "poll_open_options",
        poll.allow_add_option.filter(|&open| open),
    );
    (draft, poll.context_info.as_option())
}

/// The poll that a message is, if it is one.
pub(super) fn of(message: &wa::Message) -> Option<&wa::message::PollCreationMessage> {
    [
        &message.poll_creation_message,
        &message.poll_creation_message_v2,
        &message.poll_creation_message_v3,
        &message.poll_creation_message_v5,
        &message.poll_creation_message_v6,
    ]
    .into_iter()
    .find_map(|poll| poll.as_option())
}

/// The names of its options.
pub(super) fn options(poll: &wa::message::PollCreationMessage) -> Vec<&str> {
    let options = poll.options.iter();
    options.filter_map(|o| o.option_name.as_deref()).collect()
}

/// The type of a vote's event.
pub(super) const VOTE: &str = "poll.vote";

/// A vote, as it comes: closed.
pub(super) fn update(vote: &wa::message::PollUpdateMessage) -> Found<'_> {
    let mut draft = summary("Voted in a poll").about(&vote.poll_creation_message_key);
    draft.event_type = VOTE.to_owned();
    draft.set(ENCRYPTED, Some("true"));
    draft.set("voted_at", time_ms(vote.sender_timestamp_ms));
    (draft, None)
}

/// How a poll ended.
pub(super) fn result(result: &wa::message::PollResultSnapshotMessage) -> Found<'_> {
    let mut content = line("Poll result", [result.name.as_deref()]);
    let mut votes = serde_json::Map::new();
    for vote in &result.poll_votes {
        let name = vote.option_name.as_deref().unwrap_or_default();
        let count = vote.option_vote_count.unwrap_or(0);
        content.push_str(&format!("\n- {name}: {count}"));
        votes.insert(name.to_owned(), count.into());
    }
    let mut draft = summary(content);
    draft.set("poll_name", result.name.as_ref());
    draft.set("poll_votes", Some(serde_json::Value::from(votes)));
    (draft, result.context_info.as_option())
}

/// The option that was added to a poll.
pub(super) const ADDED: &str = "poll_option";

/// An option more.
pub(super) fn option_added(added: &wa::message::PollAddOptionMessage) -> Found<'_> {
    let option = added.add_option.option_name.as_deref();
    let mut draft = summary(line("Added an option to a poll", [option]));
    draft.event_type = "message.edited".to_owned();
    draft.set(ADDED, option);
    (draft.about(&added.poll_creation_message_key), None)
}

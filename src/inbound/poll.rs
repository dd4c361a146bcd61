//! Polls and their results. Votes are changes of a poll: see `change`.

use waproto::whatsapp as wa;

use super::content::{Found, line, summary};

/// The poll of an unwrapped message, if it is one.
pub(super) fn draft(m: &wa::Message) -> Option<Found<'_>> {
    let poll = [
        &m.poll_creation_message,
        &m.poll_creation_message_v2,
        &m.poll_creation_message_v3,
        &m.poll_creation_message_v5,
        &m.poll_creation_message_v6,
    ]
    .into_iter()
    .find_map(|poll| poll.as_option());
    if let Some(poll) = poll {
        let options: Vec<&str> = poll
            .options
            .iter()
            .filter_map(|o| o.option_name.as_deref())
            .collect();
        let mut content = line("Poll", [poll.name.as_deref()]);
        for option in &options {
            content.push_str("\n- ");
            content.push_str(option);
        }
        let mut draft = summary(content);
        let json = serde_json::to_string(&options).unwrap_or_default();
        draft.metadata.insert("poll_options".to_owned(), json);
        if let Some(name) = &poll.name {
            draft.metadata.insert("poll_name".to_owned(), name.clone());
        }
        // Zero stands for any number.
        if let Some(most) = poll.selectable_options_count {
            draft
                .metadata
                .insert("poll_selectable".to_owned(), most.to_string());
        }
        return Some((draft, poll.context_info.as_option()));
    }
    let result = m.poll_result_snapshot_message.as_option();
    if let Some(result) = result.or(m.poll_result_snapshot_message_v3.as_option()) {
        let mut content = line("Poll result", [result.name.as_deref()]);
        for vote in &result.poll_votes {
            let name = vote.option_name.as_deref().unwrap_or_default();
            content.push_str(&format!(
                "\n- {name}: {}",
                vote.option_vote_count.unwrap_or(0)
            ));
        }
        return Some((summary(content), result.context_info.as_option()));
    }
    if let Some(added) = m.poll_add_option_message.as_option() {
        let option = added.add_option.option_name.as_deref();
        let mut draft = summary(line("Added an option to a poll", [option]));
        draft.target_message_id = added.poll_creation_message_key.id.clone();
        return Some((draft, None));
    }
    None
}

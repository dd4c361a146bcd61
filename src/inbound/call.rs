//! Calls as messages: what became of one, and those to come. A call that rings is an event of the connection.

use waproto::buffa::Enumeration;
use waproto::whatsapp as wa;

use super::content::{Found, line, summary, time_ms};

/// What became of a call.
pub(super) fn log(call: &wa::message::CallLogMessage) -> Found<'_> {
    use wa::message::call_log_message::CallOutcome;
    let video = call.is_video == Some(true);
    let head = if video { "Video call" } else { "Voice call" };
    let outcome = match call.call_outcome {
        Some(CallOutcome::CONNECTED) => Some("answered"),
        Some(CallOutcome::MISSED) => Some("missed"),
        Some(CallOutcome::FAILED) => Some("failed"),
        Some(CallOutcome::REJECTED) => Some("declined"),
        Some(CallOutcome::ACCEPTED_ELSEWHERE) => Some("answered on another device"),
        Some(CallOutcome::ONGOING) => Some("going on"),
        Some(CallOutcome::SILENCED_BY_DND) => Some("silenced, do not disturb"),
        Some(CallOutcome::SILENCED_UNKNOWN_CALLER) => Some("silenced, unknown caller"),
        None => None,
    };
    let lasted = call
        .duration_secs
        .filter(|&seconds| seconds > 0)
        .map(|seconds| format!("{seconds} s"));
    let mut draft = summary(line(head, [outcome, lasted.as_deref()]));
    draft.set("call_video", Some(video));
    let outcome = call.call_outcome.map(|outcome| outcome.proto_name());
    draft.set("call_outcome", outcome.map(str::to_ascii_lowercase));
    draft.set("call_duration_seconds", call.duration_secs);
    let kind = call.call_type.map(|kind| kind.proto_name());
    draft.set("call_type", kind.map(str::to_ascii_lowercase));
    let people: Vec<&str> = call
        .participants
        .iter()
        .filter_map(|p| p.jid.as_deref())
        .collect();
    if !people.is_empty() {
        draft.set("call_participants", serde_json::to_string(&people).ok());
    }
    (draft, None)
}

/// A call to come.
pub(super) fn scheduled(call: &wa::message::ScheduledCallCreationMessage) -> Found<'_> {
    use wa::message::scheduled_call_creation_message::CallType;
    let at = time_ms(call.scheduled_timestamp_ms);
    let head = match call.call_type {
        Some(CallType::VIDEO) => "Scheduled video call",
        _ => "Scheduled call",
    };
    let mut draft = summary(line(head, [call.title.as_deref(), at.as_deref()]));
    draft.set("call_title", call.title.as_ref());
    draft.set("call_start", at);
    let video = call.call_type.map(|kind| kind == CallType::VIDEO);
    draft.set("call_video", video);
    (draft, None)
}

/// A call that will not be. The protocol has no other change of it.
pub(super) fn rescheduled(change: &wa::message::ScheduledCallEditMessage) -> Found<'_> {
    use wa::message::scheduled_call_edit_message::EditType;
    let mut draft = summary(match change.edit_type {
        Some(EditType::CANCEL) => "Cancelled a scheduled call",
        Some(EditType::UNKNOWN) | None => "Changed a scheduled call",
    });
    draft.event_type = "message.edited".to_owned();
    (draft.about(&change.key), None)
}

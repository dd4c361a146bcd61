//! Events: what people are invited to.

use waproto::whatsapp as wa;

use super::content::{Found, line, summary, time};

/// An event, announced, changed or called off.
pub(super) fn event(event: &wa::message::EventMessage) -> Found<'_> {
    let start = time(event.start_time);
    let end = time(event.end_time);
    let until = end.as_ref().map(|end| format!("until {end}"));
    let place = event.location.name.as_deref();
    let details = [
        event.name.as_deref(),
        start.as_deref(),
        until.as_deref(),
        place,
        event.description.as_deref(),
        event.join_link.as_deref(),
    ];
    let cancelled = event.is_canceled == Some(true);
    let mut draft = summary(line(
        if cancelled {
            "Cancelled event"
        } else {
            "Event"
        },
        details,
    ));
    draft.set("event_name", event.name.as_ref());
    draft.set("event_description", event.description.as_ref());
    draft.set("event_start", start);
    draft.set("event_end", end);
    draft.set("event_location", place);
    draft.set("event_address", event.location.address.as_ref());
    draft.set("event_latitude", event.location.degrees_latitude);
    draft.set("event_longitude", event.location.degrees_longitude);
    draft.set("event_link", event.join_link.as_ref());
    draft.set("event_cancelled", cancelled.then_some("true"));
    draft.set("event_call", event.is_schedule_call.filter(|&call| call));
    draft.set(
        "event_guests_allowed",
        event.extra_guests_allowed.filter(|&allowed| allowed),
    );
    (draft, event.context_info.as_option())
}

/// An event of another chat.
pub(super) fn invite(invite: &wa::message::EventInviteMessage) -> Found<'_> {
    let start = time(invite.start_time);
    let details = [
        invite.event_title.as_deref(),
        start.as_deref(),
        invite.caption.as_deref(),
        invite.call_link.as_deref(),
    ];
    let cancelled = invite.is_canceled == Some(true);
    let mut draft = summary(line(
        if cancelled {
            "Invitation to an event that was cancelled"
        } else {
            "Invitation to an event"
        },
        details,
    ));
    draft.set("event_id", invite.event_id.as_ref());
    draft.set("event_name", invite.event_title.as_ref());
    draft.set("event_start", start);
    draft.set("event_end", time(invite.end_time));
    draft.set("event_link", invite.call_link.as_ref());
    draft.set("event_cancelled", cancelled.then_some("true"));
    (draft, invite.context_info.as_option())
}

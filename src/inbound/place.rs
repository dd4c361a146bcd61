//! Locations, fixed and live.

use waproto::whatsapp as wa;

use super::content::{Found, line, summary};
use super::draft::Draft;

/// A place.
pub(super) fn fixed(place: &wa::message::LocationMessage) -> Found<'_> {
    let head = match place.is_live {
        Some(true) => "Live location",
        _ => "Location",
    };
    let details = [
        place.name.as_deref(),
        place.address.as_deref(),
        place.comment.as_deref(),
    ];
    let mut draft = located(
        head,
        &details,
        (place.degrees_latitude, place.degrees_longitude),
    );
    draft.set("name", place.name.as_ref());
    draft.set("address", place.address.as_ref());
    draft.set("url", place.url.as_ref());
    draft.set("live", place.is_live.filter(|&live| live));
    draft.set("accuracy_meters", place.accuracy_in_meters);
    (draft, place.context_info.as_option())
}

/// Where somebody is, until they stop saying so.
pub(super) fn live(place: &wa::message::LiveLocationMessage) -> Found<'_> {
    let at = (place.degrees_latitude, place.degrees_longitude);
    let mut draft = located("Live location", &[place.caption.as_deref()], at);
    draft.set("live", Some("true"));
    draft.set("accuracy_meters", place.accuracy_in_meters);
    draft.set("speed_meters_per_second", place.speed_in_mps);
    draft.set(
        "heading_degrees",
        place.degrees_clockwise_from_magnetic_north,
    );
    draft.set("sequence", place.sequence_number);
    (draft, place.context_info.as_option())
}

fn located(head: &str, details: &[Option<&str>], at: (Option<f64>, Option<f64>)) -> Draft {
    let (Some(latitude), Some(longitude)) = at else {
        return summary(line(head, details.iter().copied()));
    };
    let point = format!("{latitude:.6}, {longitude:.6}");
    let mut draft = summary(line(
        head,
        details.iter().copied().chain([Some(point.as_str())]),
    ));
    draft.set("latitude", Some(latitude));
    draft.set("longitude", Some(longitude));
    draft
}

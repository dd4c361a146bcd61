//! Locations, contact cards and events.

use chrono::{DateTime, SecondsFormat};
use waproto::whatsapp as wa;

use super::content::{Found, line, summary};
use super::draft::Draft;
use crate::identity::Phone;

/// The location, contact or event of an unwrapped message, if it is one.
pub(super) fn draft(m: &wa::Message) -> Option<Found<'_>> {
    if let Some(place) = m.location_message.as_option() {
        let head = match place.is_live {
            Some(true) => "Live location",
            _ => "Location",
        };
        let at = (place.degrees_latitude, place.degrees_longitude);
        let details = [
            place.name.as_deref(),
            place.address.as_deref(),
            place.comment.as_deref(),
        ];
        let mut draft = located(head, &details, at);
        for (key, value) in [
            ("name", &place.name),
            ("address", &place.address),
            ("url", &place.url),
        ] {
            insert(&mut draft, key, value.as_deref());
        }
        return Some((draft, place.context_info.as_option()));
    }
    if let Some(place) = m.live_location_message.as_option() {
        let at = (place.degrees_latitude, place.degrees_longitude);
        let draft = located("Live location", &[place.caption.as_deref()], at);
        return Some((draft, place.context_info.as_option()));
    }
    if let Some(contact) = m.contact_message.as_option() {
        return Some((
            contacts(std::slice::from_ref(contact)),
            contact.context_info.as_option(),
        ));
    }
    if let Some(several) = m.contacts_array_message.as_option() {
        return Some((
            contacts(&several.contacts),
            several.context_info.as_option(),
        ));
    }
    if let Some(event) = m.event_message.as_option() {
        return Some((meeting(event), event.context_info.as_option()));
    }
    if let Some(invite) = m.event_invite_message.as_option() {
        let start = invite.start_time.and_then(time);
        let details = [
            invite.event_title.as_deref(),
            start.as_deref(),
            invite.caption.as_deref(),
        ];
        let draft = summary(line("Invitation to an event", details));
        return Some((draft, invite.context_info.as_option()));
    }
    None
}

fn insert(draft: &mut Draft, key: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        draft.metadata.insert(key.to_owned(), value.to_owned());
    }
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
    insert(&mut draft, "latitude", Some(&latitude.to_string()));
    insert(&mut draft, "longitude", Some(&longitude.to_string()));
    draft
}

fn contacts(cards: &[wa::message::ContactMessage]) -> Draft {
    let lines: Vec<String> = cards
        .iter()
        .map(|card| {
            let phones = phones(card.vcard.as_deref().unwrap_or_default());
            let details: Vec<Option<&str>> = std::iter::once(card.display_name.as_deref())
                .chain(phones.iter().map(|phone| Some(phone.as_str())))
                .collect();
            line("Contact", details)
        })
        .collect();
    let mut draft = summary(match lines.is_empty() {
        true => "Contact".to_owned(),
        false => lines.join("\n"),
    });
    let vcards: Vec<&str> = cards
        .iter()
        .filter_map(|card| card.vcard.as_deref())
        .collect();
    match vcards[..] {
        [] => {}
        [one] => insert(&mut draft, "vcard", Some(one)),
        _ => insert(
            &mut draft,
            "vcards",
            serde_json::to_string(&vcards).ok().as_deref(),
        ),
    }
    draft
}

/// The numbers of a vCard: `TEL;type=CELL;waid=15551230000:+1 555-123-0000`.
fn phones(vcard: &str) -> Vec<String> {
    let mut phones = Vec::new();
    for entry in vcard.lines() {
        let Some((property, value)) = entry.split_once(':') else {
            continue;
        };
        // `item1.TEL` groups a number with its label.
        let name = property.split(';').next().unwrap_or_default();
        if !name
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .eq_ignore_ascii_case("tel")
        {
            continue;
        }
        let waid = property
            .split(';')
            .find_map(|parameter| parameter.strip_prefix("waid="));
        let phone = waid
            .and_then(|id| id.parse::<Phone>().ok())
            .or_else(|| value.parse().ok());
        let phone = phone.map_or_else(|| value.trim().to_owned(), |phone| phone.to_string());
        if !phones.contains(&phone) {
            phones.push(phone);
        }
    }
    phones
}

fn meeting(event: &wa::message::EventMessage) -> Draft {
    let start = event.start_time.and_then(time);
    let end = event.end_time.and_then(time);
    let until = end.as_ref().map(|end| format!("until {end}"));
    let place = event
        .location
        .as_option()
        .and_then(|place| place.name.as_deref());
    let head = match event.is_canceled {
        Some(true) => "Cancelled event",
        _ => "Event",
    };
    let details = [
        event.name.as_deref(),
        start.as_deref(),
        until.as_deref(),
        place,
        event.description.as_deref(),
        event.join_link.as_deref(),
    ];
    let mut draft = summary(line(head, details));
    insert(&mut draft, "event_name", event.name.as_deref());
    insert(&mut draft, "event_start", start.as_deref());
    insert(&mut draft, "event_end", end.as_deref());
    insert(&mut draft, "event_location", place);
    insert(&mut draft, "event_link", event.join_link.as_deref());
    draft
}

fn time(seconds: i64) -> Option<String> {
    let time = DateTime::from_timestamp(seconds, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

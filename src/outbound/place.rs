//! Places.

use waproto::whatsapp as wa;

use super::fields::{Address, Latitude, Longitude, Name};

/// A pin on the map.
pub(super) fn message(
    Latitude(latitude): Latitude,
    Longitude(longitude): Longitude,
    name: Option<&Name>,
    address: Option<&Address>,
) -> wa::Message {
    wa::Message {
        location_message: wa::message::LocationMessage {
            degrees_latitude: Some(latitude),
            degrees_longitude: Some(longitude),
            name: name.map(|name| name.0.clone()),
            address: address.map(|address| address.0.clone()),
            ..wa::message::LocationMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}

//! What became of our own connection.

use wacore::types::events::Event;

use super::{Notice, told};
use crate::inbound::content::line;

/// A change of the connection, if the event is one.
pub(super) fn notice(event: &Event, now: i64) -> Option<Notice> {
    let (word, content, detail) = match event {
        Event::Connected(_) => ("connected", "Connected", None),
        Event::Disconnected(lost) => (
            "disconnected",
            "Disconnected",
            Some(lost.reason.to_string()),
        ),
        Event::LoggedOut(out) => (
            "logged_out",
            "Logged out",
            Some(out.reason.code().to_string()),
        ),
        Event::StreamReplaced(_) => ("replaced", "Another connection took over", None),
        Event::TemporaryBan(ban) => ("banned", "Banned for a while", Some(ban.code.to_string())),
        Event::ClientOutdated(_) => ("outdated", "This version is no longer accepted", None),
        Event::ConnectFailure(failure) => (
            "refused",
            "The connection was refused",
            Some(failure.reason.code().to_string()),
        ),
        Event::StreamError(error) => ("failed", "The connection failed", Some(error.code.clone())),
        _ => return None,
    };
    let mut draft = told(
        &format!("connection.{word}"),
        line(content, [detail.as_deref()]),
    );
    draft.set("reason", detail);
    if let Event::TemporaryBan(ban) = event {
        draft.set("ban_seconds", Some(ban.expire.num_seconds()));
    }
    Some(Notice {
        id: format!("connection:{word}:{now}"),
        timestamp: now / 1000,
        draft,
        ..Notice::default()
    })
}

//! Routes: names for kinds of conversations, in the operator's order.

use super::Subject;
use crate::config::Route;
use crate::identity::{Address, ChatKind, IdEntry};
use crate::protocol::PLATFORM;

/// Whether every condition of the route holds.
pub(super) fn matches(route: &Route, subject: &Subject<'_>, own: &[Address]) -> bool {
    leads(route, subject, own)
        && route
            .text_regex
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(subject.text))
}

/// The same for some text or other of this sender in this conversation. `own` are the addresses of the linked account;
/// while they are not known, no condition on them holds.
pub(super) fn leads(route: &Route, subject: &Subject<'_>, own: &[Address]) -> bool {
    let holds = |condition: &Option<IdEntry>, addresses: &[Address]| {
        condition
            .as_ref()
            .is_none_or(|entry| entry.matches(addresses))
    };
    route
        .channel
        .as_deref()
        .is_none_or(|channel| channel.eq_ignore_ascii_case(PLATFORM))
        && holds(&route.chat, subject.chat)
        && holds(&route.from, subject.sender)
        && holds(&route.to, own)
        && route.group.as_ref().is_none_or(|entry| {
            subject.kind == ChatKind::Group
                && (entry.matches(subject.chat) || entry.matches(subject.sender))
        })
}

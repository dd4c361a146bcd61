//! Who is there and who is typing. Neither is ever queued: it reaches who is connected now, or nobody.

use std::sync::Arc;

use bytes::Bytes;
use wacore_binary::{Jid, Node, NodeValue, Server, builder::NodeBuilder};

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
    groups,
    message::is_blocked,
    session::Session,
    sync::lock,
    wire::node::{self, children, text},
};

/// Longer names are ignored.
const NAME: usize = 200;

/// Sends a stanza to a device if it is there.
pub fn send_live(device: &Device, stanza: Bytes) {
    if let Some(link) = lock(&device.mail).link.as_ref().filter(|link| link.active) {
        link.outbox.push(stanza);
    }
}

/// Handles a presence of a client: its own, or the wish to see another's.
pub fn presence(session: &Session, stanza: &Node) {
    let kind = text(stanza, "type");
    match kind.as_ref() {
        "subscribe" => subscribe(session, stanza),
        "unsubscribe" => {
            if let Some(account) = target(session, stanza) {
                lock(&account.state)
                    .subscribers
                    .remove(&session.account.phone);
            }
        }
        _ => {
            let available = kind != "unavailable";
            if let Some(name) =
                node::attr(stanza, "name").filter(|name| (1..=NAME).contains(&name.len()))
            {
                lock(&session.account.state).push_name = name.into_owned();
            }
            let kind = if available {
                "available"
            } else {
                "unavailable"
            };
            lock(&session.device.mail).presence = Some(kind.to_owned());
            announce(&session.core, &session.account);
        }
    }
}

fn target(session: &Session, stanza: &Node) -> Option<Arc<Account>> {
    session.core.by_jid(&node::jid(stanza, "to")?)
}

fn subscribe(session: &Session, stanza: &Node) {
    let (Some(to), Some(account)) = (node::jid(stanza, "to"), target(session, stanza)) else {
        return;
    };
    if is_blocked(&account, &session.account) {
        return;
    }
    let family = Family::of(&to).unwrap_or(Family::Pn);
    let _telling = lock(&account.telling);
    {
        let mut state = lock(&account.state);
        if state.subscribers.len() < session.core.limits().subscriptions {
            state
                .subscribers
                .insert(session.account.phone.clone(), family);
        }
    }
    session.send(&describe(&account, family));
}

/// Whether any device says that its person is there.
fn is_available(account: &Account) -> bool {
    account.devices().iter().any(|device| {
        let mail = lock(&device.mail);
        mail.link.is_some() && mail.presence.as_deref() == Some("available")
    })
}

fn describe(account: &Account, family: Family) -> Node {
    let presence = NodeBuilder::new("presence").attr("from", account.jid(family));
    if is_available(account) {
        return presence.build();
    }
    let last = lock(&account.state).last_seen;
    let last = last.map_or("none".to_owned(), |last| last.to_string());
    presence
        .attr("type", "unavailable")
        .attr("last", last)
        .build()
}

/// Tells who asked for it whether a person is there.
fn announce(core: &Core, account: &Account) {
    let _telling = lock(&account.telling);
    let available = is_available(account);
    let subscribers: Vec<(String, Family)> = {
        let mut state = lock(&account.state);
        if !available {
            state.last_seen = Some(clock::unix());
        }
        state
            .subscribers
            .iter()
            .map(|(phone, family)| (phone.clone(), *family))
            .collect()
    };
    for (subscriber, family) in subscribers {
        let Some(subscriber) = core.by_phone(&subscriber) else {
            continue;
        };
        let stanza = node::encode(&describe(account, family));
        for device in subscriber.devices() {
            send_live(&device, stanza.clone());
        }
    }
}

/// A device's connection has ended.
pub fn gone(core: &Core, account: &Account, device: &Device) {
    let was = lock(&device.mail).presence.take();
    if was.as_deref() == Some("available") {
        announce(core, account);
    }
}

/// Handles `composing` and `paused`: relays it to who is there, in the namespace that the sender used.
pub fn chatstate(session: &Session, stanza: &Node) {
    let Some(to) = node::jid(stanza, "to") else {
        return;
    };
    if to.server == Server::Group {
        groups::chatstate(session, stanza, &to);
        return;
    }
    let (Some(family), Some(account)) = (Family::of(&to), session.core.by_jid(&to)) else {
        return;
    };
    if account.phone == session.account.phone || is_blocked(&account, &session.account) {
        return;
    }
    let stanza = relayed(stanza, session.account.jid(family).into(), None);
    for device in account.devices() {
        send_live(&device, stanza.clone());
    }
}

/// A chat state as others get it.
pub fn relayed(stanza: &Node, from: NodeValue, participant: Option<Jid>) -> Bytes {
    let mut relayed = NodeBuilder::new("chatstate").attr("from", from);
    if let Some(participant) = participant {
        relayed = relayed.attr("participant", participant);
    }
    node::encode(&relayed.children(children(stanza).to_vec()).build())
}

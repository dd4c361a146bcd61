//! usync: what is known about people, by JID in either namespace or by number.

use std::sync::{Arc, atomic::Ordering};

use wacore_binary::{Jid, Node, builder::NodeBuilder};

use crate::{
    account::{Account, Family},
    pairing::adv,
    session::Session,
    sync::lock,
    wire::node::{self, all, bytes, child, children},
};

/// Answers a request.
pub fn answer(session: &Session, iq: &Node) -> Node {
    let Some(usync) = child(iq, "usync") else {
        return node::error(iq, 400, "bad-request");
    };
    let protocols: Vec<&str> = child(usync, "query")
        .map(children)
        .unwrap_or_default()
        .iter()
        .map(|protocol| protocol.tag.as_ref())
        .collect();
    let users = child(usync, "list")
        .into_iter()
        .flat_map(|list| all(list, "user"))
        .filter_map(|user| describe(session, user, &protocols));
    let results = protocols
        .iter()
        .map(|tag| NodeBuilder::new_dynamic((*tag).to_owned()).build());
    let reply = node::copy(
        NodeBuilder::new("usync"),
        usync,
        &["sid", "mode", "context", "last", "index"],
    )
    .children([
        NodeBuilder::new("result").children(results).build(),
        NodeBuilder::new("list")
            .children(users.collect::<Vec<_>>())
            .build(),
    ])
    .build();
    node::result(iq).children([reply]).build()
}

/// Who is asked about: a JID, or a number as people write it.
fn asked(user: &Node) -> Option<(Jid, bool)> {
    if let Some(jid) = node::jid(user, "jid") {
        return Some((jid, false));
    }
    let number = child(user, "contact").map(bytes)?;
    let digits: String = number
        .iter()
        .filter(|b| b.is_ascii_digit())
        .map(|b| char::from(*b))
        .collect();
    Some((Jid::pn(digits), true))
}

fn describe(session: &Session, user: &Node, protocols: &[&str]) -> Option<Node> {
    let (jid, by_number) = asked(user)?;
    let family = Family::of(&jid)?;
    let account = match by_number {
        true => {
            let counters = session.core.counting();
            counters.lookups.fetch_add(1, Ordering::Relaxed);
            session.core.by_number(jid.user.as_str())
        }
        false => session.core.by_jid(&jid),
    };
    let described = NodeBuilder::new("user");
    let Some(account) = account else {
        let parts = protocols.iter().filter_map(|protocol| match *protocol {
            "contact" => Some(contact(user, "out")),
            "devices" | "status" | "picture" => Some(absent(protocol)),
            _ => None,
        });
        return Some(
            described
                .attr("jid", jid.to_non_ad())
                .children(parts)
                .build(),
        );
    };
    let mut described = described.attr("jid", account.jid(family));
    let secretive = lock(&account.state).secretive;
    if family == Family::Lid && !secretive {
        described = described.attr("pn_jid", account.jid(Family::Pn));
    }
    let parts = protocols.iter().filter_map(|protocol| match *protocol {
        "contact" if by_number || child(user, "contact").is_some() => Some(contact(user, "in")),
        "contact" => Some(NodeBuilder::new("contact").attr("type", "in").build()),
        "devices" => Some(devices(session, &account)),
        "lid" if family == Family::Pn && !secretive => Some(
            NodeBuilder::new("lid")
                .attr("val", account.jid(Family::Lid))
                .build(),
        ),
        "status" => about(&account),
        "picture" => lock(&account.state)
            .picture
            .as_ref()
            .map(|picture| NodeBuilder::new("picture").attr("id", &picture.id).build()),
        "disappearing_mode" => {
            let (duration, since) = lock(&account.state).disappearing.unwrap_or_default();
            Some(
                NodeBuilder::new("disappearing_mode")
                    .attr("duration", duration)
                    .attr("t", since)
                    .build(),
            )
        }
        "business" => business(&account),
        _ => None,
    });
    Some(described.children(parts.collect::<Vec<_>>()).build())
}

fn absent(protocol: &str) -> Node {
    let error = NodeBuilder::new("error")
        .attr("code", "404")
        .attr("text", "item-not-found")
        .build();
    NodeBuilder::new_dynamic(protocol.to_owned())
        .children([error])
        .build()
}

fn contact(user: &Node, kind: &'static str) -> Node {
    let contact = NodeBuilder::new("contact").attr("type", kind);
    match child(user, "contact").map(bytes) {
        Some(number) if !number.is_empty() => contact.bytes(number).build(),
        _ => contact.build(),
    }
}

fn about(account: &Account) -> Option<Node> {
    let (text, since) = lock(&account.state).about.clone()?;
    Some(
        NodeBuilder::new("status")
            .attr("t", since)
            .bytes(text.into_bytes())
            .build(),
    )
}

fn business(account: &Account) -> Option<Node> {
    let name = lock(&account.state).business.clone()?;
    let profile = NodeBuilder::new("verified_name")
        .attr("verified_level", "unknown")
        .bytes(name.into_bytes())
        .build();
    Some(NodeBuilder::new("business").children([profile]).build())
}

/// The device list, signed: clients discard every companion of one that is not.
fn devices(session: &Session, account: &Arc<Account>) -> Node {
    let mut state = lock(&account.state);
    if state.watchers.len() < session.core.limits().subscriptions {
        state.watchers.insert(session.account.phone.clone());
    }
    let list = std::iter::once(NodeBuilder::new("device").attr("id", 0).build()).chain(
        state.devices.values().map(|device| {
            NodeBuilder::new("device")
                .attr("id", device.id)
                .attr("key-index", device.key_index)
                .build()
        }),
    );
    let list = NodeBuilder::new("device-list").children(list).build();
    let mut parts = vec![list];
    if let Some(signed) = adv::device_list(account, &state) {
        let signed = NodeBuilder::new("key-index-list")
            .attr("ts", state.devices_changed)
            .bytes(signed);
        parts.push(signed.build());
    }
    NodeBuilder::new("devices").children(parts).build()
}

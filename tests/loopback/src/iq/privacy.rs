//! Privacy settings, the block list, disappearing messages.

use wacore_binary::{Node, NodeContent, builder::NodeBuilder};

use crate::{
    account::Family,
    clock,
    session::Session,
    sync::lock,
    wire::node::{self, all, child, number, text},
};

/// Categories and what they are set to from the start.
const DEFAULTS: &[(&str, &str)] = &[
    ("last", "all"),
    ("online", "all"),
    ("profile", "all"),
    ("status", "contacts"),
    ("readreceipts", "all"),
    ("groupadd", "all"),
    ("calladd", "all"),
    ("messages", "all"),
    ("defense", "off"),
];

/// Answers a request to read or change settings, or to hand tokens to contacts.
pub fn privacy(session: &Session, iq: &Node) -> Node {
    if let Some(tokens) = child(iq, "tokens") {
        hand_out(session, tokens);
        return node::result(iq).build();
    }
    let mut state = lock(&session.account.state);
    if text(iq, "type") == "set" {
        let changes = child(iq, "privacy").into_iter();
        for change in changes.flat_map(|privacy| all(privacy, "category")) {
            let name = text(change, "name");
            let short = text(change, "value").len() <= 64;
            if short && DEFAULTS.iter().any(|(known, _)| *known == name) {
                let value = text(change, "value").into_owned();
                state.privacy.insert(name.into_owned(), value);
            }
        }
    }
    let categories = DEFAULTS.iter().map(|(name, default)| {
        let value = state.privacy.get(*name).map_or(*default, String::as_str);
        NodeBuilder::new("category")
            .attr("name", *name)
            .attr("value", value)
            .build()
    });
    let privacy = NodeBuilder::new("privacy").children(categories).build();
    node::result(iq).children([privacy]).build()
}

/// A token by which a contact proves that it is one.
fn hand_out(session: &Session, tokens: &Node) {
    for token in all(tokens, "token") {
        let Some(jid) = node::jid(token, "jid") else {
            continue;
        };
        let (Some(account), Some(family)) = (session.core.by_jid(&jid), Family::of(&jid)) else {
            continue;
        };
        let mut secret = [0; 16];
        fastrand::fill(&mut secret);
        session.core.notify(&account, None, |notification| {
            let token = node::copy(NodeBuilder::new("token"), token, &["t", "type"])
                .bytes(secret)
                .build();
            notification
                .attr("from", session.account.jid(family))
                .attr("type", "privacy_token")
                .attr("sender_lid", session.account.jid(Family::Lid))
                .children([NodeBuilder::new("tokens").children([token]).build()])
                .build()
        });
    }
}

/// Answers a request to read or change who is blocked.
pub fn blocklist(session: &Session, iq: &Node) -> Node {
    let mut state = lock(&session.account.state);
    if text(iq, "type") == "set" {
        let Some(item) = child(iq, "item") else {
            return node::error(iq, 400, "bad-request");
        };
        let Some(jid) = node::jid(item, "jid") else {
            return node::error(iq, 400, "bad-request");
        };
        let jid = jid.to_non_ad();
        if text(item, "action") == "unblock" {
            // It may have been blocked by its other name.
            state.blocked.remove(&jid.to_string());
            if let Some(account) = session.core.by_jid(&jid) {
                for family in [Family::Pn, Family::Lid] {
                    state.blocked.remove(&account.jid(family).to_string());
                }
            }
        } else if Family::of(&jid).is_none() {
            return node::error(iq, 400, "bad-request");
        } else if state.blocked.len() < session.core.limits().subscriptions {
            state.blocked.insert(jid.to_string());
        }
    }
    let items = state
        .blocked
        .iter()
        .map(|jid| NodeBuilder::new("item").attr("jid", jid.as_str()).build());
    let list = NodeBuilder::new("list").children(items).build();
    node::result(iq).children([list]).build()
}

/// Answers a request about disappearing messages in new chats.
pub fn disappearing(session: &Session, iq: &Node) -> Node {
    let mut state = lock(&session.account.state);
    if text(iq, "type") == "set" {
        let duration = child(iq, "disappearing_mode").and_then(|mode| number(mode, "duration"));
        state.disappearing = Some((duration.unwrap_or_default(), clock::unix()));
        return node::result(iq).build();
    }
    let (duration, since) = state.disappearing.unwrap_or_default();
    let mode = NodeBuilder::new("disappearing_mode")
        .attr("duration", duration)
        .attr("t", since)
        .build();
    let mut reply = node::result(iq).build();
    reply.content = Some(NodeContent::Nodes(vec![mode]));
    reply
}

//! Receipts: each settles messages in the queue of the device that sent it, and goes on to who wrote them.

use wacore_binary::{Jid, JidExt, Node, NodeValue, Server, builder::NodeBuilder};

use crate::{
    account::{Account, Family},
    clock,
    mailbox::{Class, Letter},
    phone,
    session::{Session, ack},
    wire::node::{self, all, attr, child, children, number, text},
    writer,
};

/// Kinds that concern nobody but the sender's own account.
const OWN: &[&str] = &[
    "sender",
    "peer_msg",
    "hist_sync",
    "read-self",
    "played-self",
    "server-error",
];

/// Handles a receipt of a client.
pub fn handle(session: &Session, receipt: &Node) {
    session.send(&node::copy(ack(receipt, "receipt"), receipt, &["type"]).build());
    let Some(to) = node::jid(receipt, "to") else {
        return;
    };
    let author = node::jid(receipt, "participant");
    settle(session, receipt, author.as_ref().unwrap_or(&to));
    let kind = text(receipt, "type");
    if kind == "server-error" {
        phone::misses_media(session, receipt);
    }
    if OWN.contains(&kind.as_ref()) {
        return;
    }
    let shared = to.server == Server::Group || to.is_status_broadcast();
    let (Some(target), Some(family)) = (
        if shared {
            author.clone()
        } else {
            Some(to.clone())
        },
        author.as_ref().map_or_else(|| Family::of(&to), Family::of),
    ) else {
        return;
    };
    let Some(account) = session.core.by_jid(&target) else {
        return;
    };
    if account.phone == session.account.phone && kind != "retry" {
        return;
    }
    let reader = session.jid(family);
    let from: Vec<(&'static str, NodeValue)> = if shared {
        vec![("from", to.into()), ("participant", reader.into())]
    } else {
        vec![("from", reader.into())]
    };
    let retry = kind == "retry";
    if retry && target.device == 0 {
        let count = child(receipt, "retry").and_then(|retry| number(retry, "count"));
        writer::retry(session, &account, receipt, count.unwrap_or(1));
        return;
    }
    forward(
        session,
        &account,
        retry.then_some(target.device),
        from,
        receipt,
    );
}

/// Settles what a receipt is about in the device's own queue.
fn settle(session: &Session, receipt: &Node, author: &Jid) {
    // Letters are filed under the phone number of who wrote them.
    let from = session
        .core
        .by_jid(author)
        .map(|account| account.phone.clone());
    let settle = |id: &str| session.settle(Class::Message, id, from.as_deref());
    settle(&text(receipt, "id"));
    for item in child(receipt, "list")
        .into_iter()
        .flat_map(|list| all(list, "item"))
    {
        settle(&text(item, "id"));
    }
}

fn forward(
    session: &Session,
    account: &Account,
    only: Option<u16>,
    from: Vec<(&'static str, NodeValue)>,
    receipt: &Node,
) {
    let mut stanza = NodeBuilder::new("receipt");
    for (key, value) in from {
        stanza = stanza.attr(key, value);
    }
    stanza = node::copy(stanza, receipt, &["id", "type"]).attr("t", clock::unix());
    if !children(receipt).is_empty() {
        stanza = stanza.children(children(receipt).to_vec());
    }
    let encoded = node::encode(&stanza.build());
    let id = attr(receipt, "id").unwrap_or_default();
    for device in account.devices() {
        if only.is_some_and(|only| only != device.id) {
            continue;
        }
        let letter = Letter {
            class: Class::Receipt,
            id: id.as_ref().into(),
            from: session.account.phone.as_str().into(),
            stanza: encoded.clone(),
            track: None,
        };
        session.core.deliver(account, &device, letter);
    }
}

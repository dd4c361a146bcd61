//! Messages: acknowledged to the sender, and handed to every device that they are for.
//!
//! The server reads who is to get which ciphertext, never what is in it.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::{Jid, JidExt, Node, NodeValue, Server, builder::NodeBuilder};

use crate::{
    account::{Account, Family},
    clock,
    faults::Ack,
    groups,
    mailbox::{Class, Letter, Settled},
    session::{Session, ack},
    status,
    sync::lock,
    wire::node::{self, all, attr, child, children, text},
};

/// What a refused message is answered with.
pub type Refused = u16;

/// Attributes of a message that its receivers see too.
const CARRIED: &[&str] = &[
    "id",
    "type",
    "edit",
    "category",
    "push_priority",
    "addressing_mode",
    "count",
];

/// Handles a message of a client.
pub fn handle(session: &Session, message: &Node) {
    let fault = session
        .core
        .faults()
        .ack(&session.account.phone, session.device.id);
    let outcome = match fault {
        Ack::Refuse(code) => Err(code),
        _ => check(session, message),
    };
    let mut answer = ack(message, "message").attr("t", clock::unix());
    if let Err(code) = outcome {
        answer = answer.attr("error", code);
    }
    let answer = answer.build();
    match fault {
        Ack::Withhold => {}
        Ack::Delay(by) => delay(session, answer, by),
        Ack::Now | Ack::Refuse(_) => session.send(&answer),
    }
    if let Ok(to) = outcome {
        session
            .core
            .counting()
            .messages
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        relay(session, message, &to);
    }
}

fn delay(session: &Session, answer: Node, by: Duration) {
    let outbox = session.outbox.clone();
    tokio::spawn(async move {
        tokio::time::sleep(by).await;
        outbox.push(node::encode(&answer));
    });
}

/// Whether a message can be delivered at all: to whom.
fn check(session: &Session, message: &Node) -> Result<Jid, Refused> {
    let to = node::jid(message, "to").ok_or(400_u16)?;
    if text(message, "id").is_empty() {
        return Err(400);
    }
    match to.server {
        Server::Group => groups::may_send(session, &to, message).map(|()| to),
        _ if to.is_status_broadcast() => Ok(to),
        _ => match session.core.by_jid(&to) {
            Some(account) => may_reach(session, &account).map(|()| to),
            None => Err(404),
        },
    }
}

/// An account that is restricted may write only to those who have written to it.
fn may_reach(session: &Session, to: &Account) -> Result<(), Refused> {
    let own = to.phone == session.account.phone;
    if !own && session.account.restricted_until().is_some() {
        let known = lock(&session.account.state).written_by.contains(&to.phone);
        if !known {
            return Err(463);
        }
    }
    let mut state = lock(&to.state);
    if state.written_by.len() < session.core.limits().subscriptions {
        state.written_by.insert(session.account.phone.clone());
    }
    Ok(())
}

fn relay(session: &Session, message: &Node, to: &Jid) {
    match to.server {
        Server::Group => groups::relay(session, message, to),
        _ if to.is_status_broadcast() => status::relay(session, message, to),
        _ => direct(session, message, to),
    }
}

/// The ciphertexts for single devices.
pub fn addressed(message: &Node) -> impl Iterator<Item = (Jid, &Node)> {
    child(message, "participants")
        .into_iter()
        .flat_map(|participants| all(participants, "to"))
        .filter_map(|to| Some((node::jid(to, "jid")?, to)))
}

/// The ciphertexts in a node.
pub fn ciphertexts(holder: &Node) -> impl Iterator<Item = &Node> {
    all(holder, "enc")
}

fn direct(session: &Session, message: &Node, to: &Jid) {
    // Retry answers and messages between one's own devices are for one device and have their ciphertext directly.
    let single = ciphertexts(message).next().is_some();
    let targets = addressed(message).chain(single.then(|| (to.clone(), message)));
    for (target, holder) in targets {
        let (Some(family), Some(account)) = (Family::of(&target), session.core.by_jid(&target))
        else {
            continue;
        };
        let own = account.phone == session.account.phone;
        if !own && is_blocked(&account, &session.account) {
            continue;
        }
        let mut attrs = vec![("from", NodeValue::from(session.jid(family)))];
        if own {
            attrs.push(("recipient", to.to_non_ad().into()));
            if to.is_lid()
                && let Some(peer) = session.core.by_jid(to)
            {
                attrs.push(("peer_recipient_pn", peer.jid(Family::Pn).into()));
            }
        } else if !lock(&session.account.state).secretive {
            attrs.push(other_form(
                &session.account,
                family,
                ["sender_pn", "sender_lid"],
            ));
        }
        let stanza = outgoing(
            session,
            message,
            attrs,
            ciphertexts(holder).cloned().collect(),
        );
        if target.device == 0 {
            crate::writer::received(
                &session.core,
                &account,
                &session.account,
                session.device.id,
                family,
                message,
            );
            continue;
        }
        put(
            session,
            &account,
            target.device,
            &session.account.phone,
            &stanza,
            message,
            None,
        );
    }
}

/// The attribute that names an account in the other namespace.
pub fn other_form(
    account: &Account,
    family: Family,
    [pn, lid]: [&'static str; 2],
) -> (&'static str, NodeValue) {
    match family {
        Family::Lid => (pn, account.jid(Family::Pn).into()),
        Family::Pn => (lid, account.jid(Family::Lid).into()),
    }
}

/// Whether `by` has blocked `whom`.
pub fn is_blocked(by: &Account, whom: &Account) -> bool {
    let state = lock(&by.state);
    !state.blocked.is_empty()
        && [Family::Pn, Family::Lid]
            .iter()
            .any(|family| state.blocked.contains(&whom.jid(*family).to_string()))
}

/// The message as a device gets it.
pub fn outgoing(
    session: &Session,
    message: &Node,
    attrs: Vec<(&'static str, NodeValue)>,
    mut content: Vec<Node>,
) -> Node {
    let mut stanza = NodeBuilder::new("message");
    for (key, value) in attrs {
        stanza = stanza.attr(key, value);
    }
    content.extend(
        children(message)
            .iter()
            .filter(|child| child.tag != "participants" && child.tag != "enc")
            .cloned(),
    );
    node::copy(stanza, message, CARRIED)
        .attr("t", clock::unix())
        .attr("notify", session.account.push_name())
        .children(content)
        .build()
}

/// Puts a message in a device's queue.
pub fn put(
    session: &Session,
    account: &Account,
    device: u16,
    from: &str,
    stanza: &Node,
    message: &Node,
    track: Option<UnboundedSender<Settled>>,
) {
    let Some(device) = account.device(device) else {
        return;
    };
    let letter = Letter {
        class: Class::Message,
        id: attr(message, "id").unwrap_or_default().into(),
        from: from.into(),
        stanza: node::encode(stanza),
        track,
    };
    session.core.deliver(account, &device, letter);
}

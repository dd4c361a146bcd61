//! Messages and chat states of groups.

use std::collections::HashMap;

use wacore_binary::{Jid, Node, NodeValue};

use super::{Group, Place};
use crate::{
    message::{self, addressed, ciphertexts, other_form},
    presence::{relayed, send_live},
    session::Session,
    sync::lock,
    wire::node::{self},
};

/// Whether a device's account may send this to a group. Members of a community react to its announcements, which only
/// admins write.
///
/// # Errors
/// 404 there is no such group, 403 the account may not, or nobody may: a community is no chat.
pub fn may_send(session: &Session, jid: &Jid, message: &Node) -> Result<(), u16> {
    let group = session.core.groups.get(jid).ok_or(404_u16)?;
    let rank = group.rank(&session.account.phone).ok_or(403_u16)?;
    let reaction =
        matches!(group.place, Place::Announcements(_)) && node::text(message, "type") == "reaction";
    let closed = group.announcement && !rank.is_admin() && !reaction;
    if group.place == Place::Community || closed {
        return Err(403);
    }
    Ok(())
}

fn head(session: &Session, group: &Group) -> Vec<(&'static str, NodeValue)> {
    let mut head = vec![
        ("from", group.jid().into()),
        ("participant", session.jid(group.family).into()),
        ("addressing_mode", group.mode().into()),
    ];
    if !lock(&session.account.state).secretive {
        head.push(other_form(
            &session.account,
            group.family,
            ["participant_pn", "participant_lid"],
        ));
    }
    head
}

/// Hands a message to every device of the members but the sender's.
pub fn relay(session: &Session, stanza: &Node, to: &Jid) {
    let Some(group) = session.core.groups.get(to) else {
        return;
    };
    let shared: Vec<Node> = ciphertexts(stanza).cloned().collect();
    // With a participant it answers a retry of that one device.
    if let Some(only) = node::jid(stanza, "participant") {
        if let Some(account) = session.core.by_jid(&only) {
            let out = message::outgoing(session, stanza, head(session, &group), shared);
            let from = &session.account.phone;
            message::put(session, &account, only.device, from, &out, stanza, None);
        }
        return;
    }
    let own: HashMap<(String, u16), Vec<Node>> = addressed(stanza)
        .filter_map(|(jid, holder)| {
            let account = session.core.by_jid(&jid)?;
            let keys = ciphertexts(holder).cloned().collect();
            Some(((account.phone.clone(), jid.device), keys))
        })
        .collect();
    for phone in group.members.keys() {
        let Some(account) = session.core.by_phone(phone) else {
            continue;
        };
        for device in account.devices() {
            if account.phone == session.account.phone && device.id == session.device.id {
                continue;
            }
            let keys = own.get(&(phone.clone(), device.id));
            let content = keys.into_iter().flatten().chain(&shared).cloned().collect();
            let out = message::outgoing(session, stanza, head(session, &group), content);
            let from = &session.account.phone;
            message::put(session, &account, device.id, from, &out, stanza, None);
        }
    }
}

/// Relays a chat state to the members who are there.
pub fn chatstate(session: &Session, stanza: &Node, to: &Jid) {
    let Some(group) = session.core.groups.get(to) else {
        return;
    };
    if group.rank(&session.account.phone).is_none() {
        return;
    }
    let out = relayed(
        stanza,
        group.jid().into(),
        Some(group.member_jid(&session.account)),
    );
    for phone in group.members.keys() {
        if *phone == session.account.phone {
            continue;
        }
        for device in session
            .core
            .by_phone(phone)
            .iter()
            .flat_map(|account| account.devices())
        {
            send_live(&device, out.clone());
        }
    }
}

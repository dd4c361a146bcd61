//! Status posts (`status@broadcast`): like group messages, with an audience that the author's client names.
//!
//! A client names everybody when it hands out a new sender key, and fewer after that, so the audience is remembered.

use std::collections::{BTreeSet, HashMap};

use wacore_binary::{Jid, Node};

use crate::{
    account::Family,
    message::{self, addressed, ciphertexts, is_blocked, other_form},
    session::Session,
    sync::lock,
    wire::node,
};

/// Hands a status post to its audience and to the author's other devices.
pub fn relay(session: &Session, stanza: &Node, to: &Jid) {
    let shared: Vec<Node> = ciphertexts(stanza).cloned().collect();
    let only = node::jid(stanza, "participant");
    let mut family = Family::Pn;
    let mut own: HashMap<(String, u16), Vec<Node>> = HashMap::new();
    for (jid, holder) in addressed(stanza) {
        if let (Some(named), Some(account)) = (Family::of(&jid), session.core.by_jid(&jid)) {
            family = named;
            let keys = ciphertexts(holder).cloned().collect();
            own.insert((account.phone.clone(), jid.device), keys);
        }
    }
    if let Some(named) = only.as_ref().and_then(Family::of) {
        family = named;
    }
    let head = || {
        vec![
            ("from", to.clone().into()),
            ("participant", session.jid(family).into()),
            other_form(
                &session.account,
                family,
                ["participant_pn", "participant_lid"],
            ),
        ]
    };
    let from = &session.account.phone;
    if let Some(only) = only {
        if let Some(account) = session.core.by_jid(&only) {
            let out = message::outgoing(session, stanza, head(), shared);
            message::put(session, &account, only.device, from, &out, stanza, None);
        }
        return;
    }
    let audience: BTreeSet<String> = {
        let mut state = lock(&session.account.state);
        let room = session.core.limits().subscriptions;
        for (phone, _) in own.keys() {
            if state.audience.len() < room {
                state.audience.insert(phone.clone());
            }
        }
        state.audience.insert(from.clone());
        state.audience.clone()
    };
    for phone in audience {
        let Some(account) = session.core.by_phone(&phone) else {
            continue;
        };
        if is_blocked(&account, &session.account) {
            continue;
        }
        for device in account.devices() {
            if phone == *from && device.id == session.device.id {
                continue;
            }
            let keys = own.get(&(phone.clone(), device.id));
            let content = keys.into_iter().flatten().chain(&shared).cloned().collect();
            let out = message::outgoing(session, stanza, head(), content);
            message::put(session, &account, device.id, from, &out, stanza, None);
        }
    }
}

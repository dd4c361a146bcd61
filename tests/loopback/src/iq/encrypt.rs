//! Signal keys: what a device leaves for others, and what others take. A one-time prekey is given out once.

use std::{collections::HashSet, sync::Arc};

use wacore::prekeys::compute_key_bundle_digest;
use wacore_binary::{Jid, Node, builder::NodeBuilder};

use crate::{
    account::{Account, Device, DeviceKeys, SignedKey},
    core::Core,
    pairing::is_signed,
    phone,
    session::Session,
    sync::lock,
    wire::{
        cert::raw,
        node::{self, all, be, child, child_array, child_bytes},
    },
};

/// The type byte of Curve25519 keys.
const CURVE: u8 = 5;
/// When so few are left, the device is asked for more.
const FEW: usize = 5;

/// Answers a request for or about keys.
pub fn answer(session: &Session, iq: &Node) -> Node {
    if let Some(key) = child(iq, "key") {
        return bundles(session, iq, key);
    }
    if let Some(identity) = child(iq, "identity").filter(|_| child(iq, "registration").is_none()) {
        return identities(session, iq, identity);
    }
    if child(iq, "digest").is_some() {
        return digest(session, iq);
    }
    if child(iq, "count").is_some() {
        let count = lock(&session.device.keys).one_time.len();
        let count = NodeBuilder::new("count").attr("value", count).build();
        return node::result(iq).children([count]).build();
    }
    let taken = if let Some(rotate) = child(iq, "rotate") {
        rotated(session, rotate)
    } else if child(iq, "registration").is_some() {
        uploaded(session, iq)
    } else {
        Some(())
    };
    match taken {
        Some(()) => node::result(iq).build(),
        None => node::error(iq, 406, "not-acceptable"),
    }
}

/// After the first upload the phone can write to the device: it shares its app-state key.
pub fn after(session: &Session, iq: &Node) {
    if child(iq, "registration").is_none() {
        return;
    }
    let due = {
        let mut keys = lock(&session.device.keys);
        keys.uploaded && !std::mem::replace(&mut keys.shared, true)
    };
    if due {
        phone::share_app_state_key(&session.core, &session.account, &session.device);
        phone::share_history(&session.core, &session.account, &session.device);
    }
}

fn signed_key(node: &Node, identity: &[u8; 32]) -> Option<SignedKey> {
    let skey = SignedKey {
        id: be(child_bytes(node, "id")?)?,
        public: child_array(node, "value")?,
        signature: child_array(node, "signature")?,
    };
    is_signed(identity, &skey).then_some(skey)
}

fn uploaded(session: &Session, iq: &Node) -> Option<()> {
    let device = &session.device;
    let identity: [u8; 32] = child_array(iq, "identity")?;
    let skey = signed_key(child(iq, "skey")?, &identity)?;
    if identity != device.identity {
        return None;
    }
    let list = child(iq, "list")?;
    let one_time: Option<Vec<(u32, [u8; 32])>> = all(list, "key")
        .map(|key| Some((be(child_bytes(key, "id")?)?, child_array(key, "value")?)))
        .collect();
    let one_time = one_time?;
    let fresh: HashSet<u32> = one_time.iter().map(|(id, _)| *id).collect();
    let mut keys = lock(&device.keys);
    keys.skey = skey;
    keys.one_time.retain(|(id, _)| !fresh.contains(id));
    keys.one_time.extend(one_time);
    let excess = keys
        .one_time
        .len()
        .saturating_sub(session.core.limits().one_time_keys);
    keys.one_time.drain(..excess);
    keys.uploaded = true;
    keys.told_low = false;
    Some(())
}

fn rotated(session: &Session, rotate: &Node) -> Option<()> {
    let skey = signed_key(child(rotate, "skey")?, &session.device.identity)?;
    lock(&session.device.keys).skey = skey;
    Some(())
}

fn leaf(tag: &'static str, content: &[u8]) -> Node {
    NodeBuilder::new(tag).bytes(content).build()
}

fn id3(id: u32) -> [u8; 3] {
    let [_, id @ ..] = id.to_be_bytes();
    id
}

fn skey_node(skey: &SignedKey) -> Node {
    NodeBuilder::new("skey")
        .children([
            leaf("id", &id3(skey.id)),
            leaf("value", &skey.public),
            leaf("signature", &skey.signature),
        ])
        .build()
}

fn bundles(session: &Session, iq: &Node, key: &Node) -> Node {
    let users = all(key, "user").filter_map(|user| Some(bundle(session, node::jid(user, "jid")?)));
    let list = NodeBuilder::new("list").children(users).build();
    node::result(iq).children([list]).build()
}

fn missing(jid: Jid) -> Node {
    let error = NodeBuilder::new("error")
        .attr("code", "406")
        .attr("text", "not-acceptable")
        .build();
    NodeBuilder::new("user")
        .attr("jid", jid)
        .children([error])
        .build()
}

fn bundle(session: &Session, jid: Jid) -> Node {
    let Some(account) = session.core.by_jid(&jid) else {
        return missing(jid);
    };
    let asker = (&session.account.phone, session.device.id);
    let spoilt = session.core.faults().spoils_bundle(asker.0, asker.1);
    let signed = |mut skey: SignedKey| {
        if spoilt {
            skey.signature[0] ^= 1;
        }
        skey_node(&skey)
    };
    let parts = if jid.device == 0 {
        vec![
            leaf("registration", &account.reg_id.to_be_bytes()),
            leaf("type", &[CURVE]),
            leaf("identity", &raw(&account.identity)),
            signed(account.skey.clone()),
        ]
    } else {
        let Some(device) = account.device(jid.device) else {
            return missing(jid);
        };
        let (skey, one_time) = take_keys(&session.core, &account, &device);
        let mut parts = vec![
            leaf("registration", &device.reg_id.to_be_bytes()),
            leaf("type", &[CURVE]),
            leaf("identity", &device.identity),
            signed(skey),
        ];
        if let Some((id, public)) = one_time {
            let key = NodeBuilder::new("key")
                .children([leaf("id", &id3(id)), leaf("value", &public)])
                .build();
            parts.push(key);
        }
        parts.push(leaf("device-identity", &device.adv));
        parts
    };
    NodeBuilder::new("user")
        .attr("jid", jid)
        .attr("type", "result")
        .children(parts)
        .build()
}

/// Takes a one-time key of a device, if it has one, and asks the device for more when few are left.
pub fn take_keys(
    core: &Core,
    account: &Account,
    device: &Arc<Device>,
) -> (SignedKey, Option<(u32, [u8; 32])>) {
    let (skey, one_time, low) = {
        let mut keys = lock(&device.keys);
        let one_time = keys.one_time.pop_front();
        let low = is_low(&mut keys);
        (keys.skey.clone(), one_time, low)
    };
    if let Some(left) = low {
        tell_low(core, account, device, left);
    }
    (skey, one_time)
}

/// How many keys are left, if they are few and the device was not told so.
pub fn is_low(keys: &mut DeviceKeys) -> Option<usize> {
    let left = keys.one_time.len();
    (left <= FEW && keys.uploaded && !std::mem::replace(&mut keys.told_low, true)).then_some(left)
}

/// Asks a device for more keys.
pub fn tell_low(core: &Core, account: &Account, device: &Arc<Device>, left: usize) {
    core.notify_device(account, device, |notification| {
        notification
            .attr("from", node::server())
            .attr("type", "encrypt")
            .children([NodeBuilder::new("count").attr("value", left).build()])
            .build()
    });
}

fn identities(session: &Session, iq: &Node, identity: &Node) -> Node {
    let users = all(identity, "user").filter_map(|user| {
        let jid = node::jid(user, "jid")?;
        let Some(account) = session.core.by_jid(&jid) else {
            return Some(missing(jid));
        };
        let mut parts = vec![leaf("type", &[CURVE])];
        if jid.device == 0 {
            parts.push(leaf("identity", &raw(&account.identity)));
        } else if let Some(device) = account.device(jid.device) {
            parts.push(leaf("identity", &device.identity));
            parts.push(leaf("device-identity", &device.adv));
        } else {
            return Some(missing(jid));
        }
        Some(
            NodeBuilder::new("user")
                .attr("jid", jid)
                .children(parts)
                .build(),
        )
    });
    let list = NodeBuilder::new("list").children(users).build();
    node::result(iq).children([list]).build()
}

fn digest(session: &Session, iq: &Node) -> Node {
    let device = &session.device;
    let keys = lock(&device.keys);
    if !keys.uploaded {
        return node::error(iq, 404, "item-not-found");
    }
    let publics: Vec<&[u8]> = keys.one_time.iter().map(|(_, key)| &key[..]).collect();
    let hash = compute_key_bundle_digest(
        &device.identity,
        &keys.skey.public,
        &keys.skey.signature,
        &publics,
    );
    let ids = keys.one_time.iter().map(|(id, _)| leaf("id", &id3(*id)));
    let digest = NodeBuilder::new("digest")
        .children([
            leaf("registration", &device.reg_id.to_be_bytes()),
            leaf("type", &[CURVE]),
            leaf("identity", &device.identity),
            skey_node(&keys.skey),
            NodeBuilder::new("list").children(ids).build(),
            leaf("hash", &hash),
        ])
        .build();
    node::result(iq).children([digest]).build()
}

//! App-state collections: the server numbers encrypted patches and hands them out; it can read none of them.

use std::collections::VecDeque;

use buffa::{Message, MessageField};
use wacore_binary::{Node, SERVER_JID, builder::NodeBuilder};
use waproto::whatsapp::{SyncdPatch, SyncdVersion};

use crate::{
    session::Session,
    sync::lock,
    wire::node::{self, all, bytes, child, number, text},
};

/// Patches per answer; the client asks again for more.
const BATCH: usize = 200;

/// Larger patches are refused.
const PATCH: usize = 1 << 20;

/// One collection of an account.
#[derive(Default)]
pub struct Collection {
    version: u64,
    /// The patch that led to a version, oldest first.
    patches: VecDeque<(u64, Vec<u8>)>,
}

/// Answers a request to read or change collections.
pub fn answer(session: &Session, iq: &Node) -> Node {
    let Some(sync) = child(iq, "sync") else {
        return node::error(iq, 400, "bad-request");
    };
    let mut changed = Vec::new();
    let collections: Vec<Node> = all(sync, "collection")
        .map(|asked| collection(session, asked, &mut changed))
        .collect();
    for (name, version) in changed {
        tell_siblings(session, &name, version);
    }
    let sync = NodeBuilder::new("sync").children(collections).build();
    node::result(iq).children([sync]).build()
}

fn refused(name: &str, code: u16) -> Node {
    let error = NodeBuilder::new("error").attr("code", code).build();
    NodeBuilder::new("collection")
        .attr("name", name)
        .attr("type", "error")
        .children([error])
        .build()
}

fn collection(session: &Session, asked: &Node, changed: &mut Vec<(String, u64)>) -> Node {
    let name = text(asked, "name").into_owned();
    let from: u64 = number(asked, "version").unwrap_or_default();
    let mut state = lock(&session.account.state);
    // The names are WhatsApp's: critical_block, critical_unblock_low, regular, regular_high, regular_low.
    if name.len() > 64 || (!state.collections.contains_key(&name) && state.collections.len() >= 32)
    {
        return refused(&name, 400);
    }
    let kept = session.core.limits().patches;
    let collection = state.collections.entry(name.clone()).or_default();
    let reply = NodeBuilder::new("collection").attr("name", name.as_str());
    if let Some(patch) = child(asked, "patch") {
        if from != collection.version {
            return refused(&name, 409);
        }
        if bytes(patch).len() > PATCH {
            return refused(&name, 413);
        }
        let Ok(mut patch) = SyncdPatch::decode_from_slice(bytes(patch)) else {
            return refused(&name, 400);
        };
        collection.version += 1;
        patch.version = MessageField::some(SyncdVersion {
            version: Some(collection.version),
        });
        collection
            .patches
            .push_back((collection.version, patch.encode_to_vec()));
        if collection.patches.len() > kept {
            collection.patches.pop_front();
        }
        changed.push((name, collection.version));
        return reply.attr("version", collection.version).build();
    }
    let newer = |(version, _): &&(u64, Vec<u8>)| *version > from;
    let oldest = collection
        .patches
        .front()
        .map_or(0, |(version, _)| *version);
    if from + 1 < oldest {
        // What is missing in between was dropped and cannot be had again.
        return refused(&name, 500);
    }
    let mut batch = collection.patches.iter().filter(newer);
    let patches: Vec<Node> = batch
        .by_ref()
        .take(BATCH)
        .map(|(_, patch)| NodeBuilder::new("patch").bytes(patch.clone()).build())
        .collect();
    let more = batch.next().is_some();
    let reached = from.min(collection.version) + patches.len() as u64;
    let version = if patches.is_empty() {
        collection.version
    } else {
        reached
    };
    let reply = reply
        .attr("version", version)
        .attr("has_more_patches", more);
    if patches.is_empty() {
        return reply.build();
    }
    let patches = NodeBuilder::new("patches").children(patches).build();
    reply.children([patches]).build()
}

fn tell_siblings(session: &Session, name: &str, version: u64) {
    let own = (session.account.phone.as_str(), session.device.id);
    session
        .core
        .notify(&session.account, Some(own), |notification| {
            let collection = NodeBuilder::new("collection")
                .attr("name", name)
                .attr("version", version)
                .build();
            notification
                .attr("from", SERVER_JID)
                .attr("type", "server_sync")
                .children([collection])
                .build()
        });
}

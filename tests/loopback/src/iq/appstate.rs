//! App-state collections: the server numbers encrypted patches and hands them out; it can read none of them.
//! The first is the phone's: see [`crate::phone`].

use std::collections::VecDeque;

use buffa::{Message, MessageField};
use wacore_binary::{Node, builder::NodeBuilder};
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

impl Collection {
    /// The number of the last patch; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Numbers a patch and keeps it; of all patches the last `kept`.
    pub fn append(&mut self, mut patch: SyncdPatch, kept: usize) -> u64 {
        self.version += 1;
        patch.version = MessageField::some(SyncdVersion {
            version: Some(self.version),
        });
        self.patches
            .push_back((self.version, patch.encode_to_vec()));
        if self.patches.len() > kept {
            self.patches.pop_front();
        }
        self.version
    }

    /// The patches after a version, as many as fit an answer, and whether there are more.
    /// `None` when one of them is not kept any more.
    fn after(&self, version: u64) -> Option<(Vec<Node>, bool)> {
        if self
            .patches
            .front()
            .is_some_and(|(oldest, _)| version + 1 < *oldest)
        {
            return None;
        }
        let mut newer = self.patches.iter().filter(|(number, _)| *number > version);
        let patches = newer
            .by_ref()
            .take(BATCH)
            .map(|(_, patch)| NodeBuilder::new("patch").bytes(patch.clone()).build())
            .collect();
        Some((patches, newer.next().is_some()))
    }
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
    let mut conflict = None;
    if let Some(patch) = child(asked, "patch") {
        if bytes(patch).len() > PATCH {
            return refused(&name, 413);
        }
        let Ok(patch) = SyncdPatch::decode_from_slice(bytes(patch)) else {
            return refused(&name, 400);
        };
        if from == collection.version {
            let version = collection.append(patch, kept);
            changed.push((name, version));
            return reply.attr("version", version).build();
        }
        // It comes with the patches that won, so that the client can build on them.
        let error = NodeBuilder::new("error")
            .attr("code", "409")
            .attr("text", "conflict");
        conflict = Some(error.build());
    }
    let Some((patches, more)) = collection.after(from) else {
        // What is missing in between was dropped and cannot be had again.
        return refused(&name, 500);
    };
    let reached = if more {
        from + patches.len() as u64
    } else {
        collection.version
    };
    let reply = reply
        .attr("version", reached)
        .attr("has_more_patches", more);
    let reply = match conflict {
        Some(_) => reply.attr("type", "error"),
        None => reply,
    };
    let patches =
        (!patches.is_empty()).then(|| NodeBuilder::new("patches").children(patches).build());
    reply.children(conflict.into_iter().chain(patches)).build()
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
                .attr("from", node::server())
                .attr("type", "server_sync")
                .children([collection])
                .build()
        });
}

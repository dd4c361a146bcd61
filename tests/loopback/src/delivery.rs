//! The way of a stanza into a device's queue.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use wacore_binary::{Node, NodeContent, builder::NodeBuilder};

use crate::{
    account::{Account, Device},
    clock,
    core::Core,
    mailbox::{Class, Letter, Trick},
    sync::lock,
    wire::node,
};

impl Core {
    /// Queues a stanza for a device, and sends it if the device is live.
    pub(crate) fn deliver(&self, account: &Account, device: &Arc<Device>, mut letter: Letter) {
        if letter.class == Class::Message && self.faults.corrupts(&account.phone, device.id) {
            letter.stanza = spoil(letter.stanza);
        }
        self.counters.deliveries.fetch_add(1, Ordering::Relaxed);
        let trick = self.trick(account, device, letter.class);
        let held = lock(&device.mail).deliver(letter, trick, self.limits());
        if held {
            let device = device.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                lock(&device.mail).release();
            });
        }
    }

    pub(crate) fn trick(&self, account: &Account, device: &Device, class: Class) -> Trick {
        match class {
            Class::Message => self.faults.delivery(&account.phone, device.id),
            Class::Receipt | Class::Notification => Trick::None,
        }
    }

    /// Queues a notification for devices of an account, `except` the one that caused it.
    pub(crate) fn notify(
        &self,
        account: &Account,
        except: Option<(&str, u16)>,
        build: impl Fn(NodeBuilder) -> Node,
    ) {
        for device in account.devices() {
            if except == Some((account.phone.as_str(), device.id)) {
                continue;
            }
            self.notify_device(account, &device, &build);
        }
    }

    /// Queues a notification for one device.
    pub(crate) fn notify_device(
        &self,
        account: &Account,
        device: &Arc<Device>,
        build: impl Fn(NodeBuilder) -> Node,
    ) {
        let id = self.stanza_id();
        let stanza = build(
            NodeBuilder::new("notification")
                .attr("id", id.as_str())
                .attr("t", clock::unix()),
        );
        let letter = Letter {
            class: Class::Notification,
            id: id.into(),
            from: "".into(),
            stanza: node::encode(&stanza),
            track: None,
        };
        self.deliver(account, device, letter);
    }
}

/// The stanza with a bit of its first ciphertext flipped, at a place that is authenticated in every kind of them.
fn spoil(stanza: Bytes) -> Bytes {
    let Some(mut decoded) = node::decode(stanza.clone()) else {
        return stanza;
    };
    if let Some(NodeContent::Nodes(children)) = &mut decoded.content {
        for child in children.iter_mut().filter(|child| child.tag == "enc") {
            if let Some(NodeContent::Bytes(bytes)) = &mut child.content
                && let Some(byte) = {
                    let at = bytes.len() * 2 / 3;
                    bytes.get_mut(at)
                }
            {
                *byte ^= 1;
                break;
            }
        }
    }
    node::encode(&decoded)
}

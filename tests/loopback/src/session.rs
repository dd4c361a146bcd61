//! A logged-in device: what it sends goes to whom it concerns, and is answered.

use std::sync::Arc;

use wacore_binary::{Jid, Node, builder::NodeBuilder};

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
    faults, iq,
    mailbox::Class,
    message,
    outbox::Outbox,
    phone, presence, receipt,
    sync::lock,
    wire::node::{self, child, text},
};

/// A logged-in connection.
pub struct Session {
    /// The server.
    pub core: Arc<Core>,
    /// Number of the connection.
    pub conn: u64,
    /// The way out.
    pub outbox: Arc<Outbox>,
    /// Whose it is.
    pub account: Arc<Account>,
    /// Which device of theirs.
    pub device: Arc<Device>,
}

/// How many stanzas a batch has when the client does not say.
const BATCH: usize = 100;

impl Session {
    /// The device's JID in a namespace.
    pub fn jid(&self, family: Family) -> Jid {
        self.account.device_jid(family, self.device.id)
    }

    /// Whether this is the connection of the device, and not one that was replaced.
    pub fn is_current(&self) -> bool {
        lock(&self.device.mail)
            .link
            .as_ref()
            .is_some_and(|link| link.conn == self.conn)
    }

    /// Sends a stanza on this connection.
    pub fn send(&self, stanza: &Node) {
        self.outbox.push(node::encode(stanza));
    }

    /// Handles a stanza of the client.
    pub fn handle(&self, stanza: &Node) {
        // What a replaced connection still had under way is not the device's word any more.
        if !self.is_current() {
            return;
        }
        match stanza.tag.as_ref() {
            "iq" => self.iq(stanza),
            "message" => message::handle(self, stanza),
            "receipt" => receipt::handle(self, stanza),
            "ack" => self.ack(stanza),
            "presence" => presence::presence(self, stanza),
            "chatstate" => presence::chatstate(self, stanza),
            "ib" => self.ib(stanza),
            "call" => self.call(stanza),
            "xmlstreamend" => self.outbox.finish(),
            tag => {
                if stanza.attrs.contains_key("id") {
                    self.send(&ack(stanza, tag).build());
                }
            }
        }
    }

    fn iq(&self, stanza: &Node) {
        if matches!(text(stanza, "type").as_ref(), "result" | "error") {
            return;
        }
        let namespace = text(stanza, "xmlns");
        let fault = self
            .core
            .faults()
            .iq(&self.account.phone, self.device.id, &namespace);
        let reply = match fault {
            Some(faults::Iq::Ignore) => return,
            Some(faults::Iq::Refuse(code)) => node::error(stanza, code, "refused"),
            None => iq::answer(self, &namespace, stanza),
        };
        self.send(&reply);
        iq::after(self, &namespace, stanza);
    }

    fn ack(&self, stanza: &Node) {
        if let Some(class) = Class::parse(&text(stanza, "class")) {
            self.settle(class, &text(stanza, "id"), None);
        }
    }

    /// Settles a stanza in the device's queue.
    pub fn settle(&self, class: Class, id: &str, from: Option<&str>) {
        if lock(&self.device.mail).settle(class, id, from) {
            self.core
                .counting()
                .settled
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn ib(&self, stanza: &Node) {
        if let Some(batch) = child(stanza, "offline_batch") {
            let count = node::number(batch, "count").unwrap_or(BATCH);
            self.drain(count.clamp(1, 10_000));
            phone::share_history(&self.core, &self.account, &self.device);
        }
    }

    /// The client is ready for what waits for it: announces it, or says that there is nothing.
    pub fn activate(&self) {
        let mut mail = lock(&self.device.mail);
        let Some(link) = mail.link.as_mut().filter(|link| link.conn == self.conn) else {
            return;
        };
        if std::mem::replace(&mut link.active, true) {
            return;
        }
        let [messages, receipts, notifications] = mail.backlog();
        let total = messages + receipts + notifications;
        if total == 0 {
            mail.drain(0, |_| crate::mailbox::Trick::None);
            self.send(&offline_end(0));
            return;
        }
        let preview = NodeBuilder::new("offline_preview")
            .attr("count", total)
            .attr("message", messages)
            .attr("receipt", receipts)
            .attr("notification", notifications)
            .attr("appdata", 0)
            .attr("call", 0)
            .build();
        self.send(&ib(preview));
    }

    fn drain(&self, count: usize) {
        let mut mail = lock(&self.device.mail);
        // The end marker has to go out before anything live does, hence under the lock.
        let ready = mail
            .link
            .as_ref()
            .is_some_and(|link| link.conn == self.conn && link.active && !link.live);
        if !ready {
            return;
        }
        let trick = |class| self.core.trick(&self.account, &self.device, class);
        if mail.drain(count, trick) {
            let waiting = mail.len();
            self.send(&offline_end(waiting));
        }
    }

    /// Relays a call to whoever of its target is there now; calls are not queued.
    fn call(&self, stanza: &Node) {
        self.send(&ack(stanza, "call").build());
        let Some(to) = node::jid(stanza, "to") else {
            return;
        };
        let (Some(family), Some(account)) = (Family::of(&to), self.core.by_jid(&to)) else {
            return;
        };
        let relayed = node::copy(NodeBuilder::new("call"), stanza, &["id"])
            .attr("from", self.jid(family))
            .attr("t", clock::unix())
            .attr("notify", self.account.push_name())
            .children(node::children(stanza).to_vec())
            .build();
        let relayed = node::encode(&relayed);
        for device in account.devices() {
            if to.device == 0 || to.device == device.id {
                presence::send_live(&device, relayed.clone());
            }
        }
    }
}

fn ib(content: Node) -> Node {
    NodeBuilder::new("ib")
        .attr("from", node::server())
        .children([content])
        .build()
}

fn offline_end(count: usize) -> Node {
    ib(NodeBuilder::new("offline").attr("count", count).build())
}

/// The ack of a stanza.
pub fn ack(stanza: &Node, class: &str) -> NodeBuilder {
    let ack = NodeBuilder::new("ack")
        .attr("class", class)
        .attr("id", text(stanza, "id").as_ref())
        .attr("from", node::addressee(stanza));
    node::copy(ack, stanza, &["participant"])
}

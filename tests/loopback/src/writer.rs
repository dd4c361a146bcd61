//! Writers: synthetic people, each a phone of the server's own, who write to linked devices.
//!
//! What they write is really sealed for the device; that is how a queue of a device that is away can be filled, and
//! how a load is made that costs little to make. They acknowledge what is written to them and do not read it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering},
};

use buffa::Message;
use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::{Node, builder::NodeBuilder};
use waproto::whatsapp as wa;

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
    iq::encrypt::take_keys,
    mailbox::{Class, Letter, Settled},
    session::Session,
    signal::{Sealed, Sealer},
    sync::lock,
    wire::node::{self, text},
};

/// How many sent messages are kept for a device that could not open them.
const KEPT: usize = 50_000;

/// Who seals for which device, per namespace.
type Route = (String, String, u16, Family);

/// The sessions of the server's own phones.
#[derive(Default)]
pub struct Writers {
    sealers: Mutex<HashMap<Route, Arc<Mutex<Sealer>>>>,
    sent: Mutex<Sent>,
}

#[derive(Default)]
struct Sent {
    order: VecDeque<(String, String)>,
    messages: HashMap<(String, String), Outgoing>,
}

/// A message that a phone of the server's own sends.
#[derive(Clone)]
pub struct Outgoing {
    /// Its id.
    pub id: String,
    /// The encoded `Message`.
    pub plain: Vec<u8>,
    /// The namespace of the chat.
    pub family: Family,
    /// Whether it is for one's own device.
    pub peer: bool,
    /// Its date, in seconds since the epoch.
    pub dated: u64,
    /// How often it was sent again.
    pub resent: Option<u32>,
}

impl Writers {
    /// Seals a message for a device and queues it there.
    ///
    /// # Errors
    /// In words, when the device's keys are no good.
    pub fn send(
        &self,
        core: &Core,
        from: &Arc<Account>,
        to: &Arc<Account>,
        device: &Arc<Device>,
        outgoing: Outgoing,
        track: Option<UnboundedSender<Settled>>,
    ) -> Result<(), String> {
        let route = (
            from.phone.clone(),
            to.phone.clone(),
            device.id,
            outgoing.family,
        );
        let fresh = || {
            let (skey, one_time) = take_keys(core, to, device);
            Sealer::open(from, device, &skey, one_time).map_err(|error| error.to_string())
        };
        let sealer = {
            let mut sealers = lock(&self.sealers);
            match sealers.get(&route).filter(|_| outgoing.resent.is_none()) {
                Some(sealer) => sealer.clone(),
                None => {
                    let sealer = Arc::new(Mutex::new(fresh()?));
                    sealers.insert(route, sealer.clone());
                    sealer
                }
            }
        };
        // Sealed and queued under one lock, so that they arrive in the order of the ratchet.
        let mut sealer = lock(&sealer);
        let sealed = sealer
            .seal(&outgoing.plain)
            .map_err(|error| error.to_string())?;
        sealer.establish();
        let stanza = stanza(from, &outgoing, sealed);
        let letter = Letter {
            class: Class::Message,
            id: outgoing.id.as_str().into(),
            from: from.phone.as_str().into(),
            stanza: node::encode(&stanza),
            track,
        };
        if outgoing.resent.is_none() {
            self.keep(from, outgoing);
        }
        core.deliver(to, device, letter);
        Ok(())
    }

    fn keep(&self, from: &Account, outgoing: Outgoing) {
        let mut sent = lock(&self.sent);
        let key = (from.phone.clone(), outgoing.id.clone());
        sent.order.push_back(key.clone());
        sent.messages.insert(key, outgoing);
        while sent.order.len() > KEPT
            && let Some(oldest) = sent.order.pop_front()
        {
            sent.messages.remove(&oldest);
        }
    }

    fn sent(&self, from: &Account, id: &str) -> Option<Outgoing> {
        lock(&self.sent)
            .messages
            .get(&(from.phone.clone(), id.to_owned()))
            .cloned()
    }
}

fn stanza(from: &Account, outgoing: &Outgoing, sealed: Sealed) -> Node {
    let mut enc = NodeBuilder::new("enc")
        .attr("v", "2")
        .attr("type", sealed.kind);
    if let Some(count) = outgoing.resent {
        enc = enc.attr("count", count);
    }
    let message = NodeBuilder::new("message")
        .attr("from", from.jid(outgoing.family))
        .attr("id", outgoing.id.as_str())
        .attr("t", outgoing.dated)
        .children([enc.bytes(sealed.bytes).build()]);
    if outgoing.peer {
        return message
            .attr("type", "protocol")
            .attr("category", "peer")
            .attr("push_priority", "high")
            .build();
    }
    let (key, other) =
        crate::message::other_form(from, outgoing.family, ["sender_pn", "sender_lid"]);
    message
        .attr("type", "text")
        .attr("notify", from.push_name())
        .attr(key, other)
        .build()
}

/// A device could not open what device 0 of `account` sent: it is sent again, in a new session.
pub fn retry(session: &Session, account: &Arc<Account>, receipt: &Node, count: u32) {
    let core = &session.core;
    let Some(outgoing) = core.writers.sent(account, &text(receipt, "id")) else {
        return;
    };
    // Clients give up after five.
    if count > 5 {
        return;
    }
    let outgoing = Outgoing {
        resent: Some(count),
        ..outgoing
    };
    let sent = core.writers.send(
        core,
        account,
        &session.account,
        &session.device,
        outgoing,
        None,
    );
    if let Err(error) = sent {
        tracing::warn!(%error, "a message could not be sent again");
    }
}

/// Device 0 of `account` has been written to: a writer says that it has arrived.
pub fn received(
    core: &Core,
    account: &Account,
    from: &Account,
    device: u16,
    family: Family,
    message: &Node,
) {
    if !account.writer.load(Ordering::Relaxed) {
        return;
    }
    let Some(device) = from.device(device) else {
        return;
    };
    let id = text(message, "id");
    let receipt = NodeBuilder::new("receipt")
        .attr("from", account.jid(family))
        .attr("id", id.as_ref())
        .attr("t", clock::unix())
        .build();
    let letter = Letter {
        class: Class::Receipt,
        id: id.as_ref().into(),
        from: account.phone.as_str().into(),
        stanza: node::encode(&receipt),
        track: None,
    };
    core.deliver(from, &device, letter);
}

/// A synthetic person who writes to one device.
#[derive(Clone)]
pub struct Writer {
    pub(crate) core: Arc<Core>,
    pub(crate) from: Arc<Account>,
    pub(crate) to: Arc<Account>,
    pub(crate) device: Arc<Device>,
    pub(crate) family: Family,
}

impl Writer {
    /// Digits of the writer's phone number.
    #[must_use]
    pub fn phone(&self) -> &str {
        &self.from.phone
    }

    /// Writes a text; answers the message's id. It is queued, and goes out at once if the device is live.
    ///
    /// # Errors
    /// In words, when the device's keys are no good.
    pub fn write(&self, text: &str) -> Result<String, String> {
        self.send(text, clock::unix(), None)
    }

    pub(crate) fn send(
        &self,
        text: &str,
        dated: u64,
        track: Option<UnboundedSender<Settled>>,
    ) -> Result<String, String> {
        let id = format!("3A{:016X}{:04X}", fastrand::u64(..), fastrand::u16(..));
        let plain = wa::Message {
            conversation: Some(text.to_owned()),
            ..Default::default()
        }
        .encode_to_vec();
        let outgoing = Outgoing {
            id: id.clone(),
            plain,
            family: self.family,
            peer: false,
            dated,
            resent: None,
        };
        let core = &self.core;
        core.writers
            .send(core, &self.from, &self.to, &self.device, outgoing, track)?;
        core.counting().messages.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }
}

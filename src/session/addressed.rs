//! Whom a message was encrypted for, seen on the stanza that the library sends.
//!
//! whatsapp-rust 0.7.0 reports success for a direct message that it could encrypt for no device at all (its issue
//! #1298): the server acknowledges a stanza that nobody can read. The stanza itself tells.

use std::sync::Arc;

use wacore_binary::{Jid, JidExt, Node};
use whatsapp_rust::Client;
use whatsapp_rust::client::NodeFilter;

/// The stanza of one send, to come.
pub(super) struct Addressed {
    own: Vec<Jid>,
    sent: whatsapp_rust::futures::channel::oneshot::Receiver<Arc<Node>>,
}

impl Addressed {
    /// To be made before the message is sent.
    pub(super) fn watch(client: &Client, id: &str) -> Self {
        Self {
            own: [client.pn(), client.lid()].into_iter().flatten().collect(),
            sent: client.wait_for_sent_node(NodeFilter::tag("message").attr("id", id)),
        }
    }

    /// Whether there is a stanza, and something of it may have left. The library shows it before it encrypts it.
    pub(super) fn exists(&mut self) -> bool {
        matches!(self.sent.try_recv(), Ok(Some(_)))
    }

    /// How many devices of the recipients the message was encrypted for; none if that cannot be told, as for a group,
    /// whose members share one ciphertext. To be asked once the message was sent.
    pub(super) fn devices(mut self) -> Option<usize> {
        let stanza = self.sent.try_recv().ok().flatten()?;
        // A note to ourselves has no other recipients.
        if stanza
            .attrs()
            .optional_jid("to")
            .is_none_or(|to| self.is_own(&to))
        {
            return None;
        }
        if stanza.get_optional_child("enc").is_some()
            || stanza.get_optional_child("plaintext").is_some()
        {
            return None;
        }
        let participants = stanza.get_optional_child("participants");
        let devices = participants
            .into_iter()
            .flat_map(|node| node.get_children_by_tag("to"));
        Some(devices.filter(|device| self.is_theirs(device)).count())
    }

    fn is_theirs(&self, device: &Node) -> bool {
        device
            .attrs()
            .optional_jid("jid")
            .is_some_and(|jid| !self.is_own(&jid))
    }

    fn is_own(&self, jid: &Jid) -> bool {
        self.own.iter().any(|own| own.is_same_user_as(jid))
    }
}

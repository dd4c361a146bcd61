//! Asks a sender for a message that was decrypted here and then lost.
//!
//! It is the request that a device makes for a message it cannot decrypt: a receipt of type `retry`. The sender's
//! device encrypts the message anew, for this device alone, under the same id. It carries no keys: the session with
//! that device is whole. Source: `sendRetryReceipt` of WhatsApp Web, as whatsapp-rust sends it.

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};
use whatsapp_rust::Client;

use super::pending::Missed;
use crate::clock::now;

pub(super) async fn ask(client: &Client, missed: &Missed) {
    let registration = client
        .persistence_manager()
        .get_device_snapshot()
        .registration_id;
    let Some(request) = request(missed, registration) else {
        return;
    };
    tracing::warn!(
        stanza_id = missed.name.stanza_id,
        count = missed.count,
        "a message was decrypted and then lost; its sender is asked to send it again"
    );
    if let Err(error) = client.send_node(request).await {
        tracing::debug!(%error, "the sender could not be asked; they are at the next login");
    }
}

/// The receipt; none for a name that is no JID.
fn request(missed: &Missed, registration: u32) -> Option<Node> {
    let chat: Jid = missed.name.chat.parse().ok()?;
    let sender: Jid = missed.name.sender.parse().ok()?;
    let retry = NodeBuilder::new("retry")
        .attr("v", "1")
        .attr("id", missed.name.stanza_id.as_str())
        .attr("t", now())
        .attr("count", missed.count)
        .build();
    let registration = NodeBuilder::new("registration")
        .bytes(registration.to_be_bytes().to_vec())
        .build();
    let receipt = NodeBuilder::new("receipt")
        .attr("id", missed.name.stanza_id.as_str())
        .attr("type", "retry")
        .children([retry, registration]);
    let one_to_one = !chat.is_group() && !chat.is_broadcast_list();
    Some(match one_to_one {
        true => receipt.attr("to", sender).build(),
        false => receipt.attr("to", chat).attr("participant", sender).build(),
    })
}

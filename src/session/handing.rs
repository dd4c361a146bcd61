//! One message over one connection: what goes in, and what is known of it afterwards.
//!
//! Invariant: an outcome is what was seen. That a message did not leave is said only where its stanza was never made or
//! never taken; that the server has it, only on its word.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use wacore_binary::Jid;
use waproto::codec::{message_decode, message_to_vec};
use waproto::whatsapp as wa;
use whatsapp_rust::send::{SendError, SendOptions};
use whatsapp_rust::{Client, ClientError, Freshness};

use super::addressed::Addressed;
use super::fate::{Ack, Fate};
use super::groups::{self, Deed};
use super::state::Connection;
use super::{Shared, jid, reachout, reaction};
use crate::identity::ChatKind;
use crate::store::Outgoing;

/// How long WhatsApp may take to acknowledge. An acknowledgement takes milliseconds; one that has not come by now
/// will not come on this connection.
const ACK_WAIT: Duration = Duration::from_secs(20);
/// The library may wait for the offline queue (60 s) and ask for keys (75 s) before it writes.
const HAND_OVER: Duration = Duration::from_secs(150);
/// How far a message got.
pub(super) enum Outcome {
    /// The server took it, at this time if it said so.
    Sent(Option<i64>),
    /// Acknowledged, and encrypted for no device of the recipient.
    Suspect,
    /// It is refused for good.
    Rejected { code: String, reason: String },
    /// The connection never had it.
    NotTaken(String),
    /// The server refused it for now, with this code.
    Busy(String),
    /// Nothing certain: it may have arrived.
    Open(String),
}

/// Hands a message to the connection and waits for the server's word.
pub(super) async fn hand_over(
    shared: &Shared,
    client: &Arc<Client>,
    part: &Outgoing,
    ack: oneshot::Receiver<Ack>,
) -> Outcome {
    let rejected = |code: &str, reason: &str| Outcome::Rejected {
        code: code.to_owned(),
        reason: reason.to_owned(),
    };
    let Some(to) = jid(&part.chat.route) else {
        return rejected("invalid_target", "the address cannot be written to");
    };
    let Ok(mut message) = message_decode(&part.payload) else {
        return rejected(
            "internal_error",
            "the stored message cannot be read; send it again",
        );
    };
    let group = Some(&part.chat.route).filter(|chat| chat.kind() == ChatKind::Group);
    let deed = Deed::of(&message);
    if let Some(group) = group {
        if let Err(refused) = groups::may(deed, shared, client, group).await {
            return rejected(refused.code(), refused.sentence());
        }
        let plain = message.reaction_message.is_set();
        let Some(sealed) = reaction::sealed(shared, client, group, message).await else {
            return rejected(
                "no_message_secret",
                "in a community's announcements a reaction is encrypted with a secret of the message, which is not known here: the message is older than the link of this device, or no longer kept",
            );
        };
        if sealed.enc_reaction_message.is_set() && plain {
            // Devices that ask for it again are given what is stored.
            let payload = message_to_vec(&sealed);
            let stored = shared
                .store
                .replace_payload(part.message_id.clone(), payload);
            if let Err(error) = stored.await {
                return Outcome::NotTaken(error.to_string());
            }
        }
        message = sealed;
    }
    shared.outbox.tell(&part.message_id, Fate::Handed);
    let mut connection = shared.connection.subscribe();
    let lost = async {
        let _ = connection
            .wait_for(|now| !matches!(now, Connection::Online))
            .await;
    };
    tokio::pin!(lost);
    let mut stanza = Addressed::watch(client, &part.message_id);
    let devices = tokio::select! {
        sent = tokio::time::timeout(HAND_OVER, send_to_devices(client, &to, message, &part.message_id)) => match sent {
            Ok(Ok(devices)) => devices,
            Ok(Err(Outcome::Open(reason))) if !stanza.exists() && !client.is_connected() => {
                return Outcome::NotTaken(reason);
            }
            Ok(Err(outcome)) => return outcome,
            Err(_) => return Outcome::Open("the message could not be handed over".into()),
        },
        () = &mut lost => {
            let reason = "the connection was lost".to_owned();
            // Connections that end while keys are asked for must not use up a message's attempts.
            return match stanza.exists() {
                true => Outcome::Open(reason),
                false => Outcome::NotTaken(reason),
            };
        }
    };
    crate::crash::point("after_send");
    // Of a group nobody can tell how many devices there are.
    shared
        .outbox
        .linger_for(&part.message_id, devices.unwrap_or(usize::MAX));
    tokio::select! {
        ack = tokio::time::timeout(ACK_WAIT, ack) => match ack {
            Ok(Ok(Ack { error: None, .. })) if devices == Some(0) => Outcome::Suspect,
            Ok(Ok(Ack { at, error: None })) => Outcome::Sent(at),
            Ok(Ok(Ack { error: Some(code), .. })) => match group {
                Some(group) if matches!(code.as_str(), "401" | "403" | "404") => {
                    // What is known of the group was wrong; the server says why.
                    match groups::confirm(deed, shared, client, group).await {
                        Err(refused) => rejected(refused.code(), refused.sentence()),
                        Ok(()) => nack(&code),
                    }
                }
                _ if code == reachout::NACK => reachout::refused(shared, client, &part.message_id).await,
                _ => nack(&code),
            },
            _ => Outcome::Open("WhatsApp did not acknowledge".into()),
        },
        () = &mut lost => Outcome::Open("the connection was lost".into()),
    }
}

/// Hands a message to the library; for how many devices of the recipient it was encrypted, where that can be told. One
/// that was encrypted for none goes once more, under the same id, with the list of devices asked for anew.
async fn send_to_devices(
    client: &Arc<Client>,
    to: &Jid,
    message: wa::Message,
    id: &str,
) -> Result<Option<usize>, Outcome> {
    let mut devices = None;
    for freshness in [None, Some(Freshness::Refresh)] {
        let addressed = Addressed::watch(client, id);
        let mut options = SendOptions::default().with_message_id(id);
        if let Some(freshness) = freshness {
            options = options.with_device_freshness(freshness);
        }
        match client
            .send_message_with_options(to, message.clone(), options)
            .await
        {
            Ok(_) => devices = addressed.devices(),
            Err(SendError::InvalidRequest(reason)) => {
                return Err(Outcome::Rejected {
                    code: "invalid_target".into(),
                    reason,
                });
            }
            Err(
                error @ (SendError::NotLoggedIn | SendError::Client(ClientError::NotConnected)),
            ) => return Err(Outcome::NotTaken(error.to_string())),
            // The first stanza has left; that the list could not be had anew changes nothing about it.
            Err(_) if devices.is_some() => break,
            Err(error) => return Err(Outcome::Open(error.to_string())),
        }
        if devices != Some(0) {
            break;
        }
    }
    Ok(devices)
}

/// The server's refusals in words. Codes: whatsapp-rust's `ServerAck.error`, as WhatsApp Web sees them.
fn nack(code: &str) -> Outcome {
    let (name, reason) = match code {
        "479" => (
            "nack_479",
            "WhatsApp found the message malformed; please report this",
        ),
        "404" => (
            "not_on_whatsapp",
            "there is no WhatsApp account at this address",
        ),
        "401" | "403" => (
            "not_allowed",
            "WhatsApp does not let this account write there: it was removed from the group, is blocked, or only admins may write",
        ),
        "429" | "503" => return Outcome::Busy(code.to_owned()),
        other => {
            return Outcome::Rejected {
                code: format!("nack_{other}"),
                reason: format!("WhatsApp refused the message with code {other}"),
            };
        }
    };
    Outcome::Rejected {
        code: name.to_owned(),
        reason: reason.to_owned(),
    }
}

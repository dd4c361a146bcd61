//! Asks WhatsApp about a number before the first message to somebody who never wrote.
//!
//! A message to a number without an account would be refused, or swallowed; a number may have another form at WhatsApp
//! than the one that was typed; and its LID tells later who answers. Invariant: of one chat one question is asked at a
//! time, since its lane is held meanwhile, and an answer is kept (`store::numbers`), so that many messages ask once.

use std::time::Duration;

use wacore_binary::Jid;
use whatsapp_rust::request::IqError;
use whatsapp_rust::{Client, ContactError};

use super::{Shared, address, jid};
use crate::clock::now;
use crate::identity::Address;
use crate::store::{Asking, Peer, Registered, StoreError};

/// An answer takes milliseconds; what has none by now is asked again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is to become of a message.
pub(super) enum Found {
    /// It may go.
    Known,
    /// It may go, to this peer.
    Peer(Box<Peer>),
    /// It may not.
    Refused {
        code: &'static str,
        reason: &'static str,
    },
    /// There is no answer now, for this reason.
    NoAnswer(String),
    /// Too many numbers were asked for.
    Later,
}

const NOT_REGISTERED: Found = Found::Refused {
    code: "not_on_whatsapp",
    reason: "there is no WhatsApp account with this phone number; check the number, or wait until they have one",
};
const RECYCLED: Found = Found::Refused {
    code: "number_recycled",
    reason: "this phone number belongs to another WhatsApp account than before, so this may be a stranger; write to \
             the LID of whom you mean",
};

/// Says whether something may go to this peer, after asking WhatsApp where that is not known.
pub(super) async fn before_first(
    shared: &Shared,
    client: &Client,
    peer: &Peer,
) -> Result<Found, StoreError> {
    let asked = match shared.store.before_first(peer.clone(), now()).await? {
        Asking::Needless => return Ok(Found::Known),
        Asking::NotRegistered => return Ok(NOT_REGISTERED),
        Asking::Later => return Ok(Found::Later),
        Asking::Ask(phone) => phone,
    };
    let answer = match ask(client, &asked).await {
        Ok(answer) => answer,
        Err(found) => return Ok(found),
    };
    let unregistered = answer.is_none();
    Ok(match shared.store.answered(asked, answer, now()).await? {
        Some(peer) => Found::Peer(Box::new(peer)),
        None if unregistered => NOT_REGISTERED,
        None => RECYCLED,
    })
}

async fn ask(client: &Client, phone: &Address) -> Result<Option<Registered>, Found> {
    let Some(number) = jid(phone) else {
        return Err(Found::Known);
    };
    let contacts = client.contacts();
    let asked = contacts.is_on_whatsapp(std::slice::from_ref(&number));
    let results = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(results)) => results,
        Ok(Err(ContactError::Iq(IqError::ServerError {
            code: 429 | 503, ..
        }))) => return Err(Found::Later),
        // It is not said that the number has no account: the message itself will show.
        Ok(Err(
            error @ (ContactError::Iq(IqError::ServerError { .. } | IqError::ParseError(_))
            | ContactError::InvalidJid(_)),
        )) => {
            tracing::warn!(number = phone.redacted(), %error, "WhatsApp does not say whether a number has an account");
            return Err(Found::Known);
        }
        Ok(Err(error)) => return Err(Found::NoAnswer(error.to_string())),
        Err(_) => {
            let reason = "WhatsApp did not say in time whether the number has an account";
            return Err(Found::NoAnswer(reason.to_owned()));
        }
    };
    // One number was asked for, so whatever form the answer has, it is about that one.
    let Some(result) = results
        .into_iter()
        .find(|result| result.contact_error.is_none())
    else {
        return Err(Found::Known);
    };
    let lid = |jid: Option<&Jid>| {
        jid.and_then(address)
            .filter(|a| matches!(a, Address::Lid(_)))
    };
    let canonical = address(&result.jid).filter(|a| a.phone().is_some());
    Ok(result.is_registered.then(|| Registered {
        phone: canonical.unwrap_or_else(|| phone.clone()),
        lid: lid(result.lid.as_ref()),
    }))
}

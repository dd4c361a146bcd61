//! Reactions in the announcement group of a community. Its members cannot write there, but react, and WhatsApp's clients
//! take reactions there encrypted only, with the secret of the message that they are about.
//!
//! Invariant: no plain reaction goes to such a group.

use wacore::reaction::encrypt_reaction_with_secret;
use wacore::store::traits::MsgSecretStore;
use waproto::codec::message_decode;
use waproto::whatsapp as wa;
use whatsapp_rust::Client;

use super::{Shared, address, jid};
use crate::identity::Address;
use crate::inbound::addon;

/// The message as it goes to this group, which is encrypted once more if it is a reaction there. `None` if the secret for
/// that is not known.
pub(super) async fn sealed(
    shared: &Shared,
    client: &Client,
    group: &Address,
    message: wa::Message,
) -> Option<wa::Message> {
    let Some(reaction) = message.reaction_message.as_option() else {
        return Some(message);
    };
    let known = shared.store.group(group.clone()).await.ok().flatten();
    if !known.is_some_and(|known| known.group.community_announcements) {
        return Some(message);
    }
    let key = reaction.key.as_option()?;
    let id = key.id.as_deref()?;
    let author: Address = key.participant.as_deref()?.parse().ok()?;
    let secret = secret(shared, group, &author, id).await?;
    // Receivers derive the key with the sender of the stanza, who is a LID in communities.
    let own = client.lid().or_else(|| client.pn())?;
    let (payload, iv) = encrypt_reaction_with_secret(
        reaction.text.as_deref().unwrap_or_default(),
        reaction.sender_timestamp_ms.unwrap_or_default(),
        &secret,
        id,
        &author.to_string(),
        &address(&own)?.to_string(),
    )
    .ok()?;
    Some(wa::Message {
        enc_reaction_message: wa::message::EncReactionMessage {
            target_message_key: key.clone().into(),
            enc_payload: Some(payload),
            enc_iv: Some(iv.to_vec()),
        }
        .into(),
        ..wa::Message::default()
    })
}

/// The secret of a message: as it came, or as the library made it when it went.
async fn secret(shared: &Shared, group: &Address, author: &Address, id: &str) -> Option<Vec<u8>> {
    let kept = shared.store.kept(group.clone(), id.to_owned()).await;
    let raw = kept.ok().flatten().and_then(|kept| kept.raw);
    let said = raw.and_then(|raw| message_decode(&raw).ok());
    if let Some(secret) = said.as_ref().and_then(addon::secret) {
        return Some(secret.to_vec());
    }
    let (chat, author) = (jid(group)?.to_string(), jid(author)?.to_string());
    let found = shared.backend.get_msg_secret(&chat, &author, id).await;
    found.ok().flatten()
}

//! What arrives from WhatsApp, on its way into `channel.db`.
//!
//! Invariant: the library acknowledges a message to WhatsApp only after [`Inbox::on_messages`] has returned `Ok`,
//! and that returns `Ok` only after the inbox has committed it. If the commit fails, nothing is acknowledged and
//! WhatsApp sends the message again at the next login.
//!
//! What the library acknowledges before it hands it over (newsletters, what the phone gives when a message cannot be
//! decrypted) comes once, so it stays here until the inbox takes it.
//!
//! Inside the hook nothing may be sent and nothing may be asked of the server: the library holds the sender's
//! Signal lock meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use wacore::types::events::InboundMessage;
use wacore::types::message::{EditAttribute, MessageCategory, MessageInfo};
use waproto::codec::message_to_vec;
use waproto::whatsapp::message::protocol_message::Type;
use whatsapp_rust::{Client, InboundDurabilityHook};

use super::address;
use super::primary::Phone;
use crate::identity::Address;
use crate::inbound::{self, Classified, reveal};
use crate::store::{Dropped, NewInbound, Store, StoreError};

/// The way into the inbox: the durability hook of one connection.
#[derive(Clone)]
pub(super) struct Inbox {
    pub(super) store: Store,
    /// When something last came from WhatsApp.
    pub(super) heard: watch::Sender<Instant>,
    /// Why a message could not be stored. The library asks for it again only at the next login.
    pub(super) failed: watch::Sender<Option<String>>,
    /// Signs of the account's phone.
    pub(super) phone: Phone,
    /// What nobody sends again and the inbox has not taken yet.
    late: Arc<Mutex<Vec<NewInbound>>>,
}

#[async_trait]
impl InboundDurabilityHook for Inbox {
    async fn on_messages(
        &self,
        client: Arc<Client>,
        batch: &[InboundMessage],
    ) -> anyhow::Result<()> {
        Ok(self.commit(&client, batch).await?)
    }
}

impl Inbox {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            heard: watch::Sender::new(Instant::now()),
            failed: watch::Sender::new(None),
            phone: Phone::default(),
            late: Arc::default(),
        }
    }

    /// Commits a batch, whole or not at all. Idempotent: a message that is there already is not stored twice.
    async fn commit(&self, client: &Client, batch: &[InboundMessage]) -> Result<(), StoreError> {
        let rows = self.rows(client, batch).await;
        if !rows.is_empty() {
            self.insert(rows).await?;
        }
        for MessageInfo {
            source, timestamp, ..
        } in batch.iter().map(|message| &*message.info)
        {
            let at = timestamp.timestamp();
            self.phone
                .heard(&self.store, &source.sender, source.is_from_me, at);
        }
        for message in batch {
            if let Some((chat, seconds)) = timer(client, message).await {
                // The next message of the chat says it again.
                drop(self.store.learn_timer(chat, seconds));
            }
        }
        crate::crash::point("after_commit");
        self.heard.send_replace(Instant::now());
        Ok(())
    }

    /// Takes a batch that is not going to be sent again.
    pub(super) async fn keep(&self, client: &Client, batch: &[InboundMessage]) {
        let rows = self.rows(client, batch).await;
        self.late().extend(rows);
        if self.settle().await.is_ok() {
            crate::crash::point("after_commit");
            self.heard.send_replace(Instant::now());
        }
    }

    /// Stores what could not be stored when it came.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut *self.late());
        if rows.is_empty() {
            return Ok(());
        }
        let stored = self.insert(rows.clone()).await;
        if let Err(error) = &stored {
            tracing::error!(%error, "a message that comes only once could not be stored yet");
            self.late().splice(..0, rows);
        }
        stored
    }

    fn late(&self) -> MutexGuard<'_, Vec<NewInbound>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// The inbox rows of these messages. Of those that have none, why is noted.
    async fn rows(&self, client: &Client, batch: &[InboundMessage]) -> Vec<NewInbound> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut dropped = Vec::new();
        for message in batch {
            match row(client, message).await {
                Some(Ok(row)) => rows.push(row),
                Some(Err(why)) => dropped.push(why),
                None => {}
            }
        }
        if !dropped.is_empty() {
            // Only `explain` misses it.
            drop(self.store.note_dropped(dropped));
        }
        rows
    }

    /// Refused on a disk that has little left: the message would fit, what follows it might not.
    async fn insert(&self, rows: Vec<NewInbound>) -> Result<(), StoreError> {
        let stored = match self.store.space().look() {
            Ok(()) => self.store.insert(rows).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = &stored {
            self.failed.send_replace(Some(error.to_string()));
        }
        stored
    }
}

/// The inbox row of a message, or why it is not to be seen: status, protocol, nearly all of our own. Neither, if its address is none.
async fn row(client: &Client, message: &InboundMessage) -> Option<Result<NewInbound, Dropped>> {
    let Some(info) = info(client, &message.info).await else {
        tracing::warn!("a message from an address of unknown form is not for the inbox");
        return None;
    };
    let (mut draft, own) = match inbound::classify(&message.message, &info) {
        Classified::Ignore(reason) => {
            tracing::debug!(
                chat = info.chat.redacted(),
                reason,
                "message not for the inbox"
            );
            return Some(Err(Dropped {
                chat: info.chat,
                sender: info.sender,
                stanza_id: info.stanza_id,
                reason: reason.to_owned(),
            }));
        }
        Classified::Draft(draft) => (draft, false),
        Classified::Own(draft) => (draft, true),
    };
    if let Some(target) = &message.info.comment_target {
        draft = reveal::comment(draft, target);
    }
    if message.info.edit == EditAttribute::MessageEdit {
        reveal::edited(&mut draft);
    }
    // The server lets nobody but an admin send a stanza of this sort. Our own phone, which is asked for what could not
    // be decrypted, does not say of what sort it was.
    if message.info.unavailable_request_id.is_none() {
        reveal::revocation(&mut draft, message.info.edit == EditAttribute::AdminRevoke);
    }
    let sender = forms(&info.sender, info.sender_alt.clone());
    // A direct chat is its peer, in every form that is known of them. What somebody sent to a broadcast list arrives
    // in the direct chat with them, where it can be answered.
    let listed = matches!(info.chat, Address::Broadcast(_)) && !own;
    let (chat, route) = match info.chat.is_user() || listed {
        true if own => {
            let source = &message.info.source;
            let told = message.info.peer_recipient_pn.as_ref().and_then(address);
            let other = match told {
                Some(phone) => Some(phone),
                None => other_form(client, &source.chat, &info.chat).await,
            };
            (forms(&info.chat, other), info.chat)
        }
        true => (sender.clone(), if listed { info.sender } else { info.chat }),
        false => (vec![info.chat.clone()], info.chat),
    };
    Some(Ok(NewInbound {
        chat,
        sender,
        route,
        stanza_id: info.stanza_id,
        timestamp: info.timestamp,
        push_name: info.push_name,
        draft,
        raw: message_to_vec(&message.message),
        own,
    }))
}

/// An address with the other one of the same account, if that is known.
fn forms(first: &Address, other: Option<Address>) -> Vec<Address> {
    let mut forms = vec![first.clone()];
    forms.extend(other.filter(|other| other != first));
    forms
}

/// After how many seconds messages of a direct chat disappear, if this message says so: whoever changes it tells the
/// others, and each message of such a chat carries it. A group's is in its metadata.
async fn timer(client: &Client, message: &InboundMessage) -> Option<(Vec<Address>, u32)> {
    let changed = message
        .message
        .protocol_message
        .as_option()
        .filter(|said| said.r#type == Some(Type::EPHEMERAL_SETTING))
        .map(|said| said.ephemeral_expiration.unwrap_or_default());
    let seconds = changed.or(message.info.ephemeral_expiration)?;
    let source = &message.info.source;
    let chat = address(&source.chat).filter(Address::is_user)?;
    // It may be the first that is heard of the chat, whose id is made of what is known of it then.
    let told = match source.is_from_me {
        true => &source.recipient_alt,
        false => &source.sender_alt,
    };
    let other = match told.as_ref().and_then(address) {
        Some(other) => Some(other),
        None => other_form(client, &source.chat, &chat).await,
    };
    let other = other.filter(|other| other.is_user() && *other != chat);
    Some(([Some(chat), other].into_iter().flatten().collect(), seconds))
}

/// What the conversion needs of the library's description. None only for addresses that are no JIDs.
async fn info(client: &Client, info: &MessageInfo) -> Option<inbound::Info> {
    let source = &info.source;
    let sender = address(&source.sender)?;
    let mut sender_alt = source.sender_alt.as_ref().and_then(address);
    if sender_alt.is_none() && sender.is_user() {
        sender_alt = other_form(client, &source.sender, &sender).await;
    }
    Some(inbound::Info {
        chat: address(&source.chat)?,
        sender,
        sender_alt,
        is_from_me: source.is_from_me,
        is_group: source.is_group,
        stanza_id: info.id.to_string(),
        timestamp: info.timestamp.timestamp(),
        push_name: Some(info.push_name.clone()).filter(|name| !name.is_empty()),
        is_peer: info.category == MessageCategory::Peer,
    })
}

/// The LID of a phone number or the number of a LID, as far as this device has learnt it. Asks nobody.
async fn other_form(client: &Client, jid: &wacore_binary::Jid, known: &Address) -> Option<Address> {
    let entry = client
        .get_lid_pn_entry(&jid.to_non_ad())
        .await
        .ok()
        .flatten()?;
    match known {
        Address::Lid(_) => format!("{}@s.whatsapp.net", entry.phone_number)
            .parse()
            .ok(),
        _ => format!("{}@lid", entry.lid).parse().ok(),
    }
}

//! What a person was sent. Invariant: nothing is forgotten, so counts prove what arrived how often.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use wacore::proto_helpers::MessageExt as _;
use wacore::types::events::{
    ChatPresenceUpdate, Event, EventHandler, EventInterest, EventKind, GroupUpdate, PresenceUpdate,
    Receipt, ServerAck,
};
use wacore::types::message::MessageInfo;
use wacore::types::presence::{ChatPresence, ReceiptType};
use wacore_binary::Jid;
use waproto::whatsapp as wa;

use super::{PATIENCE, Person};

/// A message that arrived; own messages from another device included.
#[derive(Clone, Debug)]
pub struct SeenMessage {
    /// The content, decrypted.
    pub message: Arc<wa::Message>,
    /// Who, where, when.
    pub info: Arc<MessageInfo>,
}

impl SeenMessage {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// The chat to answer in.
    #[must_use]
    pub fn chat(&self) -> &Jid {
        &self.info.source.chat
    }

    /// Its author, with the device.
    #[must_use]
    pub fn sender(&self) -> &Jid {
        &self.info.source.sender
    }

    /// Its text, or the caption of what it carries.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.message
            .text_content()
            .or_else(|| self.message.get_caption())
    }
}

/// All that a person was sent, in the order of arrival within each list.
#[derive(Debug, Default)]
pub struct Seen {
    /// Messages of every kind: edits, revokes and reactions are messages too. One that comes again under an id that
    /// is here already is not shown twice, as on a phone; it is counted in `copies`.
    pub messages: Vec<SeenMessage>,
    /// Ids of messages that came again.
    pub copies: Vec<String>,
    /// Receipts for own messages.
    pub receipts: Vec<Receipt>,
    /// The server's acks and nacks.
    pub acks: Vec<ServerAck>,
    /// Somebody types, records, or has stopped.
    pub chatstates: Vec<ChatPresenceUpdate>,
    /// Presences subscribed to.
    pub presences: Vec<PresenceUpdate>,
    /// Changes of groups.
    pub groups: Vec<GroupUpdate>,
    /// Messages that could not be decrypted, at least not at first.
    pub undecryptable: Vec<Arc<MessageInfo>>,
    /// QR texts that the client showed.
    pub qrs: Vec<String>,
    /// How many times the client got ready.
    pub connected: usize,
    /// Whether the client was logged out for good.
    pub logged_out: bool,
    /// The kinds of events that were heard, those with no list of their own included.
    pub kinds: Vec<EventKind>,
    /// Ids of `messages`.
    ids: HashSet<String>,
}

impl Seen {
    /// Messages with this text or caption.
    pub fn texts<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a SeenMessage> {
        self.messages
            .iter()
            .filter(move |message| message.text() == Some(text))
    }

    /// How many messages have this id.
    #[must_use]
    pub fn count_id(&self, id: &str) -> usize {
        self.messages
            .iter()
            .filter(|message| message.id() == id)
            .count()
    }

    /// How many messages have this text or caption.
    #[must_use]
    pub fn count_text(&self, text: &str) -> usize {
        self.texts(text).count()
    }

    /// Receipts that name this message.
    pub fn receipts_for<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Receipt> {
        self.receipts
            .iter()
            .filter(move |receipt| receipt.message_ids.iter().any(|named| named == id))
    }

    /// The server's answer to a message.
    #[must_use]
    pub fn ack(&self, id: &str) -> Option<&ServerAck> {
        self.acks
            .iter()
            .find(|ack| ack.id == id && ack.class.as_deref() == Some("message"))
    }

    fn record(&mut self, event: &Event) {
        self.kinds.push(event.kind());
        match event {
            Event::Messages(batch) => {
                for one in batch.iter() {
                    if self.ids.insert(one.info.id.to_string()) {
                        self.messages.push(SeenMessage {
                            message: one.message.clone(),
                            info: one.info.clone(),
                        });
                    } else {
                        self.copies.push(one.info.id.to_string());
                    }
                }
            }
            Event::Receipt(receipt) => self.receipts.push(receipt.clone()),
            Event::ServerAck(ack) => self.acks.push(ack.clone()),
            Event::ChatPresence(state) => self.chatstates.push(state.clone()),
            Event::Presence(presence) => self.presences.push(presence.clone()),
            Event::GroupUpdate(update) => self.groups.push(update.clone()),
            Event::UndecryptableMessage(message) => self.undecryptable.push(message.info.clone()),
            Event::PairingQrCode(qr) => self.qrs.push(qr.code.clone()),
            Event::Connected(_) => self.connected += 1,
            Event::LoggedOut(_) => self.logged_out = true,
            _ => {}
        }
    }

    /// What there is, briefly, for a wait that was in vain.
    fn summary(&self) -> String {
        let mut text = format!("{} messages", self.messages.len());
        for message in self.messages.iter().rev().take(20).rev() {
            let content = message.text().unwrap_or("(no text)");
            let _ = write!(
                text,
                "\n  {} from {}: {content:.60}",
                message.id(),
                message.sender()
            );
        }
        let receipts = self
            .receipts
            .iter()
            .map(|r| format!("{} {:?}", r.r#type.as_wire_str(), r.message_ids));
        let acks = self.acks.iter().map(|ack| match &ack.error {
            Some(error) => format!("{} refused with {error}", ack.id),
            None => ack.id.clone(),
        });
        let states = self
            .chatstates
            .iter()
            .map(|s| format!("{} {:?}", s.source.sender, s.state));
        let _ = write!(text, "\nreceipts: {}", last(receipts));
        let _ = write!(text, "\nacks: {}", last(acks));
        let _ = write!(text, "\nchatstates: {}", last(states));
        let _ = write!(text, "\nundecryptable: {}", self.undecryptable.len());
        let kinds = self.kinds.iter().map(|kind| format!("{kind:?}"));
        let _ = write!(text, "\nlast events: {}", last(kinds));
        text
    }
}

fn last(items: impl DoubleEndedIterator<Item = String>) -> String {
    let mut items: Vec<_> = items.rev().take(20).collect();
    items.reverse();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

#[derive(Default)]
pub(super) struct Recorder {
    seen: Mutex<Seen>,
    more: Notify,
}

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the recorder has a list for, and what a vain wait is explained by.
const HEARD: &[EventKind] = &[
    EventKind::Connected,
    EventKind::Disconnected,
    EventKind::PairSuccess,
    EventKind::PairError,
    EventKind::LoggedOut,
    EventKind::PairingQrCode,
    EventKind::PairingQrCodesExhausted,
    EventKind::Messages,
    EventKind::Receipt,
    EventKind::ServerAck,
    EventKind::UndecryptableMessage,
    EventKind::ChatPresence,
    EventKind::Presence,
    EventKind::PictureUpdate,
    EventKind::GroupUpdate,
    EventKind::DeviceListUpdate,
    EventKind::OfflineSyncPreview,
    EventKind::OfflineSyncCompleted,
    EventKind::AppStateSyncFailed,
    EventKind::StreamReplaced,
    EventKind::StreamError,
    EventKind::TemporaryBan,
    EventKind::ConnectFailure,
];

/// What the client is given; the recorder itself outlives every client of the person.
pub(super) struct Ear(pub(super) Arc<Recorder>);

impl EventHandler for Ear {
    fn handle_event(&self, event: Arc<Event>) {
        self.0.seen().record(&event);
        self.0.more.notify_waiters();
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(HEARD)
    }
}

impl Person {
    /// Looks at what was seen so far.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.0.recorder.seen())
    }

    /// Waits until `check` finds what it looks for; `what` names it in the error.
    ///
    /// # Errors
    /// It did not come within [`PATIENCE`]; the error lists what came instead.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        check: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        self.wait_within(PATIENCE, what, check).await
    }

    /// As [`Person::wait_for`], with a deadline of one's own.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_within<T>(
        &self,
        within: Duration,
        what: &str,
        mut check: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let more = self.0.recorder.more.notified();
            tokio::pin!(more);
            // Before the look, so that what comes between the look and the wait is not missed.
            more.as_mut().enable();
            if let Some(found) = self.seen(&mut check) {
                return Ok(found);
            }
            if timeout_at(deadline, more).await.is_err() {
                let (name, seen) = (self.name(), self.seen(Seen::summary));
                return Err(anyhow!(
                    "{name} waited {within:?} in vain for {what}; seen: {seen}"
                ));
            }
        }
    }

    /// Waits for the first message with this text or caption.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_text(&self, text: &str) -> Result<SeenMessage> {
        self.wait_for(&format!("the text {text:?}"), |seen| {
            seen.texts(text).next().cloned()
        })
        .await
    }

    /// Waits for a message with this id.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_id(&self, id: &str) -> Result<SeenMessage> {
        let found = |seen: &Seen| {
            seen.messages
                .iter()
                .find(|message| message.id() == id)
                .cloned()
        };
        self.wait_for(&format!("the message {id}"), found).await
    }

    /// Waits for the server's answer to an own message: `Ok(None)` for an ack, the error code for a nack.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_ack(&self, id: &str) -> Result<Option<String>> {
        let found = |seen: &Seen| seen.ack(id).map(|ack| ack.error.clone());
        self.wait_for(&format!("the ack of {id}"), found).await
    }

    /// Waits for a receipt of this kind for an own message.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_receipt(&self, id: &str, kind: ReceiptType) -> Result<Receipt> {
        let found = |seen: &Seen| {
            seen.receipts_for(id)
                .find(|receipt| receipt.r#type == kind)
                .cloned()
        };
        self.wait_for(&format!("a {} receipt for {id}", kind.as_wire_str()), found)
            .await
    }

    /// Waits until `from` types (or has stopped), and is told so in whatever namespace.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_chatstate(
        &self,
        from: &Person,
        state: ChatPresence,
    ) -> Result<ChatPresenceUpdate> {
        let found = |seen: &Seen| {
            let states = seen.chatstates.iter();
            states
                .rev()
                .find(|told| told.state == state && from.is(&told.source.sender))
                .cloned()
        };
        self.wait_for(&format!("{} to be {state:?}", from.name()), found)
            .await
    }
}

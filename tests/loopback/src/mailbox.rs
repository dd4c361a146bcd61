//! The stanzas of one device that it has not settled yet, and the way to it when it is connected.
//!
//! Invariant: a stanza stays queued from the moment it is accepted until the device settles it by a receipt or an
//! ack, however often it is sent. On a new connection everything counts as unsent again.

use std::{
    collections::{BTreeMap, HashMap, hash_map},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::Node;

use crate::{limits::Limits, outbox::Outbox, wire::node};

/// What kind of stanza waits; an id belongs to a message and to its receipts alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Settled by a receipt, or an ack.
    Message,
    /// Settled by an ack.
    Receipt,
    /// Settled by an ack.
    Notification,
}

impl Class {
    /// The class of an ack.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "message" => Some(Self::Message),
            "receipt" => Some(Self::Receipt),
            "notification" => Some(Self::Notification),
            _ => None,
        }
    }

    const ALL: [Self; 3] = [Self::Message, Self::Receipt, Self::Notification];

    fn index(self) -> usize {
        self as usize
    }
}

/// Told to who waits for a message to be settled.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The message's id.
    pub id: String,
    /// When it was accepted for delivery.
    pub accepted: Instant,
    /// When the device settled it.
    pub settled: Instant,
}

/// A stanza for a device.
pub struct Letter {
    /// Its kind.
    pub class: Class,
    /// Its id.
    pub id: Box<str>,
    /// User part of the JID that it comes from, which tells equal ids apart.
    pub from: Box<str>,
    /// The encoded stanza.
    pub stanza: Bytes,
    /// Whom to tell when it is settled.
    pub track: Option<UnboundedSender<Settled>>,
}

struct Queued {
    letter: Letter,
    accepted: Instant,
}

/// What is to be done with a stanza on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Nothing.
    None,
    /// It goes out twice.
    Twice,
    /// It goes out after the next one.
    Hold,
}

/// The connection of a device.
pub struct Link {
    /// Number of the connection.
    pub conn: u64,
    /// The way out.
    pub outbox: Arc<Outbox>,
    /// Whether the offline queue has been delivered, so that stanzas go out as they come.
    pub live: bool,
    /// Whether the client asked for its offline queue.
    pub active: bool,
}

type Places = HashMap<Box<str>, (u64, Vec<u64>)>;

/// What waits for one device.
#[derive(Default)]
pub struct Mailbox {
    queue: BTreeMap<u64, Queued>,
    /// Per class: where the stanzas of an id are, the first one apart since there is mostly one.
    index: [Places; 3],
    next: u64,
    /// Everything before it has been sent on this connection.
    unsent: u64,
    bytes: usize,
    held: Option<Bytes>,
    /// Where the device is.
    pub link: Option<Link>,
    /// How many times it has logged in.
    pub logins: u64,
    /// The presence it last announced.
    pub presence: Option<String>,
}

impl Mailbox {
    /// How many stanzas wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes a stanza in, and sends it if the device is live. Answers whether it was held back.
    pub fn deliver(&mut self, letter: Letter, trick: Trick, limits: &Limits) -> bool {
        while self.len() >= limits.queue_stanzas
            || (self.bytes + letter.stanza.len() > limits.queue_bytes && !self.queue.is_empty())
        {
            let Some((&oldest, _)) = self.queue.first_key_value() else {
                break;
            };
            self.remove(oldest);
        }
        let seq = self.next;
        self.next += 1;
        self.bytes += letter.stanza.len();
        match self.index[letter.class.index()].entry(letter.id.clone()) {
            hash_map::Entry::Occupied(mut entry) => entry.get_mut().1.push(seq),
            hash_map::Entry::Vacant(entry) => {
                entry.insert((seq, Vec::new()));
            }
        }
        let live = self.link.as_ref().is_some_and(|link| link.live);
        let stanza = live.then(|| letter.stanza.clone());
        self.queue.insert(
            seq,
            Queued {
                letter,
                accepted: Instant::now(),
            },
        );
        let Some(stanza) = stanza else { return false };
        self.unsent = self.next;
        self.emit(stanza, trick)
    }

    /// Sends a stanza on the connection. Answers whether it was held back.
    fn emit(&mut self, stanza: Bytes, trick: Trick) -> bool {
        let Some(link) = &self.link else { return false };
        if let Some(held) = self.held.take() {
            link.outbox.push(stanza);
            link.outbox.push(held);
            return false;
        }
        match trick {
            Trick::None => link.outbox.push(stanza),
            Trick::Twice => {
                link.outbox.push(stanza.clone());
                link.outbox.push(stanza);
            }
            Trick::Hold => {
                self.held = Some(stanza);
                return true;
            }
        }
        false
    }

    /// Lets a stanza go that was held back and had none after it.
    pub fn release(&mut self) {
        if let (Some(held), Some(link)) = (self.held.take(), &self.link) {
            link.outbox.push(held);
        }
    }

    fn remove(&mut self, seq: u64) -> Option<Queued> {
        let queued = self.queue.remove(&seq)?;
        self.bytes -= queued.letter.stanza.len();
        let index = &mut self.index[queued.letter.class.index()];
        if let Some((first, more)) = index.get_mut(&queued.letter.id) {
            if *first != seq {
                more.retain(|s| *s != seq);
            } else if more.is_empty() {
                index.remove(&queued.letter.id);
            } else {
                *first = more.remove(0);
            }
        }
        Some(queued)
    }

    /// Settles a stanza: of several with the same id the one from `from`, else the first. Answers whether there was one.
    pub fn settle(&mut self, class: Class, id: &str, from: Option<&str>) -> bool {
        let Some((first, more)) = self.index[class.index()].get(id) else {
            return false;
        };
        let mut seq = *first;
        if let (Some(from), false) = (from, more.is_empty()) {
            let matches = |seq: &u64| {
                self.queue
                    .get(seq)
                    .is_some_and(|queued| *queued.letter.from == *from)
            };
            if let Some(found) = std::iter::once(&seq).chain(more).find(|seq| matches(seq)) {
                seq = *found;
            }
        }
        let Some(queued) = self.remove(seq) else {
            return false;
        };
        if let Some(track) = queued.letter.track {
            // Who waited may be gone.
            let _ = track.send(Settled {
                id: queued.letter.id.into(),
                accepted: queued.accepted,
                settled: Instant::now(),
            });
        }
        true
    }

    /// A new connection: everything counts as unsent. Answers the connection that there was.
    pub fn connect(&mut self, conn: u64, outbox: Arc<Outbox>) -> Option<Link> {
        self.logins += 1;
        self.unsent = 0;
        self.held = None;
        self.link.replace(Link {
            conn,
            outbox,
            live: false,
            active: false,
        })
    }

    /// The connection has ended. Answers whether it was still the device's.
    pub fn disconnect(&mut self, conn: u64) -> bool {
        let ours = self.link.as_ref().is_some_and(|link| link.conn == conn);
        if ours {
            self.link = None;
            self.held = None;
        }
        ours
    }

    /// How many stanzas of each class have not been sent on this connection.
    pub fn backlog(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for queued in self.queue.range(self.unsent..).map(|(_, queued)| queued) {
            counts[queued.letter.class.index()] += 1;
        }
        counts
    }

    /// Sends the next `n` stanzas of the offline queue. When none is left the device is live; the answer then is true.
    pub fn drain(&mut self, n: usize, mut trick: impl FnMut(Class) -> Trick) -> bool {
        let batch: Vec<(u64, Class, Bytes)> = self
            .queue
            .range(self.unsent..)
            .take(n)
            .map(|(seq, queued)| (*seq, queued.letter.class, queued.letter.stanza.clone()))
            .collect();
        for (seq, class, stanza) in batch {
            self.unsent = seq + 1;
            self.emit(offline(stanza), trick(class));
        }
        self.release();
        let done = self.queue.range(self.unsent..).next().is_none();
        if done && let Some(link) = &mut self.link {
            link.live = true;
        }
        done
    }

    /// The ids that wait, of one class, oldest first.
    pub fn ids(&self, class: Class) -> Vec<String> {
        self.queue
            .values()
            .filter(|queued| queued.letter.class == class)
            .map(|queued| queued.letter.id.to_string())
            .collect()
    }

    /// Classes in the order of [`Mailbox::backlog`].
    pub fn classes() -> [Class; 3] {
        Class::ALL
    }
}

/// The stanza as it is sent from the offline queue.
fn offline(stanza: Bytes) -> Bytes {
    let Some(mut decoded) = node::decode(stanza.clone()) else {
        return stanza;
    };
    mark_offline(&mut decoded);
    node::encode(&decoded)
}

fn mark_offline(stanza: &mut Node) {
    stanza.attrs.insert("offline", "0");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(class: Class, id: &str, from: &str) -> Letter {
        let stanza = wacore_binary::builder::NodeBuilder::new("message")
            .attr("id", id)
            .build();
        Letter {
            class,
            id: id.into(),
            from: from.into(),
            stanza: node::encode(&stanza),
            track: None,
        }
    }

    fn sent(outbox: &Outbox) -> Vec<String> {
        let mut out = Vec::new();
        outbox.take(usize::MAX, &mut out);
        out.into_iter()
            .map(|stanza| node::text(&node::decode(stanza).unwrap(), "id").into_owned())
            .collect()
    }

    fn connect(mailbox: &mut Mailbox, conn: u64) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(usize::MAX));
        mailbox.connect(conn, outbox.clone());
        outbox
    }

    #[test]
    fn unsettled_stanzas_come_again_on_the_next_connection() {
        let limits = Limits::default();
        let mut mailbox = Mailbox::default();
        for id in ["a", "b", "c"] {
            mailbox.deliver(letter(Class::Message, id, "x"), Trick::None, &limits);
        }
        let first = connect(&mut mailbox, 1);
        assert!(!mailbox.drain(2, |_| Trick::None));
        mailbox.deliver(letter(Class::Message, "d", "x"), Trick::None, &limits);
        assert_eq!(
            sent(&first),
            ["a", "b"],
            "nothing live before the queue is empty"
        );
        assert!(mailbox.drain(9, |_| Trick::None));
        mailbox.deliver(letter(Class::Message, "e", "x"), Trick::None, &limits);
        assert_eq!(sent(&first), ["c", "d", "e"]);
        assert!(mailbox.settle(Class::Message, "b", None));
        assert!(!mailbox.settle(Class::Receipt, "a", None), "another class");
        let second = connect(&mut mailbox, 2);
        assert!(
            !mailbox.disconnect(1),
            "the connection is no longer the device's"
        );
        assert!(mailbox.drain(9, |_| Trick::None));
        assert_eq!(sent(&second), ["a", "c", "d", "e"]);
    }

    #[test]
    fn equal_ids_are_told_apart_by_who_wrote() {
        let limits = Limits::default();
        let mut mailbox = Mailbox::default();
        mailbox.deliver(letter(Class::Message, "a", "x"), Trick::None, &limits);
        mailbox.deliver(letter(Class::Message, "a", "y"), Trick::None, &limits);
        assert!(mailbox.settle(Class::Message, "a", Some("y")));
        assert!(mailbox.settle(Class::Message, "a", Some("unknown")));
        assert!(!mailbox.settle(Class::Message, "a", Some("y")));
        assert_eq!(mailbox.len(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let limits = Limits {
            queue_stanzas: 2,
            ..Limits::default()
        };
        let mut mailbox = Mailbox::default();
        for id in ["a", "b", "c"] {
            mailbox.deliver(letter(Class::Message, id, "x"), Trick::None, &limits);
        }
        assert_eq!(mailbox.ids(Class::Message), ["b", "c"]);
    }

    #[test]
    fn tricks_on_the_way_out() {
        let limits = Limits::default();
        let mut mailbox = Mailbox::default();
        let outbox = connect(&mut mailbox, 1);
        assert!(mailbox.drain(1, |_| Trick::None));
        mailbox.deliver(letter(Class::Message, "a", "x"), Trick::Twice, &limits);
        assert!(mailbox.deliver(letter(Class::Message, "b", "x"), Trick::Hold, &limits));
        mailbox.deliver(letter(Class::Message, "c", "x"), Trick::Hold, &limits);
        assert!(mailbox.deliver(letter(Class::Message, "d", "x"), Trick::Hold, &limits));
        mailbox.release();
        assert_eq!(sent(&outbox), ["a", "a", "c", "b", "d"]);
    }
}

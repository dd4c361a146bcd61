//! The last stanzas that went by, kept as they were sent and taken apart only for who looks.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{clock, core::Core, sync::lock, wire::node};

/// The stanzas that are kept.
#[derive(Default)]
pub struct Log {
    next: u64,
    bytes: usize,
    records: VecDeque<Logged>,
}

struct Logged {
    at_ms: u64,
    sent: bool,
    who: Who,
    stanza: Bytes,
}

/// The log holds no more than this, whatever the number of stanzas.
const LOG_BYTES: usize = 32 << 20;

/// Who a connection belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Digits of the phone number; empty while not linked.
    pub phone: Arc<str>,
    /// Number of the device; 0 while not linked.
    pub device: u16,
}

/// One stanza that went by.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StanzaRecord {
    /// Counts up from 0 over all stanzas, also those that the log has dropped.
    pub seq: u64,
    /// When it went by, Unix milliseconds.
    pub at_ms: u64,
    /// Whether the server sent it.
    pub sent: bool,
    /// Digits of the account's phone number; empty while not linked.
    pub phone: String,
    /// Number of the device; 0 while not linked.
    pub device: u16,
    /// Its tag.
    pub tag: String,
    /// Its attributes.
    pub attrs: Vec<(String, String)>,
    /// The tags of its children.
    pub children: Vec<String>,
}

impl StanzaRecord {
    /// An attribute.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<&str> {
        self.attrs
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }
}

impl Core {
    pub(crate) fn record(&self, sent: bool, who: &Who, stanza: &Bytes) {
        let mut log = lock(&self.log);
        log.next += 1;
        log.bytes += stanza.len();
        log.records.push_back(Logged {
            at_ms: clock::unix_ms(),
            sent,
            who: who.clone(),
            stanza: stanza.clone(),
        });
        while log.records.len() > self.limits().log || log.bytes > LOG_BYTES {
            let Some(oldest) = log.records.pop_front() else {
                break;
            };
            log.bytes -= oldest.stanza.len();
        }
    }

    /// The last stanzas that went by, oldest first.
    #[must_use]
    pub fn stanzas(&self) -> Vec<StanzaRecord> {
        let (first, records): (u64, Vec<_>) = {
            let log = lock(&self.log);
            let records: Vec<_> = log
                .records
                .iter()
                .map(|l| (l.at_ms, l.sent, l.who.clone(), l.stanza.clone()))
                .collect();
            (log.next - records.len() as u64, records)
        };
        (first..)
            .zip(records)
            .filter_map(|(seq, (at_ms, sent, who, stanza))| {
                let stanza = node::decode(stanza)?;
                Some(StanzaRecord {
                    seq,
                    at_ms,
                    sent,
                    phone: who.phone.to_string(),
                    device: who.device,
                    tag: stanza.tag.to_string(),
                    attrs: stanza
                        .attrs
                        .iter()
                        .map(|(key, value)| (key.to_string(), value.as_str().into_owned()))
                        .collect(),
                    children: node::children(&stanza)
                        .iter()
                        .map(|child| child.tag.to_string())
                        .collect(),
                })
            })
            .collect()
    }
}

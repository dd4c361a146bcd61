//! The store on a real file in a temporary directory.

mod approvals;
mod file;
mod groups;
mod inbox;
mod ledger;
mod letting_go;
mod media;
mod messages;
mod model;
mod numbers;
mod outbox;
mod pacing;
mod peers;
mod pending;
pub(super) mod plan;
mod reads;
mod repair;
mod retention;
mod strangers;
mod trace;
mod uploads;
mod votes;

use std::collections::HashSet;

use super::*;
use crate::identity::Address;
use crate::inbound::Draft;

pub(super) const NOW: i64 = 1_700_000_000;
pub(super) const WEEK: i64 = 604_800;
/// Nothing is held back.
pub(super) const FREE: Limits = Limits {
    chat: Rate::per_second(1000, 1000),
    account: Rate::per_minute(1000, 1000),
    strangers: 1000,
};
/// The same, now.
pub(super) const PACE: Pace = Pace {
    limits: FREE,
    now: NOW * 1_000_000,
};

pub(super) const ANN: &str = "15551230001@s.whatsapp.net";
pub(super) const ANN_LID: &str = "100000000000001@lid";
pub(super) const BOB: &str = "15551230002@s.whatsapp.net";
pub(super) const BOB_LID: &str = "100000000000002@lid";
pub(super) const GROUP: &str = "120363000000000001@g.us";

pub(super) struct TestStore {
    pub store: Store,
    dir: tempfile::TempDir,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("channel.db")).unwrap();
        Self { store, dir }
    }

    /// Opens the same file once more, as the next process does.
    pub fn reopen(self) -> Self {
        let Self { store, dir } = self;
        drop(store);
        let store = Store::open(&dir.path().join("channel.db")).unwrap();
        Self { store, dir }
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("channel.db")
    }

    /// Notes that WhatsApp has said that this number has an account.
    pub fn on_whatsapp(&self, phone: &str) {
        let registered = Registered {
            phone: jid(phone),
            lid: None,
        };
        let answered = self.answered(jid(phone), Some(registered), NOW);
        assert!(answered.wait().unwrap().is_some());
    }

    pub fn put(&self, message: NewInbound) -> Inserted {
        self.insert(vec![message]).wait().unwrap()[0]
    }

    pub fn waiting(&self) -> Vec<Stored> {
        self.next_to_emit(100, WEEK, NOW).wait().unwrap()
    }

    /// Numbers what waits, and writes it; the stanza ids in their order.
    pub fn emit_all(&self, session: SessionId) -> Vec<String> {
        let ids = self.number_all(session);
        self.mark_written(session, self.last()).wait().unwrap();
        ids
    }

    /// Numbers what waits, as before a crash that came sooner than the lines.
    pub fn number_all(&self, session: SessionId) -> Vec<String> {
        self.waiting()
            .into_iter()
            .map(|row| {
                self.assign_emission(row.id, session, "allowed".to_owned(), Vec::new(), NOW)
                    .wait()
                    .unwrap()
                    .unwrap();
                row.stanza_id
            })
            .collect()
    }

    pub fn begin(&self, mode: Mode, cursor: Option<&str>) -> Begun {
        self.begin_session(mode, cursor, None, NOW).wait().unwrap()
    }

    /// Begins a stream for a host whose last state came with the emission of this number.
    pub fn begin_in_turn(&self, cursor: &str, number: i64) -> Begun {
        let event = self.cursor(number);
        self.begin_session(Mode::Websocket, Some(cursor), Some(&event), NOW)
            .wait()
            .unwrap()
    }

    /// The last emission number.
    pub fn last(&self) -> i64 {
        let cursor = self.last_cursor().wait().unwrap();
        cursor.split_once(':').unwrap().1.parse().unwrap()
    }
}

pub(super) fn addresses(list: &[&str]) -> Vec<Address> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

pub(super) fn jid(text: &str) -> Address {
    text.parse().unwrap()
}

pub(super) fn message(chat: &[&str], sender: &[&str], id: &str) -> NewInbound {
    NewInbound {
        chat: addresses(chat),
        sender: addresses(sender),
        route: jid(chat[0]),
        stanza_id: id.to_owned(),
        timestamp: NOW,
        push_name: Some("Ann".to_owned()),
        draft: Draft {
            event_type: "message.received".to_owned(),
            content: format!("text of {id}"),
            ..Draft::default()
        },
        raw: format!("raw of {id}").into_bytes(),
        own: false,
    }
}

pub(super) fn direct(from: &str, id: &str) -> NewInbound {
    message(&[from], &[from], id)
}

/// A call for the outbox, of texts with these ids.
pub(super) fn call(to: &str, ids: &[&str]) -> OutboundRequest {
    let parts = ids.iter().map(|id| NewPart {
        message_id: (*id).to_owned(),
        payload: id.as_bytes().to_vec(),
        kind: "text".to_owned(),
        file: None,
    });
    OutboundRequest {
        idempotency_key: None,
        content_hash: format!("hash of {ids:?}"),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[to]),
        parts: parts.collect(),
        expires_at: NOW + 3600,
    }
}

/// What may be sent.
pub(super) fn next(store: &Store, pace: Pace) -> Heads {
    let heads = store.next_to_send(100, HashSet::new(), pace);
    heads.wait().unwrap()
}

/// The ids of it.
pub(super) fn heads(store: &Store, pace: Pace) -> Vec<String> {
    let ready = next(store, pace).ready.into_iter();
    ready.map(|head| head.message_id).collect()
}

//! What waits to go out on one connection. Anybody puts stanzas in; the connection's writer alone takes them out, so
//! their order is that in which they were put in. A client that does not read is cut off when too much waits.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::sync::lock;

/// Whether and how a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    Open,
    /// Once everything is out.
    AfterFlush,
    /// At once.
    Now,
}

struct Waiting {
    stanzas: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    stalled: Option<Instant>,
}

/// The way out to one client.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    cut: Notify,
    limit: usize,
}

impl Outbox {
    /// One in which at most `limit` bytes wait.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                stanzas: VecDeque::new(),
                bytes: 0,
                end: End::Open,
                stalled: None,
            }),
            wake: Notify::new(),
            cut: Notify::new(),
            limit,
        }
    }

    /// Puts an encoded stanza in.
    pub fn push(&self, stanza: Bytes) {
        let mut waiting = lock(&self.waiting);
        if waiting.end != End::Open || stanza.is_empty() {
            return;
        }
        waiting.bytes += stanza.len();
        waiting.stanzas.push_back(stanza);
        let overflows = waiting.bytes > self.limit;
        drop(waiting);
        if overflows {
            self.abort();
        }
        self.wake.notify_one();
    }

    /// Ends the connection once everything is out; nothing more goes in.
    pub fn finish(&self) {
        self.end(End::AfterFlush);
    }

    /// Ends the connection at once.
    pub fn abort(&self) {
        self.end(End::Now);
    }

    fn end(&self, end: End) {
        let mut waiting = lock(&self.waiting);
        if waiting.end != End::Now {
            waiting.end = end;
        }
        drop(waiting);
        self.wake.notify_one();
        if end == End::Now {
            self.cut.notify_one();
        }
    }

    /// Waits until the connection is to end at once, also while a write to it hangs.
    pub async fn aborted(&self) {
        while self.ending() != End::Now {
            self.cut.notified().await;
        }
    }

    /// Lets the connection stand still for a while.
    pub fn stall(&self, duration: Duration) {
        lock(&self.waiting).stalled = Some(Instant::now() + duration);
        self.wake.notify_one();
    }

    /// Until when the connection stands still.
    pub fn stalled(&self) -> Option<Instant> {
        lock(&self.waiting)
            .stalled
            .filter(|until| *until > Instant::now())
    }

    /// Waits until there is something to do.
    pub async fn ready(&self) {
        self.wake.notified().await;
    }

    /// Whether the connection is to end.
    pub fn ending(&self) -> End {
        lock(&self.waiting).end
    }

    /// Takes stanzas out, about `bytes` of them; answers whether the connection goes on.
    pub fn take(&self, bytes: usize, into: &mut Vec<Bytes>) -> End {
        let mut waiting = lock(&self.waiting);
        let mut taken = 0;
        while taken < bytes
            && let Some(stanza) = waiting.stanzas.pop_front()
        {
            taken += stanza.len();
            waiting.bytes -= stanza.len();
            into.push(stanza);
        }
        waiting.end
    }
}

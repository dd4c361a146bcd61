//! Which chats have a message under way.
//!
//! Invariant: one message a chat. Who sends holds the chat's [`Lane`]; let go, it wakes the outbox for the next. Once the
//! server has a message, only the note of that is left to do: then the lane is free, and nobody is woken for nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use crate::store::PeerKey;

/// The chats that are being sent to.
#[derive(Default)]
pub(super) struct Lanes {
    held: watch::Sender<Held>,
    tasks: Mutex<JoinSet<()>>,
}

/// What is held.
#[derive(Default)]
pub(super) struct Held {
    busy: HashSet<PeerKey>,
    /// Those of them whose message waits for its file.
    aside: HashSet<PeerKey>,
    /// A message found its lane held, and waits in the outbox.
    wanted: bool,
    /// A send ended without an outcome.
    lost: bool,
}

impl Lanes {
    /// Told whenever a chat becomes free.
    pub(super) fn subscribe(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// The chats that are being sent to, and how many more may be if those whose files are on their way do not count.
    pub(super) fn room(&self, most: usize) -> (usize, HashSet<PeerKey>) {
        let held = self.held.borrow();
        let under_way = held.busy.len() - held.aside.len();
        (most.saturating_sub(under_way), held.busy.clone())
    }

    /// Whether a send has ended without an outcome since this was asked last.
    pub(super) fn lost(&self) -> bool {
        let mut lost = false;
        self.held.send_if_modified(|held| {
            lost = std::mem::take(&mut held.lost);
            false
        });
        lost
    }

    /// Runs a send until it ends, or [`stop`](Self::stop).
    pub(super) fn spawn(&self, send: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(send);
    }

    /// Cuts short what is under way; who connects next takes it as of unknown fate.
    pub(super) fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

/// A chat that nobody else sends to meanwhile.
pub(super) struct Lane {
    shared: Arc<Shared>,
    chat: PeerKey,
    done: bool,
    free: bool,
}

impl Lane {
    /// None while another message of the chat is under way.
    pub(super) fn enter(shared: &Arc<Shared>, chat: PeerKey) -> Option<Self> {
        let mut entered = false;
        shared.lanes.held.send_if_modified(|held| {
            entered = held.busy.insert(chat);
            held.wanted |= !entered;
            false
        });
        entered.then(|| Self {
            shared: shared.clone(),
            chat,
            done: false,
            free: false,
        })
    }

    /// The message waits for its file, which takes as long as it takes: another chat may have its place.
    pub(super) fn aside(&self) -> Aside<'_> {
        self.shared
            .lanes
            .held
            .send_if_modified(|held| held.aside.insert(self.chat));
        Aside(self)
    }

    /// The server has the message, and that is about to be noted: the chat's next message may go.
    pub(super) fn free(&mut self) {
        self.free = true;
        self.shared.lanes.held.send_if_modified(|held| {
            held.busy.remove(&self.chat);
            // What waits behind this message is woken by the note of it.
            std::mem::take(&mut held.wanted)
        });
    }

    /// The send has an outcome.
    pub(super) fn leave(mut self) {
        self.done = true;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lanes.held.send_if_modified(|held| {
            if !self.free {
                held.busy.remove(&self.chat);
                held.wanted = false;
            }
            held.lost |= !self.done;
            !(self.free && self.done)
        });
    }
}

/// A chat whose message waits for its file.
pub(super) struct Aside<'a>(&'a Lane);

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.0.shared.lanes.held.send_if_modified(|held| {
            held.aside.remove(&self.0.chat);
            false
        });
    }
}

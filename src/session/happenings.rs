//! What happens besides messages, on its way to who has asked for it.
//!
//! Best effort: it is kept in memory only, and what nobody takes in time is lost. While nobody has asked, nothing is
//! even looked at. Of one connection it is in order; what came during the offline queue follows the messages of it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;
use wacore::types::events::EventKind;

use super::{Session, Shared, jid};
use crate::identity::Address;
use crate::inbound::events::Notice;

/// So many may wait to be taken.
const WAITING: usize = 1024;

/// The events of the library that some family tells of, as far as nothing else listens to them anyway.
pub(super) const KINDS: [EventKind; 15] = [
    EventKind::GroupUpdate,
    EventKind::IncomingCall,
    EventKind::MissedCall,
    EventKind::CallEndedElsewhere,
    EventKind::ChatPresence,
    EventKind::Presence,
    EventKind::PictureUpdate,
    EventKind::UserAboutUpdate,
    EventKind::ContactNumberChanged,
    EventKind::ContactUpdate,
    EventKind::PushNameUpdate,
    EventKind::IdentityChange,
    EventKind::BusinessStatusUpdate,
    EventKind::DisappearingModeChanged,
    EventKind::StreamError,
];

/// Who takes what happens, and whose presence is asked for.
#[derive(Default)]
pub(super) struct Happenings {
    taker: Mutex<Option<mpsc::Sender<Notice>>>,
    /// Whose presence this connection was asked to report.
    watched: Mutex<HashSet<Address>>,
}

impl Happenings {
    fn taker(&self) -> Option<mpsc::Sender<Notice>> {
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        taker.as_ref().filter(|taker| !taker.is_closed()).cloned()
    }

    /// Whether anybody wants to hear.
    pub(super) fn wanted(&self) -> bool {
        self.taker().is_some()
    }

    /// Passes on, as far as there is room.
    pub(super) fn tell(&self, notices: Vec<Notice>) {
        let Some(taker) = self.taker() else { return };
        for notice in notices {
            if let Err(mpsc::error::TrySendError::Full(notice)) = taker.try_send(notice) {
                tracing::warn!(
                    event_type = notice.draft.event_type,
                    "too much happens at once; this is not told"
                );
            }
        }
    }

    /// A new connection was asked nothing yet.
    pub(super) fn forget_watched(&self) {
        self.watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// What happened before the offline queue had come; it follows the messages of the queue.
#[derive(Default)]
pub(super) struct Early(Vec<Notice>);

impl Early {
    /// Keeps these, or tells them at once if they are of the connection itself.
    pub(super) fn keep(&mut self, shared: &Shared, notices: Vec<Notice>) {
        for notice in notices {
            if notice.chat.is_none() {
                shared.happenings.tell(vec![notice]);
            } else if self.0.len() < WAITING {
                self.0.push(notice);
            }
        }
    }

    /// Tells what was kept.
    pub(super) fn tell(&mut self, shared: &Shared) {
        shared.happenings.tell(std::mem::take(&mut self.0));
    }
}

impl Session {
    /// What happens from now on, besides messages. Who asked before gets nothing more.
    pub fn happenings(&self) -> mpsc::Receiver<Notice> {
        let (taker, notices) = mpsc::channel(WAITING);
        *self
            .shared
            .happenings
            .taker
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(taker);
        notices
    }

    /// Asks WhatsApp to report whether this person is there, once a connection, if anybody wants to hear. Best effort.
    pub fn watch_presence(&self, whom: &Address) {
        if !self.shared.happenings.wanted() {
            return;
        }
        let (Some(client), Some(jid)) = (self.shared.client(), jid(whom)) else {
            return;
        };
        let new = self
            .shared
            .happenings
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(whom.clone());
        if new {
            tokio::spawn(async move {
                if let Err(error) = client.presence().subscribe(&jid).await {
                    tracing::debug!(%error, "a presence could not be asked for");
                }
            });
        }
    }
}

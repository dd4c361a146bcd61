//! Messages on their way from the library's hands into the inbox.
//!
//! The library hands a decrypted message over twice: as a row for its storage, which lasts until the message is
//! taken, and then to the hook. Both are one fact, so the row stays in memory, and the inbox's commit is the only one
//! a message costs. Invariants:
//!
//! - No Signal state is written before every message handed over so far is on the disk, in the inbox or as a row of
//!   its own ([`PendingInbound::settle`]). On a disk that is full no ratchet moves on either, and what could not be
//!   kept is decrypted again when it comes again.
//! - A message that was decrypted before is acknowledged only if the inbox has it. The library writes the state of all
//!   its sessions at once, that of a message which it has not handed over yet among them; if the process or the
//!   connection ends there, the message comes again as a duplicate, and only its sender still has it. So its sender
//!   is asked for it, as for any message that cannot be decrypted ([`PendingInbound::missed`]).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wacore_binary::Jid;
use wacore_binary::JidExt as _;

use super::address;
use crate::clock::now;
use crate::identity::Address;
use crate::store::{Again, MessageName, Store, StoreError};

/// A message whose sender is to be asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) name: MessageName,
    /// How often its sender was asked, this time included.
    pub(super) count: u32,
}

/// The messages of one session. Outlives its connections.
pub(super) struct PendingInbound {
    store: Store,
    rows: Mutex<HashMap<MessageName, Row>>,
    missed: Mutex<VecDeque<Missed>>,
    news: Notify,
}

struct Row {
    message: Arc<[u8]>,
    /// The message is on the disk.
    on_disk: bool,
    /// There may be a row of its name on the disk, to be let go with it.
    kept: bool,
}

impl PendingInbound {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            rows: Mutex::default(),
            missed: Mutex::default(),
            news: Notify::new(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<MessageName, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A decrypted message; nothing of it is on the disk, unless it comes again.
    pub(super) fn hold(&self, name: MessageName, message: &[u8]) {
        let mut rows = self.rows();
        let row = Row {
            message: message.into(),
            on_disk: false,
            kept: rows.get(&name).is_some_and(|row| row.kept),
        };
        rows.insert(name, row);
    }

    /// These are in the inbox, or not meant for it.
    pub(super) fn taken(&self, names: impl IntoIterator<Item = MessageName>) {
        let kept: Vec<MessageName> = {
            let mut rows = self.rows();
            let mut taken = |name: &MessageName| rows.remove(name).is_some_and(|row| row.kept);
            names.into_iter().filter(|name| taken(name)).collect()
        };
        if !kept.is_empty() {
            // A row that stays only makes the message come once more, and the inbox knows it.
            drop(self.store.forget_pending(kept));
        }
    }

    /// Resolves once every message that was handed over is on the disk. To be called before any Signal state is
    /// written, and if it fails nothing may be.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let open: Vec<_> = self
            .rows()
            .iter()
            .filter(|(_, row)| !row.on_disk)
            .filter_map(|(name, row)| {
                let addresses = addresses(name)?;
                Some((name.clone(), addresses, row.message.clone()))
            })
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        let names: Vec<MessageName> = open.iter().map(|(name, ..)| name.clone()).collect();
        self.store.keep_pending(open, now()).await?;
        let mut gone = Vec::new();
        {
            let mut rows = self.rows();
            for name in names {
                match rows.get_mut(&name) {
                    Some(row) => (row.on_disk, row.kept) = (true, true),
                    None => gone.push(name),
                }
            }
        }
        if !gone.is_empty() {
            drop(self.store.forget_pending(gone));
        }
        Ok(())
    }

    /// The message that came again, if it is still to be taken; `Ok(None)` if it may be acknowledged as it is.
    pub(super) async fn again(
        &self,
        name: MessageName,
        own: &[Jid],
    ) -> Result<Option<Vec<u8>>, Unacknowledged> {
        if let Some(row) = self.rows().get(&name) {
            return Ok(Some(row.message.to_vec()));
        }
        let Some(addresses) = addresses(&name).filter(|of| is_for_us(&name, of, own)) else {
            return Ok(None);
        };
        match self.store.pending(name.clone(), addresses, now()).await? {
            Again::Known => Ok(None),
            Again::Kept(message) => {
                let row = Row {
                    message: message.as_slice().into(),
                    on_disk: true,
                    kept: true,
                };
                self.rows().insert(name, row);
                Ok(Some(message))
            }
            Again::Ask(count) => {
                self.missed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_back(Missed { name, count });
                self.news.notify_one();
                Err(Unacknowledged::Missed)
            }
            Again::Asked => Err(Unacknowledged::Missed),
            Again::GivenUp => {
                tracing::error!(
                    stanza_id = name.stanza_id,
                    "a message was lost on its way here, and its sender has not sent it again for a week; it is given up"
                );
                Ok(None)
            }
        }
    }

    /// The next message whose sender is to be asked.
    pub(super) async fn missed(&self) -> Missed {
        loop {
            let news = self.news.notified();
            let next = self
                .missed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            match next {
                Some(missed) => return missed,
                None => news.await,
            }
        }
    }

    /// Lets go of what was never taken since before `cutoff`; how many there were.
    pub(super) async fn expire(&self, cutoff: i64) -> Result<usize, StoreError> {
        self.store.expire_pending(cutoff).await
    }
}

/// Why a message that came again must not be acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unacknowledged {
    #[error("the message was decrypted before and is nowhere; its sender was asked for it")]
    Missed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The chat and the sender; none for addresses of a form that nothing is known of, whose messages the inbox refuses.
fn addresses(name: &MessageName) -> Option<[Address; 2]> {
    let read = |jid: &str| address(&jid.parse().ok()?);
    Some([read(&name.chat)?, read(&name.sender)?])
}

/// Whether the inbox takes messages of this kind at all: not our own, and no status.
fn is_for_us(name: &MessageName, [chat, _]: &[Address; 2], own: &[Jid]) -> bool {
    let sender: Option<Jid> = name.sender.parse().ok();
    let is_own = sender.is_some_and(|sender| own.iter().any(|own| own.is_same_user_as(&sender)));
    !is_own && *chat != Address::Status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> MessageName {
        MessageName {
            chat: "15551230001@s.whatsapp.net".into(),
            sender: "15551230001:7@s.whatsapp.net".into(),
            stanza_id: "A".into(),
        }
    }

    /// Its text must not stay behind when the inbox has it, or has refused it.
    #[tokio::test]
    async fn what_comes_again_leaves_no_row_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("channel.db")).unwrap();
        let before = PendingInbound::new(store.clone());
        before.hold(name(), b"secret");
        before.settle().await.unwrap();
        let after = PendingInbound::new(store.clone());
        let again = after.again(name(), &[]).await.unwrap();
        assert_eq!(again.as_deref(), Some(&b"secret"[..]));
        after.hold(name(), b"secret");
        after.taken([name()]);
        let left = store.pending(name(), addresses(&name()).unwrap(), now());
        assert_eq!(left.await.unwrap(), Again::Ask(1));
    }
}

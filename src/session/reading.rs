//! Marking messages as read: the blue ticks that their senders see.
//!
//! It is no message, so nothing of it waits in the outbox. What the agent asks for is done now or not at all; what is
//! marked by itself is noted in the store, and marked by whoever is connected and may mark.

use std::sync::Arc;

use whatsapp_rust::Client;

use super::{Session, SessionError, Shared, jid, outbox};
use crate::store::Unread;

/// Marks what is to be marked as read, until the session ends.
pub(super) async fn mark_wanted(shared: Arc<Shared>) {
    let mut wanted = shared.store.read_signal();
    let mut connection = shared.connection.subscribe();
    let mut allowed = shared.reads.subscribe();
    loop {
        allowed.borrow_and_update();
        wanted.borrow_and_update();
        connection.borrow_and_update();
        if let Err(error) = mark_all(&shared).await {
            tracing::debug!(%error, "messages are marked as read later");
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            changed = connection.changed() => if changed.is_err() { return },
            changed = allowed.changed() => if changed.is_err() { return },
        }
    }
}

/// Whether this session marks what is to be marked. What is not by then never is.
pub(super) fn allow(shared: &Shared, reads: bool) {
    let before = shared.reads.send_replace(reads);
    if before && !reads {
        drop(shared.store.forget_reads());
    }
}

/// Marks all that is wanted by now, if there is a connection and this session may.
pub(super) async fn mark_all(shared: &Shared) -> Result<(), SessionError> {
    while let Some(client) = outbox::online(shared).filter(|_| *shared.reads.borrow()) {
        let Some((chat, unread)) = shared.store.wanted_read().await? else {
            break;
        };
        mark(&client, &unread).await?;
        shared.store.marked_read(chat, unread.upto).await?;
    }
    Ok(())
}

async fn mark(client: &Arc<Client>, unread: &Unread) -> Result<(), SessionError> {
    let unreachable = |reason: String| SessionError::Unreachable { reason };
    let malformed = || unreachable("the address cannot be written to".to_owned());
    let chat = jid(&unread.chat).ok_or_else(malformed)?;
    for (sender, ids) in &unread.ids {
        let sender = sender
            .as_ref()
            .map(|sender| jid(sender).ok_or_else(malformed));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        client
            .mark_as_read(&chat, sender.transpose()?.as_ref(), &ids)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
    }
    Ok(())
}

impl Session {
    /// Marks these messages as read.
    ///
    /// # Errors
    /// [`SessionError::Unreachable`] where there is no connection, or it broke.
    pub async fn mark_read(&self, unread: &Unread) -> Result<(), SessionError> {
        let client = self.shared.client();
        let client = client.ok_or_else(|| SessionError::Unreachable {
            reason: "not connected".to_owned(),
        })?;
        mark(&client, unread).await
    }
}

//! Marking messages as read: the blue ticks that their senders see.
//!
//! It is no message, so nothing of it waits in the outbox: it is done now or not at all.

use super::{Session, SessionError, jid};
use crate::store::Unread;

impl Session {
    /// Marks these messages as read.
    ///
    /// # Errors
    /// [`SessionError::Unreachable`] where there is no connection, or it broke.
    pub async fn mark_read(&self, unread: &Unread) -> Result<(), SessionError> {
        let unreachable = |reason: String| SessionError::Unreachable { reason };
        let client = self.shared.client();
        let client = client.ok_or_else(|| unreachable("not connected".to_owned()))?;
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
}

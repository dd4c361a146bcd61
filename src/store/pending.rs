//! Messages that were decrypted and are not in the inbox.
//!
//! A message can be decrypted once: after that its ciphertext is a duplicate to the ratchet. Invariant: what was
//! decrypted and is not in the inbox has a row here before the ratchet is on the disk; and if it was lost all the
//! same, its row says so until its sender has sent it again.

use rusqlite::{OptionalExtension, params};

use super::{Pending, Store, Tx, peers, retention};
use crate::identity::Address;

/// A sender is asked this often for one message; WhatsApp's clients give up after five tries.
pub(super) const ASKED_AT_MOST: u32 = 4;
/// Least time between two times of asking, seconds. What was asked reaches a phone that is away once it is back.
pub(super) const ASKED_AGAIN_AFTER: i64 = 60;
/// After this a message that nobody sends again is given up, seconds.
pub(super) const MISSED_FOR: i64 = 7 * 24 * 3600;

/// The name of a message, as the client library has it: chat and sender with the sender's device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageName {
    /// The chat's JID.
    pub chat: String,
    /// The sender's JID.
    pub sender: String,
    /// The stanza id.
    pub stanza_id: String,
}

/// What is known of a message that came a second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// The inbox has it.
    Known,
    /// It was decrypted and kept here.
    Kept(Vec<u8>),
    /// It was decrypted and is nowhere: its sender is to be asked, for the `n`th time.
    Ask(u32),
    /// Its sender was asked.
    Asked,
    /// Its sender was asked for days.
    GivenUp,
}

impl Store {
    /// Keeps messages, each with the addresses of its chat and its sender, unless the inbox has them by then.
    pub fn keep_pending(
        &self,
        messages: Vec<(MessageName, [Address; 2], std::sync::Arc<[u8]>)>,
        now: i64,
    ) -> Pending<()> {
        self.submit(move |tx| {
            for (name, addresses, message) in &messages {
                if is_known(tx, addresses, &name.stanza_id)? {
                    continue;
                }
                tx.prepare_cached(
                    "INSERT INTO pending (chat, sender, stanza, message, since) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET message = excluded.message",
                )?
                .execute(params![name.chat, name.sender, name.stanza_id, message, now])?;
            }
            Ok(())
        })
    }

    /// Looks for a message that came again, and if it is lost takes note of that.
    pub fn pending(&self, name: MessageName, addresses: [Address; 2], now: i64) -> Pending<Again> {
        self.submit(move |tx| {
            let key = params![name.chat, name.sender, name.stanza_id];
            let found = tx
                .prepare_cached(
                    "SELECT message, since, asked, asked_at FROM pending WHERE chat = ?1 AND sender = ?2 AND stanza = ?3",
                )?
                .query_row(key, |row| {
                    let kept: Option<Vec<u8>> = row.get(0)?;
                    Ok((kept, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?, row.get::<_, i64>(3)?))
                })
                .optional()?;
            if let Some((Some(kept), ..)) = found {
                return Ok(Again::Kept(kept));
            }
            if is_known(tx, &addresses, &name.stanza_id)? {
                forget(tx, &name)?;
                return Ok(Again::Known);
            }
            let (since, asked, asked_at) = found.map_or((now, 0, 0), |(_, since, asked, at)| (since, asked, at));
            if now - since > MISSED_FOR {
                forget(tx, &name)?;
                retention::count(tx, 1)?;
                return Ok(Again::GivenUp);
            }
            if asked >= ASKED_AT_MOST || now - asked_at < ASKED_AGAIN_AFTER {
                return Ok(Again::Asked);
            }
            tx.prepare_cached(
                "INSERT INTO pending (chat, sender, stanza, since, asked, asked_at) VALUES (?1, ?2, ?3, ?4, 1, ?4)
                 ON CONFLICT DO UPDATE SET asked = asked + 1, asked_at = ?4",
            )?
            .execute(params![name.chat, name.sender, name.stanza_id, now])?;
            Ok(Again::Ask(asked + 1))
        })
    }

    /// Lets go what the inbox has by now.
    pub fn forget_pending(&self, names: Vec<MessageName>) -> Pending<()> {
        self.submit_patient(move |tx| names.iter().try_for_each(|name| forget(tx, name)))
    }

    /// Lets go what has been kept since before `cutoff`, and what was missed for much longer and never came again;
    /// how many there were.
    pub fn expire_pending(&self, cutoff: i64) -> Pending<usize> {
        self.submit(move |tx| {
            tx.prepare_cached(
                "DELETE FROM pending WHERE since < ?1 AND (message IS NOT NULL OR since < ?2)",
            )?
            .execute([cutoff, cutoff.saturating_sub(4 * MISSED_FOR)])
        })
    }
}

/// Whether the inbox has it. In a direct chat, and for what somebody sent to a broadcast list, the chat is its sender.
fn is_known(tx: &Tx<'_>, [chat, sender]: &[Address; 2], stanza_id: &str) -> rusqlite::Result<bool> {
    let Some(sender) = peers::find(tx, sender)? else {
        return Ok(false);
    };
    let chat = peers::find(tx, chat)?.unwrap_or(sender);
    tx.prepare_cached("SELECT 1 FROM inbox WHERE chat IN (?1, ?3) AND stanza = ?2 AND sender = ?3")?
        .exists(params![chat.0, stanza_id, sender.0])
}

fn forget(tx: &Tx<'_>, name: &MessageName) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM pending WHERE chat = ?1 AND sender = ?2 AND stanza = ?3")?
        .execute(params![name.chat, name.sender, name.stanza_id])
        .map(drop)
}

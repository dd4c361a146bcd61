//! Asks WhatsApp for the phone numbers of people who are known by their LID alone, where somebody's admission may depend
//! on it.
//!
//! A message names both forms of its sender nearly always, and the client remembers what it has learnt; what is left is
//! asked. Invariants: all of a batch are asked for at once; of whom nothing was told nobody asks again soon
//! ([`super::in_vain`]); the store decides whose a number is, since it may have been somebody else's.

use tokio::time::Instant;

use super::{Session, address, jid};
use crate::clock::now;
use crate::identity::Address;
use crate::store::Registered;

impl Session {
    /// Asks for the numbers of these LIDs, until `deadline`; whether any is known now.
    pub async fn know_people(&self, strangers: &[Address], deadline: Instant) -> bool {
        let shared = &self.shared;
        let unknown = strangers.iter().filter(|lid| !shared.strangers.has(lid));
        let asked: Vec<_> = unknown.filter_map(jid).collect();
        let Some(client) = shared.client().filter(|_| !asked.is_empty()) else {
            return false;
        };
        let contacts = client.contacts();
        let answer = tokio::time::timeout_at(deadline, contacts.is_on_whatsapp(&asked)).await;
        let people = match answer {
            Ok(Ok(people)) => people,
            Ok(Err(error)) => {
                tracing::warn!(%error, "WhatsApp does not say who a sender is");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        // The numbers are told beside the LIDs that were asked for (usync, `pn_jid`).
        let mut news = false;
        for person in people {
            let phone = person.pn_jid.as_ref().and_then(address);
            let (Some(lid), Some(phone)) = (address(&person.jid), phone) else {
                continue;
            };
            let answer = Registered {
                phone: phone.clone(),
                lid: Some(lid),
            };
            match shared.store.answered(phone, Some(answer), now()).await {
                Ok(_) => news = true,
                Err(error) => tracing::error!(%error, "a sender's number is not kept"),
            }
        }
        // Whoever it was told of is no stranger any more.
        for stranger in strangers {
            shared.strangers.note(stranger);
        }
        news
    }
}

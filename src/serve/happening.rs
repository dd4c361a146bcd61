//! From what happens besides messages to the host: the families that the configuration asks for.
//!
//! Invariant: the same policy as for messages, and no trace of who it refuses. What is told has no emission number, and
//! so is evidence of nothing: it comes once or never, after the messages that came before it.

use tokio::sync::mpsc;

use super::emit::{Court, Done, Emitter};
use crate::access::{Policy, Subject, Verdict};
use crate::config::{Config, Permission};
use crate::identity::{Address, ChatKind};
use crate::inbound::events::Notice;
use crate::inbound::{self, Passed};
use crate::protocol::event::{ActivationReason, InboundEvent};
use crate::session::Asked;
use crate::store::{Happened, StoreError};

/// The next that happens; never, while nobody wants to hear.
pub(super) async fn next(happenings: &mut Option<mpsc::Receiver<Notice>>) -> Notice {
    match happenings {
        // It is closed when another emission has taken over.
        Some(happenings) => match happenings.recv().await {
            Some(notice) => notice,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl Emitter {
    /// Emits what happened, in its order, but what waits until it is known what its group is called.
    pub(super) async fn emit_happenings(
        &self,
        happened: &mut Vec<Notice>,
        last: &str,
    ) -> Result<Done, StoreError> {
        let config = self.settings.borrow().clone();
        let mut waiting: Vec<Notice> = Vec::new();
        for notice in std::mem::take(happened) {
            let behind = |before: &Notice| before.chat == notice.chat;
            if waiting.iter().any(behind) || self.awaits_group(&config, &notice).await? {
                waiting.push(notice);
            } else if let Done::ForGood = self.emit_happening(&config, notice, last).await? {
                return Ok(Done::ForGood);
            }
        }
        *happened = waiting;
        Ok(Done::ForNow)
    }

    async fn awaits_group(&self, config: &Config, notice: &Notice) -> Result<bool, StoreError> {
        let chat = notice.chat.as_ref();
        let group = chat.filter(|chat| chat.kind() == ChatKind::Group);
        let heard = |group: &&Address| Policy::new(config).hears_group(std::slice::from_ref(group));
        let Some(group) = group.filter(heard) else {
            return Ok(false);
        };
        let known = self.open.store.group(group.clone()).await?;
        self.open.session.awaits_group(group, known.as_ref()).await
    }

    /// Emits what happened, if it may be. It has no number: nothing is kept of it, and it comes once or never. The
    /// state beside it has the cursor of the last event, whose turn is over when the host takes this one.
    async fn emit_happening(
        &self,
        config: &Config,
        notice: Notice,
        last: &str,
    ) -> Result<Done, StoreError> {
        let court = Court {
            store: &self.open.store,
            session: self.session,
            config,
            linked: &self.open.linked,
            folder: &self.account.paths.media(),
            whatsapp: &self.open.session,
        };
        let Some(event) = court.happening(notice).await? else {
            return Ok(Done::ForNow);
        };
        match self.write(self.line(Some(event), None, last), false).await {
            true => {
                self.told.send_replace(last.to_owned());
                Ok(Done::ForNow)
            }
            false => Ok(Done::ForGood),
        }
    }
}

impl Court<'_> {
    /// The event of what happened, if it may be told.
    async fn happening(&self, notice: Notice) -> Result<Option<InboundEvent>, StoreError> {
        if !self.config.emits(&notice.draft.event_type) {
            return Ok(None);
        }
        let own = self.own();
        let of_us = notice.chat.is_none();
        let chat = notice.chat.unwrap_or_else(|| self.linked.phone.clone());
        let mut sender: Vec<Address> = notice.actor.into_iter().chain(notice.actor_alt).collect();
        if sender.is_empty() {
            sender.push(chat.clone());
        }
        let mut chat_forms = vec![chat];
        let mut chat_known = self.forms(&chat_forms).await?;
        let mut sender_known = self.forms(&sender).await?;
        // A direct chat is its peer. Who is named there besides, and is not us, says nothing about who it was.
        if chat_forms[0].is_user() && !sender_known.iter().any(|form| own.contains(form)) {
            if sender_known.iter().any(|form| chat_known.contains(form)) {
                sender.retain(|form| *form != chat_forms[0]);
                chat_forms.append(&mut sender);
                chat_known.append(&mut sender_known);
            }
            sender.clone_from(&chat_forms);
            sender_known.clone_from(&chat_known);
        }
        let policy = Policy::new(self.config).with_own(&own);
        let asked = self.asked(&policy, &chat_known, &sender_known).await?;
        let verdict = policy.happening(&Subject {
            sender: &sender_known,
            approved: self.store.is_approved(sender_known.clone()).await?,
            chat: &chat_known,
            kind: chat_forms[0].kind(),
            mentions_self: false,
            replies_to_self: false,
            forwarded: false,
            text: &notice.draft.content,
        });
        let (activation, permission, route) = match verdict {
            // Our own connection is nobody's who could be refused.
            _ if of_us => (ActivationReason::AllMessages, Permission::Write, None),
            Verdict::Emit {
                activation,
                permission,
                route,
                ..
            } if asked == Asked::Answered => (activation, permission, route),
            // Who it was of may be somebody who is refused; nothing waits for that here.
            _ => {
                tracing::debug!(event_type = notice.draft.event_type, "not told");
                return Ok(None);
            }
        };
        let stanza_id = notice.id.trim_end_matches(":undecryptable").to_owned();
        let happened = Happened {
            chat: chat_forms,
            sender,
            name: notice.id,
            stanza_id,
            timestamp: notice.timestamp,
            draft: notice.draft,
        };
        let told = self.store.introduce(happened).await?;
        let passed = Passed {
            reason: activation,
            permission: permission.as_str(),
            route: route.as_deref(),
            context: &[],
            quoted: None,
            keys: self.keys(),
        };
        Ok(Some(inbound::event(&told, &passed, self.linked)))
    }

    /// These addresses and all that are known to be the same peer, as far as they say who it is.
    async fn forms(&self, given: &[Address]) -> Result<Vec<Address>, StoreError> {
        self.store.credentials(given.to_vec()).await
    }
}

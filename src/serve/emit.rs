//! From the inbox to the host: the verdict on each message, its emission number, its line.
//!
//! Invariant: a message's emission number is committed before its line is written, so a line that was written is
//! known to have been. The state in a notification is the cursor of the notification before it: the host saves the
//! state before it runs the event, so the cursor of an event must not be in its hands before that event is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::account::{Account, Open};
use super::ingress;
use crate::access::{Policy, Subject, Verdict};
use crate::config::Config;
use crate::identity::{Address, ChatKind};
use crate::inbound::{self, Passed};
use crate::protocol::event::InboundEvent;
use crate::protocol::jsonrpc::notification_line;
use crate::session::Connection;
use crate::store::{Held, Linked, Pending, SessionId, Store, StoreError, Stored};

/// Messages that get their numbers in one commit. Fewer than are sent again after a crash, since so many can have a
/// number and no line.
const AT_ONCE: u32 = 16;
/// This long after the last event an empty notification carries its cursor.
const BURST_END: Duration = Duration::from_millis(250);
/// After the store could not do it.
const RETRY: Duration = Duration::from_secs(1);

/// Emits the events of one ingress session.
pub(super) struct Emitter {
    pub account: Arc<Account>,
    pub open: Open,
    pub session: SessionId,
    pub settings: watch::Receiver<Arc<Config>>,
    pub stopping: watch::Receiver<bool>,
    /// The cursor of the last event that was written.
    pub cursor: watch::Sender<String>,
}

impl Emitter {
    /// Until stopped, the host is gone, or the session is over.
    pub(super) async fn run(self) {
        let mut inbox = self.open.store.inbound_signal();
        let mut connection = self.open.session.connection();
        let mut stopping = self.stopping.clone();
        let mut settings = self.settings.clone();
        // The cursor that the host has been given.
        let mut told = self.cursor.borrow().clone();
        loop {
            inbox.borrow_and_update();
            settings.borrow_and_update();
            match self.emit_waiting(&mut told).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "events cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
            let untold = *self.cursor.borrow() != told;
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => return,
                changed = inbox.changed() => if changed.is_err() { return },
                changed = settings.changed() => if changed.is_err() { return },
                () = ended(&mut connection) => return self.last_words().await,
                () = tokio::time::sleep(BURST_END), if untold => {
                    told = self.cursor.borrow().clone();
                    // A reply has proven it already: nothing to say.
                    if !matches!(self.open.store.oldest_unproven().await, Ok(None)) {
                        self.account.lines.send(self.line(&[], &told)).await;
                    }
                }
            }
        }
    }

    /// The session is over for good: the host hears why, then the process leaves.
    async fn last_words(&self) {
        let cursor = self.cursor.borrow().clone();
        self.account
            .lines
            .send_flushed(self.line(&[], &cursor))
            .await;
        (self.account.fatal)();
    }

    /// Emits up to [`AT_ONCE`] messages; whether there were any.
    async fn emit_waiting(&self, told: &mut String) -> Result<bool, StoreError> {
        let config = self.settings.borrow().clone();
        let store = &self.open.store;
        let waiting = store
            .next_to_emit(AT_ONCE, config.max_event_age_secs.into(), now())
            .await?;
        if waiting.is_empty() {
            return Ok(false);
        }
        let linked = &self.open.linked;
        let court = Court {
            store,
            session: self.session,
            config: &config,
            linked,
        };
        let mut numbered = Vec::new();
        for decided in court.decide(waiting).await? {
            numbered.extend(decided.committed().await?);
        }
        let last = numbered.last().map(|(number, _)| *number);
        for (number, event) in numbered {
            let before = self.cursor.borrow().clone();
            let line = self.line(&[event], &before);
            // The next numbers are given when these lines have left: a number without a line looks like a lost event.
            let sent = match Some(number) == last {
                true => self.account.lines.send_flushed(line).await,
                false => self.account.lines.send(line).await,
            };
            if !sent {
                return Ok(false);
            }
            *told = before;
            self.cursor.send_replace(store.cursor(number));
        }
        if let Some(last) = last {
            // Goes along with the next numbers. A crash before that leaves one batch in doubt, which is sent again.
            drop(store.mark_written(self.session, last));
        }
        Ok(true)
    }

    fn status(&self) -> &'static str {
        self.open.session.connection().borrow().code()
    }

    fn line(&self, events: &[InboundEvent], cursor: &str) -> Vec<u8> {
        notification_line(events, Some(&ingress::state(self.status(), cursor)))
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is there any more who could stop it otherwise.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn ended(connection: &mut watch::Receiver<Connection>) {
    // An error means that the session is gone; there is nothing more to wait for either.
    let _ = connection
        .wait_for(|now| matches!(now, Connection::Ended(_)))
        .await;
}

/// One batch for `poll_ingress`: the events and the number of the last.
pub(super) async fn batch(
    store: &Store,
    session: SessionId,
    config: &Config,
    linked: &Linked,
) -> Result<(Vec<InboundEvent>, Option<i64>), StoreError> {
    let court = Court {
        store,
        session,
        config,
        linked,
    };
    let mut events = Vec::new();
    let mut last = None;
    while (events.len() as u32) < config.poll_max_events {
        let room = config.poll_max_events - events.len() as u32;
        let waiting = store
            .next_to_emit(room, config.max_event_age_secs.into(), now())
            .await?;
        if waiting.is_empty() {
            break;
        }
        for decided in court.decide(waiting).await? {
            if let Some((number, event)) = decided.committed().await? {
                last = Some(number);
                events.push(event);
            }
        }
    }
    Ok((events, last))
}

/// A verdict that is on its way into the store.
enum Decided {
    /// To be emitted under the number that is being assigned.
    Emit(Pending<Option<i64>>, Box<InboundEvent>),
    /// Not to be emitted.
    Keep(Pending<()>),
}

impl Decided {
    /// Once the verdict is committed: the event to write, if it is to be written.
    async fn committed(self) -> Result<Option<(i64, InboundEvent)>, StoreError> {
        match self {
            Self::Emit(number, event) => Ok(number.await?.map(|number| (number, *event))),
            Self::Keep(kept) => {
                kept.await?;
                Ok(None)
            }
        }
    }
}

/// What the verdicts depend on.
struct Court<'a> {
    store: &'a Store,
    session: SessionId,
    config: &'a Config,
    linked: &'a Linked,
}

impl Court<'_> {
    /// The verdicts on these messages. All go to the store at once, so that one commit holds them.
    async fn decide(&self, waiting: Vec<Stored>) -> Result<Vec<Decided>, StoreError> {
        let own: Vec<Address> = [Some(&self.linked.phone), self.linked.lid.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let policy = Policy::new(self.config).with_own(&own);
        let mut decided = Vec::with_capacity(waiting.len());
        for message in waiting {
            decided.push(self.decide_one(&policy, &own, message).await?);
        }
        Ok(decided)
    }

    async fn decide_one(
        &self,
        policy: &Policy<'_>,
        own: &[Address],
        message: Stored,
    ) -> Result<Decided, StoreError> {
        let store = self.store;
        let draft = &message.draft;
        if !self.config.emits(&draft.event_type) {
            return Ok(Decided::Keep(
                store.drop_denied(message.id, "events".to_owned()),
            ));
        }
        let answered = draft
            .reply_to
            .as_ref()
            .and_then(|quoted| quoted.sender.as_ref());
        let verdict = policy.inbound(&Subject {
            sender: &message.sender.aliases,
            chat: &message.chat.aliases,
            kind: message.chat.kind(),
            mentions_self: draft
                .mentions
                .iter()
                .any(|mentioned| own.contains(mentioned)),
            replies_to_self: answered.is_some_and(|author| own.contains(author)),
            text: &draft.content,
        });
        Ok(match verdict {
            Verdict::Emit {
                activation,
                permission,
                route,
                rule,
            } => {
                let context = match message.chat.kind() {
                    ChatKind::Group => {
                        let limit = u32::try_from(self.config.group_context_messages);
                        store.context(message.id, limit.unwrap_or(u32::MAX)).await?
                    }
                    _ => Vec::new(),
                };
                let passed = Passed {
                    reason: activation,
                    permission: permission.as_str(),
                    route: route.as_deref(),
                    context: &context,
                };
                let event = Box::new(inbound::event(&message, &passed, self.linked));
                Decided::Emit(
                    store.assign_emission(message.id, self.session, rule, now()),
                    event,
                )
            }
            Verdict::Context { rule } => Decided::Keep(store.hold(message.id, Held::Context, rule)),
            Verdict::Pairing { rule } => Decided::Keep(store.hold(message.id, Held::Pairing, rule)),
            Verdict::Deny { rule } | Verdict::ReadOnly { rule } => {
                tracing::info!(
                    chat = message.chat.public_id.redacted(),
                    rule,
                    "message not emitted"
                );
                Decided::Keep(store.drop_denied(message.id, rule))
            }
        })
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

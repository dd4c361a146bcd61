//! From the inbox to the host: the verdict on each message, its emission number, its line.
//!
//! Invariant: a message's emission number is committed before its line is written, so a line that was written is
//! known to have been. The state in a notification has the cursor of the notification before it: the host saves the
//! state before it runs the event, so the cursor of an event must not be in its hands before that event is done. It
//! names its own event beside it: what the host brings back says which turn had begun last.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::account::{Account, Open};
use super::attached::{self, Attending};
use super::court::Judged;
use super::happening::next;
use super::outgoing::mint;
use super::{ingress, polls};
use crate::access::{Policy, Verdict};
use crate::clock::now;
use crate::config::{Config, Family};
use crate::identity::{Address, ChatKind};
use crate::inbound::events::Notice;
use crate::inbound::{self, Passed};
use crate::protocol::event::InboundEvent;
use crate::protocol::jsonrpc::notification_line;
use crate::session::{Connection, Session};
use crate::store::{Gate, Linked, Pending, Ruling, SessionId, Store, StoreError, Stored};

/// Messages that get their numbers in one commit. Fewer than are sent again after a crash, since so many can have a
/// number and no line.
const AT_ONCE: u32 = 16;
/// This long after the last event an empty notification carries its cursor.
const BURST_END: Duration = Duration::from_millis(250);
/// So many happenings wait for what their groups are called; the others wait for them.
const HAPPENINGS: usize = 64;
/// After the store could not do it.
const RETRY: Duration = Duration::from_secs(1);

/// Emits the events of one ingress session.
pub(super) struct Emitter {
    pub account: Arc<Account>,
    pub open: Open,
    pub session: SessionId,
    pub settings: watch::Receiver<Arc<Config>>,
    pub stopping: watch::Receiver<bool>,
    /// The cursor that the host was given last.
    pub told: watch::Sender<String>,
}

/// Why there is nothing more to emit.
pub(super) enum Done {
    /// All that waits is emitted.
    ForNow,
    /// The host is gone, or wants no more.
    ForGood,
}

impl Emitter {
    /// Until stopped, the host is gone, or the session is over.
    pub(super) async fn run(self) {
        let mut inbox = self.open.store.inbound_signal();
        let mut connection = self.open.session.connection();
        let mut stopping = self.stopping.clone();
        let mut settings = self.settings.clone();
        let mut answers = self.open.session.answers();
        // The cursor of the last event that was written.
        let mut last = self.told.borrow().clone();
        let mut happenings = None;
        let mut happened: Vec<Notice> = Vec::new();
        let mut attending = Attending::default();
        loop {
            inbox.borrow_and_update();
            answers.borrow_and_update();
            attached::govern(&self.open.session, &settings.borrow().media);
            // Not marked as seen: a change that comes during the emission is to be met below.
            let wanted = settings.borrow().emits_happenings();
            match (wanted, &happenings) {
                (true, None) => happenings = Some(self.open.session.happenings()),
                (false, Some(_)) => happenings = None,
                _ => {}
            }
            let emitted = async {
                let done = self.emit_waiting(&mut last, &mut attending).await?;
                // After the messages that came before it.
                match done {
                    Done::ForNow => self.emit_happenings(&mut happened, &last).await,
                    Done::ForGood => Ok(done),
                }
            };
            match emitted.await {
                Ok(Done::ForNow) => {}
                Ok(Done::ForGood) => return,
                Err(error) => {
                    tracing::error!(%error, "events cannot be read; trying again");
                    tokio::select! {
                        () = stopped(&mut stopping) => return,
                        () = tokio::time::sleep(RETRY) => continue,
                    }
                }
            }
            let untold = *self.told.borrow() != last;
            tokio::select! {
                biased;
                () = stopped(&mut stopping) => return,
                changed = inbox.changed() => if changed.is_err() { return },
                changed = settings.changed() => match changed {
                    // Who waits for an approval may not need one any more.
                    Ok(()) => drop(self.open.store.judge_held_again(now())),
                    Err(_) => return,
                },
                () = ended(&mut connection) => return self.last_words(&last).await,
                notice = next(&mut happenings), if happened.len() < HAPPENINGS => happened.push(notice),
                () = attending.over() => {}
                Ok(()) = answers.changed() => {}
                () = tokio::time::sleep(BURST_END), if untold => self.end_burst(&last).await,
            }
        }
    }

    /// The session is over for good: the host hears why, then the process leaves.
    async fn last_words(&self, last: &str) {
        self.write(self.line(None, None, last), true).await;
        (self.account.fatal)();
    }

    /// An empty notification carries the cursor of the last event, unless a reply has proven that event already.
    async fn end_burst(&self, last: &str) {
        let proven = matches!(self.open.store.oldest_unproven(0).await, Ok(None));
        if proven || self.write(self.line(None, None, last), false).await {
            self.told.send_replace(last.to_owned());
        }
    }

    /// Emits all that waits, [`AT_ONCE`] messages at a time.
    async fn emit_waiting(
        &self,
        last: &mut String,
        attending: &mut Attending,
    ) -> Result<Done, StoreError> {
        let store = &self.open.store;
        attending.look_again();
        loop {
            let config = self.settings.borrow().clone();
            let age = config.max_event_age_secs.into();
            let next = || store.next_to_emit_but(attending.held(), AT_ONCE, age, now());
            let waiting = next().await?;
            if waiting.is_empty() {
                return Ok(Done::ForNow);
            }
            let court = Court {
                store,
                session: self.session,
                config: &config,
                linked: &self.open.linked,
                folder: &self.account.paths.media(),
                whatsapp: &self.open.session,
            };
            let (numbered, failed) = court.number(waiting, attending).await;
            crate::crash::point("after_number");
            let count = numbered.len();
            let first = numbered.first().map(|(number, _)| *number);
            for (nth, (number, event)) in numbered.into_iter().enumerate() {
                // The next numbers are given when these lines have left, so that a crash leaves few in doubt.
                let flushed = nth + 1 == count;
                let own = store.cursor(number);
                let line = self.line(Some(event), Some(&own), last);
                if !self.write(line, flushed).await {
                    return Ok(Done::ForGood);
                }
                self.told.send_replace(std::mem::replace(last, own));
                if flushed {
                    // Goes along with the next numbers.
                    drop(store.mark_written(self.session, number));
                    ingress::given(store, &config, first.unwrap_or(number), number);
                }
            }
            failed?;
            if *self.stopping.borrow() {
                return Ok(Done::ForGood);
            }
        }
    }

    /// Writes a line, for as long as the host takes any and wants any.
    pub(super) async fn write(&self, line: Vec<u8>, flushed: bool) -> bool {
        let mut stopping = self.stopping.clone();
        let lines = &self.account.lines;
        tokio::select! {
            biased;
            written = async {
                match flushed {
                    true => lines.send_flushed(line).await,
                    false => lines.send(line).await,
                }
            } => written,
            () = stopped(&mut stopping) => false,
        }
    }

    fn status(&self) -> &'static str {
        self.open.session.connection().borrow().code()
    }

    /// A notification of an event, of its name if it is kept, or of none.
    pub(super) fn line(
        &self,
        event: Option<InboundEvent>,
        name: Option<&str>,
        cursor: &str,
    ) -> Vec<u8> {
        let mut state = ingress::state(self.status(), cursor);
        if let Some(name) = name {
            state.metadata.insert(ingress::EVENT.into(), name.into());
        }
        notification_line(event.as_slice(), Some(&state))
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is there any more who could stop it otherwise.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn ended(connection: &mut watch::Receiver<Connection>) {
    // An error means that the session is gone; there is nothing more to wait for either.
    let _ = connection.wait_for(Connection::is_over).await;
}

/// One batch for `poll_ingress`: the events, and the numbers of the first and the last.
pub(super) async fn batch(
    court: &Court<'_>,
) -> Result<(Vec<InboundEvent>, Option<(i64, i64)>), StoreError> {
    let config = court.config;
    let mut attending = Attending::hurried();
    let mut events = Vec::new();
    let mut numbers: Option<(i64, i64)> = None;
    while (events.len() as u32) < config.poll_max_events {
        let room = config.poll_max_events - events.len() as u32;
        let age = config.max_event_age_secs.into();
        let waiting = court
            .store
            .next_to_emit_but(attending.held(), room, age, now())
            .await?;
        if waiting.is_empty() {
            break;
        }
        let (numbered, failed) = court.number(waiting, &mut attending).await;
        failed?;
        for (number, event) in numbered {
            numbers = Some((numbers.map_or(number, |(first, _)| first), number));
            events.push(event);
        }
    }
    Ok((events, numbers))
}

/// A verdict that is on its way into the store.
pub(super) enum Decided {
    /// To be emitted under the number that is being assigned.
    Emit(Pending<Option<i64>>, Box<InboundEvent>),
    /// Not to be emitted.
    Keep(Pending<()>),
    /// The same, and its sender may be told something; whether they are.
    Greet(Pending<bool>),
}

impl Decided {
    /// Once the verdict is committed: whether the sender is told something.
    pub(super) async fn greeted(self) -> Result<bool, StoreError> {
        match self {
            Self::Greet(greeted) => greeted.await,
            other => other.committed().await.map(|_| false),
        }
    }

    /// Once the verdict is committed: the event to write, if it is to be written.
    pub(super) async fn committed(self) -> Result<Option<(i64, InboundEvent)>, StoreError> {
        match self {
            Self::Emit(number, event) => Ok(number.await?.map(|number| (number, *event))),
            Self::Keep(kept) => {
                kept.await?;
                Ok(None)
            }
            Self::Greet(kept) => {
                kept.await?;
                Ok(None)
            }
        }
    }
}

/// What the verdicts depend on.
pub(super) struct Court<'a> {
    pub store: &'a Store,
    pub session: SessionId,
    pub config: &'a Config,
    pub linked: &'a Linked,
    /// Where media are kept.
    pub folder: &'a Path,
    /// Whom to ask who somebody is.
    pub whatsapp: &'a Session,
}

impl Court<'_> {
    /// Gives these messages their verdicts: the events to write, each under its committed number, and whether the
    /// store could do all of it. What has a number must be written even if the rest failed: the cursor of a later event
    /// would prove it. A chat whose turn is a message that waits, for its media or for who sent it, is passed over.
    async fn number(
        &self,
        waiting: Vec<Stored>,
        attending: &mut Attending,
    ) -> (Vec<(i64, InboundEvent)>, Result<(), StoreError>) {
        let own = self.own();
        let policy = Policy::new(self.config).with_own(&own);
        let mut outcome = Ok(());
        // All go to the store at once, so that one commit holds them.
        let mut decided = Vec::with_capacity(waiting.len());
        let mut given = Vec::new();
        for message in waiting {
            let judged = match self.judge(&policy, &own, &message).await {
                Ok(judged) => judged,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let chat = message.chat.key;
            let (verdict, ruling) = match judged {
                Judged::Verdict(verdict, _) if attending.holds(self, &message, &verdict) => {
                    continue;
                }
                Judged::Verdict(verdict, ruling) => (verdict, ruling),
                Judged::InVain(ruling) if !attending.has(chat) => {
                    decided.push(Decided::Keep(self.store.set_aside(message.id, ruling)));
                    continue;
                }
                Judged::InVain(_) | Judged::NotYet => {
                    attending.hold(chat);
                    continue;
                }
            };
            match self
                .decide_one(&policy, &own, message, verdict, ruling, &mut given)
                .await
            {
                Ok(Some(verdict)) => decided.push(verdict),
                Ok(None) => attending.hold(chat),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let mut numbered = Vec::with_capacity(decided.len());
        for verdict in decided {
            match verdict.committed().await {
                Ok(event) => numbered.extend(event),
                Err(error) => outcome = Err(error),
            }
        }
        (numbered, outcome)
    }

    /// The addresses of the linked account.
    pub(super) fn own(&self) -> Vec<Address> {
        [Some(&self.linked.phone), self.linked.lid.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Nothing before WhatsApp has said who spoke in the group before. `beside` is what is given with the batch so far and
    /// has files: it is not committed yet.
    async fn decide_one(
        &self,
        policy: &Policy<'_>,
        own: &[Address],
        message: Stored,
        verdict: Verdict,
        mut ruling: Ruling,
        beside: &mut Vec<Stored>,
    ) -> Result<Option<Decided>, StoreError> {
        let store = self.store;
        let refused = matches!(verdict, Verdict::Deny { .. } | Verdict::ReadOnly { .. });
        if !refused && !self.config.emits(&message.draft.event_type) {
            ruling
                .trace
                .gates
                .push(Gate::new("events", "not asked for"));
            ruling.rule = "events".to_owned();
            let dropped = store.drop_unwanted(message.id, ruling);
            return Ok(Some(Decided::Keep(dropped)));
        }
        let Verdict::Emit {
            activation,
            permission,
            route,
            ..
        } = verdict
        else {
            return Ok(Some(self.refuse(&message, &verdict, ruling, &mint())));
        };
        let Some(context) = self.given(policy, own, &message).await? else {
            return Ok(None);
        };
        if self.config.events.contains(&Family::Presence)
            && message.chat.kind() == ChatKind::Private
        {
            self.whatsapp.watch_presence(&message.route);
        }
        let message = polls::tallied(self, policy, message).await?;
        let quoted = self
            .quoted(policy, &message, beside.iter().chain(&context))
            .await?;
        let passed = Passed {
            reason: activation,
            permission: permission.as_str(),
            route: route.as_deref(),
            context: &context,
            quoted: quoted.as_ref(),
            keys: self.keys(),
        };
        let mut event = Box::new(inbound::event(&message, &passed, self.linked));
        attached::describe(self, &message, &mut event.message.attachments);
        let given = context.iter().map(|said| said.id).collect();
        let number = store.assign_emission(message.id, self.session, ruling, given, now());
        let said = context.into_iter().chain([message]);
        beside.extend(said.filter(|said| !said.media.is_empty()));
        Ok(Some(Decided::Emit(number, event)))
    }
}

//! What others see us do: whether we are there, and whether we write or record.
//!
//! Invariants: nothing is shown for longer than [`LONGEST`] without being asked for again; what was shown is taken back
//! when it ends; presence and chat states leave one at a time, in the order in which they were decided. The library
//! announces us as available by itself; unless that is wished it is taken back at once, so that the owner's phone goes
//! on ringing.
//!
//! An indicator disappears by itself after some 25 s on WhatsApp's clients, and with any message in its chat; whoever
//! goes on writing says it again. The library has no refresher.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use whatsapp_rust::{ChatStateType, Client};

use super::{Session, SessionError, Shared, jid, reading};
use crate::identity::Address;
use crate::store::Limits;

/// How often an indicator is said again.
const REFRESH: Duration = Duration::from_secs(10);
/// How long an agent is shown writing at most.
pub const LONGEST: Duration = Duration::from_secs(120);

/// How a session behaves towards others. It may change at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manners {
    /// Show this device as available; off keeps the owner's phone ringing.
    pub online: bool,
    /// Be available while something is shown.
    pub typing_presence: bool,
    /// Show what status frames say.
    pub frames: bool,
    /// Show that a voice note is being recorded while its file is uploaded.
    pub recording: bool,
    /// Mark as read what is to be.
    pub reads: bool,
    /// How fast messages may go.
    pub limits: Limits,
}

/// What is shown in a chat. Of two the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Activity {
    Writing,
    Recording,
}

/// Who wishes something shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Who holds the [`Shown`] of this number.
    Holder(u64),
    /// A status frame.
    Frame,
}

#[derive(Debug)]
struct Wish {
    by: By,
    to: Address,
    what: Activity,
    until: Instant,
}

/// An indicator that others see now.
#[derive(Debug)]
struct Told {
    to: Address,
    what: Activity,
    at: Instant,
}

/// The next thing to send.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Presence { available: bool },
    Show(Address, Activity),
    Pause(Address),
}

/// What is wished and what was said: decides what to say next.
#[derive(Debug, Default)]
struct Schedule {
    manners: Manners,
    /// What the server takes us for.
    available: bool,
    wishes: Vec<Wish>,
    told: Vec<Told>,
    holders: u64,
}

impl Schedule {
    /// What is to be said now, which counts as said then; or until when there is nothing.
    fn next(&mut self, now: Instant) -> Result<Step, Option<Instant>> {
        self.wishes.retain(|wish| wish.until > now);
        let available =
            self.manners.online || self.manners.typing_presence && !self.wishes.is_empty();
        // An indicator is seen of those who are there: so before the first, and no longer after the last.
        if available && !self.available {
            self.available = true;
            return Ok(Step::Presence { available });
        }
        let over = |told: &Told| !self.wishes.iter().any(|wish| wish.to == told.to);
        if let Some(over) = self.told.iter().position(over) {
            return Ok(Step::Pause(self.told.swap_remove(over).to));
        }
        if !available && self.available {
            self.available = false;
            return Ok(Step::Presence { available });
        }
        let mut due = None;
        for wish in &self.wishes {
            let same = self.wishes.iter().filter(|other| other.to == wish.to);
            let what = same.map(|wish| wish.what).max().unwrap_or(wish.what);
            let told = self.told.iter_mut().find(|told| told.to == wish.to);
            let again = match &told {
                Some(told) if told.what == what => told.at + REFRESH,
                _ => now,
            };
            if again <= now {
                let to = wish.to.clone();
                match told {
                    Some(told) => (told.what, told.at) = (what, now),
                    None => self.told.push(Told {
                        to: to.clone(),
                        what,
                        at: now,
                    }),
                }
                return Ok(Step::Show(to, what));
            }
            due = [due, Some(again), Some(wish.until)]
                .into_iter()
                .flatten()
                .min();
        }
        Err(due)
    }

    /// What was begun and is not to be shown any more ends.
    fn behave(&mut self, manners: Manners) {
        self.manners = manners;
        self.wishes.retain(|wish| match (wish.by, wish.what) {
            (By::Frame, _) => manners.frames,
            (_, Activity::Recording) => manners.recording,
            _ => true,
        });
    }

    fn wish(&mut self, by: By, to: &Address, what: Activity, now: Instant) {
        let to = to.clone();
        let until = now + LONGEST;
        self.wishes.push(Wish {
            by,
            to,
            what,
            until,
        });
    }

    fn hold(&mut self, to: &Address, what: Activity, now: Instant) -> u64 {
        self.holders += 1;
        self.wish(By::Holder(self.holders), to, what, now);
        self.holders
    }

    /// A status frame goes before what was decided without it: its end is the end of all that is shown there.
    fn frame(&mut self, to: &Address, writing: bool, now: Instant) {
        if writing {
            self.message_went(to);
            self.wish(By::Frame, to, Activity::Writing, now);
        } else {
            self.wishes.retain(|wish| wish.to != *to);
            // Perhaps another process showed it.
            self.told.retain(|told| told.to != *to);
            let (to, what) = (to.clone(), Activity::Writing);
            self.told.push(Told { to, what, at: now });
        }
    }

    /// A message in a chat ends what a status frame has begun there.
    fn message_went(&mut self, to: &Address) {
        self.wishes
            .retain(|wish| wish.by != By::Frame || wish.to != *to);
    }
}

/// What is shown over a session's connections.
#[derive(Default)]
pub(super) struct Typing {
    now: Mutex<Now>,
    changed: Notify,
    sending: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Now {
    schedule: Schedule,
    client: Option<Arc<Client>>,
}

impl Typing {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, how: impl FnOnce(&mut Schedule) -> T) -> T {
        let done = how(&mut self.now().schedule);
        self.changed.notify_one();
        done
    }

    pub(super) fn behave(&self, manners: Manners) {
        self.change(|schedule| schedule.behave(manners));
    }

    /// The library has said over this connection that we are available.
    pub(super) fn announced(&self, client: &Arc<Client>) {
        let mut now = self.now();
        now.schedule.available = true;
        if !now
            .client
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, client))
        {
            now.schedule.told.clear();
            now.client = Some(client.clone());
        }
        drop(now);
        self.changed.notify_one();
    }

    /// There is no connection any more, and nobody sees anything.
    pub(super) fn disconnected(&self) {
        let mut now = self.now();
        now.client = None;
        now.schedule.told.clear();
    }

    fn hold(self: &Arc<Self>, to: &Address, what: Activity) -> Shown {
        let holder = self.change(|schedule| schedule.hold(to, what, Instant::now()));
        Shown {
            typing: self.clone(),
            holder,
        }
    }

    /// A voice note to this chat is on its way.
    pub(super) fn recording(self: &Arc<Self>, to: &Address) -> Option<Shown> {
        let wished = self.now().schedule.manners.recording;
        wished.then(|| self.hold(to, Activity::Recording))
    }

    /// A message has arrived at the server, which ends the indicator at who gets it.
    pub(super) fn message_went(&self, to: &Address) {
        self.change(|schedule| {
            schedule.message_went(to);
            schedule.told.retain(|told| told.to != *to);
        });
    }

    /// Says all that is to be said now; until when there is nothing more.
    pub(super) async fn act(&self) -> Result<Option<Instant>, String> {
        let _one_at_a_time = self.sending.lock().await;
        let mut failed = None;
        loop {
            let (client, step) = {
                let mut now = self.now();
                let Some(client) = now.client.clone() else {
                    return Err("not connected".to_owned());
                };
                (client, now.schedule.next(Instant::now()))
            };
            match step {
                Ok(step) => failed = say(&client, step).await.err().or(failed),
                Err(until) => return failed.map_or(Ok(until), Err),
            }
        }
    }
}

async fn say(client: &Arc<Client>, step: Step) -> Result<(), String> {
    let (to, state) = match step {
        Step::Presence { available } => {
            let presence = client.presence();
            let said = match available {
                true => presence.set_available().await,
                false => presence.set_unavailable().await,
            };
            if let Err(error) = said {
                tracing::debug!(%error, "presence could not be set");
            }
            return Ok(());
        }
        Step::Show(to, Activity::Writing) => (to, ChatStateType::Composing),
        Step::Show(to, Activity::Recording) => (to, ChatStateType::Recording),
        Step::Pause(to) => (to, ChatStateType::Paused),
    };
    let Some(jid) = jid(&to) else {
        return Err("the address cannot be written to".to_owned());
    };
    let said = client.chatstate().send(&jid, state).await;
    said.map_err(|error| error.to_string())
}

/// Says whatever is to be said, until the session ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let due = match shared.typing.act().await {
            Ok(due) => due,
            Err(error) => {
                tracing::debug!(error, "what we do could not be shown");
                None
            }
        };
        tokio::select! {
            () = shared.typing.changed.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Something that is shown until this is dropped, or for [`LONGEST`].
pub struct Shown {
    typing: Arc<Typing>,
    holder: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let by = By::Holder(self.holder);
        self.typing
            .change(|schedule| schedule.wishes.retain(|wish| wish.by != by));
    }
}

impl Session {
    /// Changes how this session behaves, without a new connection.
    pub fn behave(&self, manners: Manners) {
        self.shared.typing.behave(manners);
        self.shared.limit(manners.limits);
        reading::allow(&self.shared, manners.reads);
    }

    /// Shows in a chat that an answer is being written, whenever there is a connection.
    pub fn show_writing(&self, to: &Address) -> Shown {
        self.shared.typing.hold(to, Activity::Writing)
    }

    /// Shows what a status frame says: that an answer is being written, until a message goes there or another frame
    /// ends it; or that nothing is any more, whatever else is shown there.
    ///
    /// # Errors
    /// [`SessionError::Unreachable`] where there is no connection, or it broke.
    pub async fn show_frame(&self, to: &Address, writing: bool) -> Result<(), SessionError> {
        let typing = &self.shared.typing;
        typing.change(|schedule| schedule.frame(to, writing, Instant::now()));
        let said = typing.act().await;
        said.map(drop).map_err(|reason| {
            // It was refused, so it must not show later.
            typing.change(|schedule| schedule.message_went(to));
            SessionError::Unreachable { reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn anna() -> Address {
        chat("15551230001@s.whatsapp.net")
    }

    fn group() -> Address {
        chat("120363000000000001@g.us")
    }

    /// All that is said at this instant.
    fn said(schedule: &mut Schedule, now: Instant) -> Vec<Step> {
        std::iter::from_fn(|| schedule.next(now).ok()).collect()
    }

    fn release(schedule: &mut Schedule, holder: u64) {
        schedule.wishes.retain(|wish| wish.by != By::Holder(holder));
    }

    fn writes(to: Address) -> Step {
        Step::Show(to, Activity::Writing)
    }

    #[test]
    fn an_indicator_is_said_again_every_ten_seconds_for_two_minutes() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.hold(&anna(), Activity::Writing, start);
        let mut now = start;
        let mut times = Vec::new();
        loop {
            match schedule.next(now) {
                Ok(step) if step == writes(anna()) => times.push((now - start).as_secs()),
                Ok(step) => {
                    assert_eq!(step, Step::Pause(anna()));
                    break;
                }
                Err(until) => now = until.unwrap(),
            }
        }
        assert_eq!(times, (0..12).map(|n| n * 10).collect::<Vec<_>>());
        assert_eq!(now - start, LONGEST);
        assert_eq!(schedule.next(now), Err(None));
    }

    #[test]
    fn what_ends_is_taken_back_once_and_only_there() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let one = schedule.hold(&anna(), Activity::Writing, now);
        let other = schedule.hold(&group(), Activity::Writing, now);
        assert_eq!(said(&mut schedule, now), [writes(anna()), writes(group())]);
        release(&mut schedule, one);
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
        // The next event of the same chat: nobody stops in between.
        let next = schedule.hold(&group(), Activity::Writing, now);
        release(&mut schedule, other);
        assert_eq!(said(&mut schedule, now), []);
        release(&mut schedule, next);
        assert_eq!(said(&mut schedule, now), [Step::Pause(group())]);
    }

    #[test]
    fn recording_is_shown_before_writing() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.hold(&anna(), Activity::Writing, now);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        let note = schedule.hold(&anna(), Activity::Recording, now);
        let records = Step::Show(anna(), Activity::Recording);
        assert_eq!(said(&mut schedule, now), [records]);
        release(&mut schedule, note);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
    }

    #[test]
    fn a_frame_ends_what_was_shown_without_it() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let held = schedule.hold(&anna(), Activity::Writing, now);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        schedule.frame(&anna(), false, now);
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
        assert_eq!(schedule.next(now + REFRESH), Err(None));
        release(&mut schedule, held);
        // What another process showed is ended as well.
        schedule.frame(&group(), false, now);
        assert_eq!(said(&mut schedule, now), [Step::Pause(group())]);
    }

    #[test]
    fn a_message_ends_what_a_frame_has_begun() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for _ in 0..3 {
            schedule.frame(&anna(), true, now);
        }
        assert_eq!(schedule.wishes.len(), 1);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        schedule.message_went(&anna());
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
    }

    #[test]
    fn what_is_switched_off_ends() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let manners = Manners {
            frames: true,
            recording: true,
            ..Manners::default()
        };
        schedule.behave(manners);
        schedule.frame(&anna(), true, now);
        schedule.hold(&group(), Activity::Recording, now);
        said(&mut schedule, now);
        let recording = false;
        schedule.behave(Manners {
            recording,
            ..manners
        });
        assert_eq!(said(&mut schedule, now), [Step::Pause(group())]);
        schedule.behave(Manners::default());
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
    }

    #[test]
    fn presence_surrounds_what_is_shown() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.available = true;
        let away = Step::Presence { available: false };
        assert_eq!(said(&mut schedule, now), [away]);
        schedule.manners.typing_presence = true;
        assert_eq!(said(&mut schedule, now), []);
        let held = schedule.hold(&anna(), Activity::Writing, now);
        let here = Step::Presence { available: true };
        assert_eq!(said(&mut schedule, now), [here, writes(anna())]);
        release(&mut schedule, held);
        let away = Step::Presence { available: false };
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna()), away]);
    }

    #[test]
    fn presence_follows_the_setting() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for available in [true, false, true] {
            schedule.manners.online = available;
            assert_eq!(said(&mut schedule, now), [Step::Presence { available }]);
        }
        let held = schedule.hold(&anna(), Activity::Writing, now);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        release(&mut schedule, held);
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
    }
}

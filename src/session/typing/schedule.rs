//! What is wished to be shown and what was said of it: decides what to say next. Time is an argument.
//!
//! Invariants: nothing is shown for longer than [`LONGEST`] without being wished again; what was shown is taken back
//! when it ends; who answers in a chat is not shown writing there again before there is something else to answer.

use std::time::Duration;

use tokio::time::Instant;

use super::Manners;
use crate::identity::Address;

/// How often an indicator is said again.
const REFRESH: Duration = Duration::from_secs(10);
/// How long an agent is shown writing at most.
pub const LONGEST: Duration = Duration::from_secs(120);

/// What is shown in a chat. Of two the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
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
pub(super) enum Step {
    Presence { available: bool },
    Show(Address, Activity),
    Pause(Address),
}

impl Step {
    /// The chat that sees it.
    pub(super) fn chat(&self) -> Option<&Address> {
        match self {
            Self::Presence { .. } => None,
            Self::Show(to, _) | Self::Pause(to) => Some(to),
        }
    }
}

/// What is wished and what was said.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) manners: Manners,
    /// What the server takes us for.
    available: bool,
    wishes: Vec<Wish>,
    told: Vec<Told>,
    holders: u64,
}

impl Schedule {
    /// What is to be said now, which counts as said then; or until when there is nothing.
    pub(super) fn next(&mut self, now: Instant) -> Result<Step, Option<Instant>> {
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
    pub(super) fn behave(&mut self, manners: Manners) {
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

    pub(super) fn hold(&mut self, to: &Address, what: Activity, now: Instant) -> u64 {
        self.holders += 1;
        self.wish(By::Holder(self.holders), to, what, now);
        self.holders
    }

    pub(super) fn release(&mut self, holder: u64) {
        self.wishes.retain(|wish| wish.by != By::Holder(holder));
    }

    /// A status frame goes before what was decided without it: its end is the end of all that is shown there.
    pub(super) fn frame(&mut self, to: &Address, writing: bool, now: Instant) {
        if writing {
            self.end_frame(to);
            self.wish(By::Frame, to, Activity::Writing, now);
        } else {
            self.wishes.retain(|wish| wish.to != *to);
            // Perhaps another process showed it.
            self.told.retain(|told| told.to != *to);
            let (to, what) = (to.clone(), Activity::Writing);
            self.told.push(Told { to, what, at: now });
        }
    }

    /// What a status frame has begun in a chat is over.
    pub(super) fn end_frame(&mut self, to: &Address) {
        self.wishes
            .retain(|wish| wish.by != By::Frame || wish.to != *to);
    }

    /// What status frames have begun anywhere is over.
    pub(super) fn end_frames(&mut self) {
        self.wishes.retain(|wish| wish.by != By::Frame);
    }

    /// A message to a chat was entered: whatever was being written there is written.
    pub(super) fn answered(&mut self, to: &Address) {
        self.wishes
            .retain(|wish| wish.what != Activity::Writing || wish.to != *to);
    }

    /// A message has arrived at the server, which ends the indicator at who gets it.
    pub(super) fn message_went(&mut self, to: &Address) {
        self.told.retain(|told| told.to != *to);
    }

    /// The library has said that we are available.
    pub(super) fn announced(&mut self) {
        self.available = true;
    }

    /// Another connection, or none: nobody sees anything.
    pub(super) fn unseen(&mut self) {
        self.told.clear();
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
        schedule.release(one);
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
        // The next event of the same chat: nobody stops in between.
        let next = schedule.hold(&group(), Activity::Writing, now);
        schedule.release(other);
        assert_eq!(said(&mut schedule, now), []);
        schedule.release(next);
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
        schedule.release(note);
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
        schedule.release(held);
        // What another process showed is ended as well.
        schedule.frame(&group(), false, now);
        assert_eq!(said(&mut schedule, now), [Step::Pause(group())]);
    }

    #[test]
    fn who_answers_is_not_shown_writing_until_there_is_something_else_to_answer() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for _ in 0..3 {
            schedule.frame(&anna(), true, now);
        }
        assert_eq!(schedule.wishes.len(), 1);
        let turn = schedule.hold(&anna(), Activity::Writing, now);
        let note = schedule.hold(&group(), Activity::Recording, now);
        let records = Step::Show(group(), Activity::Recording);
        assert_eq!(said(&mut schedule, now), [writes(anna()), records]);
        for chat in [anna(), group()] {
            schedule.answered(&chat);
        }
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
        // The next turn begins before the answer to the last has arrived, and is shown again behind it.
        schedule.hold(&anna(), Activity::Writing, now);
        schedule.release(turn);
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        schedule.message_went(&anna());
        assert_eq!(said(&mut schedule, now), [writes(anna())]);
        schedule.release(note);
        assert_eq!(said(&mut schedule, now), [Step::Pause(group())]);
    }

    #[test]
    fn frames_end_together_and_nothing_else_with_them() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.frame(&anna(), true, now);
        schedule.hold(&group(), Activity::Writing, now);
        assert_eq!(said(&mut schedule, now), [writes(anna()), writes(group())]);
        schedule.end_frames();
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
        schedule.release(held);
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
        schedule.release(held);
        assert_eq!(said(&mut schedule, now), [Step::Pause(anna())]);
    }
}

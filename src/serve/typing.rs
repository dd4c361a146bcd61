//! Whom the agent is seen to answer while nobody says so: the host takes events strictly one after the other, so it is
//! taken to be at the oldest that nothing has proven handled.
//!
//! Invariants: nothing is shown where an answer may not go; of one event for no longer than [`LONGEST_TYPING`]. An
//! agent may have nothing to say, and the host tells nobody: an event whose time is over is passed over, so that it does
//! not stand before those behind it for good.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::{Open, manners};
use crate::access::Policy;
use crate::config::{Config, Typing};
use crate::identity::ChatKind;
use crate::session::LONGEST_TYPING;
use crate::store::Peer;

/// An answer that comes as soon as this needs no announcement.
const SOON: Duration = Duration::from_millis(300);

/// The event that the agent is taken to be at; it is shown for as long as there is an `S`.
struct Turn<S> {
    number: i64,
    chat: Peer,
    /// When it is shown.
    from: Instant,
    /// When it is passed over.
    until: Instant,
    shown: Option<S>,
}

/// Whose turn it is. Time is an argument.
struct Turns<S> {
    turn: Option<Turn<S>>,
    /// Events up to this number are passed over.
    passed: i64,
}

impl<S> Turns<S> {
    /// Beyond which number to look for the oldest event.
    fn passed(&mut self, now: Instant) -> i64 {
        if let Some(over) = self.turn.as_ref().filter(|turn| turn.until <= now) {
            self.passed = over.number;
        }
        self.passed
    }

    /// Takes this event for the one that the agent is at, and shows it if it may and its time has come; when to look again.
    fn take(
        &mut self,
        oldest: Option<(i64, Peer)>,
        now: Instant,
        may: impl FnOnce(&Peer) -> bool,
        show: impl FnOnce(&Peer) -> S,
    ) -> Option<Instant> {
        let next =
            oldest.map(
                |(number, chat)| match self.turn.take_if(|turn| turn.number == number) {
                    Some(same) => Turn { chat, ..same },
                    None => Turn {
                        // From one event of a chat to the next there is no pause.
                        from: match &self.turn {
                            Some(turn) if turn.shown.is_some() && turn.chat.key == chat.key => now,
                            _ => now + SOON,
                        },
                        until: now + LONGEST_TYPING,
                        number,
                        chat,
                        shown: None,
                    },
                },
            );
        // It is seen until what is shown instead is.
        let _before = std::mem::replace(&mut self.turn, next);
        let turn = self.turn.as_mut()?;
        if !may(&turn.chat) {
            turn.shown = None;
        } else if turn.from <= now && turn.shown.is_none() {
            turn.shown = Some(show(&turn.chat));
        }
        Some(match turn.from > now {
            true => turn.from,
            false => turn.until,
        })
    }
}

/// Follows the settings and the events of an ingress until its end.
pub(super) async fn follow(open: Open, mut settings: watch::Receiver<Arc<Config>>) {
    let mut changes = open.store.turn_signal();
    let mut turns = Turns {
        turn: None,
        passed: 0,
    };
    loop {
        changes.borrow_and_update();
        let config = settings.borrow_and_update().clone();
        open.session.behave(manners(&config));
        let passed = turns.passed(Instant::now());
        let oldest = match config.typing {
            Typing::Auto => open.store.oldest_unproven(passed).await,
            Typing::Status | Typing::Off => Ok(None),
        };
        let oldest = oldest.unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody is shown writing");
            None
        });
        let may = |chat: &Peer| may_answer(&config, chat);
        let show = |chat: &Peer| open.session.show_writing(&chat.route);
        let wake = turns.take(oldest, Instant::now(), may, show);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = settings.changed() => if changed.is_err() { return },
            () = until(wake) => {}
        }
    }
}

/// Until then, or for good.
async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn may_answer(config: &Config, chat: &Peer) -> bool {
    matches!(chat.kind(), ChatKind::Private | ChatKind::Group)
        && Policy::new(config)
            .outbound(&chat.credentials(), chat.approved)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::identity::Address;
    use crate::store::Store;

    /// An agent that is watched: what is shown when, in tenths of a second.
    struct Watched {
        began: Instant,
        now: Cell<Instant>,
        seen: RefCell<Vec<(u128, String)>>,
    }

    impl Watched {
        fn new() -> Self {
            let began = Instant::now();
            Self {
                began,
                now: Cell::new(began),
                seen: RefCell::default(),
            }
        }

        fn note(&self, what: String) {
            let at = (self.now.get() - self.began).as_millis() / 100;
            self.seen.borrow_mut().push((at, what));
        }

        fn show(&self, chat: &Peer) -> Shown<'_> {
            let user = chat.route.to_string();
            let name = user.split('@').next().unwrap().to_owned();
            self.note(name.clone());
            Shown(self, name)
        }

        /// Looks at these events, none of which is proven, as often as it is to be looked, until then.
        fn look<'a>(
            &'a self,
            turns: &mut Turns<Shown<'a>>,
            events: &[(i64, Peer)],
            until: Duration,
        ) {
            loop {
                let passed = turns.passed(self.now.get());
                let oldest = events.iter().find(|(number, _)| *number > passed);
                let wake = turns.take(
                    oldest.cloned(),
                    self.now.get(),
                    |_| true,
                    |chat| self.show(chat),
                );
                let next = wake.filter(|at| *at <= self.began + until);
                self.now.set(next.unwrap_or(self.began + until));
                if next.is_none() {
                    return;
                }
            }
        }
    }

    struct Shown<'a>(&'a Watched, String);

    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            self.0.note(format!("{} ends", self.1));
        }
    }

    /// Events from these people, numbered from 1.
    fn events(from: &[&str]) -> Vec<(i64, Peer)> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("channel.db")).unwrap();
        let peer = |user: &&str| {
            let address: Address = format!("{user}@s.whatsapp.net").parse().unwrap();
            store.resolve(vec![address]).wait().unwrap()
        };
        (1..).zip(from.iter().map(peer)).collect()
    }

    fn nobody<'a>() -> Turns<Shown<'a>> {
        Turns {
            turn: None,
            passed: 0,
        }
    }

    #[track_caller]
    fn assert_seen(watched: &Watched, expected: &[(u128, &str)]) {
        let seen = watched.seen.borrow();
        let seen: Vec<_> = seen.iter().map(|(at, what)| (*at, what.as_str())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_event_that_nothing_proves_makes_way_after_two_minutes() {
        let watched = Watched::new();
        let mut turns = nobody();
        let events = events(&["15551230001", "15551230002"]);
        watched.look(&mut turns, &events, 4 * LONGEST_TYPING);
        let expected = [
            (3, "15551230001"),
            (1200, "15551230001 ends"),
            (1203, "15551230002"),
            (2400, "15551230002 ends"),
        ];
        assert_seen(&watched, &expected);
    }

    #[test]
    fn nobody_stops_between_two_events_of_a_chat() {
        let watched = Watched::new();
        let mut turns = nobody();
        let events = events(&["15551230001", "15551230001"]);
        watched.look(&mut turns, &events, Duration::from_secs(1));
        watched.look(&mut turns, &events[1..], Duration::from_secs(2));
        let expected = [
            (3, "15551230001"),
            (10, "15551230001"),
            (10, "15551230001 ends"),
        ];
        assert_seen(&watched, &expected);
    }
}

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
use crate::session::{LONGEST_TYPING, Shown};
use crate::store::Peer;

/// An answer that comes as soon as this needs no announcement.
const SOON: Duration = Duration::from_millis(300);

/// The event that the agent is taken to be at.
struct Turn {
    number: i64,
    chat: Peer,
    /// When it is shown.
    from: Instant,
    /// When it is passed over.
    until: Instant,
    shown: Option<Shown>,
}

/// Follows the settings and the events of an ingress until its end.
pub(super) async fn follow(open: Open, mut settings: watch::Receiver<Arc<Config>>) {
    let mut turns = open.store.turn_signal();
    let mut turn: Option<Turn> = None;
    let mut passed = 0;
    loop {
        turns.borrow_and_update();
        let config = settings.borrow_and_update().clone();
        open.session.behave(manners(&config));
        let oldest = match config.typing {
            Typing::Auto => open.store.oldest_unproven(passed).await,
            Typing::Status | Typing::Off => Ok(None),
        };
        let oldest = oldest.unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody is shown writing");
            None
        });
        let now = Instant::now();
        let next = oldest.map(
            |(number, chat)| match turn.take_if(|turn| turn.number == number) {
                Some(same) => Turn { chat, ..same },
                None => Turn {
                    // From one event of a chat to the next there is no pause.
                    from: match &turn {
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
        let before = std::mem::replace(&mut turn, next);
        let mut wake = None;
        if let Some(turn) = &mut turn {
            if !may_answer(&config, &turn.chat) {
                turn.shown = None;
            } else if turn.from <= now && turn.shown.is_none() {
                turn.shown = Some(open.session.show_writing(&turn.chat.route));
            }
            wake = Some(if turn.from > now {
                turn.from
            } else {
                turn.until
            });
        }
        drop(before);
        tokio::select! {
            changed = turns.changed() => if changed.is_err() { return },
            changed = settings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => {
                if let Some(over) = turn.as_ref().filter(|turn| turn.until <= Instant::now()) {
                    passed = over.number;
                }
            }
        }
    }
}

fn may_answer(config: &Config, chat: &Peer) -> bool {
    matches!(chat.kind(), ChatKind::Private | ChatKind::Group)
        && Policy::new(config)
            .outbound(&chat.credentials(), chat.approved)
            .is_ok()
}

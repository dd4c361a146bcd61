//! Keeps the session connected.
//!
//! The library's own reconnection backs off to 15 minutes and cannot be woken, so it is off: each connection is a
//! client of its own on the same store (`attempt`), and between two of them stands the delay of this file. The old
//! client is always gone before the next is built; two clients on one store would corrupt the ratchets.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use tokio::time::Instant;

use super::attempt::{self, Ended, Pause};
use super::state::{Connection, Terminal, TerminalKind};
use super::{Shared, keeping, version};
use crate::clock::now;

/// The first delay after a lost connection; it doubles from there.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// WhatsApp said "too many": no sooner than this.
const RATE_LIMIT_DELAY: Duration = Duration::from_secs(60);
/// How often it is looked whether a ban has ended.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// Connects, and connects again, until the session is closed or over. A ban is waited for.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut delays = delays();
    let mut asked_for_version = false;
    loop {
        tokio::select! {
            there_is = keeping::until_there_is_space(&shared) => if !there_is { return },
            () = attempt::told(&mut closing) => return,
        }
        let started = Instant::now();
        let ended = attempt::connect_once(&shared).await;
        let stood = shared.set_client(None).is_some();
        shared.typing.disconnected();
        let (pause, reason) = match ended {
            Ended::Closed => return,
            // It may have been said of a version that is no longer the newest; that is worth one question.
            Ended::Terminal(terminal)
                if terminal.kind == TerminalKind::Outdated
                    && !std::mem::replace(&mut asked_for_version, true)
                    && version::is_newer_to_be_had(&shared).await =>
            {
                (
                    Pause::Backoff,
                    "WhatsApp wants a newer version of WhatsApp Web".to_owned(),
                )
            }
            Ended::Terminal(terminal) => {
                if stood {
                    lost(&shared, terminal.kind.code());
                }
                if let Err(error) = shared
                    .store
                    .set_terminal(Some(terminal.clone().into()))
                    .await
                {
                    tracing::error!(%error, "the end of the session could not be recorded");
                }
                if terminal.kind != TerminalKind::Banned {
                    shared.set(Connection::Ended(terminal));
                    return;
                }
                shared.set(Connection::Banned(terminal.clone()));
                tokio::select! {
                    () = over(&terminal) => {}
                    () = attempt::told(&mut closing) => return,
                }
                shared.set(Connection::Connecting);
                delays = self::delays();
                continue;
            }
            Ended::Lost {
                pause,
                stable,
                reason,
            } => {
                if stable {
                    delays = self::delays();
                }
                (pause, reason)
            }
        };
        let delay = match pause {
            // A server that sends everybody away at once must not be stormed.
            Pause::None if started.elapsed() >= FIRST_DELAY => Duration::ZERO,
            Pause::None | Pause::Backoff => next(&mut delays),
            Pause::RateLimited => next(&mut delays).max(RATE_LIMIT_DELAY),
        };
        tracing::info!(
            reason,
            delay_ms = delay.as_millis() as u64,
            "disconnected from WhatsApp"
        );
        if stood {
            lost(&shared, &reason);
        }
        if shared.store.space().look().is_err() {
            continue;
        }
        shared.set(Connection::Reconnecting { reason });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = attempt::told(&mut closing) => return,
        }
    }
}

/// Records the end of a connection that stood; an attempt that came to nothing says nothing of why that one ended.
/// A store that is slow now must not hold up the next connection.
fn lost(shared: &Shared, reason: &str) {
    drop(shared.store.set_disconnected(now(), reason.to_owned()));
}

/// Until the ban has ended, by the wall clock, which may be set while it is awaited.
async fn over(ban: &Terminal) {
    while ban.holds(now()) {
        tokio::time::sleep(LOOK_AT_CLOCK).await;
    }
}

/// Jitter may double a delay; the longest holds all the same.
fn next(delays: &mut impl Iterator<Item = Duration>) -> Duration {
    delays.next().unwrap_or(LONGEST_DELAY).min(LONGEST_DELAY)
}

fn delays() -> impl Iterator<Item = Duration> {
    backon::ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

//! A steady rate with a burst: when the next may go.
//!
//! The generic cell rate algorithm (ITU-T I.371): of what has gone nothing is known but when the burst is whole again.
//! Invariant: in no stretch of time do more go than the burst and what the rate gives. Times are microseconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A second in microseconds.
pub(super) const SECOND: i64 = 1_000_000;

/// A steady rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Microseconds from one to the next.
    pub(super) every: i64,
    /// How many go at once after a rest.
    burst: i64,
}

impl Rate {
    /// So many a second, and at once; 0 counts as 1.
    pub const fn per_second(times: u32, burst: u32) -> Self {
        Self::over(SECOND, times, burst)
    }

    /// So many a minute, and at once; 0 counts as 1.
    pub const fn per_minute(times: u32, burst: u32) -> Self {
        Self::over(60 * SECOND, times, burst)
    }

    /// Rounded so that it is never faster than was asked for.
    const fn over(time: i64, times: u32, burst: u32) -> Self {
        let times = if times == 0 { 1 } else { times as i64 };
        let burst = if burst == 0 { 1 } else { burst as i64 };
        Self {
            every: (time + times - 1) / times,
            burst,
        }
    }

    /// When the next may go, if the burst is whole again at `whole`.
    pub(super) fn next(self, whole: i64, now: i64) -> i64 {
        now.max(whole.saturating_sub((self.burst - 1) * self.every))
    }

    /// When the burst is whole again after one that goes at `at`.
    pub(super) fn after(self, whole: i64, at: i64) -> i64 {
        whole.max(at).saturating_add(self.every)
    }

    /// No use of the rate leads further ahead than this.
    pub(super) fn furthest(self, now: i64) -> i64 {
        now + self.burst * self.every
    }

    /// Whether so many in a row go within `budget` microseconds after a rest.
    fn fits(self, messages: i64, budget: i64) -> bool {
        (messages - self.burst).saturating_mul(self.every) <= budget
    }
}

/// How fast messages may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// To one chat.
    pub chat: Rate,
    /// Of the account.
    pub account: Rate,
    /// First messages within 24 hours to people who never wrote.
    pub strangers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chat: Rate::per_second(1, 5),
            account: Rate::per_minute(20, 20),
            strangers: 20,
        }
    }
}

impl Limits {
    /// Whether so many messages to one chat can go within `budget` at all.
    pub fn lets_go(&self, messages: usize, budget: Duration) -> bool {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX);
        let budget = i64::try_from(budget.as_micros()).unwrap_or(i64::MAX);
        self.chat.fits(messages, budget) && self.account.fits(messages, budget)
    }
}

/// The limits, and what time it is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How fast messages may go.
    pub limits: Limits,
    /// Unix microseconds.
    pub now: i64,
}

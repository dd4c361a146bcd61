//! The states of a connection, each with its code on the wire, what it means, and what to do.
//!
//! This table is the only place where these sentences are written: `health`, errors, the last notification before a
//! terminal exit and the log all read them here.

use crate::clock::rfc3339;
use crate::store::{self, StoreError};

/// Where the session stands with WhatsApp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// The first connection of this process is being made.
    Connecting,
    /// Logged in, the offline queue has been received.
    Online,
    /// The connection was lost or could not be made; the next attempt follows by itself.
    Reconnecting {
        /// What was seen of the last attempt.
        reason: String,
    },
    /// Not tried before the ban ends; then it is, by itself.
    Banned(Terminal),
    /// Over until somebody acts.
    Ended(Terminal),
    /// Nothing may be received: the disk is full, which passes and is noticed, or a database is damaged, which is
    /// the end of the session.
    Storage(StoreError),
    /// Closed by this process.
    Closed,
}

impl Connection {
    /// The code in `state.status` and `health.status`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "running",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Banned(terminal) | Self::Ended(terminal) => terminal.kind.code(),
            Self::Storage(error) => error.code(),
            Self::Closed => "stopped",
        }
    }
}

impl Connection {
    /// Whether this session is at its end without having been asked to.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Ended(_) => true,
            Self::Storage(error) => !matches!(error, StoreError::Full { .. }),
            _ => false,
        }
    }
}

/// Why a session will not connect again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalKind {
    /// The phone, or WhatsApp, removed this device.
    LoggedOut,
    /// Another connection of the same device took over.
    Replaced,
    /// The account may not be used for a while.
    Banned,
    /// WhatsApp no longer accepts this version of WhatsApp Web.
    Outdated,
}

impl TerminalKind {
    /// The code on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Replaced => "replaced",
            Self::Banned => "banned",
            Self::Outdated => "outdated",
        }
    }

    const ALL: [Self; 4] = [
        Self::LoggedOut,
        Self::Replaced,
        Self::Banned,
        Self::Outdated,
    ];

    /// What happened and what to do, for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::LoggedOut => {
                "WhatsApp logged this device out (it was removed on the phone, or by WhatsApp); link it again with `channel-whatsapp --link`"
            }
            Self::Replaced => {
                "another connection with this device's keys took over; find the other process or copy of the store and stop it, then start again"
            }
            Self::Banned => {
                "WhatsApp has banned this account for a while; wait until the ban ends and send less to people who do not know this number"
            }
            Self::Outdated => {
                "WhatsApp no longer accepts this version of WhatsApp Web; update channel-whatsapp, or set `web_version` to a current one"
            }
        }
    }
}

/// A terminal state with what is known of it. Recorded in `channel.db`, so that it outlives the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Which state.
    pub kind: TerminalKind,
    /// When it was seen, unix seconds.
    pub since: i64,
    /// When it ends by itself, unix seconds: a ban's expiry.
    pub until: Option<i64>,
    /// What the server said.
    pub detail: String,
}

/// A ban without a usable end is looked at again after this, seconds: one login that may be refused.
const BAN_UNSAID: i64 = 3600;
/// A ban that is said to last longer is looked at again after this, seconds.
const LONGEST_BAN: i64 = 366 * 24 * 3600;

/// A replaced session does not fight for the connection: an explicit start sooner than this is refused.
const REPLACED_PAUSE_SECS: i64 = 30;
/// By how much the clock may have been set back while a ban goes on counting, seconds.
const CLOCKS_DIFFER: i64 = 60;

impl Terminal {
    /// A state first seen now.
    pub fn new(kind: TerminalKind, now: i64, detail: impl Into<String>) -> Self {
        Self {
            kind,
            since: now,
            until: None,
            detail: detail.into(),
        }
    }

    /// A ban seen now that lasts so many seconds; one whose length is not said, or makes no sense, an hour.
    pub fn banned(lasts: Option<i64>, now: i64, detail: impl Into<String>) -> Self {
        let lasts = match lasts {
            Some(lasts) if lasts > 0 => lasts.min(LONGEST_BAN),
            _ => BAN_UNSAID,
        };
        Self {
            until: Some(now + lasts),
            ..Self::new(TerminalKind::Banned, now, detail)
        }
    }

    /// Whether this still keeps a session from connecting when a process asks for it at `now`, unix seconds.
    /// A logout holds until the account is linked again, a ban until it expires, a replaced session for 30 s. An
    /// outdated version may have been replaced together with the binary, so it is tried again.
    pub fn holds(&self, now: i64) -> bool {
        match self.kind {
            TerminalKind::LoggedOut => true,
            TerminalKind::Replaced => now < self.since + REPLACED_PAUSE_SECS,
            // One that begins in the future was written by a clock that was ahead.
            TerminalKind::Banned => {
                self.since <= now + CLOCKS_DIFFER && self.until.is_none_or(|until| now < until)
            }
            TerminalKind::Outdated => false,
        }
    }

    /// Whether this keeps a session from connecting that nobody asked to receive or send. One that was taken over since
    /// it last `connected` stays away then: it would throw the other one out.
    pub fn holds_unasked(&self, now: i64, connected: Option<i64>) -> bool {
        let taken_over = self.kind == TerminalKind::Replaced && connected <= Some(self.since);
        taken_over || self.holds(now)
    }

    /// The sentence of the state, with what the server said and when it ends.
    pub fn sentence(&self) -> String {
        let mut text = self.kind.sentence().to_owned();
        if let Some(until) = self.until {
            text += &format!(" (until {})", rfc3339(until));
        }
        if !self.detail.is_empty() {
            text += &format!(" [{}]", self.detail);
        }
        text
    }
}

impl From<Terminal> for store::Terminal {
    fn from(terminal: Terminal) -> Self {
        Self {
            state: terminal.kind.code().to_owned(),
            since: terminal.since,
            until: terminal.until,
            reason: terminal.detail,
        }
    }
}

impl Terminal {
    /// Reads what was recorded; a state that this version does not know holds nothing.
    pub fn recorded(recorded: store::Terminal) -> Option<Self> {
        let kind = TerminalKind::ALL
            .into_iter()
            .find(|kind| kind.code() == recorded.state)?;
        Some(Self {
            kind,
            since: recorded.since,
            until: recorded.until,
            detail: recorded.reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_whose_length_makes_no_sense_is_looked_at_again() {
        for (lasts, until) in [
            (Some(60), 1_060),
            (Some(0), 1_000 + BAN_UNSAID),
            (Some(-60), 1_000 + BAN_UNSAID),
            (Some(i64::MAX), 1_000 + LONGEST_BAN),
            (None, 1_000 + BAN_UNSAID),
        ] {
            let ban = Terminal::banned(lasts, 1_000, "");
            assert_eq!(ban.until, Some(until), "{lasts:?}");
            assert!(ban.holds(until - 1) && !ban.holds(until));
        }
    }

    #[test]
    fn a_ban_that_a_clock_ahead_has_written_holds_nobody_up() {
        let now = 1_000_000;
        for (ahead, holds) in [
            (0, true),
            (60, true),
            (61, false),
            (10 * LONGEST_BAN, false),
        ] {
            let ban = Terminal::banned(Some(600), now + ahead, "");
            assert_eq!(ban.holds(now), holds, "{ahead} s ahead");
        }
    }

    #[test]
    fn what_holds_and_for_how_long() {
        let at = |kind, until| Terminal {
            kind,
            since: 1_000,
            until,
            detail: String::new(),
        };
        let cases = [
            (at(TerminalKind::LoggedOut, None), 1_000_000, true),
            (at(TerminalKind::Replaced, None), 1_029, true),
            (at(TerminalKind::Replaced, None), 1_030, false),
            (at(TerminalKind::Banned, Some(2_000)), 1_999, true),
            (at(TerminalKind::Banned, Some(2_000)), 2_000, false),
            (at(TerminalKind::Banned, None), 1_000_000, true),
            (at(TerminalKind::Outdated, None), 1_000, false),
        ];
        for (terminal, now, expected) in cases {
            assert_eq!(terminal.holds(now), expected, "{terminal:?} at {now}");
        }
    }
}

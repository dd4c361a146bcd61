//! The one answer that every request gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::writer::Lines;
use crate::clock::now_ms;
use crate::config::Config;
use crate::protocol::jsonrpc::{RequestId, WireError, error_line, response_line};
use crate::protocol::response::Response;
use crate::session::SessionError;

/// The host gives a call 30 s from before it spawns the process to its exit; this leaves it two.
const ONE_SHOT: Duration = Duration::from_secs(28);
/// What a one-shot process keeps of that for disconnecting and leaving.
const LEAVE: Duration = Duration::from_millis(2500);

/// What all accounts of this process share.
pub(super) struct Process {
    started: Instant,
    /// How long it has if it serves one call.
    allowed: Duration,
    /// A `start_ingress` was answered: the process stays until its stdin ends.
    persistent: AtomicBool,
}

impl Process {
    /// When a one-shot process must be gone.
    pub(super) fn leave_by(&self) -> Instant {
        self.started + self.allowed
    }

    pub(super) fn new() -> Self {
        Self::with(ONE_SHOT)
    }

    /// For a command of the operator, whom no host keeps to half a minute.
    pub(super) fn with(allowed: Duration) -> Self {
        Self {
            started: Instant::now(),
            allowed,
            persistent: AtomicBool::new(false),
        }
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.persistent.load(Ordering::Relaxed)
    }

    pub(super) fn set_persistent(&self) {
        self.persistent.store(true, Ordering::Relaxed);
    }

    /// When a request that may take `budget` must be answered. A one-shot process has one deadline for everything,
    /// its exit included.
    pub(super) fn deadline(&self, budget: Duration) -> Instant {
        let own = Instant::now() + budget;
        match self.is_persistent() {
            true => own,
            false => own.min(self.leave_by() - LEAVE),
        }
    }
}

/// Where the answer to one request goes. Dropped unanswered, say by a panic, it answers `internal_error`.
pub(super) struct Answer {
    id: RequestId,
    lines: Lines,
    open: bool,
}

impl Answer {
    pub(super) fn new(id: RequestId, lines: Lines) -> Self {
        Self {
            id,
            lines,
            open: true,
        }
    }

    /// Answers, waiting for room in the writer's queue.
    pub(super) async fn send(mut self, outcome: Result<Response, WireError>) {
        self.open = false;
        self.lines.send_now(line(&self.id, outcome)).await;
    }

    /// Answers, and returns once the line has left for the host.
    pub(super) async fn send_flushed(mut self, outcome: Result<Response, WireError>) -> bool {
        self.open = false;
        self.lines.send_flushed(line(&self.id, outcome)).await
    }

    /// Answers without waiting, also if there is no room.
    pub(super) fn leave(mut self, outcome: Result<Response, WireError>) {
        self.open = false;
        self.lines.leave(line(&self.id, outcome));
    }

    /// The same as [`Answer::send`] from a thread without a runtime.
    pub(super) fn send_blocking(mut self, outcome: Result<Response, WireError>) {
        self.open = false;
        self.lines.send_blocking(line(&self.id, outcome));
    }
}

fn line(id: &RequestId, outcome: Result<Response, WireError>) -> Vec<u8> {
    match outcome {
        Ok(response) => response_line(id, &response),
        Err(error) => {
            // The sentence may name what was given, and that may be somebody's number.
            tracing::info!(code = error.code.as_ref(), "request refused");
            tracing::debug!(message = error.message, "request refused");
            error_line(id, &error)
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.open {
            let error = WireError::new(
                "internal_error",
                "the request ended without an answer; please report this with the log",
            );
            self.lines.leave(error_line(&self.id, &error));
        }
    }
}

/// Shared by the accounts of one process.
pub(super) type SharedProcess = Arc<Process>;

/// When a `deliver`, `push` or `status` must be answered.
pub(super) fn call_deadline(process: &Process, config: &Config) -> Instant {
    process.deadline(Duration::from_secs(config.send_timeout_secs.into()))
}

/// Every room has its own errors, and each says its code and its sentence.
macro_rules! on_the_wire {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for WireError {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error)
            }
        }
    )+};
}

on_the_wire!(
    crate::access::PolicyRequired,
    crate::access::Unauthorized,
    crate::account::AccountError,
    crate::account::InUse,
    crate::config::ConfigError,
    crate::identity::TargetError,
    crate::outbound::OutboundError,
    crate::store::StoreError,
);

impl From<SessionError> for WireError {
    fn from(error: SessionError) -> Self {
        let told = Self::new(error.code(), &error);
        match error.passes_at() {
            Some(until) => {
                let left = until.saturating_mul(1000).saturating_sub(now_ms());
                told.with("retry_after_ms", left.max(0))
            }
            None => told,
        }
    }
}

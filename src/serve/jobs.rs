//! What an account is asked, on its way from the router to the account's thread.
//!
//! Invariant: who hands a request over never waits long, whatever the account's thread does: the same thread reads the
//! requests of all other accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::answer::Answer;
use crate::config::Config;
use crate::protocol::event::IngressState;
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::{OutboundMessage, StatusFrame};

/// Requests that may wait for one account's thread, which takes one within microseconds.
const QUEUE: usize = 256;
/// How long a full queue is waited for before its thread counts as hung. All accounts wait with it.
const TAKES: Duration = Duration::from_secs(1);
/// What an account can be asked.
pub(super) enum Work {
    Configure {
        unknown_keys: Vec<String>,
        warnings: Vec<String>,
    },
    Health,
    Poll(Option<IngressState>),
    Start(Option<IngressState>),
    Stop(Option<IngressState>),
    Deliver(OutboundMessage),
    Push(OutboundMessage),
    Status(StatusFrame),
}

/// One request with the configuration that came with it.
pub(super) struct Job {
    pub work: Work,
    pub config: Arc<Config>,
    pub answer: Answer,
}

/// A queue, and where it ends.
pub(super) fn queue() -> (Jobs, mpsc::Receiver<Job>) {
    let (queue, work) = mpsc::channel(QUEUE);
    let hung = Arc::default();
    (Jobs { queue, hung }, work)
}

/// Where an account takes its requests.
#[derive(Clone)]
pub(super) struct Jobs {
    queue: mpsc::Sender<Job>,
    /// It has let somebody wait in vain, and taken nothing since.
    hung: Arc<AtomicBool>,
}

impl Jobs {
    /// Hands a request to the account's thread. One that takes nothing any more must not keep the host's other requests
    /// from being read.
    pub(super) fn hand(&self, mut job: Job) {
        let began = Instant::now();
        loop {
            job = match self.queue.try_send(job) {
                Ok(()) => return self.hung.store(false, Ordering::Relaxed),
                // The thread died, or the process ends; the answer, dropped, says so.
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(job)) => job,
            };
            if self.hung.load(Ordering::Relaxed) || began.elapsed() >= TAKES {
                if !self.hung.swap(true, Ordering::Relaxed) {
                    tracing::error!("an account takes no requests any more");
                }
                let error = WireError::new(
                    "internal_error",
                    "this account has taken none of the last requests; please report this, and restart the host",
                );
                return job.answer.leave(Err(error));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::protocol::jsonrpc::RequestId;
    use crate::serve::writer;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_account_that_hangs_keeps_nobody_waiting() {
        let kept = Kept::default();
        let writer = writer::start(kept.clone(), |_| false).unwrap();
        let lines = writer.lines();
        let job = || Job {
            work: Work::Health,
            config: Arc::new(Config::parse(&serde_json::json!({})).unwrap().config),
            answer: Answer::new(RequestId::default(), lines.clone()),
        };
        let (jobs, mut work) = queue();
        let began = Instant::now();
        for _ in 0..QUEUE + 1 {
            jobs.hand(job());
        }
        let waited = began.elapsed();
        assert!(waited >= TAKES, "the one that found no room: {waited:?}");
        for _ in 0..100 {
            jobs.hand(job());
        }
        assert!(began.elapsed() < 2 * TAKES, "the others did not wait");
        // It goes on after all.
        work.try_recv()
            .ok()
            .map(|job| job.answer.leave(Err(WireError::new("x", "y"))))
            .unwrap();
        jobs.hand(job());
        let waits = std::iter::from_fn(|| work.try_recv().ok()).count();
        assert_eq!(waits, QUEUE);
        drop(lines);
        assert!(writer.finish(Duration::from_secs(10)));
        let told = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let hung = told
            .lines()
            .filter(|line| line.contains("taken none"))
            .count();
        assert_eq!(hung, 101, "{told}");
    }
}

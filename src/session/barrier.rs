//! Holds back what is ready to leave until the outbox has it on the disk.
//!
//! A message is encrypted while the transaction that enters it is still on its way: that takes about as long as the
//! disk. Invariant: no byte of a frame leaves before every commit that was held when the library handed it over has
//! succeeded; when one has failed, nothing more leaves on that connection. Frames carry a counter, so one that must not
//! leave cannot be left out either: the library ends a connection whose transport refuses one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use wacore::net::Transport;
use wacore::stats::TransportResourceReport;
use whatsapp_rust::bytes::Bytes;

use crate::store::{Commit, StoreError};

/// The commits that frames wait for.
#[derive(Debug, Clone, Default)]
pub(super) struct Barrier(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    commits: VecDeque<(u64, Commit)>,
    /// Number of the next commit.
    next: u64,
    /// The last one that failed.
    failed: Option<u64>,
}

impl Barrier {
    /// From now on no frame leaves before this commit.
    pub(super) fn hold(&self, commit: Commit) {
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.commits.push_back((number, commit));
    }

    /// A transport whose frames wait here.
    pub(super) fn guard(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(Guarded {
            transport,
            barrier: self.clone(),
            since: self.lock().next,
        })
    }

    /// Waits for what is held now. An error if anything that was held `since` did not get onto the disk.
    async fn pass(&self, since: u64) -> Result<(), StoreError> {
        let upto = self.lock().next;
        loop {
            let (number, mut commit) = {
                let held = self.lock();
                if held.failed.is_some_and(|failed| failed >= since) {
                    return Err(StoreError::Stopped);
                }
                match held.commits.front() {
                    Some((number, commit)) if *number < upto => (*number, commit.clone()),
                    _ => return Ok(()),
                }
            };
            let outcome = commit.done().await;
            let mut held = self.lock();
            held.commits.retain(|(other, _)| *other != number);
            if outcome.is_err() {
                held.failed = held.failed.max(Some(number));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Guarded {
    transport: Arc<dyn Transport>,
    barrier: Barrier,
    /// What was held before belongs to earlier connections.
    since: u64,
}

#[async_trait]
impl Transport for Guarded {
    async fn send(&self, data: Bytes) -> anyhow::Result<()> {
        self.barrier.pass(self.since).await?;
        self.transport.send(data).await
    }

    async fn disconnect(&self) {
        self.transport.disconnect().await;
    }

    fn resource_report(&self) -> Option<TransportResourceReport> {
        self.transport.resource_report()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[derive(Default)]
    struct Wire(Mutex<Vec<Bytes>>);

    #[async_trait]
    impl Transport for Wire {
        async fn send(&self, data: Bytes) -> anyhow::Result<()> {
            self.0.lock().unwrap().push(data);
            Ok(())
        }

        async fn disconnect(&self) {}
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn frame() -> Bytes {
        Bytes::from_static(b"frame")
    }

    #[test]
    fn a_frame_waits_for_what_was_held_before_it_and_for_nothing_else() {
        let (barrier, wire) = (Barrier::default(), Arc::new(Wire::default()));
        let guarded = barrier.guard(wire.clone());
        let left = || wire.0.lock().unwrap().len();
        assert!(poll(pin!(guarded.send(frame()))).is_ready());
        let (first, commit) = Commit::awaited();
        barrier.hold(commit);
        let mut sent = pin!(guarded.send(frame()));
        assert!(poll(sent.as_mut()).is_pending());
        let (_second, commit) = Commit::awaited();
        barrier.hold(commit);
        assert!(poll(sent.as_mut()).is_pending());
        assert_eq!(left(), 1);
        first.send_replace(Some(Ok(())));
        assert!(matches!(poll(sent.as_mut()), Poll::Ready(Ok(()))));
        assert_eq!(left(), 2);
        assert!(poll(pin!(guarded.send(frame()))).is_pending());
    }

    #[test]
    fn after_a_failed_commit_nothing_more_leaves_on_that_connection() {
        for stopped in [false, true] {
            let (barrier, wire) = (Barrier::default(), Arc::new(Wire::default()));
            let guarded = barrier.guard(wire.clone());
            let (told, commit) = Commit::awaited();
            barrier.hold(commit);
            let mut sent = pin!(guarded.send(frame()));
            assert!(poll(sent.as_mut()).is_pending());
            match stopped {
                true => drop(told),
                false => drop(told.send_replace(Some(Err(StoreError::Stopped)))),
            }
            assert!(matches!(poll(sent.as_mut()), Poll::Ready(Err(_))));
            assert!(matches!(
                poll(pin!(guarded.send(frame()))),
                Poll::Ready(Err(_))
            ));
            assert_eq!(wire.0.lock().unwrap().len(), 0);
            let next = barrier.guard(wire.clone());
            assert!(matches!(
                poll(pin!(next.send(frame()))),
                Poll::Ready(Ok(()))
            ));
        }
    }
}

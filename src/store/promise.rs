//! What who asks the writer is given, and waits for.
//!
//! Invariant: a [`Pending`] and a [`Commit`] resolve to `Ok` only after the transaction that holds their work is on the
//! disk. What a [`Foreseen`] says before that is not to leave the process before its commit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{oneshot, watch};

use super::StoreError;

/// The answer to come. Await it, or [`wait`](Self::wait) for it on a thread without a runtime.
/// Dropping it does not take the work back.
#[must_use = "an answer that nobody looks at may hide a full disk"]
pub struct Pending<T>(pub(super) oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// Blocks until the work is committed or has failed. Panics inside an asynchronous runtime; await it there.
    pub fn wait(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Stopped))
    }
}

impl<T> From<Result<T, StoreError>> for Pending<T> {
    fn from(known: Result<T, StoreError>) -> Self {
        let (reply, answer) = oneshot::channel();
        // The other half is here.
        let _ = reply.send(known);
        Self(answer)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(StoreError::Stopped)))
    }
}

/// What work came to, while its transaction is still on its way to the disk.
pub(crate) struct Foreseen<T> {
    /// Ends without a value if the work itself failed; the commit says why.
    pub(crate) value: oneshot::Receiver<T>,
    pub(crate) commit: Commit,
}

#[cfg(test)]
impl<T> Foreseen<T> {
    /// What it came to, once it is on the disk.
    pub(super) fn wait(mut self) -> Result<T, StoreError> {
        let value = self.value.blocking_recv();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(self.commit.done())?;
        value.map_err(|_| StoreError::Stopped)
    }
}

/// A transaction on its way to the disk. Clones follow the same one.
#[derive(Debug, Clone)]
pub(crate) struct Commit(watch::Receiver<Option<Result<(), StoreError>>>);

impl Commit {
    /// A commit to come, and where it is told.
    pub(crate) fn awaited() -> (watch::Sender<Option<Result<(), StoreError>>>, Self) {
        let (told, outcome) = watch::channel(None);
        (told, Self(outcome))
    }

    /// Waits until the transaction is on the disk, or has failed.
    pub(crate) async fn done(&mut self) -> Result<(), StoreError> {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(StoreError::Stopped)),
            Err(_) => Err(StoreError::Stopped),
        }
    }
}

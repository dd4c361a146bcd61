//! What it takes time to let go of, as a large file does that goes with its owner.
//!
//! Invariant: wherever its owner ends, it goes on a thread that may block.

use tokio::runtime::Handle;

/// A file, or what owns one, with an owner who must not be held up.
#[derive(Debug)]
pub struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub fn new(owned: T) -> Self {
        Self(Some(owned))
    }

    /// It, for who may let go of it where he is.
    pub fn into_inner(mut self) -> T {
        match self.0.take() {
            Some(owned) => owned,
            None => unreachable!("it is there until it goes"),
        }
    }

    /// Lets go of it; over once it has gone.
    pub async fn end(mut self) {
        let owned = self.0.take();
        // A panic would have been told.
        let _ = tokio::task::spawn_blocking(move || drop(owned)).await;
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        if let (Some(owned), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::NamedTempFile;

    use super::*;

    #[test]
    fn a_file_is_removed_on_a_thread_that_may_block() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let _inside = runtime.enter();
        // The only such thread is busy.
        let (to, done) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || done.recv());
        let file = NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        drop(Aside::new(file));
        assert!(path.exists());
        drop(to);
        let _ = runtime.block_on(busy).unwrap();
        let removed = tokio::task::spawn_blocking(move || !path.exists());
        assert!(runtime.block_on(removed).unwrap());
        let kept = Aside::new(NamedTempFile::new().unwrap()).into_inner();
        assert!(kept.path().exists());
    }
}

//! Waits for files that are on their way, for who would end the connection under them.
//!
//! Invariant: it waits for what moves alone, and never beyond its deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use crate::clock::now;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Nothing came for this long: nothing comes soon. Bytes are seen some kilobytes at a time.
const STILL: Duration = Duration::from_secs(5);

/// Returns once nothing is fetched and nothing is due, or no byte came for [`STILL`], or it is `deadline`.
pub(super) async fn wait(shared: &Shared, deadline: Instant) {
    let mut seen = shared.downloads.progress();
    let mut moved = Instant::now();
    while moved.elapsed() < STILL {
        // Between two files there is a moment without any.
        if seen.is_empty() && (!shared.downloads.is_at_work() || nothing_is_due(shared).await) {
            return;
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = sleep_until(deadline) => return,
        }
        let progress = shared.downloads.progress();
        if progress != seen || progress.values().any(|(_, whole)| *whole) {
            (seen, moved) = (progress, Instant::now());
        }
    }
}

async fn nothing_is_due(shared: &Shared) -> bool {
    let due = shared.store.media_to_fetch(1, now()).await;
    due.is_ok_and(|due| due.is_empty())
}

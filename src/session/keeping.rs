//! What has to be looked after while a session is open: the space on the disk, what falls out of the store, and what
//! other processes put into it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::state::Connection;
use crate::clock::now;
use crate::store::StoreError;

/// A disk can fill at some hundred megabytes a second, the reserve is 16: the hook looks too, at each message.
const LOOK: Duration = Duration::from_secs(1);
/// How often old rows are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

/// How often it is looked whose approval did not come.
const EXPIRE: Duration = Duration::from_secs(30);

/// Looks after the store until the session ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut expire_at = Instant::now();
    // Not at once: a process that serves one call has better things to do.
    let mut sweep_at = Instant::now() + LOOK;
    loop {
        tick.tick().await;
        // What it finds is told to who receives; this is only the looking.
        let _ = shared.store.space().look();
        if let Err(error) = shared.store.look_for_others().await {
            tracing::debug!(%error, "the store could not be looked at");
            continue;
        }
        if Instant::now() >= expire_at {
            expire_at = Instant::now() + EXPIRE;
            if let Err(error) = shared.store.expire_held(now()).await {
                tracing::warn!(%error, "what strangers wrote could not be erased yet");
            }
        }
        if let Err(error) = shared.store.release_sealed(now()).await {
            tracing::debug!(%error, "what waits for a poll could not be let go");
        }
        if Instant::now() < sweep_at {
            continue;
        }
        match shared.store.sweep(now()).await {
            Ok(swept) => {
                if swept.dropped > 0 {
                    tracing::warn!(
                        events = swept.dropped,
                        "events that nothing proved handled are too old or too many and were dropped"
                    );
                }
                if !swept.more {
                    sweep_at = Instant::now() + SWEEP;
                }
            }
            Err(error) => tracing::warn!(%error, "old events could not be let go"),
        }
    }
}

/// Waits until there is space to receive into; `false` if there never will be.
pub(super) async fn until_there_is_space(shared: &Shared) -> bool {
    let mut waited = false;
    loop {
        match shared.store.space().settle() {
            Ok(()) => {
                if waited {
                    tracing::warn!("there is space on the disk again");
                    shared.set(Connection::Connecting);
                }
                return true;
            }
            Err(error) => {
                if !waited {
                    tracing::error!(%error, "nothing is received");
                }
                waited = true;
                let passes = matches!(error, StoreError::Full { .. });
                shared.set(Connection::Storage(error));
                if !passes {
                    return false;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

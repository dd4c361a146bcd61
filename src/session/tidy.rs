//! What leaves the media store: what a kill has left, what is too old, what is too much.
//!
//! Invariant: a file has gone from the database before it goes from its place, and only what the database does not know
//! goes. The one task that begins downloads does this, so that none begins meanwhile; but what goes from an object store,
//! which may take long, goes beside it, and no file of that very content begins before it has gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::download::MediaLimits;
use crate::clock::now;
use crate::media::depot::{Depot, DepotError, folder, is_object};
use crate::media::shelf::content;
use crate::store::{Bounds, StoreError};

const DAY: i64 = 86_400;
/// Until a store is asked again that did not remove something; it doubles.
const AGAIN: Duration = Duration::from_secs(60);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Removes what a kill has left, and notes what is missing. Before the first download.
pub(super) async fn sweep(shared: &Arc<Shared>) {
    // Nothing gets a name between the question what is known and its answer.
    let naming = shared.downloads.naming.lock().await;
    let known = match shared.store.places().await {
        Ok(known) => known.into_iter().collect(),
        Err(error) => return tracing::warn!(%error, "the media store cannot be looked through"),
    };
    let swept = on_depot(shared, move |depot| Ok(depot.shelf().sweep(&known)?)).await;
    match swept {
        Ok(swept) => {
            if swept.removed > 0 {
                let files = swept.removed;
                tracing::info!(files, "removed what an earlier process left behind");
            }
            if !swept.missing.is_empty() {
                let files = swept.missing.len();
                tracing::warn!(files, "files of the media store are gone");
                if let Err(error) = shared.store.media_lost(swept.missing).await {
                    tracing::warn!(%error, "that files are gone could not be noted");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the media store cannot be looked through"),
    }
    drop(naming);
    shared.downloads.remain.notify_one();
}

/// Removes what is too old or too much.
pub(super) async fn let_go(shared: &Arc<Shared>, limits: &MediaLimits) {
    let bounds = Bounds {
        before: now().saturating_sub(i64::from(limits.keep_days) * DAY),
        total: limits.keep_bytes,
    };
    loop {
        let naming = shared.downloads.naming.lock().await;
        let (gone, more) = match shared.store.let_media_go(bounds).await {
            Ok(gone) => gone,
            Err(error) => return tracing::warn!(%error, "old media could not be let go"),
        };
        if !gone.is_empty() {
            tracing::info!(files = gone.len(), "media let go");
        }
        remove(shared, gone).await;
        drop(naming);
        if !more {
            return shared.downloads.remain.notify_one();
        }
    }
}

/// Removes what was fetched for messages that were refused after all.
pub(super) async fn let_refused_go(shared: &Arc<Shared>) {
    let naming = shared.downloads.naming.lock().await;
    match shared.store.let_refused_media_go().await {
        Ok(gone) if gone.is_empty() => return,
        Ok(gone) => remove(shared, gone).await,
        Err(error) => return tracing::warn!(%error, "refused media could not be let go"),
    }
    drop(naming);
    shared.downloads.remain.notify_one();
}

/// Removes a file that nobody wants after all, for whoever has just put it in its place. An object is among what remains.
pub(super) async fn discard(shared: &Arc<Shared>, place: String) {
    remove(shared, vec![place]).await;
    shared.downloads.remain.notify_one();
}

/// Removes files that the database knows no more. Objects are among what remains, and go with that.
async fn remove(shared: &Arc<Shared>, mut places: Vec<String>) {
    places.retain(|place| !is_object(place));
    if places.is_empty() {
        return;
    }
    let removed = on_depot(shared, move |depot| {
        for place in &places {
            if let Err(error) = depot.shelf().remove(place) {
                // The next start finds it. It keeps no other here.
                tracing::warn!(%error, "a file of the media store could not be removed");
            }
        }
        Ok(())
    });
    if let Err(error) = removed.await {
        tracing::warn!(%error, "files of the media store could not be removed");
    }
}

/// Removes what lies in object stores and belongs to no file, until the session ends. Downloads go on meanwhile, however
/// much that is and however long a store takes.
pub(super) async fn clear(shared: Arc<Shared>) {
    let mut pause = None;
    loop {
        match pause {
            None => shared.downloads.remain.notified().await,
            Some(pause) => tokio::time::sleep(pause).await,
        }
        let longer = pause.map_or(AGAIN, |pause| (2 * pause).min(LONGEST_PAUSE));
        pause = match clear_remains(&shared).await {
            Ok(()) => None,
            Err(Failed) => Some(longer),
        };
    }
}

/// Something could not be removed; the log says what.
struct Failed;

async fn clear_remains(shared: &Arc<Shared>) -> Result<(), Failed> {
    let unknown = |error: StoreError| {
        tracing::warn!(%error, "what remains of media is not known");
        Failed
    };
    let mut failed = HashSet::new();
    for what in shared.store.remains().await.map_err(unknown)? {
        let folder = folder(&what.place).to_owned();
        // Most likely this one could not be removed, either.
        if failed.contains(&folder) {
            continue;
        }
        // Whoever has a file of this content on its way looks after its object himself.
        let Some(_removal) = shared.downloads.begin_removal(content(&what.place)) else {
            continue;
        };
        let still = shared.store.remains_still(what.clone());
        if !still.await.map_err(unknown)? {
            continue;
        }
        let gone = what.clone();
        if let Err(error) = on_depot(shared, move |depot| depot.remove(&gone)).await {
            tracing::warn!(code = error.code(), %error, folder, "an object could not be removed");
            failed.insert(folder);
            continue;
        }
        let noted = shared.store.remains_removed(what);
        noted.await.map_err(unknown)?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failed),
    }
}

/// Does what blocks where that is allowed.
pub(super) async fn on_depot<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Depot) -> Result<T, DepotError> + Send + 'static,
) -> Result<T, DepotError> {
    let owned = shared.clone();
    tokio::task::spawn_blocking(move || work(&*owned.downloads.depot()?))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

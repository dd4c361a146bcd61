//! What leaves the media store: what a kill has left, what is too old, what is too much.
//!
//! Invariant: a file has gone from the database before it goes from its place, and only what the database does not know
//! goes. All this is done by the one task that begins downloads, so that none begins meanwhile.

use std::collections::HashSet;
use std::sync::Arc;

use super::Shared;
use super::download::MediaLimits;
use crate::clock::now;
use crate::media::depot::{Depot, DepotError, folder, is_object};
use crate::media::shelf::content;
use crate::store::Bounds;

const DAY: i64 = 86_400;

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
    clear_remains(shared).await;
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
            return clear_remains(shared).await;
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
    clear_remains(shared).await;
}

/// Removes a file that nobody wants after all, for whoever has just put it in its place.
pub(super) async fn discard(shared: &Arc<Shared>, place: String) {
    let at = place.clone();
    match on_depot(shared, move |depot| depot.remove(&at, None)).await {
        Ok(()) => drop(shared.store.remains_removed(place)),
        // It is found again, as what a kill has left.
        Err(error) => tracing::warn!(code = error.code(), %error, "a file could not be removed"),
    }
}

/// Removes files that the database knows no more. Objects are among what remains, and go with that.
async fn remove(shared: &Arc<Shared>, mut places: Vec<String>) {
    places.retain(|place| !is_object(place));
    if places.is_empty() {
        return;
    }
    let removed = on_depot(shared, move |depot| {
        places
            .iter()
            .try_for_each(|place| depot.remove(place, None))
    });
    if let Err(error) = removed.await {
        // The next start finds it.
        tracing::warn!(%error, "a file of the media store could not be removed");
    }
}

/// Removes what lies in an object store and belongs to no file.
async fn clear_remains(shared: &Arc<Shared>) {
    let mut remains = match shared.store.remains().await {
        Ok(remains) => remains,
        Err(error) => return tracing::warn!(%error, "what remains of media is not known"),
    };
    remains.retain(|(place, _)| {
        content(place).is_none_or(|sha256| !shared.downloads.under_way(&sha256))
    });
    let mut failed = HashSet::new();
    for (place, upload) in remains {
        let folder = folder(&place).to_owned();
        // Most likely this one could not be, either; it is tried again with what is let go then.
        if failed.contains(&folder) {
            continue;
        }
        let at = place.clone();
        let removed = on_depot(shared, move |depot| depot.remove(&at, upload.as_deref())).await;
        if let Err(error) = removed {
            tracing::warn!(code = error.code(), %error, folder, "an object could not be removed");
            failed.insert(folder);
            continue;
        }
        if let Err(error) = shared.store.remains_removed(place).await {
            return tracing::warn!(%error, "that an object is gone could not be noted");
        }
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

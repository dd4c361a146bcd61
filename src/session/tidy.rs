//! What leaves the media store: what a kill has left, what is too old, what is too much.

use std::sync::Arc;

use super::Shared;
use super::download::MediaLimits;
use crate::clock::now;
use crate::media::shelf::Shelf;
use crate::store::Bounds;

const DAY: i64 = 86_400;

/// Removes what a kill has left, once, and what is too old or too much.
pub(super) async fn tidy(shared: &Arc<Shared>, limits: &MediaLimits, first: bool) {
    if first {
        let known = shared.store.places().await;
        let sweeping = shared.clone();
        let swept = match known {
            Ok(known) => {
                tokio::task::spawn_blocking(move || {
                    sweeping
                        .downloads
                        .shelf()?
                        .sweep(&known.into_iter().collect())
                })
                .await
            }
            Err(error) => return tracing::warn!(%error, "the media store cannot be looked through"),
        };
        match swept {
            Ok(Ok(0)) => {}
            Ok(Ok(files)) => tracing::info!(files, "removed what an earlier process left behind"),
            Ok(Err(error)) => tracing::warn!(%error, "the media store cannot be looked through"),
            Err(error) => tracing::warn!(%error, "the media store cannot be looked through"),
        }
    }
    let_go(shared, limits).await;
}

/// Removes what is too old or too much.
pub(super) async fn let_go(shared: &Arc<Shared>, limits: &MediaLimits) {
    let bounds = Bounds {
        before: now().saturating_sub(i64::from(limits.keep_days) * DAY),
        total: limits.keep_bytes,
    };
    loop {
        let _naming = shared.downloads.naming.lock().await;
        let (gone, more) = match shared.store.let_media_go(bounds).await {
            Ok(gone) => gone,
            Err(error) => return tracing::warn!(%error, "old media could not be let go"),
        };
        let Ok(shelf) = shared.downloads.shelf() else {
            return;
        };
        if !gone.is_empty() {
            tracing::info!(files = gone.len(), "media let go");
        }
        for place in gone {
            remove(&shelf, place).await;
        }
        if !more {
            return;
        }
    }
}

/// Removes what was fetched for messages that were refused after all.
pub(super) async fn let_refused_go(shared: &Arc<Shared>) {
    let _naming = shared.downloads.naming.lock().await;
    let gone = match shared.store.let_refused_media_go().await {
        Ok(gone) if gone.is_empty() => return,
        Ok(gone) => gone,
        Err(error) => return tracing::warn!(%error, "refused media could not be let go"),
    };
    let Ok(shelf) = shared.downloads.shelf() else {
        return;
    };
    for place in gone {
        remove(&shelf, place).await;
    }
}

pub(super) async fn remove(shelf: &Arc<Shelf>, place: String) {
    let shelf = shelf.clone();
    let removed = tokio::task::spawn_blocking(move || shelf.remove(&place)).await;
    if let Ok(Err(error)) = removed {
        // The next start finds it.
        tracing::warn!(%error, "a file of the media store could not be removed");
    }
}

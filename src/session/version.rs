//! Which version of WhatsApp Web to present.
//!
//! WhatsApp turns away versions that are too old, and asking which one is new takes seconds and may fail. So the answer
//! is kept in `channel.db`, renewed once a day behind a connection that stands, and never a reason not to connect.

use std::sync::Arc;
use std::time::Duration;

use wacore::net::HttpClient;
use whatsapp_rust::version::fetch_latest_app_version;

use super::Shared;
use super::client::{self, WebVersion};
use super::endpoint::Http;
use crate::clock::now;
use crate::store::Store;

/// How long an answer is taken for new, seconds.
const FRESH: i64 = 24 * 3600;
/// How long WhatsApp may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The operator's choice, else the newer of what WhatsApp last said and what the library was made for.
pub(super) async fn current(shared: &Shared) -> WebVersion {
    if let Some(chosen) = shared.web_version {
        return chosen;
    }
    known(&shared.store).await
}

/// The newer of what WhatsApp last said and what the library was made for.
pub(super) async fn known(store: &Store) -> WebVersion {
    let built_in = client::built_in_version();
    match store.web_version().await {
        Ok(Some((said, _))) => said.max(built_in),
        _ => built_in,
    }
}

/// Asks again in the background if the last answer is old. Only WhatsApp's own server is asked, and only for a session
/// that talks to it.
pub(super) fn refresh(shared: &Arc<Shared>) {
    if !asks(shared) {
        return;
    }
    let shared = shared.clone();
    tokio::spawn(async move {
        let last = shared.store.web_version().await.ok().flatten();
        if last.is_none_or(|(_, at)| now() - at > FRESH) {
            ask(&shared).await;
        }
    });
}

/// Whether WhatsApp names a newer version than the one that it has just turned away.
pub(super) async fn is_newer_to_be_had(shared: &Shared) -> bool {
    let refused = current(shared).await;
    asks(shared) && ask(shared).await.is_some_and(|said| said > refused)
}

fn asks(shared: &Shared) -> bool {
    shared.web_version.is_none() && shared.endpoint.is_whatsapp()
}

async fn ask(shared: &Shared) -> Option<WebVersion> {
    let http: Arc<dyn HttpClient> = Arc::new(Http::new());
    let answer = tokio::time::timeout(PATIENCE, fetch_latest_app_version(&http)).await;
    match answer {
        Ok(Ok(version)) => {
            if let Err(error) = shared.store.set_web_version(version, now()).await {
                tracing::warn!(%error, "the version of WhatsApp Web could not be kept");
            }
            Some(version)
        }
        Ok(Err(error)) => {
            tracing::info!(%error, "the version of WhatsApp Web could not be looked up");
            None
        }
        Err(_) => None,
    }
}

//! Builds a client of the library on an account's store: the settings that every connection shares.

use std::path::Path;
use std::sync::Arc;

use wacore::store::DevicePropsOverride;
use wacore::types::events::EventHandler;
use waproto::whatsapp::device_props::PlatformType;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::{CacheConfig, Client, InboundDurabilityHook};

use super::SessionError;
use super::backend::Backend;
use super::barrier::Barrier;
use super::endpoint::{Dialler, Endpoint, Http};
use super::runtime::CurrentThread;

/// A phone that was away asks late for a resend, and only the sender can give it. The library's own two hours
/// would leave it on "waiting for this message" for good.
const SENT_MESSAGE_TTL_SECS: u64 = 14 * 24 * 3600;

/// A version of WhatsApp Web, as its three numbers.
pub type WebVersion = (u32, u32, u32);

/// Opens the library's database. `synchronous=FULL`: a ratchet that went on the wire must survive a power cut.
pub(super) async fn open_store(path: &Path) -> Result<SqliteStore, SessionError> {
    let config = SqliteStoreConfig {
        synchronous: Synchronous::Full,
        ..Default::default()
    };
    let url = path.to_str().ok_or_else(|| SessionError::Store {
        path: path.to_owned(),
        detail: "its path is not valid UTF-8".into(),
    })?;
    SqliteStore::with_config(url, config)
        .await
        .map_err(|error| SessionError::Store {
            path: path.to_owned(),
            detail: error.to_string(),
        })
}

/// What differs between clients.
pub(super) struct Setup<'a> {
    pub backend: Backend,
    pub endpoint: &'a Endpoint,
    pub barrier: Barrier,
    pub version: WebVersion,
    /// Name in WhatsApp's list of linked devices; used when linking.
    pub device_name: &'a str,
}

/// A client that connects once: reconnecting is the supervisor's, which builds a new one.
pub(super) async fn build(
    setup: Setup<'_>,
    hook: impl InboundDurabilityHook + 'static,
    events: impl EventHandler + 'static,
) -> Result<Bot, SessionError> {
    let bot = Bot::builder()
        .with_backend_arc(Arc::new(setup.backend))
        .with_transport_factory(Dialler::new(setup.endpoint.clone(), setup.barrier))
        .with_http_client(Http::new())
        .with_runtime(CurrentThread)
        .with_version(setup.version)
        .with_device_props(
            DevicePropsOverride::new()
                .with_os(setup.device_name)
                .with_platform_type(PlatformType::CHROME),
        )
        .skip_history_sync()
        .with_cache_config(CacheConfig {
            sent_message_ttl_secs: SENT_MESSAGE_TTL_SECS,
            ..Default::default()
        })
        .with_inbound_durability_hook(hook)
        .with_event_handler(events)
        .build()
        .await
        .map_err(|error| SessionError::Client(error.to_string()))?;
    configure(&bot.client());
    Ok(bot)
}

fn configure(client: &Arc<Client>) {
    client
        .enable_auto_reconnect
        .store(false, std::sync::atomic::Ordering::Relaxed);
    // Else receipts go out as `inactive` while presence is unavailable, and senders never see their second tick.
    client.set_force_active_delivery_receipts(true);
}

/// The version of WhatsApp Web that the library was made for.
pub(super) fn built_in_version() -> WebVersion {
    let device = wacore::store::Device::new();
    (
        device.app_version_primary,
        device.app_version_secondary,
        device.app_version_tertiary,
    )
}

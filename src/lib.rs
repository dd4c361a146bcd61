//! WhatsApp channel plugin for the Dispatch agent host.

pub mod account;
pub mod access;
pub mod config;
pub mod identity;
pub mod inbound;
pub mod protocol;
pub mod session;
pub mod store;

/// Version of this binary, with the commit it was built from where that is known.
pub const VERSION: &str = env!("CHANNEL_WHATSAPP_VERSION");

//! WhatsApp channel plugin for the Dispatch agent host.

pub mod identity;
pub mod inbound;
pub mod store;

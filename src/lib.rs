//! WhatsApp channel plugin for the Dispatch agent host.

pub mod identity;

//! WhatsApp channel plugin for the Dispatch agent host.

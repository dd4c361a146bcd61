//! WhatsApp channel plugin for the Dispatch agent host.
//!
//! A message takes one way through each line of rooms, and a room knows the next one, never the one before it:
//!
//! ```text
//! WhatsApp ─▶ session ─▶ inbound ─▶ store (commit) ─▶ acknowledged to WhatsApp
//!                                   store ─▶ access ─▶ serve ─▶ stdout ─▶ host
//! host ─▶ stdin ─▶ serve ─▶ access ─▶ outbound ─▶ store (ids) ─▶ session ─▶ WhatsApp
//! ```
//!
//! [`inbound`], [`outbound`] and [`access`] are pure: values in, values out. Only [`session`] knows the WhatsApp
//! library's client, only [`store`] knows SQL, only [`serve`] knows stdin and stdout. The store is the middle: what
//! comes in ends there, what goes out starts there, so either side can die at any instant. [`identity`] alone knows
//! how phone numbers, JIDs and LIDs are written; [`protocol`] is the host's wire; [`config`] what the host says we
//! are to do; [`media`] what the bytes of attachments are and where they lie; [`account`] where an account's files are and who owns its connection; [`cli`] the commands.

pub mod access;
pub mod account;
pub mod cli;
mod clock;
pub mod config;
mod crash;
pub mod identity;
pub mod inbound;
pub mod media;
pub mod outbound;
mod platform;
pub mod protocol;
pub mod serve;
pub mod session;
pub mod store;

/// Version of this binary, with the commit it was built from where that is known.
pub const VERSION: &str = env!("CHANNEL_WHATSAPP_VERSION");

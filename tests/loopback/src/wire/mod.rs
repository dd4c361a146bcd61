//! What goes over the socket below the stanzas: the intro, frames, the Noise handshake, and reading nodes.

pub mod cert;
pub mod frames;
pub mod handshake;
pub mod node;

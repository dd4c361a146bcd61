//! The bytes of attachments: what they are, and where they lie until they have gone.
//!
//! Invariant: nothing that comes with a file is trusted. What it is follows from its bytes; its name is never a path;
//! what is read of it at once, and for how long, has bounds of ours. Everything here blocks, and belongs on a thread
//! where that is allowed.

mod base64;
pub mod name;
pub mod probe;
pub mod seal;
pub mod stage;
pub mod url;

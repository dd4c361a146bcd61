//! The loop over stdin and stdout: the host's requests in, answers and events out.
//!
//! A reader thread, where the router hands each request to the thread of its account, and the way to stdout, which takes
//! whole lines from all of them. Requests are served side by side, and each is answered when it is done. Nothing but
//! whole protocol lines is ever written to stdout.

mod account;
mod answer;
mod attached;
mod attachments;
mod court;
mod emit;
mod exchange;
mod fetching;
mod happening;
mod ingress;
mod jobs;
mod mentions;
mod outcome;
mod outgoing;
mod passing;
mod polls;
pub mod reader;
mod reading;
mod reload;
mod report;
mod router;
mod sending;
mod staging;
mod typing;
mod wait;
pub mod writer;

pub use fetching::fetch_media;
pub use reload::{Reloaded, reload};
pub use report::{OwnersWord, owners_word};
pub use router::run;

//! What a message meets on its way to a verdict, for people who ask why.
//!
//! Invariant: keys of the configuration, places in its lists and words of ours, never text, numbers or names of people,
//! so it may be stored and shown.

use std::fmt::Display;

use super::position;
use crate::identity::{Address, IdEntry};
use crate::store::Gate;

/// The gates met so far.
#[derive(Debug, Default)]
pub(super) struct Trail(Vec<Gate>);

impl Trail {
    pub(super) fn note(&mut self, gate: &str, said: impl Display) {
        self.0.push(Gate::new(gate, said));
    }

    /// Looks for a person or chat in a list, see [`position`], and notes where it was found.
    pub(super) fn listed(
        &mut self,
        gate: &str,
        entries: &[IdEntry],
        addresses: &[Address],
        any: bool,
    ) -> Option<usize> {
        let at = position(entries, addresses, any);
        match at {
            Some(at) => self.note(gate, format_args!("[{at}]")),
            None => self.note(gate, "no entry"),
        }
        at
    }

    pub(super) fn gates(self) -> Vec<Gate> {
        self.0
    }
}

//! What the server was asked lately without telling: it is not asked again at once, whoever writes how often.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::Address;

/// So long it is not asked again.
const AGAIN: Duration = Duration::from_secs(600);

/// Of whom the server told nothing, and when.
#[derive(Default)]
pub(super) struct InVain(Mutex<HashMap<Address, Instant>>);

impl InVain {
    pub(super) fn has(&self, address: &Address) -> bool {
        self.lock()
            .get(address)
            .is_some_and(|at| at.elapsed() < AGAIN)
    }

    pub(super) fn note(&self, address: &Address) {
        let mut in_vain = self.lock();
        in_vain.retain(|_, at| at.elapsed() < AGAIN);
        in_vain.insert(address.clone(), Instant::now());
    }

    pub(super) fn forget(&self, address: &Address) {
        self.lock().remove(address);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

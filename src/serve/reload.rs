//! Other settings for an ingress that another process runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::ingress::Running;
use super::passing::{self, Asked, Said};
use crate::access::Policy;
use crate::account::{InUse, OwnerLock, Paths, socket};
use crate::config::Config;
use crate::protocol::jsonrpc::WireError;

/// An ingress that is just starting may take a while until it can be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a reload did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys that differ from before and hold now.
    pub changed: Vec<String>,
    /// Keys that differ and need a new start.
    pub at_next_start: Vec<String>,
}

/// Has the process that receives for this account apply `config`.
///
/// # Errors
/// `not_running` if there is none, `invalid_config` and `policy_required` if it finds the settings wrong.
pub fn reload(paths: &Paths, config: Value) -> Result<Reloaded, WireError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| WireError::new("internal_error", error))?;
    runtime.block_on(ask(paths, config))
}

async fn ask(paths: &Paths, config: Value) -> Result<Reloaded, WireError> {
    let deadline = Instant::now() + PATIENCE;
    let name = match OwnerLock::owner(paths) {
        Ok(()) => None,
        Err(InUse::Owned { pid, socket, .. }) => match (pid, socket) {
            (_, Some(name)) => Some(name),
            // The file cannot be read now: on Windows never while somebody has its lock.
            (None, None) => socket::name(paths).ok(),
            (Some(_), None) => None,
        },
        Err(error) => return Err(error.into()),
    };
    let Some(name) = name else {
        return Err(not_running());
    };
    match passing::ask(&name, &Asked::Reload(config), deadline).await? {
        Some(Said::Reloaded(done)) => Ok(done),
        Some(Said::Failed(error)) => Err(error),
        // It has just left.
        _ => Err(not_running()),
    }
}

/// The owner's side.
pub(super) async fn apply(
    running: &Running,
    config: Value,
    deadline: Instant,
) -> Result<Reloaded, WireError> {
    let config = Config::parse(&config)?.config;
    Policy::new(&config).ingress()?;
    // Held while an ingress starts or stops.
    let running = tokio::time::timeout_at(deadline, running.lock())
        .await
        .map_err(|_| not_running())?;
    match &*running {
        Some(ingress) => Ok(ingress.configure(config.into())),
        None => Err(not_running()),
    }
}

fn not_running() -> WireError {
    WireError::new(
        "not_running",
        "no process receives for this account with start_ingress now; the settings that the host gives apply at the \
         next start",
    )
}

//! Takes this device off the account's list of linked devices.
//!
//! Invariant: it counts as done only when WhatsApp has said so, by its answer or by sending the device away. What
//! arrives meanwhile is kept like any other message, since the removal may fail; nothing is sent.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wacore::iq::devices::RemoveCompanionDeviceSpec;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use whatsapp_rust::client::NodeFilter;

use super::backend::Backend;
use super::barrier::Barrier;
use super::client::{self, Setup};
use super::receive::Inbox;
use super::{Endpoint, SessionError, Terminal, TerminalKind, attempt, version};
use crate::account::Paths;
use crate::store::Store;

/// Logs the device out whose owner lock the caller holds. Its files stay as they are.
///
/// # Errors
/// When WhatsApp cannot be reached until `deadline`, or does not do it; then the device is as linked as before.
pub async fn log_out(paths: &Paths, store: &Store, deadline: Instant) -> Result<(), SessionError> {
    let endpoint = Endpoint::from_env()?;
    let sqlite = client::open_store(paths.store()).await?;
    let setup = Setup {
        backend: Backend::new(sqlite, store.clone(), Arc::default()),
        endpoint: &endpoint,
        version: version::known(store).await,
        device_name: "",
        barrier: Barrier::default(),
    };
    let (events, mut heard) = mpsc::unbounded_channel();
    let bot = client::build(setup, Inbox::new(store.clone()), Forward(events)).await?;
    let client = bot.client();
    let logged_in = client.wait_for_node(NodeFilter::tag("success"));
    let removed = async {
        if logged_in.await.is_err() {
            return std::future::pending().await;
        }
        let device = client.pn().ok_or(SessionError::NotLinked)?;
        let asked = client
            .execute(RemoveCompanionDeviceSpec::new(&device))
            .await;
        asked
            .map(drop)
            .map_err(|error| unreachable(error.to_string()))
    };
    let mut run = std::pin::pin!(bot.run());
    let ended = tokio::select! {
        // The answer may be overtaken by the end of the stream, which says the same.
        biased;
        ended = end(&mut heard) => Some(ended),
        removed = removed => Some(removed),
        () = &mut run => None,
        () = tokio::time::sleep_until(deadline) => Some(Err(unreachable("no answer in time".to_owned()))),
    };
    let ended = match ended {
        Some(ended) => {
            attempt::finish(&client, run).await;
            ended
        }
        None => Err(unreachable(format!(
            "no connection to {}",
            endpoint.authority()
        ))),
    };
    let ended = match (ended, heard.try_recv()) {
        (Err(error), Ok(seen)) if !matches!(error, SessionError::Ended(_)) => seen.outcome(),
        (ended, _) => ended,
    };
    if let Err(SessionError::Ended(terminal)) = &ended {
        // Nobody connects during a ban, the next try neither.
        store.set_terminal(Some(terminal.clone().into())).await?;
    }
    ended
}

fn unreachable(reason: String) -> SessionError {
    SessionError::Unreachable { reason }
}

/// What decides how it ends.
enum Seen {
    /// The device is no longer one of the account's.
    Gone,
    /// It may not connect.
    Ended(Terminal),
    Refused(String),
}

impl Seen {
    fn outcome(self) -> Result<(), SessionError> {
        match self {
            Self::Gone => Ok(()),
            Self::Ended(terminal) => Err(SessionError::Ended(terminal)),
            Self::Refused(reason) => Err(unreachable(reason)),
        }
    }
}

/// Until WhatsApp sends the device away.
async fn end(heard: &mut mpsc::UnboundedReceiver<Seen>) -> Result<(), SessionError> {
    match heard.recv().await {
        Some(seen) => seen.outcome(),
        None => std::future::pending().await,
    }
}

struct Forward(mpsc::UnboundedSender<Seen>);

impl EventHandler for Forward {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::LoggedOut,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ClientOutdated,
            EventKind::ConnectFailure,
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        let seen = match (attempt::terminal(&event), &*event) {
            (Some(terminal), _) if terminal.kind == TerminalKind::LoggedOut => Seen::Gone,
            (Some(terminal), _) => Seen::Ended(terminal),
            (None, Event::ConnectFailure(failure)) => Seen::Refused(attempt::refusal(failure)),
            (None, _) => return,
        };
        let _ = self.0.send(seen);
    }
}

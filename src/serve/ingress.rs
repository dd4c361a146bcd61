//! `start_ingress`, `stop_ingress` and `poll_ingress`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::{Account, Open};
use super::answer::Answer;
use super::emit::{self, Emitter};
use crate::access::Policy;
use crate::account::Role;
use crate::config::Config;
use crate::protocol::PLATFORM;
use crate::protocol::event::{IngressMode, IngressState};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::Response;
use crate::session::Connection;
use crate::store::{Begun, Mode, StoreError};

/// The name of the cursor in the state's metadata.
const CURSOR: &str = "cursor";
/// How long `stop_ingress` lets the connection finish; the host waits 30 s.
const STOP: Duration = Duration::from_secs(10);
/// How long `start_ingress` waits to be able to answer `running`; its answer is due within 2 s.
const START: Duration = Duration::from_millis(500);

/// A running `start_ingress`.
pub(super) struct Ingress {
    settings: watch::Sender<Arc<Config>>,
    stopping: watch::Sender<bool>,
    cursor: watch::Receiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Ingress {
    /// Ends emission between two events.
    pub(super) async fn stop(self) -> String {
        self.stopping.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "emission ended unexpectedly");
        }
        self.cursor.borrow().clone()
    }

    /// Applies other settings from the next event on.
    pub(super) fn configure(&self, config: Arc<Config>) {
        self.settings.send_replace(config);
    }
}

/// The state that travels with events and answers.
pub(super) fn state(status: &str, cursor: &str) -> IngressState {
    let metadata = [
        (CURSOR, cursor),
        ("platform", PLATFORM),
        ("transport", "websocket"),
    ];
    IngressState {
        mode: IngressMode::Websocket,
        status: status.to_owned(),
        metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

fn cursor(state: &Option<IngressState>) -> Option<&str> {
    state.as_ref()?.metadata.get(CURSOR).map(String::as_str)
}

/// Answers, then emits until it is stopped. Events never come before the answer: the host would take them for it.
pub(super) async fn start(
    account: &Arc<Account>,
    config: Arc<Config>,
    restored: Option<IngressState>,
    answer: Answer,
) {
    if let Err(error) = Policy::new(&config).ingress() {
        return answer.send(Err(error.into())).await;
    }
    // Held to the end, so that of two starts the second finds the first one's emission.
    let mut slot = account.ingress.lock().await;
    // A host that starts again without having stopped has lost its place; the old emission ends first.
    if let Some(running) = slot.take() {
        running.stop().await;
    }
    match begin(account, &config, &restored).await {
        Ok((open, begun)) => {
            account.process.set_persistent();
            let mut connection = open.session.connection();
            let running = connection.wait_for(|now| *now != Connection::Connecting);
            let _ = tokio::time::timeout(START, running).await;
            let status = match &*open.session.connection().borrow() {
                Connection::Online => "running",
                _ => "connecting",
            };
            let state = state(status, &begun.cursor);
            answer.send(Ok(Response::IngressStarted { state })).await;
            *slot = Some(follow(account, open, config, begun));
        }
        Err(error) => answer.send(Err(error)).await,
    }
}

async fn begin(
    account: &Arc<Account>,
    config: &Config,
    restored: &Option<IngressState>,
) -> Result<(Open, Begun), WireError> {
    let open = account.open(config, Role::Persistent).await?;
    let now = chrono::Utc::now().timestamp();
    let begun = open
        .store
        .begin_session(Mode::Websocket, cursor(restored), now)
        .await?;
    if begun.unconfirmed + begun.poisoned > 0 {
        tracing::warn!(
            unconfirmed = begun.unconfirmed,
            poisoned = begun.poisoned,
            "some events of earlier sessions are not sent again by themselves"
        );
    }
    Ok((open, begun))
}

fn follow(account: &Arc<Account>, open: Open, config: Arc<Config>, begun: Begun) -> Ingress {
    let (settings, settings_seen) = watch::channel(config);
    let (stopping, stopping_seen) = watch::channel(false);
    let (cursor, cursor_seen) = watch::channel(begun.cursor);
    let emitter = Emitter {
        account: account.clone(),
        open,
        session: begun.session,
        settings: settings_seen,
        stopping: stopping_seen,
        cursor,
    };
    let task = tokio::spawn(emitter.run());
    Ingress {
        settings,
        stopping,
        cursor: cursor_seen,
        task,
    }
}

/// Stops emission, disconnects, lets the next owner in.
pub(super) async fn stop(
    account: &Arc<Account>,
    given: Option<IngressState>,
) -> Result<Response, WireError> {
    let mut last = cursor(&given).unwrap_or_default().to_owned();
    if let Some(open) = account.opened().await {
        open.store.prove_up_to(&last).await?;
    }
    if let Some(ingress) = account.ingress.lock().await.take() {
        last = ingress.stop().await;
    }
    account.close(STOP).await;
    Ok(Response::IngressStopped {
        state: state("stopped", &last),
    })
}

/// Connects, receives what waits, disconnects, answers with one batch.
pub(super) async fn poll(
    account: &Arc<Account>,
    config: &Config,
    restored: Option<IngressState>,
    answer: Answer,
) {
    match batch(account, config, &restored).await {
        Ok((response, written)) => {
            answer.send_flushed(Ok(response)).await;
            if let Err(error) = written.await {
                tracing::error!(%error, "the batch could not be marked as written");
            }
        }
        Err(error) => answer.send(Err(error)).await,
    }
}

async fn batch(
    account: &Arc<Account>,
    config: &Config,
    restored: &Option<IngressState>,
) -> Result<
    (
        Response,
        impl Future<Output = Result<(), StoreError>> + use<>,
    ),
    WireError,
> {
    Policy::new(config).ingress()?;
    if account.ingress.lock().await.is_some() {
        return Err(WireError::new(
            "session_in_use",
            "this process already receives this account's messages with start_ingress; stop that first",
        ));
    }
    let deadline = Instant::now() + Duration::from_secs(config.poll_timeout_secs.into());
    let open = account.open(config, Role::OneShot).await?;
    let begun = open
        .store
        .begin_session(
            Mode::Polling,
            cursor(restored),
            chrono::Utc::now().timestamp(),
        )
        .await?;
    let connected = open.session.online(deadline).await;
    if connected.is_ok() {
        idle(
            &open,
            Duration::from_millis(config.poll_idle_ms.into()),
            deadline,
        )
        .await;
    }
    let store = open.store.clone();
    drop(open);
    account.close(STOP).await;
    let linked = account.linked()?;
    let (events, last) = emit::batch(&store, begun.session, config, &linked).await?;
    if let (true, Err(error)) = (events.is_empty(), connected) {
        return Err(error.into());
    }
    let cursor = last.map_or(begun.cursor, |number| store.cursor(number));
    let response = Response::IngressEventsReceived {
        events,
        state: Some(state("running", &cursor)),
    };
    // An empty batch has nothing to be written.
    let last = last.unwrap_or_default();
    Ok((response, async move {
        store.mark_written(begun.session, last).await
    }))
}

/// Until nothing came from WhatsApp for `quiet`, or the time is up.
async fn idle(open: &Open, quiet: Duration, deadline: Instant) {
    let mut heard = open.session.heard();
    let mut connection = open.session.connection();
    loop {
        let until = (*heard.borrow_and_update() + quiet).min(deadline);
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = heard.changed() => if changed.is_err() { return },
            lost = connection.wait_for(|now| *now != Connection::Online) => {
                drop(lost);
                return;
            }
        }
    }
}

//! `start_ingress`, `stop_ingress` and `poll_ingress`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::account::{Account, Open};
use super::answer::Answer;
use super::attached;
use super::emit::{self, Court, Emitter};
use super::reload::Reloaded;
use super::typing;
use crate::access::Policy;
use crate::account::{OwnerLock, Role};
use crate::config::{Config, ReadReceipts};
use crate::protocol::PLATFORM;
use crate::protocol::event::{InboundEvent, IngressMode, IngressState};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::Response;
use crate::session::{Connection, Session};
use crate::store::{Begun, Mode, SessionId, Store};

/// The name of the cursor in the state's metadata.
const CURSOR: &str = "cursor";
/// The name there of the event that a state comes with.
pub(super) const EVENT: &str = "event";
/// How long `stop_ingress` lets the connection finish; the host waits 30 s.
const STOP: Duration = Duration::from_secs(10);
/// What a poller gives WhatsApp to say who somebody is, and the answers to strangers and readers to arrive there.
const GREET: Duration = Duration::from_secs(5);
/// How long `start_ingress` waits to be able to answer `running`; its answer is due within 2 s.
const START: Duration = Duration::from_millis(500);

/// The ingress of this process, if it runs one; shared with those that reach it from other processes.
pub(super) type Running = Arc<Mutex<Option<Ingress>>>;

/// A running `start_ingress`.
pub(super) struct Ingress {
    settings: watch::Sender<Arc<Config>>,
    stopping: watch::Sender<bool>,
    told: watch::Receiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Ingress {
    /// Ends emission between two lines; the cursor that the host was given last.
    pub(super) async fn stop(self) -> String {
        self.stopping.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "emission ended unexpectedly");
        }
        self.told.borrow().clone()
    }

    /// Applies other settings from the next event on, and says which they are.
    pub(super) fn configure(&self, config: Arc<Config>) -> Reloaded {
        let old = self.settings.send_replace(config.clone());
        let changes = old.changes(&config).into_iter().map(str::to_owned);
        let (at_next_start, changed) = changes.partition(|key| Config::is_for_start(key));
        Reloaded {
            changed,
            at_next_start,
        }
    }
}

/// The state that travels with events and answers. It names no event.
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
    fact(state, CURSOR)
}

fn fact<'a>(state: &'a Option<IngressState>, name: &str) -> Option<&'a str> {
    state.as_ref()?.metadata.get(name).map(String::as_str)
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
    let open = account
        .open_for_ingress(config, Role::Persistent, Duration::ZERO)
        .await?;
    let now = crate::clock::now();
    let begun = open
        .store
        .begin_session(
            Mode::Websocket,
            cursor(restored),
            fact(restored, EVENT),
            now,
        )
        .await?;
    // The configuration may be another one than that under which they were kept.
    open.store.judge_held_again(now).await?;
    forget(&open.store, config);
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
    let (told, told_seen) = watch::channel(begun.cursor);
    let session = open.session.clone();
    let typing = typing::follow(open.clone(), settings_seen.clone());
    let emitter = Emitter {
        account: account.clone(),
        open,
        session: begun.session,
        settings: settings_seen,
        stopping: stopping_seen,
        told,
    };
    let account = account.clone();
    let task = tokio::spawn(async move {
        let typing = tokio::spawn(typing);
        if let Err(error) = tokio::spawn(emitter.run()).await {
            // Events would wait unseen behind a session that looks well.
            tracing::error!(%error, "emission ended unexpectedly");
            (account.fatal)();
        }
        typing.abort();
        // What it shows is taken back with it; who sent status frames is gone as well.
        let _ = typing.await;
        session.end_frames();
    });
    Ingress {
        settings,
        stopping,
        told: told_seen,
        task,
    }
}

/// Stops emission, disconnects, lets the next owner in. The cursor in the answer is the one that the host has: what
/// was only written is no evidence.
pub(super) async fn stop(account: &Arc<Account>, given: Option<IngressState>) -> Response {
    let mut last = cursor(&given).map(str::to_owned);
    if let (Some(open), Some(cursor)) = (account.opened().await, &last)
        && let Err(error) = open.store.prove_up_to(cursor).await
    {
        tracing::error!(%error, "the evidence of the last cursor is lost");
    }
    if let Some(ingress) = account.ingress.lock().await.take() {
        let told = ingress.stop().await;
        last = last.or(Some(told));
    }
    account.close(STOP).await;
    Response::IngressStopped {
        state: state("stopped", &last.unwrap_or_default()),
    }
}

/// Connects, receives what waits, disconnects, answers with one batch. The next owner is let in once the batch is
/// marked as written: before that it would take these events for its own.
pub(super) async fn poll(
    account: &Arc<Account>,
    config: &Config,
    restored: Option<IngressState>,
    answer: Answer,
) {
    let batch = match batch(account, config, &restored).await {
        Ok(batch) => batch,
        Err(error) => return answer.send(Err(error)).await,
    };
    let response = Response::IngressEventsReceived {
        events: batch.events,
        state: Some(state("running", &batch.cursor)),
    };
    if answer.send_flushed(Ok(response)).await
        && let Some((first, last)) = batch.numbers
    {
        given(&batch.store, config, first, last);
        if let Err(error) = batch.store.mark_written(batch.session, last).await {
            tracing::error!(%error, "the batch could not be marked as written");
        }
    }
}

/// Has events that the host was given marked as read, if that is wished.
pub(super) fn given(store: &Store, config: &Config, first: i64, last: i64) {
    if config.read_receipts == ReadReceipts::Received {
        // Nobody waits for it; what is lost is marked with the chat's next message.
        drop(store.want_read(first, last));
    }
}

/// The events of one poll, and what it takes to close it.
struct Batch {
    events: Vec<InboundEvent>,
    /// Numbers of the first event and of the last.
    numbers: Option<(i64, i64)>,
    cursor: String,
    session: SessionId,
    store: Store,
    _lock: Arc<OwnerLock>,
}

async fn batch(
    account: &Arc<Account>,
    config: &Config,
    restored: &Option<IngressState>,
) -> Result<Batch, WireError> {
    Policy::new(config).ingress()?;
    if account.ingress.lock().await.is_some() {
        return Err(WireError::new(
            "session_in_use",
            "this process already receives this account's messages with start_ingress; stop that first",
        ));
    }
    let timeout = Duration::from_secs(config.poll_timeout_secs.into());
    let Open {
        linked,
        store,
        session,
        lock: _lock,
    } = account
        .open_for_ingress(config, Role::OneShot, timeout + STOP)
        .await?;
    let deadline = Instant::now() + timeout;
    let begun = store
        .begin_session(
            Mode::Polling,
            cursor(restored),
            fact(restored, EVENT),
            crate::clock::now(),
        )
        .await?;
    store.judge_held_again(crate::clock::now()).await?;
    forget(&store, config);
    let heard = session.heard();
    let folder = account.paths.media();
    // From the beginning: a poll that fetches nothing has time to let go of what is too old or too much.
    attached::govern(&session, &config.media);
    let connected = session.online(deadline).await;
    let court = Court {
        store: &store,
        session: begun.session,
        config,
        linked: &linked,
        folder: &folder,
        whatsapp: &session,
    };
    if connected.is_ok() {
        idle(
            &session,
            Duration::from_millis(config.poll_idle_ms.into()),
            deadline,
        )
        .await;
        court.greet(deadline.min(Instant::now() + GREET)).await?;
        attached::fetch(&court, deadline).await?;
        // What is cut off here begins anew in the next poll.
        session.media_arrive(deadline).await;
    }
    account.close(STOP).await;
    let (events, numbers) = emit::batch(&court).await?;
    // A queue that was too long for the time is no connection that failed.
    let nothing_came = !heard.has_changed().unwrap_or(true);
    if let (true, true, Err(error)) = (events.is_empty(), nothing_came, connected) {
        return Err(error.into());
    }
    let cursor = numbers.map_or(begun.cursor, |(_, last)| store.cursor(last));
    Ok(Batch {
        events,
        numbers,
        cursor,
        session: begun.session,
        store,
        _lock,
    })
}

/// What was to be marked as read under other settings is not, once nothing is to be.
fn forget(store: &Store, config: &Config) {
    if config.read_receipts == ReadReceipts::Off {
        drop(store.forget_reads());
    }
}

/// Until nothing came from WhatsApp for `quiet`, or the time is up.
async fn idle(session: &Session, quiet: Duration, deadline: Instant) {
    let mut heard = session.heard();
    let mut connection = session.connection();
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

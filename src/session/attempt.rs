//! One connection, from dialling to its end, and what it says of how to go on.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wacore::net::DisconnectReason;
use wacore::types::events::{
    ConnectFailure, ConnectFailureReason, Event, EventHandler, EventInterest, EventKind,
};
use whatsapp_rust::{Client, client::NodeFilter};

use super::client::{self, Setup};
use super::state::{Connection, Terminal, TerminalKind};
use super::{Shared, address, again, groups, happenings, version};
use crate::clock::{now, now_ms};
use crate::inbound::events::{Notice, notices};
use crate::store::StoreError;

/// A connection that lived this long resets the delay.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// An offline queue from which nothing came for this long is stuck. The library would take it for received after a
/// minute, and what is left of it would wait for the next login (whatsapp-rust #1377).
const STALLED: Duration = Duration::from_secs(45);

/// How long a connection may take to end by itself. The library gives what is under way five seconds.
const FINISH: Duration = Duration::from_secs(20);

/// How one connection ended.
pub(super) enum Ended {
    /// We were asked to.
    Closed,
    /// It must not be tried again.
    Terminal(Terminal),
    Lost {
        pause: Pause,
        /// It had been up for long enough to begin again with short delays.
        stable: bool,
        reason: String,
    },
}

impl Ended {
    fn failed(reason: String) -> Self {
        Self::Lost {
            pause: Pause::Backoff,
            stable: false,
            reason,
        }
    }
}

/// How soon the next attempt may be.
pub(super) enum Pause {
    None,
    Backoff,
    RateLimited,
}

/// What the library reports of one connection, in order.
enum Signal {
    /// There is an offline queue, which begins now.
    Draining,
    Ready,
    Available,
    Terminal(Terminal),
    Failed(String),
    Lost(DisconnectReason),
    StreamError(String),
    Unhooked(wacore::types::events::MessageBatch),
    Happened(Vec<Notice>),
}

pub(super) async fn connect_once(shared: &Arc<Shared>) -> Ended {
    if let Err(error) = shared.inbox.settle().await {
        return Ended::failed(error.to_string());
    }
    let (signals, mut heard) = mpsc::unbounded_channel();
    let setup = Setup {
        backend: shared.backend.clone(),
        endpoint: &shared.endpoint,
        barrier: shared.barrier.clone(),
        version: version::current(shared).await,
        device_name: "",
    };
    let handler = Handler {
        shared: Arc::downgrade(shared),
        signals: signals.clone(),
    };
    let built = client::build(setup, shared.inbox.clone(), handler).await;
    let bot = match built {
        Ok(bot) => bot,
        Err(error) => {
            return Ended::failed(error.to_string());
        }
    };
    let client = bot.client();
    watch_stream_errors(&client, signals);
    let mut closing = shared.closing.subscribe();
    let mut trouble = shared.store.space().trouble();
    let mut failed = shared.inbox.failed.subscribe();
    failed.mark_unchanged();
    let mut last_heard = shared.inbox.heard.subscribe();
    let mut last = Seen::default();
    let mut run = std::pin::pin!(bot.run());
    let ended = loop {
        tokio::select! {
            biased;
            Some(signal) = heard.recv() => last.take(shared, &client, signal).await,
            () = &mut run => break None,
            error = unusable(&mut trouble) => break Some(Ended::failed(error.to_string())),
            // Not acknowledged, so it comes again, once there is a place for it.
            reason = refused(&mut failed) => break Some(Ended::failed(reason)),
            missed = shared.backend.pending.missed() => {
                let client = client.clone();
                tokio::spawn(async move { again::ask(&client, &missed).await });
            }
            () = stalled(&mut last_heard), if last.draining && last.ready.is_none() => {
                break Some(Ended::failed("the offline queue stopped in the middle".to_owned()));
            }
            () = told(&mut closing) => break Some(Ended::Closed),
        }
    };
    if ended.is_some() {
        finish(&client, run).await;
    }
    // What was reported before the end decides how it ended, unless we ended it; and what came past the hook is not
    // sent a second time.
    while let Ok(signal) = heard.try_recv() {
        if ended.is_none() || matches!(signal, Signal::Unhooked(_)) {
            last.take(shared, &client, signal).await;
        }
    }
    ended.unwrap_or_else(|| last.ended(shared))
}

/// Until nothing more can be stored.
async fn unusable(trouble: &mut watch::Receiver<Option<StoreError>>) -> StoreError {
    match trouble.wait_for(Option::is_some).await {
        Ok(found) => found.clone().unwrap_or(StoreError::Stopped),
        Err(_) => StoreError::Stopped,
    }
}

/// Until the inbox could not take a message.
async fn refused(failed: &mut watch::Receiver<Option<String>>) -> String {
    match failed.changed().await {
        Ok(()) => failed.borrow_and_update().clone().unwrap_or_default(),
        // The session is gone, and with it what would have been received.
        Err(_) => std::future::pending().await,
    }
}

/// Until the session is to be closed.
pub(super) async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that the session is gone altogether.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Until nothing has come for so long that nothing will.
async fn stalled(heard: &mut watch::Receiver<Instant>) {
    loop {
        let until = *heard.borrow_and_update() + STALLED;
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            changed = heard.changed() => if changed.is_err() { return },
        }
    }
}

/// Disconnects while the connection's own loop goes on: what is under way needs it to finish. One that does not end is
/// dropped where it stands, like one whose process is killed: the next connection must not wait for it for good.
pub(super) async fn finish(
    client: &Arc<Client>,
    run: std::pin::Pin<&mut impl Future<Output = ()>>,
) {
    let ended = async { tokio::join!(client.disconnect(), run) };
    if tokio::time::timeout(FINISH, ended).await.is_err() {
        client.signal_shutdown_sync();
        tracing::warn!("the connection did not end by itself and was dropped");
    }
}

/// The library reports neither 515, 429 nor 503 as events; the stanza itself can be waited for.
fn watch_stream_errors(client: &Arc<Client>, signals: mpsc::UnboundedSender<Signal>) {
    let waiter = client.wait_for_node(NodeFilter::tag("stream:error"));
    tokio::spawn(async move {
        if let Ok(node) = waiter.await {
            let code = node
                .get()
                .attrs()
                .optional_string("code")
                .map(|code| code.into_owned());
            let _ = signals.send(Signal::StreamError(code.unwrap_or_default()));
        }
    });
}

/// What is known of the connection so far.
#[derive(Default)]
struct Seen {
    /// Since when it was logged in, with the offline queue received.
    ready: Option<Instant>,
    /// An offline queue was announced.
    draining: bool,
    terminal: Option<Terminal>,
    failure: Option<String>,
    lost: Option<DisconnectReason>,
    stream_error: Option<String>,
    early: happenings::Early,
}

impl Seen {
    async fn take(&mut self, shared: &Arc<Shared>, client: &Arc<Client>, signal: Signal) {
        match signal {
            Signal::Draining => {
                shared.inbox.heard.send_replace(Instant::now());
                self.draining = true;
            }
            Signal::Ready => self.ready(shared, client).await,
            Signal::Available => shared.typing.announced(client),
            Signal::Terminal(terminal) => self.terminal = Some(terminal),
            Signal::Failed(detail) => self.failure = Some(detail),
            Signal::Lost(reason) => self.lost = Some(reason),
            Signal::StreamError(code) => self.stream_error = Some(code),
            Signal::Happened(notices) if self.ready.is_some() => shared.happenings.tell(notices),
            Signal::Happened(notices) => self.early.keep(shared, notices),
            Signal::Unhooked(batch) => shared.inbox.keep(client, &batch.messages).await,
        }
    }

    /// Logged in, the offline queue received.
    async fn ready(&mut self, shared: &Arc<Shared>, client: &Arc<Client>) {
        shared.typing.announced(client);
        if self.ready.is_some() {
            return;
        }
        self.ready = Some(Instant::now());
        shared.inbox.heard.send_replace(Instant::now());
        shared.set_client(Some(client.clone()));
        shared.happenings.forget_watched();
        shared.set(Connection::Online);
        self.early.tell(shared);
        version::refresh(shared);
        let linked = super::link::linked(client);
        let recorded = shared.store.set_connected(now());
        let stored = linked.map(|linked| shared.store.set_linked(Some(linked)));
        tokio::spawn(async move {
            let stored = match stored {
                Some(stored) => stored.await,
                None => Ok(()),
            };
            if let Err(error) = recorded.await.and(stored) {
                tracing::warn!(%error, "the connection could not be recorded");
            }
        });
    }

    fn ended(mut self, shared: &Shared) -> Ended {
        self.early.tell(shared);
        if let Some(terminal) = self.terminal {
            return Ended::Terminal(terminal);
        }
        let code = self.stream_error.as_deref();
        let clean = self
            .lost
            .as_ref()
            .is_some_and(DisconnectReason::is_clean_shutdown);
        let pause = match code {
            Some("515") => Pause::None,
            Some("429") => Pause::RateLimited,
            _ if self.ready.is_some() && clean && code.is_none() => Pause::None,
            _ => Pause::Backoff,
        };
        let reason = match (code, self.failure, self.lost) {
            (Some("515"), ..) => "WhatsApp asked for a new connection".to_owned(),
            (Some("429"), ..) => "WhatsApp is limiting this account's connections".to_owned(),
            (Some(code), ..) => format!("WhatsApp closed the stream with error {code}"),
            (None, Some(failure), _) => failure,
            (None, None, Some(reason)) => format!("the connection was lost: {reason}"),
            (None, None, None) => format!("no connection to {}", shared.endpoint.authority()),
        };
        let stable = self
            .ready
            .is_some_and(|since| since.elapsed() >= STABLE_AFTER);
        Ended::Lost {
            pause,
            stable,
            reason,
        }
    }
}

/// Runs inline on the library's reading loop, so it only passes on.
struct Handler {
    shared: Weak<Shared>,
    signals: mpsc::UnboundedSender<Signal>,
}

impl EventHandler for Handler {
    fn interest(&self) -> EventInterest {
        let told = EventInterest::of(&happenings::KINDS);
        let own = [
            EventKind::Connected,
            EventKind::OfflineSyncPreview,
            EventKind::OfflineSyncCompleted,
            EventKind::SelfPushNameUpdated,
            EventKind::Disconnected,
            EventKind::LoggedOut,
            EventKind::StreamReplaced,
            EventKind::TemporaryBan,
            EventKind::ClientOutdated,
            EventKind::ConnectFailure,
            EventKind::ServerAck,
            EventKind::Receipt,
            EventKind::Messages,
            EventKind::UndecryptableMessage,
            EventKind::ContactNumberChanged,
        ];
        own.into_iter().fold(told, EventInterest::with)
    }

    fn handle_event(&self, event: Arc<Event>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if shared.happenings.wanted() {
            let notices = notices(&event, now_ms());
            if !notices.is_empty() {
                let _ = self.signals.send(Signal::Happened(notices));
            }
        }
        if let Some(terminal) = terminal(&event) {
            let _ = self.signals.send(Signal::Terminal(terminal));
            return;
        }
        let signal = match &*event {
            Event::Connected(_) | Event::OfflineSyncCompleted(_) => Signal::Ready,
            Event::OfflineSyncPreview(queue) if queue.total > 0 => Signal::Draining,
            Event::SelfPushNameUpdated(_) => Signal::Available,
            Event::Disconnected(lost) => Signal::Lost(lost.reason.clone()),
            Event::ConnectFailure(failure) => Signal::Failed(refusal(failure)),
            Event::ServerAck(ack) => {
                if ack.class.as_deref() == Some("message") {
                    shared
                        .outbox
                        .acknowledged(&ack.id, ack.timestamp, ack.error.as_deref());
                }
                return;
            }
            Event::Receipt(receipt) => {
                let (sender, own) = (&receipt.source.sender, receipt.source.is_from_me);
                let at = receipt.timestamp.timestamp();
                shared.inbox.phone.heard(&shared.store, sender, own, at);
                super::outbox::receipt(&shared, receipt);
                return;
            }
            Event::GroupUpdate(update) => {
                groups::changed(&shared, update);
                return;
            }
            Event::ContactNumberChanged(change) => {
                let forms = |phone, lid: &Option<_>| {
                    let forms = [Some(phone), lid.as_ref()].into_iter().flatten();
                    forms.filter_map(address).collect()
                };
                // Nobody waits for it: it goes to the store before the messages that come after it.
                drop(shared.store.number_changed(
                    forms(&change.old_jid, &change.old_lid),
                    forms(&change.new_jid, &change.new_lid),
                ));
                return;
            }
            Event::Messages(batch) if batch.hook_committed => return,
            Event::Messages(batch) => Signal::Unhooked(batch.clone()),
            Event::UndecryptableMessage(failed) => {
                let chat = address(&failed.info.source.chat).map(|chat| chat.redacted());
                tracing::warn!(
                    ?chat,
                    "a message could not be decrypted; the sender is asked again"
                );
                return;
            }
            _ => return,
        };
        let _ = self.signals.send(signal);
    }
}

/// The state that forbids connecting, if the event tells of one.
pub(super) fn terminal(event: &Event) -> Option<Terminal> {
    let terminal = match event {
        Event::StreamReplaced(_) => Terminal::new(TerminalKind::Replaced, now(), ""),
        Event::LoggedOut(out) => {
            let said = out.logout_message.as_ref();
            let said = said.and_then(|said| said.header.clone());
            let detail = said.unwrap_or_else(|| format!("{:?}", out.reason));
            Terminal::new(TerminalKind::LoggedOut, now(), detail)
        }
        Event::TemporaryBan(ban) => {
            let lasts = Some(ban.expire.num_seconds());
            Terminal::banned(lasts, now(), ban.code.to_string())
        }
        Event::ClientOutdated(_) => Terminal::new(TerminalKind::Outdated, now(), ""),
        // A ban whose code or length cannot be read comes as this.
        Event::ConnectFailure(failure) if failure.reason == ConnectFailureReason::TempBanned => {
            let detail = failure.message.clone().unwrap_or_default();
            Terminal::banned(None, now(), detail)
        }
        _ => return None,
    };
    Some(terminal)
}

/// Why there was no login, for people.
pub(super) fn refusal(failure: &ConnectFailure) -> String {
    let detail = failure.message.as_deref().unwrap_or_default();
    let text = format!("WhatsApp refused the login: {:?} {detail}", failure.reason);
    text.trim_end().to_owned()
}

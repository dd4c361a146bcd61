//! Keeps the session connected.
//!
//! The library's own reconnection backs off to 15 minutes and cannot be woken, so it is off: each connection is a
//! client of its own on the same store, and between two of them stands the delay of this file. The old client is
//! always gone before the next is built; two clients on one store would corrupt the ratchets.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use backon::BackoffBuilder;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wacore::net::DisconnectReason;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use whatsapp_rust::{Client, client::NodeFilter};

use super::client::{self, Setup, WebVersion};

use super::state::{Connection, Terminal, TerminalKind};
use super::{Shared, address};
use crate::clock::now;

/// The first delay after a lost connection; it doubles from there.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay between two attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// WhatsApp said "too many": no sooner than this.
const RATE_LIMIT_DELAY: Duration = Duration::from_secs(60);
/// A connection that lived this long resets the delay.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Connects, and connects again, until the session is closed or over.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut delays = delays();
    loop {
        let started = Instant::now();
        let ended = connect_once(&shared).await;
        shared.set_client(None);
        let (pause, reason) = match ended {
            Ended::Closed => return,
            Ended::Terminal(terminal) => {
                if let Err(error) = shared
                    .store
                    .set_terminal(Some(terminal.clone().into()))
                    .await
                {
                    tracing::error!(%error, "the end of the session could not be recorded");
                }
                shared.set(Connection::Ended(terminal));
                return;
            }
            Ended::Lost {
                pause,
                stable,
                reason,
            } => {
                if stable {
                    delays = self::delays();
                }
                (pause, reason)
            }
        };
        let delay = match pause {
            // A server that sends everybody away at once must not be stormed.
            Pause::None if started.elapsed() >= FIRST_DELAY => Duration::ZERO,
            Pause::None | Pause::Backoff => next(&mut delays),
            Pause::RateLimited => next(&mut delays).max(RATE_LIMIT_DELAY),
        };
        tracing::info!(
            reason,
            delay_ms = delay.as_millis() as u64,
            "disconnected from WhatsApp"
        );
        // A store that is slow now must not hold up the next connection.
        drop(shared.store.set_disconnected(now(), reason.clone()));
        shared.set(Connection::Reconnecting { reason });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = told(&mut closing) => return,
        }
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
async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that the session is gone altogether.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Jitter may double a delay; the longest holds all the same.
fn next(delays: &mut impl Iterator<Item = Duration>) -> Duration {
    delays.next().unwrap_or(LONGEST_DELAY).min(LONGEST_DELAY)
}

fn delays() -> impl Iterator<Item = Duration> {
    backon::ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

/// How one connection ended.
enum Ended {
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
enum Pause {
    None,
    Backoff,
    RateLimited,
}

/// What the library reports of one connection, in order.
enum Signal {
    Ready,
    Available,
    Terminal(TerminalKind, Option<i64>, String),
    Failed(String),
    Lost(DisconnectReason),
    StreamError(String),
    Unhooked(wacore::types::events::MessageBatch),
}

async fn connect_once(shared: &Arc<Shared>) -> Ended {
    let (signals, mut heard) = mpsc::unbounded_channel();
    let setup = Setup {
        store: &shared.sqlite,
        endpoint: &shared.endpoint,
        version: version(shared).await,
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
    let mut failed = shared.inbox.failed.subscribe();
    failed.mark_unchanged();
    let mut last = Seen::default();
    let mut run = std::pin::pin!(bot.run());
    loop {
        tokio::select! {
            biased;
            Some(signal) = heard.recv() => last.take(shared, &client, signal).await,
            () = &mut run => break,
            reason = refused(&mut failed) => {
                // Not acknowledged, so it comes again, once there is a place for it.
                finish(&client, run).await;
                return Ended::failed(reason);
            }
            () = told(&mut closing) => {
                finish(&client, run).await;
                return Ended::Closed;
            }
        }
    }
    // What was reported before the end decides how it ended.
    while let Ok(signal) = heard.try_recv() {
        last.take(shared, &client, signal).await;
    }
    last.ended(shared)
}

/// Disconnects while the connection's own loop goes on: what is under way needs it to finish.
async fn finish(client: &Arc<Client>, run: std::pin::Pin<&mut impl Future<Output = ()>>) {
    tokio::join!(client.disconnect(), run);
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
    terminal: Option<Terminal>,
    failure: Option<String>,
    lost: Option<DisconnectReason>,
    stream_error: Option<String>,
}

impl Seen {
    async fn take(&mut self, shared: &Arc<Shared>, client: &Arc<Client>, signal: Signal) {
        match signal {
            Signal::Ready => self.ready(shared, client).await,
            Signal::Available => quiet(shared, client),
            Signal::Terminal(kind, until, detail) => {
                let mut terminal = Terminal::new(kind, now(), detail);
                terminal.until = until;
                self.terminal = Some(terminal);
            }
            Signal::Failed(detail) => self.failure = Some(detail),
            Signal::Lost(reason) => self.lost = Some(reason),
            Signal::StreamError(code) => self.stream_error = Some(code),
            Signal::Unhooked(batch) => {
                if let Err(error) = shared.inbox.commit(client, &batch.messages).await {
                    tracing::error!(%error, "a message outside the acknowledged path could not be stored");
                }
            }
        }
    }

    /// Logged in, the offline queue received.
    async fn ready(&mut self, shared: &Arc<Shared>, client: &Arc<Client>) {
        quiet(shared, client);
        if self.ready.is_some() {
            return;
        }
        self.ready = Some(Instant::now());
        shared.inbox.heard.send_replace(Instant::now());
        shared.set_client(Some(client.clone()));
        shared.set(Connection::Online);
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

    fn ended(self, shared: &Shared) -> Ended {
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

/// The library announces us as available by itself; taken back at once, so that the owner's phone goes on ringing.
fn quiet(shared: &Shared, client: &Arc<Client>) {
    if shared.manners.online {
        return;
    }
    let client = client.clone();
    tokio::spawn(async move {
        if let Err(error) = client.presence().set_unavailable().await {
            tracing::debug!(%error, "presence could not be set");
        }
    });
}

/// The version of WhatsApp Web to present: the operator's, else the one this library was made for.
async fn version(shared: &Shared) -> WebVersion {
    if let Some(version) = shared.manners.web_version {
        return version;
    }
    client::stored_version(&shared.sqlite).await
}

/// Runs inline on the library's reading loop, so it only passes on.
struct Handler {
    shared: Weak<Shared>,
    signals: mpsc::UnboundedSender<Signal>,
}

impl EventHandler for Handler {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::Connected,
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
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let signal = match &*event {
            Event::Connected(_) | Event::OfflineSyncCompleted(_) => Signal::Ready,
            Event::SelfPushNameUpdated(_) => Signal::Available,
            Event::Disconnected(lost) => Signal::Lost(lost.reason.clone()),
            Event::StreamReplaced(_) => {
                Signal::Terminal(TerminalKind::Replaced, None, String::new())
            }
            Event::LoggedOut(out) => {
                let said = out
                    .logout_message
                    .as_ref()
                    .and_then(|said| said.header.clone());
                let detail = said.unwrap_or_else(|| format!("{:?}", out.reason));
                Signal::Terminal(TerminalKind::LoggedOut, None, detail)
            }
            Event::TemporaryBan(ban) => {
                let until = now() + ban.expire.num_seconds();
                Signal::Terminal(TerminalKind::Banned, Some(until), format!("{:?}", ban.code))
            }
            Event::ClientOutdated(_) => {
                Signal::Terminal(TerminalKind::Outdated, None, String::new())
            }
            Event::ConnectFailure(failure) => {
                let detail = failure.message.clone().unwrap_or_default();
                Signal::Failed(
                    format!("WhatsApp refused the login: {:?} {detail}", failure.reason)
                        .trim_end()
                        .to_owned(),
                )
            }
            Event::ServerAck(ack) => {
                if ack.class.as_deref() == Some("message") {
                    shared
                        .outbox
                        .acknowledged(&ack.id, ack.timestamp, ack.error.as_deref());
                }
                return;
            }
            Event::Receipt(receipt) => {
                super::outbox::receipt(&shared, receipt);
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

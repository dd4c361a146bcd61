//! The bare client: what the library costs by itself.
//!
//! A role of this same binary. It has the plugin's settings where they change the work (full sync, a durability
//! hook, a current-thread runtime that yields, TCP_NODELAY, no history, the same cache), and does nothing with what
//! arrives. It leaves when its stdin ends. The line `<jid> <warm-up> <count>` makes it send that many texts one
//! after the other, each after the server's ack of the one before, and print how long each took, in nanoseconds.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_websockets::ClientBuilder;
use wacore::net::{Transport, TransportEvent, TransportFactory};
use wacore::runtime::{AbortHandle, Runtime};
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind, InboundMessage};
use waproto::whatsapp as wa;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::send::SendOptions;
use whatsapp_rust::store::{SqliteStore, SqliteStoreConfig, Synchronous};
use whatsapp_rust::{CacheConfig, Client, InboundDurabilityHook, Jid, TokioRuntime};
use whatsapp_rust_tokio_transport::from_websocket;
use whatsapp_rust_ureq_http_client::UreqHttpClient;

use crate::accounts::Account;

const STORE: &str = "COMPARE_BARE_STORE";
const ADDRESS: &str = "COMPARE_BARE_ADDRESS";
/// As the plugin sets it.
const SENT_MESSAGE_TTL_SECS: u64 = 14 * 24 * 3600;

/// The command that plays this role for an account.
pub fn command(account: &Account) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(STORE, &account.store)
        .env(ADDRESS, account.server().addr().to_string());
    Ok(command)
}

/// Where the store and the server are, if this process is to play the role.
pub fn asked() -> Option<(PathBuf, SocketAddr)> {
    let store = std::env::var_os(STORE)?;
    Some((store.into(), std::env::var(ADDRESS).ok()?.parse().ok()?))
}

/// Plays it until stdin ends.
pub fn run((store, address): (PathBuf, SocketAddr)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(serve(store, address));
    runtime.shutdown_timeout(Duration::from_millis(100));
    done
}

async fn serve(store: PathBuf, address: SocketAddr) -> Result<()> {
    let (orders, mut heard) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
    });
    let acks = Acks::default();
    let bot = build(store, address, acks.clone()).await?;
    let client = bot.client();
    let running = tokio::spawn(bot.run());
    while let Some(order) = heard.recv().await {
        println!("{}", send(&client, &acks, &order).await?);
    }
    client.disconnect().await;
    Ok(running.await?)
}

async fn build(store: PathBuf, address: SocketAddr, acks: Acks) -> Result<Bot> {
    use whatsapp_rust::store::traits::DeviceStore as _;
    let path = store.to_str().context("the path is not UTF-8")?;
    let config = SqliteStoreConfig {
        synchronous: Synchronous::Full,
        ..Default::default()
    };
    let store = SqliteStore::with_config(path, config).await?;
    let device = store.load().await?.context("not linked")?;
    let version = (
        device.app_version_primary,
        device.app_version_secondary,
        device.app_version_tertiary,
    );
    let bot = Bot::builder()
        .with_backend_arc(Arc::new(store))
        .with_transport_factory(Dial(address))
        .with_http_client(UreqHttpClient::new())
        .with_runtime(CurrentThread)
        .with_version(version)
        .skip_history_sync()
        .with_cache_config(CacheConfig {
            sent_message_ttl_secs: SENT_MESSAGE_TTL_SECS,
            ..Default::default()
        })
        .with_inbound_durability_hook(Nothing)
        .with_event_handler(acks)
        .build()
        .await?;
    let client = bot.client();
    client.enable_auto_reconnect.store(false, Ordering::Relaxed);
    client.set_force_active_delivery_receipts(true);
    Ok(bot)
}

async fn send(client: &Arc<Client>, acks: &Acks, order: &str) -> Result<String> {
    let mut words = order.split_whitespace();
    let mut word = || words.next().context("an order has three words");
    let (to, warm_up, count) = (
        word()?,
        word()?.parse::<usize>()?,
        word()?.parse::<usize>()?,
    );
    let to: Jid = to.parse()?;
    let mut took = String::new();
    for n in 0..warm_up + count {
        let began = Instant::now();
        let id = client.generate_message_id();
        let ack = acks.expect(&id);
        let text = wa::Message {
            conversation: Some(format!("number {n}")),
            ..Default::default()
        };
        let options = SendOptions::default().with_message_id(id);
        client
            .send_message_with_options(to.clone(), text, options)
            .await?;
        ack.await?;
        if n >= warm_up {
            write!(took, "{} ", began.elapsed().as_nanos())?;
        }
    }
    Ok(took)
}

struct Nothing;

#[async_trait]
impl InboundDurabilityHook for Nothing {
    async fn on_messages(&self, _: Arc<Client>, _: &[InboundMessage]) -> Result<()> {
        Ok(())
    }
}

/// Who waits for the server's acks.
#[derive(Clone, Default)]
struct Acks(Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>);

impl Acks {
    fn expect(&self, id: &str) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), sender);
        receiver
    }
}

impl EventHandler for Acks {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::ServerAck])
    }

    fn handle_event(&self, event: Arc<Event>) {
        if let Event::ServerAck(ack) = &*event {
            let waiting = self
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&ack.id);
            if let Some(waiting) = waiting {
                let _ = waiting.send(());
            }
        }
    }
}

/// Dials with TCP_NODELAY, as the plugin does.
struct Dial(SocketAddr);

#[async_trait]
impl TransportFactory for Dial {
    async fn create_transport(
        &self,
    ) -> Result<(
        Arc<dyn Transport>,
        whatsapp_rust::async_channel::Receiver<TransportEvent>,
    )> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        let uri = format!("ws://{}/ws/chat", self.0).parse()?;
        Ok(from_websocket(
            ClientBuilder::from_uri(uri).connect_on(stream).await?.0,
        ))
    }
}

/// The plugin's kind of runtime: the library's, with loops that yield.
struct CurrentThread;

impl Runtime for CurrentThread {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) -> AbortHandle {
        TokioRuntime.spawn(future)
    }

    fn spawn_detached(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        TokioRuntime.spawn_detached(future);
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        TokioRuntime.sleep(duration)
    }

    fn spawn_blocking(
        &self,
        work: Box<dyn FnOnce() + Send + 'static>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        TokioRuntime.spawn_blocking(work)
    }

    fn yield_now(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(tokio::task::yield_now()))
    }

    fn yield_frequency(&self) -> u32 {
        1
    }
}

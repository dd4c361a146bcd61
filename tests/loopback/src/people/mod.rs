//! Simulated people: real clients with an in-memory store each, that write to each other over the real socket.
//!
//! A [`Person`] is one linked device of one account. What it was sent is kept in [`Seen`] for as long as the person
//! lives, over every disconnect, so that a test can prove that something arrived, and arrived once.
//! Every wait has a deadline, and says what was seen instead when it passes.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use whatsapp_loopback::{Options, Server, people::Person};
//! let server = Server::start(Options::default()).await?;
//! let alice = Person::join(&server, "Alice").await?;
//! let bob = Person::join(&server, "Bob").await?;
//! alice.text(&bob, "hello").await?;
//! let hello = bob.wait_text("hello").await?;
//! bob.reply(&hello, "hello yourself").await?;
//! alice.wait_text("hello yourself").await?;
//! # Ok(())
//! # }
//! ```

mod dial;
mod groups;
mod media;
mod seen;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::Mutex;
use wacore::store::{DevicePropsOverride, InMemoryBackend};
use wacore_binary::Jid;
use waproto::whatsapp::device_props::PlatformType;
use whatsapp_rust::TokioRuntime;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::client::Client;
use whatsapp_rust_ureq_http_client::UreqHttpClient;

pub use self::media::Voice;
use self::seen::Recorder;
pub use self::seen::{Seen, SeenMessage};
use crate::{AccountInfo, AccountSpec, Server};

/// How long a wait of these people lasts at most, unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Few, since each costs a key generation at linking; clients upload more when the server says they run low.
const PREKEYS: usize = 40;

/// What a person is to be; what is absent is chosen.
#[derive(Clone, Debug)]
pub struct PersonSpec {
    /// The account. One that exists already gets another device.
    pub account: AccountSpec,
    /// One-time prekeys that the client keeps on the server.
    pub prekeys: usize,
    /// Whether the client is told its name when it starts; else it learns it from the phone.
    pub introduced: bool,
    /// Whether the client is to answer messages with a full delivery receipt even while it is not `available`.
    pub active_receipts: bool,
}

impl PersonSpec {
    /// Somebody new of this name, with an account that is not LID-migrated.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            account: AccountSpec {
                push_name: Some(name.to_owned()),
                ..AccountSpec::default()
            },
            prekeys: PREKEYS,
            introduced: true,
            active_receipts: true,
        }
    }

    /// Takes this phone number, in digits.
    #[must_use]
    pub fn phone(mut self, phone: &str) -> Self {
        self.account.phone = Some(phone.to_owned());
        self
    }

    /// Leaves it to the phone to tell the client its name.
    #[must_use]
    pub fn unintroduced(mut self) -> Self {
        self.introduced = false;
        self
    }

    /// Makes the account LID-migrated: its direct messages are addressed by LID.
    #[must_use]
    pub fn lid_migrated(mut self) -> Self {
        self.account.lid_migrated = true;
        self
    }
}

/// One device of a simulated person. Clones are the same device; the last one dropped takes it offline.
#[derive(Clone)]
pub struct Person(Arc<Inner>);

struct Inner {
    server: Server,
    account: AccountInfo,
    spec: PersonSpec,
    store: Arc<InMemoryBackend>,
    recorder: Arc<Recorder>,
    line: Mutex<Option<BotHandle>>,
}

impl Person {
    /// A new person of this name links by QR and gets ready.
    ///
    /// # Errors
    /// The server refused the link, or the client was not ready within [`PATIENCE`].
    pub async fn join(server: &Server, name: &str) -> Result<Self> {
        Self::join_as(server, PersonSpec::new(name)).await
    }

    /// As [`Person::join`], with choices.
    ///
    /// # Errors
    /// As [`Person::join`].
    pub async fn join_as(server: &Server, spec: PersonSpec) -> Result<Self> {
        let person = Self::unlinked(server, spec).await?;
        let linked = person.link().await;
        linked.with_context(|| format!("{} could not join", person.name()))?;
        Ok(person)
    }

    /// A person whose client is not linked yet, and shows QRs: see [`Seen::qrs`].
    ///
    /// # Errors
    /// The account cannot be made, or the client cannot be started.
    pub async fn unlinked(server: &Server, spec: PersonSpec) -> Result<Self> {
        let account = server.core().create_account(spec.account.clone())?;
        let person = Self(Arc::new(Inner {
            server: server.clone(),
            account,
            spec,
            store: Arc::new(InMemoryBackend::new()),
            recorder: Arc::new(Recorder::default()),
            line: Mutex::default(),
        }));
        person.dial().await?;
        Ok(person)
    }

    /// Links one more device to this person's account: a person of its own, with the same phone number.
    ///
    /// # Errors
    /// As [`Person::join`].
    pub async fn add_device(&self) -> Result<Self> {
        let mut spec = self.0.spec.clone();
        spec.account.phone = Some(self.phone().to_owned());
        Self::join_as(&self.0.server, spec).await
    }

    async fn link(&self) -> Result<()> {
        let qr = self
            .wait_for("a QR", |seen| seen.qrs.last().cloned())
            .await?;
        self.0.server.core().scan_qr(&qr, Some(self.phone()))?;
        self.wait_ready().await?;
        // What the phone hands a new device does not mix with what a test does next.
        let device = self.device().await?;
        let settled = tokio::time::timeout(PATIENCE, async {
            while self.0.server.core().queue_len(self.phone(), device) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        settled.await.context("the phone's messages were not taken")
    }

    /// Waits until a client that has just been linked is ready.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_ready(&self) -> Result<()> {
        self.wait_for("to be ready", |seen| (seen.connected > 0).then_some(()))
            .await
    }

    async fn dial(&self) -> Result<()> {
        let inner = &self.0;
        let mut bot = Bot::builder()
            .with_backend_arc(inner.store.clone())
            .with_transport_factory(dial::Dial::new(inner.server.addr()))
            .with_http_client(UreqHttpClient::new())
            .with_runtime(TokioRuntime)
            .with_version((2, 3000, 0))
            .with_device_props(
                DevicePropsOverride::new()
                    .with_os("Linux")
                    .with_platform_type(PlatformType::CHROME),
            )
            .with_wanted_pre_key_count(inner.spec.prekeys)
            .skip_history_sync()
            .with_event_handler(seen::Ear(inner.recorder.clone()));
        if inner.spec.introduced {
            bot = bot.with_push_name(self.name());
        }
        let bot = bot.build().await?;
        bot.client()
            .set_force_active_delivery_receipts(inner.spec.active_receipts);
        *inner.line.lock().await = Some(bot.spawn());
        Ok(())
    }

    /// Goes offline in an orderly way: what has been received is acknowledged first.
    pub async fn disconnect(&self) {
        if let Some(line) = self.0.line.lock().await.take() {
            line.shutdown().await;
        }
    }

    /// Comes back with the same store after [`Person::disconnect`], and waits until ready: what the server had
    /// kept has arrived by then.
    ///
    /// # Errors
    /// The client was not ready within [`PATIENCE`].
    pub async fn reconnect(&self) -> Result<()> {
        self.disconnect().await;
        let before = self.seen(|seen| seen.connected);
        self.dial().await?;
        self.wait_for("to be ready again", |seen| {
            (seen.connected > before).then_some(())
        })
        .await
    }

    /// The client itself, for what these people have no word for.
    ///
    /// # Errors
    /// The person is offline.
    pub async fn client(&self) -> Result<Arc<Client>> {
        let line = self.0.line.lock().await;
        line.as_ref()
            .map(BotHandle::client)
            .ok_or_else(|| anyhow!("{} is offline", self.name()))
    }

    /// The name that others see.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0
            .spec
            .account
            .push_name
            .as_deref()
            .unwrap_or(&self.0.account.push_name)
    }

    /// Digits of the phone number.
    #[must_use]
    pub fn phone(&self) -> &str {
        &self.0.account.phone
    }

    /// `<phone>@s.whatsapp.net`
    #[must_use]
    pub fn pn(&self) -> Jid {
        Jid::pn(self.phone())
    }

    /// `<digits>@lid`
    #[must_use]
    pub fn lid(&self) -> Jid {
        Jid::lid(self.0.account.lid_jid.split('@').next().unwrap_or_default())
    }

    /// The number of this device within the account.
    ///
    /// # Errors
    /// The person is offline, or not linked.
    pub async fn device(&self) -> Result<u16> {
        let jid = self
            .client()
            .await?
            .pn()
            .ok_or_else(|| anyhow!("{} is not linked", self.name()))?;
        Ok(jid.device)
    }

    /// The server that this person is a user of.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Whether `jid` is this person, by phone number or LID, whatever the device.
    #[must_use]
    pub fn is(&self, jid: &Jid) -> bool {
        let jid = jid.to_non_ad();
        jid == self.pn() || jid == self.lid()
    }
}

impl From<&Person> for Jid {
    /// The chat with a person, addressed by phone number.
    fn from(person: &Person) -> Self {
        person.pn()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The client's own tasks hold it; told to stop, they let go.
        if let Some(line) = self.line.get_mut().take() {
            line.client().signal_shutdown_sync();
        }
    }
}

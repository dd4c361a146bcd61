//! The linked device: the only room that knows the WhatsApp library's client.
//!
//! A session belongs to one account whose owner lock this process holds. It keeps the connection (`supervisor`),
//! puts what arrives into `channel.db` before WhatsApp hears that it arrived (`receive`), keeps what is known of groups
//! up to date (`groups`), passes on what else happens (`happenings`), sends what waits in the outbox, under the ids
//! it was stored with (`outbox`, `handing`), and shows others what they are to see of us (`typing`, `reading`). It runs on the account's own thread, a current-thread
//! tokio runtime; other rooms talk to it through [`Session`].

mod addressed;
mod again;
mod ahead;
mod arriving;
mod asked;
mod attempt;
mod backend;
mod barrier;
mod client;
mod download;
mod endpoint;
mod failure;
mod fate;
mod fetch;
mod groups;
mod handing;
mod happenings;
mod in_vain;
mod keeping;
mod lanes;
mod link;
mod lookup;
mod outbox;
mod pending;
mod primary;
mod reachout;
mod reaction;
mod reading;
mod receive;
mod reupload;
mod runtime;
mod sink;
mod state;
mod supervisor;
mod tidy;
mod transfers;
mod typing;
mod unlink;
mod upload;
mod version;
mod who;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use wacore_binary::Jid;
use whatsapp_rust::Client;

use crate::account::Paths;
use crate::clock::now_us;
use crate::identity::Address;
use crate::store::{AttachmentToken, Enqueued, Limits, OutboundRequest, Pace, Store, StoreError};

pub use client::WebVersion;
pub use download::MediaLimits;
pub use endpoint::{Endpoint, EndpointError, UNCHECKED, URL_VARIABLE};
pub use fate::{Fate, Following};
pub use link::{LinkError, LinkProgress, LinkRequest, link};
pub use primary::Silence;
pub(crate) use reachout::RESTRICTED;
pub use reachout::restricted_until;
pub use state::{Connection, Terminal, TerminalKind};
pub use transfers::{PROGRESS, STAGE, Transfer};
pub use typing::{LONGEST as LONGEST_TYPING, Manners, Shown};
pub use unlink::log_out;
pub use upload::sweep_staged;
pub use who::Asked;

/// Why a session cannot be had, or cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No device is linked here.
    #[error("this account is not linked to WhatsApp; run `channel-whatsapp --link` first")]
    NotLinked,
    /// Over until somebody acts.
    #[error("{}", .0.sentence())]
    Ended(Terminal),
    /// There is no connection now, and none came in time.
    #[error(
        "WhatsApp cannot be reached now ({reason}); check the network, it is tried again by itself"
    )]
    Unreachable { reason: String },
    /// The environment names a server that cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The disk is full, or a database is damaged or too new.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The library's database cannot be opened.
    #[error("cannot open the WhatsApp session in {path} ({detail}); check its permissions and the free space; it was left as it is", path = path.display())]
    Store { path: PathBuf, detail: String },
    /// The library refuses to make a client.
    #[error("the WhatsApp client cannot be started ({0}); please report this with the log")]
    Client(String),
}

impl SessionError {
    /// When it passes by itself, Unix seconds, if that is known.
    pub fn passes_at(&self) -> Option<i64> {
        match self {
            Self::Ended(terminal) => terminal.until,
            _ => None,
        }
    }

    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLinked => "not_linked",
            Self::Ended(terminal) => terminal.kind.code(),
            Self::Unreachable { .. } => "unreachable",
            Self::Endpoint(error) => error.code(),
            Self::Storage(error) => error.code(),
            Self::Store { .. } => "store_failed",
            Self::Client(_) => "internal_error",
        }
    }
}

/// How long a sender stays for its recipients' devices.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// What others are still to be shown before a connection is closed may take so long.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(200);

/// What the parts of a session share.
struct Shared {
    store: Store,
    backend: backend::Backend,
    barrier: barrier::Barrier,
    endpoint: Endpoint,
    /// The version of WhatsApp Web to present, if the operator chose one.
    web_version: Option<WebVersion>,
    connection: watch::Sender<Connection>,
    /// The client that is logged in now.
    client: Mutex<Option<Arc<Client>>>,
    inbox: receive::Inbox,
    groups: groups::Groups,
    strangers: who::Strangers,
    happenings: happenings::Happenings,
    outbox: Arc<fate::Waiters>,
    lanes: lanes::Lanes,
    typing: Arc<typing::Typing>,
    /// How fast messages may go.
    limits: watch::Sender<Limits>,
    /// Whether what is to be marked as read is marked.
    reads: watch::Sender<bool>,
    /// The folder of files that go out.
    staged: PathBuf,
    transfers: transfers::Transfers,
    uploads: tokio::sync::Semaphore,
    downloads: download::Downloads,
    closing: watch::Sender<bool>,
}

impl Shared {
    /// How fast messages may go from now on.
    fn limit(&self, limits: Limits) {
        let changed = self.limits.send_if_modified(|held| {
            let changed = *held != limits;
            *held = limits;
            changed
        });
        if changed {
            drop(self.store.set_limits(limits));
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            limits: *self.limits.borrow(),
            now: now_us(),
        }
    }

    fn client(&self) -> Option<Arc<Client>> {
        self.client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sets the client of a connection that stands, or that none does; the one before.
    fn set_client(&self, client: Option<Arc<Client>>) -> Option<Arc<Client>> {
        let mut now = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, client)
    }

    fn set(&self, connection: Connection) {
        self.connection.send_if_modified(|now| {
            let changed = *now != connection;
            if changed {
                tracing::info!(state = connection.code(), "connection");
                *now = connection;
            }
            changed
        });
    }
}

/// A running session. [`Session::close`] ends it; dropped without that, its tasks end with their runtime.
pub struct Session {
    shared: Arc<Shared>,
    tasks: tokio::sync::Mutex<Option<Tasks>>,
}

struct Tasks {
    supervisor: tokio::task::JoinHandle<()>,
    outbox: tokio::task::JoinHandle<()>,
    keeping: tokio::task::JoinHandle<()>,
    downloads: tokio::task::JoinHandle<()>,
    typing: tokio::task::JoinHandle<()>,
    reading: tokio::task::JoinHandle<()>,
    asking: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Starts connecting for an account whose owner lock this process holds. Returns at once; the connection
    /// follows, see [`Session::connection`].
    pub async fn open(
        paths: &Paths,
        store: Store,
        manners: Manners,
        web_version: Option<WebVersion>,
    ) -> Result<Self, SessionError> {
        let endpoint = Endpoint::from_env()?;
        // On a disk that is full this gives the reserve up, without which the library's file may not even open.
        let space = store.space().settle();
        let sqlite =
            client::open_store(paths.store())
                .await
                .map_err(|error| match (error, space) {
                    (SessionError::Store { .. }, Err(full)) => full.into(),
                    (error, _) => error,
                })?;
        let outbox = Arc::new(fate::Waiters::default());
        let shared = Arc::new(Shared {
            inbox: receive::Inbox::new(store.clone()),
            backend: backend::Backend::new(sqlite, store.clone(), outbox.clone()),
            store,
            barrier: barrier::Barrier::default(),
            endpoint,
            web_version,
            connection: watch::Sender::new(Connection::Connecting),
            client: Mutex::new(None),
            groups: groups::Groups::default(),
            strangers: who::Strangers::default(),
            happenings: happenings::Happenings::default(),
            outbox,
            lanes: lanes::Lanes::default(),
            typing: Arc::default(),
            limits: watch::Sender::new(manners.limits),
            reads: watch::Sender::new(manners.reads),
            staged: paths.staged(),
            transfers: transfers::Transfers::default(),
            uploads: tokio::sync::Semaphore::new(upload::AT_ONCE),
            downloads: download::Downloads::new(paths.media()),
            closing: watch::Sender::new(false),
        });
        shared.typing.behave(manners);
        drop(shared.store.set_limits(manners.limits));
        let (supervised, sent, kept) = (shared.clone(), shared.clone(), shared.clone());
        let (fetching, shown, read) = (shared.clone(), shared.clone(), shared.clone());
        let asked = shared.clone();
        let tasks = Tasks {
            supervisor: tokio::spawn(kept_up("connection", move || {
                supervisor::supervise(supervised.clone())
            })),
            outbox: tokio::spawn(kept_up("outbox", move || {
                outbox::send_waiting(sent.clone())
            })),
            keeping: tokio::spawn(kept_up("keeping", move || keeping::keep(kept.clone()))),
            downloads: tokio::spawn(kept_up("downloads", move || {
                download::fetch_wanted(fetching.clone())
            })),
            typing: tokio::spawn(kept_up("typing", move || typing::keep(shown.clone()))),
            reading: tokio::spawn(kept_up("reading", move || {
                reading::mark_wanted(read.clone())
            })),
            asking: tokio::spawn(kept_up("asking", move || who::ask_wanted(asked.clone()))),
        };
        Ok(Self {
            shared,
            tasks: tokio::sync::Mutex::new(Some(tasks)),
        })
    }

    /// The state of the connection, and its changes.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.shared.connection.subscribe()
    }

    /// When something last came from WhatsApp: a message, or the end of the offline queue.
    pub fn heard(&self) -> watch::Receiver<Instant> {
        self.shared.inbox.heard.subscribe()
    }

    /// Waits until the session is logged in and the offline queue has been received.
    pub async fn online(&self, deadline: Instant) -> Result<(), SessionError> {
        let mut connection = self.connection();
        let settled = connection.wait_for(|now| {
            matches!(
                now,
                Connection::Online
                    | Connection::Banned(_)
                    | Connection::Ended(_)
                    | Connection::Storage(_)
                    | Connection::Closed
            )
        });
        let reached = match tokio::time::timeout_at(deadline, settled).await {
            Ok(Ok(now)) => match &*now {
                Connection::Online => return Ok(()),
                Connection::Banned(terminal) | Connection::Ended(terminal) => {
                    return Err(SessionError::Ended(terminal.clone()));
                }
                Connection::Storage(error) => return Err(error.clone().into()),
                _ => None,
            },
            _ => None,
        };
        let reason = reached.unwrap_or_else(|| match &*self.shared.connection.borrow() {
            Connection::Reconnecting { reason } => reason.clone(),
            _ => "the connection was not ready in time".to_owned(),
        });
        Err(SessionError::Unreachable { reason })
    }

    /// The same, without waiting for another attempt when one has failed.
    pub async fn online_now(&self, deadline: Instant) -> Result<(), SessionError> {
        let mut connection = self.connection();
        let failed = connection.wait_for(|now| matches!(now, Connection::Reconnecting { .. }));
        tokio::select! {
            biased;
            reached = self.online(deadline) => reached,
            () = async { drop(failed.await) } => self.online(Instant::now()).await,
        }
    }

    /// A file that is made ready to be sent, in the list of those on their way.
    pub fn stages(&self) -> Arc<Transfer> {
        self.shared.transfers.begin(transfers::STAGE, 0)
    }

    /// How far long transfers are, for people.
    pub fn transfers(&self) -> Vec<String> {
        self.shared.transfers.told()
    }

    /// The account's own name, once a connection has told it.
    pub fn push_name(&self) -> Option<String> {
        let name = self.shared.client()?.push_name();
        (!name.is_empty()).then_some(name)
    }

    /// Follows what becomes of these messages. To be called before they are stored, so that nothing is missed.
    pub fn follow(&self, message_ids: &[String]) -> Following {
        Following::new(self.shared.clone(), message_ids)
    }

    /// Enters a request into the outbox and begins to send it, if there is a connection. One of several messages, of
    /// which the limits let the last go only after `whole_within`, is taken back at once.
    pub async fn enter(
        &self,
        request: OutboundRequest,
        whole_within: Option<Duration>,
    ) -> Result<Enqueued, StoreError> {
        outbox::enter(&self.shared, request, whole_within).await
    }

    /// How fast messages may go, as of now.
    pub fn pace(&self) -> Pace {
        self.shared.pace()
    }

    /// What may be fetched of the media that are wanted, and how long it is kept. Before this nothing is fetched or let go.
    pub fn limit_media(&self, limits: MediaLimits) {
        self.shared.downloads.limit(limits);
    }

    /// Where what is fetched is kept: `file`, or the URL of an object store. The disk, as long as nothing is said.
    pub fn keep_media_in(&self, store: &str) {
        if self.shared.downloads.keep_in(store) {
            drop(self.shared.store.note_media_store(store.to_owned()));
        }
    }

    /// Fetches a file of at most so many bytes that somebody asks for by its key, within the deadline.
    ///
    /// # Errors
    /// The outer one is the store's; the inner one is a code of [`crate::media::reason`].
    pub async fn fetch_media(
        &self,
        token: AttachmentToken,
        most: u64,
        deadline: Instant,
    ) -> Result<Result<(), String>, StoreError> {
        asked::fetch_now(&self.shared, token, most, deadline).await
    }

    /// Waits, at most until `deadline`, for what is being fetched, for as long as it comes.
    pub async fn media_arrive(&self, deadline: Instant) {
        arriving::wait(&self.shared, deadline).await;
    }

    /// Stays to answer devices that could not read what was sent in this session, until all of them have confirmed it,
    /// or for two seconds, or until `deadline`.
    pub async fn linger(&self, deadline: Instant) {
        if matches!(*self.shared.connection.borrow(), Connection::Online) {
            self.shared
                .outbox
                .linger(deadline.min(Instant::now() + LINGER))
                .await;
        }
    }

    /// Disconnects, letting what is under way finish until `deadline`. Whatever is cut short is safe: it was not
    /// acknowledged, or is still in the outbox. If this itself is cut short, the next call goes on with it.
    pub async fn close(&self, deadline: Instant) {
        let mut slot = self.tasks.lock().await;
        let Some(tasks) = &mut *slot else {
            return;
        };
        let shared = &self.shared;
        let last = async { tokio::join!(reading::mark_all(shared), shared.typing.act()) };
        // What does not get out any more ends by itself, or is done by who connects next.
        let _ = tokio::time::timeout_at(deadline.min(Instant::now() + FAREWELL), last).await;
        shared.closing.send_replace(true);
        tasks.typing.abort();
        tasks.reading.abort();
        tasks.asking.abort();
        tasks.outbox.abort();
        shared.lanes.stop();
        tasks.keeping.abort();
        tasks.downloads.abort();
        if !ends(&mut tasks.supervisor, deadline).await {
            tasks.supervisor.abort();
            tracing::warn!("the connection did not close in time and was dropped");
        }
        // What was being fetched is gone when this is.
        ends(&mut tasks.downloads, deadline).await;
        // The next owner must not take for unknown what was sent.
        let _ = tokio::time::timeout_at(deadline, shared.store.flush()).await;
        *slot = None;
        self.shared.set(Connection::Closed);
    }
}

/// Whether a task is at its end by then.
async fn ends(task: &mut tokio::task::JoinHandle<()>, deadline: Instant) -> bool {
    task.is_finished() || tokio::time::timeout_at(deadline, task).await.is_ok()
}

/// Runs a part of the session until it ends by itself. A panic in it, or in the library below, is an error in the log
/// and a fresh start; everything that counts is in the stores.
async fn kept_up<F>(what: &str, part: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut running = AbortOnDrop(tokio::spawn(part()));
        match (&mut running.0).await {
            Err(error) if error.is_panic() => {
                tracing::error!(what, %error, "a part of the session ended unexpectedly and is started again");
                tokio::time::sleep(AFTER_PANIC).await;
            }
            _ => return,
        }
    }
}

/// Keeps a panic that comes at once from being a storm.
const AFTER_PANIC: std::time::Duration = std::time::Duration::from_secs(5);

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The library's form of an address; none for what is no JID.
fn jid(address: &Address) -> Option<Jid> {
    address.to_string().parse().ok()
}

/// Our form of the library's address; its device is dropped.
fn address(jid: &Jid) -> Option<Address> {
    jid.to_non_ad().to_string().parse().ok()
}

//! One account's desk: its thread, what it holds open, and which room answers which request.
//!
//! The thread is a current-thread runtime of its own, so a stuck or panicking session never holds up stdin, stdout
//! or another account. The owner lock, the store and the session are opened by the first request that needs them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::SharedProcess;
use super::ingress::{self, Running};
use super::jobs::{self, Job, Jobs, Work};
use super::passing::Reception;
use super::writer::Lines;
use super::{exchange, outgoing, report};
use crate::account::socket::{self, Listener};
use crate::account::{InUse, OwnerLock, Paths, Role};
use crate::config::{Config, Presence, ReadReceipts, Typing};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::Response;
use crate::session::{Connection, Manners, Session, SessionError, Terminal};
use crate::store::{Limits, Linked, Rate, Store, linked_device};

/// What a persistent process gives its connection when its host is gone; it must be gone itself within a second.
const HANG_UP: Duration = Duration::from_millis(500);
/// What passed requests that are under way may take when their owner leaves.
const LAST_VISITS: Duration = Duration::from_secs(1);
/// How long an ingress waits for an owner that serves one call.
const ONE_CALL: Duration = Duration::from_secs(10);
/// First pause between two looks at a lock that somebody has. It grows, and varies, so that who waits neither wears
/// the machine out nor marches in step.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// So many times as long does it get.
const LOOKS_GROW: u32 = 8;
/// What a clean end may take.
pub(super) const CLOSE: Duration = Duration::from_millis(1200);

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Not yet.
    No,
    /// After what was asked is answered.
    Finish,
    /// Now.
    AtOnce,
}

/// The account's thread, seen from the router.
pub(super) struct Desk {
    pub jobs: Jobs,
    pub thread: std::thread::JoinHandle<()>,
}

/// What the requests of one account share.
pub(super) struct Account {
    pub paths: Paths,
    pub process: SharedProcess,
    pub lines: Lines,
    pub ingress: Running,
    /// A persistent session is over for good: the process leaves, after what it has said was written.
    pub fatal: Box<dyn Fn() + Send + Sync>,
    open: Mutex<Option<Held>>,
    /// Where other processes ask, while this one owns the connection.
    reception: Mutex<Option<Reception>>,
    store: Mutex<Option<Store>>,
}

/// What the owner of the connection holds.
#[derive(Clone)]
pub(super) struct Open {
    pub linked: Linked,
    pub store: Store,
    pub session: Arc<Session>,
    pub lock: Arc<OwnerLock>,
}

/// The connection while this process owns it.
struct Held {
    open: Open,
    /// It was made for `health` alone, and ends with the question unless somebody comes to use it.
    for_probe: bool,
}

impl Desk {
    /// Starts the thread of an account.
    pub(super) fn start(
        paths: Paths,
        process: SharedProcess,
        lines: Lines,
        ending: watch::Receiver<Ending>,
        fatal: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        let (jobs, work) = jobs::queue();
        let thread = std::thread::Builder::new()
            .name("account".to_owned())
            .spawn(move || {
                let account = Arc::new(Account::new(paths, process, lines, fatal));
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => {
                        runtime.block_on(serve(account, work, ending));
                        // What still runs on the blocking pool must not hold up the end of the process.
                        runtime.shutdown_timeout(Duration::from_millis(100));
                    }
                    Err(error) => tracing::error!(%error, "no runtime for the account"),
                }
            })?;
        Ok(Self { jobs, thread })
    }
}

async fn serve(
    account: Arc<Account>,
    mut work: mpsc::Receiver<Job>,
    mut ending: watch::Receiver<Ending>,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            job = work.recv() => match job {
                Some(job) => { running.spawn(handle(account.clone(), job)); }
                None => break,
            },
            Some(_) = running.join_next() => {}
            _ = ending.wait_for(|ending| *ending == Ending::AtOnce) => break,
        }
    }
    let finished = async {
        while running.join_next().await.is_some() {}
        let leave_by = account.process.leave_by() - CLOSE;
        tokio::join!(account.last_visits(leave_by), async {
            if let Some(open) = account.opened().await {
                open.session.linger(leave_by).await;
            }
        });
    };
    let budget = tokio::select! {
        () = finished => CLOSE,
        _ = ending.wait_for(|ending| *ending == Ending::AtOnce) => HANG_UP,
    };
    running.abort_all();
    account.close(budget).await;
}

async fn handle(account: Arc<Account>, job: Job) {
    let Job {
        work,
        config,
        answer,
    } = job;
    match work {
        Work::Configure {
            unknown_keys,
            warnings,
        } => {
            answer
                .send(report::configure(&account, &config, unknown_keys, warnings).await)
                .await;
        }
        Work::Health => answer.send(report::health(&account, &config).await).await,
        Work::Poll(state) => ingress::poll(&account, &config, state, answer).await,
        Work::Start(state) => ingress::start(&account, config, state, answer).await,
        Work::Stop(state) => answer.send(Ok(ingress::stop(&account, state).await)).await,
        Work::Deliver(message) => {
            let receipt = outgoing::send_in_time(&account, &config, message).await;
            answer
                .send(receipt.map(|delivery| Response::Delivered { delivery }))
                .await;
        }
        Work::Push(message) => {
            let receipt = outgoing::send_in_time(&account, &config, message).await;
            answer
                .send(receipt.map(|delivery| Response::Pushed { delivery }))
                .await;
        }
        Work::Status(frame) => {
            let status = exchange::status(&account, &config, frame).await;
            answer
                .send(status.map(|status| Response::StatusAccepted { status }))
                .await;
        }
    }
}

impl Account {
    /// Holds nothing open yet.
    pub(super) fn new(
        paths: Paths,
        process: SharedProcess,
        lines: Lines,
        fatal: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            paths,
            process,
            lines,
            ingress: Running::default(),
            fatal,
            open: Mutex::new(None),
            reception: Mutex::new(None),
            store: Mutex::new(None),
        }
    }

    /// The account that is linked here.
    pub(super) fn linked(&self) -> Result<Linked, WireError> {
        Ok(linked_device(self.paths.store())?.ok_or(SessionError::NotLinked)?)
    }

    /// An error if no account is linked here. Looks at the file only while the connection is not ours.
    pub(super) fn check_linked(&self) -> Result<(), WireError> {
        match self.open.try_lock() {
            Ok(open) if open.is_some() => Ok(()),
            _ => self.linked().map(drop),
        }
    }

    /// Our database, which any process of this user may read; the connection is not needed for it.
    pub(super) async fn store(&self) -> Result<Store, WireError> {
        let mut slot = self.store.lock().await;
        if let Some(store) = &*slot {
            return Ok(store.clone());
        }
        self.paths.prepare()?;
        let path = self.paths.channel();
        let opened = tokio::task::spawn_blocking(move || Store::open(&path)).await;
        let store = opened.map_err(|error| WireError::new("internal_error", error))??;
        *slot = Some(store.clone());
        Ok(store)
    }

    /// The same for a look: none if there is nothing to look at. Creates no file.
    pub(super) async fn existing_store(&self) -> Result<Option<Store>, WireError> {
        match self.paths.channel().is_file() {
            true => self.store().await.map(Some),
            false => Ok(None),
        }
    }

    /// The recorded state that keeps this account from connecting now, or from connecting for `health` alone.
    pub(super) async fn holding_terminal(
        &self,
        for_probe: bool,
    ) -> Result<Option<Terminal>, WireError> {
        let store = self.store().await?;
        let Some(terminal) = store.terminal().await?.and_then(Terminal::recorded) else {
            return Ok(None);
        };
        let now = crate::clock::now();
        let holds = match for_probe {
            true => terminal.holds_unasked(now, store.connections().await?.connected),
            false => terminal.holds(now),
        };
        Ok(holds.then_some(terminal))
    }

    async fn check_not_ended(&self, for_probe: bool) -> Result<(), WireError> {
        match self.holding_terminal(for_probe).await? {
            Some(terminal) => Err(SessionError::Ended(terminal).into()),
            None => Ok(()),
        }
    }

    /// The connection, which this process comes to own until `until` at the latest, or for long if its role is
    /// persistent. Does not wait. Checked in this order: linked, not ended, not in use.
    pub(super) async fn open(
        &self,
        config: &Config,
        role: Role,
        until: Instant,
    ) -> Result<Open, NotOpened> {
        let role = match self.process.is_persistent() {
            true => Role::Persistent,
            false => role,
        };
        self.hold(config, role, until, false).await
    }

    /// The same for `health` alone, to be let go by [`end_probe`](Self::end_probe). Whoever comes to use it meanwhile
    /// takes it over.
    pub(super) async fn open_to_probe(
        &self,
        config: &Config,
        until: Instant,
    ) -> Result<Open, NotOpened> {
        self.hold(config, Role::OneShot, until, true).await
    }

    async fn hold(
        &self,
        config: &Config,
        role: Role,
        until: Instant,
        for_probe: bool,
    ) -> Result<Open, NotOpened> {
        let mut slot = self.open.lock().await;
        if let Some(Held {
            open,
            for_probe: only_probed,
        }) = &mut *slot
        {
            if let Connection::Banned(terminal) | Connection::Ended(terminal) =
                &*open.session.connection().borrow()
            {
                return Err(SessionError::Ended(terminal.clone()).into());
            }
            if *only_probed && !for_probe {
                *only_probed = false;
                open.session.behave(manners(config));
            }
            if role == Role::Persistent {
                open.lock.become_owner(role, None);
            }
            return Ok(open.clone());
        }
        let linked = self.linked()?;
        self.check_not_ended(for_probe).await?;
        let until = (role == Role::OneShot).then(|| unix(until));
        // Without a socket the connection is as good; only nobody else can use it.
        let name = socket::name(&self.paths)
            .inspect_err(
                |error| tracing::warn!(%error, "other processes cannot use this connection"),
            )
            .ok();
        let lock = OwnerLock::try_take(&self.paths, role, until, name.clone());
        let lock = Arc::new(lock.map_err(NotOpened::InUse)?);
        // Who had the lock may have unlinked the account, or met its end.
        if !self.paths.exists() {
            return Err(SessionError::NotLinked.into());
        }
        self.check_not_ended(for_probe).await?;
        let store = self.store().await?;
        let version = config.web_version;
        // What a probe asks is all that it does for others to see.
        let manners = Manners {
            reads: config.read_receipts != ReadReceipts::Off && !for_probe,
            ..manners(config)
        };
        let session = Session::open(&self.paths, store.clone(), manners, version).await?;
        let open = Open {
            linked,
            store,
            session: Arc::new(session),
            lock,
        };
        // From here on it is closed before the lock goes, whatever becomes of who asked.
        *slot = Some(Held {
            open: open.clone(),
            for_probe,
        });
        if let Some(name) = name {
            match Listener::bind(&name) {
                Ok(listener) => {
                    let reception = Reception::open(
                        listener,
                        open.clone(),
                        self.process.clone(),
                        self.ingress.clone(),
                    );
                    *self.reception.lock().await = Some(reception);
                }
                Err(error) => tracing::warn!(%error, "other processes cannot use this connection"),
            }
        }
        Ok(open)
    }

    /// Ends a connection that was made for `health`, unless somebody has come to use it.
    pub(super) async fn end_probe(&self) {
        let mut slot = self.open.lock().await;
        if slot.as_ref().is_some_and(|held| held.for_probe) {
            self.dismiss(CLOSE).await;
            let_go(&mut slot, Instant::now() + CLOSE).await;
        }
    }

    /// The connection for an ingress: waits for an owner that serves one call, and for no other.
    pub(super) async fn open_for_ingress(
        &self,
        config: &Config,
        role: Role,
        takes: Duration,
    ) -> Result<Open, WireError> {
        let patience = Instant::now() + ONE_CALL;
        let mut stayed = None;
        let mut looks = 0;
        loop {
            let in_use = match self.open(config, role, Instant::now() + takes).await {
                Err(NotOpened::InUse(in_use)) => in_use,
                Err(NotOpened::Other(error)) => return Err(error),
                Ok(open) => return Ok(open),
            };
            // Who has just taken the lock may not have written yet who it is: seen twice is believed.
            let stays = in_use.stays();
            if Instant::now() >= patience || (stays.is_some() && stays == stayed) {
                return Err(in_use.into());
            }
            stayed = stays;
            look_again(&mut looks).await;
        }
    }

    /// The connection, if this process owns it.
    pub(super) async fn opened(&self) -> Option<Open> {
        let slot = self.open.lock().await;
        slot.as_ref().map(|held| held.open.clone())
    }

    /// Takes nothing more from other processes; what they have under way may finish.
    async fn last_visits(&self, leave_by: Instant) {
        if let Some(reception) = self.reception.lock().await.take() {
            reception
                .close(leave_by.min(Instant::now() + LAST_VISITS))
                .await;
        }
    }

    /// Ends ingress and connection and lets the next owner in.
    pub(super) async fn close(&self, budget: Duration) {
        let deadline = Instant::now() + budget;
        self.dismiss(budget).await;
        if let Some(ingress) = self.ingress.lock().await.take() {
            ingress.stop().await;
        }
        let_go(&mut *self.open.lock().await, deadline).await;
    }

    /// Takes nothing more from other processes, and tells those that wait to go elsewhere, well within this budget.
    async fn dismiss(&self, budget: Duration) {
        if let Some(reception) = self.reception.lock().await.take() {
            reception
                .close(Instant::now() + (budget / 2).min(LAST_VISITS))
                .await;
        }
    }
}

/// Ends the connection, and only then lets the next owner in, also if this is cut short and done again.
async fn let_go(slot: &mut Option<Held>, deadline: Instant) {
    if let Some(held) = slot {
        held.open.session.close(deadline).await;
    }
    *slot = None;
}

/// Why this process does not come to own the connection.
pub(super) enum NotOpened {
    /// Somebody else does, for now.
    InUse(InUse),
    Other(WireError),
}

impl From<WireError> for NotOpened {
    fn from(error: WireError) -> Self {
        Self::Other(error)
    }
}

impl From<SessionError> for NotOpened {
    fn from(error: SessionError) -> Self {
        Self::Other(error.into())
    }
}

impl From<NotOpened> for WireError {
    fn from(error: NotOpened) -> Self {
        match error {
            NotOpened::InUse(error) => error.into(),
            NotOpened::Other(error) => error,
        }
    }
}

/// The pause after the given number of looks at a lock that somebody has.
pub(super) async fn look_again(looks: &mut u32) {
    *looks = (*looks + 1).min(LOOKS_GROW);
    tokio::time::sleep((LOOK_AGAIN * *looks).mul_f64(1.0 + fastrand::f64())).await;
}

/// Unix seconds of an instant.
pub(super) fn unix(at: Instant) -> i64 {
    let seconds = at.saturating_duration_since(Instant::now()).as_secs();
    crate::clock::now().saturating_add_unsigned(seconds)
}

/// How a session is to behave under these settings.
pub(super) fn manners(config: &Config) -> Manners {
    let pacing = config.pacing;
    Manners {
        online: config.presence == Presence::Online,
        typing_presence: config.typing_presence,
        frames: config.typing != Typing::Off,
        recording: config.typing == Typing::Auto,
        reads: config.read_receipts != ReadReceipts::Off,
        limits: Limits {
            chat: Rate::per_second(pacing.chat_per_second, pacing.chat_burst),
            account: Rate::per_minute(pacing.account_per_minute, pacing.account_burst),
            strangers: pacing.strangers_per_day,
        },
    }
}

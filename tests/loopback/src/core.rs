//! What the server knows and can be told: the entry for its front, for tests and for the admin API.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_websockets::WebSocketStream;

use crate::{
    Limits, Options,
    account::Device,
    connection,
    faults::Faults,
    groups::Groups,
    log::Log,
    mailbox::Class,
    media::MediaStore,
    outbox::Outbox,
    pairing::Pairings,
    registry::People,
    sync::{lock, read, write},
    wire::cert::{Root, StaticKey},
    writer::Writers,
};

pub use crate::{inject::FaultReport, log::StanzaRecord, pairing::PairError};

/// The server without its sockets.
pub struct Core {
    /// Media blobs.
    pub media: MediaStore,
    pub(crate) options: Options,
    pub(crate) pairings: Pairings,
    pub(crate) groups: Groups,
    pub(crate) writers: Writers,
    pub(crate) faults: Faults,
    stop: watch::Sender<bool>,
    root: Root,
    key: RwLock<Arc<StaticKey>>,
    pub(crate) people: RwLock<People>,
    connections: Mutex<HashMap<u64, Connected>>,
    pub(crate) log: Mutex<Log>,
    next: AtomicU64,
    pub(crate) counters: Counting,
    said: Mutex<BTreeSet<String>>,
}

struct Connected {
    info: ConnectionInfo,
    opened: Instant,
    outbox: Arc<Outbox>,
}

#[derive(Default)]
pub(crate) struct Counting {
    pub logins: AtomicU64,
    pub pairings: AtomicU64,
    pub messages: AtomicU64,
    pub deliveries: AtomicU64,
    pub settled: AtomicU64,
    pub lookups: AtomicU64,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Logins that were let in.
    pub logins: u64,
    /// Devices that were linked.
    pub pairings: u64,
    /// Messages that clients or writers handed in and that were accepted.
    pub messages: u64,
    /// Stanzas that were queued for devices.
    pub deliveries: u64,
    /// Stanzas that devices settled.
    pub settled: u64,
    /// Numbers that clients asked about.
    pub lookups: u64,
}

/// Who is connected.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConnectionInfo {
    /// Number of the connection, counting up.
    pub id: u64,
    /// Digits of the account's phone number; absent while not linked.
    pub phone: Option<String>,
    /// Number of the device; absent while not linked.
    pub device: Option<u16>,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Seconds since the socket was opened.
    pub age: f64,
    /// The handshake it made.
    pub handshake: Option<crate::wire::handshake::Pattern>,
    /// The length of the routing information that it brought along.
    pub routing: Option<usize>,
}

impl Core {
    pub(crate) fn new(_addr: SocketAddr, options: &Options) -> std::io::Result<Arc<Self>> {
        let root = Root::generate();
        let key = root.issue().map_err(std::io::Error::other)?;
        Ok(Arc::new(Self {
            media: MediaStore::default(),
            options: options.clone(),
            pairings: Pairings::default(),
            groups: Groups::default(),
            writers: Writers::default(),
            faults: Faults::default(),
            stop: watch::channel(false).0,
            root,
            key: RwLock::new(Arc::new(key)),
            people: RwLock::default(),
            connections: Mutex::default(),
            log: Mutex::default(),
            next: AtomicU64::new(1),
            counters: Counting::default(),
            said: Mutex::default(),
        }))
    }

    /// What people have written, which the server itself cannot read.
    #[must_use]
    pub fn said(&self) -> BTreeSet<String> {
        lock(&self.said).clone()
    }

    pub(crate) fn note_said(&self, text: &str) {
        lock(&self.said).insert(text.to_owned());
    }

    pub(crate) fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(crate) fn counting(&self) -> &Counting {
        &self.counters
    }

    /// Serves one client until either side ends the connection.
    pub async fn serve<S>(self: &Arc<Self>, ws: WebSocketStream<S>, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut stop = self.stop.subscribe();
        let id = self.fresh();
        let outbox = Arc::new(Outbox::new(self.limits().outbound_bytes));
        lock(&self.connections).insert(
            id,
            Connected {
                info: ConnectionInfo {
                    id,
                    phone: None,
                    device: None,
                    peer,
                    age: 0.0,
                    handshake: None,
                    routing: None,
                },
                opened: Instant::now(),
                outbox: outbox.clone(),
            },
        );
        // Also when the task is dropped in the middle, what the connection holds has to go.
        let _leave = Leave { core: self, id };
        tokio::select! {
            () = connection::run(self, id, ws, outbox) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    pub(crate) fn describe(&self, id: u64, change: impl FnOnce(&mut ConnectionInfo)) {
        if let Some(connected) = lock(&self.connections).get_mut(&id) {
            change(&mut connected.info);
        }
    }

    /// A number that was not given out before.
    pub(crate) fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// An id for a stanza of the server's own.
    pub(crate) fn stanza_id(&self) -> String {
        format!("{:08X}-{}", 0x5E_00_00_00_u32, self.fresh())
    }

    /// The public key that the certificate chains are signed with.
    #[must_use]
    pub fn root_key(&self) -> [u8; 32] {
        self.root.public()
    }

    pub(crate) fn static_key(&self) -> Arc<StaticKey> {
        read(&self.key).clone()
    }

    /// Gives the server a new static Noise key, certified by the same root.
    pub fn rotate_static(&self) {
        match self.root.issue() {
            Ok(key) => *write(&self.key) = Arc::new(key),
            Err(error) => tracing::error!(%error, "no new static key"),
        }
    }

    /// Who is connected, in the order in which they came.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let connections = lock(&self.connections);
        let mut infos: Vec<_> = connections
            .values()
            .map(|connected| ConnectionInfo {
                age: connected.opened.elapsed().as_secs_f64(),
                ..connected.info.clone()
            })
            .collect();
        infos.sort_by_key(|info| info.id);
        infos
    }

    /// The ways out of the connections that `choose` picks.
    pub(crate) fn outboxes(&self, choose: impl Fn(&ConnectionInfo) -> bool) -> Vec<Arc<Outbox>> {
        lock(&self.connections)
            .values()
            .filter(|connected| choose(&connected.info))
            .map(|connected| connected.outbox.clone())
            .collect()
    }

    fn linked(&self, phone: &str, device: u16) -> Option<Arc<Device>> {
        self.by_phone(phone)?.device(device)
    }

    /// Stanzas that wait for a device to settle them.
    #[must_use]
    pub fn queue_len(&self, phone: &str, device: u16) -> usize {
        self.linked(phone, device)
            .map_or(0, |device| lock(&device.mail).len())
    }

    /// Ids of the messages that wait for a device to settle them, oldest first.
    #[must_use]
    pub fn queued_messages(&self, phone: &str, device: u16) -> Vec<String> {
        self.linked(phone, device)
            .map(|device| lock(&device.mail).ids(Class::Message))
            .unwrap_or_default()
    }

    /// The presence that a device last announced.
    #[must_use]
    pub fn presence(&self, phone: &str, device: u16) -> Option<String> {
        lock(&self.linked(phone, device)?.mail).presence.clone()
    }

    /// Whether somebody is told of this person's presence.
    #[must_use]
    pub fn is_watched(&self, phone: &str, by: &str) -> bool {
        let account = self.by_phone(phone);
        account.is_some_and(|account| lock(&account.state).subscribers.contains_key(by))
    }

    /// What has happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            logins: get(&self.counters.logins),
            pairings: get(&self.counters.pairings),
            messages: get(&self.counters.messages),
            deliveries: get(&self.counters.deliveries),
            settled: get(&self.counters.settled),
            lookups: get(&self.counters.lookups),
        }
    }

    /// The faults that are armed.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

/// Takes a connection off the books when it ends, however it ends.
struct Leave<'a> {
    core: &'a Arc<Core>,
    id: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let left = lock(&self.core.connections).remove(&self.id);
        self.core.pairings.leave(self.id);
        let Some(info) = left.map(|connected| connected.info) else {
            return;
        };
        if let (Some(phone), Some(device)) = (info.phone, info.device) {
            connection::left(self.core, self.id, &phone, device);
        }
    }
}

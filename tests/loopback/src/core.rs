//! What the server knows and can be told: the entry for its front, for tests and for the admin API.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_websockets::WebSocketStream;
use wacore_binary::{Jid, Node, NodeContent, builder::NodeBuilder};

use crate::{
    Limits, Options,
    account::{Account, AccountInfo, AccountSpec, Device, Family, is_phone, made_up_phone},
    connection,
    faults::Faults,
    groups::Groups,
    mailbox::{Class, Letter, Trick},
    media::MediaStore,
    outbox::Outbox,
    pairing::{Pairings, notify_devices},
    sync::{lock, read, write},
    wire::{
        cert::{Root, StaticKey},
        node,
    },
    writer::Writers,
};

pub use crate::{inject::FaultReport, pairing::PairError};

/// The server without its sockets.
pub struct Core {
    /// Media blobs.
    pub media: MediaStore,
    pub(crate) options: Options,
    pub(crate) pairings: Pairings,
    pub(crate) groups: Groups,
    pub(crate) writers: Writers,
    faults: Faults,
    stop: watch::Sender<bool>,
    root: Root,
    key: RwLock<Arc<StaticKey>>,
    people: RwLock<People>,
    connections: Mutex<HashMap<u64, Connected>>,
    log: Mutex<Log>,
    next: AtomicU64,
    counters: Counting,
}

#[derive(Default)]
struct People {
    by_phone: HashMap<String, Arc<Account>>,
    by_lid: HashMap<String, Arc<Account>>,
}

struct Connected {
    info: ConnectionInfo,
    opened: Instant,
    outbox: Arc<Outbox>,
}

#[derive(Default)]
struct Log {
    next: u64,
    bytes: usize,
    records: VecDeque<Logged>,
}

struct Logged {
    sent: bool,
    who: Who,
    stanza: Bytes,
}

/// The log holds no more than this, whatever the number of stanzas.
const LOG_BYTES: usize = 32 << 20;

/// Who a connection belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Digits of the phone number; empty while not linked.
    pub phone: Arc<str>,
    /// Number of the device; 0 while not linked.
    pub device: u16,
}

#[derive(Default)]
pub(crate) struct Counting {
    pub logins: AtomicU64,
    pub pairings: AtomicU64,
    pub messages: AtomicU64,
    pub deliveries: AtomicU64,
    pub settled: AtomicU64,
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

/// One stanza that went by.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StanzaRecord {
    /// Counts up from 0 over all stanzas, also those that the log has dropped.
    pub seq: u64,
    /// Whether the server sent it.
    pub sent: bool,
    /// Digits of the account's phone number; empty while not linked.
    pub phone: String,
    /// Number of the device; 0 while not linked.
    pub device: u16,
    /// Its tag.
    pub tag: String,
    /// Its attributes.
    pub attrs: Vec<(String, String)>,
    /// The tags of its children.
    pub children: Vec<String>,
}

impl StanzaRecord {
    /// An attribute.
    #[must_use]
    pub fn attr(&self, key: &str) -> Option<&str> {
        self.attrs
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }
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
        }))
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

    /// Makes an account. If the phone number has one already, that one, unchanged.
    ///
    /// # Errors
    /// The number is not one, or there is no room.
    pub fn create_account(&self, spec: AccountSpec) -> Result<AccountInfo, PairError> {
        self.open_account(spec).map(|account| account.info())
    }

    pub(crate) fn open_account(&self, mut spec: AccountSpec) -> Result<Arc<Account>, PairError> {
        let asked = spec.phone.take();
        if asked.as_deref().is_some_and(|phone| !is_phone(phone))
            || spec.lid.as_deref().is_some_and(|lid| !is_phone(lid))
        {
            return Err(PairError::BadPhone);
        }
        let mut people = write(&self.people);
        if let Some(known) = asked.as_ref().and_then(|phone| people.by_phone.get(phone)) {
            return Ok(known.clone());
        }
        if people.by_phone.len() >= self.limits().accounts
            || spec
                .lid
                .as_ref()
                .is_some_and(|lid| people.by_lid.contains_key(lid))
        {
            return Err(PairError::Full);
        }
        let phone = asked.unwrap_or_else(|| {
            loop {
                let phone = made_up_phone();
                if !people.by_phone.contains_key(&phone) {
                    break phone;
                }
            }
        });
        let account = Account::new(phone, spec).map_err(|error| {
            tracing::error!(%error, "no keys for an account");
            PairError::Full
        })?;
        let account = Arc::new(account);
        people
            .by_phone
            .insert(account.phone.clone(), account.clone());
        people.by_lid.insert(account.lid.clone(), account.clone());
        Ok(account)
    }

    pub(crate) fn by_phone(&self, phone: &str) -> Option<Arc<Account>> {
        read(&self.people).by_phone.get(phone).cloned()
    }

    pub(crate) fn by_name(&self, push_name: &str) -> Option<Arc<Account>> {
        let people = read(&self.people);
        let mut named: Vec<_> = people
            .by_phone
            .values()
            .filter(|account| account.push_name() == push_name)
            .collect();
        // Of several the lowest number, so that it is always the same.
        named.sort_by(|a, b| a.phone.cmp(&b.phone));
        named.first().map(|account| (*account).clone())
    }

    /// The account of a person's JID, in either namespace.
    pub(crate) fn by_jid(&self, jid: &Jid) -> Option<Arc<Account>> {
        let people = read(&self.people);
        match Family::of(jid)? {
            Family::Pn => people.by_phone.get(jid.user.as_str()).cloned(),
            Family::Lid => people.by_lid.get(jid.user.as_str()).cloned(),
        }
    }

    /// The account of a phone number.
    #[must_use]
    pub fn account(&self, phone: &str) -> Option<AccountInfo> {
        self.by_phone(phone).map(|account| account.info())
    }

    /// All accounts, by phone number.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountInfo> {
        let accounts: Vec<_> = read(&self.people).by_phone.values().cloned().collect();
        let mut infos: Vec<_> = accounts.iter().map(|account| account.info()).collect();
        infos.sort_by(|a, b| a.phone.cmp(&b.phone));
        infos
    }

    /// Logs a device out from the phone: it is told, and is no device of the account any more.
    pub fn logout_device(&self, phone: &str, device: u16) -> bool {
        let Some(account) = self.by_phone(phone) else {
            return false;
        };
        self.drop_device(&account, device, true)
    }

    /// Takes a device off the account without a word; its next login is refused.
    pub fn revoke_device(&self, phone: &str, device: u16) -> bool {
        let Some(account) = self.by_phone(phone) else {
            return false;
        };
        self.drop_device(&account, device, false)
    }

    pub(crate) fn drop_device(&self, account: &Arc<Account>, device: u16, say_so: bool) -> bool {
        let removed = {
            let mut state = lock(&account.state);
            let removed = state.devices.remove(&device);
            if removed.is_some() {
                state.devices_changed = crate::clock::unix().max(state.devices_changed + 1);
            }
            removed
        };
        let Some(removed) = removed else { return false };
        if let Some(link) = lock(&removed.mail).link.take() {
            if say_so {
                link.outbox
                    .push(node::encode(&connection::stream_error(401)));
                link.outbox.finish();
            } else {
                link.outbox.abort();
            }
        }
        notify_devices(self, account, &removed, "remove");
        true
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
        }
    }

    pub(crate) fn record(&self, sent: bool, who: &Who, stanza: &Bytes) {
        let mut log = lock(&self.log);
        log.next += 1;
        log.bytes += stanza.len();
        log.records.push_back(Logged {
            sent,
            who: who.clone(),
            stanza: stanza.clone(),
        });
        while log.records.len() > self.limits().log || log.bytes > LOG_BYTES {
            let Some(oldest) = log.records.pop_front() else {
                break;
            };
            log.bytes -= oldest.stanza.len();
        }
    }

    /// The last stanzas that went by, oldest first.
    #[must_use]
    pub fn stanzas(&self) -> Vec<StanzaRecord> {
        let (first, records): (u64, Vec<_>) = {
            let log = lock(&self.log);
            let records: Vec<_> = log
                .records
                .iter()
                .map(|l| (l.sent, l.who.clone(), l.stanza.clone()))
                .collect();
            (log.next - records.len() as u64, records)
        };
        (first..)
            .zip(records)
            .filter_map(|(seq, (sent, who, stanza))| {
                let stanza = node::decode(stanza)?;
                Some(StanzaRecord {
                    seq,
                    sent,
                    phone: who.phone.to_string(),
                    device: who.device,
                    tag: stanza.tag.to_string(),
                    attrs: stanza
                        .attrs
                        .iter()
                        .map(|(key, value)| (key.to_string(), value.as_str().into_owned()))
                        .collect(),
                    children: node::children(&stanza)
                        .iter()
                        .map(|child| child.tag.to_string())
                        .collect(),
                })
            })
            .collect()
    }

    /// The faults that are armed.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Queues a stanza for a device, and sends it if the device is live.
    pub(crate) fn deliver(&self, account: &Account, device: &Arc<Device>, mut letter: Letter) {
        if letter.class == Class::Message && self.faults.corrupts(&account.phone, device.id) {
            letter.stanza = spoil(letter.stanza);
        }
        self.counters.deliveries.fetch_add(1, Ordering::Relaxed);
        let trick = self.trick(account, device, letter.class);
        let held = lock(&device.mail).deliver(letter, trick, self.limits());
        if held {
            let device = device.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                lock(&device.mail).release();
            });
        }
    }

    pub(crate) fn trick(&self, account: &Account, device: &Device, class: Class) -> Trick {
        match class {
            Class::Message => self.faults.delivery(&account.phone, device.id),
            Class::Receipt | Class::Notification => Trick::None,
        }
    }

    /// Queues a notification for devices of an account, `except` the one that caused it.
    pub(crate) fn notify(
        &self,
        account: &Account,
        except: Option<(&str, u16)>,
        build: impl Fn(NodeBuilder) -> Node,
    ) {
        for device in account.devices() {
            if except == Some((account.phone.as_str(), device.id)) {
                continue;
            }
            self.notify_device(account, &device, &build);
        }
    }

    /// Queues a notification for one device.
    pub(crate) fn notify_device(
        &self,
        account: &Account,
        device: &Arc<Device>,
        build: impl Fn(NodeBuilder) -> Node,
    ) {
        let id = self.stanza_id();
        let stanza = build(
            NodeBuilder::new("notification")
                .attr("id", id.as_str())
                .attr("t", crate::clock::unix()),
        );
        let letter = Letter {
            class: Class::Notification,
            id: id.into(),
            from: "".into(),
            stanza: node::encode(&stanza),
            track: None,
        };
        self.deliver(account, device, letter);
    }
}

/// The stanza with a bit of its first ciphertext flipped, at a place that is authenticated in every kind of them.
fn spoil(stanza: Bytes) -> Bytes {
    let Some(mut decoded) = node::decode(stanza.clone()) else {
        return stanza;
    };
    if let Some(NodeContent::Nodes(children)) = &mut decoded.content {
        for child in children.iter_mut().filter(|child| child.tag == "enc") {
            if let Some(NodeContent::Bytes(bytes)) = &mut child.content
                && let Some(byte) = {
                    let at = bytes.len() * 2 / 3;
                    bytes.get_mut(at)
                }
            {
                *byte ^= 1;
                break;
            }
        }
    }
    node::encode(&decoded)
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

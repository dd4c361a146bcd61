//! A WhatsApp server on the loopback interface, and simulated phones, for tests.
//!
//! It speaks the wire of a WhatsApp Web client (WebSocket, Noise, the binary node codec, Signal keys) well enough
//! that real clients pair, get ready and exchange end-to-end-encrypted messages. The server sees no plain text of
//! theirs; nothing in it depends on which client is connected.

pub mod account;
mod admin;
pub mod camera;
mod clock;
mod connection;
pub mod core;
mod delivery;
pub mod faults;
mod groups;
mod inject;
mod iq;
pub mod limits;
pub mod listener;
pub mod load;
mod log;
mod mailbox;
pub mod media;
mod message;
mod outbox;
mod pairing;
#[cfg(feature = "people")]
pub mod people;
mod phone;
mod presence;
mod receipt;
mod registry;
mod session;
mod signal;
mod status;
mod sync;
mod wire;
pub mod writer;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

pub use crate::{
    account::{AccountInfo, AccountSpec, DeviceInfo},
    core::Core,
    faults::{Fault, Target},
    limits::Limits,
    log::StanzaRecord,
};

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Whether accounts that come to be when a phone links are LID-migrated.
    pub lid_migrated: bool,
    /// How long the first QR of a connection can be scanned.
    pub qr_first_ttl: Duration,
    /// How long each further QR can be scanned.
    pub qr_ttl: Duration,
    /// How much longer than it is shown a QR can be scanned. The connection ends twice as long after the last one.
    pub qr_grace: Duration,
    /// What a client may make the server hold.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            lid_migrated: false,
            qr_first_ttl: Duration::from_secs(60),
            qr_ttl: Duration::from_secs(20),
            qr_grace: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// A running server. Dropping the last clone stops it and closes its connections.
#[derive(Clone)]
pub struct Server {
    running: Arc<Running>,
}

struct Running {
    core: Arc<Core>,
    addr: SocketAddr,
    _listener: listener::Listener,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.shut_down();
    }
}

impl Server {
    /// Binds and starts to serve on the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let tcp = listener::bind(options.listen).await?;
        let addr = tcp.local_addr()?;
        let core = Core::new(addr, &options)?;
        let listener = listener::spawn(core.clone(), tcp)?;
        Ok(Self {
            running: Arc::new(Running {
                core,
                addr,
                _listener: listener,
            }),
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    /// The address that a client is to be given.
    #[must_use]
    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws/chat", self.running.addr)
    }

    /// What the server knows and can be told.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.running.core
    }
}

//! What the server knows and can be told: the entry for its front, for tests and for the admin API.

use std::{net::SocketAddr, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_websockets::WebSocketStream;

use crate::{
    Options,
    account::{AccountInfo, AccountSpec},
    faults::{Fault, Faults, Target},
    media::MediaStore,
};

/// The server without its sockets.
pub struct Core {
    /// Media blobs.
    pub media: MediaStore,
    faults: Faults,
    stop: watch::Sender<bool>,
}

/// Why a simulated phone could not link a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairError {
    /// The text is not that of a QR of this kind.
    NotAQr,
    /// No connection shows this QR now.
    UnknownQr,
    /// The QR was shown, and has been replaced by a later one.
    ExpiredQr,
    /// No client waits for a code of this phone number.
    NoCodeWanted,
    /// The code is not the one that the client shows.
    WrongCode,
    /// The phone number is not one.
    BadPhone,
    /// The account or the server has no room.
    Full,
    /// The client went away, or did not answer in time.
    Gone,
}

impl std::fmt::Display for PairError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAQr => "not the text of a linking QR",
            Self::UnknownQr => "no client shows this QR",
            Self::ExpiredQr => "this QR has expired",
            Self::NoCodeWanted => "no client waits for a code for this phone number",
            Self::WrongCode => "the code is wrong",
            Self::BadPhone => "not a phone number: digits only, 5 to 15 of them",
            Self::Full => "no room for another device or account",
            Self::Gone => "the client went away or did not answer in time",
        })
    }
}

impl std::error::Error for PairError {}

/// Who is connected.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ConnectionInfo {
    /// Digits of the account's phone number; absent while not linked.
    pub phone: Option<String>,
    /// Number of the device; absent while not linked.
    pub device: Option<u16>,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// Seconds since the socket was opened.
    pub age: f64,
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

/// What a fault came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FaultReport {
    /// Whether it is armed and waits for its moment.
    pub armed: bool,
    /// Devices or connections that it acted on.
    pub devices: usize,
    /// Messages that it queued.
    pub queued: usize,
}

impl Core {
    pub(crate) fn new(_addr: SocketAddr, _options: &Options) -> Arc<Self> {
        Arc::new(Self {
            media: MediaStore::default(),
            faults: Faults::default(),
            stop: watch::channel(false).0,
        })
    }

    pub(crate) fn shut_down(&self) {
        self.stop.send_replace(true);
    }

    /// Serves one client until either side ends the connection.
    pub async fn serve<S>(self: &Arc<Self>, ws: WebSocketStream<S>, _peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut stop = self.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop).await;
        drop(ws);
    }

    /// The public key that the certificate chains are signed with.
    #[must_use]
    pub fn root_key(&self) -> [u8; 32] {
        [0; 32]
    }

    /// Plays the phone that scans a QR. Without `phone` it is the account that goes by the push name in the
    /// client's registration, else a new one. The client is linked a moment later.
    ///
    /// # Errors
    /// The QR is not one that a client shows now, or there is no room.
    pub fn scan_qr(&self, _qr: &str, _phone: Option<&str>) -> Result<AccountInfo, PairError> {
        Err(PairError::UnknownQr)
    }

    /// Plays the phone on which a pair code is typed.
    ///
    /// # Errors
    /// No client waits for a code of this number, or it shows another one.
    pub async fn enter_code(&self, _phone: &str, _code: &str) -> Result<AccountInfo, PairError> {
        Err(PairError::NoCodeWanted)
    }

    /// Makes an account. If the phone number has one already, that one.
    ///
    /// # Errors
    /// The number is not one, or there is no room.
    pub fn create_account(&self, _spec: AccountSpec) -> Result<AccountInfo, PairError> {
        Err(PairError::Full)
    }

    /// The account of a phone number.
    #[must_use]
    pub fn account(&self, _phone: &str) -> Option<AccountInfo> {
        None
    }

    /// All accounts.
    #[must_use]
    pub fn accounts(&self) -> Vec<AccountInfo> {
        Vec::new()
    }

    /// Logs a device out from the phone: it is told, and is no device of the account any more.
    pub fn logout_device(&self, _phone: &str, _device: u16) -> bool {
        false
    }

    /// Takes a device off the account without a word; its next login is refused.
    pub fn revoke_device(&self, _phone: &str, _device: u16) -> bool {
        false
    }

    /// Who is connected.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        Vec::new()
    }

    /// Stanzas that wait for a device to settle them.
    #[must_use]
    pub fn queue_len(&self, _phone: &str, _device: u16) -> usize {
        0
    }

    /// The last stanzas that went by, oldest first.
    #[must_use]
    pub fn stanzas(&self) -> Vec<StanzaRecord> {
        Vec::new()
    }

    /// The faults that are armed.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Arms a fault, or lets it act if it acts at once.
    ///
    /// # Errors
    /// What the fault is to act on is not there, in words.
    pub async fn inject(
        self: &Arc<Self>,
        target: Target,
        fault: Fault,
    ) -> Result<FaultReport, String> {
        self.faults.arm(target, fault);
        Ok(FaultReport {
            armed: true,
            ..FaultReport::default()
        })
    }
}

//! Links an account: shows codes until the phone has taken one, and stays until the device has logged in.
//!
//! One operation spans everything that looks like trouble on the way: codes that run out (a fresh round begins), and
//! the 515 with which WhatsApp sends every newly paired device through a second login. Only that login counts as
//! linked. The library's own reconnection is on here and nowhere else: the first login after pairing fetches state
//! that only the client which paired knows it needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use whatsapp_rust::client::NodeFilter;
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::{Client, bot::Bot};

use super::backend::Backend;
use super::barrier::Barrier;
use super::client::{self, Setup, WebVersion};
use super::receive::Inbox;
use super::{Endpoint, SessionError, address};
use crate::account::Paths;
use crate::identity::Address;
use crate::store::{Linked, Store};

/// The pair code is asked for this long after the first QR, when the server has certainly taken up the pairing.
const PAIR_CODE_AFTER: Duration = Duration::from_secs(3);
/// How long the first login may take to fetch its app state; it is complete without.
const FIRST_SYNC: Duration = Duration::from_secs(15);
/// Between two rounds that ended without a code.
const ROUND_PAUSE: Duration = Duration::from_secs(2);

/// What is to be linked, and how.
#[derive(Debug, Clone)]
pub struct LinkRequest {
    /// Name in WhatsApp's list of linked devices.
    pub device_name: String,
    /// Ask for a code to be typed on the phone with this number, digits only.
    pub pair_code: Option<String>,
    /// Ask for exactly this code.
    pub custom_code: Option<String>,
    /// The account that was linked here before: another one is not let in.
    pub only: Option<Address>,
    /// When to give up.
    pub deadline: Instant,
    /// The version of WhatsApp Web to present, if the operator chose one.
    pub web_version: Option<WebVersion>,
}

/// What happens meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkProgress {
    /// Show this; it replaces the one before.
    Qr { text: String, expires_in: Duration },
    /// To be typed on the phone.
    PairCode { code: String, expires_in: Duration },
    /// The phone has taken a code.
    Scanned,
    /// WhatsApp sends the new device through its second login.
    Restarting,
    /// All codes of this round ran out; a fresh round follows.
    Expired,
    /// There is no connection; it is tried again.
    Unreachable,
}

/// Why nothing was linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(
        "no phone took a code in time; run the command again and scan the QR with WhatsApp › Linked devices › Link a device"
    )]
    TimedOut,
    #[error("the phone's answer did not fit this device ({0}); run the command again")]
    Refused(String),
    #[error("WhatsApp refused to give a pair code ({0}); use the QR, or try again later")]
    PairCode(String),
    #[error(
        "WhatsApp wants a passkey for this account, which this program cannot give; link with the QR from a phone that needs none"
    )]
    Passkey,
    #[error(
        "the phone that took the code belongs to another number than the account that was linked here before; \
         the new device was logged out again; use --replace if this is meant, or another --account"
    )]
    OtherAccount,
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl LinkError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TimedOut => "link_timeout",
            Self::Refused(_) => "link_refused",
            Self::PairCode(_) => "pair_code_refused",
            Self::Passkey => "passkey_required",
            Self::OtherAccount => "other_account",
            Self::Session(error) => error.code(),
        }
    }
}

/// Links the account whose owner lock the caller holds. `progress` is called on the way.
pub async fn link(
    paths: &Paths,
    store: &Store,
    request: LinkRequest,
    mut progress: impl FnMut(LinkProgress),
) -> Result<Linked, LinkError> {
    let endpoint = Endpoint::from_env().map_err(SessionError::from)?;
    let sqlite = client::open_store(paths.store()).await?;
    let backend = Backend::new(sqlite, store.clone(), Arc::default());
    let deadline = request.deadline;
    let mut shown = false;
    let mut progress = |seen: LinkProgress| {
        shown |= matches!(seen, LinkProgress::Qr { .. });
        progress(seen);
    };
    loop {
        let round = round(&backend, store, &endpoint, &request, &mut progress);
        match tokio::time::timeout_at(deadline, round).await {
            Err(_) => return Err(in_vain(shown, &endpoint)),
            Ok(Round::Linked(linked)) => {
                return Ok(linked);
            }
            Ok(Round::Failed(error)) => return Err(error),
            Ok(Round::Over(seen)) => {
                progress(seen);
                let pause = tokio::time::sleep(ROUND_PAUSE);
                if tokio::time::timeout_at(deadline, pause).await.is_err() {
                    return Err(in_vain(shown, &endpoint));
                }
            }
        }
    }
}

/// The time is up: nobody scanned, or there never was anything to scan.
fn in_vain(shown: bool, endpoint: &Endpoint) -> LinkError {
    if shown {
        return LinkError::TimedOut;
    }
    let server = endpoint.authority();
    let reason = match endpoint.is_whatsapp() {
        true => format!("{server} gave no code"),
        false => {
            format!("{server} gave no code; only a server that WhatsApp has signed is trusted")
        }
    };
    SessionError::Unreachable { reason }.into()
}

/// How one client's try at it ended.
enum Round {
    Linked(Linked),
    Failed(LinkError),
    /// Nothing lost; begin again.
    Over(LinkProgress),
}

/// Ends the client however the round ends, its time running out included.
struct Running {
    client: Arc<Client>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.client.signal_shutdown_sync();
        self.task.abort();
    }
}

async fn round(
    backend: &Backend,
    store: &Store,
    endpoint: &Endpoint,
    request: &LinkRequest,
    progress: &mut impl FnMut(LinkProgress),
) -> Round {
    let (events, mut heard) = mpsc::unbounded_channel();
    let version = request.web_version.unwrap_or_else(client::built_in_version);
    let setup = Setup {
        backend: backend.clone(),
        endpoint,
        // Nothing is in the outbox yet.
        barrier: Barrier::default(),
        version,
        device_name: &request.device_name,
    };
    // Messages may come with the very first login; they are kept like any other.
    let inbox = Inbox::new(store.clone());
    let bot: Bot = match client::build(setup, inbox, Forward(events)).await {
        Ok(bot) => bot,
        Err(error) => return Round::Failed(error.into()),
    };
    let client = bot.client();
    client.enable_auto_reconnect.store(true, Ordering::Relaxed);
    let running = Running {
        client: client.clone(),
        task: tokio::spawn(bot.run()),
    };
    let mut code_asked = request.pair_code.is_none();
    let mut any_code = false;
    let mut pair_code_at = None;
    loop {
        let event = tokio::select! {
            event = heard.recv() => event,
            () = until(pair_code_at), if pair_code_at.is_some() => {
                pair_code_at = None;
                ask_pair_code(&client, request);
                continue;
            }
        };
        let Some(event) = event else {
            let seen = if any_code {
                LinkProgress::Expired
            } else {
                LinkProgress::Unreachable
            };
            return Round::Over(seen);
        };
        match &*event {
            Event::PairingQrCode(qr) => {
                any_code = true;
                if !std::mem::replace(&mut code_asked, true) {
                    pair_code_at = Some(Instant::now() + PAIR_CODE_AFTER);
                }
                progress(LinkProgress::Qr {
                    text: qr.code.clone(),
                    expires_in: qr.timeout,
                });
            }
            Event::PairingCode(code) => progress(LinkProgress::PairCode {
                code: code.code.clone(),
                expires_in: code.timeout,
            }),
            Event::PairingCodeError(refused) => {
                return Round::Failed(LinkError::PairCode(refused.error.clone()));
            }
            Event::PairingQrCodesExhausted(over) if over.disconnected => {
                return Round::Over(LinkProgress::Expired);
            }
            Event::PairSuccess(_) => {
                let success = client.wait_for_node(NodeFilter::tag("success"));
                progress(LinkProgress::Scanned);
                progress(LinkProgress::Restarting);
                return match logged_in(success, &mut heard).await {
                    true => settle(running, &mut heard, request.only.as_ref()).await,
                    false => Round::Over(LinkProgress::Unreachable),
                };
            }
            Event::PairError(error) => {
                return Round::Failed(LinkError::Refused(error.error.clone()));
            }
            Event::PairPasskeyRequest(_) => return Round::Failed(LinkError::Passkey),
            // Without codes this is a server that does not want to talk to us at all.
            Event::ConnectFailure(_) | Event::ClientOutdated(_) if !any_code => {
                return Round::Over(LinkProgress::Unreachable);
            }
            _ => {}
        }
    }
}

/// Whether the second login came about. Its stanza may have been missed, so the library's own word counts as well.
async fn logged_in<T>(
    success: impl Future<Output = T>,
    heard: &mut mpsc::UnboundedReceiver<Arc<Event>>,
) -> bool {
    let refused = async {
        while let Some(event) = heard.recv().await {
            match &*event {
                Event::Connected(_) => return true,
                Event::ConnectFailure(_) | Event::ClientOutdated(_) | Event::LoggedOut(_) => break,
                _ => {}
            }
        }
        false
    };
    tokio::select! {
        _ = success => true,
        reached = refused => reached,
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

/// The answer comes as an event, also when it is a refusal.
fn ask_pair_code(client: &Arc<Client>, request: &LinkRequest) {
    let Some(phone_number) = request.pair_code.clone() else {
        return;
    };
    let options = PairCodeOptions {
        phone_number,
        custom_code: request.custom_code.clone(),
        ..Default::default()
    };
    let client = client.clone();
    tokio::spawn(async move {
        if let Err(error) = client.pair_with_code(options).await {
            tracing::debug!(%error, "pair code");
        }
    });
}

/// The device has logged in. Gives the first sync its time (it may never complete: whatsapp-rust #1291), then leaves.
async fn settle(
    mut running: Running,
    heard: &mut mpsc::UnboundedReceiver<Arc<Event>>,
    only: Option<&Address>,
) -> Round {
    let synced = async {
        while let Some(event) = heard.recv().await {
            if matches!(&*event, Event::Connected(_)) {
                return;
            }
        }
    };
    if tokio::time::timeout(FIRST_SYNC, synced).await.is_err() {
        tracing::info!("the first sync has not completed; the device is linked all the same");
    }
    let linked = linked(&running.client);
    let other =
        only.is_some_and(|only| linked.as_ref().is_some_and(|linked| linked.phone != *only));
    let leave = async {
        match other {
            true => running.client.logout().await,
            false => running.client.disconnect().await,
        }
    };
    tokio::join!(leave, async {
        let _ = (&mut running.task).await;
    });
    match linked {
        _ if other => Round::Failed(LinkError::OtherAccount),
        Some(linked) => Round::Linked(linked),
        None => Round::Over(LinkProgress::Unreachable),
    }
}

/// Who this device is.
pub(super) fn linked(client: &Client) -> Option<Linked> {
    let pn = client.pn()?;
    Some(Linked {
        phone: address(&pn)?,
        lid: client.lid().as_ref().and_then(address),
        device: pn.device,
        push_name: Some(client.push_name()).filter(|name| !name.is_empty()),
    })
}

struct Forward(mpsc::UnboundedSender<Arc<Event>>);

impl EventHandler for Forward {
    fn interest(&self) -> EventInterest {
        EventInterest::of(&[
            EventKind::PairingQrCode,
            EventKind::PairingCode,
            EventKind::PairingCodeError,
            EventKind::PairingQrCodesExhausted,
            EventKind::PairSuccess,
            EventKind::PairError,
            EventKind::PairPasskeyRequest,
            EventKind::ConnectFailure,
            EventKind::ClientOutdated,
            EventKind::Connected,
            EventKind::LoggedOut,
        ])
    }

    fn handle_event(&self, event: Arc<Event>) {
        let _ = self.0.send(event);
    }
}

//! Between processes: what another process asks of the connection's owner, and how it is answered.
//!
//! The one that asks has checked its own configuration, policy and destination; what crosses is resolved: addresses,
//! encoded messages with their ids, a budget. Over the socket go two lines of JSON, the request and its answer.
//! Invariant: a request that was not answered may be made again, of the next owner or by whoever becomes it: its
//! messages keep their ids, and the outbox joins what it has already.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::account::{Account, NotOpened, Open, look_again};
use super::answer::SharedProcess;
use super::ingress::Running;
use super::reload::{self, Reloaded};
use super::sending::{self, Sending};
use super::{exchange, fetching, reading, report};
use crate::account::socket::{self, Listener, Stream};
use crate::account::{InUse, Role};
use crate::config::Config;
use crate::identity::Address;
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::DeliveryReceipt;
use crate::store::{AttachmentToken, Unread};

/// Changes with the meaning of what crosses.
const PROTOCOL: u32 = 5;
/// Longest line: what the longest request of a host may become.
const MAX_LINE: u64 = 512 << 20;
/// An owner that lives takes a connection at once.
const CONNECT: Duration = Duration::from_secs(1);
/// How much longer than the budget of a request to wait for the owner's word on it.
const SLACK: Duration = Duration::from_millis(500);
/// What it may take to tell who waits that the owner leaves.
const GOODBYE: Duration = Duration::from_millis(100);

/// What an owner can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    Send(Sending),
    Chatstate { to: Address, composing: bool },
    Read(Unread),
    Reload(serde_json::Value),
    Fetch { token: AttachmentToken, most: u64 },
    Health,
}

/// What the owner says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Sent(DeliveryReceipt),
    Shown,
    Reloaded(Reloaded),
    Standing {
        status: String,
        what_to_do: String,
        transfers: Vec<String>,
    },
    Failed(WireError),
    OwnerLeaving,
}

/// A line. A reader that knows no more than the first three fields can say who is there.
#[derive(Serialize, Deserialize)]
struct Frame<T> {
    v: u32,
    pid: u32,
    version: String,
    #[serde(default = "Option::default")]
    body: Option<T>,
}

#[derive(Serialize)]
struct Question<'a> {
    asked: &'a Asked,
    /// Until when the one who asks waits, Unix milliseconds. An owner that was asleep must not begin after that.
    until_ms: i64,
}

/// The same on the owner's side.
#[derive(Deserialize)]
struct Heard {
    asked: Asked,
    until_ms: i64,
}

fn frame<T>(body: Option<T>) -> Frame<T> {
    Frame {
        v: PROTOCOL,
        pid: std::process::id(),
        version: crate::VERSION.to_owned(),
        body,
    }
}

/// How a request gets to the connection.
pub(super) enum Way {
    /// This process owns it.
    Own(Open),
    /// The owner did it.
    Passed(Said),
}

/// Becomes the owner, or has the owner do it; waits until `deadline` where neither goes.
pub(super) async fn way(
    account: &Account,
    config: &Config,
    deadline: Instant,
    asked: &Asked,
) -> Result<Way, NotOpened> {
    let until = account.process.leave_by();
    let mut alone = None;
    let mut looks = 0;
    loop {
        let in_use = match account.open(config, Role::OneShot, until).await {
            Ok(open) => return Ok(Way::Own(open)),
            Err(NotOpened::InUse(in_use)) => in_use,
            Err(other) => return Err(other),
        };
        let InUse::Owned {
            pid, ref socket, ..
        } = in_use
        else {
            return Err(NotOpened::InUse(in_use));
        };
        let name = match socket {
            Some(name) => Some(name.clone()),
            // The file cannot be read now: on Windows never while somebody has its lock.
            None if pid.is_none() => socket::name(&account.paths).ok(),
            None => None,
        };
        if let Some(name) = name {
            if let Some(said) = ask(&name, asked, deadline).await? {
                return Ok(Way::Passed(said));
            }
        } else if in_use.stays().is_some() && in_use.stays() == alone {
            return Err(NotOpened::InUse(in_use));
        }
        alone = in_use.stays();
        if Instant::now() >= deadline {
            return Err(NotOpened::InUse(in_use));
        }
        look_again(&mut looks).await;
    }
}

/// Asks the owner that listens under this name; nothing if it leaves, or is gone.
pub(super) async fn ask(
    name: &str,
    asked: &Asked,
    deadline: Instant,
) -> Result<Option<Said>, WireError> {
    let connected = tokio::time::timeout(CONNECT, socket::connect(name));
    let Ok(Ok(stream)) = connected.await else {
        return Ok(None);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let question = Question {
        asked,
        until_ms: now_ms().saturating_add_unsigned(left.as_millis() as u64),
    };
    let exchanged = async {
        write(&stream, &frame(Some(question))).await?;
        read::<serde_json::Value>(&stream).await
    };
    let answer = match tokio::time::timeout_at(deadline + SLACK, exchanged).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the owner of the connection went away");
            return Ok(None);
        }
        Err(_) => return Ok(None),
    };
    let said = (answer.v == PROTOCOL)
        .then_some(answer.body)
        .flatten()
        .and_then(|body| serde_json::from_value(body).ok());
    match said {
        Some(Said::OwnerLeaving) => Ok(None),
        Some(said) => Ok(Some(said)),
        None => Err(other_version(answer.pid, &answer.version)),
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn other_version(pid: u32, version: &str) -> WireError {
    WireError::new(
        "session_in_use",
        format_args!(
            "this WhatsApp account is in use by process {pid}, which is channel-whatsapp {version}, while this is {}, \
             and the two cannot work together; stop it, or use the same version for both",
            crate::VERSION
        ),
    )
    .with("pid", pid)
    .with("version", version)
}

async fn write<T: Serialize>(mut stream: &Stream, frame: &Frame<T>) -> io::Result<()> {
    let mut line = serde_json::to_vec(frame)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

async fn read<T: DeserializeOwned>(stream: &Stream) -> io::Result<Frame<T>> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_LINE));
    reader.read_until(b'\n', &mut line).await?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Whether the owner takes what others ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// It takes nothing new.
    Closed,
    /// Whoever still waits is told.
    Leaving,
}

/// Where an owner takes what others ask. To be closed while the account's lock is still held.
pub(super) struct Reception {
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Reception {
    pub(super) fn open(
        listener: Listener,
        open: Open,
        process: SharedProcess,
        ingress: Running,
    ) -> Self {
        let (phase, seen) = watch::channel(Phase::Open);
        let owner = Owner {
            open,
            process,
            ingress,
        };
        let task = tokio::spawn(receive(listener, owner, seen));
        Self { phase, task }
    }

    /// Takes nothing more; tells those whose requests are still under way at `until` that the owner leaves.
    pub(super) async fn close(mut self, until: Instant) {
        self.phase.send_replace(Phase::Closed);
        if tokio::time::timeout_at(until, &mut self.task).await.is_ok() {
            return;
        }
        self.phase.send_replace(Phase::Leaving);
        if tokio::time::timeout(GOODBYE, &mut self.task).await.is_err() {
            self.task.abort();
            // Waits until it has let go of the lock.
            let _ = self.task.await;
        }
    }
}

/// What the owner does the work with.
#[derive(Clone)]
struct Owner {
    open: Open,
    process: SharedProcess,
    ingress: Running,
}

async fn receive(listener: Listener, owner: Owner, mut phase: watch::Receiver<Phase>) {
    let mut visits = JoinSet::new();
    let seen = phase.clone();
    loop {
        tokio::select! {
            biased;
            () = until(&mut phase, |phase| phase != Phase::Open) => break,
            visitor = listener.accept() => match visitor {
                Ok(stream) => {
                    visits.spawn(visit(stream, owner.clone(), seen.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "another process could not be heard");
                    tokio::time::sleep(GOODBYE).await;
                }
            },
            Some(_) = visits.join_next() => {}
        }
    }
    drop(listener);
    while visits.join_next().await.is_some() {}
}

async fn until(phase: &mut watch::Receiver<Phase>, is: impl Fn(Phase) -> bool) {
    // An error means that nobody is there any more who could close it otherwise.
    let _ = phase.wait_for(|phase| is(*phase)).await;
}

/// One question and its answer. A visitor that goes away changes nothing: what it asked for is under way.
async fn visit(stream: Stream, owner: Owner, mut phase: watch::Receiver<Phase>) {
    let said = tokio::select! {
        biased;
        () = until(&mut phase, |phase| phase == Phase::Leaving) => Some(Said::OwnerLeaving),
        said = heard(&stream, &owner) => match said {
            Ok(said) => said,
            Err(error) => {
                tracing::debug!(%error, "another process went away before it asked");
                return;
            }
        },
    };
    if let Err(error) = write(&stream, &frame(said)).await {
        tracing::debug!(%error, "another process went away before its answer");
    }
}

/// Reads what is asked and does it; nothing for a question of another version.
async fn heard(stream: &Stream, owner: &Owner) -> io::Result<Option<Said>> {
    let Owner {
        open,
        process,
        ingress,
    } = owner;
    let question: Frame<serde_json::Value> = read(stream).await?;
    let body = question.body.filter(|_| question.v == PROTOCOL);
    let Some(Ok(Heard { asked, until_ms })) = body.map(serde_json::from_value) else {
        return Ok(None);
    };
    let left = u64::try_from(until_ms.saturating_sub(now_ms())).unwrap_or(0);
    // What was to be queued is in the outbox by now, and may go; all else its caller was told has failed.
    if left == 0 && !matches!(&asked, Asked::Send(sending) if sending.degrade) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let deadline = Instant::now() + Duration::from_millis(left);
    let said = match asked {
        Asked::Send(sending) => sending::carry_out(open, process, &sending, deadline)
            .await
            .map(Said::Sent),
        Asked::Chatstate { to, composing } => exchange::show(open, &to, composing, deadline)
            .await
            .map(|()| Said::Shown),
        Asked::Read(unread) => reading::mark(open, &unread, deadline)
            .await
            .map(|()| Said::Shown),
        Asked::Reload(config) => reload::apply(ingress, config, deadline)
            .await
            .map(Said::Reloaded),
        Asked::Fetch { token, most } => fetching::fetch(open, token, most, deadline)
            .await
            .map(|()| Said::Shown),
        Asked::Health => report::connected(open).map(|(status, what_to_do)| Said::Standing {
            status,
            what_to_do,
            transfers: open.session.transfers(),
        }),
    };
    Ok(Some(said.unwrap_or_else(Said::Failed)))
}

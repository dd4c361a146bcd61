//! Hands each request to the thread of its account, and decides how the process ends.
//!
//! The thread that reads a request hands it on itself: between stdin and the account nobody else has to wake up. The
//! main thread waits for the end alone.
//!
//! The end of stdin means that no more requests come. With an ingress running the host is gone: the process is gone
//! within a second. Otherwise it is a one-shot call, whose host closes stdin at once: what was asked is answered
//! first, under the one deadline of the process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::account::{Desk, Ending};
use super::answer::{Answer, Process, SharedProcess};
use super::jobs::{Job, Jobs, Work};
use super::reader::{self, Incoming};
use super::writer::{self, Lines};
use crate::account::Paths;
use crate::config::Config;
use crate::platform;
use crate::protocol::capabilities;
use crate::protocol::jsonrpc::{Request, WireError, error_line};
use crate::protocol::request::Body;
use crate::protocol::response::Response;

/// A persistent process is gone this long after the end of its stdin, whatever hangs.
const GONE: Duration = Duration::from_millis(900);

/// Why the process ends.
enum Heard {
    /// No more requests come.
    NoMore(Ending),
    /// Nobody reads stdout any more.
    HostGone,
    /// A persistent session is over for good, or nobody reads stdin any more.
    Over,
}

/// Serves the host until its requests end; the exit code is the process's.
pub fn run(stdin: impl Read + Send + 'static, stdout: impl Write + Send + 'static) -> ExitCode {
    let (heard, inbox) = channel();
    let writer = match writer::start(stdout, platform::stdout_has_room) {
        Ok(writer) => writer,
        Err(error) => return no_thread(&error),
    };
    let gone = heard.clone();
    // A one-shot process has seen the end of its stdin before it starts to work, so this is the only sign that its host
    // is gone.
    platform::watch_stdout(move || drop(gone.send(Heard::HostGone)));
    let process = Arc::new(Process::new());
    let office = Arc::new(Mutex::new(Office {
        desks: Some(HashMap::new()),
        leave_by: process.leave_by().into_std(),
    }));
    let (ending, _) = watch::channel(Ending::No);
    let mut router = Router {
        office: office.clone(),
        process,
        lines: writer.lines(),
        ending: ending.clone(),
        heard,
        last: Ending::Finish,
    };
    if let Err(error) = reader::start(stdin, move |incoming| router.take(incoming)) {
        return no_thread(&error);
    }
    let (how, code) = match inbox.recv() {
        Ok(Heard::NoMore(how)) => (how, ExitCode::SUCCESS),
        Ok(Heard::HostGone) => (Ending::AtOnce, ExitCode::SUCCESS),
        Ok(Heard::Over) | Err(_) => (Ending::AtOnce, ExitCode::FAILURE),
    };
    let leave_by = end(&office, &ending, how, &inbox);
    writer.finish(leave_by.saturating_duration_since(Instant::now()));
    code
}

fn no_thread(error: &std::io::Error) -> ExitCode {
    tracing::error!(%error, "no thread could be started");
    ExitCode::FAILURE
}

/// The accounts that this process serves.
struct Office {
    /// None once the process ends: nothing more is taken.
    desks: Option<HashMap<Paths, Desk>>,
    /// When a one-shot process must be gone.
    leave_by: Instant,
}

fn lock(office: &Mutex<Office>) -> MutexGuard<'_, Office> {
    office.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the accounts end, for as long as there is time; until when there is.
fn end(
    office: &Mutex<Office>,
    ending: &watch::Sender<Ending>,
    how: Ending,
    inbox: &Receiver<Heard>,
) -> Instant {
    let (desks, patience) = {
        let mut office = lock(office);
        (office.desks.take(), office.leave_by)
    };
    let mut leave_by = match how {
        Ending::AtOnce => Instant::now() + GONE,
        _ => patience.max(Instant::now() + LAST_LINES),
    };
    ending.send_replace(how);
    let desks = desks.into_iter().flatten();
    let mut threads: Vec<_> = desks.map(|(_, desk)| desk.thread).collect();
    while !threads.is_empty() && Instant::now() < leave_by {
        threads.retain(|thread| !thread.is_finished());
        match inbox.recv_timeout(Duration::from_millis(2)) {
            Ok(Heard::HostGone | Heard::Over) => {
                ending.send_replace(Ending::AtOnce);
                leave_by = leave_by.min(Instant::now() + GONE);
            }
            Ok(Heard::NoMore(_)) | Err(_) => {}
        }
    }
    if !threads.is_empty() {
        tracing::warn!("an account did not end in time; nothing is lost by that");
    }
    leave_by
}

/// What the thread that reads stdin does with a line.
struct Router {
    office: Arc<Mutex<Office>>,
    process: SharedProcess,
    lines: Lines,
    ending: watch::Sender<Ending>,
    heard: Sender<Heard>,
    /// How the process ends if nothing more is read.
    last: Ending,
}

impl Drop for Router {
    /// The end of reading, also by a panic, is the end of the process.
    fn drop(&mut self) {
        let heard = match std::thread::panicking() {
            true => Heard::Over,
            false => Heard::NoMore(self.last),
        };
        // Nobody hears it if the process is about to end already.
        let _ = self.heard.send(heard);
    }
}

impl Router {
    /// Whether more is to be read.
    fn take(&mut self, incoming: Incoming) -> bool {
        match incoming {
            Incoming::Request(request) if matches!(request.body, Body::Shutdown) => {
                Answer::new(request.id, self.lines.clone()).send_blocking(Ok(Response::Ok));
                self.last = Ending::AtOnce;
                return false;
            }
            Incoming::Request(request) => self.hand_on(request),
            Incoming::Refused(refused) => {
                let line = error_line(&refused.id, &refused.error);
                self.lines.send_blocking(line);
            }
            Incoming::End => {
                if self.process.is_persistent() {
                    self.last = Ending::AtOnce;
                }
                return false;
            }
        }
        true
    }

    fn hand_on(&self, request: Request) {
        let answer = Answer::new(request.id, self.lines.clone());
        match self.prepared(request.body) {
            Ok(Prepared::Answered(response)) => answer.send_blocking(Ok(response)),
            Ok(Prepared::ForAccount {
                work,
                config,
                paths,
            }) => match self.jobs(paths) {
                Ok(Some(jobs)) => jobs.hand(Job {
                    work,
                    config,
                    answer,
                }),
                Ok(None) => drop(answer),
                Err(error) => answer.send_blocking(Err(WireError::new("internal_error", error))),
            },
            Err(error) => answer.send_blocking(Err(error)),
        }
    }

    fn prepared(&self, body: Body) -> Result<Prepared, WireError> {
        let (config, work): (_, MakeWork) = match body {
            Body::Capabilities => {
                let capabilities = capabilities::capabilities();
                return Ok(Prepared::Answered(Response::Capabilities { capabilities }));
            }
            Body::IngressEvent => {
                return Err(WireError::new(
                    "webhook_not_supported",
                    "WhatsApp sends no webhooks to this plugin; use start_ingress or poll_ingress",
                ));
            }
            Body::Shutdown => return Ok(Prepared::Answered(Response::Ok)),
            Body::Configure { config } => (
                config,
                Box::new(|unknown_keys, warnings| Work::Configure {
                    unknown_keys,
                    warnings,
                }),
            ),
            Body::Health { config } => (config, Box::new(|_, _| Work::Health)),
            Body::PollIngress { config, state } => (config, Box::new(|_, _| Work::Poll(state))),
            Body::StartIngress { config, state } => (config, Box::new(|_, _| Work::Start(state))),
            Body::StopIngress { config, state } => (config, Box::new(|_, _| Work::Stop(state))),
            Body::Deliver { config, message } => (config, Box::new(|_, _| Work::Deliver(message))),
            Body::Push { config, message } => (config, Box::new(|_, _| Work::Push(message))),
            Body::Status { config, update } => (config, Box::new(|_, _| Work::Status(update))),
        };
        let parsed =
            Config::parse(&config).map_err(|error| WireError::new("invalid_config", error))?;
        for warning in &parsed.warnings {
            tracing::warn!(warning, "configuration");
        }
        if !parsed.unknown_keys.is_empty() {
            tracing::warn!(
                keys = parsed.unknown_keys.join(", "),
                "unknown keys in the configuration"
            );
        }
        let config = Arc::new(parsed.config);
        let paths = Paths::resolve(&config.account, config.sqlite_store_path.as_deref())?;
        let work = work(parsed.unknown_keys, parsed.warnings);
        if matches!(work, Work::Poll(_)) {
            let own = Duration::from_secs(config.poll_timeout_secs.into()) + POLL_EXTRA;
            let mut office = lock(&self.office);
            office.leave_by = office.leave_by.max(Instant::now() + own);
        }
        Ok(Prepared::ForAccount {
            work,
            config,
            paths,
        })
    }

    /// Where the account takes its requests; none once the process ends.
    fn jobs(&self, paths: Paths) -> std::io::Result<Option<Jobs>> {
        let mut office = lock(&self.office);
        let Some(desks) = &mut office.desks else {
            return Ok(None);
        };
        let desk = match desks.entry(paths) {
            Entry::Occupied(desk) => desk.into_mut(),
            Entry::Vacant(place) => {
                let heard = self.heard.clone();
                let desk = Desk::start(
                    place.key().clone(),
                    self.process.clone(),
                    self.lines.clone(),
                    self.ending.subscribe(),
                    Box::new(move || drop(heard.send(Heard::Over))),
                )?;
                place.insert(desk)
            }
        };
        Ok(Some(desk.jobs.clone()))
    }
}

/// What the writer is given at least for the lines that are on their way.
const LAST_LINES: Duration = Duration::from_millis(100);

/// What `poll_ingress` may take beyond its own timeout, for disconnecting and leaving; the host allows 15 s.
const POLL_EXTRA: Duration = Duration::from_secs(12);

/// Makes an account's work of the unknown keys and the warnings of its configuration.
type MakeWork = Box<dyn FnOnce(Vec<String>, Vec<String>) -> Work>;

/// A request, as far as the router takes it.
enum Prepared {
    Answered(Response),
    ForAccount {
        work: Work,
        config: Arc<Config>,
        paths: Paths,
    },
}

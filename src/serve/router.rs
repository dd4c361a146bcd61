//! Hands each request to the thread of its account, and decides how the process ends.
//!
//! The end of stdin means that no more requests come. With an ingress running the host is gone: the process is gone
//! within a second. Otherwise it is a one-shot call, whose host closes stdin at once: what was asked is answered
//! first, under the one deadline of the process.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::account::{Desk, Ending, Job, Work};
use super::answer::{Answer, Process, SharedProcess};
use super::reader::{self, Incoming};
use super::writer::{self, Lines};
use crate::account::Paths;
use crate::config::Config;
use crate::platform;
use crate::protocol::capabilities;
use crate::protocol::jsonrpc::{Request, WireError, error_line};
use crate::protocol::request::Body;
use crate::protocol::response::Response;

/// Requests read and not yet handed on.
const QUEUE: usize = 64;
/// A persistent process is gone this long after the end of its stdin, whatever hangs.
const GONE: Duration = Duration::from_millis(900);

/// What the router hears.
enum Heard {
    Line(Incoming),
    /// Nobody reads stdout any more.
    HostGone,
    /// A persistent session is over for good.
    Over,
}

/// Serves the host until its requests end; the exit code is the process's.
pub fn run(stdin: impl Read + Send + 'static, stdout: impl Write + Send + 'static) -> ExitCode {
    let (heard, inbox) = sync_channel(QUEUE);
    let from_reader = heard.clone();
    let started = reader::start(stdin, move |incoming| {
        from_reader.send(Heard::Line(incoming)).is_ok()
    })
    .and_then(|reader| Ok((reader, writer::start(stdout)?)));
    let (_reader, writer) = match started {
        Ok(threads) => threads,
        Err(error) => {
            tracing::error!(%error, "no thread could be started");
            return ExitCode::FAILURE;
        }
    };
    let gone = heard.clone();
    // A one-shot process has seen the end of its stdin before it starts to work, so this is the only sign that its host
    // is gone.
    platform::watch_stdout(move || drop(gone.send(Heard::HostGone)));
    let process = Arc::new(Process::new());
    let mut router = Router {
        desks: HashMap::new(),
        process: process.clone(),
        lines: writer.lines(),
        ending: watch::Sender::new(Ending::No),
        heard,
        leave_by: process.leave_by().into_std(),
    };
    let (ending, code) = router.route(&inbox);
    let leave_by = router.end(ending, &inbox);
    writer.finish(leave_by.saturating_duration_since(Instant::now()));
    code
}

struct Router {
    desks: HashMap<Paths, Desk>,
    process: SharedProcess,
    lines: Lines,
    ending: watch::Sender<Ending>,
    heard: SyncSender<Heard>,
    /// When a one-shot process must be gone.
    leave_by: Instant,
}

impl Router {
    fn route(&mut self, inbox: &Receiver<Heard>) -> (Ending, ExitCode) {
        while let Ok(heard) = inbox.recv() {
            match heard {
                Heard::Line(Incoming::Request(request)) => {
                    if matches!(request.body, Body::Shutdown) {
                        Answer::new(request.id, self.lines.clone()).send_blocking(Ok(Response::Ok));
                        return (Ending::AtOnce, ExitCode::SUCCESS);
                    }
                    self.hand_on(request);
                }
                Heard::Line(Incoming::Refused(refused)) => {
                    self.lines
                        .send_blocking(error_line(&refused.id, &refused.error));
                }
                Heard::Line(Incoming::End) => {
                    let ending = match self.process.is_persistent() {
                        true => Ending::AtOnce,
                        false => Ending::Finish,
                    };
                    return (ending, ExitCode::SUCCESS);
                }
                Heard::HostGone => return (Ending::AtOnce, ExitCode::SUCCESS),
                Heard::Over => return (Ending::AtOnce, ExitCode::FAILURE),
            }
        }
        (Ending::Finish, ExitCode::SUCCESS)
    }

    fn hand_on(&mut self, request: Request) {
        let answer = Answer::new(request.id, self.lines.clone());
        match self.prepared(request.body) {
            Ok(Prepared::Answered(response)) => answer.send_blocking(Ok(response)),
            Ok(Prepared::ForAccount {
                work,
                config,
                paths,
            }) => match self.desk(paths) {
                // The desk is gone only if its thread died; the answer, dropped, then says so.
                Ok(desk) => drop(desk.jobs.blocking_send(Job {
                    work,
                    config,
                    answer,
                })),
                Err(error) => answer.send_blocking(Err(WireError::new("internal_error", error))),
            },
            Err(error) => answer.send_blocking(Err(error)),
        }
    }

    fn prepared(&mut self, body: Body) -> Result<Prepared, WireError> {
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
            self.leave_by = self.leave_by.max(Instant::now() + own);
        }
        Ok(Prepared::ForAccount {
            work,
            config,
            paths,
        })
    }

    fn desk(&mut self, paths: Paths) -> std::io::Result<&Desk> {
        if !self.desks.contains_key(&paths) {
            let heard = self.heard.clone();
            let desk = Desk::start(
                paths.clone(),
                self.process.clone(),
                self.lines.clone(),
                self.ending.subscribe(),
                Box::new(move || drop(heard.send(Heard::Over))),
            )?;
            self.desks.insert(paths.clone(), desk);
        }
        Ok(&self.desks[&paths])
    }

    /// Lets the accounts end, for as long as there is time; until when there is.
    fn end(mut self, ending: Ending, inbox: &Receiver<Heard>) -> Instant {
        let mut leave_by = match ending {
            Ending::AtOnce => Instant::now() + GONE,
            _ => self.leave_by.max(Instant::now() + LAST_LINES),
        };
        self.ending.send_replace(ending);
        let mut threads: Vec<_> = self.desks.drain().map(|(_, desk)| desk.thread).collect();
        while !threads.is_empty() && Instant::now() < leave_by {
            threads.retain(|thread| !thread.is_finished());
            match inbox.recv_timeout(Duration::from_millis(2)) {
                Ok(Heard::HostGone | Heard::Over) => {
                    self.ending.send_replace(Ending::AtOnce);
                    leave_by = leave_by.min(Instant::now() + GONE);
                }
                Ok(Heard::Line(_)) | Err(_) => {}
            }
        }
        if !threads.is_empty() {
            tracing::warn!("an account did not end in time; nothing is lost by that");
        }
        leave_by
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

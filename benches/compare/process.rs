//! A process under measurement, the plugin or the bare client, and what the system says of it.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, PipeWriter, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::accounts::{Account, PATIENCE, Side, plugin, until};
use crate::bare;

/// The line of one request. Pacing and limits are out of the way: they are not what is measured.
pub fn request(kind: &str, mut params: Value) -> String {
    params["kind"] = json!(kind);
    params["protocol_version"] = json!(1);
    params["config"] = json!({
        "dm_policy": "open",
        "pacing": {
            "chat_per_second": 100_000, "chat_burst": 100_000, "account_per_minute": 100_000,
            "account_burst": 100_000, "strangers_per_day": 100_000,
        },
        "media": {"max_bytes": 1 << 30},
        "max_attachment_bytes": 1 << 30,
        "allow_private_urls": true,
        "send_timeout_secs": 120,
    });
    let method = format!("channel.{kind}");
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string() + "\n"
}

/// A process with what it reads already in its stdin.
pub struct Process {
    child: Child,
    stdin: Option<PipeWriter>,
    stdout: Option<BufReader<ChildStdout>>,
    pub began: Instant,
}

impl Process {
    /// Starts a command whose stdin holds these bytes from the first instant.
    pub fn spawn(mut command: Command, input: &str) -> Result<Self> {
        let (reader, mut stdin) = std::io::pipe()?;
        stdin.write_all(input.as_bytes())?;
        command
            .stdin(reader)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self {
            child,
            stdin: Some(stdin),
            stdout,
            began,
        })
    }

    /// Starts what receives on an account: the plugin with `start_ingress`, or the bare client.
    pub fn connect(account: &Account) -> Result<Self> {
        let (mut command, input) = match account.side {
            Side::Plugin => {
                let mut command = plugin();
                command
                    .env("XDG_CONFIG_HOME", &account.home)
                    .env("CHANNEL_WHATSAPP_WS_URL", account.server().ws_url());
                (command, request("start_ingress", json!({})))
            }
            Side::Bare => (bare::command(account)?, String::new()),
        };
        command.env_remove("CHANNEL_WHATSAPP_LOG");
        Self::spawn(command, &input)
    }

    /// The same, ready, with nothing unread but what comes from now on.
    pub fn ready(account: &Account) -> Result<Self> {
        let mut process = Self::connect(account)?;
        account.ready()?;
        if account.side == Side::Plugin {
            process.answer()?;
        }
        Ok(process)
    }

    pub fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin is closed")?;
        Ok(stdin.write_all(line.as_bytes())?)
    }

    /// The next line that is no notification; an error answer is an error.
    pub fn answer(&mut self) -> Result<String> {
        let stdout = self.stdout.as_mut().context("stdout is being collected")?;
        loop {
            let mut line = String::new();
            ensure!(stdout.read_line(&mut line)? > 0, "the process has ended");
            if line.contains("\"error\":{") {
                bail!("{line}");
            }
            if !line.contains("\"method\":") {
                return Ok(line);
            }
        }
    }

    /// The next notification with an event.
    pub fn event(&mut self) -> Result<String> {
        let stdout = self.stdout.as_mut().context("stdout is being collected")?;
        loop {
            let mut line = String::new();
            ensure!(stdout.read_line(&mut line)? > 0, "the process has ended");
            if line.contains("\"event_id\":") {
                return Ok(line);
            }
        }
    }

    /// Reads events on a thread of its own from now on.
    pub fn collect(&mut self) -> Result<Events> {
        let stdout = self.stdout.take().context("stdout is being collected")?;
        let events = Events::default();
        let seen = events.clone();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // What the last process had emitted and nobody has proven comes again with the start.
                if line.contains("\"redelivered\":") {
                    continue;
                }
                // Cheaper than parsing; the line is the plugin's own and compact.
                let id = line.split_once("\"event_id\":\"");
                let id = id.and_then(|(_, rest)| rest.split('"').next());
                if let Some(id) = id {
                    let mut seen = seen.lock();
                    seen.ids.insert(id.to_owned());
                    seen.last = Some(Instant::now());
                }
            }
        });
        Ok(events)
    }

    /// A size in `/proc/<pid>/status`, in bytes.
    pub fn memory(&self, key: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = value
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .context("no such size")?;
        Ok(kib.trim().parse::<f64>()? * 1024.0)
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(&self.child.id().to_string())
    }

    /// Ends stdin, which ends the process, and waits for that.
    pub fn end(mut self) -> Result<()> {
        self.stdin = None;
        let mut ended = None;
        until("the end of the process", || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        })?;
        ensure!(
            ended.is_some_and(|status| status.success()),
            "the process failed: {ended:?}"
        );
        Ok(())
    }

    /// Reads stdout to its end; from the start of the process to its exit.
    pub fn closed(mut self) -> Result<(Duration, String)> {
        self.stdin = None;
        let mut output = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            std::io::Read::read_to_string(&mut stdout, &mut output)?;
        }
        let status = self.child.wait()?;
        let took = self.began.elapsed();
        ensure!(status.success(), "{status}");
        Ok((took, output))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only a measurement that failed leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this process: the server's, and what little the measuring costs.
pub fn own_cpu() -> Result<Duration> {
    cpu("self")
}

/// User and system time from `/proc/<pid>/stat`, whose unit is a hundredth of a second on Linux.
fn cpu(pid: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().context("stat")?;
    let ticks = |n: usize| fields.split_whitespace().nth(n)?.parse::<u64>().ok();
    let ticks = ticks(11).zip(ticks(12)).context("stat")?;
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 10))
}

/// The events that the plugin has emitted.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    ids: HashSet<String>,
    last: Option<Instant>,
}

impl Events {
    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so many different events; when the last of them came.
    pub fn all(&self, count: usize) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (seen, last) = {
                let collected = self.lock();
                (collected.ids.len(), collected.last)
            };
            if seen >= count {
                ensure!(seen == count, "{seen} different events of {count} messages");
                return last.context("no event");
            }
            ensure!(
                Instant::now() < deadline,
                "only {seen} of {count} messages became events"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

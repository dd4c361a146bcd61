//! A host that behaves as Dispatch does, in a process of its own that can be killed: it takes notifications strictly
//! one after the other, saves the `state` of each before it runs its event, reads stdout without bound, gives up at
//! the first error, and never restarts its plugin.
//!
//! What it does it writes to a log, synced line by line, so that a test knows after any kill how far it had got.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{code, message, request};

/// Names the role to a process that is to play it.
const ROLE: &str = "CHANNEL_WHATSAPP_TEST_HOST";
/// The host gives every call this long.
const CALL: Duration = Duration::from_secs(30);

/// How it takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `start_ingress`, until killed.
    Stream,
    /// `poll_ingress` once, then it leaves.
    Poll,
}

/// What one run of the host is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Role {
    pub plugin: PathBuf,
    /// Where its state files are.
    pub states: PathBuf,
    pub log: PathBuf,
    pub config: Value,
    pub mode: Mode,
    /// How long the agent thinks.
    pub turn: Duration,
    /// The host dies in the turn of an event with this text.
    pub dies_at: Option<String>,
}

/// A line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The process that wrote it.
    pub host: u32,
    /// Milliseconds since the epoch.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// It has started a plugin.
    Plugin { pid: u32 },
    /// A request was answered with an error.
    Refused { code: String, kind: String },
    /// The state of a notification or a batch with these messages is saved.
    Taken { messages: Vec<String> },
    /// The turn of an event begins.
    Start { text: String, id: String },
    /// Its reply was answered.
    Answered {
        text: String,
        message_id: String,
        state: String,
    },
    /// The turn is over.
    End { text: String, replied: bool },
}

impl Role {
    /// The process that plays this role: the test binary itself, with `test` as the only test that it runs.
    pub fn command(&self, test: &str) -> tokio::process::Command {
        let own = std::env::current_exe().expect("the test binary");
        let mut command = tokio::process::Command::new(own);
        command
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, serde_json::to_string(self).expect("role"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// Whether the agent answers this text: every fourth it reads and says nothing.
pub fn answers(text: &str) -> bool {
    let number = text.rsplit('/').next().and_then(|n| n.parse::<u32>().ok());
    number.is_none_or(|n| n % 4 != 3)
}

/// What every reply to this text begins with, however the agent words it.
pub fn reply_prefix(text: &str) -> String {
    format!("re {text} #")
}

/// Reads what a log has more than when it was last read.
pub struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    pub fn more(&mut self) -> Vec<Record> {
        let Ok(mut file) = File::open(&self.path) else {
            return Vec::new();
        };
        file.seek(SeekFrom::Start(self.read)).expect("seek");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        // A line that is being written has no end yet; one that a kill cut has the next host's line behind it.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        text[..whole]
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// Plays the role that the environment names, if it names one; does not return from it.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let role: Role = serde_json::from_str(&role).expect("role");
    let mut host = SimHost::new(role);
    match host.role.mode {
        Mode::Stream => host.stream(),
        Mode::Poll => host.poll(),
    }
}

struct SimHost {
    role: Role,
    log: File,
}

/// A plugin that runs for as long as the host.
struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    waiting: VecDeque<Value>,
}

impl SimHost {
    fn new(role: Role) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(&role.log);
        let mut log = log.expect("log");
        // The host before may have been killed in the middle of a line.
        log.write_all(b"\n").expect("log");
        Self { role, log }
    }

    fn log(&mut self, what: What) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let record = Record {
            host: std::process::id(),
            at: now.expect("after 1970").as_millis() as u64,
            what,
        };
        let mut line = serde_json::to_string(&record).expect("record");
        line.push('\n');
        self.log.write_all(line.as_bytes()).expect("log");
        self.log.sync_data().expect("sync");
    }

    fn taken(&mut self, events: &[Value]) {
        let id = |event: &Value| event["message"]["id"].as_str().map(str::to_owned);
        self.log(What::Taken {
            messages: events.iter().filter_map(id).collect(),
        });
    }

    /// Its name has the configuration in it, so another configuration begins without a state.
    fn state_file(&self) -> PathBuf {
        let mut hash = DefaultHasher::new();
        self.role.config.to_string().hash(&mut hash);
        let name = format!("state-{:016x}.json", hash.finish());
        self.role.states.join(name)
    }

    fn save(&self, state: &Value) {
        if !state.is_null() {
            let (file, new) = (self.state_file(), self.role.states.join("new"));
            std::fs::write(&new, state.to_string()).expect("state");
            std::fs::rename(new, file).expect("state");
        }
    }

    fn params(&self) -> Value {
        let mut params = json!({"config": self.role.config});
        if let Ok(text) = std::fs::read_to_string(self.state_file()) {
            params["state"] = serde_json::from_str(&text).expect("state");
        }
        params
    }

    fn spawn(&mut self) -> Child {
        let child = Command::new(&self.role.plugin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("plugin");
        self.log(What::Plugin { pid: child.id() });
        child
    }

    fn stream(&mut self) -> ! {
        let mut child = self.spawn();
        let stdin = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Cut by a kill, or a plugin that breaks the rules; the host ends in either case.
                let Ok(line) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut plugin = Running {
            child,
            stdin,
            lines,
            waiting: VecDeque::new(),
        };
        let params = self.params();
        let started = plugin.ask("start_ingress", params);
        match started.get("error") {
            None => self.save(&started["result"]["state"]),
            Some(_) => self.refused("start_ingress", &started),
        }
        loop {
            let notification = plugin.notification();
            let events = notification["params"]["events"].as_array().cloned();
            let events = events.unwrap_or_default();
            self.save(&notification["params"]["state"]);
            self.taken(&events);
            for event in events {
                self.turn(&event, |params| plugin.ask("deliver", params));
            }
        }
    }

    fn poll(&mut self) -> ! {
        let params = self.params();
        let polled = self.call("poll_ingress", params);
        if polled.get("error").is_some() {
            self.refused("poll_ingress", &polled);
        }
        let events = polled["result"]["events"].as_array().cloned();
        let events = events.unwrap_or_default();
        self.save(&polled["result"]["state"]);
        self.taken(&events);
        for event in events {
            // One process a call, as the host does it.
            let mut log = Self::new(self.role.clone());
            self.turn(&event, |params| log.call("deliver", params));
        }
        std::process::exit(0);
    }

    /// One request in a process of its own.
    fn call(&mut self, kind: &str, params: Value) -> Value {
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().expect("stdin");
        let line = request(kind, params) + "\n";
        let written = stdin.write_all(line.as_bytes());
        drop(stdin);
        let mut text = String::new();
        let stdout = child.stdout.take().expect("stdout");
        let read = BufReader::new(stdout).read_line(&mut text);
        let status = child.wait().expect("wait");
        match serde_json::from_str(&text) {
            Ok(answer) if written.is_ok() && read.is_ok() && status.success() => answer,
            _ => std::process::exit(1),
        }
    }

    /// The agent's turn: the reply is worded anew each time, as models do.
    fn turn(&mut self, event: &Value, deliver: impl FnOnce(Value) -> Value) {
        let text = event["message"]["content"].as_str().expect("content");
        let id = event["message"]["id"].as_str().expect("id");
        self.log(What::Start {
            text: text.to_owned(),
            id: id.to_owned(),
        });
        std::thread::sleep(self.role.turn);
        if self.role.dies_at.as_deref() == Some(text) {
            std::process::exit(1);
        }
        let replied = answers(text);
        if replied {
            let reply = format!("{}{}", reply_prefix(text), std::process::id());
            let metadata =
                json!({"conversation_id": event["conversation"]["id"], "reply_to_message_id": id});
            let params = json!({"config": self.role.config, "message": message(&reply, metadata)});
            let answer = deliver(params);
            if answer.get("error").is_some() {
                self.refused("deliver", &answer);
            }
            let delivery = &answer["result"]["delivery"];
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            self.log(What::Answered {
                text: text.to_owned(),
                message_id: word(&delivery["message_id"]),
                state: word(&delivery["metadata"]["delivery_state"]),
            });
        }
        self.log(What::End {
            text: text.to_owned(),
            replied,
        });
    }

    /// Any error is the end of the host.
    fn refused(&mut self, kind: &str, answer: &Value) -> ! {
        self.log(What::Refused {
            code: code(answer),
            kind: kind.to_owned(),
        });
        std::process::exit(1);
    }
}

impl Running {
    /// One request; what is notified meanwhile waits.
    fn ask(&mut self, kind: &str, params: Value) -> Value {
        let line = request(kind, params) + "\n";
        if self.stdin.write_all(line.as_bytes()).is_err() {
            std::process::exit(1);
        }
        loop {
            match self.lines.recv_timeout(CALL) {
                Ok(line) if line.get("method").is_some() => self.waiting.push_back(line),
                Ok(answer) => return answer,
                Err(_) => {
                    let _ = self.child.kill();
                    std::process::exit(1);
                }
            }
        }
    }

    fn notification(&mut self) -> Value {
        let next = self.waiting.pop_front();
        match next.map_or_else(|| self.lines.recv(), Ok) {
            Ok(line) => line,
            // The plugin is gone; the host does not start it again.
            Err(_) => std::process::exit(1),
        }
    }
}

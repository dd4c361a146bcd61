//! A plugin, the people who write to it, and the hosts that run it one after the other, each until it is killed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use whatsapp_loopback::people::{Person, PersonSpec};

use super::World;
use super::simhost::{Mode, Record, Role, Tail, What};
use super::verdict::{answers_to, chat_of};

/// Messages that wait for a turn at most. Beyond 20 the plugin leaves it to the operator to send them again.
const OPEN: usize = 12;
/// What the last host is given for all that waits.
const DRAIN: Duration = Duration::from_secs(60);
/// The points at which the plugin may be told to die.
const POINTS: [&str; 6] = [
    "after_commit",
    "after_number",
    "after_outbox_commit",
    "after_send",
    "before_answer",
    AFTER_ACK,
];
/// This one is seen from outside: the server has the acknowledgement.
const AFTER_ACK: &str = "after_ack";

/// What was written, a list a chat.
#[derive(Default)]
pub struct Book {
    pub chats: Mutex<Vec<Vec<String>>>,
    written: AtomicUsize,
    ended: AtomicUsize,
    enough: AtomicBool,
}

/// A plugin, the people who write to it, and the hosts that run it one after the other.
pub struct Stage {
    pub world: World,
    pub people: Vec<Person>,
    pub book: Arc<Book>,
    writing: JoinSet<()>,
    pub role: Role,
    tail: Tail,
    pub records: Vec<Record>,
    /// Texts whose turn has ended, or has brought an answer to the person's phone: a kill may come between the two.
    pub handled: HashSet<String>,
    /// Texts whose turn has begun.
    begun: HashSet<String>,
    pub dir: tempfile::TempDir,
}

impl Stage {
    pub async fn set(chats: usize) -> Self {
        let world = World::linked_lid().await;
        let dir = tempfile::tempdir().expect("directory");
        let mut people = Vec::new();
        for n in 0..chats {
            let spec = PersonSpec::new(&format!("Person {n}"));
            let spec = match n % 2 {
                0 => spec,
                _ => spec.lid_migrated(),
            };
            people.push(Person::join_as(&world.server, spec).await.expect("person"));
        }
        let log = dir.path().join("log");
        Self {
            role: Role {
                plugin: PathBuf::from(env!("CARGO_BIN_EXE_channel-whatsapp")),
                states: dir.path().to_owned(),
                log: log.clone(),
                config: json!({"dm_policy": "open", "send_timeout_secs": 4, "poll_idle_ms": 300}),
                mode: Mode::Stream,
                turn: Duration::from_millis(20),
                dies_at: None,
            },
            book: Arc::new(Book {
                chats: Mutex::new(vec![Vec::new(); chats]),
                ..Book::default()
            }),
            writing: JoinSet::new(),
            tail: Tail::new(log),
            records: Vec::new(),
            handled: HashSet::new(),
            begun: HashSet::new(),
            world,
            people,
            dir,
        }
    }

    /// Writes the next text in a chat.
    pub async fn write(
        book: &Book,
        person: &Person,
        plugin: &[whatsapp_rust::Jid; 2],
        chat: usize,
    ) {
        let text = format!("{chat}/{}", book.chats.lock().expect("book")[chat].len());
        let to = plugin[chat % 2].clone();
        let id = person.text(to, &text).await.expect("text");
        assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
        book.chats.lock().expect("book")[chat].push(text);
    }

    /// Everybody writes, as long as not too much waits.
    pub fn everybody_writes(&mut self, rng: &mut fastrand::Rng) {
        for (chat, person) in self.people.iter().cloned().enumerate() {
            let (book, mut rng) = (self.book.clone(), rng.fork());
            let plugin = [self.world.jid(), self.world.lid()];
            self.writing.spawn(async move {
                while !book.enough.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(rng.u64(20..1500))).await;
                    let ended = book.ended.load(Ordering::SeqCst);
                    let written = book.written.fetch_add(1, Ordering::SeqCst);
                    if written < ended + OPEN {
                        Self::write(&book, &person, &plugin, chat).await;
                    } else {
                        book.written.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    }

    async fn everybody_stops(&mut self) {
        self.book.enough.store(true, Ordering::SeqCst);
        while let Some(done) = self.writing.join_next().await {
            done.expect("who writes");
        }
    }

    pub fn host(&self, crash: Option<String>) -> Child {
        let mut command = self.role.command("crash::host");
        command
            .env("XDG_CONFIG_HOME", self.world.home.path())
            .env("HOME", self.world.home.path())
            .env("CHANNEL_WHATSAPP_WS_URL", self.world.server.ws_url())
            .env("CHANNEL_WHATSAPP_LOG", "info");
        command.stderr(self.world.discreet.stderr());
        if let Some(crash) = crash {
            command.env("CHANNEL_WHATSAPP_CRASH", crash);
        }
        command.spawn().expect("host")
    }

    /// Removes what hosts have saved.
    pub fn forget(&self) {
        for entry in std::fs::read_dir(self.dir.path()).expect("states") {
            let path = entry.expect("entry").path();
            if path.extension().is_some_and(|json| json == "json") {
                std::fs::remove_file(path).expect("remove");
            }
        }
    }

    pub fn read(&mut self) {
        for record in self.tail.more() {
            match &record.what {
                What::Start { text, .. } if !self.handled.contains(text) => {
                    self.begun.insert(text.clone());
                }
                What::End { text, .. } => {
                    self.begun.remove(text);
                    self.handled.insert(text.clone());
                }
                _ => {}
            }
            self.records.push(record);
        }
        let people = &self.people;
        let arrived = self.begun.extract_if(|text| {
            let person = &people[chat_of(text)];
            person.seen(|seen| answers_to(seen, text).next().is_some())
        });
        self.handled.extend(arrived);
        self.book.ended.store(self.handled.len(), Ordering::SeqCst);
    }

    /// The plugin that the host of this number runs.
    fn plugin(&self, host: u32) -> Option<u32> {
        let mut own = self.records.iter().rev().filter(|r| r.host == host);
        own.find_map(|record| match record.what {
            What::Plugin { pid } => Some(pid),
            _ => None,
        })
    }

    /// Lets hosts run, one after the other where one gives up, until the time is over or one was killed or has died
    /// at a point. Then host, plugin or both are gone. `longest` is in milliseconds.
    pub async fn run_and_kill(&mut self, rng: &mut fastrand::Rng, longest: u64) {
        let until = Instant::now() + Duration::from_millis(rng.u64(0..longest));
        let point = POINTS[rng.usize(..POINTS.len())];
        let way = rng.u8(0..5);
        let nth = rng.u8(1..4);
        let (mut patience, crash) = match way {
            3.. if point == AFTER_ACK => (Instant::now() + Duration::from_secs(2), None),
            3.. => {
                let crash = Some(format!("{point}:{nth}"));
                (Instant::now() + Duration::from_secs(3), crash)
            }
            _ => (until, None),
        };
        let mut waiting = Vec::new();
        let mut host = self.host(crash.clone());
        loop {
            self.read();
            let number = host.id().unwrap_or_default();
            let plugin = self.plugin(number);
            if host.try_wait().expect("wait").is_some() {
                // It did not get the session yet, or its plugin has died at the point. One kill a run: a message that
                // three die over is given up, as it should be.
                let mut own = self.records.iter().rev().filter(|r| r.host == number);
                let refused = own.any(|record| matches!(record.what, What::Refused { .. }));
                if !refused || Instant::now() >= patience {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
                host = self.host(crash.clone());
                continue;
            }
            if way >= 3 && point == AFTER_ACK {
                let now = self.world.unacknowledged();
                if waiting.iter().any(|id| !now.contains(id)) {
                    patience = Instant::now();
                }
                waiting = now;
            }
            // Its plugin cannot be killed before there is one.
            if Instant::now() >= patience && (way != 1 || plugin.is_some()) {
                if way != 0
                    && let Some(pid) = plugin
                {
                    kill(pid);
                }
                if way != 1 {
                    host.kill().await.expect("kill");
                } else {
                    super::timeout(host.wait()).await.expect("wait");
                }
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Hosts run undisturbed until every message has had its turn and every answer has arrived.
    pub async fn drain(&mut self) {
        self.everybody_stops().await;
        let deadline = Instant::now() + DRAIN;
        let mut host = self.host(None);
        while Instant::now() < deadline {
            if host.try_wait().expect("wait").is_some() {
                sleep(Duration::from_millis(50)).await;
                host = self.host(None);
            }
            self.read();
            if self.unhandled().is_empty() && self.answers().is_empty() && self.nothing_goes().await
            {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        host.kill().await.expect("kill");
        self.read();
    }

    /// Whether the outbox is empty.
    async fn nothing_goes(&self) -> bool {
        let health = self.world.ok("health", json!({"config": {}})).await;
        let count = &health["health"]["metadata"]["outbox_queued"];
        count.as_str().is_none_or(|count| count == "0")
    }
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    // It may be gone already.
    let _ = status.expect("kill");
}

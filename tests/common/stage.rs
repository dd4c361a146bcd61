//! A plugin, the people who write to it, and the hosts that run it one after the other, each until it is killed; and
//! what must hold of all that was seen, however they were killed.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use channel_whatsapp::store::Store;
use serde_json::json;
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use whatsapp_loopback::people::{Person, PersonSpec, Seen, SeenMessage};

use super::World;
use super::simhost::{self, Mode, Record, Role, Tail, What};

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
    chats: Mutex<Vec<Vec<String>>>,
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
        person.text(to, &text).await.expect("text");
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
        let mut command = self.role.command("host");
        command
            .env("XDG_CONFIG_HOME", self.world.home.path())
            .env("HOME", self.world.home.path())
            .env("CHANNEL_WHATSAPP_WS_URL", self.world.server.ws_url());
        if std::env::var_os("SHOW_STDERR").is_none() {
            command.stderr(std::process::Stdio::null());
        }
        if let Some(crash) = crash {
            command.env("CHANNEL_WHATSAPP_CRASH", crash);
        }
        command.spawn().expect("host")
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
            if Instant::now() >= patience {
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

    /// Hosts run undisturbed until every message has had its turn and every answer has arrived. What the plugin has
    /// set aside, since three hosts were killed over it, an operator sends again.
    pub async fn drain(&mut self) {
        self.everybody_stops().await;
        self.run_out().await;
        let store = Store::open(&self.world.account_dir().join("channel.db")).expect("store");
        for event in self.poisoned() {
            assert!(store.redeliver(event).await.expect("redeliver"));
        }
        drop(store);
        self.run_out().await;
    }

    async fn run_out(&mut self) {
        let deadline = Instant::now() + DRAIN;
        let mut host = self.host(None);
        while Instant::now() < deadline {
            if host.try_wait().expect("wait").is_some() {
                sleep(Duration::from_millis(50)).await;
                host = self.host(None);
            }
            self.read();
            if self.unhandled().len() <= self.poisoned().len()
                && self.answers().is_empty()
                && self.nothing_goes().await
            {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        host.kill().await.expect("kill");
        self.read();
    }

    /// The ids of the events that three hosts were killed over.
    fn poisoned(&self) -> Vec<String> {
        self.rows("SELECT event_id FROM inbox WHERE state = 5")
    }

    /// The messages whose replies were handed over three times and never acknowledged, and the replies.
    fn given_up(&self) -> Vec<String> {
        let given_up =
            "FROM part p JOIN request r ON r.id = p.request WHERE p.state = 2 AND p.open = 0";
        self.rows(&format!(
            "SELECT r.reply_stanza {given_up} UNION SELECT p.message_id {given_up}"
        ))
    }

    fn rows(&self, query: &str) -> Vec<String> {
        let path = self.world.account_dir().join("channel.db");
        let file = rusqlite::Connection::open(path).expect("channel.db");
        file.busy_timeout(super::PATIENCE).expect("timeout");
        let mut query = file.prepare(query).expect("query");
        let rows = query.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows")
    }

    /// Whether the outbox is empty.
    async fn nothing_goes(&self) -> bool {
        let health = self.world.ok("health", json!({"config": {}})).await;
        let count = &health["health"]["metadata"]["outbox_queued"];
        count.as_str().is_none_or(|count| count == "0")
    }

    /// What was written and had no turn.
    fn unhandled(&self) -> Vec<String> {
        let chats = self.book.chats.lock().expect("book");
        let written = chats.iter().flatten();
        let mut without: Vec<&String> = written
            .filter(|text| !self.handled.contains(*text))
            .collect();
        if !without.is_empty() {
            let given_up = self.given_up();
            without.retain(|text| {
                !self.records.iter().any(|record| {
                    matches!(&record.what, What::Start { text: begun, id } if begun == *text && given_up.contains(id))
                })
            });
        }
        without
            .into_iter()
            .map(|text| format!("never handled: {text}"))
            .collect()
    }

    /// What is wrong with the answers at the people's phones.
    fn answers(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // Of these nothing better than "queued" or "unknown" may have been said.
        let given_up = self.given_up();
        let mut answered: HashMap<&str, Vec<&str>> = HashMap::new();
        for record in &self.records {
            if let What::Answered {
                text,
                message_id,
                state,
            } = &record.what
            {
                match state.as_str() {
                    "rejected" => wrong.push(format!("rejected: {text}")),
                    "queued" | "unknown" if given_up.contains(message_id) => {}
                    _ => answered.entry(text).or_default().push(message_id),
                }
            }
        }
        for text in self.book.chats.lock().expect("book").iter().flatten() {
            let got: Vec<String> = self.people[chat_of(text)]
                .seen(|seen| answers_to(seen, text).map(|m| m.id().to_owned()).collect());
            if got.len() > 1 {
                wrong.push(format!("answered twice: {text}, with {got:?}"));
            }
            for id in answered.get(text.as_str()).into_iter().flatten() {
                if !got.iter().any(|got| got == id) {
                    wrong.push(format!("answered and not there: {text}, {id}; {got:?}"));
                }
            }
        }
        wrong
    }

    /// What was seen twice and should not have been.
    pub fn repeated(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // How the last turn of a text went: nothing, or the place where it ended and whether it was answered.
        let mut turns: HashMap<&str, Option<(usize, bool)>> = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            match &record.what {
                What::Start { text, .. } => {
                    let before = turns.insert(text, None).flatten();
                    let Some((ended, replied)) = before else {
                        continue;
                    };
                    let host = self.records[ended].host;
                    let later = self.records[ended..at].iter().any(|record| {
                        record.host == host && matches!(record.what, What::Taken { .. })
                    });
                    if replied || later {
                        wrong.push(format!("seen again: {text}, replied {replied}"));
                    }
                }
                What::End { text, replied } => {
                    turns.insert(text, Some((at, *replied)));
                }
                _ => {}
            }
        }
        wrong
    }

    /// Chats in which a message had its first turn before an earlier one.
    fn disorder(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut last: HashMap<&str, usize> = HashMap::new();
        for record in &self.records {
            if let What::Start { text, .. } = &record.what
                && let Some((chat, number)) = text.split_once('/')
                && let Ok(number) = number.parse::<usize>()
            {
                let next = last.entry(chat).or_default();
                if number > *next {
                    wrong.push(format!("out of turn: {text} before {chat}/{next}"));
                }
                *next = (*next).max(number + 1);
            }
        }
        wrong
    }

    /// Fails with all that is wrong.
    pub fn judge(self, seed: u64, mut wrong: Vec<String>) {
        wrong.extend(self.unhandled());
        wrong.extend(self.answers());
        wrong.extend(self.disorder());
        let count = |of: fn(&What) -> bool| {
            self.records
                .iter()
                .filter(|record| of(&record.what))
                .count()
        };
        let given_up = self.given_up().len() / 2;
        if given_up * 100 > self.handled.len() {
            wrong.push(format!("{given_up} replies were given up"));
        }
        println!(
            "{} messages, {given_up} replies given up, {} turns, {} plugins",
            self.handled.len(),
            count(|what| matches!(what, What::Start { .. })),
            count(|what| matches!(what, What::Plugin { .. })),
        );
        if wrong.is_empty() {
            return;
        }
        let (kept, home) = (self.dir.keep(), self.world.home.keep());
        panic!(
            "CHANNEL_WHATSAPP_SEED={seed}, the host's log is in {}, the account in {}:\n{}",
            kept.display(),
            home.display(),
            wrong.join("\n")
        );
    }
}

fn chat_of(text: &str) -> usize {
    let chat = text.split('/').next().and_then(|chat| chat.parse().ok());
    chat.expect("a text of these tests")
}

fn answers_to<'a>(seen: &'a Seen, text: &str) -> impl Iterator<Item = &'a SeenMessage> {
    let prefix = simhost::reply_prefix(text);
    let messages = seen.messages.iter();
    messages.filter(move |m| m.text().is_some_and(|t| t.starts_with(&prefix)))
}

fn kill(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
    // It may be gone already.
    let _ = status.expect("kill");
}

//! What the tests of the binary share: an account in a directory of its own, the binary as a process, and the
//! host's side of its pipes.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use discreet::Discreet;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use whatsapp_loopback::Server;
use whatsapp_loopback::people::Person;

pub mod command;
pub mod discreet;
pub mod disk;
pub mod files;
pub mod media;
pub mod proxy;
pub mod room;
pub mod s3;
pub mod sending;
pub mod simhost;
pub mod stage;
pub mod verdict;

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A pace that holds nothing back. Each test has it that does not choose another one.
pub fn unhurried() -> Value {
    json!({
        "chat_per_second": 100_000, "chat_burst": 100_000, "account_per_minute": 100_000,
        "account_burst": 100_000, "strangers_per_day": 100_000,
    })
}

/// The same in a file of settings.
pub fn unhurried_toml() -> String {
    let pace = unhurried();
    let lines = pace.as_object().expect("an object").iter();
    lines.map(|(key, n)| format!("{key} = {n}\n")).collect()
}

/// The wire's two lines of every request.
pub fn request(kind: &str, mut params: Value) -> String {
    let config = params.get_mut("config").and_then(Value::as_object_mut);
    if let Some(config) = config {
        config.entry("pacing").or_insert_with(unhurried);
    }
    params["kind"] = json!(kind);
    params["protocol_version"] = json!(1);
    json!({"jsonrpc": "2.0", "id": 1, "method": format!("channel.{kind}"), "params": params})
        .to_string()
}

/// A message for `deliver` and `push`.
pub fn message(content: &str, metadata: Value) -> Value {
    json!({"content": content, "content_type": "text/plain", "attachments": [], "metadata": metadata})
}

/// A server and the directory of one account of the plugin.
pub struct World {
    pub server: Server,
    pub home: TempDir,
    /// Phone number of the plugin's account, once linked.
    pub phone: String,
    /// Number of the plugin's device, once linked.
    pub device: u16,
    /// What its processes write to stderr.
    pub discreet: Arc<Discreet>,
}

impl World {
    /// A server; nothing is linked.
    pub async fn unlinked() -> Self {
        let server = Server::start(Default::default()).await.expect("server");
        let home = tempfile::tempdir().expect("directory");
        Self {
            discreet: Discreet::new(home.path(), &server),
            server,
            home,
            phone: String::new(),
            device: 0,
        }
    }

    /// A server, and the plugin linked to an account of its own there.
    pub async fn linked() -> Self {
        let mut world = Self::unlinked().await;
        let summary = world.link(&[]).await;
        world.is(&summary);
        world
    }

    /// The same with an account that is addressed by LID.
    pub async fn linked_lid() -> Self {
        let mut world = Self::unlinked().await;
        let spec = whatsapp_loopback::AccountSpec {
            lid_migrated: true,
            ..Default::default()
        };
        let account = world.server.core().create_account(spec).expect("account");
        let summary = world.link_as(&[], Some(&account.phone)).await;
        world.is(&summary);
        world
    }

    /// Takes the summary's word for who the plugin is.
    pub fn is(&mut self, summary: &Value) {
        self.phone = phone_of(summary);
        self.device = summary["device_id"]
            .as_u64()
            .and_then(|id| id.try_into().ok())
            .expect("device_id");
    }

    /// Lets something happen to the plugin's device.
    pub async fn fault(&self, fault: whatsapp_loopback::Fault) {
        let target = whatsapp_loopback::Target::device(&self.phone, self.device);
        self.server
            .core()
            .inject(target, fault)
            .await
            .expect("fault");
    }

    /// The presence that the server saw last of the plugin's device.
    pub fn presence(&self) -> Option<String> {
        self.server.core().presence(&self.phone, self.device)
    }

    /// Ids of the messages that the plugin has not acknowledged.
    pub fn unacknowledged(&self) -> Vec<String> {
        self.server.core().queued_messages(&self.phone, self.device)
    }

    /// A person on the same server.
    pub async fn person(&self, name: &str) -> Person {
        Person::join(&self.server, name).await.expect(name)
    }

    /// A group that this person makes, with the plugin in it.
    pub async fn group(&self, creator: &Person, subject: &str) -> whatsapp_rust::Jid {
        use whatsapp_rust::features::{GroupCreateOptions, GroupParticipantOptions};
        let plugin = GroupParticipantOptions::builder().jid(self.jid()).build();
        let options = GroupCreateOptions::builder()
            .subject(subject)
            .participants(vec![plugin])
            .build();
        let client = creator.client().await.expect("client");
        let created = client.groups().create_group(options).await.expect("group");
        let id = created.metadata.id;
        self.discreet.keep(subject);
        self.discreet.keep(id.user.as_ref());
        id
    }

    /// The plugin's account as people write to it.
    pub fn jid(&self) -> whatsapp_rust::Jid {
        whatsapp_rust::Jid::pn(&self.phone)
    }

    /// The plugin's account by its LID.
    pub fn lid(&self) -> whatsapp_rust::Jid {
        let account = self.server.core().account(&self.phone).expect("account");
        account.lid_jid.to_string().parse().expect("lid")
    }

    /// Links by QR and gives back the summary.
    pub async fn link(&self, arguments: &[&str]) -> Value {
        self.link_as(arguments, None).await
    }

    /// Links by QR with the phone of this account.
    pub async fn link_as(&self, arguments: &[&str], phone: Option<&str>) -> Value {
        let (last, success) = self.try_link(arguments, phone).await;
        assert!(success, "link failed: {last}");
        last
    }

    /// The same where it must fail; the last line.
    pub async fn link_failing(&self, phone: &str) -> Value {
        let (last, success) = self.try_link(&[], Some(phone)).await;
        assert!(!success, "linked: {last}");
        last
    }

    async fn try_link(&self, arguments: &[&str], phone: Option<&str>) -> (Value, bool) {
        let mut child = self
            .command()
            .args(["--link", "--json", "--timeout", "60"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut last = Value::Null;
        let mut scanned = false;
        while let Some(line) = timeout(lines.next_line()).await.expect("read") {
            let event: Value = serde_json::from_str(&line).expect("NDJSON");
            match event["event"].as_str() {
                Some("qr") if !scanned => {
                    scanned = true;
                    let text = event["text"].as_str().expect("text");
                    self.server.core().scan_qr(text, phone).expect("scan");
                }
                _ => last = event,
            }
        }
        (last, timeout(child.wait()).await.expect("wait").success())
    }

    /// Where the account's files are.
    pub fn account_dir(&self) -> PathBuf {
        self.home.path().join("dispatch/channels/whatsapp/default")
    }

    /// The binary, in this world's environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_channel-whatsapp"));
        command
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("HOME", self.home.path())
            .env("CHANNEL_WHATSAPP_WS_URL", self.server.ws_url())
            .env("CHANNEL_WHATSAPP_LOG", "info")
            .stdin(Stdio::null())
            .stderr(self.discreet.stderr())
            .kill_on_drop(true);
        command
    }

    /// The binary as a host keeps it.
    pub fn host(&self) -> Host {
        Host::new(self.command())
    }

    /// One call as the host makes it: the request, end of stdin, the answer, the exit.
    pub async fn call(&self, kind: &str, params: Value) -> Value {
        let mut host = self.host();
        host.send(&request(kind, params)).await;
        host.end();
        let answer = host.line().await;
        let status = host.exit().await;
        assert!(status.success(), "exit {status} after {answer}");
        answer
    }

    /// A call that must succeed; its result.
    pub async fn ok(&self, kind: &str, params: Value) -> Value {
        let answer = self.call(kind, params).await;
        assert!(answer.get("error").is_none(), "{kind}: {answer}");
        answer["result"].clone()
    }

    /// A call that must be refused; the code.
    pub async fn refused(&self, kind: &str, params: Value) -> String {
        let answer = self.call(kind, params).await;
        code(&answer)
    }

    /// `poll_ingress` with everybody allowed; the events.
    pub async fn poll(&self, config: Value) -> Vec<Value> {
        let result = self.ok("poll_ingress", json!({"config": config})).await;
        result["events"].as_array().expect("events").clone()
    }
}

/// A configuration that lets everybody in and polls without dawdling.
pub fn open() -> Value {
    json!({"dm_policy": "open", "poll_idle_ms": 300, "poll_timeout_secs": 30})
}

/// The error code of an answer.
pub fn code(answer: &Value) -> String {
    answer["error"]["data"]["dispatch_error"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {answer}"))
        .to_owned()
}

/// The phone number in a link summary.
pub fn phone_of(summary: &Value) -> String {
    let jid = summary["phone_jid"].as_str().expect("phone_jid");
    jid.split('@').next().expect("user").to_owned()
}

/// The host's side of one process.
pub struct Host {
    pub child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Lines<BufReader<ChildStdout>>,
    discreet: Option<Arc<Discreet>>,
}

impl Host {
    pub fn new(mut command: Command) -> Self {
        let discreet = Discreet::of(&command);
        if let Some(discreet) = &discreet {
            discreet.also(&command);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("stdout")).lines(),
            child,
            discreet,
        }
    }

    /// Writes one line.
    pub async fn send(&mut self, line: &str) {
        // What is longer is no text, but a file.
        if line.len() < 1 << 20
            && let Ok(line) = serde_json::from_str(line)
        {
            self.note(&line);
        }
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(line.as_bytes()).await.expect("write");
        stdin.write_all(b"\n").await.expect("write");
        stdin.flush().await.expect("flush");
    }

    /// Ends stdin.
    pub fn end(&mut self) {
        self.stdin = None;
    }

    /// The next line, which must come.
    pub async fn line(&mut self) -> Value {
        let line = timeout(self.stdout.next_line())
            .await
            .expect("read")
            .expect("a line, not the end");
        self.read(&line)
    }

    fn read(&self, line: &str) -> Value {
        let line = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.note(&line);
        line
    }

    fn note(&self, line: &Value) {
        if let Some(discreet) = &self.discreet {
            discreet.note(line);
        }
    }

    /// The next line, or the end of stdout.
    pub async fn line_or_end(&mut self) -> Option<Value> {
        let line = timeout(self.stdout.next_line()).await.expect("read")?;
        Some(self.read(&line))
    }

    /// The next answer; notifications before it are dropped.
    pub async fn answer(&mut self) -> Value {
        loop {
            let line = self.line().await;
            if line.get("method").is_none() {
                return line;
            }
        }
    }

    /// Asks and gives back the result, which must be one.
    pub async fn ask(&mut self, kind: &str, params: Value) -> Value {
        self.send(&request(kind, params)).await;
        let answer = self.answer().await;
        assert!(answer.get("error").is_none(), "{kind}: {answer}");
        answer["result"].clone()
    }

    /// Asks what must be refused; the code.
    pub async fn ask_refused(&mut self, kind: &str, params: Value) -> String {
        self.send(&request(kind, params)).await;
        code(&self.answer().await)
    }

    /// The next event; empty notifications are passed over.
    pub async fn event(&mut self) -> Value {
        self.notification_with_event().await["params"]["events"][0].clone()
    }

    /// The next notification that has an event.
    pub async fn notification_with_event(&mut self) -> Value {
        loop {
            let line = self.line().await;
            assert_eq!(line["method"], "channel.event", "{line}");
            if !line["params"]["events"]
                .as_array()
                .expect("events")
                .is_empty()
            {
                return line;
            }
        }
    }

    /// The exit, which must come.
    pub async fn exit(&mut self) -> ExitStatus {
        timeout(self.child.wait()).await.expect("wait")
    }

    /// Kills it as a crash does.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("kill");
    }

    /// Everything that is left on stdout.
    pub async fn rest(mut self) -> String {
        let mut text = String::new();
        let mut stdout = self.stdout.into_inner();
        timeout(stdout.read_to_string(&mut text))
            .await
            .expect("read");
        let _ = self.child.wait().await;
        text
    }
}

/// Fails the test if this takes too long.
pub async fn timeout<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("this takes too long")
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Puts this many messages of so many people into the queue of the plugin's device, which is away.
pub async fn fill(world: &World, messages: usize, people: usize) {
    let fill = whatsapp_loopback::faults::FillQueue {
        n: messages,
        senders: people,
        ..Default::default()
    };
    world.fault(whatsapp_loopback::Fault::FillQueue(fill)).await;
    assert_eq!(
        world.server.core().queue_len(&world.phone, world.device),
        messages
    );
}

/// KiB of memory that a process has now, from where its `VmHWM` begins anew.
pub fn memory_from_now(process: u32) -> u64 {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the peak begins anew");
    memory(process, "VmRSS")
}

/// KiB of memory that a process has (`VmRSS`), or had at most (`VmHWM`).
pub fn memory(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with(what))
        .expect("line");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

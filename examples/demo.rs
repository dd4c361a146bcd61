//! The main job, start to end, on this machine: a WhatsApp server of our own, the plugin as a process of its own,
//! a person who writes to it, and the answer on that person's phone.
//!
//! `cargo run --example demo` (`-- --fast` without the pauses).

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use wacore::types::presence::ChatPresence;
use whatsapp_loopback::people::Person;
use whatsapp_loopback::{Server, camera};
use whatsapp_rust::Jid;

/// Set in the process that plays the plugin: cargo builds no binary for an example, so this one starts itself.
const ROLE: &str = "CHANNEL_WHATSAPP_DEMO_ROLE";
/// Columns of a terminal that everything fits into.
const WIDTH: usize = 100;

fn main() -> ExitCode {
    if std::env::var_os(ROLE).is_some() {
        return channel_whatsapp::cli::main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let shown = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(show()));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<()> {
    let stage = Stage {
        server: Server::start(Default::default()).await?,
        home: tempfile::tempdir()?,
        pause: Duration::from_millis(if std::env::args().any(|a| a == "--fast") {
            0
        } else {
            1200
        }),
    };

    stage.chapter("A WhatsApp server of our own").await;
    stage.say(&format!(
        "It listens on {} and speaks the real wire: Noise, Signal, multi-device.",
        stage.server.addr()
    ));

    stage
        .chapter("The operator links an account:  channel-whatsapp --link")
        .await;
    let jid = stage.link().await?;

    stage
        .chapter("The host starts the plugin and asks for messages")
        .await;
    let mut host = Host::start(&stage)?;
    host.ask(&stage, "start_ingress", json!({"config": config()}))
        .await?;

    stage.chapter("Anna writes on her phone").await;
    let anna = Person::join(&stage.server, "Anna").await?;
    let question = "Hi! Are you open on Sunday?";
    anna.text(jid.clone(), question).await?;
    stage.say(&format!("Anna 📱 {question}"));

    stage.chapter("The event reaches the host").await;
    let event = host.event(&stage).await?;
    ensure!(
        event["message"]["content"] == question,
        "another message arrived: {event}"
    );
    let conversation = event["conversation"]["id"].clone();

    stage
        .chapter("The agent thinks, and Anna sees it typing")
        .await;
    let update = json!({"kind": "processing", "message": "", "conversation_id": conversation, "metadata": {}});
    host.ask(
        &stage,
        "status",
        json!({"config": config(), "update": update}),
    )
    .await?;
    anna.wait_for("typing", |seen| {
        seen.chatstates
            .iter()
            .any(|told| told.state == ChatPresence::Composing)
            .then_some(())
    })
    .await?;
    stage.say("Anna 📱 … is typing");

    stage.chapter("The agent answers").await;
    let answer = "Yes, from ten to four. See you on Sunday!";
    let metadata =
        json!({"conversation_id": conversation, "reply_to_message_id": event["message"]["id"]});
    let message = json!({"attachments": [], "content": answer, "content_type": "text/plain", "metadata": metadata});
    let result = host
        .ask(
            &stage,
            "deliver",
            json!({"config": config(), "message": message}),
        )
        .await?;
    let id = result["delivery"]["message_id"]
        .as_str()
        .context("no message id")?;
    let shown = anna.wait_id(id).await?;
    stage.say(&format!("Anna 📱 {}", shown.text().unwrap_or_default()));
    ensure!(
        shown.text() == Some(answer),
        "the answer changed on its way"
    );

    stage
        .chapter("The host stops; a message comes while nobody is there")
        .await;
    host.ask(&stage, "stop_ingress", json!({"config": config()}))
        .await?;
    host.ask(&stage, "shutdown", json!({})).await?;
    host.exit().await?;
    let late = anna.text(jid, "Great, thank you!").await?;
    anna.wait_ack(&late).await?;
    stage.say("Anna 📱 Great, thank you!");

    stage
        .chapter("Later the host polls once:  dispatch channel poll --once")
        .await;
    let mut host = Host::start(&stage)?;
    let result = host
        .ask(&stage, "poll_ingress", json!({"config": config()}))
        .await?;
    host.exit().await?;
    let events = result["events"].as_array().context("no events")?;
    ensure!(
        events.len() == 1 && events[0]["message"]["id"] == late,
        "not the one message: {result}"
    );

    stage.chapter("Done").await;
    stage.say("One question, one answer, one thank-you: each arrived once. Nothing of this is left on disk.");
    Ok(())
}

fn config() -> Value {
    json!({"dm_policy": "open", "poll_idle_ms": 300})
}

/// Where it plays: the server, and a directory for the plugin's account that goes away with it.
struct Stage {
    server: Server,
    home: TempDir,
    pause: Duration,
}

impl Stage {
    async fn chapter(&self, title: &str) {
        tokio::time::sleep(self.pause).await;
        println!(
            "\n\x1b[1m── {title} {}\x1b[0m",
            "─".repeat(WIDTH.saturating_sub(title.chars().count() + 4))
        );
    }

    fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// A protocol line, wrapped.
    fn line(&self, direction: &str, line: &str) {
        println!("   \x1b[2m{direction}\x1b[0m");
        let characters: Vec<char> = line.chars().collect();
        for part in characters.chunks(WIDTH - 6) {
            println!("      {}", part.iter().collect::<String>());
        }
    }

    fn plugin(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env(ROLE, "plugin")
            .env("CHANNEL_WHATSAPP_WS_URL", self.server.ws_url())
            .env("CHANNEL_WHATSAPP_LOG", "error")
            .env("XDG_CONFIG_HOME", self.home.path())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Links with the QR as a person would: what the plugin draws is what the phone's camera reads.
    async fn link(&self) -> Result<Jid> {
        let mut child = self
            .plugin()?
            .args(["--link", "--timeout", "60"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let mut drawing = String::new();
        let mut scanned = false;
        while let Some(line) = stderr.next_line().await? {
            println!("   {line}");
            drawing.push_str(&line);
            drawing.push('\n');
            if !scanned && let Some(code) = camera::read(&drawing, false) {
                scanned = true;
                self.server.core().scan_qr(&code, None)?;
            }
        }
        let mut summary = String::new();
        child
            .stdout
            .take()
            .context("no stdout")?
            .read_to_string(&mut summary)
            .await?;
        ensure!(child.wait().await?.success(), "linking failed");
        self.line("its summary on stdout", summary.trim());
        let summary: Value = serde_json::from_str(&summary)?;
        let jid = summary["phone_jid"].as_str().context("no phone_jid")?;
        Ok(jid.parse()?)
    }
}

/// The host's side of one plugin process.
struct Host {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Host {
    fn start(stage: &Stage) -> Result<Self> {
        let mut child = stage
            .plugin()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            stdin: child.stdin.take().context("no stdin")?,
            stdout: BufReader::new(child.stdout.take().context("no stdout")?).lines(),
            child,
        })
    }

    /// Sends a request and shows both lines; the result.
    async fn ask(&mut self, stage: &Stage, kind: &str, mut params: Value) -> Result<Value> {
        params["kind"] = json!(kind);
        params["protocol_version"] = json!(1);
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": format!("channel.{kind}"), "params": params});
        stage.line("host → plugin", &request.to_string());
        self.stdin
            .write_all(format!("{request}\n").as_bytes())
            .await?;
        self.stdin.flush().await?;
        loop {
            let (line, message) = self.read().await?;
            if message.get("method").is_some() {
                continue;
            }
            stage.line("plugin → host", &line);
            ensure!(message.get("error").is_none(), "{kind} was refused");
            return Ok(message["result"].clone());
        }
    }

    /// The next event, shown.
    async fn event(&mut self, stage: &Stage) -> Result<Value> {
        loop {
            let (line, message) = self.read().await?;
            if let Some(event) = message["params"]["events"].get(0) {
                stage.line("plugin → host", &line);
                return Ok(event.clone());
            }
        }
    }

    async fn read(&mut self) -> Result<(String, Value)> {
        let line = tokio::time::timeout(Duration::from_secs(30), self.stdout.next_line()).await;
        let line = line
            .context("no line within 30 s")??
            .context("the plugin ended")?;
        let message = serde_json::from_str(&line)?;
        Ok((line, message))
    }

    /// Ends stdin and waits for the process, as the host does.
    async fn exit(mut self) -> Result<()> {
        drop(self.stdin);
        ensure!(self.child.wait().await?.success(), "the plugin failed");
        Ok(())
    }
}

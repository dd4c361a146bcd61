//! One owner: several processes, one account, one connection.

use crate::common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use channel_whatsapp::account::{OwnerLock, Paths, Role, socket};
use common::{Host, World, code, message, open, proxy::Proxy, request};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use wacore::types::presence::ChatPresence;
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::Person;

fn to(person: &Person) -> Value {
    json!({"conversation_id": person.pn().to_string()})
}

fn push(text: &str, metadata: Value) -> Value {
    json!({"config": open(), "message": message(text, metadata)})
}

async fn start(world: &World) -> Host {
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": open()})).await;
    online(world).await;
    host
}

async fn online(world: &World) {
    common::eventually("online", || connections(world) == 1).await;
    common::eventually("available or not", || world.presence().is_some()).await;
}

/// Connections of the plugin's account, whoever of them is the one.
fn connections(world: &World) -> usize {
    let connections = world.server.core().connections();
    let ours = |phone: &String| *phone == world.phone;
    connections
        .iter()
        .filter(|connection| connection.phone.as_ref().is_some_and(ours))
        .count()
}

/// What the lock file says.
fn owner(world: &World) -> Value {
    let text = std::fs::read_to_string(world.account_dir().join("lock")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn socket_of(world: &World) -> PathBuf {
    owner(world)["socket"].as_str().expect("a socket").into()
}

/// Asks a process of its own, which waits.
async fn asking(world: &World, kind: &str, params: Value) -> Host {
    let mut host = world.host();
    host.send(&request(kind, params)).await;
    host.end();
    host
}

async fn answered(mut host: Host) -> Value {
    let answer = host.line().await;
    assert!(host.exit().await.success(), "{answer}");
    answer
}

fn state(answer: &Value) -> &str {
    answer["result"]["delivery"]["metadata"]["delivery_state"]
        .as_str()
        .unwrap_or_else(|| panic!("no delivery: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_use_the_connection_of_a_persistent_owner() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    anna.available(true).await.expect("available");
    let host = start(&world).await;
    let pid = host.child.id().expect("pid");
    assert_eq!(owner(&world)["role"], "persistent");
    let logins = world.server.core().counters().logins;
    let pushed = world
        .ok("push", push("from another process", to(&anna)))
        .await;
    let delivery = &pushed["delivery"];
    assert_eq!(delivery["metadata"]["delivery_state"], "sent");
    assert_eq!(delivery["conversation_id"], anna.pn().to_string());
    let id = delivery["message_id"].as_str().expect("id");
    let got = anna.wait_id(id).await.expect("arrives");
    assert_eq!(got.text(), Some("from another process"));
    let frame = json!({"config": open(), "update": {"kind": "processing", "message": "", "conversation_id": anna.pn().to_string(), "metadata": {}}});
    let shown = world.ok("status", frame).await;
    assert_eq!(shown["status"]["accepted"], true, "{shown}");
    anna.wait_for("typing", |seen| {
        let mut states = seen.chatstates.iter();
        states
            .any(|told| told.state == ChatPresence::Composing)
            .then_some(())
    })
    .await
    .expect("typing is seen");
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "ok");
    assert_eq!(health["health"]["metadata"]["owner_pid"], pid.to_string());
    assert_eq!(world.server.core().counters().logins, logins);
    assert_eq!(connections(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_would_refuse_the_other_process_refuses() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let _host = start(&world).await;
    let closed = json!({"dm_policy": "allowlist", "allowed_sender_ids": ["+15551230000"]});
    let params = json!({"config": closed, "message": message("hi", to(&anna))});
    assert_eq!(
        world.refused("push", params).await,
        "unauthorized_destination"
    );
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    assert_eq!(
        world.refused("push", push("hi", to(&anna))).await,
        "contact_token_missing"
    );
    let mut keyed = to(&anna);
    keyed["idempotency_key"] = json!("k");
    let first = world.ok("push", push("once", keyed.clone())).await;
    let second = world.ok("push", push("once", keyed.clone())).await;
    assert_eq!(
        first["delivery"]["message_id"],
        second["delivery"]["message_id"]
    );
    assert_eq!(first["delivery"]["metadata"].get("deduplicated"), None);
    assert_eq!(second["delivery"]["metadata"]["deduplicated"], "true");
    assert_eq!(
        world.refused("push", push("other", keyed)).await,
        "idempotency_conflict"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingress_waits_for_an_owner_that_serves_one_call() {
    let world = World::linked().await;
    let proxy = Proxy::down_from_the_start(world.server.addr()).await;
    let mut config = open();
    config["send_timeout_secs"] = json!(3);
    for kind in ["start_ingress", "poll_ingress"] {
        let mut command = world.command();
        command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
        let mut busy = Host::new(command);
        let params = json!({"config": config, "message": message("in vain", json!({"conversation_id": "+15550001111"}))});
        busy.send(&request("push", params)).await;
        busy.end();
        common::eventually("the owner has the lock", || {
            owner(&world)["role"] == "one_shot"
        })
        .await;
        assert!(owner(&world)["until"].is_i64(), "{}", owner(&world));
        let mut ingress = world.host();
        ingress.ask(kind, json!({"config": open()})).await;
        assert_eq!(code(&busy.line().await), "unreachable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingress_does_not_wait_for_ever() {
    let world = World::linked().await;
    let proxy = Proxy::down_from_the_start(world.server.addr()).await;
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
    let mut busy = Host::new(command);
    let params = push("in vain", json!({"conversation_id": "+15550001111"}));
    busy.send(&request("push", params)).await;
    let pid = busy.child.id().expect("pid").to_string();
    common::eventually("the owner has the lock", || {
        owner(&world)["role"] == "one_shot"
    })
    .await;
    let begun = Instant::now();
    let answer = world.call("start_ingress", json!({"config": open()})).await;
    assert_eq!(code(&answer), "session_in_use");
    assert!(
        answer["error"]["message"].to_string().contains(&pid),
        "{answer}"
    );
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    busy.kill().await;
}

/// The owner is killed while the message of another process is with the server, unacknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_dies_in_the_middle() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world).await;
    anna.disconnect().await;
    world.fault(Fault::WithholdAcks { times: 1 }).await;
    let before = world.server.core().counters().messages;
    let pushing = asking(&world, "push", push("once", to(&anna))).await;
    common::eventually("the server has it", || {
        world.server.core().counters().messages > before
    })
    .await;
    let socket = socket_of(&world);
    host.kill().await;
    assert!(socket.exists(), "a dead owner leaves its socket");
    let answer = answered(pushing).await;
    assert_eq!(state(&answer), "sent");
    assert!(!socket.exists(), "the next one takes it away");
    anna.reconnect().await.expect("back");
    let id = answer["result"]["delivery"]["message_id"]
        .as_str()
        .expect("id");
    anna.wait_id(id).await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text("once")), 1);
    assert_eq!(anna.seen(|seen| seen.count_id(id)), 1);
}

/// An owner that serves one call leaves while the message of another process is unacknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_leaves_in_the_middle() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let bert = world.person("Bert").await;
    bert.disconnect().await;
    world.fault(Fault::WithholdAcks { times: 2 }).await;
    let mut config = open();
    config["send_timeout_secs"] = json!(3);
    let before = world.server.core().counters().messages;
    anna.disconnect().await;
    let params = json!({"config": config, "message": message("first", to(&anna))});
    let first = asking(&world, "push", params).await;
    common::eventually("the server has the first", || {
        world.server.core().counters().messages > before
    })
    .await;
    let second = asking(&world, "push", push("second", to(&bert))).await;
    common::eventually("the server has the second", || {
        world.server.core().counters().messages > before + 1
    })
    .await;
    assert_eq!(code(&answered(first).await), "delivery_unknown");
    let answer = answered(second).await;
    assert_eq!(state(&answer), "sent");
    for (person, text) in [(&anna, "first"), (&bert, "second")] {
        person.reconnect().await.expect("back");
        person.wait_text(text).await.expect("arrives");
        assert_eq!(person.seen(|seen| seen.count_text(text)), 1);
    }
}

/// The owner is stopped, and goes on when those who asked it have their answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_asleep() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let host = start(&world).await;
    let pid = host.child.id().expect("pid").to_string();
    let signal = async |name: &str| {
        let mut kill = tokio::process::Command::new("kill");
        let status = kill.args([name, &pid]).status().await.expect("kill");
        assert!(status.success());
    };
    let mut config = open();
    config["send_timeout_secs"] = json!(2);
    // Not in the middle of a commit: nobody could write then.
    let file = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("open");
    loop {
        signal("-STOP").await;
        match file.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => break,
            Err(_) => signal("-CONT").await,
        }
    }
    drop(file);
    let params = json!({"config": config, "message": message("too late", to(&anna))});
    let pushing = asking(&world, "push", params).await;
    let mut metadata = to(&anna);
    metadata["reply_to_message_id"] = json!("X");
    let params = json!({"config": config, "message": message("later", metadata)});
    let replying = asking(&world, "deliver", params).await;
    let refused = answered(pushing).await;
    assert_eq!(code(&refused), "session_in_use");
    let sentence = refused["error"]["message"].as_str().expect("message");
    assert!(sentence.contains(&pid), "{sentence}");
    assert_eq!(state(&answered(replying).await), "queued");
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "in_use");
    signal("-CONT").await;
    anna.wait_text("later").await.expect("arrives");
    world.ok("push", push("last", to(&anna))).await;
    anna.wait_text("last").await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text("later")), 1);
    assert_eq!(anna.seen(|seen| seen.count_text("too late")), 0);
}

/// The socket of an owner that was killed is in nobody's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_socket() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world).await;
    let socket = socket_of(&world);
    host.kill().await;
    assert!(socket.exists());
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "ok", "{health}");
    let pushed = world.ok("push", push("hello", to(&anna))).await;
    assert_eq!(pushed["delivery"]["metadata"]["delivery_state"], "sent");
    assert!(!socket.exists(), "gone with its owner");
    // With another environment it has another place, which is in the lock file.
    let elsewhere = tempfile::tempdir().expect("directory");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(elsewhere.path(), private).expect("mode");
    let mut command = world.command();
    command.env("XDG_RUNTIME_DIR", elsewhere.path());
    let mut host = Host::new(command);
    host.ask("start_ingress", json!({"config": open()})).await;
    let socket = socket_of(&world);
    assert!(socket.starts_with(elsewhere.path()), "{socket:?}");
    world.ok("push", push("hello again", to(&anna))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_the_owner() {
    let world = World::linked().await;
    let store = world.account_dir().join("store.db");
    let paths = Paths::resolve("default", Some(&store)).expect("paths");
    let name = socket::name(&paths).expect("name");
    let _lock =
        OwnerLock::try_take(&paths, Role::Persistent, None, Some(name.clone())).expect("lock");
    let listener = socket::Listener::bind(&name).expect("bind");
    let other = tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.expect("accept");
            let mut line = String::new();
            let mut reader = BufReader::new(&stream);
            reader.read_line(&mut line).await.expect("read");
            let asked: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(asked["v"], 5);
            assert!(asked["pid"].is_u64() && asked["version"].is_string());
            let answer = json!({"v": 99, "pid": 4711, "version": "9.9.9", "news": {}});
            let answer = format!("{answer}\n");
            (&stream).write_all(answer.as_bytes()).await.expect("write");
        }
    });
    let answer = world
        .call(
            "push",
            push("hi", json!({"conversation_id": "+15550001111"})),
        )
        .await;
    assert_eq!(code(&answer), "session_in_use");
    let sentence = answer["error"]["message"].as_str().expect("message");
    assert!(
        sentence.contains("4711") && sentence.contains("9.9.9"),
        "{sentence}"
    );
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "in_use");
    other.abort();
}

/// What another version asks, and what is no question at all, does the owner no harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_socket() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let host = start(&world).await;
    let name = owner(&world)["socket"].as_str().expect("socket").to_owned();
    for line in [
        r#"{"v":6,"pid":1,"version":"x","body":{"sing":{}}}"#,
        r#"{"v":5,"pid":1,"version":"x","body":{"asked":{"sing":{}},"until_ms":1}}"#,
    ] {
        let stream = socket::connect(&name).await.expect("connect");
        let line = format!("{line}\n");
        (&stream).write_all(line.as_bytes()).await.expect("write");
        let mut answer = String::new();
        let mut reader = BufReader::new(&stream);
        reader.read_line(&mut answer).await.expect("read");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["v"], 5);
        assert_eq!(answer["pid"], host.child.id().expect("pid"));
        assert_eq!(answer["body"], Value::Null);
    }
    for line in ["", "{}\n", "hello\n", "half a li"] {
        let stream = socket::connect(&name).await.expect("connect");
        (&stream).write_all(line.as_bytes()).await.expect("write");
    }
    let pushed = world.ok("push", push("hello", to(&anna))).await;
    assert_eq!(pushed["delivery"]["metadata"]["delivery_state"], "sent");
}

/// Watches the server: how many connections the account had at most.
struct Watch {
    most: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(world: &World) -> Self {
        let (most, over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (core, phone) = (world.server.core().clone(), world.phone.clone());
        let (seen, ended) = (most.clone(), over.clone());
        let task = tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let all = core.connections();
                let ours = all.iter().filter(|c| c.phone.as_deref() == Some(&*phone));
                seen.fetch_max(ours.count(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self { most, over, task }
    }

    async fn most(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("watch");
        self.most.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_race_for_one_account() {
    race(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_race_for_another_account() {
    race(1).await;
}

/// Two to five processes at once, in every round other ones: this half of the rounds.
async fn race(half: u32) {
    let long = std::env::var_os("CHANNEL_WHATSAPP_LONG").is_some();
    let rounds: u32 = if long { 100 } else { 15 };
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let watch = Watch::start(&world);
    let mut ids = BTreeSet::new();
    let mut sent = 0;
    for round in half * rounds..(half + 1) * rounds {
        let count = 2 + round % 4;
        // In every third round one of them stays.
        let stays = match round % 3 {
            2 => {
                let mut host = world.host();
                let start = request("start_ingress", json!({"config": open()}));
                host.send(&start).await;
                Some(host)
            }
            _ => None,
        };
        let mut asked = Vec::new();
        for n in 0..count {
            let text = format!("round {round} number {n}");
            let (kind, params) = match (round + n) % 4 {
                0 if stays.is_none() => (
                    "poll_ingress",
                    json!({"config": {"dm_policy": "open", "poll_idle_ms": 20}}),
                ),
                1 => {
                    let mut metadata = to(&anna);
                    metadata["reply_to_message_id"] = json!(format!("X{round}.{n}"));
                    ("deliver", push(&text, metadata))
                }
                _ => ("push", push(&text, to(&anna))),
            };
            asked.push((kind, asking(&world, kind, params).await));
        }
        // In every second round of those it is killed, wherever they all are then.
        let stays = match stays {
            Some(mut host) if round % 6 == 5 => {
                tokio::time::sleep(Duration::from_millis(u64::from(round) * 37 % 300)).await;
                host.kill().await;
                None
            }
            stays => stays,
        };
        for (kind, host) in asked {
            let answer = answered(host).await;
            if kind == "poll_ingress" {
                assert!(answer.get("error").is_none(), "round {round}: {answer}");
                continue;
            }
            // A receipt may come before the answer of an owner that died.
            let confirmed = ["sent", "delivered"].contains(&state(&answer));
            assert!(confirmed, "round {round} {kind}: {answer}");
            let id = answer["result"]["delivery"]["message_id"]
                .as_str()
                .expect("id");
            assert!(ids.insert(id.to_owned()), "{id} twice");
            sent += 1;
        }
        if let Some(mut host) = stays {
            let answer = host.answer().await;
            assert!(answer.get("error").is_none(), "round {round}: {answer}");
            host.end();
            host.exit().await;
        }
    }
    for id in &ids {
        anna.wait_id(id).await.expect("arrives");
        assert_eq!(anna.seen(|seen| seen.count_id(id)), 1);
    }
    let texts = |seen: &whatsapp_loopback::people::Seen| {
        let texts = seen.messages.iter().filter_map(|message| message.text());
        texts.count()
    };
    assert_eq!(anna.seen(texts), sent);
    assert_eq!(watch.most().await, 1, "connections at once");
}

//! The disk under an account: full, damaged, written by a newer version; and what the operator's commands do about it.

use crate::common;

use std::path::Path;
use std::process::Output;

use common::disk::Disk;
use common::{Host, PATIENCE, World, code, eventually, message, open, timeout};
use serde_json::{Value, json};

async fn start(world: &World) -> Host {
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": open()})).await;
    host
}

fn connected(world: &World) -> bool {
    let all = world.server.core().connections();
    all.iter().any(|c| c.phone.as_deref() == Some(&world.phone))
}

async fn status(world: &World) -> String {
    let health = world.ok("health", json!({"config": {}})).await;
    health["health"]["status"]
        .as_str()
        .expect("status")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_stops_reading_and_goes_on_when_there_is_space() {
    for left in [8 << 20, 0] {
        let Some(disk) = Disk::new(80) else { return };
        let world = disk.world().await;
        let anna = world.person("Anna").await;
        let mut host = start(&world).await;
        let before = anna.text(world.jid(), "before").await.expect("text");
        assert_eq!(host.event().await["message"]["id"], before);
        let reserve = world.account_dir().join("reserve");
        assert!(reserve.is_file());
        disk.fill(left);
        eventually("disconnected", || !connected(&world)).await;
        eventually("the reserve is given up", || !reserve.exists()).await;
        assert_eq!(status(&world).await, "storage_full");
        let during = anna.text(world.jid(), "during").await.expect("text");
        anna.wait_ack(&during).await.expect("ack");
        assert!(world.unacknowledged().contains(&during));
        // A reply is kept, in the space that was given up; nothing else is taken.
        let to = |reply: bool| {
            let mut metadata = json!({"conversation_id": anna.pn().to_string()});
            if reply {
                metadata["reply_to_message_id"] = json!(before);
            }
            json!({"config": open(), "message": message("answer", metadata)})
        };
        let reply = host.ask("deliver", to(true)).await;
        assert_eq!(reply["delivery"]["metadata"]["delivery_state"], "queued");
        host.send(&common::request("push", to(false))).await;
        assert_eq!(code(&host.answer().await), "storage_full");
        disk.free();
        assert_eq!(host.event().await["message"]["id"], during);
        eventually("the reserve is back", || reserve.is_file()).await;
        anna.wait_text("answer")
            .await
            .expect("what was kept goes out");
        eventually("acknowledged", || world.unacknowledged().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_while_the_queue_is_received_loses_nothing() {
    const MESSAGES: usize = 3000;
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    common::fill(&world, MESSAGES, 10).await;
    let mut host = start(&world).await;
    let mut seen = Vec::new();
    seen.push(host.event().await["message"]["id"].to_string());
    disk.fill(0);
    eventually("disconnected", || !connected(&world)).await;
    disk.free();
    while seen.len() < MESSAGES {
        seen.push(host.event().await["message"]["id"].to_string());
    }
    eventually("acknowledged", || world.unacknowledged().is_empty()).await;
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), MESSAGES, "each once");
}

/// A file that does not fit is not staged, and the space that messages need stays free meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_leaves_the_space_that_messages_need() {
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world).await;
    disk.fill(44 << 20);
    let data = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        common::files::noise(30 << 20),
    );
    let metadata = json!({"conversation_id": anna.pn().to_string()});
    let mut push = json!({"config": open(), "message": message("see this", metadata)});
    push["message"]["attachments"] =
        json!([{"name": "x.bin", "mime_type": "", "data_base64": data}]);
    assert_eq!(host.ask_refused("push", push.clone()).await, "storage_full");
    push["config"]["deliver_errors"] = json!("degrade");
    let result = host.ask("push", push).await;
    let degraded = result["delivery"]["metadata"]["degraded"].as_str();
    assert!(
        degraded.expect("degraded").contains("storage_full"),
        "{result}"
    );
    anna.wait_text("see this").await.expect("the text goes");
    assert!(connected(&world));
    let staged = std::fs::read_dir(world.account_dir().join("media/staged")).expect("folder");
    assert_eq!(staged.count(), 1, "the lock alone");
}

/// The same of one that fits as it is, and is then to be encrypted beside that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_and_its_encryption_leave_the_space_that_messages_need() {
    use common::sending::{arrived, attached, ids, params, serve, staged, started};
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    disk.fill(44 << 20);
    let rest = common::files::boxed(b"free", common::files::noise(15 << 20));
    let film = [common::files::mp4(), rest].concat();
    let url = serve("video/mp4", film.clone().into()).await;
    let by_url = json!({"name": "", "mime_type": "", "url": url});
    for file in [attached("a.mp4", "", &film), by_url.clone()] {
        let push = params(&to, "", vec![file], json!({}));
        assert_eq!(host.ask_refused("push", push).await, "storage_full");
        assert!(staged(&world).is_empty());
    }
    assert!(connected(&world));
    disk.free();
    let push = params(&to, "", vec![by_url], json!({}));
    let result = host.ask("push", push).await;
    let (_, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert!(bytes == film, "the same bytes");
}

/// Two uploads are cut by a disk that fills: that of a message that waits, and that of one whose call is not answered yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_with_its_file_goes_once_when_there_is_space() {
    use common::sending::{arrived, attached, files_of, ids, params, staged, started, uploads};
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let people = [world.person("Anna").await, world.person("Bert").await];
    let media = &world.server.core().media;
    let mut host = started(&world).await;
    let file = common::files::noise(1 << 20);
    media.slow_uploads(Some(20 << 10));
    let push = |nth: usize, seconds: u64| {
        let to = people[nth].pn().to_string();
        // Otherwise it would be uploaded once for both.
        let file = attached("x.bin", "", &[&file[..], &[nth as u8]].concat());
        let mut push = params(&to, "", vec![file], json!({}));
        push["config"]["deliver_errors"] = json!("degrade");
        push["config"]["send_timeout_secs"] = json!(seconds);
        push
    };
    let state = |result: &Value| result["delivery"]["metadata"]["delivery_state"].clone();
    host.send(&common::request("push", push(0, 1))).await;
    host.send(&common::request("push", push(1, 2))).await;
    let first = host.answer().await["result"].clone();
    assert_eq!(state(&first), "queued", "{first}");
    let sealed = ((file.len() as u64 + 1) / 16 + 1) * 16 + 10;
    let whole = |path: &std::path::PathBuf| path.metadata().is_ok_and(|file| file.len() == sealed);
    let both = || staged(&world).iter().filter(|path| whole(path)).count() == 2;
    eventually("both are staged", both).await;
    let reserve = world.account_dir().join("reserve");
    disk.fill(0);
    eventually("the reserve is given up", || !reserve.exists()).await;
    let second = host.answer().await["result"].clone();
    assert!(!connected(&world));
    assert_eq!(uploads(&world), 0);
    media.slow_uploads(None);
    disk.free();
    eventually("the reserve is back", || reserve.is_file()).await;
    for (person, told) in people.iter().zip([first, second]) {
        // What is told holds: while there is not a byte, a message that is to wait may have to be refused.
        let waits = state(&told) == "queued";
        let code = &told["delivery"]["metadata"]["error_code"];
        assert!(waits || code == "storage_full", "{told}");
        let to = person.pn().to_string();
        host.ask("push", params(&to, "next", vec![], json!({})))
            .await;
        person.wait_text("next").await.expect("the next message");
        assert_eq!(files_of(person), usize::from(waits), "{told}");
        if waits {
            let (_, bytes) = arrived(person, &ids(&told)[0]).await;
            assert!(bytes[..file.len()] == file, "the same bytes");
        }
    }
    assert!(staged(&world).is_empty());
}

/// The library has decrypted a message and finds no place for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_arrives_on_a_full_disk_comes_again() {
    let Some(disk) = Disk::new(80) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world).await;
    for round in 0..5 {
        eventually("connected", || connected(&world)).await;
        let id = anna.text(world.jid(), "before").await.expect("text");
        assert_eq!(host.event().await["message"]["id"], id, "round {round}");
        disk.fill(0);
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(anna.text(world.jid(), "during").await.expect("text"));
        }
        eventually("disconnected", || !connected(&world)).await;
        disk.free();
        for id in sent {
            assert_eq!(host.event().await["message"]["id"], id, "round {round}");
        }
        eventually("acknowledged", || world.unacknowledged().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_on_a_full_disk() {
    let Some(disk) = Disk::new(80) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    assert!(world.poll(open()).await.is_empty());
    disk.fill(0);
    let id = anna.text(world.jid(), "hello").await.expect("text");
    anna.wait_ack(&id).await.expect("ack");
    let poll = json!({"config": open()});
    assert_eq!(world.refused("poll_ingress", poll).await, "storage_full");
    let (doctor, _) = run(&world, &["doctor"]).await;
    assert!(!doctor.status.success());
    assert_eq!(world.unacknowledged(), std::slice::from_ref(&id));
    disk.free();
    let events = world.poll(open()).await;
    assert_eq!(events[0]["message"]["id"], id);
}

/// Runs a command of the operator; its output, and stdout as text.
async fn run(world: &World, arguments: &[&str]) -> (Output, String) {
    let output = timeout(world.command().args(arguments).output()).await;
    let output = output.expect("output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

fn sql(path: &Path, statements: &str) {
    let conn = rusqlite::Connection::open(path).expect("open");
    conn.busy_timeout(PATIENCE).expect("timeout");
    conn.execute_batch(statements).expect(statements);
}

/// Overwrites the root page of the first index of this name.
fn damage(path: &Path, index: &str) {
    let conn = rusqlite::Connection::open(path).expect("open");
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("checkpoint");
    let one = |sql: &str| -> usize {
        let number: i64 = conn.query_row(sql, [], |row| row.get(0)).expect(sql);
        usize::try_from(number).expect("fits")
    };
    let size = one("PRAGMA page_size");
    let root = one(&format!(
        "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND name LIKE '{index}' LIMIT 1"
    ));
    drop(conn);
    let mut bytes = std::fs::read(path).expect("read");
    bytes[(root - 1) * size..root * size].fill(0xa5);
    std::fs::write(path, bytes).expect("write");
}

/// What every call answers while a database is of no use.
async fn refused_everywhere(world: &World, expected: &str, names: &str) {
    let to = json!({"conversation_id": "+15550001111"});
    for (kind, params) in [
        ("start_ingress", json!({"config": open()})),
        ("poll_ingress", json!({"config": open()})),
        (
            "push",
            json!({"config": open(), "message": message("hi", to.clone())}),
        ),
        (
            "deliver",
            json!({"config": open(), "message": message("hi", to.clone())}),
        ),
    ] {
        let answer = world.call(kind, params).await;
        assert_eq!(code(&answer), expected, "{kind}");
        let text = answer["error"]["message"].as_str().expect("message");
        assert!(text.contains(names), "{kind}: {text}");
        if expected == "store_corrupt" {
            assert!(text.contains("doctor --repair"), "{kind}: {text}");
        }
    }
    assert_eq!(status(world).await, expected);
    world.ok("capabilities", json!({})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_databases_are_named_and_repaired() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let first = anna.text(world.jid(), "first").await.expect("text");
    anna.wait_ack(&first).await.expect("ack");
    assert_eq!(world.poll(open()).await.len(), 1);
    for (file, index) in [("channel.db", "inbox%"), ("store.db", "%")] {
        let path = world.account_dir().join(file);
        damage(&path, index);
        refused_everywhere(&world, "store_corrupt", file).await;
        let (doctor, _) = run(&world, &["doctor"]).await;
        assert!(!doctor.status.success());
        let (repaired, text) = run(&world, &["doctor", "--repair"]).await;
        assert!(text.contains("repaired: "), "{text}{repaired:?}");
        let kept = std::fs::read_dir(world.account_dir()).expect("directory");
        let aside = format!("{file}.damaged-");
        assert!(
            kept.flatten()
                .any(|entry| entry.file_name().to_string_lossy().starts_with(&aside)),
            "the original is kept"
        );
        let next = anna.text(world.jid(), file).await.expect("text");
        anna.wait_ack(&next).await.expect("ack");
        let events = world.poll(open()).await;
        let ids: Vec<&Value> = events.iter().map(|event| &event["message"]["id"]).collect();
        assert!(ids.contains(&&json!(next)), "{ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_a_newer_version_are_left_alone() {
    let world = World::linked().await;
    assert!(world.poll(open()).await.is_empty());
    for (file, newer, back) in [
        (
            "channel.db",
            "PRAGMA user_version = 999",
            "PRAGMA user_version = 3",
        ),
        (
            "store.db",
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')",
            "DELETE FROM __diesel_schema_migrations WHERE version = '99990101000000'",
        ),
    ] {
        let path = world.account_dir().join(file);
        let version: i64 = rusqlite::Connection::open(&path)
            .and_then(|conn| conn.query_row("PRAGMA user_version", [], |row| row.get(0)))
            .expect("version");
        let back = back.replace("= 3", &format!("= {version}"));
        sql(&path, newer);
        refused_everywhere(&world, "store_too_new", file).await;
        let (repair, text) = run(&world, &["doctor", "--repair"]).await;
        assert!(!repair.status.success(), "{text}");
        assert!(text.contains("store_too_new"), "{text}");
        sql(&path, &back);
        assert!(world.poll(open()).await.is_empty());
    }
}

/// What the check for newer files compares with is what the library really writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_schema_is_the_one_that_is_known() {
    let world = World::linked().await;
    let conn = rusqlite::Connection::open(world.account_dir().join("store.db")).expect("open");
    let latest: i64 = conn
        .query_row(
            "SELECT max(CAST(substr(version, 1, 14) AS INTEGER)) FROM __diesel_schema_migrations",
            [],
            |row| row.get(0),
        )
        .expect("version");
    assert_eq!(latest, channel_whatsapp::store::SESSION_SCHEMA);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_sent_again_on_request_beside_a_running_owner() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world).await;
    anna.text(world.jid(), "hello").await.expect("text");
    let event = host.event().await;
    let id = event["event_id"].as_str().expect("id").to_owned();
    let (unknown, _) = run(&world, &["redeliver", &id]).await;
    assert!(
        !unknown.status.success(),
        "it is neither set aside nor unconfirmed"
    );
    let channel = world.account_dir().join("channel.db");
    sql(&channel, "UPDATE inbox SET state = 4");
    let (_, listed) = run(&world, &["redeliver"]).await;
    assert!(
        listed.contains("unconfirmed") && listed.contains(&id),
        "{listed}"
    );
    let (doctor, text) = run(&world, &["doctor", "--json"]).await;
    assert!(!doctor.status.success());
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["facts"]["unconfirmed"], 1);
    assert!(
        !text.contains(&anna.pn().user.to_string()),
        "redacted: {text}"
    );
    let (done, _) = run(&world, &["redeliver", &id]).await;
    assert!(done.status.success());
    let again = host.event().await;
    assert_eq!(again["event_id"], id);
    assert_eq!(again["metadata"]["redelivered"], "true");
}

/// A later event's cursor would prove what has a number and was never written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_a_number_is_written_although_its_neighbour_could_not_be_stored() {
    let world = World::linked().await;
    let channel = world.account_dir().join("channel.db");
    let refuse = |events: &str| {
        sql(
            &channel,
            &format!(
                "DROP TRIGGER IF EXISTS refuse;
                 CREATE TRIGGER refuse BEFORE INSERT ON emission WHEN {events}
                 BEGIN SELECT RAISE(ABORT, 'no place'); END"
            ),
        );
    };
    let mut host = start(&world).await;
    refuse("true");
    let mut sent = Vec::new();
    for name in ["Anna", "Ben", "Clara"] {
        let person = world.person(name).await;
        sent.push(person.text(world.jid(), "hello").await.expect("text"));
        eventually("stored", || world.unacknowledged().is_empty()).await;
    }
    refuse("NEW.event = (SELECT min(id) + 1 FROM inbox)");
    for id in [&sent[0], &sent[2]] {
        assert_eq!(host.event().await["message"]["id"], **id);
    }
    sql(&channel, "DROP TRIGGER refuse");
    assert_eq!(host.event().await["message"]["id"], sent[1]);
}

/// A host that does not read: the messages go into the inbox and stay there, not in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_while_stdout_is_not_read() {
    const MESSAGES: usize = 6000;
    let world = World::linked().await;
    common::fill(&world, MESSAGES, 20).await;
    let host = start(&world).await;
    let pid = host.child.id().expect("pid");
    let rss = || -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("statm");
        let pages = text.split(' ').nth(1).expect("rss");
        pages.parse::<u64>().expect("number") * 4096
    };
    eventually("a third is received", || {
        world.unacknowledged().len() < MESSAGES * 2 / 3
    })
    .await;
    let early = rss();
    eventually("all is received", || world.unacknowledged().is_empty()).await;
    let late = rss();
    assert!(late < early + (24 << 20), "from {early} to {late} bytes");
    let health = world.ok("health", json!({"config": {}})).await;
    let waiting = health["health"]["metadata"]["inbox_waiting"]
        .as_str()
        .expect("count");
    assert!(
        waiting.parse::<usize>().expect("number") > MESSAGES / 2,
        "{waiting}"
    );
}

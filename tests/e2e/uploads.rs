//! Files on their way out: what waits for them and what does not, who takes them back, what a power cut takes, and what a
//! call that comes again does not fetch again.

use crate::common;

use std::sync::Arc;

use common::media::{bytes, extra, send, upload};
use common::sending::{
    arrived, attached, config, files_of, ids, params, serve_times, staged, started, uploads,
};
use common::{Host, World, code, eventually, files, request};
use serde_json::{Value, json};
use whatsapp_loopback::media::MediaOp;

/// As many chats as are sent to side by side, and more.
const MANY: usize = 68;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_for_their_files_the_others_go() {
    let world = World::linked().await;
    common::fill(&world, MANY, MANY).await;
    let mut host = started(&world).await;
    let mut chats = Vec::new();
    for _ in 0..MANY {
        let event = host.event().await;
        chats.push(event["conversation"]["id"].as_str().expect("id").to_owned());
    }
    let media = &world.server.core().media;
    media.refuse_only(MediaOp::Upload, 503, 1_000_000);
    let last = chats.pop().expect("a chat");
    for chat in &chats {
        let file = attached("x.bin", "", &files::noise(100));
        let mut push = params(chat, "", vec![file], json!({}));
        push["config"]["deliver_errors"] = json!("degrade");
        push["config"]["send_timeout_secs"] = json!(2);
        host.send(&request("push", push)).await;
    }
    for _ in &chats {
        let answer = host.answer().await;
        let state = &answer["result"]["delivery"]["metadata"]["delivery_state"];
        assert_eq!(state, "queued", "{answer}");
    }
    // The second part waits in the outbox for its turn.
    let mut push = params(&last, "one two three four five six", vec![], json!({}));
    push["config"]["text_chunk_chars"] = json!(20);
    push["config"]["send_timeout_secs"] = json!(5);
    let result = host.ask("push", push).await;
    assert_eq!(ids(&result).len(), 2, "{result}");
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    assert_eq!((uploads(&world), staged(&world).len()), (0, chats.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_wants_any_more_is_given_up_in_the_middle() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    let mut host = started(&world).await;
    let media = &world.server.core().media;
    media.slow_uploads(Some(32 << 10));
    let big = |to: String| {
        let file = attached("x.bin", "", &files::noise(400 << 10));
        let mut push = params(&to, "", vec![file], json!({}));
        push["config"]["send_timeout_secs"] = json!(3);
        push["config"]["queue_ttl_secs"] = json!(4);
        push
    };
    // One is taken back by the end of its call, one waits until it expires.
    let withdrawn = big(anna.pn().to_string());
    let mut expiring = big(bert.pn().to_string());
    expiring["config"]["deliver_errors"] = json!("degrade");
    for push in [&withdrawn, &expiring] {
        host.send(&request("push", push.clone())).await;
    }
    let (mut refused, mut queued) = (0, 0);
    for _ in 0..2 {
        let answer = host.answer().await;
        match answer.get("error") {
            Some(_) => {
                assert_eq!(code(&answer), "attachment_upload_failed");
                refused += 1;
            }
            None => {
                let metadata = &answer["result"]["delivery"]["metadata"];
                assert_eq!(metadata["delivery_state"], "queued", "{answer}");
                queued += 1;
            }
        }
    }
    assert_eq!((refused, queued), (1, 1));
    eventually("their files are gone", || staged(&world).is_empty()).await;
    // Nor do they stand in anybody's way.
    for person in [&anna, &bert] {
        let to = person.pn().to_string();
        let result = host
            .ask("push", params(&to, "next", vec![], json!({})))
            .await;
        assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
        person.wait_text("next").await.expect("the next message");
        assert_eq!(files_of(person), 0);
    }
    assert_eq!(uploads(&world), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_where_it_was_cut() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let media = &world.server.core().media;
    let file = files::noise(6 << 20);
    let metadata = json!({"idempotency_key": "k"});
    let push = params(&to, "", vec![attached("x.bin", "", &file)], metadata);
    // The process dies in the middle of it.
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "during_upload");
    let mut host = Host::new(command);
    host.send(&request("push", push.clone())).await;
    assert!(!host.exit().await.success());
    assert_eq!((uploads(&world), staged(&world).len()), (0, 1));
    eventually("the server keeps what came", || {
        media.unfinished() > 1 << 20
    })
    .await;
    // The next one is cut.
    media.cut(MediaOp::Upload, 1 << 20, 1);
    let result = world.ok("push", push.clone()).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    let (_, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert!(bytes == file, "the same bytes");
    assert_eq!((uploads(&world), media.cuts_left()), (1, 0));
    // Encrypted it has up to 16 bytes more, and ten.
    let sealed = (file.len() / 16 + 1) * 16 + 10;
    assert_eq!(media.received(), sealed as u64, "no byte came twice");
    assert!(staged(&world).is_empty());
    // Asked again it is the same message, sent once.
    let again = world.ok("push", push).await;
    assert_eq!(
        again["delivery"]["message_id"],
        result["delivery"]["message_id"]
    );
    assert_eq!(files_of(&anna), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_outlives_its_process_and_its_credentials() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let media = &world.server.core().media;
    let push = |name: &str| {
        let file = attached(name, "", &files::noise(99));
        params(&to, "", vec![file], json!({}))
    };
    // Killed between upload and message it is uploaded once.
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "after_upload");
    let mut host = Host::new(command);
    host.send(&request("push", push("y.bin"))).await;
    assert!(!host.exit().await.success());
    let mut host = started(&world).await;
    eventually("it goes all the same", || files_of(&anna) == 1).await;
    assert_eq!(uploads(&world), 1);
    // Another process hands its file to the one that is connected.
    let pdf = vec![attached("z.pdf", "", &files::pdf())];
    let passed = world.ok("push", params(&to, "", pdf, json!({})));
    let (_, bytes) = arrived(&anna, &ids(&passed.await)[0]).await;
    assert_eq!(bytes, files::pdf());
    // Whose credentials are of no use any more gets others.
    assert_eq!(media.unauthorised(), 0);
    media.rotate_auth();
    let result = host.ask("push", push("later.bin")).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    assert_eq!((media.unauthorised(), uploads(&world)), (1, 3));
    host.ask("stop_ingress", json!({"config": config()})).await;
    assert!(staged(&world).is_empty());
}

/// What cannot be noted of a file matters to a message that waits for it, and to no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_which_nothing_can_be_noted() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    let store = rusqlite::Connection::open(world.account_dir().join("channel.db"));
    let store = store.expect("channel.db");
    store.busy_timeout(common::PATIENCE).expect("timeout");
    let refuse = "CREATE TRIGGER gone BEFORE UPDATE OF file ON part WHEN OLD.open = 0 BEGIN SELECT RAISE(FAIL, 'no'); END;
         CREATE TRIGGER synced BEFORE UPDATE OF synced ON part BEGIN SELECT RAISE(FAIL, 'no'); END;";
    store.execute_batch(refuse).expect("triggers");
    let media = &world.server.core().media;
    let push = || {
        let file = attached("x.bin", "", &files::noise(99));
        let mut push = params(&to, "", vec![file], json!({}));
        push["config"]["deliver_errors"] = json!("degrade");
        push["config"]["send_timeout_secs"] = json!(2);
        push
    };
    media.refuse_only(MediaOp::Upload, 413, 1);
    let result = host.ask("push", push()).await;
    let state = &result["delivery"]["metadata"]["delivery_state"];
    assert_eq!(state, "rejected", "{result}");
    media.refuse_only(MediaOp::Upload, 503, 1000);
    let result = host.ask("push", push()).await;
    let said = &result["delivery"]["metadata"];
    assert_eq!(said["delivery_state"], "rejected", "{result}");
    assert_eq!(said["error_code"], "store_failed", "{result}");
    // It is taken back, and its file removed.
    assert!(staged(&world).is_empty());
    media.clear_faults();
    let next = params(&to, "next", vec![], json!({}));
    host.ask("push", next).await;
    anna.wait_text("next").await.expect("the next message");
    assert_eq!((files_of(&anna), uploads(&world)), (0, 0));
    let forgive = "DROP TRIGGER gone; DROP TRIGGER synced;";
    store.execute_batch(forgive).expect("triggers");
    host.ask("push", push()).await;
    assert_eq!((files_of(&anna), staged(&world).len()), (1, 0));
}

/// A power cut takes what was never synced: here a file whose process was killed, and that is then cut short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_was_told_of_is_undone_by_a_power_cut() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let file = files::noise(5000);
    let push = |key: &str| {
        let metadata = json!({"idempotency_key": key});
        let mut push = params(&to, "", vec![attached("x.bin", "", &file)], metadata);
        push["config"]["deliver_errors"] = json!("degrade");
        push["config"]["send_timeout_secs"] = json!(3);
        push
    };
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "during_upload");
    let mut host = Host::new(command);
    host.send(&request("push", push("cut"))).await;
    assert!(!host.exit().await.success());
    let [path] = &staged(&world)[..] else {
        panic!("one file");
    };
    std::fs::write(path, &std::fs::read(path).expect("file")[..100]).expect("cut short");
    // What was told to wait is on the disk. Who takes it from there loses a message.
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", "ws://127.0.0.1:9/ws/chat");
    let mut host = Host::new(command);
    host.send(&request("push", push("told"))).await;
    host.end();
    let state = |answer: &Value| answer["delivery"]["metadata"]["delivery_state"].clone();
    assert_eq!(state(&host.line().await["result"]), "queued");
    host.exit().await;
    let left = staged(&world);
    let told = left.iter().find(|other| *other != path).expect("two files");
    std::fs::remove_file(told).expect("removed");
    let mut host = started(&world).await;
    eventually("what was cut short is gone", || staged(&world).is_empty()).await;
    let lost = host.ask("push", push("told")).await;
    assert_eq!(state(&lost), "rejected", "{lost}");
    assert_eq!(
        lost["delivery"]["metadata"]["error_code"],
        "attachment_lost"
    );
    let again = host.ask("push", push("cut")).await;
    assert_eq!(state(&again), "sent", "{again}");
    assert_eq!(again["delivery"]["metadata"]["deduplicated"], "true");
    let (_, bytes) = arrived(&anna, &ids(&again)[0]).await;
    assert!(bytes == file, "the same bytes");
    assert_eq!(files_of(&anna), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_comes_again_fetches_nothing_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world).await;
    let asked = anna.text(world.jid(), "well?").await.expect("text");
    host.event().await;
    let file = Arc::new(files::pdf());
    let url = serve_times(1, "application/pdf", file.clone()).await;
    let reply = |url: &str| {
        let files = vec![
            json!({"name": "", "mime_type": "", "url": url}),
            json!({"name": "none", "mime_type": ""}),
        ];
        let metadata = json!({"idempotency_key": "k", "reply_to_message_id": asked});
        params(&anna.pn().to_string(), "here", files, metadata)
    };
    let first = host.ask("deliver", reply(&url)).await;
    let metadata = first["delivery"]["metadata"].clone();
    assert_eq!(metadata["delivery_state"], "sent", "{first}");
    assert_eq!(metadata["kind"], "document");
    let degraded = metadata["degraded"].as_str().expect("degraded");
    assert!(degraded.contains("invalid_attachment"), "{degraded}");
    // Nobody is at that address now; in this process as in another one the call has its answer.
    let mut again = host.ask("deliver", reply(&url)).await["delivery"]["metadata"].take();
    assert_eq!(again["deduplicated"].take(), "true");
    let other = world.ok("deliver", reply(&url)).await;
    assert_eq!(other["delivery"]["metadata"]["deduplicated"], "true");
    for key in ["message_ids", "kind", "degraded", "reply_to_message_id"] {
        assert_eq!(again[key], metadata[key], "{key}");
        assert_eq!(other["delivery"]["metadata"][key], metadata[key], "{key}");
    }
    // What a call asks for is told by its own words.
    let elsewhere = reply("http://127.0.0.1:9/other.pdf");
    let refused = host.ask_refused("deliver", elsewhere).await;
    assert_eq!(refused, "idempotency_conflict");
    let (_, bytes) = arrived(&anna, &ids(&first)[0]).await;
    assert_eq!(bytes, *file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_mislabelled_is_sent_on() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    let text = b"No such picture, sorry.".to_vec();
    let sent = anna.document(world.jid(), &text, "plan.png", "image/png");
    sent.await.expect("document");
    let event = host.event().await;
    let came = &event["message"]["attachments"][0];
    let key = &came["storage_key"];
    let served = serve_times(1, "image/png", Arc::new(text.clone())).await;
    for file in [
        json!({"name": "", "mime_type": "", "storage_key": key}),
        // As a host repeats what the event said.
        json!({"name": came["name"], "mime_type": came["mime_type"], "storage_key": key}),
        // As from a host that leaves nothing out.
        json!({"name": "", "mime_type": "", "data_base64": "", "url": served}),
    ] {
        let result = host
            .ask("push", params(&to, "", vec![file.clone()], json!({})))
            .await;
        assert_eq!(result["delivery"]["metadata"]["kind"], "document", "{file}");
        let (seen, bytes) = arrived(&anna, &ids(&result)[0]).await;
        assert_eq!(bytes, text);
        let document = seen.message.document_message.as_option().expect("document");
        assert_eq!(document.mimetype.as_deref(), Some("text/plain"));
    }
    // The caller's own word is checked.
    let file = json!({"name": "", "mime_type": "image/jpeg", "storage_key": key});
    let mut claimed = params(&to, "", vec![file], json!({"as": "image"}));
    claimed["config"] = config();
    assert_eq!(
        host.ask_refused("push", claimed).await,
        "attachment_mismatch"
    );
    // A picture that came as a document goes on as one, unless something else is asked for.
    let picture = files::png();
    let sent = anna.document(world.jid(), &picture, "a.png", "image/png");
    sent.await.expect("document");
    let key = &host.event().await["message"]["attachments"][0]["storage_key"];
    for (metadata, kind) in [(json!({}), "document"), (json!({"as": "image"}), "image")] {
        let file = json!({"name": "", "mime_type": "", "storage_key": key});
        let result = host
            .ask("push", params(&to, "", vec![file], metadata))
            .await;
        assert_eq!(result["delivery"]["metadata"]["kind"], kind);
    }
}

/// Asks for `health` until its `transfers` has all of this.
async fn until_health_says(host: &mut Host, all: &[&str]) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let health = host.ask("health", json!({"config": config()})).await;
        let transfers = health["health"]["metadata"]["transfers"].as_str();
        if transfers.is_some_and(|said| all.iter().all(|one| said.contains(one))) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{health}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_transfers_say_how_far_they_are() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let told = tempfile::NamedTempFile::new().expect("a file");
    let mut command = world.command();
    // As it is where nobody has chosen a level.
    command.env_remove("CHANNEL_WHATSAPP_LOG");
    command.stderr(told.reopen().expect("stderr"));
    let mut host = Host::new(command);
    host.ask("start_ingress", json!({"config": config()})).await;
    let media = &world.server.core().media;
    let picture = upload(&anna, &bytes(1, 9 << 20)).await;
    media.slow_down_one(picture.direct_path.as_ref().expect("path"), 1 << 20);
    send(&anna, &world, &picture).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "pending", "{event}");
    media.slow_uploads(Some(4 << 20));
    let body = files::noise(10 << 20);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let url = format!("http://{}/a.bin", listener.local_addr().expect("address"));
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let sent = body.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let request = stream.read(&mut [0; 4096]).await.expect("request");
        assert!(request > 0, "the connection has ended");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        stream.write_all(head.as_bytes()).await.expect("head");
        let (now, later) = sent.split_at(9 << 20);
        stream.write_all(now).await.expect("most of it");
        wait.await.expect("told to go on");
        stream.write_all(later).await.expect("the rest");
    });
    let file = json!({"name": "", "mime_type": "", "url": url});
    let push = params(&anna.pn().to_string(), "", vec![file], json!({}));
    host.send(&request("push", push)).await;
    until_health_says(&mut host, &["stage 9 MiB", "download ", " of 9 MiB"]).await;
    let told = || std::fs::read_to_string(told.path()).expect("stderr");
    let says = |what: &str| told().lines().any(|line| line.contains(what));
    eventually("stderr says so", || {
        says("stage 9 MiB") && says("download ")
    })
    .await;
    go_on.send(()).expect("it waits");
    until_health_says(&mut host, &["upload ", " of 10 MiB"]).await;
    let answer = host.answer().await;
    let (_, bytes) = arrived(&anna, &ids(&answer["result"])[0]).await;
    assert!(bytes == body, "the same bytes");
}

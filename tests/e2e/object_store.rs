//! Media in an object store: there and back, by key, let go, unlinked; a store that fails; processes that die.

use crate::common;

use common::media::{attachment, bytes, extra, files, room_for_large};
use common::s3::{PARTS, S3, SECRET, config, send, told};
use common::{Host, World, eventually, message, timeout};
use serde_json::{Value, json};
use whatsapp_rust::prelude::MessageExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_to_the_bucket_and_come_back() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    // No file is kept for longer than its event needs it.
    let settings = config(json!({"max_total_bytes": 10}));
    let mut host = s3.host(&world, &[], settings.clone()).await;
    let (small, large) = (bytes(1, 10_000), bytes(2, PARTS));
    send(&anna, &world, &small).await;
    let first = host.event().await;
    assert_eq!(extra(&first, "media_state"), "stored", "{first}");
    let url = attachment(&first)["url"].as_str().expect("url");
    assert!(
        url.starts_with("s3://media/our%20files/") && url.ends_with(".pdf"),
        "{url}"
    );
    let name = url.replace("%20", " ").replace("s3://", "");
    assert_eq!(s3.objects().keys().collect::<Vec<_>>(), [&name]);
    assert!(std::fs::read(&s3.objects()[&name]).expect("object") == small);
    assert!(files(&world).is_empty());
    // The same content again, encrypted anew; and one that goes in parts.
    send(&anna, &world, &small).await;
    let again = host.event().await;
    assert_eq!(attachment(&again)["url"].as_str(), Some(url));
    assert_eq!(s3.objects().len(), 1);
    let sent = send(&anna, &world, &large).await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], sent);
    assert!(s3.get(&world, &event).await.expect("media get") == large);
    assert_eq!(s3.objects().len(), 2);
    assert!(files(&world).is_empty());
    assert!(s3.get(&world, &first).await.expect("media get") == small);
    // What somebody sent goes on by its key.
    let push = |event: &Value, text: &str| {
        let key = &attachment(event)["storage_key"];
        let mut message = message(
            text,
            json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": event["message"]["id"]}),
        );
        message["attachments"] = json!([{"name": "", "mime_type": "", "storage_key": key}]);
        json!({"config": settings, "message": message})
    };
    let result = host.ask("deliver", push(&first, "yours")).await;
    let id = result["delivery"]["metadata"]["message_ids"].as_str();
    let id = id.and_then(|ids| ids.split(',').next()).expect("an id");
    let seen = anna.wait_id(id).await.expect("arrives");
    let document = seen.message.get_base_message().document_message.as_option();
    let document = document.expect("document");
    assert_eq!(document.file_name.as_deref(), Some("a file"));
    assert_eq!(document.file_length, Some(10_000));
    // Its events are handled then, and the next download makes room.
    host.ask("deliver", push(&again, "again")).await;
    send(&anna, &world, &bytes(3, 1000)).await;
    let third = host.event().await;
    eventually("it is let go", || !s3.objects().contains_key(&name)).await;
    assert!(s3.at(&third) == bytes(3, 1000));
    // A key works on: the call fetches the file from WhatsApp.
    host.ask("configure", json!({"config": config(json!({}))}))
        .await;
    let result = host.ask("deliver", push(&first, "once more")).await;
    assert_eq!(
        result["delivery"]["metadata"]["delivery_state"], "sent",
        "{result}"
    );
    assert!(
        !result.to_string().contains("attachment_not_here"),
        "{result}"
    );
    host.kill().await;
    let said = s3.doctor(&world, &[]).await;
    assert_eq!(said["facts"]["media_store"], "s3://media/our%20files");
    assert!(s3.objects().keys().all(|name| name.ends_with(".pdf")));
    // What is unlinked leaves nothing.
    let mut command = s3.command(&world, &[]);
    let unlinked = command.args(["unlink", "--yes", "--local-only"]).output();
    assert!(timeout(unlinked).await.expect("output").status.success());
    assert_eq!(s3.objects().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_is_named_and_costs_no_event() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut s3 = S3::down().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    let content = bytes(1, 10_000);
    send(&anna, &world, &content).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    assert_eq!(extra(&event, "media_error"), "store_unreachable", "{event}");
    let text = anna.text(world.jid(), "still there").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], text);
    // By now it is asked before anything is fetched.
    let said = s3.get(&world, &event).await.expect_err("no store");
    assert!(said.contains("cannot be reached"), "{said}");
    assert!(files(&world).is_empty());
    s3.start().await;
    assert!(s3.get(&world, &event).await.expect("media get") == content);
    assert_eq!(s3.objects().len(), 1);
    // A file that is there is needed, and its store is down.
    s3.stop();
    let said = s3.get(&world, &event).await.expect_err("no store");
    assert!(said.contains("cannot be reached"), "{said}");
    let said = s3.doctor(&world, &[]).await;
    assert_eq!(said["facts"]["media_store"], "store_unreachable", "{said}");
    s3.start().await;
    host.kill().await;
    for (environment, store) in [
        (("AWS_SECRET_ACCESS_KEY", "guessed"), Value::Null),
        (("AWS_REGION", "us-east-1"), json!("s3://elsewhere/x")),
    ] {
        let settings = config(json!({"store": store}));
        let mut command = s3.command(&world, &[environment]);
        let log = world.home.path().join("log");
        command.env("CHANNEL_WHATSAPP_LOG_FILE", &log);
        let mut host = Host::new(command);
        host.ask("start_ingress", json!({"config": settings})).await;
        let id = send(&anna, &world, &bytes(2, 10_000)).await;
        let event = told(&mut host, &id).await;
        assert_eq!(extra(&event, "media_state"), "pending", "{event}");
        assert_eq!(extra(&event, "media_error"), "store_refused", "{event}");
        host.kill().await;
        let said = s3.doctor(&world, &[environment]).await;
        assert_eq!(said["facts"]["media_store"], "store_refused", "{said}");
        let problem = said["problems"].to_string();
        assert!(
            problem.contains("credentials in the environment"),
            "{problem}"
        );
        let log = std::fs::read_to_string(log).expect("log");
        assert!(log.contains("store_refused"), "{log}");
        for secret in [SECRET, "guessed", "somebody", "Signature="] {
            assert!(
                !log.contains(secret) && !problem.contains(secret),
                "{secret}"
            );
        }
    }
    assert_eq!(s3.objects().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_leaves_nothing_that_nobody_knows() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    for (nth, point) in ["bucket_part", "after_object"].into_iter().enumerate() {
        let content = bytes(nth as u64, PARTS);
        let crash = [("CHANNEL_WHATSAPP_CRASH", point)];
        let mut host = s3.host(&world, &crash, config(json!({}))).await;
        let id = send(&anna, &world, &content).await;
        while host.line_or_end().await.is_some() {}
        // The first part of it, or all of it under its name.
        assert_eq!(s3.objects().len(), nth + 1, "{point}");
        let mut host = s3.host(&world, &[], config(json!({}))).await;
        let event = told(&mut host, &id).await;
        assert!(s3.get(&world, &event).await.expect("media get") == content);
        let whole = |s3: &S3| s3.objects().keys().all(|name| name.ends_with(".pdf"));
        eventually("what was left is gone", || whole(&s3)).await;
        assert_eq!(s3.objects().len(), nth + 1, "{point}");
        assert!(files(&world).is_empty());
        host.kill().await;
    }
    // Nobody wants it any more: its sender is not let in.
    let crash = [("CHANNEL_WHATSAPP_CRASH", "after_object")];
    let mut host = s3.host(&world, &crash, config(json!({}))).await;
    let content = bytes(9, 1000);
    send(&anna, &world, &content).await;
    while host.line_or_end().await.is_some() {}
    let there = |s3: &S3| {
        let mut all = s3.objects().into_values();
        all.any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == content))
    };
    assert!(there(&s3));
    let mut refused = config(json!({}));
    refused["dm_policy"] = json!("deny");
    let _host = s3.host(&world, &[], refused).await;
    eventually("what was left is gone", || !there(&s3)).await;
}

/// Memory does not grow with the file. With `CHANNEL_WHATSAPP_LONG` set it is a file of 1 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_streamed() {
    if !cfg!(target_os = "linux") {
        eprintln!("SKIPPED: only Linux tells how much memory a process has had");
        return;
    }
    let length = match std::env::var_os("CHANNEL_WHATSAPP_LONG") {
        Some(_) => 1 << 30,
        None => 32 << 20,
    };
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    room_for_large(&world);
    let s3 = S3::up().await;
    let settings = config(json!({"max_bytes": 2_u64 << 30}));
    let mut host = s3.host(&world, &[], settings).await;
    // What a small one takes, it has taken.
    send(&anna, &world, &bytes(2, 100_000)).await;
    host.event().await;
    let process = host.child.id().expect("pid");
    let before = common::memory(process, "VmHWM");
    let content = bytes(1, length);
    send(&anna, &world, &content).await;
    let event = host.event().await;
    assert!(s3.get(&world, &event).await.expect("media get") == content);
    let grown = common::memory(process, "VmHWM") - before;
    assert!(grown < 24 << 10, "{grown} KiB more");
}

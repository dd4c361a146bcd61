//! `health` with a connection of its own.

use crate::common;
use crate::manners::{config, started};

use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Host, World, eventually, message, request};
use serde_json::json;
use wacore::types::presence::ReceiptType;
use whatsapp_loopback::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_connects_when_it_is_asked_to() {
    let mut world = World::unlinked().await;
    let probe = json!({"config": {"health_probe": true}});
    let health = async |world: &World| world.ok("health", probe.clone()).await["health"].clone();
    assert_eq!(health(&world).await["status"], "not_linked");
    let summary = world.link(&[]).await;
    world.is(&summary);
    let anna = world.person("Anna").await;
    let logins = |world: &World| world.server.core().counters().logins;
    // Not without being asked to.
    let before = logins(&world);
    let silent = world.ok("health", json!({"config": {}})).await;
    assert_eq!(
        (silent["health"]["status"].as_str(), logins(&world)),
        (Some("ok"), before)
    );
    // What arrives meanwhile is kept.
    let id = anna.text(world.jid(), "well?").await.expect("text");
    anna.wait_ack(&id).await.expect("ack");
    let report = health(&world).await;
    assert_eq!(
        (&report["status"], &report["ok"]),
        (&json!("ok"), &json!(true)),
        "{report}"
    );
    assert_eq!(logins(&world), before + 1);
    assert_eq!(report["metadata"]["inbox_waiting"], "1", "{report}");
    assert!(world.unacknowledged().is_empty());
    let events = world.poll(config(json!({}))).await;
    assert_eq!(events[0]["message"]["id"], id);
    // An owner is asked, and keeps its connection.
    let mut host = started(&world, json!({})).await;
    eventually("online", || world.presence().is_some()).await;
    let before = logins(&world);
    assert_eq!(health(&world).await["status"], "ok");
    assert_eq!(
        host.ask("health", probe.clone()).await["health"]["status"],
        "ok"
    );
    assert_eq!(logins(&world), before);
    host.end();
    host.exit().await;
    // A server that is not there.
    let mut lost = world.command();
    lost.env("CHANNEL_WHATSAPP_WS_URL", "ws://127.0.0.1:9/ws/chat");
    let mut lost = Host::new(lost);
    let report = lost.ask("health", probe.clone()).await["health"].clone();
    assert_eq!(
        (&report["status"], &report["ok"]),
        (&json!("reconnecting"), &json!(false)),
        "{report}"
    );
    // The phone has removed the device.
    assert!(
        world
            .server
            .core()
            .logout_device(&world.phone, world.device)
    );
    assert_eq!(health(&world).await["status"], "logged_out");
}

/// A process that probes over a network that takes what is said and gives no answer.
async fn probing(world: &World, log: Option<&std::path::Path>) -> (Proxy, Host) {
    let proxy = Proxy::start(world.server.addr()).await;
    proxy.deafen();
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
    if let Some(log) = log {
        command.env("CHANNEL_WHATSAPP_LOG_FILE", log);
    }
    let mut host = Host::new(command);
    let probe = json!({"config": config(json!({"health_probe": true}))});
    host.send(&request("health", probe)).await;
    eventually("a probe", || proxy.is_used()).await;
    (proxy, host)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_to_use_the_connection_of_a_probe_keeps_it() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let before = world.server.core().counters().logins;
    let (proxy, mut host) = probing(&world, None).await;
    let settings = config(json!({"read_receipts": "received"}));
    let to = json!({"conversation_id": anna.pn().to_string()});
    let push = json!({"config": settings, "message": message("hello", to)});
    host.send(&request("push", push)).await;
    let began = Instant::now();
    let started = host.ask("start_ingress", json!({"config": settings})).await;
    assert_eq!(started["state"]["status"], "connecting", "{started}");
    assert!(began.elapsed() < Duration::from_secs(2));
    proxy.hear();
    proxy.cut().await;
    let answers = [host.answer().await, host.answer().await];
    for what in ["health", "delivery"] {
        let mut answers = answers.iter();
        assert!(answers.any(|answer| answer["result"][what].is_object()));
    }
    anna.wait_text("hello").await.expect("arrives");
    // Under the settings of who has it now.
    let id = anna.text(world.jid(), "well?").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], id);
    anna.wait_receipt(&id, ReceiptType::Read)
        .await
        .expect("read");
    assert_eq!(world.server.core().counters().logins, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_is_cut_short_is_closed_all_the_same() {
    let world = World::linked().await;
    let log = world.home.path().join("probe.log");
    let (_proxy, mut host) = probing(&world, Some(&log)).await;
    host.send(&request("shutdown", json!({}))).await;
    assert!(host.exit().await.success());
    let told = std::fs::read_to_string(&log).expect("log");
    assert!(told.contains("stopped"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_throws_nobody_out() {
    let world = World::linked().await;
    let mut host = started(&world, json!({})).await;
    eventually("online", || world.presence().is_some()).await;
    world.fault(Fault::StreamError { code: 409 }).await;
    assert_eq!(host.exit().await.code(), Some(1));
    // Longer ago than somebody who starts again has to wait.
    let file = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("file");
    for (key, field) in [("terminal", "since"), ("connections", "connected")] {
        let earlier = format!(
            "UPDATE meta SET value = json_set(value, '$.{field}', json_extract(value, '$.{field}') - 60) WHERE key = '{key}'"
        );
        assert_eq!(file.execute(&earlier, []).expect("meta"), 1);
    }
    let logins = || world.server.core().counters().logins;
    let before = logins();
    let probe = json!({"config": {"health_probe": true}});
    let status = async || world.ok("health", probe.clone()).await["health"]["status"].clone();
    for _ in 0..2 {
        assert_eq!(status().await, "replaced");
    }
    assert_eq!(logins(), before);
    world.poll(config(json!({}))).await;
    assert_eq!((status().await, logins()), (json!("ok"), before + 2));
}

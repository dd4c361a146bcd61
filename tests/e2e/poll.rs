//! `poll_ingress` with the real binary: each call a process of its own.

use crate::common;

use std::collections::HashSet;

use common::{World, open};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits() {
    let world = World::linked().await;
    let result = world.ok("poll_ingress", json!({"config": open()})).await;
    assert_eq!(result["kind"], "ingress_events_received");
    assert_eq!(result["events"], json!([]));
    assert!(result["state"]["metadata"]["cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_waits_and_comes_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let id = anna
        .text(world.jid(), "are you there?")
        .await
        .expect("text");
    anna.wait_ack(&id).await.expect("ack");
    let events = world.poll(open()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(event["event_type"], "message.received");
    assert_eq!(event["message"]["content"], "are you there?");
    assert_eq!(event["message"]["id"], id);
    assert_eq!(event["conversation"]["kind"], "private");
    assert_eq!(event["conversation"]["id"], anna.pn().to_string());
    assert_eq!(event["actor"]["display_name"], "Anna");
    assert_eq!(
        event["account_id"],
        format!("{}@s.whatsapp.net", world.phone)
    );
    assert_eq!(event["activation"]["reason"], "direct_message");
    assert_eq!(event["platform"], "whatsapp");
    anna.wait_receipt(&id, wacore::types::presence::ReceiptType::Delivered)
        .await
        .expect("ticks");
    assert!(world.unacknowledged().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_messages_wait() {
    let world = World::linked().await;
    common::fill(&world, 1_000, 20).await;
    let mut config = open();
    config["poll_max_events"] = json!(400);
    let mut seen = HashSet::new();
    let mut state = serde_json::Value::Null;
    for _ in 0..4 {
        let mut params = json!({"config": config});
        if !state.is_null() {
            params["state"] = state.clone();
        }
        let result = world.ok("poll_ingress", params).await;
        for event in result["events"].as_array().expect("events") {
            let id = event["message"]["id"].as_str().expect("id").to_owned();
            assert!(seen.insert(id), "twice: {event}");
        }
        state = result["state"].clone();
    }
    assert_eq!(seen.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_speak_is_not_heard() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    for person in [&anna, &bert] {
        let id = person.text(world.jid(), "hello").await.expect("text");
        person.wait_ack(&id).await.expect("ack");
    }
    let config = json!({
        "dm_policy": "allowlist", "allowed_sender_ids": [format!("+{}", anna.phone())],
        "poll_idle_ms": 300,
    });
    let events = world.poll(config).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["actor"]["id"], anna.pn().to_string());
    assert!(
        world.poll(open()).await.is_empty(),
        "what was denied stays denied"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_decided_who_may_speak() {
    let world = World::linked().await;
    assert_eq!(
        world.refused("poll_ingress", json!({"config": {}})).await,
        "policy_required"
    );
    assert_eq!(
        world.refused("start_ingress", json!({"config": {}})).await,
        "policy_required"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_linked() {
    let world = World::unlinked().await;
    for kind in ["poll_ingress", "start_ingress"] {
        assert_eq!(
            world.refused(kind, json!({"config": open()})).await,
            "not_linked"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_cannot_be_reached() {
    let world = World::linked().await;
    let proxy = common::proxy::Proxy::down_from_the_start(world.server.addr()).await;
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
    let mut host = common::Host::new(command);
    let config = json!({"dm_policy": "open", "poll_timeout_secs": 2});
    host.send(&common::request("poll_ingress", json!({"config": config})))
        .await;
    host.end();
    assert_eq!(common::code(&host.line().await), "unreachable");
    assert!(host.exit().await.success());
}

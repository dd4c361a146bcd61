//! `start_ingress` with the real binary: a long session, its interruptions and its end.

use crate::common;

use std::time::{Duration, Instant};

use common::{Host, World, open, proxy::Proxy, request, timeout};
use serde_json::{Value, json};
use whatsapp_loopback::Fault;

async fn start(world: &World, state: Option<&Value>) -> (Host, Value) {
    started(world.host(), state).await
}

async fn started(mut host: Host, state: Option<&Value>) -> (Host, Value) {
    let mut params = json!({"config": open()});
    if let Some(state) = state {
        params["state"] = state.clone();
    }
    let result = host.ask("start_ingress", params).await;
    assert_eq!(result["kind"], "ingress_started");
    assert_eq!(result["state"]["mode"], "websocket");
    let state = result["state"].clone();
    (host, state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_from_before_during_and_after() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let before = anna.text(world.jid(), "before").await.expect("text");
    anna.wait_ack(&before).await.expect("ack");
    let (mut host, _) = start(&world, None).await;
    assert_eq!(host.event().await["message"]["id"], before);
    let during = anna.text(world.jid(), "during").await.expect("text");
    let notification = host.notification_with_event().await;
    assert_eq!(notification["params"]["events"][0]["message"]["id"], during);
    let named = notification["params"]["state"]["metadata"]["event"].clone();
    // The burst ends with the cursor of its last event, and in nobody's turn.
    let closing = host.line().await;
    assert_eq!(closing["params"]["events"], json!([]));
    let state = closing["params"]["state"].clone();
    assert_eq!(state["metadata"]["cursor"], named);
    assert_eq!(state["metadata"].get("event"), None);
    let stopped = host
        .ask("stop_ingress", json!({"config": open(), "state": state}))
        .await;
    assert_eq!(stopped["kind"], "ingress_stopped");
    assert_eq!(stopped["state"]["status"], "stopped");
    host.ask("shutdown", json!({})).await;
    assert!(host.exit().await.success());
    let after = anna.text(world.jid(), "after").await.expect("text");
    anna.wait_ack(&after).await.expect("ack");
    let (mut host, _) = start(&world, Some(&state)).await;
    assert_eq!(
        host.event().await["message"]["id"],
        after,
        "and nothing from before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_people_each_in_order() {
    let world = World::linked().await;
    let (mut host, _) = start(&world, None).await;
    let mut people = Vec::new();
    for name in ["Anna", "Bert", "Cleo"] {
        people.push(world.person(name).await);
    }
    for n in 0..20 {
        for person in &people {
            person
                .text(world.jid(), &n.to_string())
                .await
                .expect("text");
        }
    }
    let mut next = std::collections::HashMap::new();
    for _ in 0..60 {
        let event = host.event().await;
        let actor = event["actor"]["id"].as_str().expect("id").to_owned();
        let expected: &mut u32 = next.entry(actor).or_default();
        assert_eq!(event["message"]["content"], expected.to_string());
        *expected += 1;
    }
    assert_eq!(next.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_down_at_the_start_and_again_later() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let proxy = Proxy::down_from_the_start(world.server.addr()).await;
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
    let begun = Instant::now();
    let (mut host, state) = started(Host::new(command), None).await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "answered after {:?}",
        begun.elapsed()
    );
    assert_eq!(state["status"], "connecting");
    for text in ["first", "second"] {
        proxy.up();
        let id = anna.text(world.jid(), text).await.expect("text");
        assert_eq!(host.event().await["message"]["id"], id);
        proxy.down();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_commit_and_acknowledgement() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let proxy = Proxy::start(world.server.addr()).await;
    let command = || {
        let mut command = world.command();
        command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
        Host::new(command)
    };
    let (mut host, _) = started(command(), None).await;
    common::eventually("online", || world.presence().is_some()).await;
    proxy.deafen();
    let id = anna.text(world.jid(), "only once").await.expect("text");
    assert_eq!(
        host.event().await["message"]["id"],
        id,
        "committed and emitted"
    );
    let state = host.line().await["params"]["state"].clone();
    host.kill().await;
    assert_eq!(
        world.unacknowledged().as_slice(),
        std::slice::from_ref(&id),
        "not acknowledged"
    );
    proxy.hear();
    let (mut host, _) = started(command(), Some(&state)).await;
    let later = anna.text(world.jid(), "later").await.expect("text");
    assert_eq!(
        host.event().await["message"]["id"],
        later,
        "the first did not come again"
    );
    common::eventually("acknowledged", || world.unacknowledged().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_any_evidence_it_comes_again_marked() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let (mut host, state) = start(&world, None).await;
    let id = anna
        .text(world.jid(), "did you get that?")
        .await
        .expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(event["metadata"].get("redelivered"), None);
    host.kill().await;
    let (mut host, _) = start(&world, Some(&state)).await;
    let again = host.event().await;
    assert_eq!(again["event_id"], event["event_id"]);
    assert_eq!(again["metadata"]["redelivered"], "true");
    assert_eq!(again["metadata"]["attempt"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_took_over() {
    let world = World::linked().await;
    let (mut host, _) = start(&world, None).await;
    common::eventually("online", || world.presence().is_some()).await;
    world.fault(Fault::StreamError { code: 409 }).await;
    assert_eq!(last_words(&mut host).await, "replaced");
    assert_eq!(host.exit().await.code(), Some(1));
    let params = json!({"config": open()});
    assert_eq!(
        world.refused("start_ingress", params).await,
        "replaced",
        "it does not fight"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_removed_the_device() {
    let world = World::linked().await;
    let (mut host, _) = start(&world, None).await;
    common::eventually("online", || world.presence().is_some()).await;
    world
        .server
        .core()
        .logout_device(&world.phone, world.device);
    assert_eq!(last_words(&mut host).await, "logged_out");
    assert_eq!(host.exit().await.code(), Some(1));
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "logged_out");
    let what_to_do = health["health"]["metadata"]["what_to_do"]
        .as_str()
        .expect("a sentence");
    assert!(what_to_do.contains("--link"), "{what_to_do}");
}

async fn last_words(host: &mut Host) -> String {
    let mut last = Value::Null;
    while let Some(line) = host.line_or_end().await {
        last = line;
    }
    last["params"]["state"]["status"]
        .as_str()
        .expect("a last notification")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_told_who_has_the_session() {
    let world = World::linked().await;
    let (host, _) = start(&world, None).await;
    let pid = host.child.id().expect("pid").to_string();
    for (kind, params) in [
        ("start_ingress", json!({"config": open()})),
        ("poll_ingress", json!({"config": open()})),
    ] {
        let answer = world.call(kind, params).await;
        assert_eq!(common::code(&answer), "session_in_use");
        let message = answer["error"]["message"].as_str().expect("message");
        assert!(message.contains(&pid), "{message}");
    }
    let health = world.ok("health", json!({"config": {}})).await;
    let status = health["health"]["status"].as_str().expect("status");
    assert!(["ok", "connecting"].contains(&status), "{status}");
    assert_eq!(world.server.core().connections().len(), 1);
}

/// Every state in which a host may die: the plugin sees the end of stdin and is gone within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_stdin_ends_it_within_a_second() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let proxy = Proxy::down_from_the_start(world.server.addr()).await;
    for round in 0..100 {
        let mut command = world.command();
        if round % 4 == 3 {
            command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
        }
        let (mut host, _) = started(Host::new(command), None).await;
        match round % 4 {
            // Connected and idle.
            0 => {
                common::eventually("online", || {
                    world
                        .server
                        .core()
                        .connections()
                        .iter()
                        .any(|c| c.phone.as_deref() == Some(&world.phone))
                })
                .await;
            }
            // An event on its way.
            1 => {
                anna.text(world.jid(), "hello").await.expect("text");
            }
            // A request in hand.
            2 => {
                let to =
                    json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": "X"});
                let params = json!({"config": open(), "message": common::message("hi", to)});
                host.send(&request("deliver", params)).await;
            }
            // Connecting, in vain.
            _ => {}
        }
        let ended = Instant::now();
        host.end();
        let status = host.exit().await;
        assert!(
            ended.elapsed() < Duration::from_secs(1),
            "round {round}: {:?}",
            ended.elapsed()
        );
        assert_eq!(status.code(), Some(0), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owners_phone_goes_on_ringing() {
    let world = World::linked().await;
    let (host, _) = start(&world, None).await;
    common::eventually("unavailable", || {
        world.presence().as_deref() == Some("unavailable")
    })
    .await;
    drop(host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settings_change_applies_at_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let (mut host, _) = start(&world, None).await;
    let first = anna.text(world.jid(), "first").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], first);
    let closed = json!({"dm_policy": "deny"});
    host.send(&request("configure", json!({"config": closed})))
        .await;
    let answer = timeout(host.answer()).await;
    assert_eq!(
        answer["result"]["configuration"]["metadata"]["applied"],
        "true"
    );
    let denied = anna.text(world.jid(), "denied").await.expect("text");
    anna.wait_receipt(&denied, wacore::types::presence::ReceiptType::Delivered)
        .await
        .expect("ticks");
    // Settings that nobody decided are not taken up: they would deny everybody.
    let undecided = host.ask("configure", json!({"config": {}})).await;
    assert_eq!(undecided["configuration"]["metadata"]["applied"], "false");
    host.ask("configure", json!({"config": open()})).await;
    let third = anna.text(world.jid(), "third").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], third);
}

/// A host that does not read, and is killed with its plugin: what never left is not taken for lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_nobody_reads() {
    let world = World::linked().await;
    common::fill(&world, 1_500, 10).await;
    let (mut host, state) = start(&world, None).await;
    common::eventually("all is received", || world.unacknowledged().is_empty()).await;
    host.kill().await;
    let left = host.rest().await;
    let first: Vec<Value> = left
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(
        !first.is_empty() && first.len() < 1_400,
        "{} left",
        first.len()
    );
    let (mut host, _) = start(&world, Some(&state)).await;
    let mut seen = std::collections::HashSet::new();
    for line in first {
        seen.insert(line["params"]["events"][0]["message"]["id"].to_string());
    }
    while seen.len() < 1_500 {
        seen.insert(host.event().await["message"]["id"].to_string());
    }
}

/// The connection is cut while the offline queue is received, several times over: all of it arrives, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_queue_that_is_cut_short_is_resumed() {
    let world = World::linked().await;
    common::fill(&world, 600, 12).await;
    let before = world.server.core().counters().logins;
    for stanzas in [120, 130] {
        world.fault(Fault::DropAfter { stanzas }).await;
    }
    let (mut host, _) = start(&world, None).await;
    let mut seen = std::collections::HashMap::new();
    while seen.len() < 600 {
        let event = host.event().await;
        let chat = event["conversation"]["id"].to_string();
        let text = event["message"]["content"].to_string();
        let number: usize = text
            .trim_matches('"')
            .trim_start_matches("message ")
            .parse()
            .expect("number");
        assert!(
            seen.insert(number, chat.clone()).is_none(),
            "{number} twice"
        );
        let later = seen
            .iter()
            .filter(|(other, of)| **other > number && **of == chat)
            .count();
        assert_eq!(later, 0, "{number} after a later one of its chat");
    }
    assert!(
        world.server.core().counters().logins > before + 1,
        "it was cut"
    );
}

//! Every state that a host can send: its own, none, an older or newer one, another's, an edited one. None of them
//! stops the plugin, loses a message, or brings back messages that were handled.

use crate::common;

use common::{Host, World, message, open};
use serde_json::{Value, json};

/// A state with this cursor.
fn with(cursor: &str) -> Value {
    json!({"mode": "websocket", "status": "running", "metadata": {"cursor": cursor}})
}

/// Every other state than the right one, for a store with this id whose last emission has this number.
fn states(store: &str, last: u64, foreign: &str) -> Vec<(&'static str, Value)> {
    let number = |number: &str| with(&format!("{store}:{number}"));
    let event = |event: Value| {
        let metadata = json!({"cursor": format!("{store}:{last}"), "event": event});
        json!({"mode": "websocket", "status": "running", "metadata": metadata})
    };
    let long = "9".repeat(100_000);
    vec![
        ("none", Value::Null),
        ("empty", json!({})),
        ("zero", number("0")),
        ("older", number(&(last / 2).to_string())),
        ("newer", number(&(last + 1000).to_string())),
        ("of another account", with(foreign)),
        ("of no store", with(":7")),
        ("negative", number("-5")),
        ("largest", number("9223372036854775807")),
        ("beyond", number("99999999999999999999999")),
        ("no number", number("seven")),
        ("a fraction", number("1.5")),
        ("blank", with("")),
        ("long", number(&long)),
        ("long id", with(&format!("{long}:{last}"))),
        ("strange text", with("\u{0}:\u{202e}💥")),
        (
            "of the other mode",
            json!({"mode": "polling", "status": "running", "metadata": {"cursor": format!("{store}:1")}}),
        ),
        (
            "of another plugin",
            json!({"mode": "webhook", "status": "registered", "endpoint": {"path": "/x"}, "metadata": {"next_update_id": "12"}}),
        ),
        (
            "a number as cursor",
            json!({"mode": "websocket", "status": "running", "metadata": {"cursor": 12}}),
        ),
        (
            "an object as cursor",
            json!({"metadata": {"cursor": {"a": []}}}),
        ),
        ("a list as metadata", json!({"metadata": []})),
        ("text", json!("running")),
        ("an integer", json!(7)),
        ("a list", json!([1, 2])),
        (
            "wrong types",
            json!({"mode": 5, "status": [], "metadata": "x"}),
        ),
        ("an older event", event(json!(format!("{store}:1")))),
        (
            "a newer event",
            event(json!(format!("{store}:{}", last + 2000))),
        ),
        ("an event of another account", event(json!(foreign))),
        ("strange text as event", event(json!(long))),
        ("a list as event", event(json!([1]))),
    ]
}

async fn cursor_of_another_account() -> String {
    let world = World::linked().await;
    let result = world.ok("poll_ingress", json!({"config": open()})).await;
    let cursor = result["state"]["metadata"]["cursor"].as_str();
    let store = cursor.expect("cursor").split(':').next().expect("id");
    format!("{store}:2")
}

fn split(state: &Value) -> (String, u64) {
    let cursor = state["metadata"]["cursor"].as_str().expect("cursor");
    let (store, number) = cursor.split_once(':').expect("two parts");
    (store.to_owned(), number.parse().expect("number"))
}

/// A stream whose events are answered, then started with every kind of state: each time exactly what is new comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_any_state() {
    let foreign = cursor_of_another_account().await;
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, Value::Null).await;
    for text in ["one", "two", "three", "four"] {
        anna.text(world.jid(), text).await.expect("text");
        answer(&mut host).await;
    }
    let (store, last) = split(&host.ask("stop_ingress", json!({"config": open()})).await["state"]);
    drop(host);
    for (what, state) in states(&store, last.max(4), &foreign) {
        let mut host = started(&world, state).await;
        let id = anna.text(world.jid(), what).await.expect("text");
        let event = answer(&mut host).await;
        assert_eq!(event["message"]["id"], id, "{what}: only what is new");
        assert_eq!(event["metadata"].get("redelivered"), None, "{what}");
        host.end();
        assert!(host.exit().await.success(), "{what}");
    }
    let health = world.ok("health", json!({"config": {}})).await;
    for count in ["inbox_waiting", "inbox_unproven", "unconfirmed", "poisoned"] {
        assert_eq!(health["health"]["metadata"][count], "0", "{count}");
    }
}

/// What was never proven comes again under any state but the one that proves it, and that one proves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_handled_comes_again_under_any_state() {
    let foreign = cursor_of_another_account().await;
    for pick in [0, 4, 5, 6, 9, 18] {
        let world = World::linked().await;
        let anna = world.person("Anna").await;
        let mut host = started(&world, Value::Null).await;
        let id = anna.text(world.jid(), "hello").await.expect("text");
        let event = host.event().await;
        assert_eq!(event["message"]["id"], id);
        let (store, last) = split(&host.line().await["params"]["state"]);
        host.kill().await;
        let (what, state) = states(&store, last, &foreign).swap_remove(pick);
        let mut host = started(&world, state).await;
        let again = host.event().await;
        assert_eq!(again["event_id"], event["event_id"], "{what}");
        assert_eq!(again["metadata"]["redelivered"], "true", "{what}");
        host.kill().await;
        // The right one: the host had saved it before it was killed.
        let mut host = started(&world, with(&format!("{store}:{}", last + 5000))).await;
        assert_eq!(host.event().await["event_id"], event["event_id"], "{what}");
        let state = host.line().await["params"]["state"].clone();
        host.kill().await;
        let mut host = started(&world, state).await;
        let next = anna.text(world.jid(), "next").await.expect("text");
        assert_eq!(host.event().await["message"]["id"], next, "{what}");
    }
}

/// A host that ends over one event, three times: that one is set aside, not those that wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_three_sessions_ended_in_is_set_aside() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    let mut state = Value::Null;
    let mut ids = [Value::Null, Value::Null];
    for round in 1..=3 {
        let mut host = started(&world, state).await;
        let mut lines = Vec::new();
        for (id, person) in ids.iter_mut().zip([&anna, &bert]) {
            if round == 1 {
                *id = json!(person.text(world.jid(), "hello").await.expect("text"));
            }
            // Which of two chats is told first is not said, so the second writes after that.
            lines.push(host.line().await);
        }
        let [first, second] = [lines.remove(0), lines.remove(0)];
        for (line, id) in [&first, &second].into_iter().zip(&ids) {
            assert_eq!(line["params"]["events"][0]["message"]["id"], *id, "{round}");
        }
        // Of the second nothing was saved any more.
        state = first["params"]["state"].clone();
        host.kill().await;
    }
    let mut host = started(&world, state).await;
    assert_eq!(host.event().await["message"]["id"], ids[1]);
    let health = host.ask("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["metadata"]["poisoned"], "1");
}

/// A host that ends before it takes anything: its state says that no turn had begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_taken_is_never_set_aside() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let id = anna.text(world.jid(), "hello").await.expect("text");
    anna.wait_ack(&id).await.expect("ack");
    let mut state = Value::Null;
    for round in 1..=5 {
        let mut host = world.host();
        let params = json!({"config": open(), "state": state});
        let answer = host.ask("start_ingress", params).await;
        state = answer["state"].clone();
        assert_eq!(state["metadata"].get("event"), None);
        let event = host.event().await;
        assert_eq!(event["message"]["id"], id);
        assert_eq!(
            event["metadata"].get("attempt"),
            Some(&json!(round.to_string())).filter(|_| round > 1)
        );
        host.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_with_any_state() {
    let foreign = cursor_of_another_account().await;
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let poll = async |state: Value| {
        let params = json!({"config": open(), "state": state});
        world.ok("poll_ingress", params).await
    };
    let first = anna.text(world.jid(), "first").await.expect("text");
    anna.wait_ack(&first).await.expect("ack");
    let result = poll(Value::Null).await;
    assert_eq!(result["events"].as_array().map(Vec::len), Some(1));
    let (store, last) = split(&result["state"]);
    // It arrived, so it is handled, as far as a poller that does not reply can ever show.
    assert_eq!(poll(result["state"].clone()).await["events"], json!([]));
    for (what, state) in states(&store, last, &foreign) {
        let id = anna.text(world.jid(), what).await.expect("text");
        anna.wait_ack(&id).await.expect("ack");
        let result = poll(state).await;
        let events = result["events"].as_array().expect("events");
        let ids: Vec<&Value> = events.iter().map(|event| &event["message"]["id"]).collect();
        assert_eq!(ids, [&json!(id)], "{what}");
        assert_eq!(
            poll(result["state"].clone()).await["events"],
            json!([]),
            "{what}"
        );
    }
}

async fn started(world: &World, state: Value) -> Host {
    let mut host = world.host();
    let params = json!({"config": open(), "state": state});
    let result = host.ask("start_ingress", params).await;
    assert_eq!(result["kind"], "ingress_started");
    host
}

/// Takes the next event and replies to it.
async fn answer(host: &mut Host) -> Value {
    let event = host.event().await;
    let metadata = json!({
        "conversation_id": event["conversation"]["id"],
        "reply_to_message_id": event["message"]["id"],
    });
    let params = json!({"config": open(), "message": message("thanks", metadata)});
    host.ask("deliver", params).await;
    event
}

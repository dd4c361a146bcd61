//! What happens besides messages, with the real binary: the opt-in families of `events`.

use crate::common;

use common::{Host, World, message};
use serde_json::{Value, json};
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::{Person, PersonSpec};
use whatsapp_rust::{Jid, NodeBuilder};

const ALL: [&str; 8] = [
    "message",
    "receipt",
    "group",
    "call",
    "presence",
    "contact",
    "connection",
    "undecryptable",
];

fn config(families: &[&str]) -> Value {
    json!({
        "dm_policy": "open", "allow_group_messages": true, "allowed_conversation_ids": ["*"],
        "group_activation": "all", "events": families,
        "poll_idle_ms": 300, "poll_timeout_secs": 30,
    })
}

async fn started(world: &World, config: Value) -> Host {
    let mut host = world.host();
    let result = host.ask("start_ingress", json!({"config": config})).await;
    assert_eq!(result["state"]["status"], "running", "{result}");
    host
}

/// The next event, which must be of this type and of the kind that is not kept.
async fn told(host: &mut Host, event_type: &str) -> Value {
    let notification = host.notification_with_event().await;
    let event = notification["params"]["events"][0].clone();
    assert_eq!(event["event_type"], event_type, "{event}");
    assert_eq!(event["metadata"]["durable"], "false", "{event}");
    // It is nobody's turn that could be lost.
    assert_eq!(
        notification["params"]["state"]["metadata"].get("event"),
        None
    );
    event
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

async fn pushed(host: &mut Host, config: &Value, to: &Person, content: &str) -> String {
    let metadata = json!({"conversation_id": to.pn().to_string()});
    let params = json!({"config": config, "message": message(content, metadata)});
    let result = host.ask("push", params).await;
    text(&result["delivery"]["message_id"]).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_by_phone_number() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    receipts(&world, &anna).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_by_lid() {
    let world = World::linked_lid().await;
    let spec = PersonSpec::new("Anna").lid_migrated();
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    receipts(&world, &anna).await;
}

/// Delivered, read, played; each once.
async fn receipts(world: &World, anna: &Person) {
    let config = config(&["message", "receipt"]);
    let mut host = started(world, config.clone()).await;
    let sent = pushed(&mut host, &config, anna, "hello").await;
    let got = anna.wait_id(&sent).await.expect("arrives");
    anna.read(&got).await.expect("read");
    let read = but_delivered(&mut host).await;
    assert_eq!(read["event_type"], "receipt.read");
    assert_eq!(read["message"]["metadata"]["target_message_id"], sent);
    assert_eq!(read["metadata"]["durable"], "false");
    assert_eq!(read["conversation"]["kind"], "private");
    assert_eq!(read["activation"]["reason"], "direct_message");
    let device = anna.device().await.expect("device");
    let id = format!(":receipt:read:{sent}:{device}");
    assert!(text(&read["event_id"]).ends_with(&id), "{read}");
    anna.played(&got).await.expect("played");
    let played = but_delivered(&mut host).await;
    assert_eq!(played["event_type"], "receipt.played", "{played}");
    assert_eq!(played["conversation"]["id"], read["conversation"]["id"]);
    // What is told is a conversation that can be answered.
    let metadata = json!({
        "conversation_id": played["conversation"]["id"],
        "reply_to_message_id": played["message"]["id"],
    });
    let params = json!({"config": config, "message": message("heard it?", metadata)});
    let result = host.ask("deliver", params).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    anna.wait_text("heard it?").await.expect("arrives");
}

/// The next event that is no word of delivery: that may come before the answer to the push, which drops it, or after
/// what follows, since the library keeps no order between receipts.
async fn but_delivered(host: &mut Host) -> Value {
    loop {
        let event = host.event().await;
        match text(&event["event_type"]) {
            "receipt.delivered" => assert_eq!(event["message"]["content"], "Received a message"),
            _ => return event,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_group_by_phone_number() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let bob = world.person("Bob").await;
    changes(&world, &anna, &bob, world.jid()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_group_by_lid() {
    let world = World::linked_lid().await;
    let spec = |name: &str| PersonSpec::new(name).lid_migrated();
    let anna = Person::join_as(&world.server, spec("Anna")).await;
    let bob = Person::join_as(&world.server, spec("Bob")).await;
    let (anna, bob) = (anna.expect("Anna"), bob.expect("Bob"));
    changes(&world, &anna, &bob, world.lid()).await;
}

async fn changes(world: &World, anna: &Person, bob: &Person, plugin: Jid) {
    let mut host = started(world, config(&["message", "group"])).await;
    let group = world.group(anna, "Cooks").await;
    let made = told(&mut host, "group.created").await;
    assert_eq!(made["conversation"]["id"], group.to_string());
    assert_eq!(made["conversation"]["kind"], "group");
    assert_eq!(made["metadata"]["conversation_title"], "Cooks");
    assert_eq!(made["activation"]["reason"], "all_messages");
    // Anna is called by her number until she has said something.
    let id = anna.text(group.clone(), "welcome").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], id);

    anna.subject(&group, "Bakers").await.expect("subject");
    let renamed = told(&mut host, "group.subject_changed").await;
    let content = &renamed["message"]["content"];
    assert_eq!(content, "Anna: Renamed the group: Bakers");
    assert_eq!(renamed["metadata"]["conversation_title"], "Bakers");
    anna.add(&group, bob).await.expect("add");
    let added = told(&mut host, "group.added").await;
    assert!(
        text(&added["message"]["content"]).starts_with("Anna: Added: +"),
        "{added}"
    );
    assert!(text(&added["event_id"]).contains(":group:"), "{added}");
    assert_eq!(added["message"]["metadata"].get("concerns_self"), None);
    bob.leave(&group).await.expect("leave");
    let left = told(&mut host, "group.left").await;
    assert!(
        text(&left["message"]["content"]).contains("Left the group"),
        "{left}"
    );
    anna.announce(&group, true).await.expect("announce");
    let set = told(&mut host, "group.settings_changed").await;
    assert_eq!(
        set["message"]["content"],
        "Anna: Only admins may send messages"
    );
    assert_eq!(set["metadata"]["only_admins_may_send"], "true");

    let who = [plugin];
    let client = anna.client().await.expect("client");
    let promoted = client.groups().promote_participants(&group, &who).await;
    promoted.expect("promote");
    let event = told(&mut host, "group.promoted").await;
    assert_eq!(event["message"]["metadata"]["concerns_self"], "true");
    let removed = client.groups().remove_participants(&group, &who).await;
    assert!(removed.expect("remove").iter().all(|answer| answer.is_ok()));
    let event = told(&mut host, "group.removed").await;
    assert_eq!(event["message"]["metadata"]["concerns_self"], "true");
    assert_eq!(event["metadata"]["conversation_title"], "Bakers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_presence_and_calls_follow_the_messages_before_them() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let bob = world.person("Bob").await;
    anna.available(true).await.expect("presence");
    let mut config = config(&["message", "presence", "call"]);
    config["contacts"] = json!([{"id": format!("+{}", bob.phone()), "permission": "read"}]);
    let mut host = started(&world, config).await;
    bob.text(world.jid(), "hello").await.expect("text");
    let first = anna.text(world.jid(), "hello").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], first);
    // Whoever writes is watched from now on; what is told first is how it is now.
    let now = besides_presence(&mut host, "presence.available").await;
    assert_eq!(now["actor"]["id"], anna.pn().to_string());
    let core = world.server.core();
    assert!(core.is_watched(anna.phone(), &world.phone));
    assert!(!core.is_watched(bob.phone(), &world.phone));
    anna.available(false).await.expect("presence");
    besides_presence(&mut host, "presence.unavailable").await;

    anna.composing(world.jid()).await.expect("composing");
    let typing = besides_presence(&mut host, "presence.composing").await;
    assert_eq!(typing["message"]["content"], "Is typing");
    assert_eq!(typing["conversation"]["id"], anna.pn().to_string());
    anna.paused(world.jid()).await.expect("paused");
    besides_presence(&mut host, "presence.paused").await;

    call(&anna, world.jid(), "CALL1", "offer").await;
    let rings = besides_presence(&mut host, "call.incoming").await;
    assert_eq!(rings["message"]["content"], "Voice call");
    assert_eq!(rings["message"]["metadata"]["call_id"], "CALL1");
    assert_eq!(rings["actor"]["id"], anna.pn().to_string());
    let id = format!("whatsapp:{0}:{0}:call:CALL1:incoming", anna.pn());
    assert_eq!(rings["event_id"], id);
    call(&anna, world.jid(), "CALL1", "terminate").await;
    // The library may tell besides that nobody took it.
    let mut last = host.event().await;
    while last["event_type"] != "call.ended" {
        let besides = ["call.missed", "presence.available", "presence.unavailable"];
        assert!(
            besides.iter().any(|other| last["event_type"] == *other),
            "{last}"
        );
        last = host.event().await;
    }
}

/// The same, passing over presence that is said again: the server tells it to who asks, and whenever it changes.
async fn besides_presence(host: &mut Host, event_type: &str) -> Value {
    loop {
        let event = host.event().await;
        assert_eq!(event["metadata"]["durable"], "false", "{event}");
        if event["event_type"] == event_type {
            return event;
        }
        let again = ["presence.available", "presence.unavailable"];
        assert!(
            again.iter().any(|other| event["event_type"] == *other),
            "{event}"
        );
    }
}

/// One step of a voice call, as a phone sends it; nobody hears anything.
async fn call(who: &Person, to: Jid, id: &str, step: &'static str) {
    let client = who.client().await.expect("client");
    let mut action = NodeBuilder::new(step)
        .attr("call-id", id)
        .attr("call-creator", client.pn().expect("linked"));
    if step == "offer" {
        let audio = NodeBuilder::new("audio").attr("enc", "opus");
        action = action.children([audio.attr("rate", "16000").build()]);
    }
    let call = NodeBuilder::new("call")
        .attr("to", to)
        .attr("id", format!("{id}-{step}"))
        .children([action.build()]);
    client.send_node(call.build()).await.expect("call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stranger_does_reaches_nobody() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mallory = world.person("Mallory").await;
    let config = json!({
        "dm_policy": "allowlist", "allowed_sender_ids": [format!("+{}", anna.phone())],
        "events": ALL,
    });
    let mut host = started(&world, config).await;
    mallory.composing(world.jid()).await.expect("composing");
    call(&mallory, world.jid(), "CALL1", "offer").await;
    // Nor what they do in Anna's name.
    let client = mallory.client().await.expect("client");
    let offer = NodeBuilder::new("offer")
        .attr("call-id", "CALL2")
        .attr("call-creator", anna.pn());
    let forged = NodeBuilder::new("call")
        .attr("to", world.jid())
        .attr("id", "CALL2-offer")
        .children([offer.build()]);
    client.send_node(forged.build()).await.expect("call");
    let group = world.group(&mallory, "Spam").await;
    mallory.subject(&group, "More spam").await.expect("subject");
    let last = mallory.text(world.jid(), "hello").await.expect("text");
    mallory.wait_ack(&last).await.expect("ack");
    common::eventually("everything has come", || world.unacknowledged().is_empty()).await;
    anna.composing(world.jid()).await.expect("composing");
    let event = host.event().await;
    assert_eq!(event["event_type"], "presence.composing", "{event}");
    assert_eq!(event["actor"]["id"], anna.pn().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_unasked_and_a_running_ingress_can_be_asked() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, config(&["message"])).await;
    anna.composing(world.jid()).await.expect("composing");
    let id = anna.text(world.jid(), "hello").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], id);
    let asked = config(&["message", "presence"]);
    host.ask("configure", json!({"config": asked})).await;
    // The configuration holds from the next event on, and nothing else says when that is.
    let id = anna.text(world.jid(), "again").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], id);
    anna.composing(world.jid()).await.expect("composing");
    loop {
        let event = host.event().await;
        if event["event_type"] == "presence.composing" {
            break;
        }
        assert_eq!(event["event_type"], "presence.unavailable", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_and_the_next_one() {
    let world = World::linked().await;
    let mut host = started(&world, config(&["connection"])).await;
    world.fault(Fault::DropNow).await;
    let lost = told(&mut host, "connection.disconnected").await;
    let own = world.jid().to_string();
    assert_eq!(lost["conversation"]["id"], own);
    assert_eq!(lost["actor"]["id"], own);
    told(&mut host, "connection.connected").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_has_messages_alone() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Cooks").await;
    anna.subject(&group, "Bakers").await.expect("subject");
    let id = anna.text(group.clone(), "hello").await.expect("text");
    anna.wait_ack(&id).await.expect("ack");
    let events = world.poll(config(&ALL)).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["message"]["id"], id);
    assert_eq!(events[0]["metadata"]["durable"], "true");
    assert_eq!(events[0]["metadata"]["conversation_title"], "Bakers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_and_comes_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, config(&["message", "undecryptable"])).await;
    world.fault(Fault::Corrupt { times: 1 }).await;
    let id = anna.text(world.jid(), "hello").await.expect("text");
    let spoilt = told(&mut host, "message.undecryptable").await;
    assert_eq!(spoilt["message"]["id"], id);
    assert!(text(&spoilt["event_id"]).ends_with(&format!(":{id}:undecryptable")));
    // The sender is asked for it again, and that one is an event like any other.
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(event["message"]["content"], "hello");
    assert_eq!(event["metadata"]["durable"], "true");
}

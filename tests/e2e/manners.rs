//! What others see the agent do: writing, recording, reading, being there; and `health` with a connection of its own.

use crate::common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::room::Room;
use common::{Host, World, eventually, files, message, open};
use serde_json::{Value, json};
use wacore::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use waproto::whatsapp as wa;
use whatsapp_loopback::Fault;
use whatsapp_loopback::media::MediaOp;
use whatsapp_loopback::people::{Person, Seen};
use whatsapp_rust::Jid;

/// Everybody may write, groups too.
fn config(more: Value) -> Value {
    let mut config = open();
    config["allow_group_messages"] = json!(true);
    config["allowed_conversation_ids"] = json!(["*"]);
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    config
}

async fn started(world: &World, more: Value) -> Host {
    let mut host = world.host();
    let params = json!({"config": config(more)});
    host.ask("start_ingress", params).await;
    host
}

/// Other settings for the ingress that is running.
async fn configure(host: &mut Host, more: Value) {
    let params = json!({"config": config(more)});
    let answer = host.ask("configure", params).await;
    assert_eq!(answer["configuration"]["metadata"]["applied"], "true");
}

/// The host's answer to an event.
fn answer(event: &Value, text: &str, more: Value) -> Value {
    let metadata = json!({
        "conversation_id": event["conversation"]["id"],
        "reply_to_message_id": event["message"]["id"],
    });
    json!({"config": config(more), "message": message(text, metadata)})
}

fn frame(event: &Value, kind: &str, typing: &str) -> Value {
    let update = json!({
        "kind": kind, "message": "", "conversation_id": event["conversation"]["id"], "metadata": {},
    });
    json!({"config": config(json!({"typing": typing})), "update": update})
}

/// What somebody was shown so far; what was said again counts once.
fn shown(person: &Person) -> Vec<ChatPresence> {
    person.seen(states)
}

fn states(seen: &Seen) -> Vec<ChatPresence> {
    let mut states: Vec<_> = seen.chatstates.iter().map(|told| told.state).collect();
    states.dedup();
    states
}

/// Waits until somebody was shown so much; the chat and who is seen there.
async fn sees(person: &Person, expected: &[ChatPresence]) -> (Jid, Jid) {
    let told = person
        .wait_for("it", |seen| {
            (states(seen) == expected).then(|| seen.chatstates.last().cloned())?
        })
        .await
        .unwrap_or_else(|_| panic!("{expected:?}, but {:?}", shown(person)));
    (told.source.chat, told.source.sender)
}

/// Longer than it takes until somebody is shown writing.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

fn is_read(person: &Person, id: &str) -> bool {
    person.seen(|seen| {
        let mut receipts = seen.receipts_for(id);
        receipts.any(|receipt| receipt.r#type == ReceiptType::Read)
    })
}

/// Somebody mentions the plugin in the group.
async fn asks(room: &Room, person: &Person, question: &str) -> String {
    let plugin = room.plugin();
    let message = wa::Message {
        extended_text_message: wa::message::ExtendedTextMessage {
            text: Some(format!("@{} {question}", plugin.user)),
            context_info: wa::ContextInfo {
                mentioned_jid: vec![plugin.to_string()],
                ..wa::ContextInfo::default()
            }
            .into(),
            ..wa::message::ExtendedTextMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    person
        .send(room.group.clone(), message)
        .await
        .expect("asked")
}

const WRITES: ChatPresence = ChatPresence::Composing;
const STOPS: ChatPresence = ChatPresence::Paused;

async fn writes_until_it_answers(by_lid: bool) {
    let room = Room::open(by_lid).await;
    let (world, anna, bob) = (&room.world, &room.anna, &room.bob);
    let mut host = started(world, json!({})).await;
    // A direct chat.
    anna.text(room.plugin(), "well?").await.expect("text");
    let event = host.event().await;
    let (chat, _) = sees(anna, &[WRITES]).await;
    assert_eq!(chat, room.plugin());
    host.ask("deliver", answer(&event, "so so", json!({})))
        .await;
    anna.wait_text("so so").await.expect("arrives");
    sees(anna, &[WRITES, STOPS]).await;
    assert_eq!(shown(bob), []);
    // A group: not for talk that is not for the agent.
    anna.text(room.group.clone(), "lunch?").await.expect("text");
    asks(&room, bob, "and you?").await;
    let event = host.event().await;
    let (chat, sender) = sees(anna, &[WRITES, STOPS, WRITES]).await;
    assert_eq!((chat, sender), (room.group.clone(), room.plugin()));
    sees(bob, &[WRITES]).await;
    host.ask("deliver", answer(&event, "soup", json!({}))).await;
    sees(bob, &[WRITES, STOPS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_seen_writing_until_it_answers() {
    writes_until_it_answers(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_seen_writing_by_lid() {
    writes_until_it_answers(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writing_is_shown_where_and_when_it_is_wished() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    let mut host = started(&world, json!({"typing": "off"})).await;
    anna.text(world.jid(), "well?").await.expect("text");
    let first = host.event().await;
    host.ask("status", frame(&first, "processing", "off")).await;
    a_while().await;
    assert_eq!(shown(&anna), []);
    // By frames alone.
    configure(&mut host, json!({"typing": "status"})).await;
    a_while().await;
    assert_eq!(shown(&anna), []);
    host.ask("status", frame(&first, "processing", "status"))
        .await;
    sees(&anna, &[WRITES]).await;
    host.ask("status", frame(&first, "completed", "status"))
        .await;
    sees(&anna, &[WRITES, STOPS]).await;
    // Where no answer may go; the next event's turn is not shown before this one's is over.
    configure(
        &mut host,
        json!({"outbound_recipient_ids": [bert.pn().to_string()]}),
    )
    .await;
    bert.text(world.jid(), "and mine?").await.expect("text");
    let second = host.event().await;
    a_while().await;
    assert_eq!((shown(&anna).len(), shown(&bert).len()), (2, 0));
    // By itself.
    configure(&mut host, json!({})).await;
    sees(&anna, &[WRITES, STOPS, WRITES]).await;
    host.ask("deliver", answer(&first, "so so", json!({})))
        .await;
    sees(&anna, &[WRITES, STOPS, WRITES, STOPS]).await;
    sees(&bert, &[WRITES]).await;
    // A frame goes before that, until the next event.
    host.ask("status", frame(&second, "cancelled", "auto"))
        .await;
    sees(&bert, &[WRITES, STOPS]).await;
    a_while().await;
    assert_eq!(shown(&bert).len(), 2);
    bert.text(world.jid(), "please").await.expect("text");
    let third = host.event().await;
    host.ask("deliver", answer(&second, "later", json!({})))
        .await;
    sees(&bert, &[WRITES, STOPS, WRITES]).await;
    // An end of the ingress leaves nobody shown.
    drop(third);
    host.ask("stop_ingress", json!({"config": config(json!({}))}))
        .await;
    sees(&bert, &[WRITES, STOPS, WRITES, STOPS]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voice_note_is_seen_recorded_while_it_is_uploaded() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, json!({})).await;
    let media = &world.server.core().media;
    media.refuse_only(MediaOp::Upload, 503, 1000);
    let note = |name: &str, bytes: &[u8]| {
        let to = json!({"conversation_id": anna.pn().to_string()});
        let mut message = message("", to);
        let file = json!({"name": name, "mime_type": "", "data_base64": BASE64.encode(bytes)});
        message["attachments"] = json!([file]);
        let more = json!({"deliver_errors": "degrade", "send_timeout_secs": 1});
        json!({"config": config(more), "message": message})
    };
    let queued = host.ask("push", note("a.ogg", &files::voice())).await;
    sees(&anna, &[WRITES]).await;
    let media_of = |seen: &Seen| seen.chatstates[0].media;
    assert_eq!(anna.seen(media_of), ChatPresenceMedia::Audio);
    media.clear_faults();
    let id = |result: &Value| {
        result["delivery"]["message_id"]
            .as_str()
            .expect("id")
            .to_owned()
    };
    anna.wait_id(&id(&queued)).await.expect("the note");
    sees(&anna, &[WRITES, STOPS]).await;
    // Nobody is seen recording a picture.
    let sent = host.ask("push", note("a.jpg", &files::jpeg())).await;
    anna.wait_id(&id(&sent)).await.expect("the picture");
    assert_eq!(shown(&anna), [WRITES, STOPS]);
}

/// Whether we were there, as somebody was told; what was said again counts once.
fn presences(person: &Person) -> Vec<bool> {
    let told = |seen: &Seen| {
        seen.presences
            .iter()
            .map(|told| !told.unavailable)
            .collect()
    };
    let mut presences: Vec<bool> = person.seen(told);
    presences.dedup();
    presences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_follows_the_settings_without_a_new_connection() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let is = |presence: &str| world.presence().as_deref() == Some(presence);
    let mut host = started(&world, json!({})).await;
    eventually("unavailable", || is("unavailable")).await;
    let logins = world.server.core().counters().logins;
    configure(&mut host, json!({"presence": "online"})).await;
    eventually("available", || is("available")).await;
    let file = world.home.path().join("config.json");
    let mut settings = config(json!({}));
    settings["typing_presence"] = json!(true);
    std::fs::write(&file, settings.to_string()).expect("write");
    let mut reload = world.command();
    reload.args(["reload", "--config", file.to_str().expect("path")]);
    assert!(reload.status().await.expect("reload").success());
    eventually("unavailable", || is("unavailable")).await;
    // Available while writing, and no longer.
    anna.watch(world.jid()).await.expect("watch");
    let seen = |states: Vec<bool>| {
        let anna = &anna;
        async move { eventually(&format!("{states:?}"), || presences(anna) == states).await }
    };
    seen(vec![false]).await;
    anna.text(world.jid(), "well?").await.expect("text");
    let event = host.event().await;
    sees(&anna, &[WRITES]).await;
    assert_eq!(presences(&anna), [false, true]);
    host.ask("deliver", answer(&event, "so so", json!({})))
        .await;
    sees(&anna, &[WRITES, STOPS]).await;
    seen(vec![false, true, false]).await;
    assert_eq!(world.server.core().counters().logins, logins);
    // Another connection: the library announces us again.
    configure(&mut host, json!({"presence": "online"})).await;
    eventually("available", || is("available")).await;
    configure(&mut host, json!({})).await;
    world.fault(Fault::DropNow).await;
    eventually("connected again", || {
        world.server.core().counters().logins > logins
    })
    .await;
    eventually("unavailable", || is("unavailable")).await;
}

async fn messages_are_marked_as_read(by_lid: bool) {
    let room = Room::open(by_lid).await;
    let (world, anna, bob) = (&room.world, &room.anna, &room.bob);
    let only_anna =
        json!({"dm_policy": "allowlist", "allowed_sender_ids": [anna.pn().to_string()]});
    let with = |setting: &str| {
        let mut more = only_anna.clone();
        more["read_receipts"] = json!(setting);
        more
    };
    let mut host = started(world, with("off")).await;
    let off = anna.text(room.plugin(), "one").await.expect("text");
    let event = host.event().await;
    host.ask("deliver", answer(&event, "1", with("off"))).await;
    anna.wait_text("1").await.expect("arrives");
    // When it is given to the host; what came before it in the chat too, and nobody's who was refused.
    configure(&mut host, with("received")).await;
    let refused = bob.text(room.plugin(), "me too").await.expect("text");
    bob.wait_receipt(&refused, ReceiptType::Delivered)
        .await
        .expect("ticks");
    assert!(!is_read(anna, &off));
    let two = anna.text(room.plugin(), "two").await.expect("text");
    host.event().await;
    for id in [&off, &two] {
        anna.wait_receipt(id, ReceiptType::Read)
            .await
            .expect("read");
    }
    // In a group the server has to know whose it is.
    let talk = bob.text(room.group.clone(), "lunch?").await.expect("text");
    let asked = asks(&room, anna, "hungry?").await;
    host.event().await;
    bob.wait_receipt(&talk, ReceiptType::Read)
        .await
        .expect("read");
    let receipt = anna
        .wait_receipt(&asked, ReceiptType::Read)
        .await
        .expect("read");
    assert_eq!(receipt.source.chat, room.group);
    // When it is answered.
    configure(&mut host, with("replied")).await;
    let three = anna.text(room.plugin(), "three").await.expect("text");
    host.event().await;
    let four = anna.text(room.plugin(), "four").await.expect("text");
    let event = host.event().await;
    a_while().await;
    assert!(!is_read(anna, &three) && !is_read(anna, &four));
    host.ask("deliver", answer(&event, "4", with("replied")))
        .await;
    for id in [&three, &four] {
        anna.wait_receipt(id, ReceiptType::Read)
            .await
            .expect("read");
    }
    assert!(!is_read(bob, &refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_marked_as_read_when_that_is_wished() {
    messages_are_marked_as_read(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_marked_as_read_by_lid() {
    messages_are_marked_as_read(true).await;
}

/// A poller's batch is given when its connection is gone: the next process marks it. A reply in a process of its own
/// marks what it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_their_own_mark_what_earlier_ones_have_left() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let reads = |setting: &str| json!({"read_receipts": setting});
    let says = async |text: &str| {
        let id = anna.text(world.jid(), text).await.expect("text");
        anna.wait_ack(&id).await.expect("ack");
        id
    };
    let one = says("one").await;
    let events = world.poll(config(reads("received"))).await;
    assert_eq!(events.len(), 1);
    assert!(!is_read(&anna, &one));
    world.poll(config(reads("received"))).await;
    anna.wait_receipt(&one, ReceiptType::Read)
        .await
        .expect("read");
    let two = says("two").await;
    let events = world.poll(config(reads("replied"))).await;
    world.poll(config(reads("replied"))).await;
    assert!(!is_read(&anna, &two));
    world
        .ok("deliver", answer(&events[0], "2", reads("replied")))
        .await;
    anna.wait_receipt(&two, ReceiptType::Read)
        .await
        .expect("read");
}

/// What was to be marked when nothing is to be any more is not, neither then nor by a session that only looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_marked_before_it_is_switched_off_never_is() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let reads = |setting: &str| json!({"read_receipts": setting, "health_probe": true});
    let says = async |text: &str| {
        let id = anna.text(world.jid(), text).await.expect("text");
        anna.wait_ack(&id).await.expect("ack");
        id
    };
    let one = says("one").await;
    assert_eq!(world.poll(config(reads("received"))).await.len(), 1);
    let probe = json!({"config": config(reads("received"))});
    let health = world.ok("health", probe).await["health"].clone();
    assert_eq!(health["status"], "ok", "{health}");
    let push = |text: &str, setting: &str| {
        let to = json!({"conversation_id": anna.pn().to_string()});
        json!({"config": config(reads(setting)), "message": message(text, to)})
    };
    world.ok("push", push("off", "off")).await;
    anna.wait_text("off").await.expect("arrives");
    assert!(!is_read(&anna, &one));
    world.poll(config(reads("off"))).await;
    world.ok("push", push("on", "received")).await;
    anna.wait_text("on").await.expect("arrives");
    assert!(!is_read(&anna, &one));
    // A reply that is not taken reads nothing; the same over a running ingress.
    let mut host = started(&world, reads("replied")).await;
    let two = says("two").await;
    let event = host.event().await;
    let mut reply = answer(&event, "see", reads("replied"));
    let nowhere =
        json!({"name": "a.jpg", "mime_type": "image/jpeg", "source_path": "/nowhere/a.jpg"});
    reply["message"]["attachments"] = json!([nowhere]);
    reply["config"]["deliver_errors"] = json!("fail");
    host.ask_refused("deliver", reply).await;
    configure(&mut host, reads("off")).await;
    configure(&mut host, reads("replied")).await;
    assert!(!is_read(&anna, &two));
    host.ask("deliver", answer(&event, "so so", reads("replied")))
        .await;
    for id in [&one, &two] {
        anna.wait_receipt(id, ReceiptType::Read)
            .await
            .expect("read");
    }
}

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

//! What others see the agent do: writing, recording, being there.

use crate::common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::room::Room;
use common::{Host, World, eventually, files, message, open};
use serde_json::{Value, json};
use wacore::types::presence::{ChatPresence, ChatPresenceMedia};
use waproto::whatsapp as wa;
use whatsapp_loopback::Fault;
use whatsapp_loopback::media::MediaOp;
use whatsapp_loopback::people::{Person, Seen};
use whatsapp_rust::Jid;

/// Everybody may write, groups too.
pub fn config(more: Value) -> Value {
    let mut config = open();
    config["allow_group_messages"] = json!(true);
    config["allowed_conversation_ids"] = json!(["*"]);
    if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
        config.extend(more);
    }
    config
}

pub async fn started(world: &World, more: Value) -> Host {
    let mut host = world.host();
    let params = json!({"config": config(more)});
    host.ask("start_ingress", params).await;
    host
}

/// Other settings for the ingress that is running.
pub async fn configure(host: &mut Host, more: Value) {
    let params = json!({"config": config(more)});
    let answer = host.ask("configure", params).await;
    assert_eq!(answer["configuration"]["metadata"]["applied"], "true");
}

/// The host's answer to an event.
pub fn answer(event: &Value, text: &str, more: Value) -> Value {
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

/// Lets pass what it takes until somebody is shown writing, and then a message over the same connection: what this person
/// was to be shown before it has been shown.
pub async fn nothing_more(host: &mut Host, person: &Person, more: Value) {
    tokio::time::sleep(Duration::from_millis(400)).await;
    let to = json!({"conversation_id": person.pn().to_string()});
    let marker = json!({"config": config(more), "message": message("marker", to)});
    let sent = host.ask("push", marker).await;
    let id = sent["delivery"]["message_id"].as_str().expect("id");
    person.wait_id(id).await.expect("the marker");
}

/// Somebody mentions the plugin in the group.
pub async fn asks(room: &Room, person: &Person, question: &str) -> String {
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
    for kind in ["processing", "completed"] {
        let told = host.ask("status", frame(&first, kind, "off")).await;
        assert_eq!(told["status"]["accepted"], true, "{told}");
    }
    nothing_more(&mut host, &anna, json!({"typing": "off"})).await;
    assert_eq!(shown(&anna), []);
    // By frames alone.
    configure(&mut host, json!({"typing": "status"})).await;
    nothing_more(&mut host, &anna, json!({"typing": "status"})).await;
    assert_eq!(shown(&anna), []);
    host.ask("status", frame(&first, "processing", "status"))
        .await;
    sees(&anna, &[WRITES]).await;
    host.ask("status", frame(&first, "completed", "status"))
        .await;
    sees(&anna, &[WRITES, STOPS]).await;
    // Where no answer may go; the next event's turn is not shown before this one's is over.
    let to_bert = json!({"outbound_recipient_ids": [bert.pn().to_string()]});
    configure(&mut host, to_bert.clone()).await;
    bert.text(world.jid(), "and mine?").await.expect("text");
    let second = host.event().await;
    nothing_more(&mut host, &bert, to_bert).await;
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
    nothing_more(&mut host, &bert, json!({})).await;
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
async fn status_frames_are_shown_or_refused_and_never_an_error() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, json!({})).await;
    let mut told = async |kind: &str, to: Option<&str>| {
        let update = json!({"kind": kind, "message": "", "conversation_id": to, "metadata": {}});
        let settings = config(
            json!({"outbound_recipient_ids": [anna.pn().to_string(), "120363000000000001@newsletter"]}),
        );
        let told = host
            .ask("status", json!({"config": settings, "update": update}))
            .await;
        let metadata = &told["status"]["metadata"];
        let what = metadata["activity"]
            .as_str()
            .or(metadata["reason_code"].as_str());
        (
            told["status"]["accepted"].clone(),
            what.expect("what").to_owned(),
        )
    };
    let to = anna.pn().to_string();
    let mut expected = Vec::new();
    for (begins, ends) in [
        ("processing", "completed"),
        ("delivering", "cancelled"),
        ("operation_started", "operation_finished"),
    ] {
        for (kind, activity, state) in [(begins, "composing", WRITES), (ends, "paused", STOPS)] {
            assert_eq!(
                told(kind, Some(&to)).await,
                (json!(true), activity.to_owned())
            );
            expected.push(state);
            sees(&anna, &expected).await;
        }
    }
    for (kind, to, accepted, what) in [
        ("approval_needed", Some(to.as_str()), true, "none"),
        ("of_tomorrow", Some(to.as_str()), true, "none"),
        (
            "processing",
            Some("120363000000000001@newsletter"),
            true,
            "none",
        ),
        ("processing", Some("nobody"), false, "invalid_destination"),
        (
            "processing",
            Some("+15551239999"),
            false,
            "unauthorized_destination",
        ),
        ("processing", None, false, "missing_destination"),
    ] {
        let told = told(kind, to).await;
        assert_eq!(told, (json!(accepted), what.to_owned()), "{kind} {to:?}");
    }
    assert_eq!(shown(&anna), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_switched_off_or_stopped_ends() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let typing = |how: &str| json!({"typing": how});
    let mut host = started(&world, json!({})).await;
    anna.text(world.jid(), "well?").await.expect("text");
    let event = host.event().await;
    sees(&anna, &[WRITES]).await;
    configure(&mut host, typing("off")).await;
    let mut expected = vec![WRITES, STOPS];
    sees(&anna, &expected).await;
    let (off, stop) = (
        ("configure", typing("off")),
        ("stop_ingress", typing("status")),
    );
    for (kind, settings) in [off, stop] {
        configure(&mut host, typing("status")).await;
        host.ask("status", frame(&event, "processing", "status"))
            .await;
        expected.push(WRITES);
        sees(&anna, &expected).await;
        host.ask(kind, json!({"config": config(settings)})).await;
        expected.push(STOPS);
        sees(&anna, &expected).await;
    }
}

/// Also by a message that is not said to be the answer, so that nothing proves the event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_answered_is_not_seen_writing() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world, json!({})).await;
    let asked = anna.text(world.jid(), "well?").await.expect("text");
    let event = host.event().await;
    sees(&anna, &[WRITES]).await;
    let push = |content: &str, metadata: Value| json!({"config": config(json!({})), "message": message(content, metadata)});
    let chat = event["conversation"]["id"].clone();
    // Who reacts may be about to.
    let react = json!({"conversation_id": chat, "action": "react", "target_message_id": asked, "emoji": "👀"});
    let reacted = host.ask("push", push("", react)).await;
    let id = reacted["delivery"]["message_id"].as_str().expect("id");
    anna.wait_id(id).await.expect("the reaction");
    assert_eq!(shown(&anna), [WRITES]);
    let to = json!({"conversation_id": chat});
    host.ask("push", push("so so", to)).await;
    anna.wait_text("so so").await.expect("arrives");
    nothing_more(&mut host, &anna, json!({})).await;
    assert_eq!(shown(&anna), [WRITES, STOPS]);
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
    seen(vec![false, true]).await;
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

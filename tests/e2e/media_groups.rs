//! Media in groups, in both address modes: what has expired, what is slow beside direct chats, what was not
//! for the agent.

use crate::common;

use std::time::{Duration, Instant};

use common::media::{attachment, bytes, extra, file, get, picture, upload};
use common::room::{Room, mentioning};
use serde_json::{Value, json};
use waproto::whatsapp as wa;
use whatsapp_loopback::people::Person;
use whatsapp_rust::Jid;

fn config(room: &Room, download: &str) -> Value {
    json!({
        "dm_policy": "open", "allow_group_messages": true, "group_activation": "all",
        "allowed_conversation_ids": [room.group.to_string()], "media": {"download": download},
    })
}

async fn start(room: &Room) -> common::Host {
    let mut host = room.world.host();
    let config = config(room, "auto");
    host.ask("start_ingress", json!({"config": config})).await;
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_in_a_group_is_asked_for_by_phone_number() {
    expired(Room::open(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expired_in_a_group_is_asked_for_by_lid() {
    expired(Room::open(true).await).await;
}

/// The phone finds a message by its chat and by who wrote it, as the group has them.
async fn expired(room: Room) {
    let mut host = start(&room).await;
    let media = &room.world.server.core().media;
    let group = room.group.to_string();
    let kept = async |id: &str, author: &Person, by: &Person, content: &[u8]| {
        let image = upload(author, content).await;
        let path = image.direct_path.clone().expect("path");
        assert!(media.expire(&path, 410));
        let of = (group.as_str(), &*room.member(by).to_string());
        media.phone_keeps_of(of, id, image.media_key.as_ref().expect("key"), &path);
        let sent = author.send_as(id, room.group.clone(), picture(image)).await;
        sent.expect("picture");
    };
    for (id, author) in [("3EB0ANNA", &room.anna), ("3EB0BOB", &room.bob)] {
        let content = bytes(id.len() as u64, 10_000);
        kept(id, author, author, &content).await;
        let event = host.event().await;
        assert_eq!(event["message"]["id"], id, "{event}");
        assert_eq!(extra(&event, "media_state"), "stored", "{event}");
        assert!(std::fs::read(file(attachment(&event))).expect("file") == content);
    }
    // The phone has none that somebody else wrote.
    kept("3EB0OTHER", &room.anna, &room.bob, &bytes(9, 10_000)).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "expired", "{event}");
    assert_eq!(media.uploaded_again(), 2);
    // By which address she wrote elsewhere since makes no difference.
    let config = config(&room, "none");
    host.ask("configure", json!({"config": config})).await;
    let content = bytes(10, 10_000);
    kept("3EB0BEFORE", &room.anna, &room.anna, &content).await;
    let event = host.event().await;
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    let elsewhere = match room.by_lid {
        true => room.world.jid(),
        false => room.world.lid(),
    };
    let text = room.anna.text(elsewhere, "by the way").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], text);
    assert!(get(&room.world, key, &[]).await.expect("media get") == content);
}

/// A person's slow file in a group keeps nothing from the chat with the same person, and the other way about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_slow_in_a_group_holds_up_no_direct_chat() {
    let room = Room::open(false).await;
    let mut host = start(&room).await;
    let media = &room.world.server.core().media;
    let chats: [(&Jid, &Jid); 2] = [
        (&room.group, &room.world.jid()),
        (&room.world.jid(), &room.group),
    ];
    for (nth, (slow, quick)) in chats.into_iter().enumerate() {
        let seed = 10 * nth as u64;
        let image = upload(&room.anna, &bytes(seed, 100_000)).await;
        media.slow_down_one(image.direct_path.as_ref().expect("path"), 500);
        let sent = room.anna.send(slow.clone(), picture(image)).await;
        let late = sent.expect("picture");
        let content = bytes(seed + 1, 10_000);
        let image = upload(&room.anna, &content).await;
        let begun = Instant::now();
        let sent = room.anna.send(quick.clone(), picture(image)).await;
        let event = host.event().await;
        assert_eq!(event["message"]["id"], sent.expect("picture"), "{event}");
        assert!(std::fs::read(file(attachment(&event))).expect("file") == content);
        assert!(begun.elapsed() < Duration::from_millis(2500));
        let event = host.event().await;
        assert_eq!(event["message"]["id"], late, "{event}");
        assert_eq!(extra(&event, "media_error"), "pending", "{event}");
        media.clear_faults();
    }
}

/// People show a picture, and ask the agent about it then: beside it, or by answering it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shown_before_the_agent_is_asked_can_be_had() {
    let room = Room::open(true).await;
    let mut host = room.world.host();
    let open = json!({
        "allow_group_messages": true, "allowed_conversation_ids": [room.group.to_string()],
    });
    host.ask("start_ingress", json!({"config": open})).await;
    let content = bytes(1, 10_000);
    let shown = picture(upload(&room.bob, &content).await);
    let shown = room.sends(&room.bob, shown).await;
    let once = wa::message::ImageMessage {
        view_once: Some(true),
        ..upload(&room.bob, &bytes(2, 1000)).await
    };
    room.sends(&room.bob, picture(once)).await;
    room.asks(&room.anna, "what is this?").await;
    let event = host.event().await;
    let context = event["metadata"]["group_context"].as_str();
    let context: Value = serde_json::from_str(context.expect("context")).expect("JSON");
    assert_eq!(context[0]["message_id"], shown, "{event}");
    let files = [0, 1].map(|nth| &context[nth]["attachments"][0]);
    assert_eq!(files[0]["kind"], "image", "{event}");
    assert_eq!(files[0]["size_bytes"], 10_000, "{event}");
    assert_eq!(files[1]["storage_key"], Value::Null, "{event}");
    let key = files[0]["storage_key"].as_str().expect("key");
    assert!(get(&room.world, key, &[]).await.expect("media get") == content);
    // By an answer to what the agent has been given, and to what it is given with the answer.
    let later = picture(upload(&room.bob, &content).await);
    let later = room.sends(&room.bob, later).await;
    for (quoted, same) in [(shown.clone(), true), (later, false)] {
        let question = quoting(&room, &quoted);
        room.sends(&room.anna, question).await;
        let event = host.event().await;
        let quoted = &event["message"]["metadata"]["quoted_storage_key"];
        let quoted = quoted.as_str().expect("key");
        assert_eq!(quoted == key, same, "{event}");
        assert!(get(&room.world, quoted, &[]).await.expect("media get") == content);
    }
    // Nor does somebody else's answer tell of a file whose sender is refused by now.
    let served = room.world.server.core().media.served();
    let mut closed = open.clone();
    closed["allowed_group_sender_ids"] = json!([format!("+{}", room.anna.phone())]);
    for (refused, allowed) in [(true, closed), (false, open)] {
        host.ask("configure", json!({"config": allowed})).await;
        room.sends(&room.anna, quoting(&room, &shown)).await;
        let event = host.event().await;
        let quoted = &event["message"]["metadata"]["quoted_storage_key"];
        assert_eq!(quoted.is_null(), refused, "{event}");
    }
    assert_eq!(room.world.server.core().media.served(), served);
}

/// A question to the plugin that quotes what Bob has shown.
fn quoting(room: &Room, shown: &str) -> wa::Message {
    let mut question = mentioning(&room.plugin(), "and this?", false);
    let text = question.extended_text_message.as_option_mut();
    let context = text.expect("text").context_info.as_option_mut();
    let context = context.expect("context");
    context.stanza_id = Some(shown.to_owned());
    context.participant = Some(room.member(&room.bob).to_string());
    question
}

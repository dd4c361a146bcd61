//! Messages marked as read: when, which, and by whom.

use crate::common;
use crate::manners::{answer, asks, config, configure, nothing_more, started};

use common::room::Room;
use common::{World, message};
use serde_json::json;
use wacore::types::presence::ReceiptType;
use whatsapp_loopback::people::Person;

fn is_read(person: &Person, id: &str) -> bool {
    person.seen(|seen| {
        let mut receipts = seen.receipts_for(id);
        receipts.any(|receipt| receipt.r#type == ReceiptType::Read)
    })
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
    // When it is given to the host; not what was given before that was wished, and nobody's who was refused.
    configure(&mut host, with("received")).await;
    let refused = bob.text(room.plugin(), "me too").await.expect("text");
    bob.wait_receipt(&refused, ReceiptType::Delivered)
        .await
        .expect("ticks");
    assert!(!is_read(anna, &off));
    let two = anna.text(room.plugin(), "two").await.expect("text");
    host.event().await;
    anna.wait_receipt(&two, ReceiptType::Read)
        .await
        .expect("read");
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
    nothing_more(&mut host, anna, with("replied")).await;
    assert!(!is_read(anna, &three) && !is_read(anna, &four));
    host.ask("deliver", answer(&event, "4", with("replied")))
        .await;
    for id in [&three, &four] {
        anna.wait_receipt(id, ReceiptType::Read)
            .await
            .expect("read");
    }
    assert!(!is_read(bob, &refused) && !is_read(anna, &off));
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
    anna.wait_receipt(&two, ReceiptType::Read)
        .await
        .expect("read");
    assert!(!is_read(&anna, &one));
}

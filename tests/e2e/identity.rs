//! Who is who: people met by their number, by their LID, and by both; numbers without an account, with several forms,
//! and with a new owner.

use crate::common;

use common::{World, message, open};
use serde_json::{Value, json};
use waproto::whatsapp as wa;
use whatsapp_loopback::people::{Person, PersonSpec};

/// A number of nobody.
const NOBODY: &str = "+9990000000001";

fn params(content: &str, metadata: Value) -> Value {
    json!({"config": open(), "message": message(content, metadata)})
}

/// How often WhatsApp was asked for a number.
fn lookups(world: &World) -> u64 {
    world.server.core().counters().lookups
}

async fn write(person: &Person, to: whatsapp_rust::Jid, text: &str) -> String {
    let id = person.text(to, text).await.expect("text");
    assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn met_by_number_then_by_lid_then_known_to_be_one() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Anna").lid_migrated();
    spec.account.secretive = true;
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    // By the number alone.
    let to = json!({"conversation_id": format!("+{}", anna.phone())});
    let result = world.ok("push", params("hello", to.clone())).await;
    assert_eq!(result["delivery"]["conversation_id"], anna.pn().to_string());
    anna.wait_text("hello").await.expect("arrives");
    // She answers from a LID of which nobody says whose it is.
    let first = write(&anna, world.lid(), "who is this?").await;
    let events = world.poll(open()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let unlinked = events[0]["conversation"]["id"].clone();
    assert_eq!(unlinked, anna.lid().to_string());
    let first_event = events[0]["event_id"].clone();
    // Now it is said. It is one conversation, under the id that was there first.
    world.server.core().set_secretive(anna.phone(), false);
    let second = write(&anna, world.lid(), "well?").await;
    let events = world.poll(open()).await;
    let events: Vec<&Value> = events
        .iter()
        .filter(|e| e["event_id"] != first_event)
        .collect();
    assert_eq!(events.len(), 1, "{events:?}");
    let conversation = events[0]["conversation"]["id"].clone();
    assert_eq!(conversation, anna.pn().to_string());
    let actor = &events[0]["actor"]["metadata"];
    assert_eq!(actor["phone_jid"], anna.pn().to_string());
    assert_eq!(actor["lid"], anna.lid().to_string());
    // Replies reach her under either id, each once.
    for (conversation, asked, text) in [
        (unlinked, first, "a friend"),
        (conversation, second, "a good one"),
    ] {
        let metadata = json!({"conversation_id": conversation, "reply_to_message_id": asked});
        let result = world.ok("deliver", params(text, metadata)).await;
        let delivery = &result["delivery"];
        assert_eq!(delivery["metadata"]["delivery_state"], "sent", "{delivery}");
        assert_eq!(delivery["conversation_id"], anna.pn().to_string());
        anna.wait_text(text).await.expect("arrives");
        assert_eq!(anna.seen(|seen| seen.count_text(text)), 1);
    }
    // Both are answered; nothing comes again.
    assert_eq!(world.poll(open()).await, Vec::<Value>::new());
    assert_eq!(lookups(&world), 1);
}

/// What is first heard of a person need not be words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn met_by_a_setting_of_the_chat() {
    let world = World::linked().await;
    let spec = PersonSpec::new("Anna").lid_migrated();
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let setting = wa::message::ProtocolMessage {
        r#type: Some(wa::message::protocol_message::Type::EPHEMERAL_SETTING),
        ephemeral_expiration: Some(86_400),
        ..wa::message::ProtocolMessage::default()
    };
    let setting = wa::Message {
        protocol_message: setting.into(),
        ..wa::Message::default()
    };
    let id = anna.send(world.lid(), setting).await.expect("setting");
    assert_eq!(anna.wait_ack(&id).await.expect("ack"), None);
    assert_eq!(world.poll(open()).await, Vec::<Value>::new());
    write(&anna, world.lid(), "hello").await;
    let events = world.poll(open()).await;
    assert_eq!(events[0]["conversation"]["id"], anna.pn().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_tells_who_is_one() {
    let world = World::linked_lid().await;
    let mut spec = PersonSpec::new("Anna").lid_migrated();
    spec.account.secretive = true;
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let group = world.group(&anna, "Two").await;
    let to = json!({"conversation_id": format!("+{}", anna.phone())});
    world.ok("push", params("hello", to)).await;
    write(&anna, world.lid(), "who is this?").await;
    let events = world.poll(open()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["conversation"]["id"], anna.lid().to_string());
    // The server says of the group's members what it does not say of who writes.
    let mut config = open();
    config["allow_group_messages"] = json!(true);
    config["allowed_conversation_ids"] = json!(["*"]);
    let metadata = json!({"conversation_id": group.to_string()});
    let push = json!({"config": config, "message": message("all", metadata)});
    world.ok("push", push).await;
    let id = write(&anna, world.lid(), "well?").await;
    let events = world.poll(open()).await;
    let event = events.iter().find(|event| event["message"]["id"] == id);
    let event = event.expect("event");
    assert_eq!(event["conversation"]["id"], anna.pn().to_string());
    assert_eq!(event["actor"]["metadata"]["lid"], anna.lid().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_another_number_stays_who_they_are() {
    for by_lid in [false, true] {
        let (world, spec) = match by_lid {
            true => (
                World::linked_lid().await,
                PersonSpec::new("Anna").lid_migrated(),
            ),
            false => (World::linked().await, PersonSpec::new("Anna")),
        };
        let plugin = if by_lid { world.lid() } else { world.jid() };
        let anna = Person::join_as(&world.server, spec.clone())
            .await
            .expect("Anna");
        let mut config = open();
        config["events"] = json!(["message", "contact"]);
        let mut host = world.host();
        host.ask("start_ingress", json!({"config": config})).await;
        write(&anna, plugin.clone(), "hello").await;
        let first = host.event().await;
        let conversation = first["conversation"]["id"].clone();
        let to = json!({"conversation_id": conversation});
        host.ask(
            "push",
            json!({"config": config, "message": message("hello Anna", to.clone())}),
        )
        .await;
        anna.wait_text("hello Anna").await.expect("arrives");

        let number = "9990000000077";
        let core = world.server.core();
        core.change_number(anna.phone(), number).expect("free");
        let changed = host.event().await;
        assert_eq!(changed["event_type"], "contact.number_changed", "{changed}");
        assert_eq!(changed["conversation"]["id"], conversation);
        let anew = Person::join_as(&world.server, spec.phone(number)).await;
        let anew = anew.expect("Anna anew");
        assert_ne!(anew.lid(), anna.lid());
        let asked = write(&anew, plugin, "my new number").await;
        let event = host.event().await;
        assert_eq!(event["message"]["content"], "my new number");
        assert_eq!(event["conversation"]["id"], conversation);
        assert_eq!(
            event["actor"]["metadata"]["phone_jid"],
            anew.pn().to_string()
        );
        // By the old name, by the new number, and as an answer.
        let mut reply = to.clone();
        reply["reply_to_message_id"] = json!(asked);
        let new = json!({"conversation_id": format!("+{number}")});
        for (kind, to, text) in [
            ("deliver", reply, "noted"),
            ("push", to, "to the old name"),
            ("push", new, "to the new number"),
        ] {
            let params = json!({"config": config, "message": message(text, to)});
            let result = host.ask(kind, params).await;
            assert_eq!(result["delivery"]["conversation_id"], conversation);
            anew.wait_text(text).await.expect("arrives");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_without_an_account() {
    let world = World::linked().await;
    let to = json!({"conversation_id": NOBODY});
    assert_eq!(
        world.refused("push", params("hi", to.clone())).await,
        "not_on_whatsapp"
    );
    // The answer is kept for the next process.
    let mut reply = to;
    reply["reply_to_message_id"] = json!("X");
    let result = world.ok("deliver", params("hi", reply)).await;
    let metadata = &result["delivery"]["metadata"];
    assert_eq!(metadata["delivery_state"], "rejected", "{metadata}");
    assert_eq!(metadata["error_code"], "not_on_whatsapp");
    assert_eq!(lookups(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_to_one_number_ask_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": open()})).await;
    let to = json!({"conversation_id": format!("+{}", anna.phone())});
    for n in 0..5 {
        let push = params(&format!("number {n}"), to.clone());
        host.send(&common::request("push", push)).await;
    }
    for _ in 0..5 {
        let answer = host.answer().await;
        assert!(answer.get("error").is_none(), "{answer}");
    }
    for n in 0..5 {
        anna.wait_text(&format!("number {n}"))
            .await
            .expect("arrives");
    }
    host.kill().await;
    world.ok("push", params("and one more", to)).await;
    assert_eq!(lookups(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_written_is_not_looked_up() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    write(&anna, world.jid(), "hello").await;
    assert_eq!(world.poll(open()).await.len(), 1);
    let to = json!({"conversation_id": format!("+{}", anna.phone())});
    world.ok("push", params("hello Anna", to)).await;
    anna.wait_text("hello Anna").await.expect("arrives");
    assert_eq!(lookups(&world), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_whatsapp_writes_otherwise() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Bia").phone("551112345678");
    spec.account.other_forms = vec!["5511912345678".to_owned()];
    let bia = Person::join_as(&world.server, spec).await.expect("Bia");
    let to = json!({"conversation_id": "+55 11 91234-5678"});
    let result = world.ok("push", params("oi", to)).await;
    let conversation = result["delivery"]["conversation_id"].clone();
    bia.wait_text("oi").await.expect("arrives");
    // What she writes comes under the number as it was typed.
    let id = write(&bia, world.jid(), "oi!").await;
    let events = world.poll(open()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["conversation"]["id"], conversation);
    assert_eq!(events[0]["message"]["id"], id);
    assert_eq!(
        events[0]["actor"]["metadata"]["phone_jid"],
        bia.pn().to_string()
    );
    assert_eq!(lookups(&world), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_with_a_new_owner_opens_no_door() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let number = anna.phone().to_owned();
    let config = json!({
        "allowed_sender_ids": [format!("+{number}")], "poll_idle_ms": 300, "poll_timeout_secs": 30
    });
    write(&anna, world.jid(), "it is me").await;
    let events = world.poll(config.clone()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let conversation = events[0]["conversation"]["id"].clone();
    anna.disconnect().await;
    assert!(world.server.core().close_account(&number));
    let spec = PersonSpec::new("Heir").phone(&number);
    let heir = Person::join_as(&world.server, spec).await.expect("heir");
    assert_ne!(heir.lid(), anna.lid());
    for (to, text) in [(world.jid(), "my new number"), (world.lid(), "let me in")] {
        write(&heir, to, text).await;
    }
    let events = world.poll(config.clone()).await;
    let heard = |text: &str| events.iter().any(|e| e["message"]["content"] == text);
    assert!(!heard("my new number") && !heard("let me in"), "{events:?}");
    // What was meant for Anna does not go to him either.
    let push = json!({
        "config": config, "message": message("secret", json!({"conversation_id": conversation}))
    });
    assert_eq!(
        world.refused("push", push).await,
        "unauthorized_destination"
    );
    let health = world.ok("health", json!({"config": config})).await;
    assert_eq!(
        health["health"]["metadata"]["suspended_numbers"],
        format!("{} now {}", heir.pn(), heir.lid())
    );
    // The operator lets him in by his LID.
    let mut decided = config;
    decided["allowed_sender_ids"] = json!([heir.lid().to_string()]);
    let id = write(&heir, world.jid(), "thank you").await;
    let events = world.poll(decided.clone()).await;
    let event = events
        .iter()
        .find(|e| e["message"]["id"] == id)
        .expect("event");
    assert_eq!(event["conversation"]["id"], heir.lid().to_string());
    let metadata = json!({"conversation_id": heir.lid().to_string(), "reply_to_message_id": id});
    let reply = json!({"config": decided, "message": message("welcome", metadata)});
    let result = world.ok("deliver", reply).await;
    assert_eq!(
        result["delivery"]["metadata"]["delivery_state"], "sent",
        "{result}"
    );
    heir.wait_text("welcome").await.expect("arrives");
    assert_eq!(heir.seen(|seen| seen.count_text("secret")), 0);
}

//! Groups with the real binary, in both address modes.

use crate::common;

use std::time::{Duration, Instant};

use common::room::Room;
use common::{Host, World, message};
use serde_json::{Value, json};
use waproto::whatsapp as wa;
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::{Person, PersonSpec};

fn config() -> Value {
    json!({
        "dm_policy": "deny", "allow_group_messages": true, "allowed_conversation_ids": ["*"],
        "poll_idle_ms": 300, "poll_timeout_secs": 30,
    })
}

impl Room {
    async fn start(&self) -> Host {
        let mut host = self.world.host();
        let params = json!({"config": config()});
        host.ask("start_ingress", params).await;
        host
    }

    fn to(&self) -> Value {
        json!({"conversation_id": self.group.to_string()})
    }

    fn push(&self, content: &str) -> Value {
        json!({"config": config(), "message": message(content, self.to())})
    }

    /// Answers a question of Anna's as a host does.
    async fn answer(&self, host: &mut Host, question: &str, text: &str) -> Value {
        let mut metadata = self.to();
        metadata["reply_to_message_id"] = json!(question);
        let params = json!({"config": config(), "message": message(text, metadata)});
        host.ask("deliver", params).await["delivery"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn talk_in_a_group_by_phone_number() {
    talk(Room::open(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn talk_in_a_group_by_lid() {
    talk(Room::open(true).await).await;
}

/// Talk that is not for the agent, a mention, an answer, a reply to it, another subject.
async fn talk(room: Room) {
    let mut host = room.start().await;
    let Room { anna, bob, .. } = &room;
    let id = room.says(bob, "soup again?").await;
    room.says(anna, "yes").await;
    anna.wait_id(&id).await.expect("Bob's");
    let asked = room.asks(anna, "what soup?").await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], asked);
    assert_eq!(event["conversation"]["id"], room.group.to_string());
    assert_eq!(event["metadata"]["conversation_title"], "Cooks");
    assert_eq!(event["activation"]["reason"], "direct_mention");
    assert_eq!(event["actor"]["display_name"], "Anna");
    assert_eq!(
        event["actor"]["metadata"]["phone_jid"],
        anna.pn().to_string()
    );
    let content = event["message"]["content"].as_str().expect("content");
    let (context, said) = content.split_once("\n\n").expect("context");
    assert!(context.contains("\nBob: soup again?"), "{content}");
    assert!(context.contains("\nAnna: yes"), "{content}");
    assert!(
        said.starts_with("Anna: @") && said.ends_with(" what soup?"),
        "{content}"
    );
    let mentions: Value = serde_json::from_str(
        event["message"]["metadata"]["mentions"]
            .as_str()
            .expect("mentions"),
    )
    .expect("JSON");
    assert_eq!(mentions[0]["id"], room.plugin().to_string());
    assert_eq!(mentions[0]["is_self"], true);
    // The answer quotes the question, and mentions Bob as the group knows him.
    let text = format!("ask @+{}", bob.phone());
    let delivery = room.answer(&mut host, &asked, &text).await;
    assert_eq!(delivery["metadata"]["delivery_state"], "sent", "{delivery}");
    let id = delivery["message_id"].as_str().expect("id");
    let got = bob.wait_id(id).await.expect("arrives");
    let sent = got.message.extended_text_message.as_option();
    let sent = sent.expect("extended text");
    let known = room.member(bob);
    assert_eq!(sent.text, Some(format!("ask @{}", known.user)));
    let context = sent.context_info.as_option().expect("context");
    assert_eq!(context.mentioned_jid, [known.to_string()]);
    assert_eq!(context.stanza_id.as_deref(), Some(asked.as_str()));
    // Who answers that means the agent.
    let got = anna.wait_id(id).await.expect("arrives");
    anna.subject(&room.group, "Bakers").await.expect("subject");
    let reply = anna.reply(&got, "thanks").await.expect("reply");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], reply);
    assert_eq!(event["activation"]["reason"], "reply_to_agent");
    assert_eq!(event["message"]["metadata"]["quoted_is_self"], "true");
    assert_eq!(event["message"]["content"], "Anna: thanks");
    assert_eq!(event["metadata"]["conversation_title"], "Bakers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_admins_write_by_phone_number() {
    only_admins(Room::open(false).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_admins_write_by_lid() {
    only_admins(Room::open(true).await).await;
}

/// Announcements only, an admin, an admin no more, removed, back.
async fn only_admins(room: Room) {
    let mut host = room.start().await;
    let Room { anna, group, .. } = &room;
    let asked = room.asks(anna, "soup?").await;
    assert_eq!(host.event().await["message"]["id"], asked);
    anna.announce(group, true).await.expect("announce");
    told(&room).await;
    let refused = host.ask_refused("push", room.push("no")).await;
    assert_eq!(refused, "only_admins_may_send");
    let delivery = room.answer(&mut host, &asked, "no").await;
    assert_eq!(delivery["metadata"]["delivery_state"], "rejected");
    assert_eq!(delivery["metadata"]["error_code"], "only_admins_may_send");
    assert_eq!(anna.seen(|seen| seen.count_text("no")), 0);

    promote(&room, true).await;
    told(&room).await;
    pushed(&room, &mut host, "as an admin").await;
    promote(&room, false).await;
    told(&room).await;
    let refused = host.ask_refused("push", room.push("no")).await;
    assert_eq!(refused, "only_admins_may_send");

    anna.announce(group, false).await.expect("announce");
    told(&room).await;
    pushed(&room, &mut host, "as everybody").await;

    remove(&room).await;
    told(&room).await;
    let refused = host.ask_refused("push", room.push("no")).await;
    assert_eq!(refused, "not_in_group");
    assert_eq!(anna.seen(|seen| seen.count_text("no")), 0);
    anna.subject(group, "Eaters").await.expect("subject");
    add(&room).await;
    told(&room).await;
    pushed(&room, &mut host, "back again").await;
    room.asks(anna, "still hungry?").await;
    let event = host.event().await;
    assert_eq!(event["metadata"]["conversation_title"], "Eaters");
}

/// Waits until the plugin has taken what it was told so far.
async fn told(room: &Room) {
    let (core, world) = (room.world.server.core(), &room.world);
    common::eventually("the plugin takes what it is told", || {
        core.queue_len(&world.phone, world.device) == 0
    })
    .await;
}

async fn pushed(room: &Room, host: &mut Host, text: &str) {
    let result = host.ask("push", room.push(text)).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    room.bob.wait_text(text).await.expect("arrives");
}

async fn promote(room: &Room, admin: bool) {
    let client = room.anna.client().await.expect("client");
    let who = [room.plugin()];
    match admin {
        true => {
            client
                .groups()
                .promote_participants(&room.group, &who)
                .await
        }
        false => client.groups().demote_participants(&room.group, &who).await,
    }
    .expect("change");
}

async fn remove(room: &Room) {
    let client = room.anna.client().await.expect("client");
    let answers = client
        .groups()
        .remove_participants(&room.group, &[room.plugin()])
        .await;
    assert!(answers.expect("remove").iter().all(|answer| answer.is_ok()));
}

async fn add(room: &Room) {
    let client = room.anna.client().await.expect("client");
    let answers = client
        .groups()
        .add_participants(&room.group, &[room.plugin()])
        .await;
    assert!(answers.expect("add").iter().all(|answer| answer.is_ok()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_after_the_other_learns_what_changed_meanwhile() {
    let room = Room::open(true).await;
    let world = &room.world;
    // Nothing is known of the group yet, and who is mentioned is mentioned as the group knows him.
    let text = format!("first, @+{}", room.bob.phone());
    let result = world.ok("push", room.push(&text)).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    let arrived = format!("first, @{}", room.bob.lid().user);
    room.bob.wait_text(&arrived).await.expect("arrives");
    room.anna
        .announce(&room.group, true)
        .await
        .expect("announce");
    let refused = world.refused("push", room.push("no")).await;
    assert_eq!(refused, "only_admins_may_send");
    // A poll tells the title of a group of which there was never a word before.
    room.asks(&room.anna, "soup?").await;
    let events = world.poll(config()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["metadata"]["conversation_title"], "Cooks");
    assert_eq!(events[0]["metadata"]["only_admins_may_send"], "true");
    remove(&room).await;
    let refused = world.refused("push", room.push("no")).await;
    assert_eq!(refused, "not_in_group");
    assert_eq!(room.bob.seen(|seen| seen.count_text("no")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_plugin_knows_is_wrong_and_the_server_refuses() {
    let room = Room::open(true).await;
    let world = &room.world;
    world.ok("push", room.push("first")).await;
    room.anna
        .announce(&room.group, true)
        .await
        .expect("announce");
    world.ok("poll_ingress", json!({"config": config()})).await;
    // As if the change had been missed.
    let path = world.account_dir().join("channel.db");
    let store = rusqlite::Connection::open(path).expect("channel.db");
    let changed = store.execute(
        "UPDATE known_group SET info = json_set(info, '$.announcement', json('false'))",
        [],
    );
    assert_eq!(changed.expect("update"), 1);
    drop(store);
    let refused = world.refused("push", room.push("no")).await;
    assert_eq!(refused, "only_admins_may_send");
    assert_eq!(room.bob.seen(|seen| seen.count_text("no")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_community_and_its_groups() {
    let world = World::linked_lid().await;
    let spec = PersonSpec::new("Anna").lid_migrated();
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let client = anna.client().await.expect("client");
    let options = whatsapp_rust::features::CreateCommunityOptions::new("Village");
    let created = client.community().create(options).await.expect("community");
    let village = created.metadata.id;
    let community = client.community();
    let people = [world.jid()];
    let created = community.create_subgroup("Cooks", &people, village.clone());
    let cooks = created.await.expect("group").metadata.id;
    let all = client.groups().get_participating().await.expect("groups");
    let news = all.values().find(|group| group.is_default_sub_group);
    let news = news.expect("announcement group").id.clone();

    let mut config = config();
    config["group_activation"] = json!("all");
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let id = anna.text(cooks.clone(), "soup").await.expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(event["metadata"]["conversation_title"], "Cooks");
    assert_eq!(event["metadata"]["community_id"], village.to_string());
    assert_eq!(event["metadata"].get("community_announcements"), None);
    let id = anna.text(news.clone(), "hear, hear").await.expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(event["metadata"]["community_id"], village.to_string());
    assert_eq!(event["metadata"]["community_announcements"], "true");
    assert_eq!(event["metadata"]["only_admins_may_send"], "true");

    // A device that was not there knows no secret of what was said before, so it shows what went over the wire.
    let blind = anna.add_device().await.expect("device");
    for emoji in ["🎉", ""] {
        let to = json!({
            "conversation_id": news.to_string(), "action": "react", "target_message_id": id, "emoji": emoji,
        });
        let push = json!({"config": config, "message": message("", to)});
        let result = host.ask("push", push).await;
        let reaction = result["delivery"]["message_id"].as_str().expect("id");
        let opened = anna.wait_id(reaction).await.expect("arrives");
        let opened = opened.message.reaction_message.as_option();
        let opened = opened.expect("it opens").clone();
        assert_eq!(opened.text.as_deref(), Some(emoji));
        assert_eq!(opened.key.id.as_deref(), Some(id.as_str()));
        let closed = blind.wait_id(reaction).await.expect("arrives");
        assert!(closed.message.enc_reaction_message.is_set());
        assert!(!closed.message.reaction_message.is_set());
        // What a device that asks again is given.
        let path = world.account_dir().join("channel.db");
        let store = rusqlite::Connection::open(path).expect("channel.db");
        let query = "SELECT payload FROM part WHERE message_id = ?1";
        let kept: Vec<u8> = store
            .query_row(query, [reaction], |row| row.get(0))
            .expect("kept");
        let kept: wa::Message = waproto::codec::message_decode(&kept).expect("a message");
        assert!(kept.enc_reaction_message.is_set() && !kept.reaction_message.is_set());
    }

    for (to, refused) in [
        (&news, Some("only_admins_may_send")),
        (&village, Some("not_sendable")),
        (&cooks, None),
    ] {
        let metadata = json!({"conversation_id": to.to_string()});
        let params = json!({"config": config, "message": message("hello", metadata)});
        match refused {
            Some(code) => assert_eq!(host.ask_refused("push", params).await, code),
            None => drop(host.ask("push", params).await),
        }
    }
    let got = anna.wait_text("hello").await.expect("arrives");
    assert_eq!(*got.chat(), cooks);
    assert_eq!(anna.seen(|seen| seen.count_text("hello")), 1);
}

/// What waits for the name of its group holds nobody else up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_which_the_server_says_nothing_holds_up_itself_alone() {
    let room = Room::open(true).await;
    let Room { world, anna, .. } = &room;
    let silent = Fault::IgnoreIq {
        xmlns: "w:g2".to_owned(),
        times: u32::MAX,
    };
    world.fault(silent).await;
    let mut config = config();
    config["dm_policy"] = json!("open");
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let asked = room.asks(anna, "what soup?").await;
    let aside = anna.text(world.lid(), "psst").await.expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], aside, "{event}");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], asked, "{event}");
    assert_eq!(event["metadata"].get("conversation_title"), None);
    // Of another group nothing is known either, and what happens in it waits as well.
    config["events"] = json!(["message", "group"]);
    host.ask("configure", json!({"config": config})).await;
    let other = world.group(anna, "Bakers").await;
    anna.subject(&other, "Brewers").await.expect("subject");
    let aside = anna.text(world.lid(), "psst again").await.expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], aside, "{event}");
    let event = host.event().await;
    let kind = event["event_type"].as_str().expect("type");
    assert!(kind.starts_with("group."), "{event}");
    host.end();
    host.exit().await;
}

/// What it costs grows with what waits, not with its square.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_goes_through_a_thousand_messages_of_talk() {
    let room = Room::open(true).await;
    let Room { world, bob, .. } = &room;
    room.says(bob, "soup again?").await;
    world.ok("push", room.push("first")).await;
    common::eventually("Bob's message is there", || {
        world.unacknowledged().is_empty()
    })
    .await;
    let path = world.account_dir().join("channel.db");
    let store = rusqlite::Connection::open(path).expect("channel.db");
    let copied = store.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO inbox (chat, sender, stanza, event_id, route, timestamp, push_name, draft, raw, state, stored)
         SELECT chat, sender, stanza || i, event_id || i, route, timestamp, push_name, draft, raw, state, stored
         FROM inbox, n WHERE state = 0",
        [],
    );
    assert_eq!(copied.expect("copies"), 999);
    drop(store);
    let asked = room.asks(&room.anna, "what soup?").await;
    let began = Instant::now();
    let events = world.poll(config()).await;
    let took = began.elapsed();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["message"]["id"], asked);
    let context = events[0]["metadata"]["group_context"].as_str();
    let context: Value = serde_json::from_str(context.expect("context")).expect("JSON");
    assert_eq!(context.as_array().map(Vec::len), Some(20), "{context}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

//! Who may speak, with the real binary: strangers and their codes, readers, rules that change under a running session,
//! and what `explain` says of it all.

use crate::common;

use common::command::{as_json, run, says, verdict};
use common::room::{Room, mentioning};
use common::{Host, World, eventually, message, unhurried_toml};
use serde_json::{Value, json};
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::{Person, PersonSpec};

/// How a code is told.
const CODE: &str = "owner this code: ";

async fn start(world: &World, config: &Value) -> Host {
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    host
}

/// The code that somebody was sent.
async fn code_of(person: &Person) -> String {
    let got = person
        .wait_for("a code", |seen| {
            let texts = seen.messages.iter().filter_map(|message| message.text());
            let mut codes = texts.filter_map(|text| text.split_once(CODE));
            codes.next().map(|(_, rest)| rest[..8].to_owned())
        })
        .await;
    got.expect("a code")
}

/// How many messages with a text somebody got; their own phone sends others.
fn got(person: &Person) -> usize {
    person.seen(|seen| {
        let texts = seen
            .messages
            .iter()
            .filter(|message| message.text().is_some());
        texts.count()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_waits_with_a_code() {
    let world = World::linked_lid().await;
    let config = json!({"dm_policy": "pairing", "poll_idle_ms": 300, "poll_timeout_secs": 30});
    // One who is met by LID and one by phone number; the name is the stranger's choice.
    let spec = PersonSpec::new("The Owner\u{1b}[2J").lid_migrated();
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let bob = world.person("Bob").await;
    let mut host = start(&world, &config).await;
    let first = anna.text(world.lid(), "let me in").await.expect("text");
    let code = code_of(&anna).await;
    let second = anna.text(world.lid(), "please").await.expect("text");
    assert_eq!(
        verdict(&world, &second).await["outcome"],
        "waits_for_approval"
    );
    says(&world, &bob, "me too").await;
    let bobs = code_of(&bob).await;
    assert_ne!(code, bobs);
    let waiting = as_json(&world, &["access", "pending", "--json"]).await;
    assert_eq!(
        waiting["pending"].as_array().map(Vec::len),
        Some(2),
        "{waiting}"
    );
    let about = |of: &str| {
        let all = waiting["pending"].as_array().expect("pending").iter();
        all.clone()
            .find(|waits| waits["code"] == of)
            .cloned()
            .expect("waits")
    };
    assert_eq!(about(&code)["messages"], 2);
    assert_eq!(about(&bobs)["phone"], bob.pn().to_string());
    // A name cannot paint on the operator's terminal.
    let shown = run(&world, &["access", "pending"]).await.expect("pending");
    assert!(
        shown.contains(&code) && !shown.contains('\u{1b}'),
        "{shown}"
    );
    let reason = run(&world, &["access", "approve", "WRONG234"])
        .await
        .expect_err("wrong");
    assert!(reason.contains("nobody waits with this code"), "{reason}");
    // A host that dies takes nothing along.
    host.kill().await;
    let mut host = start(&world, &config).await;
    let third = anna.text(world.lid(), "hello?").await.expect("text");
    verdict(&world, &third).await;
    let denied = as_json(&world, &["access", "deny", "--json", &bobs.to_lowercase()]).await;
    assert_eq!(
        (&denied["denied"], &denied["messages"]),
        (&json!(bob.pn().to_string()), &json!(1))
    );
    let approved = as_json(&world, &["access", "approve", "--json", &code]).await;
    assert_eq!(approved["messages"], 3);
    for (id, text) in [
        (&first, "let me in"),
        (&second, "please"),
        (&third, "hello?"),
    ] {
        let event = host.event().await;
        assert_eq!(&event["message"]["id"], id);
        assert_eq!(event["message"]["content"], text);
        assert_eq!(event["actor"]["metadata"]["permission"], "write");
    }
    // The way back is open to who was let in, and to nobody else.
    let reply = |person: &Person, text: &str| {
        let to = json!({"conversation_id": person.pn().to_string()});
        json!({"config": config, "message": message(text, to)})
    };
    host.ask("push", reply(&anna, "welcome")).await;
    anna.wait_text("welcome").await.expect("welcome");
    let refused = host.ask_refused("push", reply(&bob, "no")).await;
    assert_eq!(refused, "unauthorized_destination");
    let told = verdict(&world, &first).await;
    assert_eq!(told["outcome"], "emitted", "{told}");
    assert_eq!(told["rule"], "approvals");
    assert!(!told.to_string().contains(anna.phone()), "{told}");
    // One code each, whatever they wrote; who was denied gets no other.
    let again = says(&world, &bob, "and now?").await;
    assert_eq!(verdict(&world, &again).await["rule"], "access deny");
    assert_eq!((got(&anna), got(&bob)), (2, 1));
    let id = anna.pn().to_string();
    run(&world, &["access", "revoke", &id])
        .await
        .expect("revoked");
    let late = anna.text(world.lid(), "still there?").await.expect("text");
    assert_eq!(
        verdict(&world, &late).await["outcome"],
        "waits_for_approval"
    );
    let list = as_json(&world, &["access", "list", "--json"]).await;
    assert_eq!(list["approvals"], json!([]));
    host.end();
    host.exit().await;
    only_ingress_sends_codes(&world, &config).await;
}

/// A process that is there for one call receives strangers' messages, and says nothing to them.
async fn only_ingress_sends_codes(world: &World, config: &Value) {
    let carol = world.person("Carol").await;
    let id = carol.text(world.jid(), "hi").await.expect("text");
    let to = json!({"conversation_id": carol.pn().to_string()});
    let params = json!({"config": {}, "message": message("from an operator", to)});
    world.ok("push", params).await;
    eventually("Carol's message is there", || {
        world.unacknowledged().is_empty()
    })
    .await;
    let told = run(world, &["explain", &id]).await.expect("explain");
    assert!(told.contains("waiting: no process that receives"), "{told}");
    assert_eq!(got(&carol), 1);
    assert_eq!(world.poll(config.clone()).await, Vec::<Value>::new());
    code_of(&carol).await;
    // The number of whoever was linked goes; whom the operator has let in stays.
    let waiting = as_json(world, &["access", "pending", "--json"]).await;
    let waiting = waiting["pending"].as_array().expect("pending").clone();
    let carols = waiting
        .iter()
        .find(|waits| waits["name"] == "Carol")
        .expect("Carol");
    let code = carols["code"].as_str().expect("code");
    run(world, &["access", "approve", code])
        .await
        .expect("approved");
    let events = world.poll(config.clone()).await;
    assert_eq!(events[0]["message"]["id"], id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_under_a_running_session() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let bob = world.person("Bob").await;
    // It is not the name that lets somebody in.
    let spec = PersonSpec::new("Anna").lid_migrated();
    let impostor = Person::join_as(&world.server, spec)
        .await
        .expect("another Anna");
    let reader = world.person("Reader").await;
    let config = |allowed: &[&Person]| {
        let allowed: Vec<String> = allowed
            .iter()
            .map(|who| format!("+{}", who.phone()))
            .collect();
        json!({
            "allowed_sender_ids": allowed,
            "contacts": [{"id": format!("+{}", reader.phone()), "permission": "read"}],
            "read_only_reply": "I only listen to you.",
        })
    };
    let mut host = start(&world, &config(&[&anna])).await;
    let connected = world.ok("health", json!({"config": {}})).await;
    for person in [&impostor, &bob] {
        let id = says(&world, person, "it is me, Anna").await;
        let told = verdict(&world, &id).await;
        assert_eq!(
            (&told["outcome"], &told["rule"]),
            (&json!("denied"), &json!("dm_policy: allowlist"))
        );
        let gates = told["trace"]["gates"].as_array().expect("gates");
        assert_eq!(gates.last().expect("a gate")["gate"], "dm_policy");
    }
    let id = says(&world, &anna, "it is really me").await;
    assert_eq!(host.event().await["message"]["id"], id);
    // A reader gets the answer, once, and no turn.
    for text in ["hello?", "anybody?"] {
        let id = says(&world, &reader, text).await;
        assert_eq!(verdict(&world, &id).await["rule"], "contacts[0]: read");
    }
    reader
        .wait_text("I only listen to you.")
        .await
        .expect("the answer");
    // From its own stdin.
    let told = host
        .ask("configure", json!({"config": config(&[&anna, &bob])}))
        .await;
    let metadata = &told["configuration"]["metadata"];
    assert_eq!(
        (&metadata["applied"], &metadata["changed"]),
        (&json!("true"), &json!("allowed_sender_ids"))
    );
    let id = says(&world, &bob, "and now?").await;
    assert_eq!(host.event().await["message"]["id"], id);
    // By a command, from a file as the host has it.
    let file = world.home.path().join("settings.toml");
    let path = file.to_str().expect("path").to_owned();
    std::fs::write(
        &file,
        "dm_policy = \"open\"\nmention_patterns = [\"bot(\"]\n",
    )
    .expect("write");
    let reason = run(&world, &["reload", "--config", &path])
        .await
        .expect_err("a bad pattern");
    assert!(
        reason.contains("mention_patterns[0]") && reason.contains("bot("),
        "{reason}"
    );
    std::fs::write(&file, "presence = \"offline\"\n").expect("write");
    let reason = run(&world, &["reload", "--config", &path])
        .await
        .expect_err("no policy");
    assert!(reason.contains("does not say who may write"), "{reason}");
    let pacing = format!("[pacing]\n{}", unhurried_toml());
    let text = format!("dm_policy = \"open\"\nnonsense = 1\n{pacing}");
    std::fs::write(&file, text).expect("write");
    let done = as_json(
        &world,
        &[
            "reload",
            "--json",
            "--config",
            &path,
            "--account",
            "default",
        ],
    )
    .await;
    let changed = json!([
        "dm_policy",
        "allowed_sender_ids",
        "contacts",
        "read_only_reply"
    ]);
    assert_eq!(done, json!({"changed": changed, "at_next_start": []}));
    let id = says(&world, &impostor, "at last").await;
    assert_eq!(host.event().await["message"]["id"], id);
    assert_eq!(verdict(&world, &id).await["rule"], "dm_policy: open");
    // All that without a new connection.
    let after = world.ok("health", json!({"config": {}})).await;
    let since = |health: &Value| health["health"]["metadata"]["last_connect"].clone();
    assert_eq!(since(&after), since(&connected));
    assert_eq!(
        reader.seen(|seen| seen.count_text("I only listen to you.")),
        1
    );
    // What the owner writes from the phone is nobody's message to the agent.
    let spec = PersonSpec::new("Owner").phone(&world.phone);
    let owner = Person::join_as(&world.server, spec)
        .await
        .expect("another device");
    let id = owner.text(&anna, "from my phone").await.expect("text");
    let told = verdict(&world, &id).await;
    assert_eq!(
        (&told["outcome"], &told["rule"]),
        (&json!("dropped"), &json!("our own"))
    );
    host.end();
    host.exit().await;
    let reason = run(&world, &["reload", "--config", &path])
        .await
        .expect_err("nobody runs");
    assert!(reason.contains("not_running"), "{reason}");
    let reason = run(&world, &["explain", "3EB0NOTHING"])
        .await
        .expect_err("unknown");
    assert!(reason.contains("no message with this id"), "{reason}");
}

/// Met by a LID that says nothing; the number that is listed is asked for before anything is erased.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_listed_by_number_gets_through_by_lid() {
    let world = World::linked().await;
    let mut people = Vec::new();
    for name in ["Anna", "Bob", "Reader"] {
        let mut spec = PersonSpec::new(name).lid_migrated();
        spec.account.secretive = true;
        people.push(Person::join_as(&world.server, spec).await.expect(name));
    }
    let [anna, bob, reader] = people.as_slice() else {
        panic!("three");
    };
    let phone = |who: &Person| format!("+{}", who.phone());
    let mut config = json!({
        "allowed_sender_ids": [phone(anna), phone(bob)], "poll_idle_ms": 300, "poll_timeout_secs": 30,
    });
    let mut ids = Vec::new();
    for person in &people {
        ids.push(says_by_lid(&world, person).await);
    }
    // Of the others it is not even told who asks.
    world.server.core().set_secretive(anna.phone(), false);
    let events = world.poll(config.clone()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["message"]["id"], ids[0]);
    assert_eq!(events[0]["conversation"]["id"], anna.lid().to_string());
    let told = verdict(&world, &ids[1]).await;
    assert_eq!(told["rule"], "dm_policy: allowlist", "{told}");
    // Under a session as well; and one who may only read does not pass for a stranger.
    config["dm_policy"] = json!("open");
    config["contacts"] = json!([{"id": phone(reader), "permission": "read"}]);
    let id = says_by_lid(&world, reader).await;
    world.server.core().set_secretive(reader.phone(), false);
    let mut host = start(&world, &config).await;
    assert_eq!(verdict(&world, &id).await["rule"], "contacts[0]: read");
    host.end();
    host.exit().await;
}

/// Met by a number that says nothing; the LID that is listed is asked for before anybody is admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_listed_by_lid_does_not_pass_for_another_by_number() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Reader");
    spec.account.secretive = true;
    let reader = Person::join_as(&world.server, spec).await.expect("Reader");
    let config = json!({
        "dm_policy": "open", "contacts": [{"id": reader.lid().to_string(), "permission": "read"}],
        "poll_idle_ms": 300, "poll_timeout_secs": 30,
    });
    let id = says(&world, &reader, "hello").await;
    world.server.core().set_secretive(reader.phone(), false);
    assert_eq!(world.poll(config).await, Vec::<Value>::new());
    assert_eq!(verdict(&world, &id).await["rule"], "contacts[0]: read");
}

async fn says_by_lid(world: &World, person: &Person) -> String {
    let id = person.text(world.lid(), "hello").await.expect("text");
    assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
    id
}

/// No answer is no verdict: what was asked in vain is asked again, and only the chats concerned wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_judged_before_whatsapp_has_answered() {
    let world = World::linked().await;
    let mut people = Vec::new();
    for name in ["Anna", "Reader"] {
        let mut spec = PersonSpec::new(name).lid_migrated();
        spec.account.secretive = true;
        people.push(Person::join_as(&world.server, spec).await.expect(name));
    }
    let [anna, reader] = people.as_slice() else {
        panic!("two");
    };
    let carol = world.person("Carol").await;
    let phone = |who: &Person| format!("+{}", who.phone());
    let config = json!({
        "dm_policy": "open", "allowed_sender_ids": [phone(anna)],
        "contacts": [{"id": phone(reader), "permission": "read"}],
        "poll_idle_ms": 300, "poll_timeout_secs": 4,
    });
    let mut ids = Vec::new();
    for person in &people {
        ids.push(says_by_lid(&world, person).await);
        world.server.core().set_secretive(person.phone(), false);
    }
    let known = says(&world, &carol, "me too").await;
    let usync = "usync".to_owned();
    let many = u32::MAX;
    let silent = Fault::IgnoreIq {
        xmlns: usync.clone(),
        times: many,
    };
    world.fault(silent).await;
    let events = world.poll(config.clone()).await;
    let given: Vec<_> = events.iter().map(|e| &e["message"]["id"]).collect();
    assert_eq!(given, [&known]);
    // What one process leaves, the next one meets before it has a connection; and it is refused at first.
    world.server.core().faults().clear();
    let refusal = Fault::RefuseIq {
        xmlns: usync,
        code: 500,
        times: many,
    };
    world.fault(refusal).await;
    let mut host = start(&world, &config).await;
    let known = says(&world, &carol, "and me").await;
    while host.event().await["message"]["id"] != known {}
    for id in &ids {
        let told = as_json(&world, &["explain", "--json", id]).await;
        assert_eq!(told["messages"][0]["outcome"], "waiting", "{told}");
    }
    world.server.core().faults().clear();
    while host.event().await["message"]["id"] != ids[0] {}
    let told = verdict(&world, &ids[0]).await;
    assert_eq!(told["rule"], "allowed_sender_ids[0]");
    let told = verdict(&world, &ids[1]).await;
    assert_eq!(told["rule"], "contacts[0]: read");
    host.end();
    host.exit().await;
}

/// Let in when nothing but the number was known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_approved_by_number_gets_through_by_lid() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Anna");
    spec.account.secretive = true;
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let mut host = start(&world, &json!({"dm_policy": "pairing"})).await;
    let first = says(&world, &anna, "hello").await;
    let code = code_of(&anna).await;
    let approved = as_json(&world, &["access", "approve", "--json", &code]).await;
    assert_eq!(approved["approved"], anna.pn().to_string(), "{approved}");
    assert_eq!(host.event().await["message"]["id"], first);
    let id = says_by_lid(&world, &anna).await;
    world.server.core().set_secretive(anna.phone(), false);
    assert_eq!(verdict(&world, &id).await["rule"], "approvals");
    host.end();
    host.exit().await;
}

/// Let in when nothing but the LID was known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_approved_by_lid_gets_through_by_number() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Anna").lid_migrated();
    spec.account.secretive = true;
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let mut host = start(&world, &json!({"dm_policy": "pairing"})).await;
    let first = says_by_lid(&world, &anna).await;
    let code = code_of(&anna).await;
    let approved = as_json(&world, &["access", "approve", "--json", &code]).await;
    assert_eq!(approved["approved"], anna.lid().to_string(), "{approved}");
    assert_eq!(host.event().await["message"]["id"], first);
    host.end();
    host.exit().await;
    let id = says(&world, &anna, "hello").await;
    world.server.core().set_secretive(anna.phone(), false);
    let mut host = start(&world, &json!({"dm_policy": "pairing"})).await;
    assert_eq!(verdict(&world, &id).await["rule"], "approvals");
    host.end();
    host.exit().await;
}

/// A poller has only one connection a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poller_gives_codes_beyond_its_batch() {
    let world = World::linked().await;
    let mut people = Vec::new();
    for name in ["Anna", "Bob", "Carol"] {
        people.push(world.person(name).await);
    }
    let [strangers @ .., friend] = people.as_slice() else {
        panic!("three");
    };
    let config = json!({
        "dm_policy": "pairing", "allowed_sender_ids": [format!("+{}", friend.phone())],
        "poll_max_events": 1, "poll_idle_ms": 300, "poll_timeout_secs": 30,
    });
    for person in &people {
        says(&world, person, "hello").await;
    }
    let events = world.poll(config).await;
    assert_eq!(events.len(), 1, "{events:?}");
    for stranger in strangers {
        code_of(stranger).await;
    }
}

/// The change may come while the messages of others are being emitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_listed_while_others_speak_does_not_wait_on() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let bob = world.person("Bob").await;
    let config = |allowed: &[&Person]| {
        let numbers = allowed.iter().map(|who| format!("+{}", who.phone()));
        json!({"dm_policy": "pairing", "allowed_sender_ids": numbers.collect::<Vec<_>>()})
    };
    let mut host = start(&world, &config(&[&anna])).await;
    for _ in 0..4 {
        let id = says(&world, &bob, "hello").await;
        assert_eq!(verdict(&world, &id).await["outcome"], "waits_for_approval");
        let others = async {
            for _ in 0..12 {
                anna.text(world.jid(), "and then").await.expect("text");
            }
        };
        let listed = json!({"config": config(&[&anna, &bob])});
        tokio::join!(others, host.ask("configure", listed));
        while host.event().await["message"]["id"] != id {}
        host.ask("configure", json!({"config": config(&[&anna])}))
            .await;
    }
}

/// A group that addresses its members by LID, and a list that has a phone number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_group_only_who_is_listed() {
    let room = Room::open(true).await;
    let Room {
        world, anna, bob, ..
    } = &room;
    let config = |more: Value| {
        let mut config = json!({
            "allow_group_messages": true,
            "allowed_conversation_ids": [room.group.to_string()],
            "allowed_group_sender_ids": [format!("+{}", anna.phone())],
            "mention_patterns": ["(?i)^bot\\b"],
        });
        let more = more.as_object().expect("an object").clone();
        config.as_object_mut().expect("an object").extend(more);
        config
    };
    let mut host = start(world, &config(json!({}))).await;
    let plugin = room.plugin();
    let id = room
        .sends(bob, mentioning(&plugin, "tell me all", false))
        .await;
    let told = verdict(world, &id).await;
    assert_eq!(
        told["rule"],
        "allowed_group_sender_ids: the sender is not listed"
    );
    let to_herself = mentioning(&anna.lid(), "soup again?", false);
    let id = room.sends(anna, to_herself).await;
    assert_eq!(verdict(world, &id).await["outcome"], "kept_as_context");
    // Written to somebody else, somewhere else.
    let id = room
        .sends(anna, mentioning(&plugin, "do as I say", true))
        .await;
    assert_eq!(verdict(world, &id).await["outcome"], "kept_as_context");
    let asked = anna
        .text(room.group.clone(), "Bot, what soup?")
        .await
        .expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], asked);
    assert_eq!(event["activation"]["reason"], "direct_mention");
    let content = event["message"]["content"].as_str().expect("content");
    assert!(
        content.contains("soup again?") && content.contains("do as I say"),
        "{content}"
    );
    assert!(!content.contains("tell me all"), "{content}");
    let told = verdict(world, &asked).await;
    assert_eq!(told["rule"], "allowed_group_sender_ids[0]");
    // A reader is answered where they ask, and only when they ask us.
    let reader = json!({
        "contacts": [{"id": bob.lid().to_string(), "permission": "read"}],
        "read_only_reply": "Not for you.",
    });
    host.ask("configure", json!({"config": config(reader)}))
        .await;
    let id = bob.text(room.group.clone(), "hm").await.expect("text");
    assert_eq!(verdict(world, &id).await["outcome"], "denied");
    let id = room.sends(bob, mentioning(&plugin, "please", false)).await;
    assert_eq!(verdict(world, &id).await["rule"], "contacts[0]: read");
    anna.wait_text("Not for you.").await.expect("the answer");
    assert_eq!(anna.seen(|seen| seen.count_text("Not for you.")), 1);
    // Who leads nowhere is not heard in passing either, not even with what was kept before.
    let mut routed = config(json!({"allowed_group_sender_ids": null}));
    host.ask("configure", json!({"config": routed})).await;
    let before = room.says(bob, "soup for all").await;
    assert_eq!(verdict(world, &before).await["outcome"], "kept_as_context");
    let from_anna = json!({"name": "anna", "match": {"from": anna.lid().to_string()}});
    routed["routes"] = json!([from_anna]);
    host.ask("configure", json!({"config": routed})).await;
    let after = room.says(bob, "and for me").await;
    assert_eq!(verdict(world, &after).await["rule"], "routes: none matches");
    let asked = room.says(anna, "bot, well?").await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], asked);
    let content = event["message"]["content"].as_str().expect("content");
    assert!(!content.contains("for "), "{content}");
    assert_eq!(
        verdict(world, &before).await["rule"],
        "routes: none matches"
    );
}

/// A group that says nothing of its members, and the number of one is listed. What they have said is neither lost nor given
/// before WhatsApp has answered whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_listed_by_number_is_heard_in_a_group_by_lid() {
    let room = Room::open_to_a_stranger().await;
    let Room {
        world, anna, bob, ..
    } = &room;
    let carol = world.person("Carol").await;
    let mut config = json!({
        "dm_policy": "open", "allow_group_messages": true, "allowed_conversation_ids": ["*"],
    });
    let refuse = async |xmlns: &str| {
        let (xmlns, times) = (xmlns.to_owned(), u32::MAX);
        let code = 500;
        world.fault(Fault::RefuseIq { xmlns, code, times }).await;
    };
    refuse("w:g2").await;
    let mut host = start(world, &config).await;
    let said = room.says(bob, "soup again?").await;
    assert_eq!(verdict(world, &said).await["outcome"], "kept_as_context");
    refuse("usync").await;
    config["allowed_group_sender_ids"] =
        json!([format!("+{}", bob.phone()), anna.lid().to_string()]);
    host.ask("configure", json!({"config": config})).await;
    let asked = room.asks(anna, "what soup?").await;
    let aside = says(world, &carol, "good morning").await;
    assert_eq!(host.event().await["message"]["id"], aside);
    for (id, outcome) in [(&said, "kept_as_context"), (&asked, "waiting")] {
        let told = as_json(world, &["explain", "--json", id]).await;
        assert_eq!(told["messages"][0]["outcome"], outcome, "{told}");
    }
    world.server.core().set_secretive(bob.phone(), false);
    world.server.core().faults().clear();
    let event = host.event().await;
    assert_eq!(event["message"]["id"], asked);
    let content = event["message"]["content"].as_str().expect("content");
    assert!(content.contains("Bob: soup again?"), "{content}");
    let id = room.asks(bob, "and who cooks?").await;
    assert_eq!(host.event().await["message"]["id"], id);
    let told = verdict(world, &id).await;
    assert_eq!(told["rule"], "allowed_group_sender_ids[0]", "{told}");
    host.end();
    host.exit().await;
}

/// WhatsApp says nothing, over however many processes: that has an end, and nobody gets through for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_whom_whatsapp_never_tells_is_set_aside() {
    let world = World::linked().await;
    let mut spec = PersonSpec::new("Anna").lid_migrated();
    spec.account.secretive = true;
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    let config = json!({
        "dm_policy": "open", "contacts": [{"id": format!("+{}", anna.phone()), "permission": "read"}],
        "poll_idle_ms": 300, "poll_timeout_secs": 3,
    });
    let silent = Fault::IgnoreIq {
        xmlns: "usync".to_owned(),
        times: u32::MAX,
    };
    world.fault(silent).await;
    let first = says_by_lid(&world, &anna).await;
    assert_eq!(world.poll(config.clone()).await, Vec::<Value>::new());
    let told = as_json(&world, &["explain", "--json", "--full", &first]).await;
    assert_eq!(told["messages"][0]["outcome"], "waiting", "{told}");
    let event = told["messages"][0]["event_id"].as_str().expect("event");
    let store = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("open");
    let tries: i64 = store
        .query_row("SELECT max(tries) FROM alias", [], |row| row.get(0))
        .expect("tries");
    assert_eq!(tries, 1, "the process ended before its question had failed");
    // As if nine more had.
    store
        .execute("UPDATE alias SET tries = 10 WHERE tries = 1", [])
        .expect("update");
    assert_eq!(world.poll(config.clone()).await, Vec::<Value>::new());
    let told = verdict(&world, &first).await;
    assert_eq!(told["outcome"], "unconfirmed", "{told}");
    assert_eq!(told["rule"], "WhatsApp did not say who the sender is");
    // With the next message it is asked anew, and what was set aside has what was written.
    world.server.core().faults().clear();
    world.server.core().set_secretive(anna.phone(), true);
    let second = says_by_lid(&world, &anna).await;
    world.server.core().set_secretive(anna.phone(), false);
    run(&world, &["redeliver", event])
        .await
        .expect("redelivers");
    assert_eq!(world.poll(config).await, Vec::<Value>::new());
    for id in [&first, &second] {
        assert_eq!(verdict(&world, id).await["rule"], "contacts[0]: read");
    }
}

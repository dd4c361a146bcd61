//! `deliver`, `push` and `status` with the real binary, in both address families.

use crate::common;

use std::time::{Duration, Instant};

use common::{Host, World, message, open, proxy::Proxy, request};
use serde_json::{Value, json};
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::Person;

fn params(content: &str, metadata: Value) -> Value {
    json!({"config": open(), "message": message(content, metadata)})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_by_phone_number() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    reply_arrives(&world, &anna, world.jid()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_in_a_chat_by_lid() {
    let world = World::linked_lid().await;
    let spec = whatsapp_loopback::people::PersonSpec::new("Anna").lid_migrated();
    let anna = Person::join_as(&world.server, spec).await.expect("Anna");
    reply_arrives(&world, &anna, world.lid()).await;
}

async fn reply_arrives(world: &World, anna: &Person, plugin: whatsapp_rust::Jid) {
    let asked = anna.text(plugin, "what time is it?").await.expect("text");
    anna.wait_ack(&asked).await.expect("ack");
    let events = world.poll(open()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    let conversation = events[0]["conversation"]["id"].clone();
    let metadata = json!({"conversation_id": conversation, "reply_to_message_id": asked});
    let result = world
        .ok("deliver", params("half past four", metadata))
        .await;
    assert_eq!(result["kind"], "delivered");
    let delivery = &result["delivery"];
    assert_eq!(delivery["metadata"]["delivery_state"], "sent");
    assert_eq!(delivery["conversation_id"], conversation);
    let id = delivery["message_id"].as_str().expect("id");
    let got = anna.wait_id(id).await.expect("arrives");
    assert_eq!(got.text(), Some("half past four"));
    assert_eq!(anna.seen(|seen| seen.count_text("half past four")), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_each_form_of_address() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    for (n, target) in [
        format!("+{}", anna.phone()),
        anna.phone().to_owned(),
        anna.pn().to_string(),
        anna.lid().to_string(),
        format!("contact:+{}", anna.phone()),
        format!("whatsapp:default:contact:{}", anna.pn()),
        format!("wa-personal:{}", anna.phone()),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!("number {n}");
        let result = world
            .ok("push", params(&text, json!({"conversation_id": target})))
            .await;
        assert_eq!(result["kind"], "pushed", "{target}");
        let id = result["delivery"]["message_id"].as_str().expect("id");
        assert_eq!(
            anna.wait_id(id).await.expect("arrives").text(),
            Some(text.as_str()),
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_addressed() {
    let world = World::linked().await;
    for (metadata, expected) in [
        (json!({}), "missing_destination"),
        (
            json!({"conversation_id": "somebody"}),
            "invalid_destination",
        ),
        (
            json!({"conversation_id": "contact:+1 555 123"}),
            "invalid_destination",
        ),
        (
            json!({"conversation_id": "+1 555 123 45678901"}),
            "invalid_destination",
        ),
        (
            json!({"conversation_id": "whatsapp:other:contact:+15551230000"}),
            "wrong_account",
        ),
    ] {
        assert_eq!(
            world.refused("push", params("hi", metadata.clone())).await,
            expected,
            "{metadata}"
        );
    }
    let closed = json!({"dm_policy": "allowlist", "allowed_sender_ids": ["+15551230000"]});
    let to = json!({"conversation_id": "+15559990000"});
    let refused = json!({"config": closed, "message": message("hi", to.clone())});
    assert_eq!(
        world.refused("push", refused).await,
        "unauthorized_destination"
    );
    // A reply must not end the host.
    let mut metadata = to;
    metadata["reply_to_message_id"] = json!("X");
    let reply = json!({"config": closed, "message": message("hi", metadata)});
    let result = world.ok("deliver", reply).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "rejected");
    assert_eq!(
        result["delivery"]["metadata"]["error_code"],
        "unauthorized_destination"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_answers_with_nothing() {
    let world = World::linked().await;
    let metadata = json!({"conversation_id": "+15551230000", "reply_to_message_id": "X"});
    let result = world.ok("deliver", params("", metadata)).await;
    assert_eq!(
        result["delivery"]["metadata"]["delivery_state"],
        "nothing_to_send"
    );
    assert_eq!(result["delivery"]["message_id"], "");
}

/// The first part goes, the second is refused, and the third stays here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_in_the_middle_says_what_went() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    // Faults of acknowledgements happen in the order in which they were armed.
    world.fault(Fault::DelayAcks { ms: 0, times: 1 }).await;
    let (code, times) = (463, 1);
    world.fault(Fault::Nack { code, times }).await;
    let mut config = open();
    config["text_chunk_chars"] = json!(100);
    config["deliver_errors"] = json!("degrade");
    let content = ["one ", "two ", "three "].map(|word| word.repeat(99 / word.len()));
    let to = json!({"conversation_id": anna.pn().to_string()});
    let params = json!({"config": config, "message": message(&content.join("\n\n"), to)});
    let result = world.ok("deliver", params).await;
    let metadata = &result["delivery"]["metadata"];
    assert_eq!(metadata["delivery_state"], "rejected", "{result}");
    assert_eq!(metadata["error_code"], "contact_token_missing");
    let states = metadata["message_states"].as_str().expect("states");
    let states: Vec<&str> = states.split(',').collect();
    assert!(["sent", "delivered"].contains(&states[0]), "{states:?}");
    assert_eq!(states[1..], ["rejected", "withdrawn"]);
    let ids = metadata["message_ids"].as_str().expect("ids");
    let first = ids.split(',').next().expect("id");
    let seen = anna.wait_id(first).await.expect("arrives");
    assert_eq!(seen.text(), Some(content[0].trim_end()));
    for text in &content[1..] {
        assert_eq!(
            anna.seen(|seen| seen.count_text(text.trim_end())),
            0,
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_refuses_the_message() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = json!({"conversation_id": anna.pn().to_string()});
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    let refused = world.refused("push", params("hi", to.clone())).await;
    assert_eq!(refused, "contact_token_missing");
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    let mut reply = to;
    reply["reply_to_message_id"] = json!("X");
    let result = world.ok("deliver", params("hello", reply)).await;
    let metadata = &result["delivery"]["metadata"];
    assert_eq!(metadata["delivery_state"], "rejected");
    assert_eq!(metadata["error_code"], "contact_token_missing");
    assert_eq!(anna.seen(|seen| seen.count_text("hello")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_acknowledgement_does_not_come() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    // A receipt of her phone would say as much as an acknowledgement.
    anna.disconnect().await;
    let mut config = open();
    config["send_timeout_secs"] = json!(3);
    let to = json!({"conversation_id": anna.pn().to_string()});
    world.fault(Fault::WithholdAcks { times: u32::MAX }).await;
    let push = json!({"config": config, "message": message("is it there?", to.clone())});
    let answer = world.call("push", push).await;
    assert_eq!(common::code(&answer), "delivery_unknown");
    let id = answer["error"]["data"]["dispatch_error"]["message_id"]
        .as_str()
        .expect("id")
        .to_owned();
    // Behind it in the same chat nothing goes before its fate is known; in another chat it is the same again.
    let bert = world.person("Bert").await;
    bert.disconnect().await;
    for (person, expected) in [(&anna, "queued"), (&bert, "unknown")] {
        let metadata =
            json!({"conversation_id": person.pn().to_string(), "reply_to_message_id": "X"});
        let reply = json!({"config": config, "message": message("and this?", metadata)});
        let result = world.ok("deliver", reply).await;
        assert_eq!(result["delivery"]["metadata"]["delivery_state"], expected);
    }
    // It goes on under its id: the next owner sends it again, and it is one message for its reader.
    world.server.core().faults().clear();
    let _ = world.poll(open()).await;
    anna.reconnect().await.expect("back");
    anna.wait_id(&id).await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_id(&id)), 1);
    assert_eq!(anna.seen(|seen| seen.count_text("is it there?")), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_connection() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let proxy = Proxy::down_from_the_start(world.server.addr()).await;
    let host = || {
        let mut command = world.command();
        command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
        Host::new(command)
    };
    let mut config = open();
    config["send_timeout_secs"] = json!(2);
    let to = json!({"conversation_id": anna.pn().to_string()});
    let mut push = host();
    let body = json!({"config": config, "message": message("too late", to.clone())});
    push.send(&request("push", body)).await;
    push.end();
    assert_eq!(common::code(&push.line().await), "unreachable");
    assert!(push.exit().await.success());
    let mut metadata = to;
    metadata["reply_to_message_id"] = json!("X");
    let mut deliver = host();
    let body = json!({"config": config, "message": message("when you are back", metadata)});
    deliver.send(&request("deliver", body)).await;
    deliver.end();
    let answer = deliver.line().await;
    assert_eq!(
        answer["result"]["delivery"]["metadata"]["delivery_state"], "queued",
        "{answer}"
    );
    assert!(deliver.exit().await.success());
    // The next owner sends what was queued, and only that.
    let mut next = world.host();
    next.ask("start_ingress", json!({"config": open()})).await;
    anna.wait_text("when you are back").await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text("too late")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_is_the_same_message() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let metadata = json!({"conversation_id": anna.pn().to_string(), "idempotency_key": "k1"});
    let first = world.ok("push", params("once", metadata.clone())).await;
    let second = world.ok("push", params("once", metadata.clone())).await;
    assert_eq!(
        first["delivery"]["message_id"],
        second["delivery"]["message_id"]
    );
    assert_eq!(second["delivery"]["metadata"]["deduplicated"], "true");
    assert_eq!(
        world.refused("push", params("other", metadata)).await,
        "idempotency_conflict"
    );
    anna.wait_text("once").await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text("once")), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_while_many_messages_wait() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let waiting = 20_000;
    common::fill(&world, waiting, 64).await;
    let begun = Instant::now();
    let to = json!({"conversation_id": anna.pn().to_string()});
    let result = world.ok("push", params("in between", to)).await;
    assert!(
        begun.elapsed() < Duration::from_secs(28),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    // Not one is lost: what was received waits in the inbox, the rest at the server.
    let mut config = open();
    config["poll_max_events"] = json!(1000);
    config["poll_timeout_secs"] = json!(60);
    let mut seen = std::collections::HashSet::new();
    while seen.len() < waiting {
        let events = world.poll(config.clone()).await;
        assert!(!events.is_empty(), "only {} of {waiting}", seen.len());
        for event in events {
            assert!(
                seen.insert(event["message"]["id"].to_string()),
                "twice: {event}"
            );
        }
    }
    anna.wait_text("in between").await.expect("arrives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_wants_fewer_messages() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = open();
    config["send_timeout_secs"] = json!(2);
    let busy = Fault::Nack {
        code: 429,
        times: u32::MAX,
    };
    let to = json!({"conversation_id": anna.pn().to_string()});
    world.fault(busy.clone()).await;
    let push = json!({"config": config, "message": message("refused", to.clone())});
    assert_eq!(world.refused("push", push).await, "rate_limited");
    let mut metadata = to;
    metadata["reply_to_message_id"] = json!("X");
    let reply = json!({"config": config, "message": message("later", metadata)});
    let result = world.ok("deliver", reply).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "queued");
    world.server.core().faults().clear();
    let _ = world.poll(open()).await;
    anna.wait_text("later").await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text("refused")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_message_does_not_come_without_its_beginning() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = open();
    config["text_chunk_chars"] = json!(20);
    let long = "The first part. The second part. The third part.";
    for kind in ["push", "deliver"] {
        world
            .fault(Fault::Nack {
                code: 479,
                times: 1,
            })
            .await;
        let mut to = json!({"conversation_id": anna.pn().to_string()});
        if kind == "deliver" {
            to["reply_to_message_id"] = json!("X");
        }
        let answer = world
            .call(
                kind,
                json!({"config": config, "message": message(long, to)}),
            )
            .await;
        match kind {
            "push" => assert_eq!(common::code(&answer), "nack_479"),
            _ => assert_eq!(
                answer["result"]["delivery"]["metadata"]["delivery_state"],
                "rejected"
            ),
        }
    }
    let to = json!({"conversation_id": anna.pn().to_string()});
    world
        .ok(
            "push",
            json!({"config": config, "message": message(long, to)}),
        )
        .await;
    anna.wait_text("The third part.").await.expect("arrives");
    for part in ["The first part.", "The second part.", "The third part."] {
        assert_eq!(anna.seen(|seen| seen.count_text(part)), 1, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_is_banned_for_a_while() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    world
        .fault(Fault::ConnectFailure {
            code: 402,
            times: 1,
            expire: Some(3600),
        })
        .await;
    let to = json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": "X"});
    assert_eq!(
        world.refused("deliver", params("never", to.clone())).await,
        "banned"
    );
    let logins = world.server.core().counters().logins;
    assert_eq!(
        world.refused("deliver", params("never", to)).await,
        "banned"
    );
    assert_eq!(
        world.server.core().counters().logins,
        logins,
        "it does not even try"
    );
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "banned");
    assert_eq!(health["health"]["metadata"]["outbox_queued"], "0");
}

/// Groups are silent unless they are allowed; then they are heard and answered, in both address modes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_heard_once_it_is_allowed() {
    for lid in [false, true] {
        let world = match lid {
            true => World::linked_lid().await,
            false => World::linked().await,
        };
        let mut spec = whatsapp_loopback::people::PersonSpec::new("Anna");
        if lid {
            spec = spec.lid_migrated();
        }
        let anna = Person::join_as(&world.server, spec).await.expect("Anna");
        let group = world.group(&anna, "Friends").await;
        let unheard = anna
            .text(group.clone(), "is anybody there?")
            .await
            .expect("text");
        anna.wait_ack(&unheard).await.expect("ack");
        assert!(world.poll(open()).await.is_empty(), "lid {lid}");
        let heard = anna.text(group.clone(), "hello all").await.expect("text");
        anna.wait_ack(&heard).await.expect("ack");
        let mut config = open();
        config["allow_group_messages"] = json!(true);
        config["allowed_conversation_ids"] = json!([group.to_string()]);
        config["group_activation"] = json!("all");
        let events = world.poll(config.clone()).await;
        assert_eq!(events.len(), 1, "lid {lid}: {events:?}");
        assert_eq!(events[0]["message"]["content"], "Anna: hello all");
        assert_eq!(events[0]["conversation"]["kind"], "group");
        assert_eq!(events[0]["conversation"]["id"], group.to_string());
        assert_eq!(events[0]["activation"]["reason"], "all_messages");
        let to = json!({"conversation_id": group.to_string(), "reply_to_message_id": heard});
        let reply = json!({"config": config, "message": message("hello Anna", to)});
        let result = world.ok("deliver", reply).await;
        assert_eq!(
            result["delivery"]["metadata"]["delivery_state"], "sent",
            "{result}"
        );
        let got = anna.wait_text("hello Anna").await.expect("arrives");
        assert_eq!(got.chat(), &group);
    }
}

/// What the log holds at its default for operators who look: neither texts nor numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_keeps_secrets() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let secret = "the treasure is under the oak";
    let asked = anna.text(world.jid(), secret).await.expect("text");
    anna.wait_ack(&asked).await.expect("ack");
    let mut log = String::new();
    for (kind, params) in [
        (
            "poll_ingress",
            json!({"config": {"dm_policy": "deny", "poll_idle_ms": 300}}),
        ),
        (
            "push",
            params(secret, json!({"conversation_id": anna.pn().to_string()})),
        ),
        (
            "push",
            params(secret, json!({"conversation_id": "+1555000111x"})),
        ),
        (
            "push",
            params(
                secret,
                json!({"conversation_id": "whatsapp:other:contact:+15550001112"}),
            ),
        ),
    ] {
        let mut command = world.command();
        command
            .env("CHANNEL_WHATSAPP_LOG", "info")
            .stderr(std::process::Stdio::piped());
        let mut host = Host::new(command);
        host.send(&request(kind, params)).await;
        host.end();
        host.line().await;
        let mut stderr = host.child.stderr.take().expect("stderr");
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut log)
            .await
            .expect("read");
        host.exit().await;
    }
    assert!(log.contains("connection"), "nothing was logged: {log}");
    let lid = anna.lid().user.to_string();
    for told in ["treasure", anna.phone(), &world.phone, &lid, "1555000111"] {
        assert!(!log.contains(told), "{told} in {log}");
    }
}

/// The library reports success for a message that it could encrypt for nobody; the receipt must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_no_device_can_read_is_suspect() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    world.fault(Fault::SpoilBundles { times: u32::MAX }).await;
    let to = json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": "X"});
    let result = world.ok("deliver", params("for nobody", to)).await;
    assert_eq!(
        result["delivery"]["metadata"]["delivery_state"], "suspect",
        "{result}"
    );
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["metadata"]["suspect"], "1");
}

/// A device that cannot decrypt asks again, and the sender is still there to answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_push_stays_for_a_device_that_asks_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let spoil = whatsapp_loopback::Target::account(anna.phone());
    let once = Fault::Corrupt { times: 1 };
    world
        .server
        .core()
        .inject(spoil, once)
        .await
        .expect("fault");
    let to = json!({"conversation_id": anna.pn().to_string()});
    let begun = Instant::now();
    let result = world.ok("push", params("say that again?", to)).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    anna.wait_text("say that again?")
        .await
        .expect("the resend arrives");
    assert!(
        world
            .server
            .core()
            .connections()
            .iter()
            .all(|c| c.phone.as_deref() != Some(&world.phone)),
        "the sender has left"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// A message is encrypted while the outbox's commit is on its way; nothing of it may leave before that is on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_before_it_is_in_the_outbox() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let push = |text: &str| params(text, json!({"conversation_id": anna.pn().to_string()}));
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "before_outbox_commit:2");
    let mut host = Host::new(command);
    host.ask("start_ingress", json!({"config": open()})).await;
    // The first may still wait for the connection.
    let mut texts = (1..).map(|n| format!("number {n}"));
    let last = loop {
        let text = texts.next().expect("a number");
        host.send(&request("push", push(&text))).await;
        if host.line_or_end().await.is_none() {
            break text;
        }
        anna.wait_text(&text).await.expect("arrives");
    };
    world.ok("push", push("the end")).await;
    anna.wait_text("the end").await.expect("arrives");
    assert_eq!(anna.seen(|seen| seen.count_text(&last)), 0);
}

/// A disk that takes nothing for longer than a call may last: the call is answered all the same, with no more than is
/// known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_keeps_no_call_waiting() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = open();
    config["send_timeout_secs"] = json!(1);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let to = json!({"conversation_id": anna.pn().to_string()});
    let call =
        |text: &str, to: &Value| json!({"config": config, "message": message(text, to.clone())});
    host.ask("push", call("first of all", &to)).await;

    let channel = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("open");
    channel.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let begun = Instant::now();
    let refused = host.ask_refused("push", call("perhaps this", &to)).await;
    assert_eq!(refused, "delivery_unknown");
    let mut reply = to.clone();
    reply["reply_to_message_id"] = json!("3EB0");
    let told = host.ask("deliver", call("and that", &reply)).await;
    let state = &told["delivery"]["metadata"]["delivery_state"];
    assert_eq!(state, "unknown", "{told}");
    // Who only looks is not kept waiting at all.
    host.ask("health", json!({"config": {}})).await;
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(8), "{waited:?}");

    channel.execute_batch("ROLLBACK").expect("unlock");
    anna.wait_text("and that")
        .await
        .expect("a reply stays queued");
    host.ask("push", call("last of all", &to)).await;
    anna.wait_text("last of all").await.expect("arrives");
    let copies = |text: &str| anna.seen(|seen| seen.count_text(text));
    assert!(copies("perhaps this") <= 1 && copies("and that") == 1);
}

//! How fast messages go, as the server sees it; first messages to strangers; what holds while WhatsApp restricts or bans
//! the account.

use crate::common;

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Host, World, code, eventually, message, open, request};
use serde_json::{Value, json};
use whatsapp_loopback::people::Person;
use whatsapp_loopback::{Fault, StanzaRecord};

/// Nothing is held back but what a test names.
fn pacing(limits: Value) -> Value {
    let mut config = open();
    config["pacing"] = common::unhurried();
    for (key, value) in limits.as_object().expect("an object") {
        config["pacing"][key] = value.clone();
    }
    config
}

fn to(person: &Person, config: &Value, text: &str) -> Value {
    let metadata = json!({"conversation_id": person.pn().to_string()});
    json!({"config": config, "message": message(text, metadata)})
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("clock").as_millis() as u64
}

/// A message of the plugin's.
fn is_ours(world: &World, stanza: &StanzaRecord) -> bool {
    !stanza.sent
        && stanza.tag == "message"
        && stanza.phone == world.phone
        && stanza.device == world.device
}

/// The chats that the plugin's messages went to, and when they came.
fn arrivals(world: &World) -> Vec<(String, u64)> {
    let stanzas = world.server.core().stanzas().into_iter();
    let ours = stanzas.filter(|stanza| is_ours(world, stanza));
    ours.map(|stanza| {
        let to = stanza.attr("to").unwrap_or_default().to_owned();
        (to, stanza.at_ms)
    })
    .collect()
}

/// The n-th message cannot have left before the burst and the rate have given n places since `began`.
fn obeys(came: &[u64], began: u64, every_ms: f64, burst: usize) {
    for (n, at) in came.iter().enumerate() {
        let earliest = began as f64 + (n + 1).saturating_sub(burst) as f64 * every_ms;
        // The server's clock is read in whole milliseconds.
        assert!(
            *at as f64 + 1.0 >= earliest,
            "message {n} came at {at}, not before {earliest}"
        );
    }
}

/// The same within each of three chats.
fn chats_obey(came: &[(String, u64)], began: u64, every_ms: f64, burst: usize) {
    let chats: std::collections::BTreeSet<_> = came.iter().map(|(to, _)| to).collect();
    assert_eq!(chats.len(), 3);
    for chat in chats {
        let own = came.iter().filter(|(to, _)| to == chat);
        let own: Vec<u64> = own.map(|(_, at)| *at).collect();
        obeys(&own, began, every_ms, burst);
    }
}

fn retry_after(answer: &Value) -> u64 {
    let after = &answer["error"]["data"]["dispatch_error"]["retry_after_ms"];
    after.as_u64().unwrap_or_else(|| panic!("{answer}"))
}

async fn online(world: &World) {
    eventually("online", || world.presence().is_some()).await;
}

/// Writes to the plugin; the conversation and the id.
async fn writes(world: &World, person: &Person, host: &mut Host) -> Value {
    let id = person.text(world.jid(), "hello").await.expect("text");
    person.wait_ack(&id).await.expect("ack");
    let event = host.event().await;
    json!({"conversation_id": event["conversation"]["id"], "reply_to_message_id": id})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_sends_no_faster_than_it_may() {
    let messages = 501;
    let world = World::linked().await;
    let mut people = Vec::new();
    for name in ["Anna", "Bob", "Cleo"] {
        people.push(world.person(name).await);
    }
    let mut config = pacing(json!({
        "account_per_minute": 6000, "account_burst": 10, "chat_per_second": 40, "chat_burst": 5,
    }));
    // Nobody is refused on a machine that is busy with other things.
    config["send_timeout_secs"] = json!(300);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    let began = now_ms();
    for n in 0..messages {
        let params = to(&people[n % 3], &config, &format!("number {n}"));
        host.send(&request("push", params)).await;
    }
    for _ in 0..messages {
        let answer = host.answer().await;
        let state = &answer["result"]["delivery"]["metadata"]["delivery_state"];
        assert_eq!(state, "sent", "{answer}");
    }
    let came = arrivals(&world);
    assert_eq!(came.len(), messages);
    let all: Vec<u64> = came.iter().map(|(_, at)| *at).collect();
    obeys(&all, began, 10.0, 10);
    chats_obey(&came, began, 25.0, 5);
    // Each chat in its order.
    for (n, person) in people.iter().enumerate() {
        let last = format!("number {}", messages - 3 + n);
        person.wait_text(&last).await.expect("arrives");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_share_the_limits() {
    const PROCESSES: usize = 50;
    const AT_A_TIME: usize = 16;
    const EACH: usize = 10;
    async fn finish(mut host: Host) {
        for _ in 0..EACH {
            let answer = host.line().await;
            let state = &answer["result"]["delivery"]["metadata"]["delivery_state"];
            assert!(state == "sent" || state == "delivered", "{answer}");
        }
    }
    let world = World::linked().await;
    let mut people = Vec::new();
    for name in ["Anna", "Bob", "Cleo"] {
        people.push(world.person(name).await);
    }
    let config = pacing(json!({
        "account_per_minute": 6000, "account_burst": 10, "chat_per_second": 40, "chat_burst": 5,
    }));
    let began = now_ms();
    let mut hosts = std::collections::VecDeque::new();
    for process in 0..PROCESSES {
        if hosts.len() == AT_A_TIME {
            finish(hosts.pop_front().expect("the first")).await;
        }
        let mut host = world.host();
        for n in 0..EACH {
            let params = to(&people[n % 3], &config, &format!("{n} from {process}"));
            host.send(&request("deliver", params)).await;
        }
        host.end();
        hosts.push_back(host);
    }
    for host in hosts {
        finish(host).await;
    }
    // Each process is killed once it has its answers, some with others' messages under way: those go again, under their ids.
    let stanzas = world.server.core().stanzas().into_iter();
    let ours = stanzas.filter(|stanza| is_ours(&world, stanza));
    let ids: HashSet<_> = ours
        .filter_map(|stanza| stanza.attr("id").map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), PROCESSES * EACH);
    for person in &people {
        let twice = person.seen(|seen| ids.iter().filter(|id| seen.count_id(id) > 1).count());
        assert_eq!(twice, 0);
    }
    let came = arrivals(&world);
    let all: Vec<u64> = came.iter().map(|(_, at)| *at).collect();
    obeys(&all, began, 10.0, 10);
    chats_obey(&came, began, 25.0, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_as_long_as_is_said_gets_through() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = pacing(json!({"account_per_minute": 30, "account_burst": 2}));
    config["send_timeout_secs"] = json!(1);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    for n in 0..2 {
        host.ask("push", to(&anna, &config, &format!("at once {n}")))
            .await;
    }
    let began = std::time::Instant::now();
    host.send(&request("push", to(&anna, &config, "later")))
        .await;
    let refused = host.answer().await;
    assert_eq!(code(&refused), "rate_limited");
    let after = retry_after(&refused);
    assert!((1000..=2000).contains(&after), "{after}");
    // Of several parts nothing goes, if they cannot all go.
    let mut parts = config.clone();
    parts["text_chunk_chars"] = json!(20);
    let text =
        "The first of them.\n\nThe second of them.\n\nThe third of them.\n\nThe fourth of them.";
    host.send(&request("push", to(&anna, &parts, text))).await;
    let many = host.answer().await;
    assert_eq!(code(&many), "rate_limited");
    let data = &many["error"]["data"]["dispatch_error"];
    assert_eq!(
        data["retry_after_ms"],
        Value::Null,
        "they never go in one call"
    );
    assert_eq!(data["message_ids"], Value::Null);
    let health = host.ask("health", json!({"config": config})).await;
    assert_eq!(health["health"]["metadata"]["outbox_queued"], "0");
    let left = Duration::from_millis(after).saturating_sub(began.elapsed());
    tokio::time::sleep(left).await;
    host.ask("push", to(&anna, &config, "later")).await;
    anna.wait_text("later").await.expect("arrives");
    assert_eq!(arrivals(&world).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_must_wait_is_queued_and_goes_by_itself() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = pacing(json!({"account_per_minute": 30, "account_burst": 1}));
    config["send_timeout_secs"] = json!(1);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let metadata = writes(&world, &anna, &mut host).await;
    let reply = |text: &str| json!({"config": config, "message": message(text, metadata.clone())});
    let state = |answer: &Value| answer["delivery"]["metadata"].clone();
    let first = host.ask("deliver", reply("one")).await;
    assert_eq!(state(&first)["delivery_state"], "sent");
    let second = state(&host.ask("deliver", reply("two")).await);
    assert_eq!(second["delivery_state"], "queued", "{second}");
    let after: u64 = second["retry_after_ms"]
        .as_str()
        .expect("when")
        .parse()
        .expect("number");
    assert!((1000..=2000).contains(&after), "{after}");
    let health = host.ask("health", json!({"config": config})).await;
    assert_eq!(health["health"]["metadata"]["outbox_paced"], "1");
    anna.wait_text("two").await.expect("by itself");
    // Killed, it forgets nothing; and other limits hold at once.
    let third = state(&host.ask("deliver", reply("three")).await);
    assert_eq!(third["delivery_state"], "queued", "{third}");
    host.kill().await;
    let mut slow = config.clone();
    slow["pacing"]["account_per_minute"] = json!(1);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": slow})).await;
    online(&world).await;
    let health = host.ask("health", json!({"config": slow})).await;
    assert_eq!(health["health"]["metadata"]["outbox_queued"], "1");
    let told = host
        .ask("configure", json!({"config": pacing(json!({}))}))
        .await;
    let changed = told["configuration"]["metadata"]["changed"].as_str();
    assert!(
        changed.is_some_and(|keys| keys.contains("pacing")),
        "{told}"
    );
    anna.wait_text("three").await.expect("at once");
    assert_eq!(arrivals(&world).len(), 3);
}

/// For what waits and for what comes, whatever the configuration of the call says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloaded_limits_hold_at_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut slow = pacing(json!({"account_per_minute": 1, "account_burst": 1}));
    slow["send_timeout_secs"] = json!(1);
    slow["deliver_errors"] = json!("degrade");
    let mut fast = slow.clone();
    fast["pacing"] = common::unhurried();
    let reload = async |config: &Value| {
        let file = world.home.path().join("config.json");
        std::fs::write(&file, config.to_string()).expect("write");
        let mut reload = world.command();
        reload.args(["reload", "--config", file.to_str().expect("path")]);
        assert!(reload.status().await.expect("reload").success());
    };
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": slow})).await;
    online(&world).await;
    let mut push = async |text: &str| {
        let answer = host.ask("push", to(&anna, &fast, text)).await;
        answer["delivery"]["metadata"]["delivery_state"].clone()
    };
    assert_eq!(push("one").await, "sent");
    assert_eq!(push("two").await, "queued");
    reload(&fast).await;
    anna.wait_text("two").await.expect("at once");
    assert_eq!(push("three").await, "sent");
    reload(&slow).await;
    assert_eq!(push("four").await, "queued", "a minute from the first");
    assert_eq!(arrivals(&world).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_strangers_are_written_to() {
    let world = World::linked().await;
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    let cleo = world.person("Cleo").await;
    let config = pacing(json!({"strangers_per_day": 1}));
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let metadata = writes(&world, &anna, &mut host).await;
    host.ask("push", to(&bob, &config, "one")).await;
    host.send(&request("push", to(&cleo, &config, "too many")))
        .await;
    let refused = host.answer().await;
    assert_eq!(code(&refused), "rate_limited");
    let day = 24 * 3600 * 1000;
    let after = retry_after(&refused);
    assert!(after <= day && after > day - 60_000, "{after}");
    // Who has been written to, and who wrote, are no strangers.
    host.ask("push", to(&bob, &config, "again")).await;
    let reply = json!({"config": config, "message": message("an answer", metadata)});
    let answered = host.ask("deliver", reply).await;
    assert_eq!(answered["delivery"]["metadata"]["delivery_state"], "sent");
    let health = host.ask("health", json!({"config": config})).await;
    assert_eq!(health["health"]["metadata"]["strangers_left"], "0");
    host.end();
    assert!(host.exit().await.success());
    // Another process knows of it; who asked for degraded answers is told when it goes, or that it would have expired.
    let mut degrade = config.clone();
    degrade["deliver_errors"] = json!("degrade");
    for (ttl, state, error) in [
        (3600, "rejected", json!("rate_limited")),
        (2 * 24 * 3600, "queued", Value::Null),
    ] {
        degrade["queue_ttl_secs"] = json!(ttl);
        let result = world.ok("push", to(&cleo, &degrade, state)).await;
        let metadata = &result["delivery"]["metadata"];
        assert_eq!(metadata["delivery_state"], state, "{result}");
        assert_eq!(metadata["error_code"], error, "{result}");
        let after: u64 = metadata["retry_after_ms"]
            .as_str()
            .expect("when")
            .parse()
            .expect("number");
        assert!(after <= day && after > day - 60_000, "{after}");
    }
    let health = world.ok("health", json!({"config": config})).await["health"].clone();
    for (key, count) in [("outbox_queued", "1"), ("rejected", "1"), ("expired", "0")] {
        assert_eq!(health["metadata"][key], count, "{key}: {health}");
    }
    let reached: Vec<_> = arrivals(&world).into_iter().map(|(to, _)| to).collect();
    assert_eq!(reached.len(), 3);
}

/// Whom we know by their LID is no stranger by a number that nobody has asked about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_somebody_known_is_no_strangers() {
    let world = World::linked().await;
    let (bob, cleo) = (world.person("Bob").await, world.person("Cleo").await);
    let config = pacing(json!({"strangers_per_day": 1}));
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    let by_lid = json!({"conversation_id": bob.lid().to_string()});
    let first = json!({"config": config, "message": message("by LID", by_lid)});
    host.ask("push", first).await;
    host.ask("push", to(&bob, &config, "by number")).await;
    bob.wait_text("by number").await.expect("arrives");
    host.send(&request("push", to(&cleo, &config, "too many")))
        .await;
    assert_eq!(code(&host.answer().await), "rate_limited");
    assert_eq!(arrivals(&world).len(), 2);
}

/// The stranger waits with a code that the operator can see, though there is no place for the message with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_a_first_message_to_a_stranger() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut config = pacing(json!({"strangers_per_day": 0}));
    config["dm_policy"] = json!("pairing");
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    let asked = anna.text(world.jid(), "may I?").await.expect("text");
    anna.wait_ack(&asked).await.expect("ack");
    let deadline = std::time::Instant::now() + common::PATIENCE;
    loop {
        let mut command = world.command();
        command
            .args(["access", "pending"])
            .stdout(std::process::Stdio::piped());
        let output = common::timeout(command.output()).await.expect("output");
        if String::from_utf8_lossy(&output.stdout).contains("Anna") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nobody waits");
    }
    assert!(arrivals(&world).is_empty());
    config["pacing"]["strangers_per_day"] = json!(1);
    host.ask("configure", json!({"config": config})).await;
    eventually("the code comes", || arrivals(&world).len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_ban_nothing_is_tried_and_after_it_all_goes_on() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let config = open();
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    let logins = || world.server.core().counters().logins;
    let before = logins();
    let fault = |expire| Fault::ConnectFailure {
        code: 402,
        times: 1,
        expire,
    };
    world.fault(fault(Some(4))).await;
    world.fault(Fault::DropNow).await;
    let health = loop {
        let health = host.ask("health", json!({"config": config})).await["health"].clone();
        if health["status"] == "banned" {
            break health;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let until = health["metadata"]["banned_until"]
        .as_str()
        .expect("its end");
    let ends: chrono::DateTime<chrono::Utc> = until.parse().expect("a time");
    // Neither this process nor another one tries, and both say how long that holds.
    host.send(&request("push", to(&anna, &config, "never")))
        .await;
    for answer in [
        host.answer().await,
        world.call("deliver", to(&anna, &config, "never")).await,
    ] {
        assert_eq!(code(&answer), "banned");
        assert!(retry_after(&answer) <= 4000, "{answer}");
        assert!(answer["error"].to_string().contains(until), "{answer}");
    }
    let mut doctor = world.command();
    doctor
        .args(["doctor", "--json"])
        .stdout(std::process::Stdio::piped());
    let output = common::timeout(doctor.output()).await.expect("output");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["facts"]["state_until"], until);
    assert!(arrivals(&world).is_empty());
    eventually("connected again", || logins() > before).await;
    assert!(chrono::Utc::now() >= ends, "not before the ban has ended");
    let metadata = writes(&world, &anna, &mut host).await;
    let reply = json!({"config": config, "message": message("back", metadata)});
    host.ask("deliver", reply).await;
    anna.wait_text("back").await.expect("arrives");
    host.end();
    assert!(host.exit().await.success());
    // One whose end is not said holds too, and not for ever.
    let before = logins();
    world.fault(fault(None)).await;
    for _ in 0..2 {
        let answer = world.call("push", to(&anna, &config, "never")).await;
        assert_eq!(code(&answer), "banned");
        assert!(
            (3_500_000..=3_600_000).contains(&retry_after(&answer)),
            "{answer}"
        );
    }
    assert_eq!(logins(), before);
    assert_eq!(arrivals(&world).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_whatsapp_restricts_new_chats_the_others_go_on() {
    let world = World::linked().await;
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    let cleo = world.person("Cleo").await;
    let config = open();
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let metadata = writes(&world, &anna, &mut host).await;
    world.fault(Fault::Restrict { secs: 4 }).await;
    host.send(&request("push", to(&bob, &config, "hello")))
        .await;
    let refused = host.answer().await;
    assert_eq!(code(&refused), "new_chats_restricted");
    let after = retry_after(&refused);
    assert!(after <= 4000, "{refused}");
    let tried = arrivals(&world).len();
    assert_eq!(tried, 1);
    // From now on nobody tries, neither this process nor another one.
    host.send(&request("push", to(&cleo, &config, "hello")))
        .await;
    for answer in [
        host.answer().await,
        world.call("push", to(&bob, &config, "hello")).await,
    ] {
        assert_eq!(code(&answer), "new_chats_restricted", "{answer}");
    }
    assert_eq!(arrivals(&world).len(), tried);
    let reply = json!({"config": config, "message": message("an answer", metadata)});
    let answered = host.ask("deliver", reply).await;
    assert_eq!(answered["delivery"]["metadata"]["delivery_state"], "sent");
    let health = host.ask("health", json!({"config": config})).await["health"].clone();
    let told = &health["metadata"]["new_chats_restricted_until"];
    assert!(told.is_string(), "{health}");
    assert_eq!(
        (&health["ok"], &health["status"]),
        (&json!(true), &json!("ok"))
    );
    let sentence = health["metadata"]["what_to_do"].as_str().expect("sentence");
    assert!(
        sentence.contains(told.as_str().expect("until")),
        "{sentence}"
    );
    tokio::time::sleep(Duration::from_millis(after)).await;
    host.ask("push", to(&cleo, &config, "hello")).await;
    cleo.wait_text("hello").await.expect("arrives");
}

/// The process dies between the refusal and what WhatsApp says of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_not_tried_again_after_a_crash() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "after_refusal");
    let mut dying = Host::new(command);
    dying
        .send(&request("push", to(&anna, &open(), "hello")))
        .await;
    assert!(!dying.exit().await.success());
    let health = world.ok("health", json!({"config": open()})).await["health"].clone();
    for (key, count) in [
        ("outbox_queued", "0"),
        ("outbox_unknown", "0"),
        ("rejected", "1"),
    ] {
        assert_eq!(health["metadata"][key], count, "{key}: {health}");
    }
    assert!(health["metadata"]["new_chats_restricted_until"].is_string());
    // The next process sends what waits, and that is not it.
    let again = world.call("push", to(&anna, &open(), "hello")).await;
    assert_eq!(code(&again), "new_chats_restricted");
    assert_eq!(arrivals(&world).len(), 1);
}

/// The same refusal of an account that is not restricted is about the recipient alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_token_is_no_restriction() {
    let world = World::linked().await;
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    let config = open();
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    online(&world).await;
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    host.send(&request("push", to(&anna, &config, "hello")))
        .await;
    assert_eq!(code(&host.answer().await), "contact_token_missing");
    host.ask("push", to(&bob, &config, "hello")).await;
    // Where WhatsApp does not say which it is, nobody else is tried for a while.
    let xmlns = "w:mex".to_owned();
    world
        .fault(Fault::RefuseIq {
            xmlns,
            code: 500,
            times: u32::MAX,
        })
        .await;
    world
        .fault(Fault::Nack {
            code: 463,
            times: 1,
        })
        .await;
    host.send(&request("push", to(&anna, &config, "once more")))
        .await;
    let refused = host.answer().await;
    assert_eq!(code(&refused), "new_chats_restricted");
    assert!((3_500_000..=3_600_000).contains(&retry_after(&refused)));
}

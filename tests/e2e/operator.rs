//! What an operator can see: logs that name nobody, counters, and how long the phone has been silent; and what nobody can,
//! since it is in no file any more.

use crate::common;

use common::command::{as_json, run, says, verdict};
use common::proxy::Proxy;
use common::{Host, World, eventually, message, open};
use serde_json::{Value, json};

const SECRET: &str = "the colour of the safe is aubergine";
const ANSWER: &str = "and the key is under the mat";
const REFUSED: &str = "let me in said the wolf";

/// A session with everything that is worth a line: texts both ways, in a direct chat and a group, somebody who is
/// refused, refusals of ours, a connection that is lost, and a host that talks nonsense.
async fn scenario(
    world: &World,
    people: &People,
    log: &std::path::Path,
    level: &str,
    format: &str,
) {
    let mut command = world.command();
    command
        .env("CHANNEL_WHATSAPP_LOG", level)
        .env("CHANNEL_WHATSAPP_LOG_FILE", log)
        .env("CHANNEL_WHATSAPP_LOG_FORMAT", format);
    let mut host = Host::new(command);
    let config = json!({
        "allowed_sender_ids": [people.anna.pn().to_string()], "allow_group_messages": true,
        "allowed_conversation_ids": [people.group.to_string()], "group_activation": "all",
        "nonsense": true,
    });
    host.ask("start_ingress", json!({"config": config})).await;
    people.wolf.text(world.jid(), REFUSED).await.expect("sent");
    people
        .anna
        .text(people.group.clone(), SECRET)
        .await
        .expect("sent");
    let event = host.event().await;
    assert!(
        event["message"]["content"]
            .as_str()
            .expect("content")
            .contains(SECRET)
    );
    people.anna.text(world.jid(), SECRET).await.expect("sent");
    let event = host.event().await;
    assert_eq!(event["message"]["content"], SECRET);
    let to = json!({
        "conversation_id": event["conversation"]["id"], "reply_to_message_id": event["message"]["id"],
    });
    let deliver = json!({"config": config, "message": message(ANSWER, to)});
    host.ask("deliver", deliver).await;
    people.anna.wait_text(ANSWER).await.expect("arrives");
    let wolf = json!({"conversation_id": people.wolf.pn().to_string()});
    let push = json!({"config": config, "message": message(ANSWER, wolf)});
    assert_eq!(
        host.ask_refused("push", push).await,
        "unauthorized_destination"
    );
    host.send(&format!("{{\"{SECRET}\": ")).await;
    host.answer().await;
    let logins = || {
        world
            .server
            .core()
            .account(&world.phone)
            .expect("account")
            .devices[0]
            .logins
    };
    let before = logins();
    world.fault(whatsapp_loopback::Fault::DropNow).await;
    eventually("it comes back", || logins() > before).await;
    host.ask("stop_ingress", json!({"config": config})).await;
    host.end();
    assert!(host.exit().await.success());
}

struct People {
    anna: whatsapp_loopback::people::Person,
    wolf: whatsapp_loopback::people::Person,
    group: whatsapp_rust::Jid,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_name_nobody_and_say_nothing_of_what_was_said() {
    let world = World::linked().await;
    let (anna, wolf) = (world.person("Anna").await, world.person("Wolf").await);
    let group = world.group(&anna, "Keys and safes").await;
    let numbers: Vec<String> = [
        world.jid(),
        world.lid(),
        anna.pn(),
        anna.lid(),
        wolf.pn(),
        wolf.lid(),
    ]
    .iter()
    .chain([&group])
    .map(|jid| jid.user.to_string())
    .collect();
    let people = People { anna, wolf, group };
    for (level, format) in [
        ("error", "text"),
        ("warn", "json"),
        ("info", "text"),
        ("info", "json"),
        ("debug", "text"),
        ("trace", "text"),
    ] {
        let log = world.home.path().join(format!("log.{level}.{format}"));
        scenario(&world, &people, &log, level, format).await;
        let lines = std::fs::read_to_string(&log).expect("log");
        for secret in [SECRET, ANSWER, REFUSED, "Keys and safes"] {
            assert!(!lines.contains(secret), "{level}: {secret:?} in\n{lines}");
        }
        if format == "json" {
            let levels = lines
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["level"].clone());
            assert!(levels.into_iter().all(|level| level.is_string()));
        }
        match level {
            "debug" | "trace" => assert!(lines.contains("DEBUG"), "{lines}"),
            _ => {
                assert!(
                    level == "error" || lines.contains("nonsense"),
                    "{level}: {lines}"
                );
                for number in &numbers {
                    assert!(!lines.contains(number), "{level}: {number} in\n{lines}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_and_a_phone_that_goes_silent() {
    let world = World::linked().await;
    let (anna, wolf) = (world.person("Anna").await, world.person("Wolf").await);
    let config = json!({"allowed_sender_ids": [anna.pn().to_string()], "poll_idle_ms": 300});
    for (who, text) in [(&anna, "one"), (&anna, "two"), (&wolf, "three")] {
        who.text(world.jid(), text).await.expect("sent");
    }
    assert_eq!(world.poll(config.clone()).await.len(), 2);
    let to = json!({"conversation_id": anna.pn().to_string()});
    world
        .ok(
            "push",
            json!({"config": config, "message": message("four", to)}),
        )
        .await;
    let health = world.ok("health", json!({"config": {}})).await;
    let told = &health["health"]["metadata"];
    assert_eq!(
        (&told["messages_in"], &told["messages_out"]),
        (&json!("3"), &json!("1")),
        "{told}"
    );
    assert_eq!(told["reconnects"], "0");
    let gates = told["dropped_by_gate"].as_str().expect("gates");
    assert!(gates.contains("dm_policy 1"), "{gates}");
    assert!(
        told["commits"]
            .as_str()
            .expect("commits")
            .parse::<u64>()
            .expect("number")
            > 0
    );
    assert!(told["commit_ms_slowest"].is_string());
    assert_eq!(
        (&told["phone_silent_days"], &told["unlink_in_days"]),
        (&json!("0"), &json!("14"))
    );
    let doctor = doctor(&world).await;
    assert_eq!(
        (&doctor["ok"], &doctor["facts"]["messages_in"]),
        (&json!(true), &json!("3")),
        "{doctor}"
    );

    // The phone was last heard of eleven days ago.
    let silent = now() - 11 * 86_400 - 60;
    let channel = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("open");
    let rows = channel
        .execute(
            "UPDATE meta SET value = ?1 WHERE key = 'phone_seen'",
            [silent.to_string()],
        )
        .expect("update");
    assert_eq!(rows, 1, "linking was a sign of life");
    drop(channel);
    let doctor = self::doctor(&world).await;
    assert_eq!(doctor["ok"], false);
    assert_eq!(
        (
            &doctor["facts"]["phone_silent_days"],
            &doctor["facts"]["unlink_in_days"]
        ),
        (&json!(11), &json!(3))
    );
    assert!(
        doctor["problems"][0]
            .as_str()
            .expect("problem")
            .contains("for 11 days"),
        "{doctor}"
    );
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(
        (&health["health"]["status"], &health["health"]["ok"]),
        (&json!("ok"), &json!(true))
    );
    assert!(
        health["health"]["metadata"]["what_to_do"]
            .as_str()
            .expect("sentence")
            .contains("open WhatsApp on the phone")
    );

    // It writes something itself, which we see as well.
    let core = world.server.core();
    let phone = core.writer(Some(&world.phone), &world.phone, world.device, false);
    phone.expect("writer").write("a note").expect("written");
    assert!(world.poll(config).await.is_empty());
    let doctor = self::doctor(&world).await;
    assert_eq!(doctor["facts"]["phone_silent_days"], 0, "{doctor}");
}

/// A file is fetched over a connection of the command's own, which the server may refuse for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_cannot_be_had_by_a_device_that_may_not_connect() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let picture = common::files::jpeg();
    anna.image(world.jid(), &picture, None)
        .await
        .expect("image");
    let mut config = common::open();
    config["media"] = json!({"download": "none"});
    let events = world.poll(config).await;
    let attachment = &events[0]["message"]["attachments"][0];
    let key = attachment["storage_key"].as_str().expect("key");
    let get = async || {
        run(&world, &["media", "get", key])
            .await
            .expect_err("refused")
    };
    let banned = whatsapp_loopback::Fault::ConnectFailure {
        code: 402,
        times: 1,
        expire: Some(600),
    };
    world.fault(banned).await;
    let reason = get().await;
    assert!(reason.contains("has banned this account"), "{reason}");
    let logins = || {
        let account = world.server.core().account(&world.phone);
        account.expect("account").devices[0].logins
    };
    let before = logins();
    assert_eq!(get().await, reason, "as it was recorded");
    assert_eq!(logins(), before);

    let channel = rusqlite::Connection::open(world.account_dir().join("channel.db")).expect("open");
    channel
        .execute("DELETE FROM meta WHERE key = 'terminal'", [])
        .expect("forgotten");
    drop(channel);
    world
        .server
        .core()
        .revoke_device(&world.phone, world.device);
    let reason = get().await;
    assert!(reason.contains("--link"), "{reason}");
    assert_eq!(get().await, reason, "as it was recorded");
}

/// Whether this text stands in a file of the account, whatever it is for.
fn is_on_disk(world: &World, text: &str) -> bool {
    let files = std::fs::read_dir(world.account_dir()).expect("directory");
    files.into_iter().any(|entry| {
        let path = entry.expect("entry").path();
        // Some come and go, and some are directories.
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

/// Out of the databases and their logs, the library's too, while the session goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_in_no_file() {
    let world = World::linked().await;
    let (anna, wolf) = (world.person("Anna").await, world.person("Wolf").await);
    let bob = world.person("Bob").await;
    let mut config = json!({"dm_policy": "pairing", "allowed_sender_ids": [anna.pn().to_string()]});
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let waits = says(&world, &wolf, REFUSED).await;
    assert_eq!(
        verdict(&world, &waits).await["outcome"],
        "waits_for_approval"
    );
    assert!(is_on_disk(&world, REFUSED), "it waits for who decides");
    let pending = as_json(&world, &["access", "pending", "--json"]).await;
    let code = pending["pending"][0]["code"].as_str().expect("code");
    run(&world, &["access", "deny", code])
        .await
        .expect("denied");

    config["dm_policy"] = json!("deny");
    host.ask("configure", json!({"config": config})).await;
    let refused = says(&world, &bob, ANSWER).await;
    assert_eq!(verdict(&world, &refused).await["rule"], "dm_policy: deny");
    says(&world, &anna, SECRET).await;
    assert_eq!(host.event().await["message"]["content"], SECRET);
    eventually("it is erased", || {
        !is_on_disk(&world, REFUSED) && !is_on_disk(&world, ANSWER)
    })
    .await;
    assert!(is_on_disk(&world, SECRET), "what was let in stays");
}

/// When and why is told of a connection that stood, and not of the attempts to have another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_connection_that_was_lost_is_told() {
    let world = World::linked().await;
    let proxy = Proxy::start(world.server.addr()).await;
    let config = json!({"config": open()});
    let start = async || {
        let mut command = world.command();
        command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
        let mut host = Host::new(command);
        host.ask("start_ingress", config.clone()).await;
        until_told(&mut host, "connected; nothing to do").await;
        host
    };
    let mut host = start().await;
    proxy.down();
    let health = until_told(&mut host, "no connection to").await;
    let lost = health["metadata"]["last_disconnect"].clone();
    assert!(lost.is_string(), "{health}");
    let reason = health["metadata"]["last_disconnect_reason"].clone();
    let told = reason.as_str().expect("a reason");
    assert!(told.contains("the connection was lost"), "{told}");
    host.end();
    assert!(host.exit().await.success());
    let facts = doctor(&world).await["facts"].clone();
    assert_eq!(
        (&facts["reconnects"], &facts["last_disconnect_reason"]),
        (&json!("0"), &reason)
    );

    proxy.up();
    let mut host = start().await;
    assert!(
        world
            .server
            .core()
            .logout_device(&world.phone, world.device)
    );
    assert_eq!(host.exit().await.code(), Some(1));
    let facts = doctor(&world).await["facts"].clone();
    assert_eq!(
        (&facts["reconnects"], &facts["last_disconnect_reason"]),
        (&json!("1"), &json!("logged_out"))
    );
    assert_ne!(facts["last_disconnect"], lost);
}

/// The health of a session, once its connection is said to be in this way.
async fn until_told(host: &mut Host, what: &str) -> Value {
    common::timeout(async {
        loop {
            let answer = host.ask("health", json!({"config": open()})).await;
            let health = &answer["health"];
            if health.to_string().contains(what) {
                return health.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Nobody connects during a ban, nor asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_that_unlink_meets_is_kept() {
    let world = World::linked().await;
    let banned = whatsapp_loopback::Fault::ConnectFailure {
        code: 402,
        times: 1,
        expire: Some(600),
    };
    world.fault(banned).await;
    let unlink = async || {
        let said = run(&world, &["unlink", "--yes"]).await.expect_err("banned");
        let account = world.server.core().account(&world.phone);
        (said, account.expect("account").devices[0].logins)
    };
    let first = unlink().await;
    assert!(first.0.contains("has banned this account"), "{}", first.0);
    assert_eq!(unlink().await, first);
    let told = doctor(&world).await;
    assert_eq!(told["facts"]["state"], "banned", "{told}");
}

/// What waits for the operator is seen by who looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_wait_are_told() {
    let world = World::linked().await;
    let told = doctor(&world).await;
    assert_eq!(told["facts"]["applicants"], 0, "{told}");
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    for stranger in [&anna, &bob] {
        stranger.text(world.jid(), "let me in").await.expect("sent");
    }
    let config = json!({"dm_policy": "pairing", "poll_idle_ms": 300});
    assert!(world.poll(config).await.is_empty());
    let told = doctor(&world).await;
    assert_eq!(
        (&told["facts"]["applicants"], &told["ok"]),
        (&json!(2), &json!(true)),
        "{told}"
    );
    assert!(told["facts"]["oldest_applicant"].is_string());
    let note = told["notes"][0].as_str().expect("a note");
    assert!(
        note.starts_with("2 strangers wait") && note.contains("access pending"),
        "{note}"
    );
    let health = world.ok("health", json!({"config": {}})).await;
    let metadata = &health["health"]["metadata"];
    assert_eq!(metadata["applicants"], "2");
    assert_eq!(metadata["what_to_do"], note, "{metadata}");
    assert_eq!(
        metadata["oldest_applicant"],
        told["facts"]["oldest_applicant"]
    );
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("clock").as_secs() as i64
}

async fn doctor(world: &World) -> Value {
    let mut command = world.command();
    command
        .args(["doctor", "--json"])
        .stdout(std::process::Stdio::piped());
    let output = common::timeout(command.output()).await.expect("run");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

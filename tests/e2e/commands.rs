//! Every command as a process, with what it prints and its exit code held as a snapshot: help, usage errors, an account
//! that is not linked, one that is, one that is in use, and how it is unlinked.

use crate::common;

use std::process::{Output, Stdio};

use common::command::{as_json, says, verdict};
use common::media::{attachment, bytes, send, upload};
use common::{World, open, timeout};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

const COMMANDS: [&str; 18] = [
    "link",
    "unlink",
    "doctor",
    "redeliver",
    "access",
    "access list",
    "access pending",
    "access approve",
    "access deny",
    "access revoke",
    "explain",
    "reload",
    "media",
    "media get",
    "schema",
    "completions",
    "man",
    "--link",
];

async fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = world.command();
    command
        .env("CHANNEL_WHATSAPP_LOG", "error")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    timeout(command.output()).await.expect("run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What a person sees of it.
async fn shown(world: &World, arguments: &[&str]) -> String {
    let output = run(world, arguments).await;
    let code = output.status.code().expect("an exit code");
    let mut shown = format!("$ channel-whatsapp {}\nexit {code}\n", arguments.join(" "));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        for line in text(bytes).lines() {
            shown += format!("{name}: {line}").trim_end();
            shown += "\n";
        }
    }
    shown
}

/// Snapshots without what differs from run to run.
fn alike(world: &World) -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    let home = world.home.path().canonicalize().expect("home");
    settings.add_filter(&regex_of(&home.display().to_string()), "[HOME]");
    settings.add_filter(r"\b999[0-9]{10}\b", "[PHONE]");
    settings.add_filter(r"…[0-9]{2}@", "…[NN]@");
    settings.add_filter(r"\b[0-9]{15}@lid", "[LID]@lid");
    settings.add_filter(
        r"0\.1\.0 \([0-9a-z.+-]+\)|0\.1\.0\+[0-9a-z.-]+",
        "[VERSION]",
    );
    settings.add_filter(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[TIME]");
    settings.add_filter(r"process [0-9]+", "process [PID]");
    // How long the disk takes, and how often it was asked, is not what is held here.
    settings.add_filter(r#"(commit[a-z_ ]*"?[: ]+"?)[0-9.]+"#, "${1}[N]");
    settings.add_filter(r#""(png_data_url|text)":"[^"]+""#, r#""$1":"[CODE]""#);
    settings.add_filter(r#"("expires_in":)[0-9]+"#, "${1}[SECONDS]");
    settings.add_filter(r#"("push_name":)"[^"]+""#, r#"$1"[NAME]""#);
    settings.add_filter(r#"("device_id":)[0-9]+"#, "${1}[DEVICE]");
    settings.add_filter(r"\b[0-9]{15}(:[0-9]+)?@lid", "[LID]@lid");
    settings.add_filter(r"in [0-9]+ ms", "in [N] ms");
    settings.add_filter(r#"(system[": ]+)[a-z]+ [a-z0-9_]+"#, "${1}[SYSTEM]");
    settings.add_filter(r#"(free_bytes":)[0-9]+"#, "${1}[BYTES]");
    settings.add_filter(r"(free +)[0-9.]+ [KMGT]iB", "${1}[SIZE]");
    settings.add_filter(r"\([0-9]+ [a-z]+ ago\)|\(now\)", "([AGO])");
    settings.add_filter(
        r"ws://127\.0\.0\.1:[0-9]+\S*|127\.0\.0\.1:[0-9]+",
        "[SERVER]",
    );
    settings.bind_to_scope()
}

fn regex_of(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_string()
            } else {
                format!("\\{c}")
            }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_usage_and_an_account_that_is_not_linked() {
    let world = World::unlinked().await;
    let _alike = alike(&world);
    let mut help = shown(&world, &["--help"]).await;
    for command in COMMANDS {
        let line: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let one = shown(&world, &line).await;
        assert!(one.contains("Example"), "{one}");
        help += &one;
    }
    insta::assert_snapshot!("help", help);

    let mut usage = String::new();
    for line in [
        &["serve"][..],
        &["--account", "work"],
        &["link", "--account", "../x"],
        &["link", "--pair-code", "0171 1234567"],
        &["link", "--timeout", "0"],
        &["doctor", "--sqlite-store-path", "x.db"],
        &["access"],
        &["access", "approve"],
        &["explain"],
        &["reload"],
        &["schema"],
        &["schema", "nonsense"],
        &["completions", "nonsense"],
        &["unlink"],
        &["unlink", "--nonsense"],
    ] {
        let one = shown(&world, line).await;
        assert!(one.contains("\nexit 2\n"), "{one}");
        usage += &one;
    }
    insta::assert_snapshot!("usage", usage);

    let mut unlinked = String::new();
    for line in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["doctor", "--repair"],
        &["redeliver"],
        &["unlink", "--yes"],
        &["link", "--timeout", "1", "--json", "--account", "nobody"],
    ] {
        let one = shown(&world, line).await;
        assert!(one.contains("\nexit 1\n"), "{one}");
        unlinked += &one;
    }
    insta::assert_snapshot!("not_linked", unlinked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linked_in_use_and_unlinked() {
    let world = World::linked().await;
    let _alike = alike(&world);
    let devices = || {
        world
            .server
            .core()
            .account(&world.phone)
            .expect("account")
            .devices
            .len()
    };
    assert_eq!(devices(), 1);

    let mut linked = String::new();
    for line in [
        &["doctor"][..],
        &["doctor", "--connect"],
        &["doctor", "--json"],
        &["link"],
        &["redeliver"],
        &["access", "list"],
        &["access", "pending"],
        &["access", "approve", "ABCD2345"],
        &["explain", "3EB0C767D0"],
    ] {
        linked += &shown(&world, line).await;
    }
    insta::assert_snapshot!("linked", linked);

    let mut host = world.host();
    host.ask("start_ingress", json!({"config": open()})).await;
    let mut in_use = String::new();
    for line in [
        &["doctor"][..],
        &["unlink", "--yes"],
        &["unlink", "--yes", "--local-only"],
        &["link"],
    ] {
        in_use += &shown(&world, line).await;
    }
    insta::assert_snapshot!("in_use", in_use);
    host.end();
    host.exit().await;

    let gone = run_elsewhere(&world, &["unlink", "--yes"]).await;
    assert_eq!(gone.status.code(), Some(1), "nobody was told");
    assert!(text(&gone.stderr).contains("unreachable"), "{gone:?}");
    assert!(world.account_dir().join("store.db").is_file() && devices() == 1);

    // Of a device before it, and of a file that was repaired; and somebody else's.
    let others = [
        "store.db.aside-1",
        "store.db.aside-1-wal",
        "channel.db.damaged-2",
        "store.db.old",
    ];
    for name in others {
        std::fs::write(world.account_dir().join(name), "").expect("write");
    }
    let unlinked = shown(&world, &["unlink", "--yes"]).await;
    assert_eq!(devices(), 0, "{unlinked}");
    let mut left: Vec<_> = std::fs::read_dir(world.account_dir())
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["lock", "store.db.old"]);
    let health = world.ok("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "not_linked");
    insta::assert_snapshot!("unlinked", unlinked);

    let summary = world.link(&[]).await;
    let phone = common::phone_of(&summary);
    let channel = world.account_dir().join("channel.db");
    let approval = |verb: &str| {
        let store = rusqlite::Connection::open(&channel).expect("channel.db");
        let rows = store.execute(verb, []).expect("approval");
        assert_eq!(rows, 1, "{verb}");
    };
    approval(
        "INSERT INTO approval VALUES ('15550100@s.whatsapp.net', '15550100@s.whatsapp.net', 1)",
    );
    let keep = ["unlink", "--yes", "--local-only", "--keep-access"];
    let forgotten = run_elsewhere(&world, &keep).await;
    assert!(forgotten.status.success(), "{forgotten:?}");
    let devices = world
        .server
        .core()
        .account(&phone)
        .expect("account")
        .devices;
    assert_eq!(devices.len(), 1, "WhatsApp was not told");
    assert!(!world.account_dir().join("store.db").exists());
    approval("UPDATE approval SET at = at + 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_wait_and_settings_that_change() {
    let world = World::linked().await;
    let _alike = alike(&world);
    let mut host = world.host();
    let config = json!({"dm_policy": "pairing"});
    host.ask("start_ingress", json!({"config": config})).await;
    let mut waiting = Vec::new();
    for name in ["Anna", "Bob"] {
        let person = world.person(name).await;
        let id = says(&world, &person, "let me in").await;
        verdict(&world, &id).await;
        let pending = as_json(&world, &["access", "pending", "--json"]).await;
        let all = pending["pending"].as_array().expect("pending");
        let waits = all.iter().find(|waits| waits["name"] == name);
        let code = waits.expect("waits")["code"].as_str().expect("code");
        waiting.push((person.phone().to_owned(), id, code.to_owned()));
    }
    let [(anna, first, annas), (_, second, bobs)] = waiting.as_slice() else {
        panic!("two");
    };
    let file = world.home.path().join("settings.json");
    std::fs::write(&file, json!({"dm_policy": "open"}).to_string()).expect("write");
    let settings = file.to_str().expect("path");
    let mut told = String::new();
    for line in [
        &["access", "pending"][..],
        &["explain", first],
        &["access", "approve", annas],
        &["access", "list"],
        &["access", "deny", bobs],
        &["explain", "--json", second],
        &["access", "revoke", &format!("+{anna}")],
        &["reload", "--config", settings],
        &["reload", "--config", settings],
    ] {
        told += &shown(&world, line).await;
    }
    for (said, name) in [
        (first, "[FIRST]"),
        (second, "[SECOND]"),
        (annas, "[ANNAS CODE]"),
        (bobs, "[BOBS CODE]"),
    ] {
        told = told.replace(said.as_str(), name);
    }
    insta::assert_snapshot!("strangers", told);
    host.end();
    host.exit().await;
}

/// Where nobody answers.
async fn run_elsewhere(world: &World, arguments: &[&str]) -> Output {
    let mut command = world.command();
    command
        .env("CHANNEL_WHATSAPP_WS_URL", "ws://127.0.0.1:9/ws/chat")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    timeout(command.output()).await.expect("run")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_generated_names_every_command() {
    let world = World::unlinked().await;
    let man = text(&run(&world, &["man"]).await.stdout);
    for command in COMMANDS.iter().filter(|command| !command.starts_with('-')) {
        let heading = format!(".SH \"CHANNEL-WHATSAPP {}\"", command.to_uppercase());
        assert!(man.contains(&heading), "{command}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&world, &["completions", shell]).await;
        let script = text(&output.stdout);
        assert!(
            output.status.success()
                && script.contains("redeliver")
                && script.contains("local-only"),
            "{shell}"
        );
    }
    let _alike = alike(&world);
    for (what, key) in [("message", "quote"), ("config", "dm_policy")] {
        let output = run(&world, &["schema", what]).await;
        let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(schema["properties"][key].is_object(), "{schema}");
        insta::assert_snapshot!(format!("schema_{what}"), text(&output.stdout));
    }
    insta::assert_snapshot!("man", man);
    let fish = run(&world, &["completions", "fish"]).await;
    insta::assert_snapshot!("completions_fish", text(&fish.stdout));
}

/// Each line of a link that succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_as_a_program_sees_it() {
    let world = World::unlinked().await;
    let _alike = alike(&world);
    let mut child = world
        .command()
        .args(["--link", "--json", "--timeout", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut told = String::new();
    while let Some(line) = timeout(stdout.next_line()).await.expect("read") {
        let event: Value = serde_json::from_str(&line).expect("JSON");
        if event["event"] == "qr" {
            let code = event["text"].as_str().expect("text");
            world.server.core().scan_qr(code, None).expect("it pairs");
        }
        told += &line;
        told += "\n";
    }
    assert!(timeout(child.wait()).await.expect("wait").success());
    insta::assert_snapshot!("link", told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_what_is_fetched_and_what_is_wrong() {
    let world = World::linked().await;
    let _alike = alike(&world);
    let anna = world.person("Anna").await;
    send(&anna, &world, &upload(&anna, &bytes(1, 20_000)).await).await;
    let events = world.poll(open()).await;
    let event = events[0]["event_id"].as_str().expect("id");
    let key = attachment(&events[0])["storage_key"].as_str().expect("key");
    let file = world.home.path().join("picture.jpg");
    let file = file.to_str().expect("path");
    let channel = rusqlite::Connection::open(world.account_dir().join("channel.db"));
    let channel = channel.expect("channel.db");
    // As if a host had ended without a word.
    let unconfirmed = channel.execute("UPDATE inbox SET state = 4", []);
    assert_eq!(unconfirmed, Ok(1));
    let mut told = String::new();
    for line in [
        &["redeliver"][..],
        &["redeliver", event],
        &["redeliver", event],
        &["redeliver", "whatsapp:of:nobody"],
        &["media", "get", key, "-o", file],
        &["media", "get", key, "-o", file],
        &["media", "get", "wa-media:of:nobody"],
    ] {
        told += &shown(&world, line).await;
    }
    let silent = "UPDATE meta SET value = value - 12 * 24 * 3600 WHERE key = 'phone_seen'";
    let changed = channel.execute(silent, []);
    assert_eq!(changed, Ok(1));
    told += &shown(&world, &["doctor"]).await;
    let told = told.replace(event, "[EVENT]").replace(key, "[KEY]");
    insta::assert_snapshot!("sent_again", told);
}

//! Downloads under attack: chats that take all they can get, senders that lie, phones that are off, disks that fill.

use crate::common;

use std::time::{Duration, Instant};

use common::disk::Disk;
use common::media::{
    attachment, bytes, channel, config, extra, file, files, get, image, picture, send, start,
    upload,
};
use common::{World, eventually};
use serde_json::{Value, json};
use wacore::download::MediaType;
use waproto::whatsapp as wa;
use whatsapp_loopback::people::Person;

/// The event of this message, whatever comes before.
async fn event_of(host: &mut common::Host, id: &str) -> Value {
    loop {
        let event = host.event().await;
        if event["message"]["id"] == id {
            return event;
        }
    }
}

/// Sends a small picture and waits for its event; it has to be in time, and its file with it.
async fn arrives_in_time(host: &mut common::Host, world: &World, person: &Person, seed: u64) {
    let content = bytes(seed, 20_000);
    let image = upload(person, &content).await;
    let begun = Instant::now();
    let id = send(person, world, &image).await;
    let event = event_of(host, &id).await;
    let waited = begun.elapsed();
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    assert!(std::fs::read(file(attachment(&event))).expect("file") == content);
    assert!(waited < Duration::from_millis(2500), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_with_many_slow_files_delay_no_other() {
    let world = World::linked().await;
    let media = &world.server.core().media;
    let clara = world.person("Clara").await;
    let mut host = start(&world, json!({})).await;
    for (name, seed) in [("Anna", 100), ("Ben", 200)] {
        let person = world.person(name).await;
        for nth in 0..25 {
            let slow = upload(&person, &bytes(seed + nth, 100_000)).await;
            media.slow_down_one(slow.direct_path.as_ref().expect("path"), 500);
            send(&person, &world, &slow).await;
        }
    }
    eventually("as many as may are on their way", || {
        files(&world).len() == 4
    })
    .await;
    arrives_in_time(&mut host, &world, &clara, 1).await;
    arrives_in_time(&mut host, &world, &clara, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_does_not_answer_delays_nothing_else() {
    let world = World::linked().await;
    let media = &world.server.core().media;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    media.silence_phone(true);
    let mut asked = Vec::new();
    // More of them than events are looked at in one go.
    for nth in 0..20 {
        let expired = upload(&anna, &bytes(100 + nth, 10_000)).await;
        assert!(media.expire(expired.direct_path.as_ref().expect("path"), 410));
        asked.push(send(&anna, &world, &expired).await);
    }
    let text = anna.text(world.jid(), "well?").await.expect("text");
    let begun = Instant::now();
    for id in asked {
        let event = event_of(&mut host, &id).await;
        assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    }
    // Each waits for its own, not one after the other.
    assert_eq!(host.event().await["message"]["id"], text);
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    // The same chat has places left as well.
    arrives_in_time(&mut host, &world, &anna, 1).await;
}

/// Somebody has removed a kept file: the same content that comes under another ending is kept in its stead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_takes_none_with_it() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 10_000);
    let first = send(&anna, &world, &upload(&anna, &content).await).await;
    let first = event_of(&mut host, &first).await;
    std::fs::remove_file(file(attachment(&first))).expect("removed");
    let other = wa::message::ImageMessage {
        mimetype: Some("image/png".to_owned()),
        ..upload(&anna, &content).await
    };
    let other = send(&anna, &world, &other).await;
    let other = event_of(&mut host, &other).await;
    let at = file(attachment(&other));
    assert!(at.to_string_lossy().ends_with(".png"), "{other}");
    assert!(std::fs::read(at).expect("file") == content);
    let key = attachment(&first)["storage_key"].as_str().expect("key");
    assert!(get(&world, key, &[]).await.expect("media get") == content);
}

/// A sender who says that his file is small: what messages need stays free however large it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_larger_than_it_says_does_not_fill_the_disk() {
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    disk.fill(36 << 20);
    let content = bytes(1, 8 << 20);
    let lying = wa::message::ImageMessage {
        file_length: Some(10),
        ..upload(&anna, &content).await
    };
    let id = send(&anna, &world, &lying).await;
    let mut least = u64::MAX;
    let event = {
        let mut event = std::pin::pin!(event_of(&mut host, &id));
        loop {
            tokio::select! {
                event = &mut event => break event,
                () = tokio::time::sleep(Duration::from_millis(2)) => least = least.min(disk.available()),
            }
        }
    };
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    assert_eq!(extra(&event, "media_error"), "storage_full", "{event}");
    assert!(files(&world).is_empty());
    assert!((30 << 20..36 << 20).contains(&least), "{least} were free");
    let text = anna.text(world.jid(), "still there").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], text);
    disk.free();
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    assert!(get(&world, key, &[]).await.expect("media get") == content);
}

/// While there is no place for anything a few files are tried for all that wait, and what was said of a file is not said again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stays_full_costs_little() {
    let Some(disk) = Disk::new(80) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let logs = tempfile::tempdir().expect("directory");
    let log = logs.path().join("log");
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_LOG", "debug");
    command.env("CHANNEL_WHATSAPP_LOG_FILE", &log);
    let mut host = common::Host::new(command);
    let said = json!({"config": config(json!({}))});
    host.ask("start_ingress", said).await;
    disk.fill(24 << 20);
    let fails = async |host: &mut common::Host, seed| {
        let image = upload(&anna, &bytes(seed, 1000)).await;
        let id = send(&anna, &world, &image).await;
        let event = event_of(host, &id).await;
        assert_eq!(extra(&event, "media_error"), "storage_full", "{event}");
    };
    for seed in 0..8 {
        fails(&mut host, seed).await;
    }
    let told = |what: &str| {
        let log = std::fs::read_to_string(&log).expect("log");
        log.lines().filter(|line| line.contains(what)).count()
    };
    let (of_each, again) = ("WARN", "media not fetched, as before");
    let first = told(of_each);
    assert_eq!(told("media not fetched"), 8);
    // As if a minute had gone by, twice.
    for seed in [10, 11] {
        let due = "UPDATE attachment SET next = 0";
        channel(&world).execute_batch(due).expect("update");
        fails(&mut host, seed).await;
    }
    assert!(told(of_each) <= first + 2, "{} warnings", told(of_each));
    assert!((1..=4).contains(&told(again)), "{} tried", told(again));
    disk.free();
    let due = "UPDATE attachment SET next = 0";
    channel(&world).execute_batch(due).expect("update");
    send(&anna, &world, &upload(&anna, &bytes(12, 1000)).await).await;
    eventually("all are there", || files(&world).len() == 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_under_a_download_has_nothing_left_of_it() {
    let Some(disk) = Disk::new(80) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 600_000);
    let upload = anna
        .upload(&content, MediaType::Image)
        .await
        .expect("upload");
    let media = &world.server.core().media;
    media.slow_down_one(&upload.direct_path, 200_000);
    let id = send(&anna, &world, &image(&upload)).await;
    let begun = || {
        let all = files(&world);
        all.iter()
            .any(|part| part.metadata().is_ok_and(|part| part.len() > 0))
    };
    eventually("a part", begun).await;
    disk.fill(0);
    eventually("nothing is left", || files(&world).is_empty()).await;
    media.clear_faults();
    disk.free();
    let event = event_of(&mut host, &id).await;
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    // Whoever has the connection sees in its own time that there is space again.
    let begun = Instant::now();
    let got = loop {
        match get(&world, key, &[]).await {
            Ok(got) => break got,
            Err(said) => assert!(begun.elapsed() < common::PATIENCE, "{said}"),
        }
    };
    assert!(got == content);
    assert_eq!(files(&world).len(), 1);
}

/// A disk that fails in the middle of a file is told from a network that does. Here it takes no file of more than 6 MiB.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_is_named() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let plain = world.command();
    let mut command = tokio::process::Command::new("sh");
    // Without its signal what is too large is an error.
    command.args(["-c", "trap '' XFSZ; exec \"$0\""]);
    command.arg(plain.as_std().get_program());
    let set = plain.as_std().get_envs();
    command.envs(set.filter_map(|(key, value)| Some((key, value?))));
    command.stderr(world.discreet.stderr()).kill_on_drop(true);
    let mut host = common::Host::new(command);
    let params = json!({"config": config(json!({}))});
    host.ask("start_ingress", params).await;
    let process = host.child.id().and_then(|id| Pid::from_raw(id as i32));
    let most = getrlimit(Resource::Fsize);
    let limit = |current| {
        let limit = Rlimit { current, ..most };
        prlimit(process, Resource::Fsize, limit).expect("prlimit");
    };
    limit(Some(6 << 20));
    let content = bytes(1, 7 << 20);
    let id = send(&anna, &world, &upload(&anna, &content).await).await;
    let event = event_of(&mut host, &id).await;
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    assert_eq!(extra(&event, "media_error"), "disk_failed", "{event}");
    assert!(files(&world).is_empty());
    limit(most.current);
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    assert!(get(&world, key, &[]).await.expect("media get") == content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_goes_oldest_first_once_it_was_handled_and_can_be_had_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut state = Value::Null;
    let mut keys = Vec::new();
    for seed in 1..=3 {
        send(&anna, &world, &upload(&anna, &bytes(seed, 20_000)).await).await;
        let params = json!({"config": config(json!({"max_total_bytes": 50_000})), "state": state});
        let result = world.ok("poll_ingress", params).await;
        let event = &result["events"][0];
        assert_eq!(extra(event, "media_state"), "stored", "{event}");
        let key = attachment(event)["storage_key"].as_str().expect("key");
        keys.push((key.to_owned(), file(attachment(event))));
        state = result["state"].clone();
    }
    // Each poll looks when it begins, also one that fetches nothing.
    let params = json!({"config": config(json!({"max_total_bytes": 50_000})), "state": state});
    world.ok("poll_ingress", params).await;
    let here: Vec<bool> = keys.iter().map(|(_, path)| path.is_file()).collect();
    assert_eq!(here, [false, true, true]);
    assert!(get(&world, &keys[0].0, &[]).await.expect("media get") == bytes(1, 20_000));
}

/// What was to be asked for when the store could not note it is asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_for_in_vain_is_asked_for_again() {
    let world = World::linked().await;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    let mut host = start(&world, json!({})).await;
    let store = channel(&world);
    let refuse =
        "CREATE TRIGGER refused BEFORE UPDATE ON attachment WHEN OLD.state = 0 AND NEW.state = 1
                  BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END";
    store.execute_batch(refuse).expect("trigger");
    let id = send(&anna, &world, &upload(&anna, &bytes(1, 10_000)).await).await;
    let waits = "SELECT count(*) FROM inbox WHERE state = 0";
    let waits = || store.query_row(waits, [], |row| row.get(0)) == Ok(1);
    eventually("it is in the inbox", waits).await;
    // By the time that this is told, the picture was looked at.
    let other = ben.text(world.jid(), "hello").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], other);
    store
        .execute_batch("DROP TRIGGER refused")
        .expect("dropped");
    anna.text(world.jid(), "well?").await.expect("text");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
}

/// Who polls has a connection for a moment at a time. What comes is waited for; what never comes whole is not begun for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_stays_for_what_comes_and_begins_nothing_for_ever() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let content = bytes(1, 120_000);
    let image = upload(&anna, &content).await;
    media.slow_down_one(image.direct_path.as_ref().expect("path"), 30_000);
    send(&anna, &world, &image).await;
    let mut hasty = config(json!({}));
    hasty["poll_timeout_secs"] = json!(2);
    let events = world.poll(hasty.clone()).await;
    assert_eq!(extra(&events[0], "media_error"), "pending", "{events:?}");
    let key = attachment(&events[0])["storage_key"].as_str().expect("key");
    let attempts = || -> i64 {
        let attempts = "SELECT attempts FROM attachment";
        let row = channel(&world).query_row(attempts, [], |row| row.get(0));
        row.expect("attachment")
    };
    assert_eq!((attempts(), media.served().1), (1, 1));
    // This one has the time that it takes, which is more than an event would wait.
    assert!(world.poll(config(json!({}))).await.is_empty());
    assert!(std::fs::read(&files(&world)[0]).expect("file") == content);
    // Had every poll been too short:
    let often = "UPDATE attachment SET state = 1, attempts = 10; DELETE FROM media";
    channel(&world).execute_batch(often).expect("update");
    world.poll(hasty).await;
    assert_eq!(media.served().1, 2);
    media.clear_faults();
    assert!(get(&world, key, &[]).await.expect("media get") == content);
}

/// The phone is asked for one file of a chat at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_chat_lacks_holds_up_no_other() {
    let world = World::linked().await;
    let media = &world.server.core().media;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    let mut host = start(&world, json!({})).await;
    let expired = async |person: &Person, seed| {
        let image = upload(person, &bytes(seed, 10_000)).await;
        assert!(media.expire(image.direct_path.as_ref().expect("path"), 410));
        image
    };
    media.silence_phone(true);
    for seed in 0..6 {
        send(&anna, &world, &expired(&anna, 100 + seed).await).await;
    }
    for _ in 0..6 {
        let event = host.event().await;
        assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    }
    assert_eq!(media.missed(), 1);
    media.silence_phone(false);
    let image = expired(&ben, 1).await;
    let (key, path) = (image.media_key.as_ref(), image.direct_path.as_ref());
    media.phone_keeps("3EB0BEN", key.expect("key"), path.expect("path"));
    let sent = ben.send_as("3EB0BEN", world.jid(), picture(image)).await;
    sent.expect("picture");
    let event = event_of(&mut host, "3EB0BEN").await;
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
}

/// Of two files that do not fit beside each other, by what their senders say, one is fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_file_was_promised_of_the_disk_no_other_gets() {
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    let mut host = start(&world, json!({})).await;
    disk.fill(44 << 20);
    let large = async |person: &Person, seed| wa::message::ImageMessage {
        file_length: Some(8 << 20),
        ..upload(person, &bytes(seed, 60_000)).await
    };
    let (first, second) = (large(&anna, 1).await, large(&ben, 2).await);
    let media = &world.server.core().media;
    media.slow_down_one(first.direct_path.as_ref().expect("path"), 30_000);
    let first = send(&anna, &world, &first).await;
    let comes = || files(&world).len() == 1;
    eventually("the first comes", comes).await;
    let second = send(&ben, &world, &second).await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], second, "{event}");
    assert_eq!(extra(&event, "media_error"), "storage_full", "{event}");
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    let event = host.event().await;
    assert_eq!(event["message"]["id"], first, "{event}");
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    // It was less than its sender said.
    assert!(get(&world, key, &[]).await.expect("media get") == bytes(2, 60_000));
}

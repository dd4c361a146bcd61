//! Media that people send: fetched, verified, kept, told of, whatever happens on the way.

use crate::common;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::disk::Disk;
use common::media::{
    THUMBNAIL, attachment, bytes, clip, config, document, extra, file, files, get, picture,
    room_for_large, send, start, upload,
};
use common::{World, eventually, message};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wacore::download::MediaType;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_loopback::media::MediaOp;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_slow_holds_up_its_own_chat_alone_and_comes_later() {
    let world = World::linked().await;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    let mut host = start(&world, json!({})).await;
    let (large, small) = (bytes(1, 200_000), bytes(2, 20_000));
    let slow = upload(&anna, &large).await;
    let path = slow.direct_path.clone().expect("path");
    // Five seconds: more than an event waits.
    world.server.core().media.slow_down_one(&path, 40_000);
    let begun = Instant::now();
    let picture = send(&anna, &world, &slow).await;
    let after = anna.text(world.jid(), "after it").await.expect("text");
    anna.wait_ack(&after).await.expect("ack");
    let quick = send(&ben, &world, &upload(&ben, &small).await).await;
    let first = host.event().await;
    assert_eq!(first["message"]["id"], quick, "{first}");
    assert_eq!(extra(&first, "media_state"), "stored");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_millis(2500), "{waited:?}");
    let second = host.event().await;
    let waited = begun.elapsed();
    assert_eq!(second["message"]["id"], picture, "{second}");
    assert_eq!(extra(&second, "media_state"), "pending");
    assert_eq!(extra(&second, "media_error"), "pending");
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert_eq!(host.event().await["message"]["id"], after);
    // The owner has it under way: whoever asks for it waits for that.
    let key = attachment(&second)["storage_key"]
        .as_str()
        .expect("key")
        .to_owned();
    assert!(get(&world, &key, &[]).await.expect("media get") == large);
    // In the store now: nobody is asked.
    host.kill().await;
    assert!(get(&world, &key, &[]).await.expect("media get") == large);
    let out = world.home.path().join("out.jpg");
    let out = out.to_str().expect("path");
    assert_eq!(get(&world, &key, &["-o", out]).await, Ok(Vec::new()));
    assert!(std::fs::read(out).expect("out") == large);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(out).expect("out").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // Changed on the disk, it is fetched again, and nothing else is given out.
    let kept = files(&world);
    let kept = kept
        .iter()
        .find(|path| std::fs::read(path).expect("file") == large);
    let kept = kept.expect("the large one");
    std::fs::remove_file(kept).expect("remove");
    std::fs::write(kept, "forged").expect("write");
    assert!(get(&world, &key, &[]).await.expect("media get") == large);
    let (store, token) = key.rsplit_once(':').expect("key");
    for (wrong, why) in [
        ("../../store.db".to_owned(), "no storage key"),
        (format!("{store}:{}", "0".repeat(32)), "no message"),
        (
            format!("wa-media:0123456789abcdef:{token}"),
            "another account",
        ),
    ] {
        let said = get(&world, &wrong, &[]).await.expect_err(&wrong);
        assert!(said.contains(why), "{wrong}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_fetched_is_named_with_its_reason() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let mut host = start(&world, json!({"max_bytes": 50_000})).await;
    let mut sent = HashMap::new();
    // Two that have expired; the phone has one of them.
    for (seed, kept) in [(1, true), (2, false)] {
        let content = bytes(seed, 10_000);
        let expired = upload(&anna, &content).await;
        let path = expired.direct_path.clone().expect("path");
        assert!(media.expire(&path, 410));
        let message = format!("3EB0EXPIRED{seed}");
        if kept {
            media.phone_keeps(&message, expired.media_key.as_ref().expect("key"), &path);
        }
        anna.send_as(&message, world.jid(), picture(expired))
            .await
            .expect("picture");
        sent.insert(message, if kept { "" } else { "expired" });
    }
    // One that says it is large, one that is and does not say so.
    let large = wa::message::ImageMessage {
        jpeg_thumbnail: Some(THUMBNAIL.to_vec()),
        ..upload(&anna, &bytes(3, 60_000)).await
    };
    let seen_small = send(&anna, &world, &large).await;
    sent.insert(seen_small.clone(), "too_large");
    let lying = wa::message::ImageMessage {
        file_length: Some(10),
        ..upload(&anna, &bytes(4, 60_000)).await
    };
    sent.insert(send(&anna, &world, &lying).await, "too_large");
    // One that is another file than it says, and one that does not say which it is.
    let other = wa::message::ImageMessage {
        file_sha256: Some(vec![7; 32]),
        ..upload(&anna, &bytes(5, 1000)).await
    };
    sent.insert(send(&anna, &world, &other).await, "corrupt");
    // What was damaged on its way to the server, and what is encrypted with another key.
    let damaged = upload(&anna, &bytes(11, 10_000)).await;
    let blob = media.blob(damaged.direct_path.as_ref().expect("path"));
    let mut blob = blob.expect("blob").to_vec();
    blob[5000] ^= 1;
    let damaged = wa::message::ImageMessage {
        direct_path: media.publish(blob),
        ..damaged
    };
    sent.insert(send(&anna, &world, &damaged).await, "corrupt");
    let locked = wa::message::ImageMessage {
        media_key: Some(vec![7; 32]),
        ..upload(&anna, &bytes(12, 10_000)).await
    };
    sent.insert(send(&anna, &world, &locked).await, "corrupt");
    let unnamed = wa::message::ImageMessage {
        file_sha256: None,
        ..upload(&anna, &bytes(6, 1000)).await
    };
    sent.insert(send(&anna, &world, &unnamed).await, "incomplete");
    // A path that would lead to another host.
    let elsewhere = wa::message::ImageMessage {
        direct_path: Some("@127.0.0.1:1/x".to_owned()),
        ..upload(&anna, &bytes(7, 1000)).await
    };
    sent.insert(send(&anna, &world, &elsewhere).await, "incomplete");
    let once = wa::message::ImageMessage {
        view_once: Some(true),
        jpeg_thumbnail: Some(THUMBNAIL.to_vec()),
        ..upload(&anna, &bytes(8, 1000)).await
    };
    sent.insert(send(&anna, &world, &once).await, "view_once");
    // A content that is there, claimed by somebody who cannot have it.
    let claimed = wa::message::ImageMessage {
        file_sha256: Some(Sha256::digest(bytes(1, 10_000)).to_vec()),
        ..upload(&anna, &bytes(9, 1000)).await
    };
    for _ in 0..sent.len() {
        let event = host.event().await;
        let id = event["message"]["id"].as_str().expect("id");
        let reason = sent.remove(id).expect("sent");
        assert_eq!(extra(&event, "media_error"), reason, "{event}");
        let state = if reason.is_empty() {
            "stored"
        } else {
            "unavailable"
        };
        assert_eq!(extra(&event, "media_state"), state, "{event}");
        if reason.is_empty() {
            assert!(std::fs::read(file(attachment(&event))).expect("file") == bytes(1, 10_000));
        }
        let thumbnail = if id == seen_small { "/9j/4A==" } else { "" };
        assert_eq!(extra(&event, "thumbnail_jpeg_base64"), thumbnail, "{event}");
    }
    assert_eq!(media.uploaded_again(), 1);
    // The one that came; and once each what was not as large, or not the file, that its message says.
    assert_eq!(media.served().1, 5);
    send(&anna, &world, &claimed).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "corrupt", "{event}");
    assert_eq!(attachment(&event)["url"], Value::Null);
    assert_eq!(files(&world).len(), 1);
    // A host that wants none.
    let config = config(json!({"download": "none"}));
    host.ask("configure", json!({"config": config})).await;
    send(&anna, &world, &upload(&anna, &bytes(10, 1000)).await).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "not_downloaded", "{event}");
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    assert!(get(&world, key, &[]).await.expect("media get") == bytes(10, 1000));
    // What a small picture of it is worth, it has with it.
    let film = anna.upload(&bytes(13, 1000), MediaType::Video).await;
    let paper = anna.upload(&bytes(14, 1000), MediaType::Document).await;
    let (film, paper) = (film.expect("upload"), paper.expect("upload"));
    let mut large = THUMBNAIL.to_vec();
    large.resize((16 << 10) + 1, 0);
    for (jpeg, thumbnail) in [(THUMBNAIL.to_vec(), "/9j/4A=="), (large, "")] {
        let film = wa::message::VideoMessage {
            jpeg_thumbnail: Some(jpeg.clone()),
            ..clip(&film)
        };
        let paper = wa::message::DocumentMessage {
            jpeg_thumbnail: Some(jpeg),
            ..document(&paper)
        };
        for message in [
            wa::Message {
                video_message: MessageField::some(film),
                ..Default::default()
            },
            wa::Message {
                document_message: MessageField::some(paper),
                ..Default::default()
            },
        ] {
            anna.send(world.jid(), message).await.expect("send");
            let event = host.event().await;
            assert_eq!(extra(&event, "thumbnail_jpeg_base64"), thumbnail, "{event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_of_a_claim_leads_to_nobody_else_s_file() {
    let world = World::linked().await;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    let mut host = start(&world, json!({})).await;
    let secret = bytes(1, 10_000);
    let theirs = upload(&anna, &secret).await;
    send(&anna, &world, &theirs).await;
    let first = host.event().await;
    assert_eq!(extra(&first, "media_state"), "stored", "{first}");
    // Ben knows the hash of the file, where it is, and what it is encrypted to, and not its key.
    let own = upload(&ben, &bytes(2, 10_000)).await;
    let claims = [
        wa::message::ImageMessage {
            file_sha256: theirs.file_sha256.clone(),
            ..own.clone()
        },
        wa::message::ImageMessage {
            media_key: own.media_key.clone(),
            ..theirs.clone()
        },
        wa::message::ImageMessage {
            media_key: None,
            ..theirs.clone()
        },
    ];
    let to_ben = ben.pn().to_string();
    let pushed = |key: &Value| {
        let file = json!({"name": "", "mime_type": "", "storage_key": key});
        let mut message = message("here", json!({"conversation_id": to_ben}));
        message["attachments"] = json!([file]);
        json!({"config": config(json!({})), "message": message})
    };
    for claim in claims {
        send(&ben, &world, &claim).await;
        let event = host.event().await;
        assert_ne!(extra(&event, "media_state"), "stored", "{event}");
        let key = &attachment(&event)["storage_key"];
        if let Some(key) = key.as_str() {
            let said = get(&world, key, &["--timeout", "2"]).await;
            assert!(said.is_err(), "somebody else's file");
        }
        let refused = host.ask_refused("push", pushed(key)).await;
        assert!(
            refused == "attachment_not_here" || refused == "invalid_attachment",
            "{refused}"
        );
    }
    // Who passes the very same file on had it, and its key needs no second download.
    world
        .server
        .core()
        .media
        .expire(theirs.direct_path.as_ref().expect("path"), 410);
    send(&ben, &world, &theirs).await;
    let event = host.event().await;
    let (forwarded, own) = (
        attachment(&event)["storage_key"].as_str().expect("key"),
        attachment(&first)["storage_key"].as_str().expect("key"),
    );
    assert_ne!(forwarded, own);
    for key in [forwarded, own] {
        assert!(get(&world, key, &[]).await.expect("media get") == secret);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_cut_leaves_nothing_and_is_made_up_for() {
    const CUTS: [u64; 6] = [0, 1, 9, 10, 4096, 30_000];
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let mut host = start(&world, json!({})).await;
    let mut sent = HashMap::new();
    for (nth, after) in CUTS.into_iter().enumerate() {
        let content = bytes(nth as u64, 30_001);
        let image = upload(&anna, &content).await;
        // The second attempt comes while the event still waits.
        media.cut(MediaOp::Download, after, 1);
        sent.insert(send(&anna, &world, &image).await, content);
        eventually("cut", || media.cuts_left() == 0).await;
    }
    eventually("all are there", || files(&world).len() == CUTS.len()).await;
    for _ in 0..CUTS.len() {
        let event = host.event().await;
        let id = event["message"]["id"].as_str().expect("id");
        let content = sent.remove(id).expect("sent");
        // On a busy machine the second attempt may come too late for the event.
        let bytes = match extra(&event, "media_state") {
            "stored" => std::fs::read(file(attachment(&event))).expect("file"),
            _ => {
                let key = attachment(&event)["storage_key"].as_str().expect("key");
                get(&world, key, &[]).await.expect("media get")
            }
        };
        assert!(bytes == content);
    }
    // Cut again and again: the event says so, and there is not a byte of it.
    let image = upload(&anna, &bytes(9, 30_001)).await;
    media.cut(MediaOp::Download, 20_000, 50);
    send(&anna, &world, &image).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    assert_eq!(extra(&event, "media_error"), "download_failed", "{event}");
    eventually("nothing of it", || files(&world).len() == CUTS.len()).await;
    media.clear_faults();
    eventually("it comes later", || files(&world).len() == CUTS.len() + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_is_made_up_for() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 300_000);
    let image = upload(&anna, &content).await;
    media.slow_down_one(image.direct_path.as_ref().expect("path"), 20_000);
    let id = send(&anna, &world, &image).await;
    eventually("a part", || files(&world).len() == 1).await;
    host.kill().await;
    let left = files(&world);
    assert!(
        left[0]
            .parent()
            .is_some_and(|folder| folder.ends_with("part")),
        "{left:?}"
    );
    media.clear_faults();
    let mut host = start(&world, json!({})).await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    assert!(std::fs::read(file(attachment(&event))).expect("file") == content);
    assert_eq!(files(&world).len(), 1);
    host.kill().await;
    // Somebody removes what an event still needs.
    std::fs::remove_file(file(attachment(&event))).expect("remove");
    let mut host = start(&world, json!({})).await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], id);
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    assert!(std::fs::read(file(attachment(&event))).expect("there again") == content);
    host.kill().await;
    // A poll waits for its media too.
    let small = bytes(2, 20_000);
    let id = send(&anna, &world, &upload(&anna, &small).await).await;
    let events = world.poll(config(json!({}))).await;
    let event = events.last().expect("an event");
    assert_eq!(event["message"]["id"], id);
    assert!(std::fs::read(file(attachment(event))).expect("file") == small);
    // Somebody who may not speak has nothing fetched.
    send(&anna, &world, &upload(&anna, &bytes(3, 20_000)).await).await;
    let refused = json!({"dm_policy": "deny", "poll_idle_ms": 300});
    assert!(world.poll(refused).await.is_empty());
    assert_eq!(files(&world).len(), 2);
}

/// Memory does not grow with the file, and no other chat waits for it. With `CHANNEL_WHATSAPP_LONG` set it is a file of 1 GiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_streamed() {
    if !cfg!(target_os = "linux") {
        eprintln!("SKIPPED: only Linux tells how much memory a process has had");
        return;
    }
    let length = match std::env::var_os("CHANNEL_WHATSAPP_LONG") {
        Some(_) => 1 << 30,
        None => 64 << 20,
    };
    let world = World::linked().await;
    let (anna, ben) = (world.person("Anna").await, world.person("Ben").await);
    room_for_large(&world);
    let content = bytes(1, length);
    let image = upload(&anna, &content).await;
    let mut host = start(&world, json!({"max_bytes": 2_u64 << 30})).await;
    // What a small one takes, it has taken.
    send(&anna, &world, &upload(&anna, &bytes(2, 100_000)).await).await;
    host.event().await;
    let process = host.child.id().expect("pid");
    let before = common::memory_from_now(process);
    let begun = Instant::now();
    let sent = send(&anna, &world, &image).await;
    let whole = |path: &PathBuf| {
        let named = path.extension().is_some();
        named
            && path
                .metadata()
                .is_ok_and(|file| file.len() == length as u64)
    };
    // In another chat one small file after the other is there in time, also while the large one gets its name.
    let mut key = None;
    for seed in 100.. {
        assert!(begun.elapsed() < Duration::from_secs(600), "never whole");
        let is_whole = files(&world).iter().any(whole);
        if is_whole && key.is_some() {
            break;
        }
        let small = upload(&ben, &bytes(seed, 10_000)).await;
        let quick = send(&ben, &world, &small).await;
        loop {
            let event = host.event().await;
            if event["message"]["id"] == sent {
                key = attachment(&event)["storage_key"]
                    .as_str()
                    .map(str::to_owned);
                continue;
            }
            assert_eq!(event["message"]["id"], quick, "{event}");
            assert_eq!(extra(&event, "media_state"), "stored", "{event}");
            break;
        }
    }
    let key = key.expect("an event");
    let took = begun.elapsed();
    assert!(get(&world, &key, &[]).await.expect("media get") == content);
    let grown = common::memory(process, "VmHWM") - before;
    eprintln!("{} MiB in {took:?}, {grown} KiB more", length >> 20);
    assert!(grown < 32 << 10, "{grown} KiB more");
}

/// A disk that has no place for a file goes on taking messages. Mounting one needs root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_fit_waits_for_space() {
    let Some(disk) = Disk::new(80) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 1 << 20);
    let image = upload(&anna, &content).await;
    // Enough for messages, and not for the file beside the reserve.
    disk.fill(24 << 20);
    send(&anna, &world, &image).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_state"), "pending", "{event}");
    assert_eq!(extra(&event, "media_error"), "storage_full", "{event}");
    let text = anna.text(world.jid(), "still there").await.expect("text");
    assert_eq!(host.event().await["message"]["id"], text);
    assert_eq!(files(&world).len(), 0);
    let key = attachment(&event)["storage_key"].as_str().expect("key");
    let said = get(&world, key, &[]).await.expect_err("no space");
    assert!(said.contains("not enough space"), "{said}");
    disk.free();
    assert!(get(&world, key, &[]).await.expect("media get") == content);
}

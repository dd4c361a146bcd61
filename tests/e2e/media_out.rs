//! Attachments from the host to the phone: of every kind, from every source, through servers and processes that fail.

use crate::common;

use common::sending::{
    arrived, attached, config, files_of, ids, params, serve, staged, started, uploads,
};
use common::{Host, World, eventually, files, request};
use serde_json::{Value, json};
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;
use whatsapp_loopback::media::MediaOp;

struct Sample {
    name: &'static str,
    mime_type: &'static str,
    bytes: Vec<u8>,
    metadata: Value,
    kind: &'static str,
    is: fn(&wa::Message) -> bool,
}

fn samples() -> Vec<Sample> {
    let sample = |name, mime_type, bytes, kind, is| Sample {
        name,
        mime_type,
        bytes,
        metadata: json!({}),
        kind,
        is,
    };
    let mut samples = vec![
        sample("a.jpg", "image/jpeg", files::jpeg(), "image", |m| {
            let image = m.image_message.as_option().expect("image");
            let small = image.jpeg_thumbnail.as_ref().expect("thumbnail");
            small.starts_with(&[0xff, 0xd8]) && (image.width, image.height) == (Some(64), Some(48))
        }),
        sample("b.png", "image/png", files::png(), "image", |m| {
            m.image_message.mimetype.as_deref() == Some("image/png")
        }),
        sample("c.mp4", "video/mp4", files::mp4(), "video", |m| {
            let video = m.video_message.as_option().expect("video");
            (video.seconds, video.width, video.height) == (Some(3), Some(320), Some(240))
                && video.streaming_sidecar.is_some()
                && video.gif_playback.is_none()
        }),
        sample("d.ogg", "audio/ogg", files::voice(), "voice", |m| {
            let audio = m.audio_message.as_option().expect("audio");
            let waveform = audio.waveform.as_ref().expect("waveform");
            (audio.ptt, audio.seconds) == (Some(true), Some(4))
                && waveform.len() == 64
                && waveform.iter().any(|level| *level != waveform[0])
        }),
        sample("e.mp3", "audio/mpeg", files::mp3(), "audio", |m| {
            m.audio_message.ptt == Some(false) && m.audio_message.seconds == Some(3)
        }),
        sample("f.webp", "image/webp", files::webp(), "sticker", |m| {
            m.sticker_message.is_animated == Some(false)
        }),
        sample(
            "../g h.pdf",
            "application/pdf",
            files::pdf(),
            "document",
            |m| {
                m.document_message.file_name.as_deref() == Some("g h.pdf")
                    && m.document_message.mimetype.as_deref() == Some("application/pdf")
            },
        ),
    ];
    samples.push(Sample {
        metadata: json!({"as": "gif"}),
        ..sample("h.mp4", "", files::mp4(), "gif", |m| {
            m.video_message.gif_playback == Some(true)
        })
    });
    samples.push(Sample {
        metadata: json!({"as": "document"}),
        ..sample("i.jpg", "", files::jpeg(), "document", |m| {
            m.document_message.file_name.as_deref() == Some("i.jpg")
        })
    });
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_arrives_as_it_was() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Pictures").await;
    let mut host = started(&world).await;
    for chat in [anna.pn().to_string(), group.to_string()] {
        for sample in samples() {
            let file = attached(sample.name, sample.mime_type, &sample.bytes);
            let push = params(&chat, "", vec![file], sample.metadata);
            let result = host.ask("push", push).await;
            let metadata = &result["delivery"]["metadata"];
            assert_eq!(metadata["kind"], sample.kind, "{result}");
            let (seen, bytes) = arrived(&anna, &ids(&result)[0]).await;
            assert_eq!(bytes, sample.bytes, "{}", sample.name);
            let message = seen.message.get_base_message();
            assert!((sample.is)(message), "{}: {message:?}", sample.name);
        }
    }
    // What was sent into the first chat was not uploaded for the second; the two videos are one file.
    assert_eq!(uploads(&world), samples().len() as u64 - 1);
    // Several, the first with the text as caption.
    let three = vec![
        attached("a.jpg", "image/jpeg", &files::jpeg()),
        attached("f.webp", "image/webp", &files::webp()),
        attached("g.pdf", "application/pdf", &files::pdf()),
    ];
    let push = params(&group.to_string(), "**look**", three, json!({}));
    let result = host.ask("push", push).await;
    let ids = ids(&result);
    assert_eq!(ids.len(), 3);
    let (first, _) = arrived(&anna, &ids[0]).await;
    assert_eq!(first.message.get_caption(), Some("*look*"));
    let (last, bytes) = arrived(&anna, &ids[2]).await;
    assert_eq!(last.message.get_caption(), None);
    assert_eq!(bytes, files::pdf());
    let order: Vec<String> = anna.seen(|seen| {
        let here = seen.messages.iter().map(|m| m.id().to_owned());
        here.filter(|id| ids.contains(id)).collect()
    });
    assert_eq!(order, ids);
    // The caption is changed.
    let edit = json!({"action": "edit", "target_message_id": ids[0]});
    let result = host
        .ask("push", params(&group.to_string(), "seen", vec![], edit))
        .await;
    let seen = anna.wait_id(&self::ids(&result)[0]).await.expect("edit");
    let protocol = seen.message.get_base_message().protocol_message.as_option();
    let edited = &protocol.expect("edit").edited_message;
    assert_eq!(edited.image_message.caption.as_deref(), Some("seen"));
    assert!(edited.image_message.direct_path.is_some());
    // A sticker cannot have one.
    let push = params(
        &anna.pn().to_string(),
        "look",
        vec![attached("f.webp", "", &files::webp())],
        json!({}),
    );
    let result = host.ask("push", push).await;
    assert_eq!(self::ids(&result).len(), 2);
    assert_eq!(result["delivery"]["metadata"]["kind"], "sticker");
    assert!(staged(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_left_out_or_an_error() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world).await;
    let asked = anna.text(world.jid(), "well?").await.expect("text");
    host.event().await;
    let to = anna.pn().to_string();
    let good = || attached("a.jpg", "image/jpeg", &files::jpeg());
    for (bad, expected) in [
        (
            attached("x.png", "image/png", b"no picture"),
            "attachment_mismatch",
        ),
        (attached("x.bin", "", &[0; 3000]), "attachment_too_large"),
        (attached("x.bin", "", b""), "attachment_empty"),
        (json!({"name": "x", "mime_type": ""}), "invalid_attachment"),
        (
            json!({"name": "x", "mime_type": "", "storage_key": "wa-media:../../store.db"}),
            "unknown_storage_key",
        ),
        (
            json!({"name": "x", "mime_type": "", "url": "http://127.0.0.1:9/x"}),
            "attachment_url_refused",
        ),
    ] {
        let mut push = params(&to, "here", vec![good(), bad.clone()], json!({}));
        push["config"]["max_attachment_bytes"] = json!(2000);
        push["config"]["allow_private_urls"] = json!(false);
        let before = files_of(&anna);
        assert_eq!(host.ask_refused("push", push.clone()).await, expected);
        assert_eq!(files_of(&anna), before);
        push["message"]["metadata"]["reply_to_message_id"] = json!(asked);
        push["message"]["metadata"]["idempotency_key"] = json!(expected);
        let result = host.ask("deliver", push).await;
        let metadata = &result["delivery"]["metadata"];
        assert_eq!(metadata["delivery_state"], "sent", "{result}");
        let degraded = metadata["degraded"].as_str().expect("degraded");
        assert!(degraded.contains(expected), "{degraded}");
        let (_, bytes) = arrived(&anna, &ids(&result)[0]).await;
        assert_eq!(bytes, files::jpeg());
    }
    // A key is none, or of nothing that this account was sent, whatever else it is.
    let secret = world.home.path().join("secret");
    std::fs::write(&secret, b"nothing to send").expect("file");
    let link = world.account_dir().join("media/link");
    std::fs::create_dir_all(world.account_dir().join("media")).expect("folder");
    std::os::unix::fs::symlink(&secret, link).expect("link");
    let token = "0".repeat(32);
    for key in [
        secret.to_str().expect("path"),
        &format!("file://{}", secret.display()),
        "../../../../secret",
        "link",
        "wa-media:link",
        "wa-media:../secret",
        &format!("wa-media:0123456789abcdef:{token}"),
        &format!("wa-media:..:{token}"),
    ] {
        let file = json!({"name": "x", "mime_type": "", "storage_key": key});
        let push = params(&to, "", vec![file], json!({}));
        let refused = host.ask_refused("push", push).await;
        assert_eq!(refused, "unknown_storage_key", "{key}");
    }
    // Alone it leaves nothing to be sent.
    let mut alone = params(
        &to,
        "",
        vec![json!({"name": "x", "mime_type": ""})],
        json!({}),
    );
    alone["config"]["deliver_errors"] = json!("degrade");
    let result = host.ask("push", alone).await;
    let metadata = &result["delivery"]["metadata"];
    assert_eq!(metadata["delivery_state"], "nothing_to_send");
    // A wish that cannot be met goes as what it is, or not at all.
    let wish = params(&to, "", vec![good()], json!({"as": "sticker"}));
    assert_eq!(
        host.ask_refused("push", wish.clone()).await,
        "attachment_not_as_asked"
    );
    let mut wish = wish;
    wish["config"]["deliver_errors"] = json!("degrade");
    let result = host.ask("push", wish).await;
    assert_eq!(result["delivery"]["metadata"]["kind"], "image");
    assert!(result["delivery"]["metadata"]["degraded"].is_string());
    // A server that refuses the file for good.
    world
        .server
        .core()
        .media
        .refuse_only(MediaOp::Upload, 413, 1);
    let big = || vec![attached("x.bin", "", &files::noise(1000))];
    let refused = host
        .ask_refused("push", params(&to, "", big(), json!({})))
        .await;
    assert_eq!(refused, "attachment_too_large");
    // One that does not take it in time.
    world
        .server
        .core()
        .media
        .refuse_only(MediaOp::Upload, 503, 1000);
    let mut late = params(&to, "", big(), json!({}));
    late["config"]["send_timeout_secs"] = json!(2);
    assert_eq!(
        host.ask_refused("push", late.clone()).await,
        "attachment_upload_failed"
    );
    eventually("nothing is left of it", || staged(&world).is_empty()).await;
    late["config"]["deliver_errors"] = json!("degrade");
    let result = host.ask("push", late).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "queued");
    assert_eq!(staged(&world).len(), 1);
    // What comes in another chat does not wait for it.
    let bert = world.person("Bert").await;
    host.ask(
        "push",
        params(&bert.pn().to_string(), "hi", vec![], json!({})),
    )
    .await;
    bert.wait_text("hi").await.expect("another chat");
    world.server.core().media.clear_faults();
    arrived(&anna, &ids(&result)[0]).await;
    assert!(staged(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_where_it_was_cut() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let file = files::noise(6 << 20);
    let push = params(
        &to,
        "",
        vec![attached("x.bin", "", &file)],
        json!({"idempotency_key": "k"}),
    );
    // The process dies in the middle of it.
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "during_upload");
    let mut host = Host::new(command);
    host.send(&request("push", push.clone())).await;
    assert!(!host.exit().await.success());
    assert_eq!((uploads(&world), staged(&world).len()), (0, 1));
    // The next one is refused its first token, and cut.
    let media = &world.server.core().media;
    media.refuse_only(MediaOp::Upload, 401, 1);
    media.cut(MediaOp::Upload, 1 << 20, 1);
    let result = world.ok("push", push.clone()).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
    let (_, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert!(bytes == file, "the same bytes");
    assert_eq!(uploads(&world), 1);
    assert!(staged(&world).is_empty());
    // Asked again it is the same message, sent once.
    let again = world.ok("push", push).await;
    assert_eq!(
        again["delivery"]["message_id"],
        result["delivery"]["message_id"]
    );
    assert_eq!(files_of(&anna), 1);
    // Killed between upload and message it is uploaded once.
    let push = params(
        &to,
        "",
        vec![attached("y.bin", "", &files::noise(99))],
        json!({}),
    );
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_CRASH", "after_upload");
    let mut host = Host::new(command);
    host.send(&request("push", push)).await;
    assert!(!host.exit().await.success());
    let mut host = started(&world).await;
    eventually("it goes all the same", || files_of(&anna) == 2).await;
    assert_eq!(uploads(&world), 2);
    // Another process hands its file to the one that is connected.
    let passed = world.ok(
        "push",
        params(
            &to,
            "",
            vec![attached("z.pdf", "", &files::pdf())],
            json!({}),
        ),
    );
    let (_, bytes) = arrived(&anna, &ids(&passed.await)[0]).await;
    assert_eq!(bytes, files::pdf());
    host.ask("stop_ingress", json!({"config": config()})).await;
    assert!(staged(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_with_the_message_that_expires() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut push = params(
        &anna.pn().to_string(),
        "",
        vec![attached("x.pdf", "", &files::pdf())],
        json!({}),
    );
    push["config"]["deliver_errors"] = json!("degrade");
    push["config"]["queue_ttl_secs"] = json!(0);
    push["config"]["send_timeout_secs"] = json!(2);
    let mut expiring = push.clone();
    expiring["config"]["queue_ttl_secs"] = json!(4);
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", "ws://127.0.0.1:9/ws/chat");
    let mut host = Host::new(command);
    host.send(&request("push", push)).await;
    host.end();
    let answer = host.line().await;
    assert_eq!(
        answer["result"]["delivery"]["metadata"]["delivery_state"], "queued",
        "{answer}"
    );
    host.exit().await;
    // What a killed process had left, nobody waits for.
    let left = world.account_dir().join("media/staged/left");
    std::fs::write(&left, b"x").expect("file");
    let files = staged(&world);
    assert_eq!(files.len(), 2);
    let mut host = started(&world).await;
    eventually("both are gone", || staged(&world).is_empty()).await;
    // Nor does one wait longer whose upload keeps failing.
    let media = &world.server.core().media;
    media.refuse_only(MediaOp::Upload, 503, 1000);
    let result = host.ask("push", expiring).await;
    assert_eq!(result["delivery"]["metadata"]["delivery_state"], "queued");
    eventually("it is given up", || staged(&world).is_empty()).await;
    assert_eq!(files_of(&anna), 0);
}

/// 1 GiB in the long form.
fn large(otherwise: usize) -> usize {
    match std::env::var_os("CHANNEL_WHATSAPP_LONG") {
        Some(_) => 1 << 30,
        None => otherwise,
    }
}

/// Longer than a file of 1 GiB takes.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);

/// A file of this size, sent; no more memory than idle and 32 MiB may it take.
async fn send_large(host: &mut Host, to: &str, source: Value) -> Value {
    let mut push = params(to, "", vec![source], json!({}));
    push["config"]["max_attachment_bytes"] = json!(1 << 30);
    push["config"]["send_timeout_secs"] = json!(600);
    let pid = host.child.id().expect("pid");
    let process = host.child.id().expect("pid");
    let idle = common::memory(process, "VmRSS");
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the peak begins anew");
    let begun = std::time::Instant::now();
    host.send(&request("push", push)).await;
    let answer = loop {
        let line = tokio::time::timeout(LONG, host.stdout.next_line()).await;
        let line = line.expect("in time").expect("read").expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line.get("method").is_none() {
            break line;
        }
    };
    let took = begun.elapsed();
    let peak = common::memory(process, "VmHWM");
    eprintln!("{took:?}; {idle} KiB idle, {peak} at most");
    assert!(peak < idle + (32 << 10), "{idle} KiB idle, {peak} at most");
    assert_eq!(
        answer["result"]["delivery"]["metadata"]["delivery_state"], "sent",
        "{answer}"
    );
    answer["result"].clone()
}

fn room_for_large(world: &World) {
    let limits = whatsapp_loopback::media::MediaLimits {
        blob: 2 << 30,
        total: 4 << 30,
    };
    world.server.core().media.set_limits(limits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_takes_no_memory() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    room_for_large(&world);
    let body = std::sync::Arc::new(files::noise(large(64 << 20)));
    let url = serve("application/x-noise", body.clone()).await;
    let source = json!({"name": "", "mime_type": "", "url": url});
    let result = send_large(&mut host, &to, source).await;
    let (seen, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert!(bytes == *body, "the same bytes");
    let document = seen.message.get_base_message().document_message.as_option();
    assert_eq!(
        document.expect("document").file_name.as_deref(),
        Some("some.bin")
    );
    // What somebody sent goes on by its key, also while it is still being fetched.
    let picture = files::jpeg();
    let sent = anna.image(world.jid(), &picture, None).await;
    sent.expect("image");
    let event = host.event().await;
    let key = &event["message"]["attachments"][0]["storage_key"];
    let file = json!({"name": "", "mime_type": "", "storage_key": key});
    let push = params(&to, "yours", vec![file], json!({}));
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    let result = loop {
        host.send(&request("push", push.clone())).await;
        let answer = host.answer().await;
        if answer.get("error").is_none() {
            break answer["result"].clone();
        }
        assert_eq!(common::code(&answer), "attachment_not_here");
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
    };
    let (seen, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert_eq!(bytes, picture);
    assert_eq!(seen.message.get_caption(), Some("yours"));
    assert!(staged(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_of_the_media_store_takes_no_memory() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = world.host();
    let mut receiving = config();
    receiving["media"] = json!({"max_bytes": 2_u64 << 30});
    host.ask("start_ingress", json!({"config": receiving}))
        .await;
    room_for_large(&world);
    let body = files::noise(large(8 << 20));
    let sent = anna.document(world.jid(), &body, "a.bin", "application/x-noise");
    sent.await.expect("document");
    let event = host.event().await;
    let key = &event["message"]["attachments"][0]["storage_key"];
    let store = world.account_dir().join("media");
    let is_here = || {
        let mut files = std::fs::read_dir(&store).into_iter().flatten().flatten();
        files.any(|file| {
            file.metadata()
                .is_ok_and(|file| file.len() == body.len() as u64)
        })
    };
    let deadline = tokio::time::Instant::now() + LONG;
    while !is_here() {
        assert!(tokio::time::Instant::now() < deadline, "never received");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let source = json!({"name": "", "mime_type": "", "storage_key": key});
    let result = send_large(&mut host, &anna.pn().to_string(), source).await;
    let seen = anna.wait_id(&ids(&result)[0]).await.expect("arrives");
    let bytes = anna.download(&seen).await.expect("download");
    assert!(bytes == body, "the same bytes");
    assert!(staged(&world).is_empty());
}

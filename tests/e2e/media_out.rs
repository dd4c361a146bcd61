//! Attachments from the host to the phone: of every kind, from every source, through servers and processes that fail.

use crate::common;

use common::media::attachment;
use common::sending::{
    arrived, attached, files_of, ids, params, serve_times, staged, started, uploads,
};
use common::{Host, World, eventually, files, request};
use serde_json::{Value, json};
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;
use whatsapp_loopback::media::MediaOp;
use whatsapp_loopback::people::{Person, Voice};
use whatsapp_rust::Jid;

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
    let mut other = |name, mime_type, bytes, kind, is| {
        samples.push(sample(name, mime_type, bytes, kind, is));
    };
    other("j.m4a", "audio/mp4", files::m4a(), "audio", |m| {
        m.audio_message.ptt == Some(false) && m.audio_message.seconds == Some(3)
    });
    other("k.aac", "audio/aac", files::aac(90), "audio", |m| {
        m.audio_message.mimetype.as_deref() == Some("audio/aac")
    });
    other("l.amr", "audio/amr", files::amr(60), "audio", |m| {
        m.audio_message.mimetype.as_deref() == Some("audio/amr")
    });
    other("m.3gp", "video/3gpp", files::three_gp(), "video", |m| {
        m.video_message.mimetype.as_deref() == Some("video/3gpp")
            && (m.video_message.width, m.video_message.seconds) == (Some(176), Some(2))
    });
    let moving = files::moving_webp(64, 64);
    other("n.webp", "image/webp", moving, "sticker", |m| {
        m.sticker_message.is_animated == Some(true)
    });
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

/// Where the plugin gets a file from.
#[derive(Clone, Copy, Debug)]
enum From {
    Line,
    Url,
    Store,
}

/// Somebody sends the file of each sample; the storage keys of them.
async fn keys(host: &mut Host, anna: &Person, to: Jid, samples: &[Sample]) -> Vec<Value> {
    let mut sent = Vec::new();
    for sample in samples {
        let (to, bytes) = (to.clone(), sample.bytes.as_slice());
        let id = match sample.kind {
            "image" => anna.image(to, bytes, None).await,
            "video" | "gif" => anna.video(to, bytes, None).await,
            "audio" => anna.audio(to, bytes, sample.mime_type).await,
            "voice" => anna.voice(to, bytes, Voice::default()).await,
            "sticker" => anna.sticker(to, bytes).await,
            _ => {
                anna.document(to, bytes, sample.name, sample.mime_type)
                    .await
            }
        };
        sent.push(id.expect(sample.name));
    }
    let mut keys = Vec::new();
    for id in sent {
        let event = host.event().await;
        assert_eq!(event["message"]["id"], id, "{event}");
        keys.push(attachment(&event)["storage_key"].clone());
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_goes_from_every_source_into_every_chat() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Pictures").await;
    let mut host = started(&world).await;
    let samples = samples();
    let keys = keys(&mut host, &anna, world.jid(), &samples).await;
    let theirs = uploads(&world);
    // As we address it, and as she sees it.
    for (chat, hers) in [(anna.pn(), world.jid()), (group.clone(), group)] {
        let chat = chat.to_string();
        for (sample, key) in samples.iter().zip(&keys) {
            let takes_caption = ["image", "video", "gif", "document"].contains(&sample.kind);
            let caption = takes_caption.then_some("look");
            for from in [From::Line, From::Url, From::Store] {
                let (name, mime_type) = (sample.name, sample.mime_type);
                let file = match from {
                    From::Line => attached(name, mime_type, &sample.bytes),
                    From::Url => {
                        let url = serve_times(1, "", sample.bytes.clone().into()).await;
                        json!({"name": name, "mime_type": mime_type, "url": url})
                    }
                    // What its sender said of it counts.
                    From::Store => json!({"name": "", "mime_type": "", "storage_key": key}),
                };
                let push = params(
                    &chat,
                    caption.unwrap_or_default(),
                    vec![file],
                    sample.metadata.clone(),
                );
                let result = host.ask("push", push).await;
                let metadata = &result["delivery"]["metadata"];
                assert_eq!(metadata["kind"], sample.kind, "{result}");
                let (seen, bytes) = arrived(&anna, &ids(&result)[0]).await;
                assert_eq!(*seen.chat(), hers);
                assert!(bytes == sample.bytes, "{name} {from:?}");
                let message = seen.message.get_base_message();
                assert!((sample.is)(message), "{name} {from:?}: {message:?}");
                assert_eq!(message.get_caption(), caption, "{name} {from:?}");
            }
        }
    }
    // What was sent once was not uploaded again; the two videos are one file.
    assert_eq!(uploads(&world) - theirs, samples.len() as u64 - 1);
    assert!(staged(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_and_several_at_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Pictures").await.to_string();
    let mut host = started(&world).await;
    for (bytes, kind, wish) in [
        (files::png(), "image", json!({"as": "image"})),
        (files::three_gp(), "video", json!({"as": "video"})),
        (files::m4a(), "audio", json!({"as": "audio"})),
        (files::voice(), "voice", json!({"as": "voice"})),
        (files::voice(), "voice", json!({"voice": "true"})),
        (files::webp(), "sticker", json!({"as": "sticker"})),
    ] {
        let push = params(&group, "", vec![attached("", "", &bytes)], wish);
        let result = host.ask("push", push).await;
        assert_eq!(result["delivery"]["metadata"]["kind"], kind, "{result}");
        assert!(arrived(&anna, &ids(&result)[0]).await.1 == bytes);
    }
    let mp3 = vec![attached("e.mp3", "", &files::mp3())];
    let push = params(&group, "", mp3, json!({"voice": "true"}));
    assert_eq!(
        host.ask_refused("push", push).await,
        "attachment_not_as_asked"
    );
    // Several, the first with the text as caption.
    let three = vec![
        attached("a.jpg", "image/jpeg", &files::jpeg()),
        attached("f.webp", "image/webp", &files::webp()),
        attached("g.pdf", "application/pdf", &files::pdf()),
    ];
    let push = params(&group, "**look**", three, json!({}));
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
    let result = host.ask("push", params(&group, "seen", vec![], edit)).await;
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

const UNREADABLE: &str = "attachment_unreadable";
const MISMATCH: &str = "attachment_mismatch";

/// A host meets them all with one process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_refused_and_the_next_file_goes() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    let cut = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    let mut huge = files::png();
    huge[16..24].fill(0x7f);
    let nothing = |begin: &[u8]| [begin, &[0; 100_000]].concat();
    let film = files::boxed(b"ftyp", b"isom\0\0\0\0");
    let lying = [&film[..], b"\xff\xff\xff\xffmoov"].concat();
    for (name, mime_type, bytes, code) in [
        ("cut.jpg", "image/jpeg", cut(files::jpeg(), 30), UNREADABLE),
        ("cut.png", "image/png", cut(files::png(), 20), UNREADABLE),
        ("huge.png", "image/png", huge, UNREADABLE),
        ("nested.mp4", "video/mp4", files::nested(), UNREADABLE),
        ("cut.webp", "image/webp", cut(files::webp(), 18), UNREADABLE),
        ("cut.mp4", "video/mp4", film, UNREADABLE),
        ("lying.mp4", "video/mp4", lying, UNREADABLE),
        (
            "no.mp3",
            "audio/mpeg",
            nothing(b"ID3\x04\0\0\0\0\0\0"),
            UNREADABLE,
        ),
        ("no.amr", "audio/amr", nothing(b"#!AMR\n\xff"), UNREADABLE),
        ("film.pdf", "application/pdf", files::mp4(), MISMATCH),
        ("text.gif", "image/gif", b"no picture".to_vec(), MISMATCH),
        ("empty.mp3", "audio/mpeg", Vec::new(), "attachment_empty"),
    ] {
        let push = params(&to, "", vec![attached(name, mime_type, &bytes)], json!({}));
        assert_eq!(host.ask_refused("push", push).await, code, "{name}");
    }
    assert_eq!(uploads(&world), 0);
    // What no phone could show is a file all the same.
    for (name, bytes, kind) in [
        ("square.png", files::png_of(50_000), "document"),
        ("a.jpg", files::jpeg(), "image"),
    ] {
        let push = params(&to, "", vec![attached(name, "", &bytes)], json!({}));
        let result = host.ask("push", push).await;
        assert_eq!(result["delivery"]["metadata"]["kind"], kind, "{result}");
        assert_eq!(arrived(&anna, &ids(&result)[0]).await.1, bytes);
    }
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

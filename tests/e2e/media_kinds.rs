//! Media of every kind that people send, in direct chats and in groups: whole, and described as what it is.

use crate::common;

use std::collections::{HashMap, HashSet};

use common::World;
use common::media::{
    attachment, bytes, clip, document, extra, file, files, image, picture, sticker, voice,
};
use common::sending::{config, started};
use serde_json::{Value, json};
use wacore::download::MediaType;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_loopback::people::{Person, Voice};
use whatsapp_rust::Jid;

/// Sends one of every kind; by message id what it is, its bytes, and the ending of its file.
async fn send_all(
    anna: &Person,
    to: &Jid,
    seed: u64,
) -> HashMap<String, (&'static str, Vec<u8>, &'static str)> {
    let of = |n: u64| bytes(seed + n, 10_000 + n as usize * 3333);
    let mut sent = HashMap::new();
    let id = anna.image(to.clone(), &of(0), Some("look")).await;
    sent.insert(id.expect("image"), ("image", of(0), ".jpg"));
    let id = anna.video(to.clone(), &of(1), None).await;
    sent.insert(id.expect("video"), ("video", of(1), ".mp4"));
    let id = anna.audio(to.clone(), &of(2), "audio/mpeg").await;
    sent.insert(id.expect("audio"), ("audio", of(2), ".mp3"));
    let voice = Voice {
        seconds: 4,
        waveform: Some((0..64).collect()),
    };
    let id = anna.voice(to.clone(), &of(3), voice).await;
    sent.insert(id.expect("voice"), ("audio", of(3), ".ogg"));
    let id = anna
        .document(to.clone(), &of(4), "../../etc/plan.pdf", "application/pdf")
        .await;
    sent.insert(id.expect("document"), ("document", of(4), ".pdf"));
    let id = anna.sticker(to.clone(), &of(5)).await;
    sent.insert(id.expect("sticker"), ("sticker", of(5), ".webp"));
    let upload = anna.upload(&of(6), MediaType::Video).await.expect("upload");
    let gif = wa::Message {
        video_message: MessageField::some(wa::message::VideoMessage {
            gif_playback: Some(true),
            ..clip(&upload)
        }),
        ..Default::default()
    };
    let id = anna.send(to.clone(), gif).await;
    sent.insert(id.expect("gif"), ("video", of(6), ".mp4"));
    let upload = anna.upload(&of(7), MediaType::Video).await.expect("upload");
    let note = wa::Message {
        ptv_message: MessageField::some(clip(&upload)),
        ..Default::default()
    };
    let id = anna.send(to.clone(), note).await;
    sent.insert(id.expect("video note"), ("video", of(7), ".mp4"));
    let upload = anna.upload(&of(8), MediaType::Document).await;
    let file = wa::message::DocumentMessage {
        caption: Some("all of it".to_owned()),
        ..document(&upload.expect("upload"))
    };
    let captioned = wa::Message {
        document_with_caption_message: MessageField::some(wa::message::FutureProofMessage {
            message: MessageField::some(wa::Message {
                document_message: MessageField::some(file),
                ..Default::default()
            }),
        }),
        ..Default::default()
    };
    let id = anna.send(to.clone(), captioned).await;
    sent.insert(id.expect("captioned document"), ("document", of(8), ".zip"));
    let upload = anna.upload(&of(9), MediaType::Sticker).await;
    let moving = wa::Message {
        sticker_message: MessageField::some(wa::message::StickerMessage {
            is_animated: Some(true),
            ..sticker(&upload.expect("upload"))
        }),
        ..Default::default()
    };
    let id = anna.send(to.clone(), moving).await;
    sent.insert(id.expect("moving sticker"), ("sticker", of(9), ".webp"));
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_arrives_whole() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Pictures").await;
    let mut host = started(&world).await;
    let mut sent = send_all(&anna, &world.jid(), 100).await;
    sent.extend(send_all(&anna, &group, 200).await);
    // The same content once more, encrypted anew.
    let again = anna
        .image(group.clone(), &bytes(100, 10_000), None)
        .await
        .expect("image");
    sent.insert(again.clone(), ("image", bytes(100, 10_000), ".jpg"));
    let (mut clips, mut moving) = (Vec::new(), Vec::new());
    let count = sent.len();
    let mut keys = HashSet::new();
    for _ in 0..count {
        let event = host.event().await;
        let id = event["message"]["id"].as_str().expect("id").to_owned();
        let (kind, content, ending) = sent.remove(&id).expect("sent");
        let found = attachment(&event);
        assert_eq!(found["kind"], kind, "{event}");
        assert_eq!(extra(&event, "media_state"), "stored", "{event}");
        assert_eq!(found["size_bytes"], content.len(), "{event}");
        let path = file(found);
        assert!(path.to_string_lossy().ends_with(ending), "{event}");
        assert!(std::fs::read(&path).expect("file") == content, "{event}");
        match ending {
            ".ogg" => {
                let bars: Vec<String> = (0..64).map(|bar: u8| bar.to_string()).collect();
                assert_eq!(extra(&event, "waveform"), bars.join(","));
                assert_eq!(
                    (extra(&event, "ptt"), extra(&event, "duration_seconds")),
                    ("true", "4")
                );
            }
            ".pdf" => assert_eq!(found["name"], "plan.pdf"),
            ".jpg" => {
                let caption = if id == again { "" } else { "look" };
                assert_eq!(extra(&event, "caption"), caption);
            }
            ".mp4" if !extra(&event, "width").is_empty() => {
                let shown = ["width", "height", "duration_seconds"].map(|key| extra(&event, key));
                assert_eq!(shown, ["320", "240", "7"], "{event}");
                let is = ["gif", "video_note"].map(|key| extra(&event, key));
                clips.push(is.map(str::to_owned));
            }
            ".webp" => moving.push(extra(&event, "animated").to_owned()),
            ".zip" => {
                let text = event["message"]["content"].as_str().expect("content");
                assert!(text.ends_with("all of it"), "{event}");
            }
            _ => {}
        }
        // It goes along only in place of its picture.
        assert_eq!(extra(&event, "thumbnail_jpeg_base64"), "", "{event}");
        keys.insert(found["storage_key"].as_str().expect("key").to_owned());
    }
    clips.sort();
    let of = |gif: &str, note: &str| [gif.to_owned(), note.to_owned()];
    let (gif, note) = (of("true", ""), of("", "true"));
    assert_eq!(clips, [note.clone(), note, gif.clone(), gif]);
    moving.sort();
    assert_eq!(moving, ["", "", "true", "true"]);
    // One copy of what came twice, and a key for each.
    let all = files(&world);
    assert_eq!(all.len(), count - 1, "{all:?}");
    assert_eq!(keys.len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_seen_once_is_fetched_if_that_is_wanted() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Secrets").await;
    let mut host = started(&world).await;
    let of = |seed| bytes(seed, 10_000);
    let uploaded = async |seed, kind| anna.upload(&of(seed), kind).await.expect("upload");
    let flagged = picture(wa::message::ImageMessage {
        view_once: Some(true),
        ..image(&uploaded(1, MediaType::Image).await)
    });
    let film = wa::Message {
        video_message: MessageField::some(clip(&uploaded(2, MediaType::Video).await)),
        ..Default::default()
    };
    let said = wa::Message {
        audio_message: MessageField::some(voice(&uploaded(3, MediaType::Audio).await)),
        ..Default::default()
    };
    // Phones have three wrappers for it.
    let within = |message| {
        MessageField::some(wa::message::FutureProofMessage {
            message: MessageField::some(message),
        })
    };
    let messages = [
        (flagged.clone(), 1),
        (
            wa::Message {
                view_once_message_v2: within(flagged),
                ..Default::default()
            },
            1,
        ),
        (
            wa::Message {
                view_once_message: within(film),
                ..Default::default()
            },
            2,
        ),
        (
            wa::Message {
                view_once_message_v2_extension: within(said),
                ..Default::default()
            },
            3,
        ),
    ];
    let served = || world.server.core().media.served().1;
    for (wanted, fetched) in [(false, 0), (true, 3)] {
        let mut config = config();
        config["media"] = json!({"view_once": wanted});
        host.ask("configure", json!({"config": config})).await;
        for chat in [world.jid(), group.clone()] {
            for (message, content) in &messages {
                let id = anna
                    .send(chat.clone(), message.clone())
                    .await
                    .expect("send");
                let event = host.event().await;
                assert_eq!(event["message"]["id"], id, "{event}");
                let marks = [
                    extra(&event, "view_once"),
                    event["message"]["metadata"]["view_once"]
                        .as_str()
                        .unwrap_or_default(),
                ];
                assert!(marks.contains(&"true"), "{event}");
                let state = match wanted {
                    true => ("stored", ""),
                    false => ("unavailable", "view_once"),
                };
                let told = (extra(&event, "media_state"), extra(&event, "media_error"));
                assert_eq!(told, state, "{event}");
                match wanted {
                    true => {
                        let kept = std::fs::read(file(attachment(&event))).expect("file");
                        assert!(kept == of(*content));
                    }
                    false => {
                        assert_eq!(attachment(&event)["url"], Value::Null, "{event}");
                        assert_eq!(extra(&event, "thumbnail_jpeg_base64"), "", "{event}");
                    }
                }
                // Whoever quotes it shows no more than it did.
                let sent = anna.send(chat.clone(), quoting(&anna, &id)).await;
                sent.expect("answer");
                let event = host.event().await;
                let quoted = &event["message"]["metadata"]["quoted_storage_key"];
                assert_eq!(quoted.is_string(), wanted, "{event}");
            }
        }
        assert_eq!((served(), files(&world).len() as u64), (fetched, fetched));
    }
}

/// An answer to what she sent herself.
fn quoting(anna: &Person, id: &str) -> wa::Message {
    let context = wa::ContextInfo {
        stanza_id: Some(id.to_owned()),
        participant: Some(anna.pn().to_string()),
        ..Default::default()
    };
    wa::Message {
        extended_text_message: MessageField::some(wa::message::ExtendedTextMessage {
            text: Some("this one".to_owned()),
            context_info: MessageField::some(context),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A poll gives both at once, and neither is committed before the other is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_is_quoted_in_the_batch_that_brings_it() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let upload = anna.upload(&bytes(1, 1000), MediaType::Image).await;
    let sent = anna.send(world.jid(), picture(image(&upload.expect("upload"))));
    let sent = sent.await.expect("picture");
    let answer = anna.send(world.jid(), quoting(&anna, &sent)).await;
    answer.expect("answer");
    let mut config = common::open();
    config["media"] = json!({"download": "none"});
    let events = world.poll(config).await;
    assert_eq!(events.len(), 2, "{events:?}");
    let key = &attachment(&events[0])["storage_key"];
    let quoted = &events[1]["message"]["metadata"]["quoted_storage_key"];
    assert!(key.is_string() && key == quoted, "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_album_arrives_one_by_one() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let group = world.group(&anna, "Holidays").await;
    let mut host = started(&world).await;
    for (chat, seed) in [(world.jid(), 10), (group, 20)] {
        let head = wa::Message {
            album_message: MessageField::some(wa::message::AlbumMessage {
                expected_image_count: Some(2),
                expected_video_count: Some(1),
                ..Default::default()
            }),
            ..Default::default()
        };
        let head = anna.send(chat.clone(), head).await.expect("album");
        for (nth, kind) in [MediaType::Image, MediaType::Video, MediaType::Image]
            .into_iter()
            .enumerate()
        {
            let content = bytes(seed + nth as u64, 10_000);
            let upload = anna.upload(&content, kind).await.expect("upload");
            let one = match kind {
                MediaType::Image => picture(image(&upload)),
                _ => wa::Message {
                    video_message: MessageField::some(clip(&upload)),
                    ..Default::default()
                },
            };
            let beside = wa::MessageAssociation {
                association_type: Some(wa::message_association::AssociationType::MEDIA_ALBUM),
                parent_message_key: MessageField::some(wa::MessageKey {
                    id: Some(head.clone()),
                    from_me: Some(true),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let message = wa::Message {
                message_context_info: MessageField::some(wa::MessageContextInfo {
                    message_association: MessageField::some(beside),
                    ..Default::default()
                }),
                ..one
            };
            anna.send(chat.clone(), message).await.expect("one of it");
        }
        let event = host.event().await;
        assert_eq!(event["message"]["id"], head, "{event}");
        let metadata = &event["message"]["metadata"];
        let announced = (&metadata["album_images"], &metadata["album_videos"]);
        assert_eq!(announced, (&json!("2"), &json!("1")), "{event}");
        for (nth, kind) in ["image", "video", "image"].into_iter().enumerate() {
            let event = host.event().await;
            let metadata = &event["message"]["metadata"];
            assert_eq!(metadata["parent_message_id"], head, "{event}");
            assert_eq!(attachment(&event)["kind"], kind, "{event}");
            assert_eq!(extra(&event, "media_state"), "stored", "{event}");
            let content = std::fs::read(file(attachment(&event))).expect("file");
            assert!(content == bytes(seed + nth as u64, 10_000));
        }
    }
}

//! Files that are larger than the memory that they may take.

use crate::common;

use common::media::room_for_large;
use common::sending::{arrived, attached, config, ids, params, serve, staged, started};
use common::{Host, World, eventually, files, request};
use serde_json::{Value, json};
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;

/// The size of a file, and how much memory more than idle it may take, in bytes.
fn large() -> (usize, u64) {
    match std::env::var_os("CHANNEL_WHATSAPP_LONG") {
        Some(_) => (1 << 30, 32 << 20),
        None => (24 << 20, 16 << 20),
    }
}

/// Longer than a file of 1 GiB takes.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);

/// A file, sent. It may take no more memory than its line and what is [said](large).
async fn send_large(host: &mut Host, to: &str, source: Value) -> Value {
    let mut push = params(to, "", vec![source], json!({}));
    push["config"]["max_attachment_bytes"] = json!(1 << 30);
    push["config"]["send_timeout_secs"] = json!(600);
    let line = request("push", push);
    let process = host.child.id().expect("pid");
    let idle = common::memory_from_now(process);
    let begun = std::time::Instant::now();
    host.send(&line).await;
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
    let most = idle + ((line.len() as u64 + large().1) >> 10);
    assert!(peak < most, "{idle} KiB idle, {peak} at most");
    assert_eq!(
        answer["result"]["delivery"]["metadata"]["delivery_state"], "sent",
        "{answer}"
    );
    answer["result"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_takes_no_memory() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let to = anna.pn().to_string();
    let mut host = started(&world).await;
    room_for_large(&world);
    let body = std::sync::Arc::new(files::noise(large().0));
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
    let body = files::noise(large().0);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_with_a_large_file_is_in_memory_once() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = started(&world).await;
    let body = files::noise(18 << 20);
    let to = anna.pn().to_string();
    let result = send_large(&mut host, &to, attached("a.bin", "", &body)).await;
    let (_, bytes) = arrived(&anna, &ids(&result)[0]).await;
    assert!(bytes == body, "the same bytes");
}

/// Photos of 25 million pixels and 12 MB, the largest that are made small: two that come at once take the memory of one, and
/// keep none of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_photos_are_made_small_one_at_a_time() {
    let world = World::linked().await;
    let mut host = started(&world).await;
    let process = host.child.id().expect("pid");
    let mut photo = files::flat(files::Frame::Baseline, 5_000, 0x11);
    // A camera's notes, behind what makes it a JPEG.
    let mut note = vec![0xff, 0xfe, 0xff, 0xff];
    note.resize(0xffff + 2, b' ');
    photo.splice(2..2, note.repeat(190));
    let url = serve("", photo.into()).await;
    let people = [world.person("Anna").await, world.person("Ben").await];
    let idle = common::memory_from_now(process);
    for person in &people {
        let file = json!({"name": "", "mime_type": "image/jpeg", "url": url});
        let push = params(&person.pn().to_string(), "", vec![file], json!({}));
        host.send(&request("push", push)).await;
    }
    for _ in &people {
        let answer = host.answer().await;
        let metadata = &answer["result"]["delivery"]["metadata"];
        assert_eq!(metadata["kind"], "image", "{answer}");
    }
    let (peak, now) = ["VmHWM", "VmRSS"]
        .map(|what| common::memory(process, what))
        .into();
    eprintln!("{idle} KiB idle, {peak} at most, {now} now");
    assert!(peak - idle > 75 << 10, "nobody has looked at them");
    assert!(peak - idle < 150 << 10, "{idle} KiB idle, {peak} at most");
    eventually("it is given back", || {
        common::memory(process, "VmRSS") < idle + (24 << 10)
    })
    .await;
    for person in &people {
        let small = |message: &wa::Message| {
            let image = message.get_base_message().image_message.as_option();
            image.map(|image| (image.width, image.jpeg_thumbnail.is_some()))
        };
        let got = || person.seen(|seen| seen.messages.iter().find_map(|m| small(&m.message)));
        eventually("it arrives", || got() == Some((Some(5_000), true))).await;
    }
}

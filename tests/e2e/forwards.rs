//! Messages with files that are forwarded, wherever those files are by then.

use crate::common;

use common::media::{bytes, extra, picture, upload};
use common::sending::{arrived, attached, ids, params, started, uploads};
use common::{World, files};
use serde_json::json;

/// A copy that left before the file was up would be a message that nobody can open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_upload_is_forwarded_once_that_is_done() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    let mut host = started(&world).await;
    let media = &world.server.core().media;
    // Not in this hour, until it is let go.
    media.slow_uploads(Some(16));
    let file = files::noise(64 << 10);
    let attachment = vec![attached("x.bin", "", &file)];
    let mut push = params(&anna.pn().to_string(), "", attachment, json!({}));
    push["config"]["deliver_errors"] = json!("degrade");
    // Long enough to make the file ready on a busy machine.
    push["config"]["send_timeout_secs"] = json!(3);
    let queued = host.ask("push", push).await;
    let state = &queued["delivery"]["metadata"]["delivery_state"];
    assert_eq!(state, "queued", "{queued}");
    let id = &ids(&queued)[0];
    let forward = || {
        let metadata = json!({"action": "forward", "target_message_id": id});
        params(&bert.pn().to_string(), "", vec![], metadata)
    };
    let refused = host.ask_refused("push", forward()).await;
    assert_eq!(refused, "not_forwardable");
    media.slow_uploads(None);
    arrived(&anna, id).await;
    let sent = host.ask("push", forward()).await;
    let (_, bytes) = arrived(&bert, &ids(&sent)[0]).await;
    assert!(bytes == file, "the same bytes");
    assert_eq!(uploads(&world), 1);
}

/// The message still names the place where WhatsApp has nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_phone_uploaded_again_is_forwarded_from_there() {
    let world = World::linked().await;
    let (anna, bert) = (world.person("Anna").await, world.person("Bert").await);
    let mut host = started(&world).await;
    let media = &world.server.core().media;
    for (id, kept) in [("3EB0KEPT", true), ("3EB0GONE", false)] {
        let content = bytes(id.len() as u64 + u64::from(kept), 10_000);
        let image = upload(&anna, &content).await;
        let path = image.direct_path.clone().expect("path");
        assert!(media.expire(&path, 410));
        if kept {
            media.phone_keeps(id, image.media_key.as_ref().expect("key"), &path);
        }
        let sent = anna.send_as(id, world.jid(), picture(image)).await;
        sent.expect("picture");
        let event = host.event().await;
        let metadata = json!({"action": "forward", "target_message_id": id});
        let forward = params(&bert.pn().to_string(), "", vec![], metadata);
        if kept {
            assert_eq!(extra(&event, "media_state"), "stored", "{event}");
            let sent = host.ask("push", forward).await;
            let (_, bytes) = arrived(&bert, &ids(&sent)[0]).await;
            assert!(bytes == content, "the same bytes");
        } else {
            assert_eq!(extra(&event, "media_error"), "expired", "{event}");
            let refused = host.ask_refused("push", forward).await;
            assert_eq!(refused, "not_forwardable");
        }
    }
}

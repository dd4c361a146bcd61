//! What leaves the media store: when, and in which processes.

use crate::common;

use common::media::{
    attachment, bytes, channel, config, extra, file, files, get, send, start, upload,
};
use common::{Host, World, eventually};
use serde_json::{Value, json};

/// Every file came so much earlier.
const A_MONTH: &str = "UPDATE media SET at = at - 31 * 86400";

/// Answers an event, which proves that it was handled.
async fn handle(host: &mut Host, event: &Value) {
    let metadata = json!({
        "conversation_id": event["conversation"]["id"],
        "reply_to_message_id": event["message"]["id"],
    });
    let reply = common::message("nice", metadata);
    let params = json!({"config": config(json!({})), "message": reply});
    host.ask("deliver", params).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_once_it_was_handled() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    let mut kept = Vec::new();
    for seed in 1..=3 {
        send(&anna, &world, &upload(&anna, &bytes(seed, 10_000)).await).await;
        let event = host.event().await;
        assert_eq!(extra(&event, "media_state"), "stored", "{event}");
        kept.push((file(attachment(&event)), event));
    }
    let [(stuck, _), (handled, event), (open, _)] = kept.as_slice() else {
        panic!("three")
    };
    // What cannot be removed keeps no other.
    std::fs::remove_file(stuck).expect("removed");
    std::fs::create_dir(stuck).expect("a folder in its place");
    handle(&mut host, event).await;
    channel(&world).execute_batch(A_MONTH).expect("update");
    // It is looked at after each download.
    send(&anna, &world, &upload(&anna, &bytes(4, 10_000)).await).await;
    eventually("the old one is gone", || !handled.exists()).await;
    assert!(open.exists() && files(&world).len() == 2);
}

/// Who wants nothing fetched wants nothing kept for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_goes_where_nothing_is_fetched_any_more() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    send(&anna, &world, &upload(&anna, &bytes(1, 10_000)).await).await;
    let event = host.event().await;
    let old = file(attachment(&event));
    handle(&mut host, &event).await;
    host.kill().await;
    channel(&world).execute_batch(A_MONTH).expect("update");
    let left = world.account_dir().join("media/part/left");
    std::fs::write(&left, "by a kill").expect("write");
    // Two of them would be too much.
    let none = json!({"download": "none", "max_total_bytes": 15_000});
    let mut host = start(&world, none).await;
    let gone = || !old.exists() && !left.exists();
    eventually("what is old and what is left are gone", gone).await;
    for seed in 2..=3 {
        let content = bytes(seed, 10_000);
        send(&anna, &world, &upload(&anna, &content).await).await;
        let event = host.event().await;
        assert_eq!(extra(&event, "media_error"), "not_downloaded", "{event}");
        handle(&mut host, &event).await;
        let key = attachment(&event)["storage_key"].as_str().expect("key");
        assert!(get(&world, key, &[]).await.expect("media get") == content);
    }
    eventually("one is left", || files(&world).len() == 1).await;
    assert!(std::fs::read(&files(&world)[0]).expect("file") == bytes(3, 10_000));
}

//! Files that are asked for by their key: what that may cost, and what it must not get round.

use crate::common;

use common::media::{attachment, bytes, config, extra, files, get, send, start, upload};
use common::sending::{arrived, ids};
use common::{World, eventually, message};
use serde_json::{Value, json};
use waproto::whatsapp as wa;
use whatsapp_loopback::media::MediaOp;

/// A push of the file with this key to the person, under this configuration.
fn pushed(config: &Value, to: &whatsapp_loopback::people::Person, key: &str) -> Value {
    let mut message = message("here", json!({"conversation_id": to.pn().to_string()}));
    message["attachments"] = json!([{"name": "", "mime_type": "", "storage_key": key}]);
    json!({"config": config, "message": message})
}

fn key(event: &Value) -> String {
    let key = attachment(event)["storage_key"].as_str();
    key.expect("storage_key").to_owned()
}

/// The state and the reason of the only attachment.
fn standing(world: &World) -> (i64, Option<String>) {
    let path = world.account_dir().join("channel.db");
    let store = rusqlite::Connection::open(path).expect("channel.db");
    let row = store.query_row("SELECT state, reason FROM attachment", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    row.expect("attachment")
}

/// The operator may fetch it. The agent may not send it on, and what the operator gave up on nobody goes on fetching.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_seen_once_stays_where_it_is() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 30_000);
    let once = wa::message::ImageMessage {
        view_once: Some(true),
        ..upload(&anna, &content).await
    };
    send(&anna, &world, &once).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "view_once", "{event}");
    let key = key(&event);
    let push = pushed(&config(json!({})), &anna, &key);
    let refused = host.ask_refused("push", push.clone()).await;
    assert_eq!(refused, "attachment_not_here");
    assert_eq!(media.served().1, 0);
    media.cut(MediaOp::Download, 1000, 20);
    let said = get(&world, &key, &["--timeout", "1"]).await;
    assert!(said.is_err());
    let given_up = || standing(&world) == (3, Some("view_once".to_owned()));
    eventually("nobody fetches it", given_up).await;
    media.clear_faults();
    assert!(get(&world, &key, &[]).await.expect("media get") == content);
    // That it is here now makes no difference.
    let refused = host.ask_refused("push", push).await;
    assert_eq!(refused, "attachment_not_here");
    host.kill().await;
    let mut host = start(&world, json!({})).await;
    let again = host.event().await;
    assert_eq!(extra(&again, "media_error"), "view_once", "{again}");
    assert!(attachment(&again)["url"].is_null(), "{again}");
    let allowed = config(json!({"view_once": true}));
    host.ask("push", pushed(&allowed, &anna, &key)).await;
}

/// Nothing is fetched of a file that is too large for the call, by what its sender says or once that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_be_sent_on_is_not_fetched_for_it() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let media = &world.server.core().media;
    let mut config = config(json!({"max_bytes": 30_000}));
    config["max_attachment_bytes"] = json!(50_000);
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;
    let large = upload(&anna, &bytes(1, 60_000)).await;
    send(&anna, &world, &large).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "too_large", "{event}");
    let push = pushed(&config, &anna, &key(&event));
    assert_eq!(host.ask_refused("push", push).await, "attachment_too_large");
    assert_eq!(media.served().1, 0);
    let lying = |image| wa::message::ImageMessage {
        file_length: Some(10),
        ..image
    };
    let liar = lying(upload(&anna, &bytes(2, 60_000)).await);
    send(&anna, &world, &liar).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "too_large", "{event}");
    let push = pushed(&config, &anna, &key(&event));
    assert_eq!(host.ask_refused("push", push).await, "attachment_too_large");
    assert_eq!((media.served().1, files(&world).len()), (2, 0));
    // Somebody who may have more asks while it is on its way under the limits of the configuration.
    let content = bytes(3, 36_000);
    let slow = lying(upload(&anna, &content).await);
    media.slow_down_one(slow.direct_path.as_ref().expect("path"), 7_500);
    send(&anna, &world, &slow).await;
    let event = host.event().await;
    assert_eq!(extra(&event, "media_error"), "pending", "{event}");
    assert!(get(&world, &key(&event), &[]).await.expect("media get") == content);
    assert_eq!(media.served().1, 3);
}

/// What somebody has changed where it lies is fetched again, also if it is no longer a file that could be sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_emptied_on_the_disk_is_fetched_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = start(&world, json!({})).await;
    let content = bytes(1, 30_000);
    send(&anna, &world, &upload(&anna, &content).await).await;
    let event = host.event().await;
    let kept = common::media::file(attachment(&event));
    std::fs::remove_file(&kept).expect("remove");
    std::fs::write(&kept, "").expect("write");
    let mut push = pushed(&config(json!({})), &anna, &key(&event));
    // As hosts do that leave no field out.
    push["message"]["attachments"][0]["data_base64"] = json!("");
    let result = host.ask("push", push).await;
    let (_, sent) = arrived(&anna, &ids(&result)[0]).await;
    assert!(sent == content, "the same bytes");
}

/// A key is worth nothing to another account of the same machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_other_accounts_are_none() {
    let (one, other) = (World::linked().await, World::linked().await);
    let mut keys = Vec::new();
    for (seed, world) in [(1, &one), (2, &other)] {
        let anna = world.person("Anna").await;
        let mut host = start(world, json!({})).await;
        let content = bytes(seed, 1000);
        send(&anna, world, &upload(&anna, &content).await).await;
        let key = key(&host.event().await);
        assert!(get(world, &key, &[]).await.expect("media get") == content);
        keys.push((world, anna, host, key));
    }
    let (first, second) = (keys[0].3.clone(), keys[1].3.clone());
    for ((world, anna, host, own), theirs) in keys.iter_mut().zip([second, first]) {
        assert_ne!(*own, theirs);
        let said = get(world, &theirs, &[]).await.expect_err("not theirs");
        assert!(said.contains("another account"), "{said}");
        let push = pushed(&config(json!({})), anna, &theirs);
        assert_eq!(host.ask_refused("push", push).await, "unknown_storage_key");
    }
}

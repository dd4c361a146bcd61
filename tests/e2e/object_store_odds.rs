//! An object store that takes its time, refuses some things, or is tampered with; and objects whose account, or whose place
//! in the configuration, is another by now.

use crate::common;

use common::disk::Disk;
use common::media::{attachment, bytes, extra, files};
use common::s3::{PARTS, S3, config, send, told};
use common::sending::{arrived, ids};
use common::{World, code, eventually, message, open, request};
use serde_json::json;

/// What an upload in parts leaves where it cannot be taken back is removed later, however often it is tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upload_is_forgotten_for_a_later_one() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    s3.manner
        .refuse(&["CompleteMultipartUpload", "AbortMultipartUpload"]);
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    let content = bytes(1, PARTS);
    let id = send(&anna, &world, &content).await;
    let event = told(&mut host, &id).await;
    assert_eq!(extra(&event, "media_error"), "store_refused", "{event}");
    let left = s3.objects().len();
    assert!(left > 0, "parts without an object");
    assert!(files(&world).is_empty());
    s3.manner.refuse(&[]);
    assert!(s3.get(&world, &event).await.expect("media get") == content);
    let one = |s3: &S3| s3.objects().len() == 1;
    eventually("the parts of the first are gone", || one(&s3)).await;
    assert!(s3.objects().keys().all(|name| name.ends_with(".pdf")));
    let (_, fetched) = world.server.core().media.served();
    assert_eq!(fetched, 2);
}

/// An upload whose number nobody can note is taken back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_upload_begins_of_which_nobody_would_know() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    let refuse = "CREATE TRIGGER refused BEFORE INSERT ON remains WHEN NEW.upload <> ''
                  BEGIN SELECT RAISE(ABORT, 'as the test wants it'); END";
    let path = world.account_dir().join("channel.db");
    let store = rusqlite::Connection::open(path).expect("channel.db");
    store.execute_batch(refuse).expect("trigger");
    let id = send(&anna, &world, &bytes(1, PARTS)).await;
    let event = told(&mut host, &id).await;
    assert_eq!(extra(&event, "media_error"), "disk_failed", "{event}");
    let asked = [
        "CreateMultipartUpload",
        "UploadPart",
        "AbortMultipartUpload",
    ];
    assert_eq!(asked.map(|what| s3.manner.asked(what)), [1, 0, 1]);
    assert!(s3.objects().is_empty());
}

/// Whoever may not remove anything may still write, and what was written to see that is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_look_at_a_store_leaves_is_known() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    s3.manner.refuse(&["PutObject"]);
    let id = send(&anna, &world, &bytes(1, 1000)).await;
    let event = told(&mut host, &id).await;
    assert_eq!(extra(&event, "media_error"), "store_refused", "{event}");
    s3.manner.refuse(&["DeleteObjects"]);
    let id = send(&anna, &world, &bytes(2, 1000)).await;
    let event = told(&mut host, &id).await;
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    let check = |s3: &S3| s3.objects().keys().any(|name| name.ends_with("/check"));
    assert!(check(&s3) && s3.objects().len() == 2);
    host.kill().await;
    s3.manner.refuse(&[]);
    let _host = s3.host(&world, &[], config(json!({}))).await;
    eventually("it is removed", || !check(&s3)).await;
}

/// What was on its way when its owner stopped may come after the next one has tidied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_late_is_known() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let remains = || -> i64 {
        let path = world.account_dir().join("channel.db");
        let store = rusqlite::Connection::open(path).expect("channel.db");
        let count = store.query_row("SELECT count(*) FROM remains", [], |row| row.get(0));
        count.expect("remains")
    };
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    s3.manner.holds.send_replace(Some("PutObject"));
    send(&anna, &world, &bytes(1, 1000)).await;
    eventually("it is on its way", || s3.manner.asked("PutObject") == 1).await;
    assert_eq!(remains(), 1);
    host.ask("stop_ingress", json!({"config": config(json!({}))}))
        .await;
    // The next one lets nobody in.
    let mut nobody = config(json!({}));
    nobody["dm_policy"] = json!("deny");
    let mut next = s3.host(&world, &[], nobody.clone()).await;
    eventually("there is nothing yet", || remains() == 0).await;
    s3.manner.holds.send_replace(None);
    eventually("it is there and known", || {
        s3.objects().len() == 1 && remains() == 1
    })
    .await;
    next.kill().await;
    let _host = s3.host(&world, &[], nobody).await;
    eventually("it is gone", || s3.objects().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_one_chat_that_go_slowly_delay_no_other_chat() {
    let world = World::linked().await;
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    let s3 = S3::up().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    s3.manner.holds.send_replace(Some("UploadPart"));
    for seed in [1, 2] {
        send(&anna, &world, &bytes(seed, PARTS)).await;
    }
    eventually("both are on their way", || {
        s3.manner.asked("UploadPart") == 2
    })
    .await;
    let id = send(&bob, &world, &bytes(3, 2 << 20)).await;
    let event = told(&mut host, &id).await;
    assert_eq!(extra(&event, "media_state"), "stored", "{event}");
    s3.manner.holds.send_replace(None);
    let whole = |s3: &S3| s3.objects().keys().all(|name| name.ends_with(".pdf"));
    eventually("all are there", || whole(&s3) && s3.objects().len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_slowly_delays_no_download() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    s3.manner.holds.send_replace(Some("DeleteObjects"));
    let settings = config(json!({"max_total_bytes": 10}));
    let mut host = s3.host(&world, &[], settings.clone()).await;
    let first = send(&anna, &world, &bytes(1, 1000)).await;
    let event = told(&mut host, &first).await;
    let reply = message(
        "thanks",
        json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": first}),
    );
    host.ask("deliver", json!({"config": settings, "message": reply}))
        .await;
    send(&anna, &world, &bytes(2, 1000)).await;
    host.event().await;
    eventually("the first is being removed", || {
        s3.manner.asked("DeleteObjects") == 1
    })
    .await;
    send(&anna, &world, &bytes(3, 1000)).await;
    let third = host.event().await;
    assert_eq!(extra(&third, "media_state"), "stored", "{third}");
    assert_eq!(s3.objects().len(), 3);
    s3.manner.holds.send_replace(None);
    eventually("it is gone", || s3.objects().len() == 2).await;
    // Its key works on.
    host.ask("configure", json!({"config": config(json!({}))}))
        .await;
    assert!(s3.get(&world, &event).await.expect("media get") == bytes(1, 1000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_somebody_removed_is_put_there_again() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    let content = bytes(1, 1000);
    send(&anna, &world, &content).await;
    let first = host.event().await;
    let tamper = || {
        let objects = s3.objects();
        assert_eq!(objects.len(), 1);
        objects
            .values()
            .for_each(|path| std::fs::remove_file(path).expect("removed"));
    };
    // By the same content, encrypted anew.
    tamper();
    send(&anna, &world, &content).await;
    let again = host.event().await;
    assert_eq!(extra(&again, "media_state"), "stored", "{again}");
    assert!(s3.at(&again) == content);
    // By its key.
    tamper();
    assert!(s3.get(&world, &first).await.expect("media get") == content);
    assert!(s3.at(&first) == content);
    // An object that is not what it was is no file.
    let path = s3.objects().into_values().next().expect("object");
    std::fs::write(path, bytes(2, 1000)).expect("changed");
    assert!(s3.get(&world, &first).await.expect("media get") == content);
    assert!(s3.at(&first) == content);
}

/// What is brought here to be sent leaves the disk what messages need, however little there was of it to begin with; and
/// nothing is brought for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_brought_while_there_is_space_and_somebody_waits() {
    let Some(disk) = Disk::new(96) else { return };
    let world = disk.world().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let mut host = s3.host(&world, &[], config(json!({}))).await;
    let process = host.child.id().expect("pid");
    // Three pieces.
    let content = bytes(1, 2 * PARTS);
    let id = send(&anna, &world, &content).await;
    let event = told(&mut host, &id).await;
    assert!(s3.get(&world, &event).await.expect("media get") == content);
    let key = &attachment(&event)["storage_key"];
    let push = |seconds: u64| {
        let to = json!({"conversation_id": anna.pn().to_string()});
        let mut push = json!({"config": config(json!({})), "message": message("", to)});
        push["config"]["send_timeout_secs"] = json!(seconds);
        push["message"]["attachments"] = json!([{"name": "", "mime_type": "", "storage_key": key}]);
        push
    };
    let begun = s3.manner.asked("GetObject");
    let asked = || s3.manner.asked("GetObject") - begun;
    s3.manner.holds.send_replace(Some("GetObject"));
    let late = host.ask_refused("push", push(2)).await;
    assert_eq!(late, "attachment_not_ready");
    assert!(asked() == 1 && is_reading(process));
    s3.manner.holds.send_replace(None);
    eventually("what came is gone", || !is_reading(process)).await;
    assert_eq!(asked(), 1);
    // There is space for all of it, until somebody else takes that.
    s3.manner.holds.send_replace(Some("GetObject"));
    host.send(&request("push", push(30))).await;
    eventually("it is brought", || asked() == 2).await;
    disk.fill(26 << 20);
    s3.manner.holds.send_replace(None);
    let refused = host.answer().await;
    assert_eq!(code(&refused), "storage_full");
    assert!(refused.to_string().contains("make room"), "{refused}");
    assert!(asked() == 2 && !is_reading(process));
    disk.free();
    let result = host.ask("push", push(30)).await;
    let (_, came) = arrived(&anna, &ids(&result)[0]).await;
    assert!(came == content, "the same bytes");
}

/// Whether a process has a file of a media store open that has no name.
fn is_reading(process: u32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("open files");
    let open = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    open.map(|path| path.to_string_lossy().into_owned())
        .any(|path| path.contains("media/part") && path.ends_with("(deleted)"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_stay_where_they_were_put_and_go_with_the_account() {
    let mut world = World::linked().await;
    let anna = world.person("Anna").await;
    let s3 = S3::up().await;
    let stores = ["s3://media/a", "file", "s3://second/b", "s3://media/a"];
    let mut host = s3
        .host(&world, &[], config(json!({"store": stores[0]})))
        .await;
    let mut events = Vec::new();
    for (nth, store) in stores.into_iter().enumerate() {
        let settings = config(json!({"store": store}));
        host.ask("configure", json!({"config": settings})).await;
        let content = bytes(nth as u64, 1000);
        send(&anna, &world, &content).await;
        let event = host.event().await;
        let url = attachment(&event)["url"].as_str().expect("url").to_owned();
        assert!(url.starts_with(store), "{url}");
        events.push((event, content));
    }
    for (event, content) in &events {
        assert!(&s3.get(&world, event).await.expect("media get") == content);
    }
    host.kill().await;
    assert_eq!((s3.objects().len(), files(&world).len()), (3, 1));
    // Another account in the place of this one has the objects of the one before removed.
    world
        .server
        .core()
        .revoke_device(&world.phone, world.device);
    let nobody = json!({"conversation_id": anna.pn().to_string()});
    let push = json!({"config": open(), "message": message("x", nobody)});
    assert_eq!(world.refused("push", push).await, "logged_out");
    let core = world.server.core();
    let other = core.create_account(Default::default()).expect("account");
    let summary = world.link_as(&["--replace"], Some(&other.phone)).await;
    world.is(&summary);
    let _host = s3.host(&world, &[], config(json!({}))).await;
    let left = |s3: &S3| s3.objects().len() + files(&world).len();
    eventually("nothing is left", || left(&s3) == 0).await;
}

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_new_file_is_its_owners_alone_and_keeps_its_id() {
    let store = TestStore::new();
    let mode = std::fs::metadata(store.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let id = store.id().to_owned();
    assert_eq!(store.reopen().id(), id);
    assert_ne!(TestStore::new().id(), id);
}

#[test]
fn what_is_no_database_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel.db");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Store::open(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "store_corrupt");
    assert!(error.to_string().contains("doctor --repair"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[test]
fn damage_in_the_middle_is_seen_when_it_is_met() {
    let store = TestStore::new();
    let messages = (0..200).map(|n| direct(ANN, &format!("M{n}"))).collect();
    store.insert(messages).wait().unwrap();
    let path = store.path();
    let TestStore { store, dir } = store;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4096..length].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let met =
        Store::open(&path).and_then(|store| store.next_to_emit(9, WEEK, NOW).wait().map(|_| ()));
    assert_eq!(met.unwrap_err().code(), "store_corrupt");
    drop(dir);
}

#[test]
fn a_newer_schema_is_left_alone() {
    let store = TestStore::new();
    let path = store.path();
    let TestStore { store, dir } = store;
    drop(store);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    drop(conn);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "store_too_new");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    drop(dir);
}

#[test]
fn a_missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(&dir.path().join("no/channel.db"))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.code(), "store_failed");
}

#[test]
fn what_was_answered_is_there_for_another_connection() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    // The first handle is still open, as it is when its process is killed.
    let second = Store::open(&store.path()).unwrap();
    assert_eq!(second.next_to_emit(9, WEEK, NOW).wait().unwrap().len(), 1);
}

#[test]
fn one_failing_call_takes_no_other_with_it() {
    let store = TestStore::new();
    // Held up by the first, the others share a transaction.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let first = store.submit(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let good = store.insert(vec![direct(ANN, "M1")]);
    let bad = store.submit(|tx| {
        tx.execute("UPDATE inbox SET stanza = 'changed'", [])?;
        tx.execute("INSERT INTO inbox (chat) VALUES (1)", [])
    });
    let also_good = store.insert(vec![direct(ANN, "M2")]);
    go.send(()).unwrap();
    first.wait().unwrap();
    assert!(good.wait().is_ok());
    assert_eq!(bad.wait().unwrap_err().code(), "store_failed");
    assert!(also_good.wait().is_ok());
    let ids: Vec<_> = store.waiting().into_iter().map(|m| m.stanza_id).collect();
    assert_eq!(ids, ["M1", "M2"]);
}

#[test]
fn dropping_the_last_handle_commits_what_was_asked_for() {
    let store = TestStore::new();
    let clone = store.store.clone();
    for n in 0..300 {
        drop(clone.insert(vec![direct(ANN, &format!("M{n}"))]));
    }
    drop(clone);
    assert_eq!(store.reopen().counts().wait().unwrap().waiting, 300);
}

#[test]
fn a_full_disk_is_named_and_passes() {
    let store = TestStore::new();
    store.put(direct(ANN, "M0"));
    store
        .submit(|tx| {
            let pages: i64 = tx.pragma_query_value(None, "page_count", |row| row.get(0))?;
            tx.pragma_update(None, "max_page_count", pages)
        })
        .wait()
        .unwrap();
    let mut big = direct(ANN, "M1");
    big.raw = vec![0; 1 << 20];
    let error = store.insert(vec![big.clone()]).wait().unwrap_err();
    assert_eq!(error.code(), "storage_full");
    store
        .submit(|tx| tx.pragma_update(None, "max_page_count", 1_000_000))
        .wait()
        .unwrap();
    assert!(matches!(store.put(big), Inserted::Inserted(_)));
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let store = TestStore::new();
    let mut signal = store.inbound_signal();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let first = store.submit(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let calls: Vec<_> = (0..500)
        .map(|n| store.insert(vec![direct(ANN, &format!("M{n}"))]))
        .collect();
    go.send(()).unwrap();
    first.await.unwrap();
    for call in calls {
        assert!(matches!(call.await.unwrap()[..], [Inserted::Inserted(_)]));
    }
    // The first may have found some of them waiting behind it already.
    let commits = *signal.borrow_and_update();
    assert!(commits <= 2, "{commits} commits for 500 calls");
}

#[test]
fn notes_about_the_account_survive() {
    let store = TestStore::new();
    assert_eq!(store.linked().wait().unwrap(), None);
    let linked = Linked {
        phone: jid(ANN),
        lid: Some(jid(ANN_LID)),
        device: 7,
        push_name: Some("Ann".to_owned()),
    };
    let terminal = Terminal {
        state: "banned".to_owned(),
        since: NOW,
        until: Some(NOW + 60),
        reason: "402".to_owned(),
    };
    store.set_linked(Some(linked.clone())).wait().unwrap();
    store.set_terminal(Some(terminal.clone())).wait().unwrap();
    store.set_connected(NOW).wait().unwrap();
    store
        .set_disconnected(NOW + 5, "stream ended".to_owned())
        .wait()
        .unwrap();
    let store = store.reopen();
    assert_eq!(store.linked().wait().unwrap(), Some(linked));
    assert_eq!(store.terminal().wait().unwrap(), Some(terminal));
    assert_eq!(
        store.connections().wait().unwrap(),
        Connections {
            connected: Some(NOW),
            disconnected: Some(NOW + 5),
            reason: Some("stream ended".to_owned()),
            lost: true,
        }
    );
    store.set_terminal(None).wait().unwrap();
    assert_eq!(store.terminal().wait().unwrap(), None);
    // The first login after that is a reconnect, one that nothing was lost before is none.
    for at in [NOW + 6, NOW + 7] {
        store.set_connected(at).wait().unwrap();
    }
    let store = store.reopen();
    let shown = store.counters().wait().unwrap().shown();
    assert!(shown.contains(&("reconnects", "1".to_owned())), "{shown:?}");
}

#[test]
fn what_was_erased_is_in_no_file_soon() {
    let store = TestStore::new();
    store.put(direct(ANN, "SECRET"));
    store.put(direct(ANN, "OTHER"));
    let mut log = store.path().into_os_string();
    log.push("-wal");
    let files = [store.path(), log.into()];
    let there = |text: &str| {
        files.iter().any(|file| {
            let bytes = std::fs::read(file).unwrap();
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        })
    };
    assert!(there("text of SECRET"));
    let id = store.waiting()[0].id;
    store.drop_denied(id, "denied".to_owned()).wait().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while there("text of SECRET") || there("raw of SECRET") {
        assert!(std::time::Instant::now() < until, "the text stays");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(there("text of OTHER"));
}

/// A file of the version that did not keep who sent an attachment to a group; with one of Ann's and one of Bob's in a
/// group that has Ann by her LID, and one that Bob sent to us alone.
fn before_authors(path: &std::path::Path) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(path).unwrap();
    let newer = |step: &&str| step.contains("ADD COLUMN author");
    let version = schema::MIGRATIONS.iter().position(newer).unwrap();
    for step in &schema::MIGRATIONS[..version] {
        conn.execute_batch(step).unwrap();
    }
    conn.pragma_update(None, "user_version", version as i64)
        .unwrap();
    conn.execute_batch(&format!(
        "INSERT INTO peer (key, public_id, route) VALUES (1, '1@g.us', '1@g.us'), (2, '{ANN_LID}', '{ANN}'),
             (3, '{BOB_LID}', '{BOB}');
         INSERT INTO alias (address, peer) SELECT public_id, key FROM peer;
         INSERT INTO alias (address, peer) SELECT route, key FROM peer WHERE key > 1;
         INSERT INTO member VALUES ('1@g.us', '{ANN_LID}', NULL, 0);
         INSERT INTO inbox (id, chat, sender, stanza, event_id, route, timestamp)
             VALUES (1, 1, 2, 'a', 'a', '1@g.us', 1), (2, 1, 3, 'b', 'b', '1@g.us', 1), (3, 3, 3, 'c', 'c', '{BOB}', 1);
         INSERT INTO attachment (message, nth, sha256, kind, direct_path, view_once)
             SELECT id, 0, zeroblob(32), 'image', '/v', 0 FROM inbox;"
    ))
    .unwrap();
    conn
}

fn authors(path: &std::path::Path) -> Vec<Option<String>> {
    let conn = rusqlite::Connection::open(path).unwrap();
    let mut read = conn
        .prepare("SELECT author FROM attachment ORDER BY message")
        .unwrap();
    let read = read.query_map([], |row| row.get(0)).unwrap();
    read.collect::<rusqlite::Result<_>>().unwrap()
}

#[test]
fn who_sent_a_file_to_a_group_is_made_out_for_files_of_before() {
    let some = |text: &str| Some(text.to_owned());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel.db");
    drop(before_authors(&path));
    drop(Store::open(&path).unwrap());
    assert_eq!(authors(&path), [some(ANN_LID), some(BOB), None]);
    let path = dir.path().join("damaged-channel.db");
    let damage = "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'inbox_event'";
    before_authors(&path).execute_batch(damage).unwrap();
    assert!(repair(&path, 77).unwrap().is_some());
    // What a group says of itself is not repaired, but fetched anew.
    assert_eq!(authors(&path), [some(ANN), some(BOB), None]);
}

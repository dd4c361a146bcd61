use super::*;

/// A file with messages of two people and something in the outbox; its bytes.
fn filled() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>, String) {
    let store = TestStore::new();
    for n in 0..1500 {
        let from = if n % 2 == 0 { ANN } else { BOB };
        drop(store.insert(vec![direct(from, &format!("M{n}"))]));
    }
    let begun = store.begin(Mode::Websocket, None);
    for row in store.next_to_emit(100, WEEK, NOW).wait().unwrap() {
        drop(store.assign_emission(row.id, begun.session, String::new(), Vec::new(), NOW));
    }
    let call = OutboundRequest {
        idempotency_key: None,
        content_hash: "x".to_owned(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[BOB]),
        parts: vec![NewPart {
            message_id: "OUT".to_owned(),
            payload: b"x".to_vec(),
            kind: "text".to_owned(),
            file: None,
        }],
        expires_at: NOW + 9,
    };
    store.enqueue(call, NOW).wait().unwrap();
    let approval = Approval {
        id: jid(ANN),
        addresses: addresses(&[ANN]),
        name: Some("Ann".to_owned()),
        since: NOW,
    };
    store.take_approvals(vec![approval]).wait().unwrap();
    let path = store.path();
    let id = store.id().to_owned();
    let TestStore { store, dir } = store;
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes, id)
}

#[test]
fn what_is_sound_or_newer_or_absent_is_left_alone() {
    let (dir, path, bytes, _) = filled();
    assert_eq!(repair(&path, 1).unwrap(), None);
    assert_eq!(repair(&dir.path().join("x.channel.db"), 1).unwrap(), None);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    drop(conn);
    assert_eq!(repair(&path, 1).unwrap_err().code(), "store_too_new");
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len());
}

#[test]
fn damaged_pages_cost_what_was_on_them() {
    let (_dir, path, bytes, id) = filled();
    let mut damaged = bytes.clone();
    let pages = bytes.len() / 4096;
    for page in (pages / 3..pages / 3 + 8).chain(pages / 2..pages / 2 + 8) {
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
    }
    std::fs::write(&path, &damaged).unwrap();
    let error = Store::open(&path).map(drop).unwrap_err();
    assert_eq!(error.code(), "store_corrupt");
    let repaired = repair(&path, 77).unwrap().unwrap();
    assert!(repaired.lost && repaired.usable);
    let approvals = Store::open(&path).unwrap().approvals().wait().unwrap();
    assert_eq!(approvals[0].addresses, addresses(&[ANN]));
    assert_eq!(std::fs::read(&repaired.original).unwrap(), damaged);
    let store = Store::open(&path).unwrap();
    assert_ne!(store.id(), id, "numbers of the old file prove nothing here");
    let waiting = store.next_to_emit(2000, WEEK, NOW).wait().unwrap();
    assert!(waiting.len() > 1000, "{}", waiting.len());
    assert!(store.part("OUT".to_owned()).wait().unwrap().is_some());
    let at: Vec<_> = waiting.iter().map(|row| row.id).collect();
    assert!(at.is_sorted(), "in the order in which they came");
}

#[test]
fn what_is_no_database_becomes_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channel.db");
    std::fs::write(&path, vec![b'x'; 9000]).unwrap();
    let repaired = repair(&path, 77).unwrap().unwrap();
    assert!(repaired.lost && repaired.usable);
    assert_eq!(std::fs::read(repaired.original).unwrap(), vec![b'x'; 9000]);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.counts().wait().unwrap(), Counts::default());
}

#[test]
fn people_who_are_lost_are_found_in_the_ids_of_their_events() {
    let (_dir, path, _, _) = filled();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM peer; DELETE FROM alias; PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'inbox_event';")
        .unwrap();
    drop(conn);
    let repaired = repair(&path, 77).unwrap().unwrap();
    assert!(!repaired.lost, "{repaired:?}");
    let store = Store::open(&path).unwrap();
    let waiting = store.next_to_emit(2000, WEEK, NOW).wait().unwrap();
    assert_eq!(waiting.len(), 1400);
    assert_eq!(waiting[0].chat.public_id, jid(ANN));
    // Nor are they strangers now.
    let mut pace = PACE;
    pace.limits.strangers = 0;
    let call = OutboundRequest {
        idempotency_key: None,
        content_hash: "y".to_owned(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[ANN]),
        parts: vec![NewPart {
            message_id: "NEXT".to_owned(),
            payload: b"x".to_vec(),
            kind: "text".to_owned(),
            file: None,
        }],
        expires_at: NOW + 9,
    };
    store.enqueue(call, NOW).wait().unwrap();
    let turn = store.mark_handed("NEXT".to_owned(), pace).wait().unwrap();
    assert_eq!(turn, Turn::Now);
}

/// Whatever is damaged, what comes out can be used.
#[test]
fn any_damage() {
    let (_dir, path, bytes, _) = filled();
    let seed = 20_260_101;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..40 {
        let mut damaged = bytes.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..damaged.len() - 600);
            let length = random.usize(1..600);
            random.fill(&mut damaged[at..at + length]);
        }
        if random.u8(..) < 64 {
            damaged.truncate(random.usize(1..damaged.len()));
        }
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(path.with_file_name(format!("channel.db{suffix}")));
        }
        std::fs::write(&path, &damaged).unwrap();
        match repair(&path, round) {
            Ok(_) => {}
            // The version is in the damaged header.
            Err(StoreError::TooNew { .. }) => continue,
            Err(error) => panic!("seed {seed}, round {round}: {error}"),
        }
        let store = Store::open(&path)
            .unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        store.counts().wait().unwrap();
        let waiting = store.next_to_emit(2000, WEEK, NOW).wait();
        waiting.unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
    }
}

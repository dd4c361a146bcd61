use super::*;

const MONTH: i64 = 31 * 24 * 3600;

/// Rows carry the time of day at which they were stored.
fn today() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

fn sweep(store: &TestStore, kept: i64, now: i64) -> i64 {
    let mut dropped = 0;
    loop {
        let swept = store.sweep_beyond(kept, now).wait().unwrap();
        dropped += swept.dropped;
        if !swept.more {
            return dropped;
        }
    }
}

fn rows(store: &TestStore, table: &'static str) -> i64 {
    store
        .submit(move |tx| tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0)))
        .wait()
        .unwrap()
}

#[test]
fn a_month_old_is_gone_and_what_was_unproven_is_counted() {
    let store = TestStore::new();
    for n in 0..1200 {
        drop(store.insert(vec![direct(ANN, &format!("M{n}"))]));
    }
    let begun = store.begin(Mode::Websocket, None);
    for row in store.next_to_emit(700, WEEK, NOW).wait().unwrap() {
        drop(store.assign_emission(row.id, begun.session, String::new(), Vec::new(), NOW));
    }
    store.prove_up_to(&store.cursor(500)).wait().unwrap();
    assert_eq!(sweep(&store, 100_000, today()), 0);
    assert_eq!(rows(&store, "inbox"), 1200);
    assert_eq!(sweep(&store, 100_000, today() + MONTH), 700);
    assert_eq!(rows(&store, "inbox") + rows(&store, "emission"), 0);
    assert_eq!(store.counts().wait().unwrap().dropped, 700);
    // The numbers go on where they were.
    assert_eq!(store.last_cursor().wait().unwrap(), store.cursor(700));
    store.put(direct(ANN, "new"));
    let begun = store.begin(Mode::Websocket, Some(&store.cursor(600)));
    store.number_all(begun.session);
    assert_eq!(store.last_cursor().wait().unwrap(), store.cursor(701));
    let path = store.path();
    let TestStore { store, dir } = store;
    drop(store);
    let bytes = std::fs::read(path).unwrap();
    let text = b"text of M7\"";
    assert!(!bytes.windows(text.len()).any(|at| at == text));
    drop(dir);
}

#[test]
fn beyond_the_most_that_is_kept_the_oldest_go() {
    let store = TestStore::new();
    for n in 0..30 {
        store.put(direct(ANN, &format!("M{n}")));
    }
    assert_eq!(sweep(&store, 20, today()), 10);
    let left: Vec<_> = store.waiting().into_iter().map(|m| m.stanza_id).collect();
    assert_eq!((left.len(), left[0].as_str()), (20, "M10"));
}

#[test]
fn what_was_sent_goes_too_but_nothing_that_is_under_way() {
    let store = TestStore::new();
    let call = |id: &str| OutboundRequest {
        idempotency_key: None,
        content_hash: id.to_owned(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[ANN]),
        parts: vec![NewPart {
            message_id: id.to_owned(),
            payload: b"x".to_vec(),
            kind: "text".to_owned(),
            file: None,
        }],
        expires_at: i64::MAX,
    };
    for id in ["OLD", "WAITING"] {
        store.enqueue(call(id), NOW).wait().unwrap();
    }
    store.mark_handed("OLD".to_owned(), PACE).wait().unwrap();
    store.mark_sent("OLD".to_owned(), NOW).wait().unwrap();
    sweep(&store, 100_000, NOW + MONTH);
    assert_eq!(store.part("OLD".to_owned()).wait().unwrap(), None);
    assert!(store.part("WAITING".to_owned()).wait().unwrap().is_some());
    assert_eq!(rows(&store, "request"), 1);
}

#[test]
fn a_cursor_of_a_later_state_of_the_file_proves_nothing_now_or_later() {
    let store = TestStore::new();
    for n in 0..5 {
        store.put(direct(ANN, &format!("M{n}")));
    }
    let newer = store.cursor(50);
    let begun = store.begin(Mode::Websocket, Some(&newer));
    assert_eq!(begun.cursor, store.cursor(0));
    store.emit_all(begun.session);
    assert_eq!(store.last_cursor().wait().unwrap(), store.cursor(55));
    let begun = store.begin(Mode::Websocket, Some(&newer));
    assert_eq!((begun.redelivered, begun.cursor), (5, store.cursor(50)));
    for odd in ["-1", "9223372036854775807", "99999999999999999999", "x", ""] {
        let cursor = format!("{}:{odd}", store.id());
        let begun = store.begin(Mode::Websocket, Some(&cursor));
        assert_eq!(begun.cursor, store.cursor(0), "{odd}");
        assert_eq!(store.last_cursor().wait().unwrap(), store.cursor(55));
    }
}

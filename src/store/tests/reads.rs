use super::*;

/// What is to be marked, by chat; it counts as marked then.
fn marks(store: &TestStore) -> Vec<Unread> {
    let next = || store.wanted_read().wait().unwrap();
    let marked = std::iter::from_fn(|| {
        let (chat, unread) = next()?;
        store.marked_read(chat, unread.upto).wait().unwrap();
        Some(unread)
    });
    marked.collect()
}

fn ids(unread: &Unread) -> Vec<&str> {
    let all = unread.ids.iter().flat_map(|(_, ids)| ids);
    all.map(String::as_str).collect()
}

#[test]
fn what_was_marked_as_read_is_not_marked_again() {
    let store = TestStore::new();
    let messages = ["M1", "M2", "M3"].map(|id| direct(ANN, id));
    store.insert(messages.to_vec()).wait().unwrap();
    let unread = |id: &str| {
        store
            .unread(jid(ANN), id.to_owned())
            .wait()
            .unwrap()
            .unwrap()
    };
    let first = unread("M2");
    assert_eq!(first.chat, jid(ANN));
    assert_eq!(first.ids, [(None, vec!["M2".to_owned(), "M1".to_owned()])]);
    store.mark_read(first.upto).wait().unwrap();
    assert!(unread("M1").ids.is_empty());
    assert_eq!(unread("M3").ids, [(None, vec!["M3".to_owned()])]);
    store
        .insert(vec![message(&[GROUP], &[ANN_LID], "G1")])
        .wait()
        .unwrap();
    let group = store
        .unread(jid(GROUP), "G1".to_owned())
        .wait()
        .unwrap()
        .unwrap();
    assert_eq!(group.ids, [(Some(jid(ANN_LID)), vec!["G1".to_owned()])]);
}

#[test]
fn what_was_given_is_marked_and_nothing_that_was_refused() {
    let store = TestStore::new();
    let mut signal = store.read_signal();
    let in_group = |from, id| message(&[GROUP], &[from], id);
    for said in [
        in_group(BOB, "G1"),
        in_group(BOB, "G2"),
        in_group(ANN, "G3"),
        direct(ANN, "A1"),
        direct(ANN, "A2"),
    ] {
        store.put(said);
    }
    let waiting = store.waiting();
    let (refused, unsaid) = (waiting[0].id, waiting[1].id);
    store
        .drop_denied(refused, "denied".to_owned())
        .wait()
        .unwrap();
    store.set_aside(unsaid, "unsaid".to_owned()).wait().unwrap();
    let session = store.begin(Mode::Websocket, None).session;
    store.emit_all(session);
    assert_eq!(marks(&store), []);
    assert!(!signal.has_changed().unwrap());
    store.want_read(1, 2).wait().unwrap();
    assert!(signal.has_changed().unwrap());
    signal.mark_unchanged();
    // It is kept until it is done, by whoever does it.
    let store = store.reopen();
    let found = marks(&store);
    let (group, direct) = (&found[0], &found[1]);
    assert_eq!((&group.chat, ids(group)), (&jid(GROUP), vec!["G3"]));
    assert_eq!(group.ids[0].0, Some(jid(ANN)));
    assert_eq!((&direct.chat, ids(direct)), (&jid(ANN), vec!["A1"]));
    assert_eq!(marks(&store), []);
    // A reply marks what it answers; one to what was never given, nothing.
    for id in ["A2", "A1", "nothing"] {
        store
            .want_read_by_reply(jid(ANN), id.to_owned())
            .wait()
            .unwrap();
    }
    assert_eq!(ids(&marks(&store)[0]), ["A2"]);
}

#[test]
fn a_chat_is_marked_by_the_address_that_was_used_last() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1"));
    store.emit_all(session);
    store.want_read(1, 1).wait().unwrap();
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "M2"));
    let found = marks(&store);
    assert_eq!(
        (&found[0].chat, ids(&found[0])),
        (&jid(ANN_LID), vec!["M1"])
    );
}

#[test]
fn two_that_turn_out_to_be_one_are_marked_as_one() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    store.put(direct(ANN, "M1"));
    store.put(direct(ANN_LID, "M2"));
    store.emit_all(session);
    store.want_read(1, 2).wait().unwrap();
    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
    let found = marks(&store);
    assert_eq!(found.len(), 1);
    assert_eq!(ids(&found[0]), ["M2", "M1"]);
}

#[test]
fn what_was_given_before_marking_was_wished_is_not_marked() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    let give = |id: &str| {
        store.put(direct(ANN, id));
        store.emit_all(session);
        store.last()
    };
    for (off, on, later) in [("M1", "M2", "M3"), ("M4", "M5", "M6")] {
        give(off);
        let first = give(on);
        store.want_read(first, first).wait().unwrap();
        assert_eq!(ids(&marks(&store)[0]), [on]);
        let then = give(later);
        store.want_read(then, then).wait().unwrap();
        assert_eq!(ids(&marks(&store)[0]), [later]);
        store.forget_reads().wait().unwrap();
    }
}

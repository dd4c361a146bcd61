use super::*;

fn fill(store: &TestStore, ids: std::ops::RangeInclusive<u32>) {
    for n in ids {
        store.put(direct(ANN, &format!("M{n}")));
    }
}

fn reply(store: &Store, id: &str) -> usize {
    store
        .prove_by_reply(jid(ANN), id.to_owned())
        .wait()
        .unwrap()
}

fn names(ids: std::ops::RangeInclusive<u32>) -> Vec<String> {
    ids.map(|n| format!("M{n}")).collect()
}

#[test]
fn unproven_events_come_again_in_order_and_say_so() {
    let store = TestStore::new();
    let first = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=4);
    assert_eq!(store.emit_all(first), names(1..=4));
    assert_eq!(reply(&store, "M2"), 2);
    fill(&store, 5..=5);
    let store = store.reopen();
    let begun = store.begin(Mode::Websocket, None);
    assert_eq!(
        (begun.redelivered, begun.unconfirmed, begun.poisoned),
        (2, 0, 0)
    );
    let rows = store.waiting();
    let seen: Vec<_> = rows
        .iter()
        .map(|m| (m.stanza_id.as_str(), m.attempt, m.redelivered))
        .collect();
    assert_eq!(seen, [("M3", 2, true), ("M4", 2, true), ("M5", 1, false)]);
}

#[test]
fn a_cursor_proves_its_session_up_to_its_number() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=3);
    let numbers: Vec<i64> = store
        .waiting()
        .iter()
        .map(|m| {
            store
                .assign_emission(m.id, session, String::new(), Vec::new(), NOW)
                .wait()
                .unwrap()
                .unwrap()
        })
        .collect();
    let cursor = store.cursor(numbers[1]);
    let begun = store.begin(Mode::Websocket, Some(&cursor));
    assert_eq!(begun.cursor, cursor);
    assert_eq!(store.emit_all(begun.session), names(3..=3));
    // Older evidence takes nothing back.
    assert_eq!(
        store.prove_up_to(&store.cursor(numbers[0])).wait().unwrap(),
        0
    );
    assert_eq!(store.counts().wait().unwrap().unproven, 1);
}

#[test]
fn a_late_cursor_still_proves_what_was_unconfirmed() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=30);
    store.emit_all(session);
    let begun = store.begin(Mode::Websocket, None);
    assert_eq!((begun.redelivered, begun.unconfirmed), (20, 10));
    assert_eq!(store.prove_up_to(&store.cursor(29)).wait().unwrap(), 29);
    let counts = store.counts().wait().unwrap();
    assert_eq!((counts.waiting, counts.unconfirmed), (0, 1));
}

#[test]
fn foreign_and_broken_cursors_prove_nothing() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=2);
    store.emit_all(session);
    let id = store.id().to_owned();
    for cursor in [
        "0123456789abcdef:2".to_owned(),
        "2".to_owned(),
        String::new(),
        format!("{id}:"),
        format!("{id}:x"),
        format!("{id}:99"),
        format!("{id}:-1"),
        format!("{id}:99999999999999999999"),
    ] {
        assert_eq!(store.prove_up_to(&cursor).wait().unwrap(), 0, "{cursor}");
    }
    assert_eq!(
        store.begin(Mode::Websocket, Some("foreign:7")).redelivered,
        2
    );
}

#[test]
fn a_reply_proves_only_its_own_session() {
    let store = TestStore::new();
    let first = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=30);
    store.emit_all(first);
    // Twenty come again, ten are unconfirmed; a reply to one that came again says nothing of those.
    let second = store.begin(Mode::Websocket, None).session;
    store.emit_all(second);
    assert_eq!(reply(&store, "M20"), 20);
    assert_eq!(store.counts().wait().unwrap().unconfirmed, 10);
}

#[test]
fn an_event_is_not_sent_again_after_an_hour() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=1);
    store.emit_all(session);
    let begun = store
        .begin_session(Mode::Websocket, None, None, NOW + 3601)
        .wait()
        .unwrap();
    assert_eq!((begun.redelivered, begun.unconfirmed), (0, 1));
    let event = format!("whatsapp:{ANN}:{ANN}:M1");
    assert!(store.redeliver(event.clone()).wait().unwrap());
    assert!(!store.redeliver(event).wait().unwrap());
    assert_eq!(store.waiting()[0].attempt, 2);
}

#[test]
fn what_has_a_number_and_never_left_comes_again_however_much_it_is() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    fill(&store, 1..=25);
    store.emit_all(session);
    fill(&store, 26..=60);
    store.number_all(session);
    let store = store.reopen();
    let begun = store.begin(Mode::Websocket, None);
    // Of the twenty-five that left twenty, of the others all.
    assert_eq!((begun.redelivered, begun.unconfirmed), (20 + 35, 5));
}

#[test]
fn three_lost_turns_set_an_event_aside_and_only_that() {
    let store = TestStore::new();
    fill(&store, 1..=3);
    let mut begun = store.begin(Mode::Websocket, None);
    assert_eq!(store.emit_all(begun.session), names(1..=3));
    // The first was handled, and the host died over the second.
    begun = store.begin_in_turn(&store.cursor(1), 2);
    for round in 2..=3 {
        assert_eq!(begun.poisoned, 0, "round {round}");
        assert_eq!(store.emit_all(begun.session), names(2..=3));
        begun = store.begin_in_turn(&begun.cursor, store.last() - 1);
    }
    assert_eq!((begun.poisoned, begun.redelivered), (1, 1));
    assert_eq!(store.emit_all(begun.session), names(3..=3));
}

#[test]
fn what_the_host_never_took_loses_no_turn() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let mut begun = store.begin(Mode::Websocket, None);
    for round in 1..=5 {
        assert_eq!((begun.poisoned, begun.unconfirmed), (0, 0), "round {round}");
        assert_eq!(store.emit_all(begun.session), names(1..=2));
        // The state that the session began with, and one that another store wrote.
        let event = format!("0123456789abcdef:{}", store.last() - 1);
        begun = store
            .begin_session(Mode::Websocket, Some(&begun.cursor), Some(&event), NOW)
            .wait()
            .unwrap();
    }
}

#[test]
fn a_turn_is_lost_once_however_often_the_host_says_so() {
    let store = TestStore::new();
    fill(&store, 1..=1);
    let begun = store.begin(Mode::Websocket, None);
    store.emit_all(begun.session);
    // The answers with the newer states never reached it.
    for round in 1..=5 {
        let begun = store.begin_in_turn(&store.cursor(0), 1);
        assert_eq!((begun.poisoned, begun.unconfirmed), (0, 0), "round {round}");
        store.number_all(begun.session);
    }
}

#[test]
fn a_turn_began_although_the_line_was_not_known_to_have_left() {
    let store = TestStore::new();
    fill(&store, 1..=1);
    let mut begun = store.begin(Mode::Websocket, None);
    for _ in 1..=3 {
        assert_eq!(begun.poisoned, 0);
        store.number_all(begun.session);
        begun = store.begin_in_turn(&begun.cursor, store.last());
    }
    assert_eq!(begun.poisoned, 1);
}

#[test]
fn a_host_without_a_memory_goes_on_after_ten_times() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let mut begun = store.begin(Mode::Websocket, None);
    for round in 1..=10 {
        assert_eq!(begun.unconfirmed, 0, "round {round}");
        assert_eq!(store.emit_all(begun.session), names(1..=2));
        begun = store.begin(Mode::Websocket, None);
    }
    assert_eq!((begun.unconfirmed, begun.poisoned), (1, 0));
    assert_eq!(store.emit_all(begun.session), names(2..=2));
}

#[test]
fn a_polled_batch_without_replies_is_offered_once() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let batch = store.begin(Mode::Polling, None).session;
    store.emit_all(batch);
    let cursor = store.cursor(2);
    let begun = store.begin(Mode::Polling, Some(&cursor));
    assert_eq!((begun.redelivered, begun.unconfirmed), (0, 0));
    assert!(store.waiting().is_empty());
    assert_eq!(begun.cursor, cursor);
}

#[test]
fn a_polled_batch_that_nobody_names_is_unconfirmed() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let batch = store.begin(Mode::Polling, None).session;
    store.emit_all(batch);
    let begun = store.begin(Mode::Polling, None);
    assert_eq!((begun.redelivered, begun.unconfirmed), (0, 2));
}

#[test]
fn a_polled_batch_that_was_never_written_comes_again() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let batch = store.begin(Mode::Polling, None).session;
    store.number_all(batch);
    assert_eq!(store.begin(Mode::Polling, None).redelivered, 2);
}

#[test]
fn a_replying_poller_is_offered_the_rest_once_more() {
    let store = TestStore::new();
    fill(&store, 1..=3);
    let batch = store.begin(Mode::Polling, None).session;
    store.emit_all(batch);
    assert_eq!(reply(&store, "M1"), 1);
    let begun = store.begin(Mode::Polling, Some(&store.cursor(3)));
    assert_eq!(begun.redelivered, 2);
    fill(&store, 4..=4);
    assert_eq!(store.emit_all(begun.session), names(2..=4));
    assert_eq!(reply(&store, "M2"), 1);
    let begun = store.begin(Mode::Polling, None);
    assert_eq!((begun.redelivered, begun.unconfirmed), (1, 1));
    assert_eq!(store.emit_all(begun.session), names(4..=4));
}

#[test]
fn a_batch_that_never_left_was_not_offered() {
    let store = TestStore::new();
    fill(&store, 1..=2);
    let batch = store.begin(Mode::Polling, None).session;
    store.number_all(batch);
    let batch = store.begin(Mode::Polling, None).session;
    assert_eq!(store.emit_all(batch), names(1..=2));
    assert_eq!(reply(&store, "M1"), 1);
    let batch = store.begin(Mode::Polling, None).session;
    assert_eq!(store.emit_all(batch), names(2..=2));
    assert_eq!(store.begin(Mode::Polling, None).unconfirmed, 1);
}

#[test]
fn typing_belongs_to_the_oldest_unproven_event() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    assert_eq!(store.oldest_unproven(0).wait().unwrap(), None);
    fill(&store, 1..=1);
    store.put(direct(BOB, "B1"));
    store.emit_all(session);
    let chat = |after| {
        let oldest = store.oldest_unproven(after).wait().unwrap();
        oldest.map(|(number, peer)| (number, peer.public_id))
    };
    assert_eq!(chat(0), Some((1, jid(ANN))));
    assert_eq!(chat(1), Some((2, jid(BOB))));
    assert_eq!(chat(2), None);
    let mut turns = store.turn_signal();
    turns.mark_unchanged();
    reply(&store, "M1");
    assert!(turns.has_changed().unwrap());
    assert_eq!(chat(0), Some((2, jid(BOB))));
}

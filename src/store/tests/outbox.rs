use super::*;

fn keyed(key: &str, ids: &[&str]) -> OutboundRequest {
    OutboundRequest {
        idempotency_key: Some(key.to_owned()),
        content_hash: "same".to_owned(),
        ..call(ANN, ids)
    }
}

fn reply(to: &str, ids: &[&str]) -> OutboundRequest {
    OutboundRequest {
        reply_to: Some((jid(ANN), to.to_owned())),
        ..call(ANN, ids)
    }
}

fn enqueue(store: &Store, call: OutboundRequest) -> Enqueued {
    store.enqueue(call, NOW).wait().unwrap()
}

fn ids(outcome: &Enqueued) -> (bool, Vec<&str>) {
    let (new, parts) = match outcome {
        Enqueued::New { parts, .. } => (true, parts),
        Enqueued::Joined { parts, .. } => (false, parts),
        Enqueued::Conflict => panic!("conflict"),
    };
    (new, parts.iter().map(|p| p.message_id.as_str()).collect())
}

fn hand(store: &Store, id: &str) -> bool {
    store.mark_handed(id.to_owned(), PACE).wait().unwrap() == Turn::Now
}

fn sent(store: &Store, id: &str) {
    assert!(hand(store, id));
    store.mark_sent(id.to_owned(), NOW).wait().unwrap();
}

fn state(store: &Store, id: &str) -> DeliveryState {
    store.part(id.to_owned()).wait().unwrap().unwrap().state
}

#[test]
fn chats_that_are_busy_take_nobodys_place() {
    let store = TestStore::new();
    let Enqueued::New { chat, .. } = enqueue(&store, call(ANN, &["A1"])) else {
        panic!("new");
    };
    enqueue(&store, call(BOB, &["B1"]));
    let next = |besides: HashSet<PeerKey>| {
        let heads = store.next_to_send(1, besides, PACE).wait().unwrap();
        let ready = heads.ready.into_iter();
        ready.map(|m| m.message_id).collect::<Vec<_>>()
    };
    assert_eq!(next(HashSet::new()), ["A1"]);
    assert_eq!(next([chat.key].into()), ["B1"]);
}

#[test]
fn a_repeat_is_known_before_it_has_its_messages() {
    let store = TestStore::new();
    let bare = |call: OutboundRequest| OutboundRequest {
        parts: Vec::new(),
        ..call
    };
    let repeats =
        |call: &OutboundRequest, at| store.repeats(bare(call.clone()), at).wait().unwrap();
    let first = keyed("k", &["A1", "A2"]);
    assert_eq!(repeats(&first, NOW), Repeats::Nothing);
    let Enqueued::New { request, .. } = enqueue(&store, first.clone()) else {
        panic!("new");
    };
    assert_eq!(repeats(&first, NOW), Repeats::Earlier);
    assert_eq!(repeats(&first, NOW + WEEK + 1), Repeats::Nothing);
    let other = OutboundRequest {
        content_hash: "other".to_owned(),
        ..first.clone()
    };
    assert_eq!(repeats(&other, NOW), Repeats::Conflict);
    // Without messages of its own it joins what there is, and brings nothing back.
    let joined = enqueue(&store, bare(first.clone()));
    assert_eq!(ids(&joined), (false, vec!["A1", "A2"]));
    sent(&store, "A1");
    store.withdraw(request).wait().unwrap();
    assert_eq!(repeats(&first, NOW), Repeats::GivenUp);
    enqueue(&store, bare(first.clone()));
    assert_eq!(state(&store, "A2"), DeliveryState::Withdrawn);
    enqueue(&store, keyed("k", &["X1", "X2"]));
    assert_eq!(state(&store, "A2"), DeliveryState::Queued);
    assert_eq!(repeats(&first, NOW), Repeats::Earlier);
    // What was left out of it is told again.
    assert_eq!(store.degraded(request).wait().unwrap(), None);
    store.note_degraded(request, "x".to_owned()).wait().unwrap();
    assert_eq!(
        store.degraded(request).wait().unwrap().as_deref(),
        Some("x")
    );
}

#[test]
fn each_chat_has_one_head_and_keeps_its_order() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1", "A2"]));
    enqueue(&store, call(BOB, &["B1"]));
    enqueue(&store, call(ANN, &["A3"]));
    assert_eq!(heads(&store, PACE), ["A1", "B1"]);
    assert!(hand(&store, "A1"));
    assert!(!hand(&store, "A1"), "it is with the connection");
    assert_eq!(heads(&store, PACE), ["B1"]);
    store.mark_sent("A1".to_owned(), NOW).wait().unwrap();
    assert_eq!(heads(&store, PACE), ["A2", "B1"]);
    store
        .mark_rejected("A2".to_owned(), "not_on_whatsapp".to_owned())
        .wait()
        .unwrap();
    assert_eq!(heads(&store, PACE), ["B1", "A3"]);
    let refused = store.part("A2".to_owned()).wait().unwrap().unwrap();
    assert_eq!(refused.error.as_deref(), Some("not_on_whatsapp"));
    let counts = store.counts().wait().unwrap();
    assert_eq!((counts.queued, counts.rejected), (2, 1));
}

#[test]
fn an_unanswered_message_is_tried_three_times_and_then_lets_the_chat_go_on() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1", "A2"]));
    for _ in 0..3 {
        assert_eq!(heads(&store, PACE), ["A1"]);
        assert!(hand(&store, "A1"));
        store.mark_unknown("A1".to_owned()).wait().unwrap();
    }
    assert_eq!(heads(&store, PACE), ["A2"]);
    assert_eq!(state(&store, "A1"), DeliveryState::Unknown);
    // The answer may still come.
    store.mark_sent("A1".to_owned(), NOW).wait().unwrap();
    assert_eq!(state(&store, "A1"), DeliveryState::Sent);
}

#[test]
fn a_message_that_the_connection_refused_was_not_tried() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1"]));
    assert!(hand(&store, "A1"));
    store.mark_not_handed("A1".to_owned(), FREE).wait().unwrap();
    assert_eq!(state(&store, "A1"), DeliveryState::Queued);
    assert_eq!(next(&store, PACE).ready[0].attempts, 0);
}

#[test]
fn the_next_owner_goes_on_under_the_same_ids() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1", "A2"]));
    assert!(hand(&store, "A1"));
    let store = store.reopen();
    assert!(heads(&store, PACE).is_empty());
    store.recover_outbox().wait().unwrap();
    assert_eq!(heads(&store, PACE), ["A1"]);
    let head = next(&store, PACE).ready.remove(0);
    assert_eq!(
        (head.payload.as_slice(), head.attempts),
        (b"A1".as_slice(), 1)
    );
    assert_eq!(head.chat.route, jid(ANN));
}

#[test]
fn a_key_stands_for_one_request_for_a_week() {
    let store = TestStore::new();
    assert_eq!(
        ids(&enqueue(&store, keyed("k", &["A1", "A2"]))),
        (true, vec!["A1", "A2"])
    );
    assert_eq!(
        ids(&enqueue(&store, keyed("k", &["X"]))),
        (false, vec!["A1", "A2"])
    );
    for id in ["A1", "A2"] {
        sent(&store, id);
    }
    let store = store.reopen();
    assert_eq!(
        ids(&enqueue(&store, keyed("k", &["X"]))),
        (false, vec!["A1", "A2"])
    );
    let other = OutboundRequest {
        content_hash: "other".to_owned(),
        ..keyed("k", &["X"])
    };
    assert_eq!(enqueue(&store, other.clone()), Enqueued::Conflict);
    let later = store.enqueue(other, NOW + WEEK + 1).wait().unwrap();
    assert_eq!(ids(&later), (true, vec!["X"]));
}

#[test]
fn a_second_reply_of_one_turn_is_a_message_of_its_own() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    store.put(direct(ANN, "Q"));
    store.emit_all(session);
    assert!(ids(&enqueue(&store, reply("Q", &["A1"]))).0);
    sent(&store, "A1");
    assert!(ids(&enqueue(&store, reply("Q", &["A2"]))).0);
    // Not even while the first is under way, if it says something else.
    assert!(ids(&enqueue(&store, reply("Q", &["A3"]))).0);
}

#[test]
fn a_repeated_reply_joins_while_the_first_is_under_way() {
    let store = TestStore::new();
    let same = |ids| OutboundRequest {
        content_hash: "same".to_owned(),
        ..reply("Q", ids)
    };
    assert!(ids(&enqueue(&store, same(&["A1"]))).0);
    assert_eq!(ids(&enqueue(&store, same(&["X"]))), (false, vec!["A1"]));
    sent(&store, "A1");
    assert!(ids(&enqueue(&store, same(&["X"]))).0);
}

#[test]
fn replies_to_a_redelivered_event_join_those_of_its_first_turn_one_by_one() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    store.put(direct(ANN, "P"));
    store.put(direct(ANN, "Q"));
    store.emit_all(session);
    for id in ["A1", "A2"] {
        enqueue(&store, reply("Q", &[id]));
        sent(&store, id);
    }
    // The replies are the proof, so only an operator can have it sent again.
    store
        .submit(|tx| tx.execute("UPDATE inbox SET state = 0 WHERE stanza = 'Q'", []))
        .wait()
        .unwrap();
    let session = store.begin(Mode::Websocket, None).session;
    assert_eq!(store.emit_all(session), ["Q"]);
    assert_eq!(
        ids(&enqueue(&store, reply("Q", &["X"]))),
        (false, vec!["A1"])
    );
    assert_eq!(
        ids(&enqueue(&store, reply("Q", &["Y"]))),
        (false, vec!["A2"])
    );
    assert_eq!(
        ids(&enqueue(&store, reply("Q", &["A3"]))),
        (true, vec!["A3"])
    );
}

#[test]
fn a_refused_reply_is_no_reply() {
    let store = TestStore::new();
    let first = store.begin(Mode::Websocket, None).session;
    store.put(direct(ANN, "Q"));
    store.emit_all(first);
    enqueue(&store, reply("Q", &["A1"]));
    assert!(hand(&store, "A1"));
    store
        .mark_rejected("A1".to_owned(), "463".to_owned())
        .wait()
        .unwrap();
    assert!(ids(&enqueue(&store, reply("Q", &["A2"]))).0);
}

#[test]
fn a_reply_proves_its_event_in_the_same_transaction() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    for id in ["P", "Q", "R"] {
        store.put(direct(ANN, id));
    }
    store.emit_all(session);
    enqueue(&store, reply("Q", &[]));
    assert_eq!(store.counts().wait().unwrap().unproven, 1);
    // One that cannot be entered proves nothing: the id is taken.
    enqueue(&store, call(BOB, &["A1"]));
    assert!(
        store
            .enqueue(reply("R", &["B1", "A1"]), NOW)
            .wait()
            .is_err()
    );
    assert_eq!(store.counts().wait().unwrap().unproven, 1);
}

#[test]
fn waiting_ends() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1", "A2"]));
    assert!(hand(&store, "A1"));
    assert_eq!(store.expire(NOW + 3599).wait().unwrap(), 0);
    assert_eq!(store.expire(NOW + 3600).wait().unwrap(), 1);
    assert_eq!(state(&store, "A1"), DeliveryState::Handed);
    assert_eq!(state(&store, "A2"), DeliveryState::Expired);
    assert!(!hand(&store, "A2"));
}

#[test]
fn what_has_not_been_tried_can_be_withdrawn() {
    let store = TestStore::new();
    let Enqueued::New { request, .. } = enqueue(&store, call(ANN, &["A1", "A2"])) else {
        panic!("not new");
    };
    assert!(hand(&store, "A1"));
    let states: Vec<_> = store
        .withdraw(request)
        .wait()
        .unwrap()
        .iter()
        .map(|p| p.state)
        .collect();
    assert_eq!(states, [DeliveryState::Handed, DeliveryState::Withdrawn]);
    assert!(!hand(&store, "A2"));
    assert_eq!(store.request(request).wait().unwrap().len(), 2);
}

#[test]
fn receipts_only_move_forward() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1", "A2", "A3"]));
    sent(&store, "A1");
    assert!(hand(&store, "A2"));
    let receipt = |kind| {
        let all = ["A1", "A2", "A3", "FOREIGN"].map(str::to_owned).to_vec();
        store.receipt(all, kind).wait().unwrap()
    };
    assert_eq!(receipt(Receipt::Read), ["A1", "A2"]);
    assert!(receipt(Receipt::Delivered).is_empty());
    store.mark_sent("A2".to_owned(), NOW).wait().unwrap();
    store.mark_unknown("A2".to_owned()).wait().unwrap();
    store.mark_suspect("A1".to_owned()).wait().unwrap();
    store
        .mark_rejected("A1".to_owned(), "late".to_owned())
        .wait()
        .unwrap();
    assert_eq!(receipt(Receipt::Played), ["A1", "A2"]);
    assert_eq!(state(&store, "A2").as_str(), "played");
    assert_eq!(heads(&store, PACE), ["A3"]);
}

#[test]
fn our_own_messages_can_be_quoted() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A1"]));
    let kept = store.kept(jid(ANN), "A1".to_owned()).wait().unwrap();
    let kept = kept.unwrap();
    assert_eq!((kept.sender, kept.raw), (None, Some(b"A1".to_vec())));
}

#[test]
fn a_merge_takes_the_outbox_along() {
    let store = TestStore::new();
    enqueue(&store, call(ANN_LID, &["A1"]));
    enqueue(&store, call(ANN, &["A2"]));
    assert_eq!(heads(&store, PACE), ["A1", "A2"]);
    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
    assert_eq!(heads(&store, PACE), ["A1"]);
}

#[test]
fn a_call_repeated_under_its_key_sends_what_was_given_up() {
    let store = TestStore::new();
    let Enqueued::New { request, .. } = enqueue(&store, keyed("k", &["A1", "A2"])) else {
        panic!("not new");
    };
    sent(&store, "A1");
    store.withdraw(request).wait().unwrap();
    assert!(heads(&store, PACE).is_empty());
    let again = store
        .enqueue(keyed("k", &["X", "Y"]), NOW + 5000)
        .wait()
        .unwrap();
    assert_eq!(ids(&again), (false, vec!["A1", "A2"]));
    assert_eq!(state(&store, "A1"), DeliveryState::Sent);
    let head = next(&store, PACE).ready.remove(0);
    assert_eq!(
        (head.message_id.as_str(), head.payload.as_slice()),
        ("A2", b"A2".as_slice())
    );
}

/// An owner died with a call that another process had handed to it; that one enters it again.
#[test]
fn the_same_call_is_entered_once() {
    let store = TestStore::new();
    assert_eq!(
        ids(&enqueue(&store, call(ANN, &["A", "B"]))),
        (true, vec!["A", "B"])
    );
    sent(&store, "A");
    let wire = serde_json::to_string(&call(ANN, &["A", "B"])).unwrap();
    let again = enqueue(&store, serde_json::from_str(&wire).unwrap());
    assert_eq!(ids(&again), (false, vec!["A", "B"]));
    assert_eq!(heads(&store, PACE), ["B"]);
    let Enqueued::Joined { request, .. } = again else {
        panic!("{again:?}")
    };
    let found = |id: &str| store.request_of(id.to_owned()).wait().unwrap();
    assert_eq!(found("B"), Some(request));
    assert_eq!(found("C"), None);
}

#[test]
fn who_is_connected_enters_and_hands_over_in_one_step() {
    let store = TestStore::new();
    store.on_whatsapp(ANN);
    let enter = |call| store.enqueue_handed(call, PACE, None, NOW).wait().unwrap();
    let (entered, head) = enter(call(ANN, &["A1", "A2"]));
    let head = head.unwrap();
    assert_eq!(
        (head.message_id.as_str(), head.payload.as_slice()),
        ("A1", &b"A1"[..])
    );
    assert!(ids(&entered).0);
    assert_eq!(state(&store, "A1"), DeliveryState::Handed);
    assert_eq!(state(&store, "A2"), DeliveryState::Queued);
    // Nobody else may take it, and nothing of the chat goes before it.
    assert!(!hand(&store, "A1"));
    assert!(heads(&store, PACE).is_empty());
    assert!(enter(call(ANN, &["A3"])).1.is_none());
    // The same call again is no second message, and one that has expired is not sent.
    assert!(enter(call(ANN, &["A1", "A2"])).1.is_none());
    let late = OutboundRequest {
        expires_at: NOW,
        ..call(BOB, &["B1"])
    };
    assert!(enter(late).1.is_none());
    // Not taken by the connection, it waits as if it had never been tried.
    store.mark_not_handed("A1".to_owned(), FREE).wait().unwrap();
    assert_eq!(state(&store, "A1"), DeliveryState::Queued);
    assert_eq!(heads(&store, PACE)[0], "A1");
}

#[test]
fn an_owner_that_dies_in_between_leaves_it_to_the_next() {
    let store = TestStore::new();
    store.on_whatsapp(ANN);
    assert!(
        store
            .enqueue_handed(call(ANN, &["A1"]), PACE, None, NOW)
            .wait()
            .unwrap()
            .1
            .is_some()
    );
    let store = store.reopen();
    store.recover_outbox().wait().unwrap();
    assert_eq!(state(&store, "A1"), DeliveryState::Unknown);
    assert_eq!(heads(&store, PACE), ["A1"]);
}

#[test]
fn what_was_sent_is_given_to_devices_of_its_own_chat_alone() {
    let store = TestStore::new();
    enqueue(&store, call(ANN, &["A"]));
    let asks = |chat: &str| {
        store
            .sent_payload(jid(chat), "A".to_owned())
            .wait()
            .unwrap()
    };
    assert_eq!(asks(ANN), None, "it never left");
    sent(&store, "A");
    assert_eq!(asks(ANN), Some(b"A".to_vec()));
    assert_eq!(asks(ANN), Some(b"A".to_vec()), "for each device");
    store.put(direct(BOB, "B"));
    for other in [BOB, ANN_LID, GROUP] {
        assert_eq!(asks(other), None);
    }
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "C"));
    assert_eq!(asks(ANN_LID), Some(b"A".to_vec()), "under each address");
}

#[test]
fn what_only_our_own_devices_have_is_suspect_once_a_later_message_arrived() {
    let store = TestStore::new();
    for id in ["A", "B", "C"] {
        enqueue(&store, call(ANN, &[id]));
        sent(&store, id);
    }
    enqueue(&store, call(BOB, &["D"]));
    sent(&store, "D");
    let receipt = |id: &str, receipt| {
        store.receipt(vec![id.to_owned()], receipt).wait().unwrap();
    };
    let suspect = || store.counts().wait().unwrap().suspect;
    receipt("A", Receipt::Own);
    receipt("D", Receipt::Own);
    receipt("C", Receipt::Own);
    assert_eq!(suspect(), 0);
    receipt("B", Receipt::Delivered);
    assert_eq!(suspect(), 1, "A, before it, in its chat");
    // It came after all.
    receipt("A", Receipt::Delivered);
    assert_eq!(suspect(), 0);
}

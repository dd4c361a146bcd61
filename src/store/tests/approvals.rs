//! Strangers who wait, and who was let in.

use super::*;

const CODE: &str = "ABCD2345";

fn answer(to: &str, id: &str) -> OutboundRequest {
    OutboundRequest {
        idempotency_key: None,
        content_hash: String::new(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[to]),
        parts: vec![NewPart {
            message_id: id.to_owned(),
            payload: b"your code".to_vec(),
            kind: PAIRING_CODE.to_owned(),
            file: None,
        }],
        expires_at: NOW + 3600,
    }
}

impl TestStore {
    /// Takes what waits of this person for a stranger's; how many got an answer.
    fn hold_all(&self, from: &str, code: &str, now: i64) -> usize {
        let rows = self.next_to_emit(100, WEEK, now).wait().unwrap();
        let rows = rows
            .into_iter()
            .filter(|row| row.sender.aliases.contains(&jid(from)));
        rows.filter(|row| {
            let answer = answer(from, &format!("A-{}-{now}", row.stanza_id));
            let ruling = Ruling::from("dm_policy: pairing".to_owned());
            self.hold_for_approval(row.id, ruling, code.to_owned(), Some(answer), now)
                .wait()
                .unwrap()
        })
        .count()
    }

    fn codes(&self, now: i64) -> Vec<String> {
        let waiting = self.applicants(now).wait().unwrap();
        waiting.into_iter().map(|waits| waits.code).collect()
    }

    fn texts(&self) -> i64 {
        self.submit(|tx| {
            tx.query_row("SELECT count(draft) + count(raw) FROM inbox", [], |row| {
                row.get(0)
            })
        })
        .wait()
        .unwrap()
    }

    fn queued(&self) -> usize {
        heads(self, PACE).len()
    }
}

fn who(decided: Decided) -> (Address, usize) {
    match decided {
        Decided::Done { id, messages, .. } => (id, messages),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_code_a_stranger_and_all_they_wrote_goes_on_once_they_are_let_in() {
    let store = TestStore::new();
    for id in ["M1", "M2"] {
        store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], id));
    }
    store.put(direct(BOB, "B1"));
    assert_eq!(store.hold_all(ANN, CODE, NOW), 1);
    store.put(direct(ANN, "M3"));
    assert_eq!(store.hold_all(ANN, "OTHER234", NOW + 10), 0);
    assert_eq!(store.queued(), 1);
    let waits = &store.applicants(NOW).wait().unwrap()[0];
    assert_eq!((waits.code.as_str(), waits.messages), (CODE, 3));
    assert_eq!(waits.name.as_deref(), Some("Ann"));
    let store = store.reopen();
    // Another process decides; the one that emits hears of it by looking.
    let other = Store::open(&store.path()).unwrap();
    store.look_for_others().wait().unwrap();
    let mut signal = store.inbound_signal();
    signal.mark_unchanged();
    let ann = store.peer(jid(ANN)).wait().unwrap().unwrap();
    assert!(!ann.approved);
    let approved = other.approve(CODE.to_owned(), NOW + 20).wait().unwrap();
    assert_eq!(who(approved), (ann.public_id.clone(), 3));
    store.look_for_others().wait().unwrap();
    assert!(signal.has_changed().unwrap());
    let rows = store.waiting();
    let ids: Vec<&str> = rows.iter().map(|row| row.stanza_id.as_str()).collect();
    assert_eq!(ids, ["M1", "M2", "B1", "M3"]);
    assert!(rows[0].sender.approved && rows[3].sender.approved && !rows[2].sender.approved);
    assert!(
        store
            .is_approved(addresses(&[BOB, ANN_LID]))
            .wait()
            .unwrap()
    );
    assert!(!store.is_approved(addresses(&[BOB])).wait().unwrap());
    // A code is good once.
    assert_eq!(
        other.approve(CODE.to_owned(), NOW + 30).wait().unwrap(),
        Decided::Unknown
    );
    let list = store.approvals().wait().unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].addresses, addresses(&[ANN_LID, ANN]));
    // Another file of this account takes them over; any address takes them back.
    let next = TestStore::new();
    next.take_approvals(list.clone()).wait().unwrap();
    assert_eq!(
        next.approvals().wait().unwrap()[0].addresses,
        list[0].addresses
    );
    assert!(next.peer(jid(ANN)).wait().unwrap().unwrap().approved);
    assert_eq!(
        store.revoke(jid(ANN)).wait().unwrap(),
        Revoked::Done(ann.public_id)
    );
    assert_eq!(store.revoke(jid(ANN)).wait().unwrap(), Revoked::Nobody);
    assert!(!store.peer(jid(ANN_LID)).wait().unwrap().unwrap().approved);
}

#[test]
fn three_wait_and_codes_end_after_an_hour() {
    let store = TestStore::new();
    let person = |n: u32| format!("1555123010{n}@s.whatsapp.net");
    for n in 0..5 {
        store.put(direct(&person(n), &format!("M{n}")));
        let got = store.hold_all(&person(n), &format!("CODE000{n}"), NOW + i64::from(n));
        assert_eq!(got, usize::from(n < 3), "{n}");
    }
    assert_eq!(store.codes(NOW + 5).len(), 3);
    assert_eq!(store.codes(NOW + 3600).len(), 2);
    let late = store
        .approve("CODE0000".to_owned(), NOW + 3600)
        .wait()
        .unwrap();
    assert_eq!(late, Decided::Unknown);
    // There is a place again, and somebody who had none takes it.
    store.put(direct(&person(4), "AGAIN"));
    assert_eq!(store.hold_all(&person(4), "CODE0004", NOW + 3600), 1);
    assert_eq!(store.texts(), 12);
    store.expire_held(NOW + 3600).wait().unwrap();
    assert_eq!(store.texts(), 10);
    let approved = store
        .approve("CODE0004".to_owned(), NOW + 3603)
        .wait()
        .unwrap();
    assert_eq!(who(approved).1, 2);
    store.expire_held(NOW + 7200).wait().unwrap();
    assert_eq!(store.texts(), 4);
}

#[test]
fn who_was_denied_is_not_asked_again_and_nothing_of_them_stays() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.hold_all(ANN, CODE, NOW);
    let denied = store.deny(CODE.to_owned(), NOW + 1).wait().unwrap();
    assert_eq!(who(denied), (jid(ANN), 1));
    assert_eq!(store.texts(), 0);
    store.put(direct(ANN, "M2"));
    assert_eq!(store.hold_all(ANN, "OTHER234", NOW + 2), 0);
    assert_eq!(store.texts(), 0);
    assert_eq!(
        store.approve(CODE.to_owned(), NOW + 3).wait().unwrap(),
        Decided::Unknown
    );
    // The place is free for somebody else.
    assert_eq!(store.codes(NOW + 3), Vec::<String>::new());
    store.put(direct(ANN, "M3"));
    assert_eq!(store.hold_all(ANN, "OTHER234", NOW + 24 * 3600 + 1), 1);
}

#[test]
fn codes_cannot_be_tried_one_after_the_other() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.hold_all(ANN, CODE, NOW);
    for n in 0..10 {
        let tried = store.approve(format!("WRONG{n}"), NOW + n).wait().unwrap();
        assert_eq!(tried, Decided::Unknown);
    }
    let right = store.approve(CODE.to_owned(), NOW + 10).wait().unwrap();
    assert_eq!(right, Decided::TooMany(NOW + 3600));
    store.put(direct(ANN, "M2"));
    store.hold_all(ANN, "OTHER234", NOW + 3600);
    let later = store
        .approve("OTHER234".to_owned(), NOW + 3600)
        .wait()
        .unwrap();
    assert_eq!(who(later).0, jid(ANN));
}

#[test]
fn an_approval_does_not_go_with_the_number() {
    let store = TestStore::new();
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "M1"));
    store.hold_all(ANN, CODE, NOW);
    store.approve(CODE.to_owned(), NOW).wait().unwrap();
    // The carrier gives the number to Bob.
    store.put(message(&[BOB_LID, ANN], &[BOB_LID, ANN], "B1"));
    let approved = |who| store.peer(jid(who)).wait().unwrap().unwrap().approved;
    assert!(approved(ANN_LID) && !approved(BOB_LID));
    assert_eq!(store.lost_numbers().wait().unwrap().len(), 1);
    assert_eq!(store.approve_holder(jid(BOB), NOW).wait().unwrap(), None);
    let holder = store.approve_holder(jid(ANN), NOW).wait().unwrap();
    assert_eq!(holder, Some(jid(BOB_LID)));
    assert!(approved(BOB_LID) && approved(ANN_LID));
    assert!(store.lost_numbers().wait().unwrap().is_empty());
    // The number alone does not say whose approval is meant.
    assert_eq!(
        store.revoke(jid(ANN)).wait().unwrap(),
        Revoked::Ambiguous(addresses(&[ANN_LID, BOB_LID]))
    );
    assert!(approved(BOB_LID) && approved(ANN_LID));
    let revoked = store.revoke(jid(ANN_LID)).wait().unwrap();
    assert_eq!(revoked, Revoked::Done(jid(ANN)));
    assert!(approved(BOB_LID) && !approved(ANN_LID));
    let revoked = store.revoke(jid(ANN)).wait().unwrap();
    assert_eq!(revoked, Revoked::Done(jid(BOB_LID)));
    assert!(!approved(BOB_LID));
}

#[test]
fn a_code_that_has_not_gone_out_does_not_once_it_was_decided() {
    for let_in in [true, false] {
        let store = TestStore::new();
        store.put(direct(ANN, "M1"));
        store.put(direct(BOB, "B1"));
        assert_eq!(store.hold_all(ANN, CODE, NOW), 1);
        assert_eq!(store.hold_all(BOB, "OTHER234", NOW), 1);
        assert_eq!(store.queued(), 2);
        let decided = match let_in {
            true => store.approve(CODE.to_owned(), NOW + 1),
            false => store.deny(CODE.to_owned(), NOW + 1),
        };
        who(decided.wait().unwrap());
        assert_eq!(store.queued(), 1, "approved: {let_in}");
    }
}

/// What was handed over may have arrived, and is not handed over once more.
#[test]
fn a_code_that_was_tried_is_not_tried_again_once_it_was_decided() {
    for (let_in, known) in [(true, true), (true, false), (false, true), (false, false)] {
        let store = TestStore::new();
        store.put(direct(ANN, "M1"));
        assert_eq!(store.hold_all(ANN, CODE, NOW), 1);
        let id = heads(&store, PACE).remove(0);
        assert_eq!(
            store.mark_handed(id.clone(), PACE).wait().unwrap(),
            Turn::Now
        );
        if known {
            assert!(store.mark_unknown(id.clone()).wait().unwrap());
            assert_eq!(heads(&store, PACE).len(), 1);
        }
        let decided = match let_in {
            true => store.approve(CODE.to_owned(), NOW + 1),
            false => store.deny(CODE.to_owned(), NOW + 1),
        };
        who(decided.wait().unwrap());
        match known {
            true => {}
            // No answer came, or the connection had not even taken it.
            false if let_in => assert!(!store.mark_unknown(id.clone()).wait().unwrap()),
            false => store.mark_not_handed(id.clone(), FREE).wait().unwrap(),
        }
        assert_eq!(
            heads(&store, PACE).len(),
            0,
            "approved: {let_in}, unknown: {known}"
        );
        let part = store.part(id).wait().unwrap().unwrap();
        assert_eq!((part.state, part.open), (DeliveryState::Unknown, false));
    }
}

/// The next session looks at it anew; until then it waits all the same.
#[test]
fn what_waits_is_counted_whichever_way_it_waits() {
    for let_in in [true, false] {
        let store = TestStore::new();
        store.put(direct(ANN, "M1"));
        store.put(direct(ANN, "M2"));
        assert_eq!(store.hold_all(ANN, CODE, NOW), 1);
        store.judge_held_again(NOW + 1).wait().unwrap();
        assert_eq!(store.applicants(NOW + 1).wait().unwrap()[0].messages, 2);
        let decided = match let_in {
            true => store.approve(CODE.to_owned(), NOW + 1),
            false => store.deny(CODE.to_owned(), NOW + 1),
        };
        assert_eq!(who(decided.wait().unwrap()).1, 2);
        assert_eq!(store.waiting().len(), if let_in { 2 } else { 0 });
    }
}

#[test]
fn a_number_that_was_passed_on_lets_nobody_into_the_next_file() {
    let store = TestStore::new();
    // Let in by the number alone; the LID is learnt later, and the number goes to Bob.
    store.put(direct(ANN, "M1"));
    store.hold_all(ANN, CODE, NOW);
    store.approve(CODE.to_owned(), NOW).wait().unwrap();
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "M2"));
    store.put(message(&[BOB_LID, ANN], &[BOB_LID, ANN], "B1"));
    assert!(store.approvals().wait().unwrap().is_empty());
    let next = TestStore::new();
    let numbers = store.passed_on().wait().unwrap();
    assert_eq!(numbers, [(jid(ANN), jid(BOB_LID))]);
    next.take_passed_on(numbers).wait().unwrap();
    next.take_approvals(store.approvals().wait().unwrap())
        .wait()
        .unwrap();
    next.put(message(&[BOB_LID, ANN], &[BOB_LID, ANN], "B2"));
    let bob = next.peer(jid(BOB_LID)).wait().unwrap().unwrap();
    assert!(!bob.approved);
    // Nor do entries of the configuration, until the operator decides.
    assert_eq!(bob.credentials(), addresses(&[BOB_LID]));
    assert_eq!(next.lost_numbers().wait().unwrap().len(), 1);
}

#[test]
fn two_who_turn_out_to_be_one_wait_as_one() {
    let store = TestStore::new();
    for (from, code) in [(ANN, CODE), (ANN_LID, "OTHER234")] {
        store.put(direct(from, &format!("of {from}")));
        assert_eq!(store.hold_all(from, code, NOW), 1);
    }
    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
    assert_eq!(store.codes(NOW), [CODE]);
    let approved = store.approve(CODE.to_owned(), NOW).wait().unwrap();
    assert_eq!(who(approved), (jid(ANN), 2));
}

#[test]
fn a_reader_is_answered_once_an_hour() {
    let store = TestStore::new();
    let told = |id: &str, now: i64| {
        store.put(direct(ANN, id));
        let row = store.waiting().remove(0);
        let ruling = Ruling::from("contacts[0]: read".to_owned());
        let answer = answer(ANN, &format!("A-{id}"));
        store
            .drop_and_answer(row.id, ruling, answer, 3600, now)
            .wait()
            .unwrap()
    };
    assert!(told("M1", NOW));
    assert!(!told("M2", NOW + 3599));
    assert!(told("M3", NOW + 3600));
    // A clock that was put back does not silence it for long.
    assert!(told("M4", NOW - 90_000));
    assert_eq!(store.texts(), 0);
}

#[test]
fn what_is_kept_is_judged_again_when_the_rules_change() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.hold_all(ANN, CODE, NOW);
    assert!(store.waiting().is_empty());
    store.judge_held_again(NOW).wait().unwrap();
    assert_eq!(store.waiting().len(), 1);
    // Nobody quotes it before that.
    assert_eq!(store.kept(jid(ANN), "M1".to_owned()).wait().unwrap(), None);
    // It does not get another hour by that.
    store.hold_all(ANN, CODE, NOW + 3000);
    store.expire_held(NOW + 3600).wait().unwrap();
    assert_eq!(store.texts(), 0);
}

#[test]
fn what_is_kept_is_judged_again_when_more_is_known_of_its_sender() {
    let held = || {
        let store = TestStore::new();
        store.put(direct(ANN_LID, "M1"));
        assert_eq!(store.hold_all(ANN_LID, CODE, NOW), 1);
        assert!(store.waiting().is_empty());
        store
    };
    let ids = |store: &TestStore| -> Vec<String> {
        let rows = store.waiting().into_iter();
        rows.map(|row| row.stanza_id).collect()
    };
    // An address that is new.
    let store = held();
    let mut signal = store.inbound_signal();
    signal.mark_unchanged();
    store.resolve(addresses(&[ANN_LID, ANN])).wait().unwrap();
    assert_eq!(ids(&store), ["M1"]);
    assert!(signal.has_changed().unwrap());
    store.hold_all(ANN_LID, CODE, NOW);
    // The same once more tells nothing.
    store.resolve(addresses(&[ANN_LID, ANN])).wait().unwrap();
    assert!(store.waiting().is_empty());
    // One that another peer had.
    let store = held();
    store.resolve(addresses(&[ANN])).wait().unwrap();
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "M2"));
    assert_eq!(ids(&store), ["M1", "M2"]);
    // A number that they took.
    let store = held();
    let (old, new) = (addresses(&[ANN_LID]), addresses(&[BOB]));
    store.number_changed(old, new).wait().unwrap();
    assert_eq!(ids(&store), ["M1"]);
}

#[test]
fn who_was_let_in_while_the_verdict_was_on_its_way_is_not_held() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.hold_all(ANN, CODE, NOW);
    store.put(direct(ANN, "M2"));
    let judged = store.waiting().remove(0);
    store.approve(CODE.to_owned(), NOW).wait().unwrap();
    let queued = store.queued();
    let ruling = Ruling::from("dm_policy: pairing".to_owned());
    let answer = Some(answer(ANN, "A"));
    let told = store.hold_for_approval(judged.id, ruling, "OTHER234".to_owned(), answer, NOW);
    assert!(!told.wait().unwrap());
    assert_eq!((store.waiting().len(), store.queued()), (2, queued));
    assert!(store.codes(NOW).is_empty());
}

#[test]
fn what_was_kept_is_not_too_old_for_who_was_let_in() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.put(direct(BOB, "M2"));
    store.hold_all(ANN, CODE, NOW);
    store.approve(CODE.to_owned(), NOW + 300).wait().unwrap();
    // Nor is it erased with what nobody wanted.
    store.expire_held(NOW + 3 * 3600).wait().unwrap();
    let rows = store.next_to_emit(9, 60, NOW + 300).wait().unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| row.stanza_id.as_str()).collect();
    assert_eq!(ids, ["M1"]);
}

#[test]
fn nothing_is_kept_longer_because_it_is_judged_again() {
    let gone = |store: &TestStore| {
        assert!(store.waiting().is_empty());
        assert_eq!((store.texts(), store.queued()), (0, 1));
    };
    let held = || {
        let store = TestStore::new();
        store.put(direct(ANN, "M1"));
        store.hold_all(ANN, CODE, NOW);
        store
    };
    // Its hour was over before.
    let store = held();
    store.judge_held_again(NOW + 3600).wait().unwrap();
    gone(&store);
    // It is over when the verdict is the same again: no other code.
    let store = held();
    store.judge_held_again(NOW + 3599).wait().unwrap();
    assert_eq!(store.hold_all(ANN, "OTHER234", NOW + 3600), 0);
    gone(&store);
    // Nobody judged it.
    let store = held();
    store.judge_held_again(NOW + 3599).wait().unwrap();
    store.expire_held(NOW + 7199).wait().unwrap();
    assert_eq!(store.waiting().len(), 1);
    store.expire_held(NOW + 7200).wait().unwrap();
    gone(&store);
}

#[test]
fn who_was_denied_stays_so_under_another_address() {
    for denied in [ANN, ANN_LID] {
        let store = TestStore::new();
        for (from, code) in [(ANN, CODE), (ANN_LID, "OTHER234")] {
            store.put(direct(from, &format!("of {from}")));
            store.hold_all(from, code, NOW);
        }
        let code = if denied == ANN { CODE } else { "OTHER234" };
        store.deny(code.to_owned(), NOW).wait().unwrap();
        store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
        assert!(store.codes(NOW).is_empty(), "{denied}");
        store.put(direct(ANN, "M3"));
        assert_eq!(store.hold_all(ANN, "THIRD234", NOW + 7200), 0, "{denied}");
        assert_eq!(store.texts(), 0, "{denied}");
    }
}

//! Whom the account may write to first.

use super::pacing::{DAY, SECOND, START, at, enter, hand, only, patient, person, sent, try_send};
use super::*;

#[test]
fn only_so_many_strangers_a_day() {
    let store = TestStore::new();
    let limits = only(|limits| limits.strangers = 3);
    store.put(direct(ANN, "HELLO"));
    store.put(message(&[GROUP], &[BOB], "IN A GROUP"));
    store.on_whatsapp(&person(3));
    let hour = 3600 * SECOND;
    for n in 0..3 {
        let pace = at(limits, START + n as i64 * hour);
        let id = format!("S{n}");
        assert_eq!(try_send(&store, &person(n), &id, pace), Turn::Now);
        sent(&store, &id);
    }
    let pace = at(limits, START + 3 * hour);
    let tomorrow = Turn::At(START + DAY);
    assert_eq!(try_send(&store, &person(3), "S3", pace), tomorrow);
    assert_eq!(
        try_send(&store, BOB, "B", pace),
        tomorrow,
        "met in a group alone"
    );
    // Who wrote, whom we have written to, and groups are no strangers.
    assert_eq!(try_send(&store, ANN, "A", pace), Turn::Now);
    assert_eq!(try_send(&store, &person(0), "S0 again", pace), Turn::Now);
    assert_eq!(try_send(&store, GROUP, "G", pace), Turn::Now);
    let paced = store.paced(pace.now).wait().unwrap();
    assert_eq!(
        paced.strangers_left, 17,
        "nobody has said yet that it is three"
    );
    store.set_limits(limits).wait().unwrap();
    let paced = store.paced(pace.now).wait().unwrap();
    assert_eq!((paced.strangers_left, paced.waiting), (0, 2));
    // The next day they go one by one, as the others become a day old.
    assert_eq!(hand(&store, "S3", at(limits, START + DAY - 1)), tomorrow);
    let pace = at(limits, START + DAY);
    assert_eq!(hand(&store, "S3", pace), Turn::Now);
    assert_eq!(hand(&store, "B", pace), Turn::At(START + DAY + hour));
    // Whoever has written meanwhile is not written to first.
    store.put(direct(BOB, "HELLO"));
    assert_eq!(hand(&store, "B", pace), Turn::Now);
    let nobody = only(|limits| limits.strangers = 0);
    let never = Turn::At(i64::MAX);
    assert_eq!(try_send(&store, &person(5), "N", at(nobody, START)), never);
}

#[test]
fn a_code_counts_as_a_first_message() {
    let store = TestStore::new();
    let pace = at(only(|limits| limits.strangers = 1), START);
    for (to, id) in [(ANN, "CODE A"), (BOB, "CODE B")] {
        store.put(direct(to, id));
        let mut code = patient(to, &[id]);
        code.parts[0].kind = PAIRING_CODE.to_owned();
        store.enqueue(code, NOW).wait().unwrap();
    }
    assert_eq!(hand(&store, "CODE A", pace), Turn::Now);
    assert_eq!(hand(&store, "CODE B", pace), Turn::At(START + DAY));
    // Not taken after all.
    store
        .mark_not_handed("CODE A".to_owned(), pace.limits)
        .wait()
        .unwrap();
    assert_eq!(hand(&store, "CODE B", pace), Turn::Now);
    // No restriction of WhatsApp's is about somebody who wrote.
    let pace = at(FREE, START + 1);
    restrict(&store, NOW + 60);
    assert_eq!(hand(&store, "CODE A", pace), Turn::Now);
}

fn refused(store: &Store, id: &str, provisional: Restriction) {
    let refused = store.refused_first(id.to_owned(), "new_chats_restricted", provisional);
    refused.wait().unwrap();
}

fn restriction(until: i64) -> Restriction {
    Restriction {
        since: NOW,
        until,
        kind: String::new(),
    }
}

fn restrict(store: &Store, until: i64) {
    refused(store, "REFUSED", restriction(until));
    store.restrict(Some(restriction(until))).wait().unwrap();
}

#[test]
fn while_whatsapp_restricts_the_account_nobody_is_written_to_first() {
    let store = TestStore::new();
    store.put(direct(ANN, "HELLO"));
    let pace = at(FREE, START);
    assert_eq!(try_send(&store, BOB, "REFUSED", pace), Turn::Now);
    sent(&store, "REFUSED");
    restrict(&store, NOW + 60);
    assert_eq!(try_send(&store, ANN, "A", pace), Turn::Now);
    assert_eq!(try_send(&store, BOB, "B", pace), Turn::Restricted);
    // Who sends is told of it, to refuse it.
    assert_eq!(next(&store, pace).ready[0].message_id, "B");
    let store = store.reopen();
    assert_eq!(
        hand(&store, "B", at(FREE, START + 60 * SECOND - 1)),
        Turn::Restricted
    );
    assert!(store.paced(START).wait().unwrap().restricted.is_some());
    assert!(
        store
            .paced(START + 60 * SECOND)
            .wait()
            .unwrap()
            .restricted
            .is_none()
    );
    // The clock was ahead when it was written, or has been set back since.
    let earlier = hand(&store, "B", at(FREE, START - SECOND));
    assert_ne!(earlier, Turn::Restricted);
}

#[test]
fn a_refused_first_message_counts_against_the_day() {
    let store = TestStore::new();
    let pace = at(only(|limits| limits.strangers = 1), START);
    assert_eq!(try_send(&store, BOB, "REFUSED", pace), Turn::Now);
    restrict(&store, NOW);
    let tomorrow = Turn::At(START + DAY);
    assert_eq!(try_send(&store, ANN, "A", pace), tomorrow);
    // Still when they have written, after which they are no stranger.
    store.put(direct(BOB, "HELLO"));
    assert_eq!(hand(&store, "A", pace), tomorrow);
    restrict(&store, NOW + 60);
    assert_eq!(hand(&store, "A", pace), Turn::Restricted);
    sent(&store, "REFUSED");
    assert_eq!(try_send(&store, BOB, "B", pace), Turn::Now);
}

#[test]
fn who_has_written_meanwhile_stays_known() {
    let store = TestStore::new();
    let pace = at(only(|limits| limits.strangers = 2), START);
    for (to, id) in [(ANN, "A"), (BOB, "REFUSED")] {
        assert_eq!(try_send(&store, to, id, pace), Turn::Now);
        store.put(direct(to, id));
    }
    let limits = pace.limits;
    store
        .mark_not_handed("A".to_owned(), limits)
        .wait()
        .unwrap();
    restrict(&store, NOW + 60);
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    sent(&store, "REFUSED");
    assert_eq!(try_send(&store, BOB, "B", pace), Turn::Now);
}

#[test]
fn who_calls_is_no_stranger_and_an_invented_answer_is_no_answer() {
    let store = TestStore::new();
    let pace = at(only(|limits| limits.strangers = 0), START);
    let answer = |id: &str, to: &str| OutboundRequest {
        reply_to: Some((jid(ANN), "CALL".to_owned())),
        ..patient(to, &[id])
    };
    restrict(&store, NOW + 60);
    store.resolve(addresses(&[ANN])).wait().unwrap();
    store.enqueue(answer("A", ANN), NOW).wait().unwrap();
    assert_eq!(hand(&store, "A", pace), Turn::Restricted);
    let happens = |event_type: &str| {
        let happened = Happened {
            chat: addresses(&[ANN]),
            sender: addresses(&[ANN]),
            name: "call:CALL:incoming".to_owned(),
            stanza_id: "CALL".to_owned(),
            timestamp: NOW,
            draft: Draft {
                event_type: event_type.to_owned(),
                ..Draft::default()
            },
        };
        store.introduce(happened).wait().unwrap();
    };
    happens("presence.available");
    assert_eq!(hand(&store, "A", pace), Turn::Restricted);
    happens("call.incoming");
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    // Unless WhatsApp says otherwise.
    refused(&store, "A", restriction(NOW + 60));
    assert_eq!(try_send(&store, ANN, "A2", pace), Turn::Restricted);
    // Quoted to somebody else.
    store.enqueue(answer("B", BOB), NOW).wait().unwrap();
    assert_eq!(hand(&store, "B", pace), Turn::Restricted);
}

#[test]
fn what_was_refused_is_over_though_the_process_ends_before_it_is_known_why() {
    let store = TestStore::new();
    let pace = at(FREE, START);
    assert_eq!(try_send(&store, BOB, "A", pace), Turn::Now);
    for until in [NOW + 60, NOW + 9] {
        refused(&store, "A", restriction(until));
    }
    let store = store.reopen();
    store.recover_outbox().wait().unwrap();
    let known = store.paced(START).wait().unwrap().restricted;
    assert_eq!(known, Some(restriction(NOW + 60)), "the longer one");
    let part = |id: &str| store.part(id.to_owned()).wait().unwrap().unwrap();
    assert_eq!(part("A").state, DeliveryState::Rejected);
    assert_eq!(part("A").error.as_deref(), Some("new_chats_restricted"));
    // Not when the restriction has ended either.
    let later = at(FREE, START + 61 * SECOND);
    assert!(heads(&store, later).is_empty());
    assert_eq!(hand(&store, "A", later), Turn::Gone);
    // Why it was is said when it is known.
    let why = store.mark_rejected("A".to_owned(), "contact_token_missing".to_owned());
    why.wait().unwrap();
    assert_eq!(part("A").error.as_deref(), Some("contact_token_missing"));
}

/// Somebody whom we know by their LID, or who wrote by it, is no stranger by a number that nobody has asked about.
#[test]
fn whose_number_it_is_is_asked_before_they_wait_as_a_stranger() {
    let store = TestStore::new();
    let limits = only(|limits| limits.strangers = 0);
    let pace = at(limits, START);
    store.put(direct(ANN_LID, "HELLO"));
    let request = enter(&store, ANN, &["A"]);
    let turns = |request, pace| store.turns(request, pace).wait().unwrap().unwrap();
    assert!(turns(request, pace).asking);
    assert_eq!(turns(request, pace).last, START);
    assert_eq!(store.paced(START).wait().unwrap().waiting, 0);
    assert_eq!(heads(&store, pace), ["A"]);
    // It takes no place by that.
    assert_eq!(hand(&store, "A", pace), Turn::At(i64::MAX));
    let ask = |address: &str| {
        let peer = store.peer(jid(address)).wait().unwrap().unwrap();
        store.before_first(peer, NOW).wait().unwrap()
    };
    assert_eq!(ask(ANN), Asking::Ask(jid(ANN)));
    assert!(heads(&store, pace).is_empty(), "the answer is on its way");
    assert!(turns(request, pace).asking);
    // Nobody says it: then a stranger, and asked again later.
    let vain = at(limits, START + 20 * SECOND);
    assert!(turns(request, vain).stranger);
    assert!(heads(&store, vain).is_empty());
    assert_eq!(heads(&store, at(limits, START + 60 * SECOND)), ["A"]);
    let answer = |phone: &str, lid: &str| {
        let registered = Registered {
            phone: jid(phone),
            lid: Some(jid(lid)),
        };
        let answered = store.answered(jid(phone), Some(registered), NOW);
        assert!(answered.wait().unwrap().is_some());
    };
    answer(ANN, ANN_LID);
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    // A stranger indeed.
    let request = enter(&store, BOB, &["B"]);
    assert_eq!(ask(BOB), Asking::Ask(jid(BOB)));
    answer(BOB, BOB_LID);
    let told = turns(request, pace);
    assert!(told.stranger && told.last == i64::MAX && !told.asking);
    // The same for what was not entered.
    let more = |address: &str| {
        let peer = store.resolve(addresses(&[address])).wait().unwrap();
        store.turns_of_more(peer.key, 3, pace).wait().unwrap()
    };
    assert!(more(BOB).stranger);
    let unasked = more(&person(0));
    assert!(unasked.asking && !unasked.stranger && unasked.last == START);
    assert!(heads(&store, pace).is_empty());
    // No more is asked at once than may be.
    for n in 0..30 {
        enter(&store, &person(n), &[&format!("S{n}")]);
    }
    assert_eq!(heads(&store, pace).len(), 18, "of 20 two were asked");
}

#[test]
fn a_refusal_counts_although_they_are_one_with_somebody_or_a_later_message_is_taken_back() {
    let store = TestStore::new();
    let limits = only(|limits| limits.strangers = 2);
    let left = |now| store.paced(now).wait().unwrap().strangers_left;
    store.set_limits(limits).wait().unwrap();
    assert_eq!(
        try_send(&store, BOB, "REFUSED", at(limits, START)),
        Turn::Now
    );
    restrict(&store, NOW);
    assert_eq!(left(START), 1);
    // The next one to them is a first message again; the connection does not take it.
    let then = START + SECOND;
    assert_eq!(try_send(&store, BOB, "B", at(limits, then)), Turn::Now);
    let back = store.mark_not_handed("B".to_owned(), limits);
    back.wait().unwrap();
    assert_eq!(left(then), 1);
    assert_eq!(left(START + DAY), 2, "since it was refused");
    store.resolve(addresses(&[BOB_LID])).wait().unwrap();
    store.resolve(addresses(&[BOB, BOB_LID])).wait().unwrap();
    assert_eq!(left(then), 1);
    // One with somebody who wrote, it counts, and they are known.
    let cleo = "100000000000003@lid";
    assert_eq!(try_send(&store, ANN, "A", at(limits, then)), Turn::Now);
    refused(&store, "A", restriction(NOW));
    assert_eq!(left(then), 0);
    store.put(direct(cleo, "HELLO"));
    store.resolve(addresses(&[ANN, cleo])).wait().unwrap();
    assert_eq!(left(then), 0);
    assert_eq!(try_send(&store, ANN, "A2", at(limits, then)), Turn::Now);
}

#[test]
fn what_may_have_arrived_is_not_tried_again_while_the_account_is_restricted() {
    let store = TestStore::new();
    let pace = at(FREE, START);
    store.put(direct(ANN, "HELLO"));
    for (to, id) in [(ANN, "A"), (BOB, "B"), (&person(1), "C"), (&person(2), "D")] {
        assert_eq!(try_send(&store, to, id, pace), Turn::Now);
    }
    refused(&store, "D", restriction(NOW + 60));
    store.recover_outbox().wait().unwrap();
    store.put(direct(&person(1), "HELLO"));
    assert_eq!(hand(&store, "A", pace), Turn::Now, "they wrote first");
    assert_eq!(
        hand(&store, "C", pace),
        Turn::Now,
        "they have written since"
    );
    assert_eq!(hand(&store, "B", pace), Turn::Doubtful);
    assert_eq!(hand(&store, "B", at(FREE, START + 61 * SECOND)), Turn::Gone);
    let part = store.part("B".to_owned()).wait().unwrap().unwrap();
    assert_eq!((part.state, part.open), (DeliveryState::Unknown, false));
    // Nor does that make the next one anything but a first one.
    assert_eq!(try_send(&store, BOB, "B2", pace), Turn::Restricted);
    assert_eq!(heads(&store, pace), ["B2"], "to be refused");
    // With whatever the server took of it the chat has begun.
    sent(&store, "B");
    assert_eq!(hand(&store, "B2", pace), Turn::Now);
}

#[test]
fn a_first_message_that_was_put_off_is_one_still() {
    let store = TestStore::new();
    let pace = at(FREE, START);
    for (to, id) in [(ANN, "A"), (BOB, "B"), (&person(1), "C")] {
        assert_eq!(try_send(&store, to, id, pace), Turn::Now);
    }
    for id in ["A", "B"] {
        let put_off = store.mark_put_off(id.to_owned(), pace);
        put_off.wait().unwrap();
    }
    let pace = at(FREE, START + SECOND);
    assert_eq!(hand(&store, "B", pace), Turn::Now);
    refused(&store, "C", restriction(NOW + 60));
    assert_eq!(hand(&store, "A", pace), Turn::Restricted);
    store.recover_outbox().wait().unwrap();
    assert_eq!(hand(&store, "B", pace), Turn::Doubtful);
    assert_eq!(hand(&store, "A", at(FREE, START + 61 * SECOND)), Turn::Now);
}

//! The limits against a simple model, and what takes a place and what does not.

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const START: i64 = NOW * SECOND;
const DAY: i64 = 24 * 3600 * SECOND;

fn at(limits: Limits, now: i64) -> Pace {
    Pace { limits, now }
}

fn only(limits: impl FnOnce(&mut Limits)) -> Limits {
    let mut free = FREE;
    limits(&mut free);
    free
}

/// A call that may wait for days.
fn patient(to: &str, ids: &[&str]) -> OutboundRequest {
    OutboundRequest {
        expires_at: NOW + 30 * 24 * 3600,
        ..call(to, ids)
    }
}

/// Enters a message and hands it over if its turn is now.
fn try_send(store: &Store, to: &str, id: &str, pace: Pace) -> Turn {
    enter(store, to, &[id]);
    hand(store, id, pace)
}

fn enter(store: &Store, to: &str, ids: &[&str]) -> RequestId {
    match store.enqueue(patient(to, ids), NOW).wait().unwrap() {
        Enqueued::New { request, .. } | Enqueued::Joined { request, .. } => request,
        Enqueued::Conflict => panic!("conflict"),
    }
}

fn hand(store: &Store, id: &str, pace: Pace) -> Turn {
    store.mark_handed(id.to_owned(), pace).wait().unwrap()
}

fn sent(store: &Store, id: &str) {
    store.mark_sent(id.to_owned(), NOW).wait().unwrap();
}

fn person(n: usize) -> String {
    format!("1555200{n:04}@s.whatsapp.net")
}

/// The times at which messages go that are asked for at these times, and wait for their turn, one after the other.
fn departures(store: &Store, limits: Limits, asked: &[(i64, &str)]) -> Vec<i64> {
    let mut clock = START;
    let mut went = Vec::new();
    for (n, (pause, to)) in asked.iter().enumerate() {
        clock += pause;
        let id = format!("M{n}");
        let mut turn = try_send(store, to, &id, at(limits, clock));
        while let Turn::At(then) = turn {
            assert!(then > clock, "a turn lies ahead");
            // Not a moment earlier, and then for sure.
            assert_eq!(hand(store, &id, at(limits, then - 1)), Turn::At(then));
            clock = then;
            turn = hand(store, &id, at(limits, clock));
            assert_eq!(turn, Turn::Now, "who waits that long gets through");
        }
        sent(store, &id);
        went.push(clock);
    }
    went
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In no stretch of time do more go than the burst and what the rate gives; and each goes as soon as that lets it.
    #[test]
    fn no_stretch_of_time_has_more_than_the_rate_gives(
        pauses in proptest::collection::vec(0..3_000_000_i64, 1..40),
        per_second in 1..5_u32,
        burst in 1..6_u32,
    ) {
        let store = TestStore::new();
        store.put(direct(ANN, "HELLO"));
        let limits = only(|limits| limits.chat = Rate::per_second(per_second, burst));
        let every = (SECOND as u64).div_ceil(per_second.into()) as i64;
        let asked: Vec<_> = pauses.iter().map(|pause| (*pause, ANN)).collect();
        let went = departures(&store, limits, &asked);
        // The model: a bucket that drips, looked at after each.
        let (mut tokens, mut last, mut clock) = (i64::from(burst) * every, START, START);
        for (pause, went) in pauses.iter().zip(&went) {
            clock += pause;
            let full = i64::from(burst) * every;
            tokens = (tokens + clock - last).min(full);
            if tokens < every {
                clock += every - tokens;
                tokens = every;
            }
            tokens -= every;
            last = clock;
            prop_assert_eq!(*went, clock);
        }
        for (from, begin) in went.iter().enumerate() {
            for (to, end) in went.iter().enumerate().skip(from) {
                let most = i64::from(burst) + (end - begin) / every;
                prop_assert!((to - from + 1) as i64 <= most);
            }
        }
    }
}

#[test]
fn the_account_and_each_chat_have_limits_of_their_own() {
    let store = TestStore::new();
    for n in 0..4 {
        store.put(direct(&person(n), &format!("HELLO{n}")));
    }
    let limits = only(|limits| {
        limits.chat = Rate::per_second(1, 1);
        limits.account = Rate::per_minute(60, 3);
    });
    let now = at(limits, START);
    let later = Turn::At(START + SECOND);
    assert_eq!(try_send(&store, &person(0), "A", now), Turn::Now);
    sent(&store, "A");
    assert_eq!(try_send(&store, &person(0), "B", now), later, "its chat");
    // What was refused its place by one limit has taken none of the other.
    assert_eq!(try_send(&store, &person(1), "C", now), Turn::Now);
    assert_eq!(try_send(&store, &person(2), "D", now), Turn::Now);
    assert_eq!(try_send(&store, &person(3), "E", now), later, "the account");
    let then = at(limits, START + SECOND);
    let heads = next(&store, then);
    let ids: Vec<_> = heads.ready.iter().map(|head| &head.message_id).collect();
    assert_eq!(ids, ["B", "E"]);
    assert_eq!(heads.next, None);
    assert!(next(&store, now).ready.is_empty());
    assert_eq!(next(&store, now).next, Some(START + SECOND));
    assert_eq!(hand(&store, "B", then), Turn::Now);
    assert_eq!(hand(&store, "E", then), Turn::At(START + 2 * SECOND));
}

#[test]
fn a_message_takes_one_place_however_often_it_is_tried() {
    let store = TestStore::new();
    store.put(direct(ANN, "HELLO"));
    let limits = only(|limits| limits.account = Rate::per_minute(1, 1));
    let pace = at(limits, START);
    assert_eq!(try_send(&store, ANN, "A", pace), Turn::Now);
    assert!(store.mark_unknown("A".to_owned()).wait().unwrap());
    assert_eq!(hand(&store, "A", pace), Turn::Now, "again, under its id");
    // An owner dies; the next one sends it without another place.
    let store = store.reopen();
    store.recover_outbox().wait().unwrap();
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    sent(&store, "A");
    let minute = Turn::At(START + 60 * SECOND);
    assert_eq!(try_send(&store, ANN, "B", pace), minute);
    // What the connection never took gives its place to the next.
    let then = at(limits, START + 60 * SECOND);
    assert_eq!(hand(&store, "B", then), Turn::Now);
    store
        .mark_not_handed("B".to_owned(), limits)
        .wait()
        .unwrap();
    assert_eq!(try_send(&store, BOB, "C", then), Turn::Now);
    assert!(matches!(hand(&store, "B", then), Turn::At(_)));
}

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

fn restrict(store: &Store, until: i64) {
    let restriction = Restriction {
        since: NOW,
        until,
        kind: String::new(),
    };
    refused(store, "REFUSED", restriction.clone());
    store.restrict(Some(restriction)).wait().unwrap();
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
fn a_clock_that_was_ahead_locks_nobody_out() {
    let store = TestStore::new();
    store.put(direct(ANN, "HELLO"));
    let limits = only(|limits| {
        limits.chat = Rate::per_second(1, 2);
        limits.account = Rate::per_minute(60, 2);
        limits.strangers = 1;
    });
    let ahead = START + 3650 * DAY;
    for (to, id) in [(ANN, "A1"), (BOB, "B1")] {
        assert_eq!(try_send(&store, to, id, at(limits, ahead)), Turn::Now);
        sent(&store, id);
    }
    enter(&store, ANN, &["A2"]);
    enter(&store, &person(0), &["S"]);
    let heads = next(&store, at(limits, START));
    assert!(heads.ready.is_empty());
    let next = heads.next.unwrap();
    assert!(next <= START + SECOND, "{next}");
    assert_eq!(hand(&store, "A2", at(limits, next)), Turn::Now);
    assert!(matches!(
        hand(&store, "S", at(limits, START + DAY - 1)),
        Turn::At(_)
    ));
    assert_eq!(hand(&store, "S", at(limits, START + DAY)), Turn::Now);
}

#[test]
fn what_is_said_about_a_turn_comes_true() {
    let store = TestStore::new();
    for n in 0..6 {
        store.put(direct(&person(n), &format!("HELLO{n}")));
    }
    let limits = only(|limits| {
        limits.chat = Rate::per_second(1, 2);
        limits.account = Rate::per_minute(30, 3);
        limits.strangers = 0;
    });
    store.on_whatsapp(&person(9));
    enter(&store, &person(9), &["NEVER"]);
    let mut requests = Vec::new();
    for n in 0..6 {
        let ids = [format!("{n}a"), format!("{n}b")];
        requests.push(enter(
            &store,
            &person(n),
            &ids.each_ref().map(String::as_str),
        ));
    }
    let pace = at(limits, START);
    let said: Vec<_> = requests
        .iter()
        .map(|request| store.turns(*request, pace).wait().unwrap().unwrap().last)
        .collect();
    let more = store.peer(jid(&person(0))).wait().unwrap().unwrap().key;
    let more = store.turns_of_more(more, 2, pace).wait().unwrap();
    assert!(more.first > *said.last().unwrap() && more.last > more.first);
    let mut went = [0; 6];
    let mut clock = START;
    while went.contains(&0) {
        let heads = next(&store, at(limits, clock));
        let Some(head) = heads.ready.first() else {
            clock = heads.next.unwrap();
            continue;
        };
        let id = head.message_id.clone();
        if hand(&store, &id, at(limits, clock)) == Turn::Now {
            sent(&store, &id);
            if id.ends_with('b') {
                went[id[..1].parse::<usize>().unwrap()] = clock;
            }
        }
    }
    for (went, said) in went.iter().zip(&said) {
        assert!(went <= said, "{went} after {said}");
    }
    assert_eq!(went.iter().max(), said.iter().max());
}

#[test]
fn what_cannot_go_as_a_whole_is_taken_back_as_it_is_entered() {
    let store = TestStore::new();
    store.put(direct(ANN, "HELLO"));
    let pace = at(only(|limits| limits.chat = Rate::per_second(1, 2)), START);
    let enter = |ids: &[&str], by| {
        let call = patient(ANN, ids);
        store.enqueue_handed(call, pace, by, NOW).wait().unwrap()
    };
    let soon = Some(START + SECOND);
    let (entered, head) = enter(&["A1", "A2", "A3", "A4"], soon);
    let Enqueued::New { parts, .. } = entered else {
        panic!("{entered:?}");
    };
    assert!(head.is_none());
    assert!(
        parts
            .iter()
            .all(|part| part.state == DeliveryState::Withdrawn)
    );
    assert!(enter(&["B1", "B2", "B3"], soon).1.is_some());
    assert!(
        enter(&["C1", "C2", "C3", "C4"], None).1.is_none(),
        "behind those"
    );
}

#[test]
fn two_peers_that_are_one_have_the_longer_memory() {
    let store = TestStore::new();
    let limits = only(|limits| limits.chat = Rate::per_second(1, 1));
    let pace = at(limits, START);
    assert_eq!(try_send(&store, ANN, "A", pace), Turn::Now);
    sent(&store, "A");
    store.resolve(addresses(&[ANN_LID])).wait().unwrap();
    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
    let later = Turn::At(START + SECOND);
    assert_eq!(try_send(&store, ANN_LID, "B", pace), later);
    let left = store.paced(START).wait().unwrap().strangers_left;
    assert_eq!(left, 19);
}

#[test]
fn what_whatsapp_refuses_for_now_takes_another_place_of_an_account_without_burst() {
    let store = TestStore::new();
    store.put(direct(ANN, "HELLO"));
    store.put(direct(BOB, "HELLO TOO"));
    let limits = only(|limits| limits.account = Rate::per_minute(60, 9));
    store.set_limits(limits).wait().unwrap();
    let pace = at(limits, START);
    let put_off = |id: &str| store.mark_put_off(id.to_owned(), pace).wait().unwrap();
    assert_eq!(try_send(&store, ANN, "A", pace), Turn::Now);
    put_off("A");
    let later = Turn::At(START + SECOND);
    assert_eq!(hand(&store, "A", pace), later);
    assert_eq!(try_send(&store, BOB, "B", pace), later);
    // After an attempt of unknown fate too, and then it is not put off forever.
    let pace = at(limits, START + SECOND);
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    assert!(store.mark_unknown("A".to_owned()).wait().unwrap());
    assert_eq!(hand(&store, "A", pace), Turn::Now);
    store.mark_put_off("A".to_owned(), pace).wait().unwrap();
    assert!(matches!(hand(&store, "A", pace), Turn::At(_)));
    assert_eq!(store.paced(pace.now).wait().unwrap().waiting, 2);
    let end = NOW + 30 * 24 * 3600;
    assert_eq!(store.expire(end).wait().unwrap(), 2);
    assert_eq!(hand(&store, "A", at(limits, end * SECOND)), Turn::Gone);
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
    // Quoted to somebody else.
    store.enqueue(answer("B", BOB), NOW).wait().unwrap();
    assert_eq!(hand(&store, "B", pace), Turn::Restricted);
}

#[test]
fn what_was_refused_is_over_though_the_process_ends_before_it_is_known_why() {
    let store = TestStore::new();
    let pace = at(FREE, START);
    let provisional = |until| Restriction {
        since: NOW,
        until,
        kind: String::new(),
    };
    assert_eq!(try_send(&store, BOB, "A", pace), Turn::Now);
    for until in [NOW + 60, NOW + 9] {
        refused(&store, "A", provisional(until));
    }
    let store = store.reopen();
    store.recover_outbox().wait().unwrap();
    let known = store.paced(START).wait().unwrap().restricted;
    assert_eq!(known, Some(provisional(NOW + 60)), "the longer one");
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
    let nothing = Restriction {
        since: NOW,
        until: NOW,
        kind: String::new(),
    };
    refused(&store, "A", nothing);
    assert_eq!(left(then), 0);
    store.put(direct(cleo, "HELLO"));
    store.resolve(addresses(&[ANN, cleo])).wait().unwrap();
    assert_eq!(left(then), 0);
    assert_eq!(try_send(&store, ANN, "A2", at(limits, then)), Turn::Now);
}

#[test]
fn what_expires_before_its_turn_is_known_to() {
    let store = TestStore::new();
    store.on_whatsapp(ANN);
    store.on_whatsapp(BOB);
    let pace = at(only(|limits| limits.strangers = 1), START);
    assert_eq!(try_send(&store, BOB, "B", pace), Turn::Now);
    let turns = |expires_at, id: &str| {
        let call = OutboundRequest {
            expires_at,
            ..call(ANN, &[id])
        };
        let Enqueued::New { request, .. } = store.enqueue(call, NOW).wait().unwrap() else {
            panic!("new");
        };
        store.turns(request, pace).wait().unwrap().unwrap()
    };
    let day = DAY / SECOND;
    assert!(turns(NOW + day, "A").come_too_late());
    assert!(!turns(NOW + day + 1, "C").come_too_late());
    let expired = || store.counts().wait().unwrap().expired;
    assert_eq!((store.expire(NOW + day).wait().unwrap(), expired()), (1, 1));
}

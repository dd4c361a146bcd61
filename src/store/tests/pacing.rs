//! The limits against a simple model, and what takes a place and what does not.

use proptest::prelude::*;

use super::*;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const START: i64 = NOW * SECOND;
pub(super) const DAY: i64 = 24 * 3600 * SECOND;

pub(super) fn at(limits: Limits, now: i64) -> Pace {
    Pace { limits, now }
}

pub(super) fn only(limits: impl FnOnce(&mut Limits)) -> Limits {
    let mut free = FREE;
    limits(&mut free);
    free
}

/// A call that may wait for days.
pub(super) fn patient(to: &str, ids: &[&str]) -> OutboundRequest {
    OutboundRequest {
        expires_at: NOW + 30 * 24 * 3600,
        ..call(to, ids)
    }
}

/// Enters a message and hands it over if its turn is now.
pub(super) fn try_send(store: &Store, to: &str, id: &str, pace: Pace) -> Turn {
    enter(store, to, &[id]);
    hand(store, id, pace)
}

pub(super) fn enter(store: &Store, to: &str, ids: &[&str]) -> RequestId {
    match store.enqueue(patient(to, ids), NOW).wait().unwrap() {
        Enqueued::New { request, .. } | Enqueued::Joined { request, .. } => request,
        Enqueued::Conflict => panic!("conflict"),
    }
}

pub(super) fn hand(store: &Store, id: &str, pace: Pace) -> Turn {
    store.mark_handed(id.to_owned(), pace).wait().unwrap()
}

pub(super) fn sent(store: &Store, id: &str) {
    store.mark_sent(id.to_owned(), NOW).wait().unwrap();
}

pub(super) fn person(n: usize) -> String {
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
    assert!(turns(NOW + day, "A").come_too_late(START));
    assert!(!turns(NOW + day + 1, "C").come_too_late(START));
    // What expires without having to wait for a turn was held up by something else.
    assert!(!turns(NOW + day, "D").come_too_late(START + DAY));
    let expired = || store.counts().wait().unwrap().expired;
    assert_eq!((store.expire(NOW + day).wait().unwrap(), expired()), (2, 2));
}

//! Whatever happens in whatever order: per chat the events come in the order of arrival, one that comes again says
//! so, and a proven one never comes again.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// A message arrives in a chat; the number picks a fresh or a repeated stanza id.
    Arrive(u8, u8),
    Emit(u32),
    Reply(prop::sample::Index),
    Cursor(prop::sample::Index),
    Written,
    Begin(bool),
    Link,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, 0..40u8).prop_map(|(chat, id)| Step::Arrive(chat, id)),
        6 => (1..4u32).prop_map(Step::Emit),
        2 => any::<prop::sample::Index>().prop_map(Step::Reply),
        2 => any::<prop::sample::Index>().prop_map(Step::Cursor),
        1 => Just(Step::Written),
        2 => any::<bool>().prop_map(Step::Begin),
        1 => Just(Step::Link),
    ];
    prop::collection::vec(step, 1..60)
}

fn mode(polling: bool) -> Mode {
    if polling {
        Mode::Polling
    } else {
        Mode::Websocket
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn order_and_at_most_once_unless_redelivered(steps in steps()) {
        let store = TestStore::new();
        let mut session = store.begin(Mode::Websocket, None).session;
        let mut polling = false;
        let mut numbers: Vec<i64> = Vec::new();
        // Event id by emission, and everything that was emitted in the session at hand.
        let mut emitted: Vec<(String, Address, String)> = Vec::new();
        let mut here: Vec<(Address, RowId)> = Vec::new();
        let mut times: HashMap<String, u32> = HashMap::new();
        let mut answered: HashSet<String> = HashSet::new();
        for step in steps {
            match step {
                Step::Arrive(chat, id) => {
                    let from = [ANN, ANN_LID, BOB][usize::from(chat)];
                    store.put(direct(from, &format!("M{id}")));
                }
                Step::Emit(n) => {
                    for row in store.next_to_emit(n, WEEK, NOW).wait().unwrap() {
                        let seen = times.entry(row.event_id.clone()).or_default();
                        prop_assert_eq!(row.redelivered, *seen > 0);
                        *seen += 1;
                        prop_assert_eq!(row.attempt, *seen);
                        prop_assert!(!answered.contains(&row.event_id), "{} again", row.event_id);
                        let last = here.iter().rev().find(|(chat, _)| *chat == row.chat.public_id);
                        prop_assert!(last.is_none_or(|(_, id)| *id < row.id));
                        let number = store
                            .assign_emission(row.id, session, String::new(), Vec::new(), NOW)
                            .wait()
                            .unwrap()
                            .unwrap();
                        prop_assert!(numbers.last().is_none_or(|n| *n < number));
                        numbers.push(number);
                        here.push((row.chat.public_id.clone(), row.id));
                        emitted.push((row.event_id, row.chat.route, row.stanza_id));
                    }
                }
                Step::Reply(which) if !emitted.is_empty() => {
                    let (event, chat, stanza) = which.get(&emitted).clone();
                    store.prove_by_reply(chat, stanza).wait().unwrap();
                    answered.insert(event);
                }
                Step::Cursor(which) if !numbers.is_empty() => {
                    store.prove_up_to(&store.cursor(*which.get(&numbers))).wait().unwrap();
                }
                Step::Reply(_) | Step::Cursor(_) => {}
                Step::Written => store.mark_written(session, i64::MAX).wait().unwrap(),
                Step::Begin(to) => {
                    polling = to != polling;
                    session = store.begin(mode(polling), None).session;
                    here.clear();
                }
                Step::Link => {
                    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
                    // Two copies of a message may have become one, and one chat's events may have interleaved.
                    here.clear();
                }
            }
        }
    }
}

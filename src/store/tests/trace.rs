//! What is kept of why a message was, or was not, passed on.

use super::*;

fn dropped(id: &str, reason: &str) -> Dropped {
    Dropped {
        chat: jid(ANN),
        sender: jid(ANN),
        stanza_id: id.to_owned(),
        reason: reason.to_owned(),
    }
}

#[test]
fn a_message_is_explained_by_either_id() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    let row = store.waiting().remove(0);
    let explained = |id: &str| store.explain(id.to_owned()).wait().unwrap();
    let waiting = explained("M1");
    assert_eq!((waiting[0].outcome, &waiting[0].trace), ("waiting", &None));
    let ruling = Ruling {
        rule: "dm_policy: allowlist".to_owned(),
        trace: Trace {
            at: NOW,
            forms: addresses(&[ANN]),
            gates: vec![
                Gate::new("contacts", "no entry"),
                Gate::new("dm_policy", "allowlist"),
            ],
        },
    };
    store.drop_denied(row.id, ruling.clone()).wait().unwrap();
    // It came again.
    store.put(direct(ANN, "M1"));
    let found = explained("M1");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].outcome, "denied");
    assert_eq!(found[0].rule.as_deref(), Some("dm_policy: allowlist"));
    assert_eq!(found[0].trace.as_ref(), Some(&ruling.trace));
    assert_eq!(
        (found[1].outcome, found[1].rule.as_deref()),
        ("dropped", Some("duplicate"))
    );
    assert_eq!(explained(&row.event_id), found[..1]);
    assert!(explained("M2").is_empty());
}

#[test]
fn what_was_too_old_says_so() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    let rows = store.next_to_emit(10, WEEK, NOW + WEEK + 1);
    assert!(rows.wait().unwrap().is_empty());
    let found = &store.explain("M1".to_owned()).wait().unwrap()[0];
    assert_eq!(
        (found.outcome, found.rule.as_deref()),
        ("too_old", Some("max_event_age_secs"))
    );
    let gates = &found.trace.as_ref().unwrap().gates;
    assert_eq!(*gates, [Gate::new("max_event_age_secs", "too old")]);
}

#[test]
fn questions_count_until_a_message_was_set_aside_for_them() {
    let store = TestStore::new();
    store.put(direct(ANN_LID, "M1"));
    let row = store.waiting().remove(0).id;
    let tries = || store.tries(jid(ANN_LID)).wait().unwrap();
    store.set_tries(vec![(jid(ANN_LID), 10)]).wait().unwrap();
    assert_eq!(tries(), 10);
    store.set_aside(row, "unsaid".to_owned()).wait().unwrap();
    assert_eq!(tries(), 0);
    let found = &store.explain("M1".to_owned()).wait().unwrap()[0];
    assert_eq!(
        (found.outcome, found.rule.as_deref()),
        ("unconfirmed", Some("unsaid"))
    );
}

#[test]
fn only_so_much_is_kept_of_what_was_dropped() {
    let store = TestStore::new();
    let lines: Vec<Dropped> = (0..10_001)
        .map(|n| dropped(&format!("S{n}"), "status"))
        .collect();
    store.note_dropped(lines).wait().unwrap();
    let there = |id: &str| !store.explain(id.to_owned()).wait().unwrap().is_empty();
    assert!(!there("S0") && there("S1") && there("S10000"));
    // By the clock of the machine, as the lines are dated.
    let now = crate::clock::now();
    store.sweep(now + 29 * 24 * 3600).wait().unwrap();
    assert!(there("S10000"));
    store.sweep(now + 31 * 24 * 3600).wait().unwrap();
    assert!(!there("S10000"));
}

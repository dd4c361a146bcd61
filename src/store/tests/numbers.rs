use super::*;
use crate::store::Approval;

const MONTH: i64 = 31 * 24 * 3600;

fn resolve(store: &Store, list: &[&str]) -> Peer {
    store.resolve(addresses(list)).wait().unwrap()
}

fn ask(store: &Store, phone: &str, now: i64) -> Asking {
    let peer = resolve(store, &[phone]);
    store.before_first(peer, now).wait().unwrap()
}

fn answer(store: &Store, asked: &str, answer: Option<(&str, &str)>) -> Option<Peer> {
    let answer = answer.map(|(phone, lid)| Registered {
        phone: jid(phone),
        lid: Some(jid(lid)),
    });
    store.answered(jid(asked), answer, NOW).wait().unwrap()
}

#[test]
fn an_answer_is_kept_for_a_while() {
    let store = TestStore::new();
    assert_eq!(ask(&store, ANN, NOW), Asking::Ask(jid(ANN)));
    let ann = answer(&store, ANN, Some((ANN, ANN_LID))).unwrap();
    assert_eq!(
        (ann.public_id.clone(), ann.route.clone()),
        (jid(ANN), jid(ANN))
    );
    assert_eq!(ann.lid(), Some(&jid(ANN_LID)));
    assert_eq!(ask(&store, BOB, NOW), Asking::Ask(jid(BOB)));
    assert_eq!(answer(&store, BOB, None), None);
    let store = store.reopen();
    assert_eq!(ask(&store, ANN, NOW + WEEK), Asking::Needless);
    assert_eq!(ask(&store, BOB, NOW + 60), Asking::NotRegistered);
    assert_eq!(ask(&store, BOB, NOW + 4000), Asking::Ask(jid(BOB)));
    assert_eq!(ask(&store, ANN, NOW + MONTH), Asking::Ask(jid(ANN)));
}

#[test]
fn who_wrote_is_not_asked_for() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    assert_eq!(ask(&store, ANN, NOW + MONTH), Asking::Needless);
    assert_eq!(ask(&store, BOB_LID, NOW), Asking::Needless);
}

#[test]
fn an_unasked_number_is_not_handed_over_at_once() {
    let store = TestStore::new();
    for asked in [false, true] {
        if asked {
            store.on_whatsapp(ANN);
        }
        let call = OutboundRequest {
            idempotency_key: None,
            content_hash: asked.to_string(),
            reply_to: None,
            marks_read: false,
            chat: addresses(&[if asked { ANN } else { BOB }]),
            parts: vec![NewPart {
                message_id: asked.to_string(),
                payload: Vec::new(),
                kind: "text".to_owned(),
                file: None,
            }],
            expires_at: NOW + 60,
        };
        let (_, head) = store.enqueue_handed(call, PACE, None, NOW).wait().unwrap();
        assert_eq!(head.is_some(), asked);
    }
}

#[test]
fn not_too_many_questions_a_minute() {
    let store = TestStore::new();
    let number = |n: usize| format!("1555124{n:04}@s.whatsapp.net");
    for n in 0..20 {
        assert!(
            matches!(ask(&store, &number(n), NOW), Asking::Ask(_)),
            "{n}"
        );
    }
    assert_eq!(ask(&store, &number(20), NOW + 1), Asking::Later);
    assert!(matches!(ask(&store, &number(20), NOW + 61), Asking::Ask(_)));
}

#[test]
fn another_form_of_a_number_is_the_same_person() {
    let store = TestStore::new();
    let typed = "15551239999@s.whatsapp.net";
    store.put(direct(ANN, "M1"));
    resolve(&store, &[typed]);
    let ann = answer(&store, typed, Some((ANN, ANN_LID))).unwrap();
    assert_eq!(ann.public_id, jid(ANN));
    assert_eq!(resolve(&store, &[typed]).key, ann.key);
    assert_eq!(ann.phone(), Some(&jid(ANN)));
    // Unmet, the typed form names the conversation, and the other one is the way.
    let typed = "15551238888@s.whatsapp.net";
    resolve(&store, &[typed]);
    let bob = answer(&store, typed, Some((BOB, BOB_LID))).unwrap();
    assert_eq!((bob.public_id, bob.route), (jid(typed), jid(BOB)));
}

#[test]
fn a_number_with_a_new_owner_speaks_for_nobody() {
    let store = TestStore::new();
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1"));
    let ann = resolve(&store, &[ANN]);
    assert_eq!((&ann.route, ann.credentials().len()), (&jid(ANN), 2));
    // Addressed by the number, by the LID, and by the number alone.
    store.put(message(&[ANN, BOB_LID], &[ANN, BOB_LID], "M2"));
    store.put(message(&[BOB_LID, ANN], &[BOB_LID, ANN], "M3"));
    store.put(direct(ANN, "M4"));
    let rows = store.waiting();
    for row in &rows[1..] {
        assert_eq!(row.chat.public_id, jid(BOB_LID));
        assert_eq!(row.sender.credentials(), [jid(BOB_LID)]);
    }
    let ann = resolve(&store, &[ANN]);
    assert_eq!(ann.key, rows[0].sender.key);
    assert_eq!(ann.credentials(), [jid(ANN_LID)]);
    assert_eq!((ann.route.clone(), ann.phone()), (jid(ANN_LID), None));
    let lost = store.lost_numbers().wait().unwrap();
    assert_eq!(lost, [(jid(ANN), jid(BOB_LID))]);
    let credentials = |given: &[&str]| store.credentials(addresses(given)).wait().unwrap();
    for heir in [vec![ANN], vec![ANN, BOB_LID], vec![BOB_LID]] {
        assert_eq!(credentials(&heir), [jid(BOB_LID)], "{heir:?}");
    }
    assert_eq!(credentials(&[ANN_LID, BOB]), addresses(&[BOB, ANN_LID]));
    // Who mentions the number means him, and he is mentioned as himself.
    let mut asks = message(&[GROUP], &[ANN_LID], "G1");
    asks.draft.mentions = vec![jid(ANN)];
    store.put(asks);
    let rows = store.waiting();
    assert_eq!(rows.last().unwrap().people[&jid(ANN)].id, jid(BOB_LID));
    let by_lid = Group {
        by_lid: true,
        ..Group::default()
    };
    let set = store.set_group(jid(GROUP), by_lid, Vec::new(), false, NOW);
    set.wait().unwrap();
    let forms = store.mention_forms(jid(GROUP), vec![jid(ANN)]).wait();
    assert_eq!(forms.unwrap(), [(jid(ANN), jid(BOB_LID))].into());
    // She is still who she was.
    store.put(message(&[ANN_LID, BOB], &[ANN_LID, BOB], "M5"));
    let ann = resolve(&store, &[ANN_LID]);
    assert_eq!(
        (ann.public_id.clone(), ann.phone()),
        (jid(ANN), Some(&jid(BOB)))
    );
}

#[test]
fn a_new_owner_may_show_when_whatsapp_is_asked() {
    let store = TestStore::new();
    resolve(&store, &[ANN]);
    answer(&store, ANN, Some((ANN, ANN_LID))).unwrap();
    assert_eq!(ask(&store, ANN, NOW + MONTH), Asking::Ask(jid(ANN)));
    assert_eq!(answer(&store, ANN, Some((ANN, BOB_LID))), None);
    assert_eq!(resolve(&store, &[ANN]).credentials(), [jid(ANN_LID)]);
}

#[test]
fn a_person_who_takes_another_number_stays_the_same() {
    let changed = |store: &Store, old: &[&str], new: &[&str]| {
        store
            .number_changed(addresses(old), addresses(new))
            .wait()
            .unwrap();
    };
    for (old, new) in [
        (vec![ANN], vec![BOB]),
        (vec![ANN, ANN_LID], vec![BOB, ANN_LID]),
        (vec![ANN, ANN_LID], vec![BOB, BOB_LID]),
    ] {
        for met in [vec![ANN], vec![ANN, ANN_LID]] {
            let store = TestStore::new();
            let ann = resolve(&store, &met);
            changed(&store, &old, &new);
            let now = resolve(&store, &[new[0], ANN_LID]);
            assert_eq!(now.public_id, jid(ANN), "{met:?} {new:?}");
            assert_eq!(now.key, ann.key);
            assert_eq!(now.phone(), Some(&jid(BOB)));
            assert!(now.lost.is_empty());
        }
    }
    // Also if she wrote before WhatsApp said it.
    let store = TestStore::new();
    let ann = resolve(&store, &[ANN, ANN_LID]);
    resolve(&store, &[ANN, BOB_LID]);
    assert_eq!(store.lost_numbers().wait().unwrap().len(), 1);
    changed(&store, &[ANN, ANN_LID], &[ANN, BOB_LID]);
    assert_eq!(store.lost_numbers().wait().unwrap(), []);
    assert_eq!(resolve(&store, &[ANN, BOB_LID]).key, ann.key);
    // Who has the new number already is somebody else.
    let store = TestStore::new();
    let (ann, bob) = (
        resolve(&store, &[ANN, ANN_LID]),
        resolve(&store, &[BOB, BOB_LID]),
    );
    changed(&store, &[ANN], &[BOB]);
    assert_eq!(resolve(&store, &[BOB_LID]).key, bob.key);
    assert_eq!(resolve(&store, &[ANN_LID]).key, ann.key);
    assert_eq!(resolve(&store, &[BOB]).credentials(), [jid(BOB_LID)]);
    // Of a stranger nothing is known before or after.
    changed(
        &store,
        &["15550001111@s.whatsapp.net"],
        &["15550002222@s.whatsapp.net"],
    );
    assert_eq!(
        store
            .peer(jid("15550002222@s.whatsapp.net"))
            .wait()
            .unwrap(),
        None
    );
}

/// Those who write do not use up what may be asked before first messages.
#[test]
fn whose_number_it_is_costs_no_questions() {
    let store = TestStore::new();
    for n in 0..40 {
        let phone = format!("1555124{n:04}@s.whatsapp.net").parse().unwrap();
        let lid = format!("{}@lid", 200_000_000_000_000_u64 + n)
            .parse()
            .unwrap();
        store.belongs(phone, lid).wait().unwrap();
    }
    let phone: Address = "15551250000@s.whatsapp.net".parse().unwrap();
    let peer = store.resolve(vec![phone.clone()]).wait().unwrap();
    let asking = store.before_first(peer, NOW).wait().unwrap();
    assert_eq!(asking, Asking::Ask(phone));
}

#[test]
fn who_was_let_in_by_one_address_alone_may_write_by_the_other() {
    for (known, by_lid) in [(ANN, false), (ANN_LID, true)] {
        let store = TestStore::new();
        let asks = || {
            let by_number = store.approved_by_number().wait().unwrap();
            (by_number, store.approved_by_lid().wait().unwrap())
        };
        store.put(direct(known, "M1"));
        assert_eq!(asks(), (false, false));
        let approval = Approval {
            id: jid(known),
            addresses: addresses(&[known]),
            name: None,
            since: NOW,
        };
        store.take_approvals(vec![approval]).wait().unwrap();
        assert_eq!(asks(), (!by_lid, by_lid));
        store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
        assert_eq!(asks(), (false, false));
    }
}

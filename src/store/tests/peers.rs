use super::*;

fn resolve(store: &Store, list: &[&str]) -> Peer {
    store.resolve(addresses(list)).wait().unwrap()
}

#[test]
fn the_phone_is_the_public_id_when_it_is_known_at_first() {
    let store = TestStore::new();
    let ann = resolve(&store, &[ANN_LID, ANN]);
    assert_eq!(ann.public_id, jid(ANN));
    assert_eq!(ann.route, jid(ANN_LID));
    assert_eq!(
        (ann.phone(), ann.lid()),
        (Some(&jid(ANN)), Some(&jid(ANN_LID)))
    );
    assert_eq!(resolve(&store, &[ANN]).key, ann.key);
    assert_eq!(resolve(&store, &[ANN_LID]).key, ann.key);
}

#[test]
fn a_public_id_never_changes() {
    let store = TestStore::new();
    assert_eq!(resolve(&store, &[ANN_LID]).public_id, jid(ANN_LID));
    let ann = resolve(&store, &[ANN_LID, ANN]);
    assert_eq!(ann.public_id, jid(ANN_LID));
    assert_eq!(ann.aliases.len(), 2);
}

#[test]
fn two_that_are_one_become_the_older() {
    let store = TestStore::new();
    let lid = resolve(&store, &[ANN_LID]);
    let phone = resolve(&store, &[ANN]);
    assert_ne!(lid.key, phone.key);
    let ann = resolve(&store, &[ANN, ANN_LID]);
    assert_eq!((ann.key, &ann.public_id), (lid.key, &jid(ANN_LID)));
    for form in [ANN, ANN_LID] {
        assert_eq!(store.peer(jid(form)).wait().unwrap().unwrap(), ann);
    }
}

#[test]
fn a_merge_takes_everything_along_and_events_keep_their_ids() {
    let store = TestStore::new();
    store.put(direct(ANN_LID, "M1"));
    store.put(direct(ANN, "M2"));
    store.put(message(&[GROUP], &[ANN], "G1"));
    let before: Vec<_> = store.waiting().into_iter().map(|m| m.event_id).collect();
    let ann = resolve(&store, &[ANN, ANN_LID]);
    let rows = store.waiting();
    assert_eq!(
        rows.iter().map(|m| m.event_id.clone()).collect::<Vec<_>>(),
        before
    );
    assert!(rows.iter().all(|m| m.sender.key == ann.key));
    assert_eq!(rows[1].chat.public_id, jid(ANN_LID));
    assert_eq!(rows[2].chat.public_id, jid(GROUP));
    // Under either form it is now the same message.
    for form in [ANN, ANN_LID] {
        assert_eq!(store.put(direct(form, "M1")), Inserted::Duplicate);
        assert_eq!(
            store.put(message(&[GROUP], &[form], "G1")),
            Inserted::Duplicate
        );
    }
}

#[test]
fn of_a_message_that_came_under_both_forms_the_emitted_copy_stays() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    store.put(direct(ANN_LID, "M1"));
    store.put(direct(ANN, "M1"));
    let second = &store.waiting()[1];
    store
        .assign_emission(second.id, session, String::new(), Vec::new(), NOW)
        .wait()
        .unwrap()
        .unwrap();
    resolve(&store, &[ANN, ANN_LID]);
    assert!(store.waiting().is_empty());
    assert_eq!(store.counts().wait().unwrap().unproven, 1);
}

#[test]
fn two_lids_are_two_people_whatever_number_they_have() {
    let store = TestStore::new();
    let ann = resolve(&store, &[ANN, ANN_LID]);
    let heir = resolve(&store, &[BOB_LID, ANN]);
    assert_ne!(ann.key, heir.key);
    assert_eq!(heir.public_id, jid(BOB_LID));
    assert_eq!(heir.aliases, [jid(BOB_LID)]);
    assert_eq!(resolve(&store, &[ANN]).key, ann.key);
    assert_eq!(resolve(&store, &[ANN, BOB_LID]).key, heir.key);
}

#[test]
fn the_route_is_the_form_used_last() {
    let store = TestStore::new();
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1"));
    assert_eq!(resolve(&store, &[ANN]).route, jid(ANN));
    store.put(message(&[ANN_LID, ANN], &[ANN_LID, ANN], "M2"));
    let ann = resolve(&store, &[ANN]);
    assert_eq!((ann.route, ann.public_id), (jid(ANN_LID), jid(ANN)));
    assert_eq!(ann.push_name.as_deref(), Some("Ann"));
    assert_eq!(ann.last_inbound, Some(NOW));
}

#[test]
fn nobody_has_no_address() {
    let store = TestStore::new();
    assert!(store.resolve(Vec::new()).wait().is_err());
    assert_eq!(store.peer(jid(BOB)).wait().unwrap(), None);
}

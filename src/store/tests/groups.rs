use super::*;
use crate::store::{Group, GroupChange, Member};

fn member(address: &str, other: &str) -> Member {
    Member {
        address: jid(address),
        other: Some(jid(other)),
        admin: false,
    }
}

/// A group of Ann and Bob, known by LID, as it was fetched.
fn fetched(store: &TestStore) {
    let group = Group {
        subject: "Cooks".to_owned(),
        by_lid: true,
        ..Group::default()
    };
    let members = vec![member(ANN_LID, ANN), member(BOB_LID, BOB)];
    store
        .set_group(jid(GROUP), group, members, false, 1000)
        .wait()
        .unwrap();
}

fn change(store: &TestStore, change: GroupChange) {
    store.change_group(jid(GROUP), change).wait().unwrap();
}

#[test]
fn changes_move_on_what_was_fetched() {
    let store = TestStore::new();
    fetched(&store);
    let known = || store.group(jid(GROUP)).wait().unwrap().unwrap();
    change(&store, GroupChange::Subject("Bakers".to_owned()));
    change(
        &store,
        GroupChange::Description(Some("We bake.".to_owned())),
    );
    change(&store, GroupChange::Announcement(true));
    change(&store, GroupChange::Locked(true));
    change(&store, GroupChange::Ephemeral(86_400));
    let group = known().group;
    assert_eq!(group.subject, "Bakers");
    assert_eq!(group.description.as_deref(), Some("We bake."));
    assert_eq!((group.announcement, group.locked), (true, true));
    assert_eq!((group.ephemeral_secs, group.by_lid), (86_400, true));
    assert!(!known().stale);
    change(&store, GroupChange::Other);
    assert!(known().stale);
    fetched(&store);
    assert_eq!(known().group.subject, "Cooks");
    assert!(!known().stale);
}

#[test]
fn members_come_and_go_and_are_known_by_either_address() {
    let store = TestStore::new();
    fetched(&store);
    let of = |address: &str| store.member(jid(GROUP), vec![jid(address)]).wait().unwrap();
    let bob = member(BOB_LID, BOB);
    assert_eq!(of(BOB), Some(bob.clone()));
    assert_eq!(of(BOB_LID), Some(bob.clone()));
    change(&store, GroupChange::Admins(vec![bob.address.clone()], true));
    assert!(of(BOB_LID).unwrap().admin);
    change(
        &store,
        GroupChange::Admins(vec![bob.address.clone()], false),
    );
    assert!(!of(BOB_LID).unwrap().admin);
    change(&store, GroupChange::Left(vec![bob.address.clone()]));
    assert_eq!(of(BOB_LID), None);
    assert_eq!(of(BOB), None);
    change(&store, GroupChange::Joined(vec![bob.clone()]));
    assert_eq!(of(BOB), Some(bob));
}

#[test]
fn a_change_of_an_unknown_group_makes_no_half_known_one() {
    let store = TestStore::new();
    change(&store, GroupChange::Subject("Cooks".to_owned()));
    let bob = member(BOB_LID, BOB);
    change(&store, GroupChange::Joined(vec![bob.clone()]));
    assert_eq!(store.group(jid(GROUP)).wait().unwrap(), None);
    let found = store.member(jid(GROUP), vec![bob.address]).wait().unwrap();
    assert_eq!(found, None);
}

#[test]
fn people_are_mentioned_as_their_group_addresses_them() {
    let store = TestStore::new();
    let phones = vec![
        jid(BOB),
        jid("15551230003@s.whatsapp.net"),
        jid("15551230009@s.whatsapp.net"),
    ];
    let forms = || {
        store
            .mention_forms(jid(GROUP), phones.clone())
            .wait()
            .unwrap()
    };
    assert!(forms().is_empty());
    fetched(&store);
    // Not in the group, and met elsewhere.
    let carol = vec![phones[1].clone(), jid("100000000000003@lid")];
    store.resolve(carol).wait().unwrap();
    let expected = [
        (phones[0].clone(), jid(BOB_LID)),
        (phones[1].clone(), jid("100000000000003@lid")),
    ];
    assert_eq!(forms(), expected.into());
    let by_phone = Group::default();
    store
        .set_group(jid(GROUP), by_phone, Vec::new(), false, 1000)
        .wait()
        .unwrap();
    assert!(forms().is_empty());
}

#[test]
fn a_group_that_addresses_its_members_otherwise_is_fetched_again() {
    let store = TestStore::new();
    fetched(&store);
    let stale = || store.group(jid(GROUP)).wait().unwrap().unwrap().stale;
    store.put(message(&[GROUP], &[ANN_LID, ANN], "A1"));
    store.put(message(&[GROUP], &[GROUP], "A2"));
    assert!(!stale());
    store.put(message(&[GROUP], &[ANN, ANN_LID], "A3"));
    assert!(stale());
}

#[test]
fn what_was_deleted_is_no_context_any_more() {
    let revocation = |id: &str, by: &[&str], admin: bool| {
        let mut message = message(&[GROUP], by, id);
        message.draft.event_type = "message.revoked".to_owned();
        message.draft.target_message_id = Some("A1".to_owned());
        let by = if admin { "admin" } else { "sender" };
        let by = ("revoked_by".to_owned(), by.to_owned());
        message.draft.metadata.extend([by]);
        message
    };
    for (by, admin, gone) in [
        (ANN_LID, false, true),
        (BOB_LID, false, false),
        (BOB_LID, true, true),
    ] {
        let store = TestStore::new();
        store.put(message(&[GROUP], &[ANN_LID], "A1"));
        let first = store.waiting().remove(0);
        let kept = store.keep_as_context(first.id, "mention".to_owned(), 20);
        kept.wait().unwrap();
        store.put(revocation("R1", &[by], admin));
        let row = store.waiting().remove(0);
        let context = store.context(row.id, 20).wait().unwrap();
        assert_eq!(context.is_empty(), gone, "{by} {admin}");
        let told = store.explain("A1".to_owned()).wait().unwrap().remove(0);
        let rule = if gone { "message.revoked" } else { "mention" };
        assert_eq!(told.rule.as_deref(), Some(rule), "{by} {admin}");
    }
}

#[test]
fn a_message_comes_with_its_group_and_the_names_that_the_group_explains() {
    let store = TestStore::new();
    fetched(&store);
    // Bob was met by his phone number alone; he is mentioned by his LID.
    let mut hello = direct(BOB, "B1");
    hello.push_name = Some("Bob".to_owned());
    let mut asks = message(&[GROUP], &[ANN_LID, ANN], "A1");
    asks.draft.mentions = vec![jid(BOB_LID)];
    store.insert(vec![hello, asks]).wait().unwrap();
    let rows = store.waiting();
    assert_eq!(rows[0].group, None);
    let group = &rows[1].group.as_ref().unwrap().group;
    assert_eq!(group.subject, "Cooks");
    assert_eq!(rows[1].people[&jid(BOB_LID)].name.as_deref(), Some("Bob"));
}

#[test]
fn what_happens_is_of_who_is_known_and_is_not_kept() {
    let store = TestStore::new();
    fetched(&store);
    store.put(direct(ANN, "A1"));
    let happened = Happened {
        chat: vec![jid(GROUP)],
        sender: vec![jid(ANN_LID), jid(ANN)],
        name: "group:N1".to_owned(),
        stanza_id: "N1".to_owned(),
        timestamp: NOW,
        draft: Draft::default(),
    };
    let told = store.introduce(happened).wait().unwrap();
    assert_eq!(told.sender.public_id, jid(ANN));
    assert_eq!(told.event_id, format!("whatsapp:{GROUP}:{ANN}:group:N1"));
    assert!(!told.durable);
    assert_eq!(told.group.unwrap().group.subject, "Cooks");
    assert_eq!(store.waiting().len(), 1);
}

#[test]
fn a_number_that_a_group_gives_to_another_lid_speaks_for_nobody() {
    let store = TestStore::new();
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1"));
    let group = Group {
        by_lid: true,
        ..Group::default()
    };
    let set = store.set_group(jid(GROUP), group, vec![member(BOB_LID, ANN)], false, 1000);
    set.wait().unwrap();
    let credentials = |given: &[&str]| store.credentials(addresses(given)).wait().unwrap();
    assert_eq!(credentials(&[ANN]), [jid(BOB_LID)]);
    assert_eq!(credentials(&[ANN_LID]), [jid(ANN_LID)]);
}

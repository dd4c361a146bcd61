use super::*;

fn stanzas(rows: &[Stored]) -> Vec<&str> {
    rows.iter().map(|m| m.stanza_id.as_str()).collect()
}

#[test]
fn a_message_is_one_row_however_it_is_addressed() {
    let store = TestStore::new();
    assert!(matches!(
        store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1")),
        Inserted::Inserted(_)
    ));
    assert_eq!(store.put(direct(ANN_LID, "M1")), Inserted::Duplicate);
    assert_eq!(store.put(direct(ANN, "M1")), Inserted::Duplicate);
    // The id is the sender's choice: elsewhere it is another message.
    assert!(matches!(
        store.put(direct(BOB, "M1")),
        Inserted::Inserted(_)
    ));
    assert!(matches!(
        store.put(message(&[GROUP], &[ANN], "M1")),
        Inserted::Inserted(_)
    ));
    assert!(matches!(
        store.put(message(&[GROUP], &[BOB], "M1")),
        Inserted::Inserted(_)
    ));
    let store = store.reopen();
    assert_eq!(store.put(direct(ANN, "M1")), Inserted::Duplicate);
    assert_eq!(store.waiting().len(), 4);
}

#[test]
fn a_batch_keeps_its_order_and_says_what_is_new() {
    let store = TestStore::new();
    let batch = ["M1", "M2", "M1", "M3"].map(|id| direct(ANN, id)).to_vec();
    let outcome = store.insert(batch).wait().unwrap();
    assert_eq!(outcome[2], Inserted::Duplicate);
    assert_eq!(stanzas(&store.waiting()), ["M1", "M2", "M3"]);
}

#[test]
fn what_comes_out_is_what_went_in() {
    let store = TestStore::new();
    store.put(message(&[GROUP], &[ANN_LID, ANN], "M1"));
    let row = store.waiting().remove(0);
    assert_eq!(row.event_id, format!("whatsapp:{GROUP}:{ANN}:M1"));
    assert_eq!(row.draft, message(&[GROUP], &[ANN], "M1").draft);
    assert_eq!((row.attempt, row.redelivered), (1, false));
    assert_eq!((row.timestamp, row.route), (NOW, jid(GROUP)));
    assert_eq!(row.push_name.as_deref(), Some("Ann"));
    assert_eq!(row.chat.push_name, None);
}

#[test]
fn old_messages_are_known_but_neither_emitted_nor_referred_to() {
    let store = TestStore::new();
    let mut old = direct(ANN, "OLD");
    old.timestamp = NOW - WEEK - 1;
    store.put(old.clone());
    store.put(direct(ANN, "NEW"));
    assert_eq!(stanzas(&store.waiting()), ["NEW"]);
    assert_eq!(store.put(old), Inserted::Duplicate);
    assert!(
        store
            .kept(jid(ANN), "OLD".to_owned())
            .wait()
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_denied_message_loses_its_text_everywhere() {
    let store = TestStore::new();
    store.put(direct(ANN, "SECRET"));
    let id = store.waiting()[0].id;
    store
        .drop_denied(id, "dm_policy".to_owned())
        .wait()
        .unwrap();
    assert!(store.waiting().is_empty());
    assert_eq!(
        store.kept(jid(ANN), "SECRET".to_owned()).wait().unwrap(),
        None
    );
    assert_eq!(store.put(direct(ANN, "SECRET")), Inserted::Duplicate);
    let path = store.path();
    let TestStore { store, dir } = store;
    drop(store);
    let bytes = std::fs::read(path).unwrap();
    assert!(!bytes.windows(14).any(|w| w == b"text of SECRET"));
    drop(dir);
}

#[test]
fn an_emission_number_is_given_once_and_grows() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    for id in ["M1", "M2"] {
        store.put(direct(ANN, id));
    }
    let rows = store.waiting();
    let assign = |row: &Stored| {
        store
            .assign_emission(row.id, session, "allowed".to_owned(), Vec::new(), NOW)
            .wait()
            .unwrap()
    };
    let first = assign(&rows[0]).unwrap();
    assert_eq!(assign(&rows[0]), None);
    assert!(assign(&rows[1]).unwrap() > first);
    assert!(store.waiting().is_empty());
    // A verdict that comes too late changes nothing.
    store
        .drop_denied(rows[0].id, "late".to_owned())
        .wait()
        .unwrap();
    assert!(
        store
            .kept(jid(ANN), "M1".to_owned())
            .wait()
            .unwrap()
            .is_some()
    );
}

#[test]
fn no_more_group_talk_is_kept_than_is_given() {
    let store = TestStore::new();
    for id in ["C1", "C2", "C3", "C4", "HEY"] {
        store.put(message(&[GROUP], &[ANN], id));
    }
    // Another group's is its own.
    store.put(message(&["120363000000000002@g.us"], &[ANN], "O1"));
    let rows = store.waiting();
    let hey = rows[4].id;
    let keep = |at: usize, limit| {
        let kept = store.keep_as_context(rows[at].id, "not addressed".to_owned(), limit);
        kept.wait().unwrap();
        let context = store.context(hey, 9).wait().unwrap();
        let said = context.into_iter().map(|said| said.stanza_id);
        said.collect::<Vec<_>>()
    };
    keep(5, 2);
    assert_eq!(keep(0, 2), ["C1"]);
    assert_eq!(keep(1, 2), ["C1", "C2"]);
    assert_eq!(keep(2, 2), ["C2", "C3"]);
    let found = store.explain("C1".to_owned()).wait().unwrap();
    assert_eq!(found[0].rule.as_deref(), Some("group_context_messages"));
    assert!(keep(3, 0).is_empty());
    let found = store.explain("O1".to_owned()).wait().unwrap();
    assert_eq!(found[0].outcome, "kept_as_context");
}

#[test]
fn group_talk_goes_with_the_next_event_and_again_when_that_is_redelivered() {
    let store = TestStore::new();
    let session = store.begin(Mode::Websocket, None).session;
    for id in ["C1", "C2", "C3", "HEY"] {
        store.put(message(&[GROUP], &[ANN], id));
    }
    store.put(direct(ANN, "D1"));
    let rows = store.waiting();
    for row in &rows[..3] {
        store
            .keep_as_context(row.id, "not addressed".to_owned(), 3)
            .wait()
            .unwrap();
    }
    let hey = rows[3].id;
    let context = || store.context(hey, 2).wait().unwrap();
    assert_eq!(stanzas(&context()), ["C2", "C3"]);
    assert!(store.context(rows[4].id, 9).wait().unwrap().is_empty());
    let given = context().iter().map(|said| said.id).collect();
    let number = store.assign_emission(hey, session, String::new(), given, NOW);
    assert!(number.wait().unwrap().is_some());
    assert_eq!(stanzas(&context()), ["C2", "C3"]);
    // What was one too many was not given, and nothing of it stays.
    let became = |id: &str| {
        let found = store.explain(id.to_owned()).wait().unwrap();
        found[0].outcome
    };
    assert_eq!(became("C2"), "given_as_context");
    assert_ne!(became("C1"), "given_as_context");
    let text = |id: RowId| {
        store
            .submit(move |tx| {
                let sql = "SELECT draft IS NOT NULL OR raw IS NOT NULL FROM inbox WHERE id = ?1";
                tx.query_row(sql, [id.0], |row| row.get(0))
            })
            .wait()
            .unwrap()
    };
    let (beyond, refused): (bool, bool) = (text(rows[0].id), text(rows[1].id));
    assert!(!beyond && refused);
    // Whoever is refused when it is to be told again has nothing of theirs told, or kept.
    store
        .drop_denied(rows[1].id, "late".to_owned())
        .wait()
        .unwrap();
    assert_eq!(stanzas(&context()), ["C3"]);
    let refused: bool = text(rows[1].id);
    assert!(!refused);
    assert_eq!(store.emit_all(session), ["D1"]);
    store.put(message(&[GROUP], &[ANN], "NEXT"));
    let next = store.waiting()[0].id;
    assert!(store.context(next, 9).wait().unwrap().is_empty());
}

#[test]
fn originals_are_found_by_any_address_of_the_chat() {
    let store = TestStore::new();
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "M1"));
    for form in [ANN, ANN_LID] {
        let original = store
            .kept(jid(form), "M1".to_owned())
            .wait()
            .unwrap()
            .unwrap();
        assert_eq!(original.raw.as_deref(), Some(b"raw of M1".as_slice()));
        assert_eq!(original.sender, Some(jid(ANN)));
    }
    assert_eq!(store.kept(jid(ANN), "M2".to_owned()).wait().unwrap(), None);
    assert_eq!(store.kept(jid(BOB), "M1".to_owned()).wait().unwrap(), None);
}

#[test]
fn an_unreadable_draft_holds_nobody_up() {
    let store = TestStore::new();
    store.put(direct(ANN, "M1"));
    store.put(direct(ANN, "M2"));
    store
        .submit(|tx| tx.execute("UPDATE inbox SET draft = '{' WHERE stanza = 'M1'", []))
        .wait()
        .unwrap();
    assert_eq!(stanzas(&store.waiting()), ["M2"]);
    assert_eq!(store.counts().wait().unwrap().poisoned, 1);
}

#[test]
fn waiting_is_announced_after_it_is_stored() {
    let store = TestStore::new();
    let mut signal = store.inbound_signal();
    signal.mark_unchanged();
    store.put(direct(ANN, "M1"));
    assert!(signal.has_changed().unwrap());
    signal.mark_unchanged();
    store.put(direct(ANN, "M1"));
    assert!(!signal.has_changed().unwrap());
}

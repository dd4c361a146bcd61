use super::*;
use crate::store::{Group, Linked, Member, Search};
use waproto::codec::message_to_vec;
use waproto::whatsapp as wa;

fn ours() -> OutboundRequest {
    OutboundRequest {
        idempotency_key: None,
        content_hash: String::new(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[ANN]),
        parts: vec![NewPart {
            message_id: "OURS".to_owned(),
            payload: vec![1],
            kind: "text".to_owned(),
            file: None,
        }],
        expires_at: NOW + 60,
    }
}

fn linked(store: &TestStore) {
    let linked = Linked {
        phone: jid("15559990000@s.whatsapp.net"),
        lid: Some(jid("900000000000009@lid")),
        device: 1,
        push_name: None,
    };
    store.set_linked(Some(linked)).wait().unwrap();
}

#[test]
fn a_message_is_found_in_its_chat_in_the_form_of_the_chat() {
    let store = TestStore::new();
    linked(&store);
    let said = message(&[GROUP], &[ANN_LID, ANN], "M1");
    store.insert(vec![said]).wait().unwrap();
    let kept = |chat| store.kept(jid(chat), "M1".to_owned()).wait().unwrap();
    for by_lid in [true, false] {
        let group = Group {
            by_lid,
            ephemeral_secs: 60,
            ..Group::default()
        };
        let nobody: Vec<Member> = Vec::new();
        store
            .set_group(jid(GROUP), group, nobody, false, 1)
            .wait()
            .unwrap();
        let found = kept(GROUP).unwrap();
        let (theirs, ours) = match by_lid {
            true => (ANN_LID, "900000000000009@lid"),
            false => (ANN, "15559990000@s.whatsapp.net"),
        };
        assert_eq!(found.sender, Some(jid(theirs)));
        assert_eq!(found.own, Some(jid(ours)));
        let group = store.peer(jid(GROUP)).wait().unwrap().unwrap();
        assert_eq!(group.timer, 60);
    }
    assert_eq!(kept(ANN), None);
}

#[test]
fn an_id_that_somebody_else_took_too_does_not_stand_for_ours() {
    let store = TestStore::new();
    linked(&store);
    store.enqueue(ours(), NOW).wait().unwrap();
    let forged = direct(ANN, "OURS");
    store.insert(vec![forged]).wait().unwrap();
    let found = store.kept(jid(ANN), "OURS".to_owned()).wait().unwrap();
    assert_eq!(found.unwrap().sender, None);
    let search = |id: &str| store.search(id.to_owned(), None).wait().unwrap();
    assert_eq!(search("OURS"), Search::Several);
    assert_eq!(search("NONE"), Search::Nothing);
    store.insert(vec![direct(ANN, "M2")]).wait().unwrap();
    assert!(matches!(search("M2"), Search::One(_)));
    // What never left is no message to anybody.
    store
        .mark_rejected("OURS".to_owned(), "x".to_owned())
        .wait()
        .unwrap();
    assert!(matches!(search("OURS"), Search::One(kept) if kept.sender.is_some()));
}

/// What changes the words of this message.
fn edit_of(id: &str, words: &str) -> Vec<u8> {
    let protocol = wa::message::ProtocolMessage {
        key: wa::MessageKey {
            id: Some(id.to_owned()),
            ..wa::MessageKey::default()
        }
        .into(),
        edited_message: wa::Message {
            conversation: Some(words.to_owned()),
            ..wa::Message::default()
        }
        .into(),
        ..wa::message::ProtocolMessage::default()
    };
    message_to_vec(&wa::Message {
        protocol_message: protocol.into(),
        ..wa::Message::default()
    })
}

#[test]
fn an_edit_stands_for_the_message_that_it_changed_and_the_last_one_for_its_words() {
    let store = TestStore::new();
    linked(&store);
    let edit = |by: &str, id: &str, of: &str| {
        let mut edit = message(&[GROUP], &[by], id);
        edit.draft.event_type = "message.edited".to_owned();
        edit.draft.target_message_id = Some(of.to_owned());
        edit.raw = edit_of(of, id);
        edit
    };
    // It stayed closed, so nobody knows what it says.
    let mut closed = edit(ANN, "E3", "M1");
    closed.raw = vec![];
    let batch = vec![
        message(&[GROUP], &[ANN], "M1"),
        edit(ANN, "E1", "M1"),
        edit(ANN, "E2", "M1"),
        closed,
        edit(BOB, "E4", "M1"),
        edit(ANN, "E5", "GONE"),
        message(&[GROUP], &[ANN], "M2"),
    ];
    store.insert(batch).wait().unwrap();
    let kept = |id: &str| {
        store
            .kept(jid(GROUP), id.to_owned())
            .wait()
            .unwrap()
            .unwrap()
    };
    assert_eq!(kept("M1").edit, Some(edit_of("M1", "E2")));
    assert_eq!(kept("M2").edit, None);
    for id in ["E1", "E2", "E3"] {
        assert_eq!(kept(id), kept("M1"), "{id}");
        let found = store.search(id.to_owned(), None).wait().unwrap();
        assert_eq!(found, Search::One(kept("M1")), "{id}");
    }
    let gone = kept("E5");
    assert_eq!((gone.id.as_str(), gone.sender), ("GONE", Some(jid(ANN))));
    assert_eq!((gone.raw, gone.edit), (None, Some(edit_of("GONE", "E5"))));

    // Our own, by the id in the receipt of the edit.
    store.enqueue(ours(), NOW).wait().unwrap();
    let edit = |id: &str, of: &str| OutboundRequest {
        parts: vec![NewPart {
            message_id: id.to_owned(),
            payload: edit_of(of, id),
            kind: "edit".to_owned(),
            file: None,
        }],
        ..ours()
    };
    for (id, of) in [("EDIT", "OURS"), ("AGAIN", "OURS"), ("OTHER", "ELSE")] {
        store.enqueue(edit(id, of), NOW).wait().unwrap();
    }
    let kept = |id: &str| store.kept(jid(ANN), id.to_owned()).wait().unwrap().unwrap();
    assert_eq!(kept("OURS").edit, Some(edit_of("OURS", "AGAIN")));
    assert_eq!(kept("EDIT"), kept("OURS"));
    // One that WhatsApp refused changed nothing.
    store
        .mark_rejected("AGAIN".to_owned(), "x".to_owned())
        .wait()
        .unwrap();
    assert_eq!(kept("OURS").edit, Some(edit_of("OURS", "EDIT")));
}

#[test]
fn what_was_refused_cannot_be_referred_to() {
    let store = TestStore::new();
    store.insert(vec![direct(ANN, "M1")]).wait().unwrap();
    let row = store.next_to_emit(1, WEEK, NOW).wait().unwrap().remove(0);
    store
        .drop_denied(row.id, "denied".to_owned())
        .wait()
        .unwrap();
    assert_eq!(store.kept(jid(ANN), "M1".to_owned()).wait().unwrap(), None);
    assert_eq!(
        store.unread(jid(ANN), "M1".to_owned()).wait().unwrap(),
        None
    );
}

#[test]
fn what_has_no_verdict_cannot_be_referred_to() {
    let store = TestStore::new();
    let found = || store.kept(jid(ANN), "M1".to_owned()).wait().unwrap();
    store.put(direct(ANN, "M1"));
    let row = store.waiting().remove(0);
    store.set_aside(row.id, "unsaid".to_owned()).wait().unwrap();
    assert_eq!(found(), None);
    // What was given before, the agent knows.
    store.redeliver(row.event_id).wait().unwrap();
    let session = store.begin(Mode::Websocket, None).session;
    store.emit_all(session);
    assert!(found().is_some());
}

#[test]
fn a_timer_is_learnt_and_forgotten() {
    let store = TestStore::new();
    for seconds in [0, 86_400, 86_400, 0] {
        store.learn_timer(vec![jid(ANN)], seconds).wait().unwrap();
        let ann = store.peer(jid(ANN)).wait().unwrap().unwrap();
        assert_eq!(ann.timer, seconds);
    }
}

#[test]
fn the_oldest_words_go_when_there_are_too_many() {
    let store = TestStore::new();
    let long = |id: &str| NewInbound {
        raw: vec![1; 1000],
        ..direct(ANN, id)
    };
    let messages: Vec<NewInbound> = ["A", "B", "C", "D"].map(long).into();
    store.insert(messages).wait().unwrap();
    let forget = |most, step| {
        store
            .submit(move |tx| crate::store::messages::forget(tx, most, step))
            .wait()
            .unwrap()
    };
    assert_eq!(forget(4000, 10), 0);
    assert_eq!(forget(2500, 1), 1);
    assert_eq!(forget(2500, 10), 1);
    assert_eq!(forget(2500, 10), 0);
    for (id, there) in [("A", false), ("B", false), ("C", true), ("D", true)] {
        let kept = store.kept(jid(ANN), id.to_owned()).wait().unwrap().unwrap();
        assert_eq!(kept.raw.is_some(), there, "{id}");
    }
    // The event itself waits on.
    assert_eq!(store.next_to_emit(10, WEEK, NOW).wait().unwrap().len(), 4);
}

//! What was decrypted and is not in the inbox.

use super::*;
use crate::store::pending::{ASKED_AGAIN_AFTER, ASKED_AT_MOST, MISSED_FOR};

/// As the client library names it: with the device that sent it.
fn name(chat: &str, sender: &str, id: &str) -> MessageName {
    let (user, server) = sender.split_once('@').unwrap();
    MessageName {
        chat: chat.to_owned(),
        sender: format!("{user}:7@{server}"),
        stanza_id: id.to_owned(),
    }
}

impl TestStore {
    fn keep(&self, chat: &str, sender: &str, id: &str) {
        let row = (
            name(chat, sender, id),
            [jid(chat), jid(sender)],
            id.as_bytes().into(),
        );
        self.keep_pending(vec![row], NOW).wait().unwrap();
    }

    fn again(&self, chat: &str, sender: &str, id: &str, now: i64) -> Again {
        let addresses = [jid(chat), jid(sender)];
        self.pending(name(chat, sender, id), addresses, now)
            .wait()
            .unwrap()
    }
}

#[test]
fn what_is_kept_is_given_back_until_it_is_taken() {
    let store = TestStore::new();
    store.keep(ANN, ANN, "A");
    let store = store.reopen();
    assert_eq!(store.again(ANN, ANN, "A", NOW), Again::Kept(b"A".to_vec()));
    // Another sender's message of the same id is another message.
    assert_eq!(store.again(GROUP, BOB, "A", NOW), Again::Ask(1));
    store.put(direct(ANN, "A"));
    store
        .forget_pending(vec![name(ANN, ANN, "A")])
        .wait()
        .unwrap();
    assert_eq!(store.again(ANN, ANN, "A", NOW), Again::Known);
}

#[test]
fn what_the_inbox_has_is_known_under_each_address() {
    let store = TestStore::new();
    store.put(message(&[ANN, ANN_LID], &[ANN, ANN_LID], "A"));
    store.put(message(&[GROUP], &[BOB_LID, BOB], "B"));
    for form in [ANN, ANN_LID] {
        assert_eq!(store.again(form, form, "A", NOW), Again::Known);
    }
    // What came by a broadcast list is in the chat with its sender.
    assert_eq!(
        store.again("1700000000@broadcast", ANN, "A", NOW),
        Again::Known
    );
    for form in [BOB, BOB_LID] {
        assert_eq!(store.again(GROUP, form, "B", NOW), Again::Known);
        assert_eq!(store.again(form, form, "B", NOW), Again::Ask(1));
    }
    // What is in the inbox needs no row of its own.
    store.keep(ANN, ANN, "A");
    assert_eq!(store.again(ANN, ANN, "A", NOW), Again::Known);
}

#[test]
fn a_sender_is_asked_some_times_and_waited_for_longer() {
    let store = TestStore::new();
    let mut now = NOW;
    for count in 1..=ASKED_AT_MOST {
        assert_eq!(store.again(ANN, ANN, "A", now), Again::Ask(count));
        now += ASKED_AGAIN_AFTER - 1;
        assert_eq!(store.again(ANN, ANN, "A", now), Again::Asked);
        now += 1;
    }
    assert_eq!(store.again(ANN, ANN, "A", now), Again::Asked);
    assert_eq!(store.again(ANN, ANN, "A", NOW + MISSED_FOR), Again::Asked);
    assert_eq!(
        store.again(ANN, ANN, "A", NOW + MISSED_FOR + 1),
        Again::GivenUp
    );
    assert_eq!(store.counts().wait().unwrap().dropped, 1);
}

#[test]
fn what_was_missed_and_came_is_known() {
    let store = TestStore::new();
    assert_eq!(store.again(ANN, ANN, "A", NOW), Again::Ask(1));
    store.put(direct(ANN, "A"));
    assert_eq!(store.again(ANN, ANN, "A", NOW), Again::Known);
}

#[test]
fn what_is_old_is_let_go() {
    let store = TestStore::new();
    store.keep(ANN, ANN, "A");
    assert_eq!(store.again(ANN, ANN, "B", NOW), Again::Ask(1));
    assert_eq!(store.expire_pending(NOW).wait().unwrap(), 0);
    assert_eq!(store.expire_pending(NOW + 1).wait().unwrap(), 1);
    // What is missed is waited for by its own rule, and kept in mind for longer.
    assert_eq!(store.again(ANN, ANN, "B", NOW), Again::Asked);
    assert_eq!(
        store
            .expire_pending(NOW + 4 * MISSED_FOR + 1)
            .wait()
            .unwrap(),
        1
    );
}

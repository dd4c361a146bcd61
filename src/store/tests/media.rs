//! What is known of media.

use super::*;
use crate::inbound::{AttachmentMeta, MediaSource};

/// A picture whose content is this, encrypted with this key.
fn picture(id: &str, content: u8, key: u8) -> NewInbound {
    picture_of(ANN, id, content, key)
}

fn picture_of(chat: &str, id: &str, content: u8, key: u8) -> NewInbound {
    let mut message = direct(chat, id);
    message.draft.attachments.push(AttachmentMeta {
        kind: "image".to_owned(),
        size_bytes: Some(100),
        source: Some(MediaSource {
            sha256: [content; 32],
            direct_path: format!("/v/{id}"),
            key: Some(vec![key; 32]),
            enc_sha256: Some(vec![key; 32]),
            view_once: false,
        }),
        ..AttachmentMeta::default()
    });
    message
}

impl TestStore {
    pub(super) fn picture(&self, id: &str, content: u8, key: u8) -> RowId {
        match self.put(picture(id, content, key)) {
            Inserted::Inserted(id) => id,
            Inserted::Duplicate => panic!("{id} is there"),
        }
    }

    pub(super) fn want(&self, id: RowId) {
        self.want_media(id, vec![0], NOW).wait().unwrap();
    }

    pub(super) fn to_fetch(&self) -> Vec<ToFetch> {
        self.media_to_fetch(10, NOW).wait().unwrap()
    }

    pub(super) fn arrives(&self, file: &ToFetch, place: &str, at: i64) -> String {
        let entered = self.media_here(file.id, place.to_owned(), 100, at);
        entered.wait().unwrap()
    }

    pub(super) fn fetching(&self, id: RowId) -> Fetching {
        let all = self.waiting();
        let message = all.iter().find(|message| message.id == id).unwrap();
        message.media[0].fetching
    }

    /// What a waiting message's storage key says.
    pub(super) fn token(&self, id: RowId) -> AttachmentToken {
        let all = self.waiting();
        let message = all.iter().find(|message| message.id == id).unwrap();
        message.media[0].token.unwrap()
    }

    pub(super) fn held_by(&self, token: AttachmentToken) -> Option<HeldMedia> {
        self.held(token).wait().unwrap()
    }

    /// How far a file got that is not here.
    pub(super) fn lacks(&self, token: AttachmentToken) -> Fetching {
        match self.held_by(token) {
            Some(HeldMedia::NotHere(lacking)) => lacking.fetching,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_claim_is_no_file_and_a_forward_is_one() {
    let store = TestStore::new();
    let first = store.picture("first", 7, 1);
    assert!(store.to_fetch().is_empty(), "nobody has asked for it");
    store.want(first);
    let file = store.to_fetch().remove(0);
    assert_eq!(
        (file.stanza_id.as_str(), file.source.direct_path.as_str()),
        ("first", "/v/first")
    );
    assert_eq!(store.arrives(&file, "place", NOW), "place");
    assert_eq!(store.fetching(first), Fetching::Here);
    // The same encrypted file, forwarded; and the same hash with another key, which anybody could write.
    let (forward, claim) = (store.picture("forward", 7, 1), store.picture("claim", 7, 2));
    store.want(forward);
    store.want(claim);
    assert_eq!(store.fetching(forward), Fetching::Here);
    assert_eq!(store.fetching(claim), Fetching::Wanted);
    let here = |id| matches!(store.held_by(store.token(id)), Some(HeldMedia::Here(_)));
    assert!(here(first) && here(forward));
    assert_eq!(store.lacks(store.token(claim)), Fetching::Wanted);
    // Asked for by its key, it is its own path that is tried, and no file that is here.
    let asked = store.want_attachment(store.token(claim), NOW);
    assert_eq!(asked.wait().unwrap(), Some(store.to_fetch()[0].id));
    let asked = store.want_attachment(store.token(first), NOW);
    assert!(asked.wait().unwrap().is_some());
    assert_eq!(store.to_fetch().len(), 1, "the first is here");
    // Its own path did lead there, and the file has a place already.
    let file = store.to_fetch().remove(0);
    assert_eq!(store.arrives(&file, "place.jpg", NOW), "place");
    assert_eq!(store.fetching(claim), Fetching::Here);
    assert!(here(claim));
    assert_eq!(store.held_by([8; 16]), None);
    // What is not at its place any more is fetched again.
    let lost = store.media_lost(vec!["place".to_owned()]);
    lost.wait().unwrap();
    assert!(!here(first));
    // All three events still need it; whichever comes first serves those that are the same.
    assert_eq!(store.to_fetch().len(), 3);
    let mut wanted = store.to_fetch().into_iter();
    let file = wanted.find(|file| file.stanza_id == "forward").unwrap();
    assert_eq!(store.arrives(&file, "place.jpg", NOW), "place.jpg");
    // Where WhatsApp surely has it is known of both.
    let path = |id: &str| {
        let kept = store.kept(jid(ANN), id.to_owned()).wait().unwrap();
        kept.unwrap().file.unwrap().direct_path
    };
    assert_eq!(path("first"), "/v/forward");
    assert_eq!(path("forward"), "/v/forward");
    assert_eq!(path("claim"), "/v/claim");
}

#[test]
fn what_is_not_encrypted_is_the_same_at_the_same_path_alone() {
    let store = TestStore::new();
    let open = |id: &str, path: &str| {
        let mut message = picture(id, 7, 1);
        let source = message.draft.attachments[0].source.as_mut().unwrap();
        (source.key, source.enc_sha256) = (None, None);
        source.direct_path = path.to_owned();
        match store.put(message) {
            Inserted::Inserted(id) => id,
            Inserted::Duplicate => panic!("{id} is there"),
        }
    };
    let first = open("first", "/a");
    store.want(first);
    store.arrives(&store.to_fetch()[0], "place", NOW);
    let (same, claim) = (open("same", "/a"), open("claim", "/b"));
    store.want(same);
    store.want(claim);
    assert_eq!(store.fetching(same), Fetching::Here);
    assert_eq!(store.fetching(claim), Fetching::Wanted);
}

#[test]
fn a_failure_waits_for_its_time_or_for_somebody_who_asks() {
    let store = TestStore::new();
    let id = store.picture("m", 7, 1);
    store.want(id);
    let file = store.to_fetch().remove(0);
    let later = store.media_not_here(file.id, "phone_offline".to_owned(), Some(NOW + 60), 1);
    later.wait().unwrap();
    assert!(store.to_fetch().is_empty());
    assert_eq!(store.next_fetch(NOW).wait().unwrap(), Some(NOW + 60));
    let again = store.media_to_fetch(10, NOW + 60).wait().unwrap();
    assert_eq!(again[0].attempts, 1);
    let last = store.media_not_here(file.id, "expired".to_owned(), None, 1);
    last.wait().unwrap();
    assert_eq!(store.fetching(id), Fetching::Failed);
    assert_eq!(store.next_fetch(NOW).wait().unwrap(), None);
    let asked = store.want_attachment(store.token(id), NOW).wait().unwrap();
    assert_eq!(asked, Some(file.id));
    assert_eq!(store.to_fetch().len(), 1);
    // Asked for again by its message's turn, it stays what it is.
    store.want(id);
    assert_eq!(store.to_fetch().len(), 1);
}

#[test]
fn who_sent_it_to_a_group_is_named_as_the_group_has_them() {
    const GROUP: &str = "120363000000000001@g.us";
    let store = TestStore::new();
    let (lid, number) = ("111@lid", ANN);
    let mut posted = message(&[GROUP], &[lid, number], "posted");
    posted.draft = picture("posted", 7, 1).draft;
    store.put(posted);
    store.put(message(&[number, lid], &[number, lid], "by number"));
    store.picture("sent", 8, 2);
    for message in store.waiting() {
        store.want(message.id);
    }
    let authors: Vec<_> = store
        .to_fetch()
        .into_iter()
        .map(|file| file.author)
        .collect();
    assert_eq!(authors, [Some(jid(lid)), None]);
}

#[test]
fn what_comes_for_nobody_has_the_place_that_the_same_content_has_with_another() {
    let store = TestStore::new();
    let (refused, other) = (store.picture("refused", 7, 1), store.picture("other", 7, 2));
    store.want(refused);
    store.want(other);
    let files = store.to_fetch();
    store
        .drop_denied(refused, Ruling::default())
        .wait()
        .unwrap();
    assert_eq!(
        store.arrives(&files[0], "place", NOW),
        "",
        "nobody wants it"
    );
    assert_eq!(store.arrives(&files[1], "place", NOW), "place");
    assert_eq!(
        store.arrives(&files[0], "place", NOW),
        "place",
        "the other has it"
    );
    assert_eq!(store.arrives(&files[0], "place.jpg", NOW), "");
}

#[test]
fn only_what_is_asked_for_is_fetched() {
    let store = TestStore::new();
    let mut two = picture("m", 7, 1);
    let mut once = two.draft.attachments[0].clone();
    once.source.as_mut().unwrap().view_once = true;
    two.draft.attachments.push(once);
    let Inserted::Inserted(id) = store.put(two) else {
        panic!("it is there")
    };
    store.want(id);
    let file = store.to_fetch().remove(0);
    assert!(store.to_fetch().len() == 1 && !file.source.view_once);
    store.arrives(&file, "place", NOW);
    let message = store.waiting().remove(0);
    let states = message.media.iter().map(|file| file.fetching);
    assert_eq!(
        states.collect::<Vec<_>>(),
        [Fetching::Here, Fetching::Known]
    );
}

#[test]
fn every_chat_has_its_turn() {
    let store = TestStore::new();
    let ask = |chat: &str, nth: usize, content: u8| {
        let id = format!("{chat}{nth}");
        let message = picture_of(&format!("{chat}@lid"), &id, content, content);
        let Inserted::Inserted(row) = store.put(message) else {
            panic!("{id} is there")
        };
        store.want(row);
        row
    };
    let order = |now| {
        let all = store.media_to_fetch(9, now).wait().unwrap();
        let ids = all.iter().map(|file| file.stanza_id.clone());
        ids.collect::<Vec<_>>().join(" ")
    };
    for nth in 0..4 {
        ask("1", nth, nth as u8);
    }
    ask("2", 0, 10);
    ask("2", 1, 11);
    assert_eq!(order(NOW), "10 20 11 21 12 13");
    // Who comes later stands behind nobody's rest, and before nobody whose turn it is.
    for done in 0..2 {
        let file = store.to_fetch().remove(done);
        store.arrives(&file, &format!("place{done}"), NOW);
    }
    assert_eq!(order(NOW), "20 21 12 13");
    let three = ask("3", 0, 20);
    assert_eq!(order(NOW), "20 30 21 12 13");
    // What waits for better times is in nobody's way, its own chat's neither.
    let first = store.to_fetch().remove(0);
    let later = store.media_not_here(first.id, "phone_offline".to_owned(), Some(NOW + 60), 1);
    later.wait().unwrap();
    assert_eq!(order(NOW), "30 21 12 13");
    assert_eq!(order(NOW + 60), "20 30 21 12 13");
    // Somebody stands there and waits.
    let message = store.waiting().into_iter().find(|one| one.id == three);
    let token = message.unwrap().media[0].token.unwrap();
    ask("4", 0, 30);
    store.want_attachment(token, NOW).wait().unwrap();
    assert!(order(NOW).starts_with("30 "));
}

#[test]
fn what_keeps_one_from_being_begun_keeps_all_but_who_asks_by_name() {
    let store = TestStore::new();
    let ids: Vec<RowId> = (1..=4u8)
        .map(|nth| store.picture(&format!("m{nth}"), nth, nth))
        .collect();
    ids.iter().for_each(|id| store.want(*id));
    let token = store.token(ids[3]);
    store.want_attachment(token, NOW).wait().unwrap();
    let running = store.to_fetch().remove(1).id;
    let reason = "storage_full".to_owned();
    let noted = store.media_waits(reason, NOW, NOW + 60, [running].into());
    noted.wait().unwrap();
    let due = |now| -> Vec<_> {
        let due = store.media_to_fetch(10, now).wait().unwrap();
        let due = due.into_iter().map(|file| (file.stanza_id, file.reason));
        due.collect()
    };
    let nothing = |id: &str| (id.to_owned(), None);
    let full = |id: &str| (id.to_owned(), Some("storage_full".to_owned()));
    assert_eq!(due(NOW), [nothing("m4"), nothing("m1")]);
    let later = [nothing("m4"), nothing("m1"), full("m2"), full("m3")];
    assert_eq!(due(NOW + 60), later);
}

#[test]
fn an_attempt_counts_from_its_beginning_unless_it_cost_nothing() {
    let store = TestStore::new();
    store.want(store.picture("m", 7, 1));
    let file = store.to_fetch().remove(0);
    let fails = |more, attempts| {
        let noted = store.media_not_here(file.id, "storage_full".to_owned(), Some(NOW), more);
        noted.wait().unwrap();
        assert_eq!(store.to_fetch()[0].attempts, attempts);
    };
    let begins = || store.media_begins(file.id).wait().unwrap();
    store.media_rests(file.id, NOW + 1).wait().unwrap();
    assert!(store.to_fetch().is_empty());
    fails(0, 0);
    begins();
    fails(-1, 0);
    begins();
    fails(0, 1);
    begins();
    let moved = store.media_moved(file.id, "/v/new".to_owned(), NOW);
    moved.wait().unwrap();
    let moved = store.to_fetch().remove(0);
    assert_eq!((moved.attempts, &*moved.source.direct_path), (2, "/v/new"));
    // Somebody asks for it by name while it comes: what it was before is no matter any more.
    store
        .want_attachment(moved.token.unwrap(), NOW)
        .wait()
        .unwrap();
    fails(-1, 0);
}

/// Whoever quotes a message may say any id; the file that goes with it is of one that the agent was given.
#[test]
fn a_file_is_quoted_once_its_message_was_given() {
    let store = TestStore::new();
    let begun = store.begin(Mode::Websocket, None);
    let shown = store.picture("shown", 7, 1);
    let Inserted::Inserted(beside) = store.put(picture_of(BOB, "beside", 7, 1)) else {
        panic!("it is there");
    };
    let key = |chat| store.peer(jid(chat)).wait().unwrap().unwrap().key;
    let quoted = |chat, author, id: &str| {
        let found = store.given_file(key(chat), id.to_owned(), jid(author));
        let found = found.wait().unwrap();
        found.map(|(file, author)| (file.token.unwrap(), author.public_id))
    };
    assert_eq!(quoted(ANN, ANN, "shown"), None);
    let tokens = [store.token(shown), store.token(beside)];
    let given = |id, context| {
        let number = store.assign_emission(id, begun.session, "allowed".to_owned(), context, NOW);
        number.wait().unwrap()
    };
    given(shown, Vec::new());
    assert_eq!(quoted(ANN, ANN, "shown"), Some((tokens[0], jid(ANN))));
    for (chat, author, id) in [
        (BOB, ANN, "shown"),
        (ANN, BOB, "shown"),
        (ANN, ANN, "other"),
    ] {
        assert_eq!(quoted(chat, author, id), None);
    }
    // As context of another one, until it is erased.
    let kept = store.keep_as_context(beside, "not addressed".to_owned(), 1);
    kept.wait().unwrap();
    assert_eq!(quoted(BOB, BOB, "beside"), None);
    let Inserted::Inserted(asked) = store.put(direct(BOB, "asked")) else {
        panic!("it is there");
    };
    given(asked, vec![beside]);
    assert_eq!(quoted(BOB, BOB, "beside"), Some((tokens[1], jid(BOB))));
    let dropped = store.drop_denied(beside, "dm_policy".to_owned());
    dropped.wait().unwrap();
    assert_eq!(quoted(BOB, BOB, "beside"), None);
}

/// Else each quotation of a batch would cost a commit.
#[test]
fn what_is_quoted_is_found_while_the_writer_is_busy() {
    let store = TestStore::new();
    store.picture("shown", 7, 1);
    let begun = store.begin(Mode::Websocket, None);
    store.emit_all(begun.session);
    let chat = store.peer(jid(ANN)).wait().unwrap().unwrap().key;
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let busy = store.submit(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let mut found = store.given_file(chat, "shown".to_owned(), jid(ANN)).0;
    assert!(matches!(found.try_recv(), Ok(Ok(Some(_)))));
    go.send(()).unwrap();
    busy.wait().unwrap();
}

//! What is let go of media, and what is not.

use super::*;

const ALL: Bounds = Bounds {
    before: NOW - 1000,
    total: 1 << 40,
};
const NONE: Bounds = Bounds {
    before: i64::MAX,
    total: 0,
};

impl TestStore {
    fn let_go(&self, bounds: Bounds) -> usize {
        let (gone, more) = self.let_media_go(bounds).wait().unwrap();
        assert!(!more);
        gone.len()
    }
}

#[test]
fn what_is_not_proven_handled_is_not_let_go() {
    let store = TestStore::new();
    let (old, new) = (store.picture("old", 1, 1), store.picture("new", 2, 2));
    store.want(old);
    store.want(new);
    let token = store.token(old);
    for (nth, file) in store.to_fetch().iter().enumerate() {
        store.arrives(file, &format!("place{nth}"), NOW - 2000 + 1500 * nth as i64);
    }
    assert_eq!(store.let_go(NONE), 0, "both wait");
    let begun = store.begin(Mode::Websocket, None);
    for id in [old, new] {
        drop(store.assign_emission(id, begun.session, Ruling::default(), Vec::new(), NOW));
    }
    assert_eq!(store.let_go(NONE), 0, "neither is proven");
    store.prove_up_to(&store.cursor(2)).wait().unwrap();
    assert_eq!(store.let_go(ALL), 1, "the old one");
    assert_eq!(store.let_go(ALL), 0);
    assert_eq!(store.lacks(token), Fetching::Here);
    let room = Bounds { total: 100, ..ALL };
    assert_eq!(store.let_go(room), 0);
    let room = Bounds { total: 99, ..ALL };
    assert_eq!(store.let_go(room), 1);
    assert!(store.places().wait().unwrap().is_empty());
}

#[test]
fn a_refused_message_leaves_no_trace_of_its_media() {
    let store = TestStore::new();
    let id = store.picture("m", 7, 1);
    store.want(id);
    let token = store.token(id);
    store.drop_denied(id, Ruling::default()).wait().unwrap();
    assert!(store.to_fetch().is_empty());
    assert_eq!(store.held_by(token), None);
    assert_eq!(store.want_attachment(token, NOW).wait().unwrap(), None);
}

#[test]
fn a_file_goes_with_the_last_message_that_may_have_it() {
    let store = TestStore::new();
    let (first, second) = (store.picture("first", 7, 1), store.picture("second", 7, 1));
    store.want(first);
    let file = store.to_fetch().remove(0);
    store.arrives(&file, "place", NOW);
    store.want(second);
    let (of_first, of_second) = (store.token(first), store.token(second));
    let refuse = |id| store.drop_denied(id, "denied".to_owned()).wait().unwrap();
    let refused = || store.let_refused_media_go().wait().unwrap();
    refuse(first);
    assert!(refused().is_empty(), "the other message has it");
    assert_eq!(store.held_by(of_first), None);
    assert!(store.held_by(of_second).is_some());
    let mut signal = store.media_signal();
    signal.mark_unchanged();
    refuse(second);
    assert!(signal.has_changed().unwrap());
    assert_eq!(store.held_by(of_second), None);
    let third = store.picture("third", 7, 1);
    store.want(third);
    let file = store.to_fetch().remove(0);
    assert_eq!(store.arrives(&file, "place.jpg", NOW), "place");
    assert!(refused().is_empty(), "it was fetched anew");
    refuse(third);
    let gone = refused();
    assert_eq!(gone, ["place"]);
    assert!(store.places().wait().unwrap().is_empty());
}

#[test]
fn who_merely_claims_a_file_and_is_refused_takes_it_from_nobody() {
    let store = TestStore::new();
    let first = store.picture("first", 7, 1);
    store.want(first);
    store.arrives(&store.to_fetch()[0], "place", NOW);
    // Longer ago than messages are remembered.
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    conn.execute_batch("DELETE FROM attachment; DELETE FROM inbox")
        .unwrap();
    let claim = store.picture("claim", 7, 2);
    store
        .drop_denied(claim, "denied".to_owned())
        .wait()
        .unwrap();
    let refused = store.let_refused_media_go().wait().unwrap();
    assert!(refused.is_empty());
    assert_eq!(store.places().wait().unwrap(), ["place"]);
}

#[test]
fn a_file_is_as_old_as_the_last_message_that_brought_it() {
    let store = TestStore::new();
    let old = NOW - 2000;
    let first = store.picture("first", 7, 1);
    store.want_media(first, vec![0], old).wait().unwrap();
    store.arrives(&store.to_fetch()[0], "place", old);
    // Passed on; and sent anew.
    let forward = store.picture("forward", 7, 1);
    let later = NOW - 900;
    store.want_media(forward, vec![0], later).wait().unwrap();
    let anew = store.picture("anew", 7, 2);
    let begun = store.begin(Mode::Websocket, None);
    for id in [first, forward, anew] {
        drop(store.assign_emission(id, begun.session, Ruling::default(), Vec::new(), NOW));
    }
    store.prove_up_to(&store.cursor(3)).wait().unwrap();
    let before = |before| Bounds { before, ..ALL };
    assert_eq!(store.let_go(before(later)), 0);
    store.want(anew);
    store.arrives(&store.to_fetch()[0], "place", NOW);
    assert_eq!(store.let_go(before(NOW)), 0);
    assert_eq!(store.let_go(before(NOW + 1)), 1);
}

#[test]
fn what_an_event_needs_is_fetched_again_when_a_repair_has_lost_its_file() {
    let store = TestStore::new();
    let (proven, open) = (store.picture("proven", 1, 1), store.picture("open", 2, 2));
    store.want(proven);
    store.want(open);
    for (nth, file) in store.to_fetch().iter().enumerate() {
        store.arrives(file, &format!("place{nth}"), NOW);
    }
    let begun = store.begin(Mode::Websocket, None);
    for id in [proven, open] {
        drop(store.assign_emission(id, begun.session, Ruling::default(), Vec::new(), NOW));
    }
    store.prove_up_to(&store.cursor(1)).wait().unwrap();
    let path = store.path();
    let TestStore { store, dir } = store;
    drop(store);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch(
        "DELETE FROM media; PRAGMA writable_schema = ON;
         UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'inbox_event';",
    )
    .unwrap();
    drop(conn);
    assert!(repair(&path, 77).unwrap().is_some());
    let store = TestStore {
        store: Store::open(&path).unwrap(),
        dir,
    };
    let wanted = store.to_fetch().into_iter().map(|file| file.stanza_id);
    assert_eq!(wanted.collect::<Vec<_>>(), ["open"]);
}

#[test]
fn what_lies_in_an_object_store_is_known_before_and_after() {
    let store = TestStore::new();
    let remains = || store.remains().wait().unwrap();
    let (place, other) = ("s3://bucket/x/a.jpg", "s3://bucket/x/b");
    let id = store.picture("m", 7, 1);
    store.want(id);
    let object = Remnant::object;
    let upload = |nth: u8| Remnant::upload(place, format!("upload {nth}"));
    for what in [object(place), upload(1), upload(2), object(other)] {
        store.media_goes(what).wait().unwrap();
    }
    assert_eq!(
        remains(),
        [object(place), upload(1), upload(2), object(other)]
    );
    let file = store.to_fetch().remove(0);
    assert_eq!(store.arrives(&file, place, NOW - 2000), place);
    assert_eq!(
        store.media_place([7; 32]).wait().unwrap().as_deref(),
        Some(place)
    );
    // The object belongs to the file now; no upload does.
    assert_eq!(remains(), [upload(1), upload(2), object(other)]);
    let still = |what: Remnant| store.remains_still(what).wait().unwrap();
    assert!(still(upload(1)) && !still(object(place)));
    for what in remains() {
        store.remains_removed(what).wait().unwrap();
    }
    assert_eq!(remains(), []);
    // Whatever takes the file out leaves its object to be removed.
    let begun = store.begin(Mode::Websocket, None);
    drop(store.assign_emission(id, begun.session, Ruling::default(), Vec::new(), NOW));
    store.prove_up_to(&store.cursor(1)).wait().unwrap();
    assert_eq!(store.let_go(ALL), 1);
    assert_eq!(remains(), [object(place)]);
}

use super::*;

fn call(key: &str, ids: &[(&str, Option<&str>)]) -> OutboundRequest {
    let parts = ids.iter().map(|(id, file)| NewPart {
        message_id: (*id).to_owned(),
        payload: id.as_bytes().to_vec(),
        kind: "image".to_owned(),
        file: file.map(|name| name.to_owned().try_into().unwrap()),
    });
    OutboundRequest {
        idempotency_key: Some(key.to_owned()),
        content_hash: "same".to_owned(),
        reply_to: None,
        chat: vec![ANN.parse().unwrap()],
        parts: parts.collect(),
        expires_at: NOW + 60,
    }
}

fn uploaded(sha256: u8, path: &str) -> Uploaded {
    Uploaded {
        sha256: vec![sha256; 32],
        media: "image".to_owned(),
        url: format!("https://h{path}"),
        direct_path: path.to_owned(),
        media_key: vec![2; 32],
        keyed: NOW,
        enc_sha256: path.as_bytes().to_vec(),
        length: 9,
        sidecar: None,
    }
}

fn names(names: Vec<StagedName>) -> Vec<String> {
    names.into_iter().map(String::from).collect()
}

fn awaited(store: &Store) -> Vec<String> {
    names(store.files_awaited().wait().unwrap())
}

fn left(store: &Store) -> Vec<String> {
    names(store.files_left().wait().unwrap())
}

#[test]
fn a_file_is_its_messages_until_it_is_uploaded() {
    let store = TestStore::new();
    let (_, head) = store
        .enqueue_handed(
            call("k", &[("A", Some("fa")), ("B", Some("fb"))]),
            PACE,
            None,
            NOW,
        )
        .wait()
        .unwrap();
    assert_eq!(head, None, "it has to be uploaded before it is handed over");
    assert_eq!(awaited(&store), ["fa", "fb"]);
    let head = store
        .next_to_send(room(9), PACE)
        .wait()
        .unwrap()
        .ready
        .remove(0);
    assert_eq!(head.file.as_ref().map(StagedName::as_str), Some("fa"));
    let payload = b"with its place".to_vec();
    let place = uploaded(1, "/p");
    let id = head.message_id;
    store
        .mark_uploaded(id.clone(), payload.clone(), place.clone(), NOW)
        .wait()
        .unwrap();
    assert_eq!(awaited(&store), ["fb"]);
    let head = store
        .next_to_send(room(9), PACE)
        .wait()
        .unwrap()
        .ready
        .remove(0);
    assert_eq!(
        (head.message_id, head.file, head.payload),
        (id, None, payload)
    );
    // It is used again for a week.
    let lately = |sha256: u8, now| {
        let media = "image".to_owned();
        store.uploaded(vec![sha256; 32], media, now).wait().unwrap()
    };
    assert_eq!(lately(1, NOW + WEEK - 1), Some(place));
    assert_eq!(lately(1, NOW + WEEK), None);
    assert_eq!(lately(2, NOW), None);
    // The same again does not make it younger: WhatsApp counts from the upload.
    store
        .mark_uploaded("X".to_owned(), Vec::new(), uploaded(1, "/p"), NOW + 9)
        .wait()
        .unwrap();
    assert_eq!(lately(1, NOW + WEEK), None);
    store
        .mark_uploaded("X".to_owned(), Vec::new(), uploaded(1, "/q"), NOW + 9)
        .wait()
        .unwrap();
    assert_eq!(lately(1, NOW + WEEK).unwrap().direct_path, "/q");
}

#[test]
fn what_will_not_go_leaves_its_file() {
    let store = TestStore::new();
    let entered = store.enqueue(call("k", &[("A", Some("fa")), ("B", Some("fb"))]), NOW);
    let Enqueued::New { request, .. } = entered.wait().unwrap() else {
        panic!("new");
    };
    let waits = |file: &str| {
        let file = file.to_owned().try_into().unwrap();
        store.still_waits("A".to_owned(), file).wait().unwrap()
    };
    assert!(waits("fa"));
    let mut signal = store.given_up_signal();
    // Comes after the answer to the work before it.
    let settled = || {
        store.flush().wait().unwrap();
        store.flush().wait().unwrap();
    };
    settled();
    signal.mark_unchanged();
    store.withdraw(request).wait().unwrap();
    settled();
    assert!(signal.has_changed().unwrap(), "who uploads is told");
    assert!(!waits("fa"));
    assert_eq!(left(&store), ["fa", "fb"]);
    assert!(awaited(&store).is_empty());
    store
        .files_removed(store.files_left().wait().unwrap())
        .wait()
        .unwrap();
    assert!(left(&store).is_empty());
    // Asked for again it goes with the files that come with it, under its old ids.
    let again = store.enqueue(call("k", &[("C", Some("fc")), ("D", Some("fd"))]), NOW);
    assert!(matches!(again.wait().unwrap(), Enqueued::Joined { .. }));
    assert_eq!(awaited(&store), ["fc", "fd"]);
    assert_eq!((waits("fa"), waits("fc")), (false, true));
    let head = store
        .next_to_send(room(9), PACE)
        .wait()
        .unwrap()
        .ready
        .remove(0);
    assert_eq!(
        (head.message_id.as_str(), head.payload.as_slice()),
        ("A", &b"C"[..])
    );
    settled();
    signal.mark_unchanged();
    store.expire(NOW + 60).wait().unwrap();
    settled();
    assert!(signal.has_changed().unwrap(), "who uploads is told");
    assert_eq!(left(&store), ["fc", "fd"]);
}

/// A message and what it waits for, as the sender sees it next; it is given up again then.
fn next(store: &Store) -> Option<(String, Vec<u8>, Option<String>)> {
    let heads = store.next_to_send(room(9), PACE).wait().unwrap();
    let head = heads.ready.into_iter().next()?;
    store.withdraw(head.request).wait().unwrap();
    Some((head.message_id, head.payload, head.file.map(String::from)))
}

fn parts_of(entered: Enqueued) -> (Vec<String>, bool) {
    let (parts, renewed) = match entered {
        Enqueued::Joined { parts, renewed, .. } => (parts, renewed),
        Enqueued::New { parts, .. } => (parts, false),
        other => panic!("{other:?}"),
    };
    let open = parts.into_iter().filter(|part| part.open);
    (open.map(|part| part.message_id).collect(), renewed)
}

#[test]
fn a_call_repeats_what_was_given_up_as_it_is_now() {
    let store = TestStore::new();
    let enter = |ids: &[(&str, Option<&str>)]| {
        let entered = store.enqueue(call("k", ids), NOW).wait().unwrap();
        parts_of(entered)
    };
    let remove = || {
        let left = store.files_left().wait().unwrap();
        store.files_removed(left).wait().unwrap();
    };
    assert_eq!(enter(&[("A", Some("fa")), ("B", Some("fb"))]).0, ["A", "B"]);
    let whole = |id: &str, payload: &str, file: &str| {
        let file = Some(file.to_owned());
        Some((id.to_owned(), payload.as_bytes().to_vec(), file))
    };
    assert_eq!(next(&store), whole("A", "A", "fa"));
    remove();
    // One attachment could not be had this time.
    assert_eq!(enter(&[("C", Some("fc"))]), (vec!["A".to_owned()], true));
    assert_eq!(awaited(&store), ["fc"]);
    assert_eq!(next(&store), whole("A", "C", "fc"));
    remove();
    // And is there the next time.
    let (ids, renewed) = enter(&[("D", Some("fd")), ("E", Some("fe"))]);
    assert_eq!(
        (&ids[..], renewed),
        (&["A".to_owned(), "E".to_owned()][..], true)
    );
    assert_eq!(awaited(&store), ["fd", "fe"]);
    // Once something has left, what has not is mended if it can be, and stays given up if not.
    store.mark_sent("A".to_owned(), NOW).wait().unwrap();
    assert_eq!(next(&store), whole("E", "E", "fe"));
    remove();
    assert_eq!(enter(&[("F", Some("ff"))]), (vec![], false));
    let (ids, renewed) = enter(&[("G", Some("fg")), ("H", Some("fh"))]);
    assert_eq!((&ids[..], renewed), (&["E".to_owned()][..], false));
    assert_eq!(next(&store), whole("E", "H", "fh"));
}

#[test]
fn a_call_that_only_joins_never_enters_anything() {
    let store = TestStore::new();
    let bare = || call("k", &[]);
    let join = |now| store.enqueue(bare(), now).wait().unwrap();
    let repeats = |now| store.repeats(bare(), now).wait().unwrap();
    assert_eq!(
        (join(NOW), repeats(NOW)),
        (Enqueued::Nothing, Repeats::Nothing)
    );
    let entered = store.enqueue(call("k", &[("A", Some("fa"))]), NOW);
    entered.wait().unwrap();
    assert_eq!(repeats(NOW + 59), Repeats::Earlier);
    assert_eq!(parts_of(join(NOW + 59)).0, ["A"]);
    // It has waited too long, though nobody has looked yet.
    assert_eq!(repeats(NOW + 60), Repeats::GivenUp);
    assert_eq!(join(NOW + 60), Enqueued::Nothing);
    let later = OutboundRequest {
        expires_at: NOW + 120,
        ..call("k", &[("B", Some("fb"))])
    };
    store.enqueue(later, NOW + 60).wait().unwrap();
    assert_eq!(store.expire(NOW + 60).wait().unwrap(), 0, "it waits anew");
    assert_eq!(awaited(&store), ["fb"]);
    assert!(next(&store).is_some());
    assert_eq!(
        (repeats(NOW), join(NOW)),
        (Repeats::GivenUp, Enqueued::Nothing)
    );
}

#[test]
fn messages_without_files_go_where_no_more_files_may() {
    let store = TestStore::new();
    let entered = store.enqueue(call("k", &[("A", Some("fa"))]), NOW);
    entered.wait().unwrap();
    let other = OutboundRequest {
        chat: vec![BOB.parse().unwrap()],
        ..call("other", &[("B", None)])
    };
    store.enqueue(other, NOW).wait().unwrap();
    let ready = |files| {
        let room = Room { files, ..room(1) };
        let heads = store.next_to_send(room, PACE).wait().unwrap().ready;
        heads
            .into_iter()
            .map(|head| head.message_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (ready(true), ready(false)),
        (vec!["A".to_owned()], vec!["B".to_owned()])
    );
}

#[test]
fn a_staged_name_leads_nowhere() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "/a",
        "a\\b",
        "a\0",
        ".a",
        &"a".repeat(129),
    ] {
        assert!(StagedName::try_from(name.to_owned()).is_err(), "{name:?}");
        let line = serde_json::to_string(name).unwrap();
        assert!(serde_json::from_str::<StagedName>(&line).is_err());
    }
    assert!(StagedName::try_from("aZ0-_.x".to_owned()).is_ok());
}

use super::*;

/// A call for pictures, some with files that are not uploaded yet.
fn pictures(key: &str, ids: &[(&str, Option<&str>)]) -> OutboundRequest {
    let plain = call(ANN, &ids.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    let parts = plain.parts.into_iter().zip(ids);
    let parts = parts.map(|(part, (_, file))| NewPart {
        kind: "image".to_owned(),
        file: file.map(|name| name.to_owned().try_into().unwrap()),
        ..part
    });
    OutboundRequest {
        idempotency_key: Some(key.to_owned()),
        content_hash: "same".to_owned(),
        parts: parts.collect(),
        expires_at: NOW + 60,
        ..call(ANN, &[])
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
            pictures("k", &[("A", Some("fa")), ("B", Some("fb"))]),
            PACE,
            None,
            NOW,
        )
        .wait()
        .unwrap();
    assert_eq!(head, None, "it has to be uploaded before it is handed over");
    assert_eq!(awaited(&store), ["fa", "fb"]);
    let head = next(&store, PACE).ready.remove(0);
    assert_eq!(head.file.as_ref().map(StagedName::as_str), Some("fa"));
    let payload = b"with its place".to_vec();
    let place = uploaded(1, "/p");
    let id = head.message_id;
    store
        .mark_uploaded(id.clone(), payload.clone(), place.clone(), NOW)
        .wait()
        .unwrap();
    assert_eq!(awaited(&store), ["fb"]);
    let head = next(&store, PACE).ready.remove(0);
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
    let entered = store.enqueue(pictures("k", &[("A", Some("fa")), ("B", Some("fb"))]), NOW);
    let Enqueued::New { request, .. } = entered.wait().unwrap() else {
        panic!("new");
    };
    assert!(store.still_waits("A".to_owned()).wait().unwrap());
    let mut signal = store.outbound_signal();
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
    assert!(!store.still_waits("A".to_owned()).wait().unwrap());
    assert_eq!(left(&store), ["fa", "fb"]);
    assert!(awaited(&store).is_empty());
    store
        .files_removed(store.files_left().wait().unwrap())
        .wait()
        .unwrap();
    assert!(left(&store).is_empty());
    // Asked for again it goes with the files that come with it, under its old ids.
    let again = store.enqueue(pictures("k", &[("C", Some("fc")), ("D", Some("fd"))]), NOW);
    assert!(matches!(again.wait().unwrap(), Enqueued::Joined { .. }));
    assert_eq!(awaited(&store), ["fc", "fd"]);
    let head = next(&store, PACE).ready.remove(0);
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

#[test]
fn a_file_is_doubtful_until_it_is_synced() {
    let store = TestStore::new();
    let doubtful = || {
        let found = store.not_synced().wait().unwrap();
        found
            .into_iter()
            .map(|part| part.payload)
            .collect::<Vec<_>>()
    };
    let entered = store.enqueue(
        pictures("k", &[("A", Some("fa")), ("B", Some("fb")), ("C", None)]),
        NOW,
    );
    let Enqueued::New { request, .. } = entered.wait().unwrap() else {
        panic!("new");
    };
    assert_eq!(doubtful(), [b"A", b"B"]);
    let fa = vec!["fa".to_owned().try_into().unwrap()];
    store.files_synced(fa).wait().unwrap();
    assert_eq!(doubtful(), [b"B"]);
    store.withdraw(request).wait().unwrap();
    assert!(doubtful().is_empty());
    // Other files are doubtful anew.
    let again = pictures("k", &[("D", Some("fd")), ("E", Some("fe")), ("F", None)]);
    store.enqueue(again, NOW).wait().unwrap();
    assert_eq!(doubtful(), [b"D", b"E"]);
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

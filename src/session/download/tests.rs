use super::super::asked::Asked;
use super::*;

fn file(id: i64, key: u8, chat: &str) -> ToFetch {
    ToFetch {
        id: AttachmentId::new(id),
        token: None,
        source: MediaSource {
            sha256: [1; 32],
            direct_path: format!("/v/{id}"),
            key: Some(vec![key; 32]),
            enc_sha256: Some(vec![key; 32]),
            view_once: false,
        },
        kind: "image".to_owned(),
        mime_type: None,
        size: Some(100),
        attempts: 0,
        reason: None,
        chat: chat.parse().unwrap(),
        author: None,
        stanza_id: id.to_string(),
    }
}

fn begin(downloads: &Downloads, file: &ToFetch) {
    let transfer = super::super::transfers::Transfers::default().begin("download", 100);
    let running = Running {
        chat: file.chat.clone(),
        source: file.source.clone(),
        meter: Arc::new(Meter::new(transfer)),
        placed: true,
    };
    downloads.running().insert(file.id, running);
}

#[test]
fn nobody_waits_for_a_file_that_merely_claims_the_same_content() {
    let downloads = Downloads::new(std::path::PathBuf::new());
    let first = file(1, 1, "1@lid");
    begin(&downloads, &first);
    assert!(!downloads.may_begin(&first), "it is under way");
    assert!(!downloads.may_begin(&file(2, 1, "2@lid")), "a forward");
    let claim = file(3, 2, "2@lid");
    assert!(downloads.may_begin(&claim));
    // An object of this content is put by one alone, and nobody waits for a phone.
    downloads.keep_in("s3://bucket/x");
    assert!(!downloads.may_begin(&claim));
    downloads.give_way(first.id);
    assert!(downloads.may_begin(&claim));
}

#[test]
fn no_object_goes_while_its_content_comes_and_none_comes_while_it_goes() {
    let downloads = Downloads::new(std::path::PathBuf::new());
    let file = file(1, 1, "1@lid");
    begin(&downloads, &file);
    assert!(downloads.begin_removal(Some([1; 32])).is_none());
    drop(downloads.begin_removal(Some([2; 32])).unwrap());
    downloads.running().clear();
    let removal = downloads.begin_removal(Some([1; 32]));
    assert!(removal.is_some() && !downloads.may_begin(&file));
    drop(removal);
    assert!(downloads.may_begin(&file));
}

#[test]
fn what_waits_for_a_phone_keeps_nothing_from_others() {
    let downloads = Downloads::new(std::path::PathBuf::new());
    let (first, other) = (file(1, 1, "1@lid"), file(2, 2, "2@lid"));
    begin(&downloads, &first);
    assert!(downloads.promise(first.id, 100));
    assert_eq!(others(&downloads.running(), other.id), 100);
    downloads.give_way(first.id);
    assert_eq!(others(&downloads.running(), other.id), 0);
    let running = downloads.running();
    let transfer = &running[&first.id].meter.transfer;
    assert!(transfer.is_stopped(), "nobody is told that it comes");
}

#[test]
fn what_is_asked_for_is_forgotten_with_the_last_who_asks() {
    let downloads = Downloads::new(std::path::PathBuf::new());
    let asked = |token: u8, most| Asked::new(&downloads, [token; 16], most);
    let (first, again, other) = (asked(1, 5), asked(1, 70), asked(2, 200));
    let mut wanted = file(1, 1, "1@lid");
    wanted.token = Some([1; 16]);
    wanted.source.view_once = true;
    let limits = |view_once| MediaLimits {
        fetch: true,
        max_bytes: 50,
        view_once,
        keep_days: 1,
        keep_bytes: 1,
    };
    assert_eq!(downloads.most(&wanted, None), Some(Ok(70)));
    drop((again, other));
    assert_eq!(downloads.most(&wanted, Some(&limits(false))), Some(Ok(5)));
    assert_eq!(downloads.most(&wanted, Some(&limits(true))), Some(Ok(50)));
    drop(first);
    assert!(downloads.asked().is_empty());
    assert_eq!(downloads.most(&wanted, None), None);
    let once = downloads.most(&wanted, Some(&limits(false)));
    assert_eq!(once, Some(Err("view_once")));
    let idle = MediaLimits {
        fetch: false,
        ..limits(true)
    };
    assert_eq!(downloads.most(&wanted, Some(&idle)), None);
}

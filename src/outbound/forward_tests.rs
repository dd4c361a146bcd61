use super::action_tests::{acted_on, kept, one};
use super::tests::{ANN, edit_to, text};
use super::*;
use crate::store::KeptFile;

const FORWARD: [(&str, &str); 2] = [("action", "forward"), ("target_message_id", "M1")];

fn picture(direct_path: Option<&str>) -> wa::Message {
    wa::Message {
        image_message: wa::message::ImageMessage {
            direct_path: direct_path.map(str::to_owned),
            media_key: Some(vec![1; 32]),
            ..wa::message::ImageMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}

#[test]
fn what_is_forwarded_says_so() {
    let forwarded = one(ANN, "", &FORWARD, &kept(Some(ANN), &text("news"), 1));
    let sent = forwarded.extended_text_message.as_option().unwrap();
    assert_eq!(sent.text.as_deref(), Some("news"));
    assert_eq!(sent.context_info.is_forwarded, Some(true));
    let mut edited = kept(Some(ANN), &text("news"), 1);
    let newest = message_to_vec(&edit_to(text("good news")));
    edited.target = edited.target.map(|kept| Kept {
        edit: Some(newest),
        ..kept
    });
    let forwarded_now = one(ANN, "", &FORWARD, &edited);
    assert_eq!(forwarded_now.text_content(), Some("good news"));
    // Once more: it counts.
    let again = one(ANN, "", &FORWARD, &kept(None, &forwarded, 1));
    let context = &again.extended_text_message.context_info;
    assert_eq!(context.forwarding_score, Some(1));

    let image = || wa::message::ImageMessage {
        url: Some("https://mmg.whatsapp.net/x".to_owned()),
        media_key: Some(vec![1; 32]),
        context_info: wa::ContextInfo {
            expiration: Some(86_400),
            stanza_id: Some("other".to_owned()),
            ..wa::ContextInfo::default()
        }
        .into(),
        ..wa::message::ImageMessage::default()
    };
    let media = wa::Message {
        image_message: image().into(),
        ..wa::Message::default()
    };
    let sent = one(ANN, "", &FORWARD, &kept(Some(ANN), &media, 1));
    assert_eq!(sent.image_message.url, image().url);
    assert_eq!(sent.image_message.context_info.expiration, None);
    assert_eq!(sent.image_message.context_info.stanza_id, None);

    let once = wa::Message {
        view_once_message_v2: wa::message::FutureProofMessage {
            message: media.into(),
        }
        .into(),
        ..wa::Message::default()
    };
    let reaction = wa::Message {
        reaction_message: wa::message::ReactionMessage::default().into(),
        ..wa::Message::default()
    };
    for body in [once, reaction] {
        let error = acted_on(ANN, "", &FORWARD, &kept(Some(ANN), &body, 1)).unwrap_err();
        assert_eq!(error.code(), "not_forwardable");
    }
}

/// A message whose file waits for its upload has everything but the file's place, and nobody could open a copy of it.
#[test]
fn what_waits_for_its_upload_is_not_given_on() {
    let edit = [("action", "edit"), ("target_message_id", "M1")];
    for (keys, content, code) in [
        (&FORWARD, "", "not_forwardable"),
        (&edit, "new", "not_editable"),
    ] {
        let error = acted_on(ANN, content, keys, &kept(None, &picture(None), 1)).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(
            error.to_string().contains("still being uploaded"),
            "{error}"
        );
        one(ANN, content, keys, &kept(None, &picture(Some("/v/1")), 1));
    }
    let theirs = acted_on(ANN, "", &FORWARD, &kept(Some(ANN), &picture(None), 1));
    assert_eq!(theirs.unwrap_err().code(), "not_forwardable");
}

/// Where its file is now is known better than the message can.
#[test]
fn what_was_moved_is_forwarded_from_where_it_is() {
    let body = wa::Message {
        image_message: wa::message::ImageMessage {
            url: Some("https://mmg.whatsapp.net/v/1".to_owned()),
            ..picture(Some("/v/1")).image_message.take().unwrap()
        }
        .into(),
        ..wa::Message::default()
    };
    let with = |direct_path: &str, reason: Option<&str>| {
        let mut known = kept(Some(ANN), &body, 1);
        known.target.as_mut().unwrap().file = Some(KeptFile {
            direct_path: direct_path.to_owned(),
            reason: reason.map(str::to_owned),
        });
        acted_on(ANN, "", &FORWARD, &known)
    };
    for (path, url) in [("/v/1", true), ("/v/2", false)] {
        let sent = with(path, Some("download_failed")).unwrap().remove(0).1;
        assert_eq!(sent.image_message.direct_path.as_deref(), Some(path));
        assert_eq!(sent.image_message.url.is_some(), url);
    }
    for reason in ["expired", "phone_offline"] {
        let error = with("/v/1", Some(reason)).unwrap_err();
        assert_eq!(error.code(), "not_forwardable", "{reason}");
    }
}

#[test]
fn no_file_is_forwarded_between_newsletters_and_chats() {
    let mut plain = picture(Some("/m1/1"));
    plain.image_message.as_option_mut().unwrap().media_key = None;
    let sealed = picture(Some("/v/1"));
    for (to, body) in [(ANN, &plain), ("1@newsletter", &sealed)] {
        let error = acted_on(to, "", &FORWARD, &kept(Some(ANN), body, 1)).unwrap_err();
        assert_eq!(error.code(), "not_forwardable", "{to}");
    }
    one(
        "1@newsletter",
        "",
        &FORWARD,
        &kept(Some(ANN), &text("news"), 1),
    );
}

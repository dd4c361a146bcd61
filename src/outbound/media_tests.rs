use super::tests::{ANN, GROUP, config, kept, message, peer, text};
use super::*;
use crate::media::probe::{Kind, Probed};
use crate::store::Uploaded;
use waproto::codec::message_decode;

fn attachment(kind: Kind, name: &str) -> Attachment {
    Attachment {
        name: name.to_owned(),
        probed: Probed {
            kind,
            mime_type: "a/b".to_owned(),
            width: Some(4),
            height: Some(3),
            seconds: Some(2),
            thumbnail: Some(vec![1]),
            waveform: Some(vec![2]),
            animated: true,
            unmet: None,
        },
        file: Uploaded {
            sha256: vec![1; 32],
            media: encrypted_as(kind).to_owned(),
            url: String::new(),
            direct_path: String::new(),
            media_key: vec![2; 32],
            keyed: 7,
            enc_sha256: vec![3; 32],
            length: 99,
            sidecar: Some(vec![4]),
        },
        staged: name.to_owned().try_into().ok(),
    }
}

fn sent(
    content: &str,
    metadata: &[(&str, &str)],
    files: &[Attachment],
    to: &str,
) -> Vec<(String, Option<String>, wa::Message)> {
    let quoted = kept(&text("the question"), None);
    let built = build(
        &message(content, metadata),
        files,
        &config(4000),
        &peer(to),
        Some(quoted),
        &Known::default(),
        true,
    );
    let parts = built.unwrap().parts.into_iter();
    parts
        .map(|part| {
            let file = part.file.map(String::from);
            (part.kind, file, message_decode(&part.payload).unwrap())
        })
        .collect()
}

fn kinds(sent: &[(String, Option<String>, wa::Message)]) -> Vec<&str> {
    sent.iter().map(|(kind, ..)| kind.as_str()).collect()
}

#[test]
fn the_first_file_is_captioned_where_it_can_be() {
    for (kind, word, captioned) in [
        (Kind::Image, "image", true),
        (Kind::Video, "video", true),
        (Kind::Gif, "gif", true),
        (Kind::Document, "document", true),
        (Kind::Audio, "audio", false),
        (Kind::Voice, "voice", false),
        (Kind::Sticker, "sticker", false),
    ] {
        let files = [attachment(kind, "one"), attachment(Kind::Image, "two")];
        let sent = sent("look **here**", &[], &files, ANN);
        let expected: &[&str] = match captioned {
            true => &[word, "image"],
            false => &["text", word, "image"],
        };
        assert_eq!(kinds(&sent), expected);
        let files: Vec<_> = sent
            .iter()
            .filter_map(|(_, file, _)| file.as_deref())
            .collect();
        assert_eq!(files, ["one", "two"]);
        let captions: Vec<_> = sent.iter().filter_map(|(.., m)| m.get_caption()).collect();
        let expected: &[&str] = if captioned { &["look *here*"] } else { &[] };
        assert_eq!(captions, expected);
    }
}

#[test]
fn a_text_that_is_no_caption_goes_first() {
    let files = [attachment(Kind::Image, "one")];
    let long = "a ".repeat(600);
    assert_eq!(kinds(&sent(&long, &[], &files, ANN)), ["text", "image"]);
    let longer = "a ".repeat(3000);
    assert_eq!(
        kinds(&sent(&longer, &[], &files, ANN)),
        ["text", "text", "image"]
    );
    assert_eq!(kinds(&sent("", &[], &files, ANN)), ["image"]);
}

#[test]
fn what_comes_first_quotes_and_a_caption_mentions() {
    let reply = [("reply_to_message_id", "M1")];
    let files = [
        attachment(Kind::Image, "one"),
        attachment(Kind::Document, "two"),
    ];
    let sent = sent("hello @+15551230001", &reply, &files, GROUP);
    let image = &sent[0].2.image_message;
    assert_eq!(image.caption.as_deref(), Some("hello @15551230001"));
    assert_eq!(image.context_info.mentioned_jid, [ANN]);
    assert_eq!(image.context_info.stanza_id.as_deref(), Some("M1"));
    assert!(!sent[1].2.document_message.context_info.is_set());
}

#[test]
fn a_message_says_of_its_file_what_is_known() {
    let file = attachment(Kind::Voice, "note.ogg");
    let (_, _, note) = sent("", &[], &[file], ANN).remove(0);
    let audio = note.audio_message.as_option().unwrap();
    assert_eq!(audio.mimetype.as_deref(), Some("audio/ogg; codecs=opus"));
    assert_eq!((audio.ptt, audio.seconds), (Some(true), Some(2)));
    assert_eq!(audio.waveform.as_deref(), Some(&[2][..]));
    assert_eq!(audio.streaming_sidecar.as_deref(), Some(&[4][..]));
    assert_eq!(
        (audio.file_length, audio.media_key_timestamp),
        (Some(99), Some(7))
    );
    assert_eq!(audio.direct_path, None);
    let file = attachment(Kind::Gif, "a.mp4");
    let (_, _, gif) = sent("", &[], &[file], ANN).remove(0);
    let video = gif.video_message.as_option().unwrap();
    assert_eq!(
        (video.gif_playback, video.width, video.height),
        (Some(true), Some(4), Some(3))
    );
    let mut file = attachment(Kind::Document, "plan.pdf");
    (file.file.url, file.file.direct_path) = ("https://h/p".to_owned(), "/p".to_owned());
    let (_, _, document) = sent("", &[], &[file], ANN).remove(0);
    let document = document.document_message.as_option().unwrap();
    assert_eq!(document.file_name.as_deref(), Some("plan.pdf"));
    assert_eq!(document.direct_path.as_deref(), Some("/p"));
    let file = attachment(Kind::Sticker, "s.webp");
    let (_, _, sticker) = sent("", &[], &[file], ANN).remove(0);
    assert_eq!(sticker.sticker_message.is_animated, Some(true));
}

#[test]
fn files_go_with_the_content_of_an_action() {
    let files = [attachment(Kind::Image, "one")];
    let place = [
        ("action", "location"),
        ("latitude", "1"),
        ("longitude", "2"),
    ];
    assert_eq!(
        kinds(&sent("here", &place, &files, ANN)),
        ["image", "location"]
    );
    for (metadata, to, possible) in [
        (&place[..], ANN, true),
        (&[], "1@newsletter", false),
        (
            &[("action", "poll"), ("options", "[\"a\",\"b\"]")],
            ANN,
            false,
        ),
        (
            &[("action", "edit"), ("target_message_id", "X")],
            ANN,
            false,
        ),
    ] {
        let refused = no_attachments(&message("x", metadata), &peer(to));
        assert_eq!(refused.is_none(), possible, "{metadata:?}");
    }
}

#[test]
fn wishes() {
    let wish = |metadata: &[(&str, &str)]| Wish::parse(&message("", metadata).metadata);
    assert_eq!(wish(&[]), Ok(Wish::default()));
    assert_eq!(
        wish(&[("as", "sticker")]).unwrap().sent_as,
        Some(SentAs::Sticker)
    );
    assert!(wish(&[("voice", "true")]).unwrap().voice);
    assert!(wish(&[("as", "voice"), ("voice", "")]).unwrap().voice);
    assert!(!wish(&[("voice", "false")]).unwrap().voice);
    for wrong in [("as", "banana"), ("voice", "yes")] {
        let error = wish(&[wrong]).unwrap_err();
        assert_eq!(error.code(), "invalid_attachment");
        assert!(error.to_string().contains(wrong.0), "{error}");
    }
}

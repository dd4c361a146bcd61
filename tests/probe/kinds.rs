//! Files as they should be, and claims about them.

use channel_whatsapp::media::probe::{Hint, Kind, ProbeError, Probed, Wanted, probe};
use image::ImageFormat;
use std::io::Cursor;

use super::samples::*;
use super::{claimed, memory, plain};

fn shape(probed: &Probed) -> (Kind, &str, Option<u32>, Option<u32>, Option<u32>) {
    let Probed {
        kind,
        mime_type,
        width,
        height,
        seconds,
        ..
    } = probed;
    (*kind, mime_type, *width, *height, *seconds)
}

#[test]
fn every_kind_is_told_by_its_bytes() {
    use Kind::*;
    let sound = film(
        b"M4A ",
        &[movie_head(1000), track(b"soun", 0, 0, false)].concat(),
    );
    let riff_wave = [b"RIFF\x24\0\0\0WAVEfmt ", &[0; 40][..]].concat();
    for (bytes, expected) in [
        (
            jpeg(300, 200),
            (Image, "image/jpeg", Some(300), Some(200), None),
        ),
        (png(20, 30), (Image, "image/png", Some(20), Some(30), None)),
        (
            webp(512, 512),
            (Sticker, "image/webp", Some(512), Some(512), None),
        ),
        (
            webp(513, 8),
            (Document, "image/webp", Some(513), Some(8), None),
        ),
        (
            moving_webp(40, 50),
            (Sticker, "image/webp", Some(40), Some(50), None),
        ),
        (mp4(), (Video, "video/mp4", Some(640), Some(360), Some(3))),
        (sound, (Audio, "audio/mp4", None, None, Some(1))),
        (
            film(b"qt  ", &[]),
            (Document, "video/quicktime", None, None, None),
        ),
        (
            opus([30; 150]),
            (Voice, "audio/ogg; codecs=opus", None, None, Some(3)),
        ),
        (mp3(40), (Audio, "audio/mpeg", None, None, Some(2))),
        (amr(51), (Audio, "audio/amr", None, None, Some(2))),
        (riff_wave, (Document, "audio/wav", None, None, None)),
        (
            b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(),
            (Document, "image/gif", None, None, None),
        ),
        (
            b"%PDF-1.7\n".to_vec(),
            (Document, "application/pdf", None, None, None),
        ),
        (
            "BMW, die Träume".into(),
            (Document, "text/plain", None, None, None),
        ),
        (
            vec![0, 159, 3],
            (Document, "application/octet-stream", None, None, None),
        ),
    ] {
        assert_eq!(shape(&plain(&bytes).unwrap()), expected);
    }
    let aac = claimed(&aac(50), "audio/aac").unwrap();
    assert_eq!((aac.kind, aac.mime_type.as_str()), (Audio, "audio/aac"));
    assert!(matches!(aac.seconds, Some(1..=2)), "{aac:?}");
    assert!(plain(&moving_webp(40, 50)).unwrap().animated);
    assert!(!plain(&webp(40, 50)).unwrap().animated);
}

#[test]
fn a_claim_that_the_bytes_refute_is_refused() {
    let html = b"<!doctype html><title>Not found</title>".to_vec();
    for (bytes, mime) in [
        (&html, "image/png"),
        (&html, "Video/MP4; codecs=x"),
        (&html, "audio/mpeg"),
        (&mp3(40), "image/jpeg"),
        (&png(9, 9), "application/pdf"),
        (&jpeg(9, 9), "audio/ogg"),
        (&b"%PDF-1.7\n".to_vec(), "image/jpeg"),
    ] {
        let error = claimed(bytes, mime).unwrap_err();
        assert_eq!(error.code(), "attachment_mismatch", "{mime}");
    }
    // The extension is a claim too where there is no other.
    let wanted = |name: &str| Wanted {
        name: name.to_owned(),
        mime_type: "application/octet-stream".to_owned(),
        ..Wanted::default()
    };
    let error = probe(&mut Cursor::new(&html), &wanted("a.JPG")).unwrap_err();
    assert_eq!(error.code(), "attachment_mismatch");
    assert_eq!(plain(b"").unwrap_err().code(), "attachment_empty");
}

#[test]
fn a_claim_that_the_bytes_cannot_refute_is_kept() {
    let word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (bytes, mime, expected) in [
        (&b"PK\x03\x04rest"[..], word, word),
        (b"a,b\n1,2\n", "text/csv; charset=utf-8", "text/csv"),
        (b"ID3 is a tag", "text/plain", "text/plain"),
        (b"<svg/>", "image/svg+xml", "image/svg+xml"),
        (&png(9, 9), "image/jpeg", "image/png"),
        (&png(9, 9), "", "image/png"),
        (&mp4(), "audio/mp4", "video/mp4"),
        (&opus([30; 9]), "application/ogg", "audio/ogg; codecs=opus"),
    ] {
        assert_eq!(claimed(bytes, mime).unwrap().mime_type, expected);
    }
    for (name, expected) in [("a.csv", "text/csv"), ("b.DOCX", word), ("c", "text/plain")] {
        let wanted = Wanted {
            name: name.to_owned(),
            ..Wanted::default()
        };
        let probed = probe(&mut Cursor::new(b"a,b\n"), &wanted).unwrap();
        assert_eq!(probed.mime_type, expected, "{name}");
    }
}

#[test]
fn what_others_say_counts_only_as_far_as_the_bytes_agree() {
    use Kind::*;
    let hinted = |bytes: &[u8], name: &str, mime_type: &str, own: &str| {
        let wanted = Wanted {
            mime_type: own.to_owned(),
            hint: Hint {
                name: name.to_owned(),
                mime_type: mime_type.to_owned(),
            },
            ..Wanted::default()
        };
        let probed = probe(&mut Cursor::new(bytes), &wanted)?;
        Ok::<_, ProbeError>((probed.kind, probed.mime_type))
    };
    let words = b"No such picture, sorry.";
    let (noise, picture) = ([0xf1, 0, 0x9a, 7, 0xee, 3, 1, 0xc4], png(9, 9));
    for (bytes, name, mime_type, kind, expected) in [
        (&words[..], "a.jpg", "image/png", Document, "text/plain"),
        (words, "", "text/html; charset=utf-8", Document, "text/html"),
        (words, "a.html", "", Document, "text/html"),
        (
            &noise,
            "",
            "video/mp4",
            Document,
            "application/octet-stream",
        ),
        (&picture, "a.pdf", "application/pdf", Image, "image/png"),
        // What many servers say of whatever they do not know.
        (&picture, "", "text/plain", Image, "image/png"),
        (
            b"BM is how this text begins",
            "",
            "text/plain",
            Document,
            "text/plain",
        ),
    ] {
        let found = hinted(bytes, name, mime_type, "").unwrap();
        assert_eq!(found, (kind, expected.to_owned()), "{name} {mime_type}");
    }
    // The sender's own word goes before it, and stands.
    assert_eq!(
        hinted(words, "", "image/png", "text/css").unwrap().1,
        "text/css"
    );
    let error = hinted(words, "", "text/html", "image/png").unwrap_err();
    assert_eq!(error.code(), "attachment_mismatch");
}

#[test]
fn a_wish_is_honoured_or_named() {
    use Kind::*;
    let ask = |bytes: &[u8], set: fn(&mut Wanted)| {
        let mut wanted = Wanted::default();
        set(&mut wanted);
        let probed = probe(&mut Cursor::new(bytes), &wanted).unwrap();
        (probed.kind, probed.unmet.is_some())
    };
    assert_eq!(ask(&mp4(), |w| w.gif = true), (Gif, false));
    assert_eq!(ask(&png(9, 9), |w| w.gif = true), (Image, true));
    let mut old = mp4();
    old[8..12].copy_from_slice(b"3gp4");
    assert_eq!(ask(&old, |w| w.gif = true), (Video, true));
    assert_eq!(ask(&webp(9, 9), |w| w.sticker = true), (Sticker, false));
    assert_eq!(ask(&webp(600, 9), |w| w.sticker = true), (Document, true));
    assert_eq!(ask(&png(9, 9), |w| w.sticker = true), (Image, true));
    assert_eq!(ask(&opus([30; 9]), |w| w.voice = true), (Voice, false));
    assert_eq!(ask(&mp3(9), |w| w.voice = true), (Audio, true));
    assert_eq!(ask(&mp4(), |w| w.document = true), (Document, false));
    // As a document even what is broken goes.
    assert_eq!(
        ask(&png(9, 9)[..30], |w| w.document = true),
        (Document, false)
    );
}

#[test]
fn a_thumbnail_is_small_and_upright() {
    // Held upside down, red is on the right; by a quarter, it is at the top.
    for (orientation, size, red, blue) in [
        (1, (400, 200), (10, 25), (90, 25)),
        (3, (400, 200), (90, 25), (10, 25)),
        (6, (200, 400), (25, 10), (25, 90)),
        (8, (200, 400), (25, 90), (25, 10)),
    ] {
        let probed = claimed(&turned(400, 200, orientation), "image/jpeg").unwrap();
        assert_eq!((probed.width, probed.height), (Some(size.0), Some(size.1)));
        let bytes = probed.thumbnail.unwrap();
        assert!(bytes.len() < 16 << 10);
        let small = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg).unwrap();
        let small = small.to_rgb8();
        assert_eq!((small.width(), small.height()), (size.0 / 4, size.1 / 4));
        assert!(small.get_pixel(red.0, red.1)[0] > 150, "{orientation}");
        assert!(small.get_pixel(blue.0, blue.1)[2] > 150, "{orientation}");
    }
    // A small picture is not enlarged.
    let bytes = plain(&png(20, 10)).unwrap().thumbnail.unwrap();
    let small = image::load_from_memory(&bytes).unwrap();
    assert_eq!((small.width(), small.height()), (20, 10));
}

#[test]
fn films_of_all_shapes() {
    let video = track(b"vide", 640, 360, false);
    let shape = |bytes: &[u8]| {
        let probed = claimed(bytes, "video/mp4").unwrap();
        (probed.kind, probed.width, probed.seconds)
    };
    let turned = [movie_head(2000), track(b"vide", 640, 360, true)].concat();
    assert_eq!(
        shape(&film(b"isom", &turned)),
        (Kind::Video, Some(360), Some(2))
    );
    // Sizes of 64 bits, what describes it at the beginning, and an end that nobody knows.
    let description = boxed(b"moov", [movie_head(1), video.clone()].concat());
    let large = [
        &[0, 0, 0, 1],
        &b"mdat"[..],
        &[0, 0, 0, 0, 0, 0, 0, 24],
        &[0; 8],
    ]
    .concat();
    let open = [&[0, 0, 0, 0], &b"mdat"[..], &[0; 50]].concat();
    let file = [boxed(b"ftyp", b"mp42\0\0\0\0"), large, description, open].concat();
    assert_eq!(shape(&file), (Kind::Video, Some(640), Some(1)));
    // Fragmented: the head knows no duration.
    let extended = boxed(b"mvex", boxed(b"mehd", [0, 0, 0, 0, 0, 0, 0x27, 0x10]));
    let description = [movie_head(0), video.clone(), extended].concat();
    assert_eq!(shape(&film(b"iso5", &description)).2, Some(10));
    let index = [
        &[0; 8][..],
        &1000_u32.to_be_bytes(),
        &[0; 10],
        &[0, 2],
        &[0, 0, 0, 0, 0, 0, 0x0f, 0xa0, 0, 0, 0, 0].repeat(2),
    ]
    .concat();
    let unknown = film(b"iso5", &[movie_head(u32::MAX), video].concat());
    assert_eq!(shape(&unknown).2, None);
    assert_eq!(shape(&[unknown, boxed(b"sidx", index)].concat()).2, Some(8));
}

#[test]
fn bars_follow_the_voice() {
    // A second of silence, a second of speech, again.
    let sizes = (0..400).map(|n| if n / 50 % 2 == 0 { 4 } else { 80 + n % 9 });
    let note = plain(&opus(sizes)).unwrap();
    assert_eq!(note.seconds, Some(8));
    let bars = note.waveform.unwrap();
    assert_eq!(bars.len(), 64);
    assert!(bars[1..7].iter().all(|bar| *bar < 10), "{bars:?}");
    assert!(
        bars[9..15].iter().all(|bar| *bar > 80 && *bar <= 100),
        "{bars:?}"
    );
    // What is as long as a conversation, and what says nothing.
    let long = opus((0..30_000).map(|n| if n < 15_000 { 4 } else { 80 }));
    let (minutes, used) = memory::most(|| plain(&long).unwrap());
    assert!(used < 200 << 10, "{used} bytes");
    assert_eq!(minutes.seconds, Some(600));
    let bars = minutes.waveform.unwrap();
    assert!(bars[..30].iter().all(|bar| *bar < 10) && bars[34..].iter().all(|bar| *bar > 90));
    assert_eq!(plain(&opus([60; 500])).unwrap().waveform, None);
    // A last page that lies about the end.
    let lie = [opus([30; 50]), page(i64::MAX, &[vec![0x78; 30]])].concat();
    assert_eq!(plain(&lie).unwrap().seconds, Some(2));
    let cut = [opus([30; 50]), page(312 + 24_000, &[])].concat();
    assert_eq!(plain(&cut).unwrap().seconds, Some(1));
}

#[test]
fn what_is_too_large_to_be_decoded_goes_without_a_thumbnail() {
    let sized = |width: u32, height: u32| {
        let mut bytes = png(8, 8);
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&crc);
        plain(&bytes).unwrap()
    };
    let large = sized(10_000, 5_000);
    assert_eq!(
        (large.kind, large.width, large.thumbnail),
        (Kind::Image, Some(10_000), None)
    );
    let monstrous = sized(50_000, 50_000);
    assert_eq!(
        (monstrous.kind, monstrous.thumbnail),
        (Kind::Document, None)
    );
}

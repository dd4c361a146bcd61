//! From what a file is to what WhatsApp shows it as.

use std::io::{Read, Seek};

use super::picture::Picture;
use super::{Kind, ProbeError, Probed, Wanted};
use super::{boxes, opus, picture, sound};

/// Longest side of a sticker in pixels; larger ones are not shown by all phones.
const STICKER_SIDE: u32 = 512;
/// Largest sticker in bytes, still and moving.
const STICKER_BYTES: (u64, u64) = (100 << 10, 500 << 10);

/// The type of a voice note, as phones write it.
const VOICE: &str = "audio/ogg; codecs=opus";

/// How to read what a file is sent as.
#[derive(Clone, Copy)]
pub(super) enum Format {
    Picture,
    WebP,
    Movie,
    Ogg,
    Sound,
}

/// That of a file of the type `found`; none for a document about which nothing more is to be known. Other sound, video and
/// pictures are for other programs: WhatsApp does not play or show them.
pub(super) fn format(found: &str) -> Option<Format> {
    match found {
        "image/jpeg" | "image/png" => Some(Format::Picture),
        "image/webp" => Some(Format::WebP),
        "video/mp4" | "video/3gpp" | "video/x-m4v" | "audio/mp4" => Some(Format::Movie),
        "audio/ogg" => Some(Format::Ogg),
        "audio/mpeg" | "audio/aac" | "audio/amr" => Some(Format::Sound),
        _ => None,
    }
}

/// What a file of the type `found` is sent as; none for a document.
pub(super) fn of(
    file: &mut (impl Read + Seek),
    found: &'static str,
    size: u64,
) -> Result<Option<Probed>, ProbeError> {
    let unreadable = |reason| ProbeError::Unreadable {
        mime_type: found,
        reason,
    };
    Ok(match format(found) {
        None => None,
        Some(Format::Picture) => {
            let picture = picture::read(file, found).map_err(unreadable)?;
            let kind = match picture.shown() {
                true => Kind::Image,
                false => Kind::Document,
            };
            Some(drawn(kind, found, picture))
        }
        // WhatsApp shows WebP as a sticker or not at all.
        Some(Format::WebP) => {
            let picture = picture::read(file, found).map_err(unreadable)?;
            let kind = match sticker(&picture, size) {
                Ok(()) => Kind::Sticker,
                Err(_) => Kind::Document,
            };
            Some(drawn(kind, found, picture))
        }
        Some(Format::Movie) => {
            let movie = boxes::read(file).map_err(unreadable)?;
            let (kind, mime) = match (movie.video, found) {
                (true, "video/3gpp") => (Kind::Video, found),
                (true, _) => (Kind::Video, "video/mp4"),
                (false, _) => (Kind::Audio, "audio/mp4"),
            };
            Some(Probed {
                width: movie.size.map(|size| size.0),
                height: movie.size.map(|size| size.1),
                seconds: movie.seconds,
                ..Probed::new(kind, mime)
            })
        }
        Some(Format::Ogg) => {
            let recording = opus::read(file).map_err(unreadable)?;
            recording.map(|recording| Probed {
                seconds: Some(recording.seconds),
                waveform: recording.waveform,
                ..Probed::new(Kind::Voice, VOICE)
            })
        }
        Some(Format::Sound) => {
            let seconds = match found {
                "audio/mpeg" => sound::mp3(file, size),
                "audio/aac" => sound::aac(file),
                _ => sound::amr(file),
            };
            Some(Probed {
                seconds: Some(seconds.map_err(unreadable)?),
                ..Probed::new(Kind::Audio, found)
            })
        }
    })
}

/// Fits `probed` to what was asked for beyond its kind, and says what of that cannot be.
pub(super) fn wish(probed: &mut Probed, wanted: &Wanted) -> Option<String> {
    if wanted.sticker && probed.kind != Kind::Sticker {
        return Some(format!(
            "a sticker is a WebP of at most {STICKER_SIDE} by {STICKER_SIDE} pixels and {} KiB ({} KiB if it moves), and this is none",
            STICKER_BYTES.0 >> 10,
            STICKER_BYTES.1 >> 10
        ));
    }
    if wanted.gif {
        if probed.kind != Kind::Video || probed.mime_type != "video/mp4" {
            return Some("only an MP4 video plays like a GIF, and this is none".to_owned());
        }
        probed.kind = Kind::Gif;
    }
    if wanted.voice && probed.kind != Kind::Voice {
        return Some("a voice note is Opus in Ogg, and this is not".to_owned());
    }
    None
}

fn drawn(kind: Kind, mime: &str, picture: Picture) -> Probed {
    Probed {
        width: Some(picture.width),
        height: Some(picture.height),
        thumbnail: picture.thumbnail,
        animated: picture.animated,
        ..Probed::new(kind, mime)
    }
}

fn sticker(picture: &Picture, size: u64) -> Result<(), ()> {
    let most = match picture.animated {
        true => STICKER_BYTES.1,
        false => STICKER_BYTES.0,
    };
    let fits = picture.width.max(picture.height) <= STICKER_SIDE && size <= most;
    fits.then_some(()).ok_or(())
}

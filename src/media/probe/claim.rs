//! What a sender says a file is, and whether its bytes agree.

use super::ProbeError;
use crate::media::name::extension;

/// Says nothing about the bytes.
const GENERIC: &[&str] = &[
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/binary",
    "application/x-binary",
    "application/ogg",
    "application/mp4",
];

/// Types whose files cannot be mistaken, under every name that is in use for them.
const PLAIN: &[&str] = &[
    "image/jpeg",
    "image/jpg",
    "image/pjpeg",
    "image/png",
    "image/x-png",
    "image/gif",
    "image/webp",
    "image/bmp",
    "image/x-ms-bmp",
    "image/tiff",
    "image/heic",
    "image/heif",
    "image/avif",
    "video/mp4",
    "video/3gpp",
    "video/3gpp2",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
    "video/x-msvideo",
    "video/x-m4v",
    "audio/mpeg",
    "audio/mp3",
    "audio/mp4",
    "audio/m4a",
    "audio/x-m4a",
    "audio/aac",
    "audio/ogg",
    "audio/opus",
    "audio/amr",
    "audio/wav",
    "audio/x-wav",
    "audio/wave",
    "audio/flac",
    "audio/x-flac",
];

/// Extensions that say something about a file whose type was left out.
const EXTENSIONS: &[(&str, &str)] = &[
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("png", "image/png"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("heic", "image/heic"),
    ("svg", "image/svg+xml"),
    ("mp4", "video/mp4"),
    ("m4v", "video/x-m4v"),
    ("3gp", "video/3gpp"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("mkv", "video/x-matroska"),
    ("avi", "video/x-msvideo"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("amr", "audio/amr"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("ics", "text/calendar"),
    ("vcf", "text/vcard"),
    ("rtf", "application/rtf"),
    ("doc", "application/msword"),
    ("xls", "application/vnd.ms-excel"),
    ("ppt", "application/vnd.ms-powerpoint"),
    (
        "docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    (
        "xlsx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ),
    (
        "pptx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("epub", "application/epub+zip"),
    ("apk", "application/vnd.android.package-archive"),
];

/// What a file is said to be, in lower case and without parameters; by its name where no type is given.
pub(super) fn claimed(name: &str, mime_type: &str) -> Option<String> {
    let given = mime_type.split(';').next().unwrap_or_default();
    let given = given.trim().to_ascii_lowercase();
    if !GENERIC.contains(&given.as_str()) {
        return Some(given);
    }
    let extension = extension(name);
    let known = EXTENSIONS.iter().find(|(known, _)| *known == extension)?;
    Some(known.1.to_owned())
}

/// Refuses a claim that the bytes refute. Pictures, videos and sound must be what they are called, though one kind of
/// picture may be called another, and what holds both sound and pictures either. What has no mark of its own, as text
/// has none, is believed.
pub(super) fn check(claimed: &str, found: Option<&'static str>) -> Result<(), ProbeError> {
    let mismatch = |found| {
        Err(ProbeError::Mismatch {
            claimed: claimed.to_owned(),
            found,
        })
    };
    match found {
        None if PLAIN.contains(&claimed) => mismatch("of no type that has a mark"),
        Some(found) if PLAIN.contains(&claimed) && !related(claimed, found) => mismatch(found),
        Some(found) if claimed == "application/pdf" && media(found) => mismatch(found),
        _ => Ok(()),
    }
}

/// The type of a file that goes as a document.
pub(super) fn settled(claimed: Option<String>, found: Option<&'static str>, head: &[u8]) -> String {
    match (claimed, found) {
        (_, Some(found)) if media(found) => found.to_owned(),
        (Some(claimed), _) if !PLAIN.contains(&claimed.as_str()) => claimed,
        (_, Some(found)) => found.to_owned(),
        (_, None) if text(head) => "text/plain".to_owned(),
        (_, None) => "application/octet-stream".to_owned(),
    }
}

fn related(claimed: &str, found: &str) -> bool {
    let family = |mime: &str| mime.split('/').next().unwrap_or_default().to_owned();
    let both = |mime: &str| {
        [
            "mp4",
            "m4a",
            "m4v",
            "3gp",
            "ogg",
            "opus",
            "webm",
            "quicktime",
        ]
        .iter()
        .any(|container| mime.contains(container))
    };
    family(claimed) == family(found) || media(found) && both(claimed) && both(found)
}

fn media(mime: &str) -> bool {
    ["image/", "video/", "audio/"]
        .iter()
        .any(|family| mime.starts_with(family))
}

/// Whether it begins as text does. A character may be cut at the end.
pub(super) fn text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    valid && !head.contains(&0)
}

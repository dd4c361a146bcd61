//! The type of a file by how it begins.

/// The MIME type of a file of `size` bytes that begins with `head`; none for text and what has no mark of its own.
pub(super) fn sniff(head: &[u8], size: u64) -> Option<&'static str> {
    if head.get(4..8) == Some(b"ftyp") {
        return Some(brand(head.get(8..12)?));
    }
    // To the library below this is a script.
    if head.starts_with(b"#!AMR\n") {
        return Some("audio/amr");
    }
    match infer::get(head)?.mime_type() {
        // Two letters are its whole mark, and words begin with them; what follows is the file's size.
        "image/bmp" if !bitmap(head, size) => None,
        "audio/opus" => Some("audio/ogg"),
        "audio/m4a" => Some("audio/mp4"),
        "audio/x-wav" => Some("audio/wav"),
        "audio/x-flac" => Some("audio/flac"),
        mime => Some(mime),
    }
}

/// Type of a file in boxes (ISO 14496-12) by its major brand. Whether an MP4 has pictures is in its tracks.
fn brand(brand: &[u8]) -> &'static str {
    match brand {
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => "image/heic",
        b"mif1" | b"msf1" => "image/heif",
        b"avif" | b"avis" => "image/avif",
        b"qt  " => "video/quicktime",
        b"M4A " | b"M4B " | b"M4P " => "audio/mp4",
        [b'3', b'g', ..] => "video/3gpp",
        _ => "video/mp4",
    }
}

fn bitmap(head: &[u8], size: u64) -> bool {
    let said = head.get(2..6).and_then(|bytes| bytes.try_into().ok());
    said.is_some_and(|said| u64::from(u32::from_le_bytes(said)) == size)
}

//! What a file is, by its bytes: every kind as it should be, and hundreds that are broken on purpose.

mod kinds;
mod lines;
mod malformed;
mod memory;
mod samples;

use std::io::Cursor;

use channel_whatsapp::media::probe::{ProbeError, Probed, Wanted, probe};

/// What becomes of these bytes without any claim.
fn plain(bytes: &[u8]) -> Result<Probed, ProbeError> {
    probe(&mut Cursor::new(bytes), &Wanted::default())
}

/// What becomes of these bytes under a MIME type.
fn claimed(bytes: &[u8], mime_type: &str) -> Result<Probed, ProbeError> {
    let wanted = Wanted {
        mime_type: mime_type.to_owned(),
        ..Wanted::default()
    };
    probe(&mut Cursor::new(bytes), &wanted)
}

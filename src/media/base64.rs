//! Base64 from a request's line. The text is borrowed, and decoded through one small buffer.

use std::borrow::Cow;
use std::iter;

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine};

use super::intake::Intake;
use super::seal::SealError;
use super::stage::StageError;

/// Padding is optional, and what the last character says beyond the last byte does not matter: encoders differ there.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Characters that are decoded at once; a multiple of four.
const BLOCK: usize = 64 << 10;

/// Decodes all of `text`, a small block at a time. White space, as in wrapped base64, is skipped, and padding may be
/// missing; everything else is an error, `data:` URLs included. A text that is too long is refused before anything is
/// written.
///
/// # Errors
/// When it is no base64, too large, cannot be written, or nobody waits for it any more.
pub fn decode(text: &str, file: &mut Intake) -> Result<(), SealError> {
    decode_by(text.as_bytes(), file, BLOCK)
}

fn decode_by(text: &[u8], file: &mut Intake, block: usize) -> Result<(), SealError> {
    let wrapped = SPACES.iter().any(|space| text.contains(space));
    let characters = match wrapped {
        true => text.iter().filter(|c| !SPACES.contains(c)).count(),
        false => text.len(),
    };
    let padding = text
        .iter()
        .rev()
        .take_while(|c| **c == b'=' || SPACES.contains(c));
    let count = (characters - padding.filter(|c| **c == b'=').count()) as u64;
    file.check(count / 4 * 3 + [0, 0, 1, 2][(count % 4) as usize])?;
    let mut decoded = Vec::with_capacity(block / 4 * 3);
    let (mut before, mut padded) = (0, false);
    for packed in blocks(text, block, wrapped) {
        let position = |n: usize| {
            let mut all = text.iter().enumerate().filter(|(_, c)| !SPACES.contains(c));
            all.nth(before + n)
                .map_or(text.len(), |(position, _)| position)
        };
        if padded {
            let (what, position) = ("something after the padding".to_owned(), position(0));
            return Err(StageError::Base64 { what, position }.into());
        }
        decoded.clear();
        ENGINE.decode_vec(&*packed, &mut decoded).map_err(|error| {
            let (what, n) = match error {
                DecodeError::InvalidByte(n, c) => (format!("{:?}", char::from(c)), n),
                _ => ("an incomplete group of four".to_owned(), packed.len()),
            };
            let position = position(n);
            StageError::Base64 { what, position }
        })?;
        file.write(&decoded)?;
        before += packed.len();
        padded = packed.last() == Some(&b'=');
    }
    Ok(())
}

/// What is skipped, as in text that was wrapped.
const SPACES: [u8; 5] = *b"\n\r \t\x0c";

/// The characters of `text` in blocks, copied only if there are spaces to leave out.
fn blocks(text: &[u8], block: usize, wrapped: bool) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut chunks = text.chunks(block);
    let mut characters = text.iter().copied().filter(|c| !SPACES.contains(c));
    iter::from_fn(move || match wrapped {
        false => chunks.next().map(Cow::Borrowed),
        true => {
            let packed: Vec<u8> = characters.by_ref().take(block).collect();
            (!packed.is_empty()).then_some(Cow::Owned(packed))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::media::intake::Taken;
    use crate::media::probe::Wanted;
    use crate::media::stage::Staging;
    use base64::engine::general_purpose::STANDARD as PLAIN;

    /// The decoded bytes, or the error.
    fn decoded(text: &str, limit: u64, block: usize) -> Result<Vec<u8>, SealError> {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::open(dir.path()).unwrap();
        let mut intake = Intake::new(&staging, Wanted::default(), limit);
        decode_by(text.as_bytes(), &mut intake, block)?;
        let Taken::Sealed(sealed) = intake.finish()?.0 else {
            panic!("a short text is a document")
        };
        assert_eq!(sealed.size, sealed.head.len() as u64);
        Ok(sealed.head)
    }

    #[test]
    fn any_bytes_come_back_whatever_the_blocks() {
        for length in [0, 1, 2, 3, 4, 5, 11, 12, 13, 64] {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(37)).collect();
            let text = PLAIN.encode(&bytes);
            let wrapped = text.chars().flat_map(|c| [c, '\n']).collect::<String>();
            for block in [4, 8, 64] {
                for text in [&text, &wrapped, text.trim_end_matches('=')] {
                    assert_eq!(decoded(text, 64, block).unwrap(), bytes, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_placed() {
        for (text, at) in [
            ("data:image/png;base64,QUJD", 4),
            ("QUJD\n QU-D", 8),
            ("QQ==QUJD", 2),
            ("QUJDQUJDQQ==Q", 12),
            ("QUJDQ", 5),
            ("QUJD====", 4),
        ] {
            for block in [4, 12] {
                let error = decoded(text, 64, block).unwrap_err();
                assert_eq!(error.code(), "invalid_params");
                let SealError::Stage(StageError::Base64 { position, .. }) = error else {
                    panic!("{error}")
                };
                // Within one block the engine points at the padding, beyond it at what follows.
                assert!((at..=at + 2).contains(&position), "{text:?}: {position}");
            }
        }
    }

    #[test]
    fn nothing_is_decoded_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        for begun in [&b"text"[..], b"\xff\xd8\xff\xe0"] {
            let meter = Arc::<AtomicU64>::default();
            let staging = Staging::open(dir.path()).unwrap().of_one(meter.clone());
            let mut intake = Intake::new(&staging, Wanted::default(), u64::MAX);
            intake.write(begun).unwrap();
            staging.stop();
            // More than may wait to be encrypted.
            let error = decode(&"A".repeat(16 << 20), &mut intake).unwrap_err();
            assert_eq!(error.code(), "attachment_not_ready");
            let begun = meter.load(Ordering::Relaxed);
            assert!(begun <= BLOCK as u64, "{begun}");
        }
    }

    #[test]
    fn the_limit_is_that_of_the_decoded_bytes() {
        let text = PLAIN.encode([7; 10]);
        assert_eq!(decoded(&text, 10, 4).unwrap().len(), 10);
        let error = decoded(&text, 9, 4).unwrap_err();
        assert_eq!(error.code(), "attachment_too_large");
    }
}

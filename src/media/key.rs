//! Storage keys: the names under which the host can fetch media again or send them on.
//!
//! Invariant: a key names one attachment of one account, by a number that was drawn for it: whoever has the key was given
//! it, and nobody can make one up for the file of another message, whatever he knows of it. It has nothing in it that
//! could be a path, and one spelling.

use std::fmt;

use crate::store::AttachmentToken;

/// Tells our keys from those of other plugins.
const PREFIX: &str = "wa-media";

/// Why a text is no key of this account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none that this plugin writes.
    #[error("this is no storage key of this plugin; use one that came with an event, as it was")]
    Malformed,
    /// Another account issued it.
    #[error(
        "this storage key belongs to another account; a file can only be used by the account that received it"
    )]
    OtherAccount,
}

impl KeyError {
    /// The code of this error on the wire.
    pub fn code(self) -> &'static str {
        "unknown_storage_key"
    }
}

/// `wa-media:<id of the account's store>:<the attachment's token, hex>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageKey {
    store: String,
    /// Which attachment it is.
    pub token: AttachmentToken,
}

impl StorageKey {
    /// The key of an attachment in the store with this id.
    pub fn new(store: &str, token: AttachmentToken) -> Self {
        Self {
            store: store.to_owned(),
            token,
        }
    }

    /// Reads a key of the store with this id.
    ///
    /// # Errors
    /// For what is no key, or not one of this store.
    pub fn parse(text: &str, store: &str) -> Result<Self, KeyError> {
        let mut parts = text.split(':');
        let (prefix, id, token) = (parts.next(), parts.next(), parts.next());
        let (Some(PREFIX), Some(id), Some(token), None) = (prefix, id, token, parts.next()) else {
            return Err(KeyError::Malformed);
        };
        let token = unhex(token).ok_or(KeyError::Malformed)?;
        if id.is_empty() || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(KeyError::Malformed);
        }
        if id != store {
            return Err(KeyError::OtherAccount);
        }
        Ok(Self::new(id, token))
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}:{}:{}", self.store, hex(&self.token))
    }
}

/// Bytes as they stand in keys and in the names of files.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // A string takes all that is written to it.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Lower case alone, so that one thing has one spelling.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORE: &str = "0123456789abcdef";

    proptest! {
        #[test]
        fn a_key_reads_as_it_was_written(token: [u8; 16]) {
            let key = StorageKey::new(STORE, token);
            prop_assert_eq!(StorageKey::parse(&key.to_string(), STORE), Ok(key.clone()));
            prop_assert_eq!(
                StorageKey::parse(&key.to_string(), "fedcba9876543210"),
                Err(KeyError::OtherAccount)
            );
        }

        #[test]
        fn what_is_read_is_written_the_same(text in ".{0,120}", tail in "[0-9a-fA-F./:\\\\]{30,36}") {
            for text in [text, format!("wa-media:{STORE}:{tail}")] {
                if let Ok(key) = StorageKey::parse(&text, STORE) {
                    prop_assert_eq!(key.to_string(), text);
                }
            }
        }
    }

    #[test]
    fn paths_are_no_keys() {
        let token = hex(&[0xAB; 16]);
        for text in [
            "",
            "wa-media",
            "wa-media:0123456789abcdef:",
            "wa-media:0123456789abcdef:../../store.db",
            "wa-media:../../x:00",
            "/etc/passwd",
            "../channel.db",
            "file:///etc/passwd",
            &format!("wa-media::{token}"),
            // A file's hash: anybody may know it.
            &format!("wa-media:{STORE}:{token}{token}"),
            &format!("wa-media:{STORE}:{}", token.to_uppercase()),
            &format!("wa-media:{STORE}:{token}:"),
            &format!("wa-media:{STORE}:{token}\0"),
            &format!("wa-media:{STORE}:/{}", &token[1..]),
            &format!(" wa-media:{STORE}:{token}"),
        ] {
            assert_eq!(
                StorageKey::parse(text, STORE),
                Err(KeyError::Malformed),
                "{text:?}"
            );
        }
    }
}

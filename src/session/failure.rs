//! Why a file could not be fetched, and when it is worth another attempt.
//!
//! Invariant: what a sender, WhatsApp or a store does costs a file no more than its attempts, ever later; what was seen before
//! anything was fetched costs none.

use whatsapp_rust::ErrorChainExt;

use super::sink::Meter;
use crate::media::depot::DepotError;
use crate::store::{Pending, StoreError};

/// Until there may be space again.
pub(super) const NO_SPACE: i64 = 60;
/// Until the network may be better; four times as long after each attempt, so that ten of them last through a bad night.
pub(super) const NO_NETWORK: i64 = 1;
/// The longest of these pauses.
const LONGEST_PAUSE: i64 = 6 * 3600;
/// How often a file is tried.
pub(super) const ATTEMPTS: u32 = 10;

/// It did not come, or not whole.
pub(super) const NETWORK: &str = "download_failed";
/// WhatsApp has the file no more.
pub(super) const GONE: &str = "expired";
/// The disk has no place for it.
pub(super) const FULL: &str = "storage_full";
/// The disk does not take it for some other reason.
const DISK: &str = "disk_failed";

/// Why there is no file.
#[derive(Debug)]
pub(super) struct Failure {
    /// Stable, in snake_case; what it means is in [`crate::media::reason`].
    pub(super) reason: &'static str,
    /// After how many seconds it is worth another attempt; the pause of a repeated one is longer.
    pub(super) again: Option<i64>,
    /// Whether it is one of the attempts that a file has. What is seen before anything is fetched costs nobody anything.
    pub(super) counts: bool,
    /// Nothing else could be begun, either.
    pub(super) of_all: bool,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn last(reason: &'static str, detail: impl ToString) -> Self {
        Self {
            reason,
            again: None,
            counts: true,
            of_all: false,
            detail: detail.to_string(),
        }
    }

    pub(super) fn again(reason: &'static str, after: i64, detail: impl ToString) -> Self {
        Self {
            reason,
            again: Some(after),
            counts: true,
            of_all: false,
            detail: detail.to_string(),
        }
    }

    /// It could not be kept.
    pub(super) fn kept(error: &DepotError) -> Self {
        Self::again(error.code(), NO_SPACE, error)
    }

    /// The database cannot say, or note, something.
    fn store(error: &StoreError) -> Self {
        let reason = if error.code() == FULL { FULL } else { DISK };
        Self::again(reason, NO_SPACE, error)
    }

    /// In how many seconds a file is tried again that was tried so often before; none if it is not.
    pub(super) fn pause(&self, attempts: u32) -> Option<i64> {
        let steps = match self.reason {
            NETWORK => 2 * attempts,
            _ => attempts,
        };
        match self.counts {
            true if attempts + 1 < ATTEMPTS => Some((self.again? << steps).min(LONGEST_PAUSE)),
            true => None,
            false => self.again,
        }
    }

    pub(super) fn not_counted(self) -> Self {
        Self {
            counts: false,
            ..self
        }
    }

    /// Seen before anything is fetched, of what no file can do without.
    pub(super) fn of_all(self) -> Self {
        Self {
            of_all: true,
            ..self.not_counted()
        }
    }

    /// What ended a download.
    pub(super) fn of_download(meter: &Meter, error: &anyhow::Error) -> Self {
        if meter.too_large() {
            return Self::last("too_large", "there is more of it than its sender says");
        }
        if meter.full() {
            return Self::again(FULL, NO_SPACE, "the disk is full");
        }
        if meter.broken() {
            return Self::again(DISK, NO_SPACE, format_args!("{error:#}"));
        }
        if WRONG.contains(&&*error.root_cause().to_string()) {
            return Self::last("corrupt", error);
        }
        let chain: &(dyn std::error::Error + 'static) = error.as_ref();
        match chain.http_status() {
            Some(status @ (403 | 404 | 410)) => {
                Self::last(GONE, format_args!("the server answers {status}"))
            }
            _ => Self::again(NETWORK, NO_NETWORK, error),
        }
    }

    /// It is not the file that is wrong, nor where it comes from.
    pub(super) fn is_ours(&self) -> bool {
        matches!(
            self.reason,
            FULL | DISK | "store_unreachable" | "store_refused"
        )
    }
}

/// What the store says, or why it does not.
pub(super) async fn noted<T>(pending: Pending<T>) -> Result<T, Failure> {
    pending.await.map_err(|error| Failure::store(&error))
}

/// What the library says of a body that came to its end and is not what the message announced (wacore's `download.rs`): of
/// these errors it has no type. Of one that broke off it has an I/O error.
const WRONG: [&str; 6] = [
    "MAC mismatch",
    "Invalid final media size",
    "Empty plaintext after decrypt",
    "Invalid PKCS7 padding",
    "Bad PKCS7 padding bytes",
    "SHA-256 mismatch for plaintext media",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_vain_comes_ten_times_and_ever_later() {
        let refused = || Failure::kept(&DepotError::Refused("no".to_owned()));
        let pauses: Vec<_> = (0..ATTEMPTS).map(|nth| refused().pause(nth)).collect();
        let minutes = |minutes: i64| Some(minutes * 60);
        assert_eq!(pauses[..3], [minutes(1), minutes(2), minutes(4)]);
        assert_eq!(pauses[8..], [minutes(256), None]);
        // Seen before anything came, it costs nobody anything.
        assert_eq!(refused().not_counted().pause(ATTEMPTS), minutes(1));
        assert_eq!(Failure::last("corrupt", "").pause(0), None);
        // A night without WhatsApp's media servers costs no file.
        let cut = |nth| Failure::again(NETWORK, NO_NETWORK, "").pause(nth);
        let pauses: Vec<_> = (0..ATTEMPTS).map_while(cut).collect();
        assert_eq!(pauses[..4], [1, 4, 16, 64]);
        assert_eq!(pauses.len(), 9);
        let hours = pauses.iter().sum::<i64>() / 3600;
        assert!((10..14).contains(&hours), "{hours}");
    }
}

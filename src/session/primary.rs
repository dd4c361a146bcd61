//! The account's phone, as far as this device hears of it.
//!
//! WhatsApp removes linked devices whose phone has not been online for 14 days, without a word before. A companion is
//! not told when the phone is online, but sees what comes from it: every stanza of our own device 0 is a sign of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use wacore_binary::Jid;

use crate::store::Store;

/// After so many days without the phone WhatsApp removes its linked devices.
const UNLINKED_AFTER: i64 = 14;
/// From this day on it is said loudly; the phone's owner may be on a journey.
const WARN_FROM: i64 = 10;
const DAY: i64 = 86_400;
/// Signs closer together than this are one, seconds.
const COARSE: i64 = 60;

/// Notes signs of the phone.
#[derive(Debug, Clone, Default)]
pub(super) struct Phone(Arc<AtomicI64>);

impl Phone {
    /// Something came from `sender`, one of our own devices or not; `at` is the server's time, Unix seconds.
    pub(super) fn heard(&self, store: &Store, sender: &Jid, own: bool, at: i64) {
        if !own || sender.device != 0 || at < self.0.load(Ordering::Relaxed) + COARSE {
            return;
        }
        self.0.store(at, Ordering::Relaxed);
        // The next sign says it again.
        drop(store.note_phone(at));
    }
}

/// How long the phone has been silent, and what that means for this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Whole days since the last sign.
    pub days: i64,
    /// Whole days until WhatsApp removes this device, at the earliest; 0 is any time now.
    pub left: i64,
}

impl Silence {
    /// From the last sign to now, both Unix seconds.
    pub fn new(seen: i64, now: i64) -> Self {
        let days = (now - seen).max(0) / DAY;
        Self {
            days,
            left: (UNLINKED_AFTER - days).max(0),
        }
    }

    /// What to do about it, from the tenth day on.
    pub fn warning(self) -> Option<String> {
        let Self { days, left } = self;
        let when = match left {
            0 => "any time now".to_owned(),
            1 => "in a day".to_owned(),
            _ => format!("in {left} days"),
        };
        (days >= WARN_FROM).then(|| {
            format!(
                "nothing has been heard of this account's phone for {days} days, and WhatsApp removes linked devices after \
                 {UNLINKED_AFTER} days without it, here {when}; open WhatsApp on the phone, with a network"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_are_counted_down() {
        for (seconds, days, left, warns) in [
            (-5, 0, 14, false),
            (DAY - 1, 0, 14, false),
            (10 * DAY - 1, 9, 5, false),
            (10 * DAY, 10, 4, true),
            (13 * DAY, 13, 1, true),
            (14 * DAY, 14, 0, true),
            (100 * DAY, 100, 0, true),
        ] {
            let silence = Silence::new(1_000_000, 1_000_000 + seconds);
            assert_eq!(silence, Silence { days, left });
            assert_eq!(silence.warning().is_some(), warns, "{silence:?}");
        }
        let last = Silence::new(0, 14 * DAY).warning().unwrap();
        assert!(last.contains("any time now"), "{last}");
    }
}

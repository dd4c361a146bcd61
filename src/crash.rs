//! Points at which a test lets the process die as by SIGKILL (nothing is flushed, nothing is said), or lets one task
//! stand still while the others go on.
//!
//! `CHANNEL_WHATSAPP_CRASH=name` or `name:nth` names a point and which pass of it is the last; `CHANNEL_WHATSAPP_STALL`
//! likewise the pass that never goes on. Only a build with the feature `loopback` has any; elsewhere [`point`] and
//! [`stall`] are nothing.

#[cfg(feature = "loopback")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    /// What the other threads get before the process dies at a [`late_point`].
    const LATE: Duration = Duration::from_millis(200);

    struct Armed {
        name: String,
        /// Passes that are still to come before the one that is meant.
        left: AtomicI64,
    }

    fn read(text: &str) -> Armed {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        Armed {
            name: name.to_owned(),
            left: AtomicI64::new(nth.parse().unwrap_or(1_i64).max(1) - 1),
        }
    }

    /// Whether this pass of the point is the one that the variable names.
    fn reached(armed: &OnceLock<Option<Armed>>, variable: &str, name: &str) -> bool {
        let armed = armed.get_or_init(|| Some(read(&std::env::var(variable).ok()?)));
        let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else {
            return false;
        };
        armed.left.fetch_sub(1, Ordering::SeqCst) == 0
    }

    fn crashes(name: &str) -> bool {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        reached(&ARMED, "CHANNEL_WHATSAPP_CRASH", name)
    }

    pub fn point(name: &str) {
        if crashes(name) {
            std::process::abort();
        }
    }

    pub fn late_point(name: &str) {
        if crashes(name) {
            std::thread::sleep(LATE);
            std::process::abort();
        }
    }

    pub async fn stall(name: &str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        if reached(&ARMED, "CHANNEL_WHATSAPP_STALL", name) {
            std::future::pending().await
        }
    }
}

#[cfg(feature = "loopback")]
pub(crate) use armed::{late_point, point, stall};

/// Where the process may be told to die.
#[cfg(not(feature = "loopback"))]
pub(crate) const fn point(_name: &str) {}

/// The same, a moment after this was reached: what the other threads must not do meanwhile would show.
#[cfg(not(feature = "loopback"))]
pub(crate) const fn late_point(_name: &str) {}

/// Where a task may be told to stand still.
#[cfg(not(feature = "loopback"))]
pub(crate) async fn stall(_name: &str) {}

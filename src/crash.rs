//! Points at which a test lets the process die as by SIGKILL: nothing is flushed, nothing is said.
//!
//! `CHANNEL_WHATSAPP_CRASH=name` or `name:nth` names a point and which pass of it is the last. Only a build with the
//! feature `loopback` has any; elsewhere [`point`] is nothing.

#[cfg(feature = "loopback")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Armed {
        name: String,
        /// Passes that are still survived.
        left: AtomicU32,
    }

    fn read(text: &str) -> Armed {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        Armed {
            name: name.to_owned(),
            left: AtomicU32::new(nth.parse().unwrap_or(1).max(1) - 1),
        }
    }

    pub fn point(name: &str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("CHANNEL_WHATSAPP_CRASH").ok()?;
            Some(read(&text))
        });
        let Some(armed) = armed.as_ref().filter(|armed| armed.name == name) else {
            return;
        };
        let passed = armed
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if passed.is_err() {
            std::process::abort();
        }
    }
}

#[cfg(feature = "loopback")]
pub(crate) use armed::point;

/// Where the process may be told to die.
#[cfg(not(feature = "loopback"))]
pub(crate) const fn point(_name: &str) {}

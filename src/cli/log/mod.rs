//! The log: on stderr, and in a file if there is to be one.
//!
//! The host hides stderr from its user and keeps every line of it in memory, so it is terse there by default; the file
//! is for who looks for a fault. Invariant: every line, ours, the client library's and those of panics, passes [`redact`]
//! on its way out, so that nothing above debug level names a person.

mod file;
mod redact;

use std::any::Any;
use std::backtrace::Backtrace;
use std::path::PathBuf;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::session::PROGRESS;
use file::Rotating;
use redact::Redacting;
pub(super) use redact::masked;

/// Level of the log: `error`, `warn` (default), `info`, `debug`, `trace`, `off`; or `target=level` and so on.
const LEVEL: &str = "CHANNEL_WHATSAPP_LOG";
/// A file that the log goes to.
const FILE: &str = "CHANNEL_WHATSAPP_LOG_FILE";
/// How lines are written: `text` (default) or `json`.
const FORMAT: &str = "CHANNEL_WHATSAPP_LOG_FORMAT";

/// Starts logging. A setting that cannot be followed is said and passed over: no message is lost for a log's sake.
pub(super) fn start() {
    let mut complaints = Vec::new();
    let json = match variable(FORMAT).as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            complaints.push(format!("{FORMAT} is {other:?}; it may be text or json"));
            false
        }
    };
    let file = variable(FILE).and_then(|path| {
        let path = PathBuf::from(path);
        let opened = match path.is_absolute() {
            true => Rotating::open(&path).map_err(|error| error.to_string()),
            false => Err("write the whole path, from the root".to_owned()),
        };
        opened
            .map_err(|error| complaints.push(format!("{FILE} cannot be used: {error}")))
            .ok()
    });
    let default = match file {
        Some(_) => LevelFilter::INFO,
        None => LevelFilter::WARN,
    };
    let chosen = match variable(LEVEL).as_deref() {
        None => levels(default),
        Some(chosen) => chosen
            .parse()
            .map(levels)
            .or_else(|_| chosen.parse::<Targets>())
            .unwrap_or_else(|error| {
                complaints.push(format!("{LEVEL} is {chosen:?}: {error}"));
                levels(default)
            }),
    };
    // With a file to read, the host need not keep more of it than what is wrong.
    let shown = match file {
        Some(_) => levels(LevelFilter::WARN),
        None => chosen.clone(),
    };
    let stderr = lines(std::io::stderr, json).with_filter(shown);
    let file = file.map(|file| lines(file, json).with_filter(chosen));
    // Fails only if there is a subscriber already, as in a test.
    let _ = tracing_subscriber::registry()
        .with(stderr)
        .with(file)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tell_panic(panic.payload(), &place.unwrap_or_default());
    }));
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
}

/// What a panic says of itself is told as far as it is a text of the program. One that was made on the way may quote what
/// somebody wrote, and comes at debug level.
fn tell_panic(said: &dyn Any, place: &str) {
    match said.downcast_ref::<&'static str>() {
        Some(said) => tracing::error!(place, said, "panic"),
        None => tracing::error!(place, "panic; the level debug says more"),
    }
    let made = said.downcast_ref::<String>();
    tracing::debug!(place, made, backtrace = %Backtrace::capture(), "panic");
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What is logged at this level. The client library's lines come one level later than ours: at `info` it speaks of
/// stanzas. How far long transfers are is shown along with warnings.
fn levels(level: LevelFilter) -> Targets {
    let library = match level {
        LevelFilter::TRACE => LevelFilter::TRACE,
        LevelFilter::DEBUG => LevelFilter::INFO,
        other => other.min(LevelFilter::ERROR),
    };
    let progress = match level {
        LevelFilter::WARN => LevelFilter::INFO,
        other => other,
    };
    Targets::new()
        .with_default(library)
        .with_target("channel_whatsapp", level)
        .with_target(PROGRESS, progress)
}

fn lines<S, W>(writer: W, json: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Redacting { writer, json });
    match json {
        true => lines.json().boxed(),
        false => lines.boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use super::*;
    use crate::session::Transfer;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.write(line)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn how_far_a_long_transfer_is_is_shown_by_default() {
        for (total, level, shown) in [
            (
                64 << 20,
                LevelFilter::WARN,
                "INFO channel_whatsapp::progress: upload 16 of 64 MiB",
            ),
            (64 << 20, LevelFilter::ERROR, ""),
            (1 << 20, LevelFilter::WARN, ""),
        ] {
            let kept = Kept::default();
            let log = kept.clone();
            let lines = lines(move || log.clone(), false).with_filter(levels(level));
            let subscriber = tracing_subscriber::registry().with(lines);
            let guard = tracing::subscriber::set_default(subscriber);
            let transfer = Transfer::new("upload", total);
            transfer.meter().store(total / 4, Ordering::Relaxed);
            transfer.stalls(Duration::from_millis(10)).await;
            drop(guard);
            let kept = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert_eq!(kept.is_empty(), shown.is_empty(), "{kept}");
            assert!(kept.contains(shown), "{kept}");
        }
    }

    #[test]
    fn a_panic_says_nothing_of_what_it_panicked_about() {
        let written = "where the key is";
        let literal: Box<dyn Any + Send> =
            std::panic::catch_unwind(|| panic!("call +1 555 123 4567")).unwrap_err();
        let made = std::panic::catch_unwind(|| panic!("{written}")).unwrap_err();
        for (level, shown) in [(LevelFilter::INFO, false), (LevelFilter::DEBUG, true)] {
            let kept = Kept::default();
            let log = kept.clone();
            let lines = lines(move || log.clone(), false).with_filter(levels(level));
            let subscriber = tracing_subscriber::registry().with(lines);
            tracing::subscriber::with_default(subscriber, || {
                tell_panic(&*literal, "src/a.rs:1:2");
                tell_panic(&*made, "src/b.rs:3:4");
            });
            let kept = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert_eq!(kept.contains(written), shown, "{kept}");
            for told in ["src/a.rs:1:2", "call …67", "src/b.rs:3:4"] {
                assert!(kept.contains(told), "{told} in {kept}");
            }
            assert!(!kept.contains("4567"), "{kept}");
        }
    }
}

//! The log: on stderr, and in a file if there is to be one.
//!
//! The host hides stderr from its user and keeps every line of it in memory, so it is terse there by default; the file
//! is for who looks for a fault. Invariant: every line, ours and the client library's, passes [`redact`] on its way
//! out, so that nothing above debug level names a person.

mod file;
mod redact;

use std::path::PathBuf;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use file::Rotating;
use redact::Redacting;

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
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What is logged at this level. The client library's lines come one level later than ours: at `info` it speaks of
/// stanzas.
fn levels(level: LevelFilter) -> Targets {
    let library = match level {
        LevelFilter::TRACE => LevelFilter::TRACE,
        LevelFilter::DEBUG => LevelFilter::INFO,
        other => other.min(LevelFilter::ERROR),
    };
    Targets::new()
        .with_default(library)
        .with_target("channel_whatsapp", level)
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

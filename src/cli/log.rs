//! The log, on stderr. The host hides it from its user and keeps every line in memory, so it is terse by default.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Level of the log: `error`, `warn` (default), `info`, `debug`, `trace`, `off`.
const VARIABLE: &str = "CHANNEL_WHATSAPP_LOG";

/// Starts logging. The client library's lines come one level later than ours: at `info` it speaks of stanzas.
pub(super) fn start() {
    let chosen = std::env::var(VARIABLE).unwrap_or_default();
    let level = chosen.parse().unwrap_or(LevelFilter::WARN);
    let library = match level {
        LevelFilter::TRACE => LevelFilter::TRACE,
        LevelFilter::DEBUG => LevelFilter::INFO,
        other => other.min(LevelFilter::ERROR),
    };
    // They write whole addresses into their warnings and errors. A message that cannot be read is in our own log.
    let addresses = if level >= LevelFilter::DEBUG {
        level
    } else {
        LevelFilter::OFF
    };
    let levels = Targets::new()
        .with_default(library)
        .with_target("wacore_libsignal", addresses)
        .with_target("whatsapp_rust::message::receive", addresses)
        .with_target("channel_whatsapp", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Fails only if there is a subscriber already, as in a test.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(levels))
        .try_init();
}

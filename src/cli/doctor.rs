//! `channel-whatsapp doctor`: how an account stands, and what to do; with `--repair`, new databases for damaged ones.
//!
//! What it prints is made to be pasted: numbers are shortened, the home directory is `~`, nobody's words are in it.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::DoctorArgs;
use crate::account::{OwnerLock, Paths, Role};
use crate::clock::now;
use crate::session::Terminal;
use crate::store::{self, RESERVE, Store, StoreError, linked_device};

/// What was found.
#[derive(Default)]
struct Report {
    facts: Map<String, Value>,
    /// What is wrong, each with its remedy.
    problems: Vec<String>,
}

impl Report {
    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    fn problem(&mut self, sentence: impl Display) {
        self.problems.push(shortened(&sentence.to_string()));
    }
}

/// Says how the account stands; whether all is well.
pub fn run(args: &DoctorArgs) -> anyhow::Result<bool> {
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    let mut report = Report::default();
    report.fact("version", crate::VERSION);
    report.fact("store", shortened(&paths.store().display().to_string()));
    if args.repair {
        repair(&paths, &mut report)?;
    }
    permissions(&paths, &mut report);
    link(&paths, &mut report);
    disk(&paths, &mut report);
    if let Err(error) = messages(&paths, &mut report) {
        report.problem(error);
    }
    let well = report.problems.is_empty();
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = json!({"ok": well, "facts": report.facts, "problems": report.problems});
        writeln!(out, "{report}")?;
        return Ok(well);
    }
    for (name, value) in &report.facts {
        match value {
            Value::String(text) => writeln!(out, "{name}: {text}")?,
            other => writeln!(out, "{name}: {other}")?,
        }
    }
    for problem in &report.problems {
        writeln!(out, "! {problem}")?;
    }
    if well {
        writeln!(out, "all is well")?;
    }
    Ok(well)
}

fn repair(paths: &Paths, report: &mut Report) -> anyhow::Result<()> {
    let _lock = OwnerLock::take(paths, Role::Link)?;
    let stamp = now();
    for (name, database) in [
        ("channel", paths.channel()),
        ("session", paths.store().into()),
    ] {
        let done = match store::repair(&database, stamp) {
            Ok(None) => "sound, left as it was".to_owned(),
            Ok(Some(repaired)) => {
                let rows: Vec<String> = repaired
                    .rows
                    .iter()
                    .filter(|(_, rows)| *rows > 0)
                    .map(|(table, rows)| format!("{table} {rows}"))
                    .collect();
                if repaired.lost {
                    report.problem(format_args!(
                        "part of {} could not be read; the original is {}",
                        database.display(),
                        repaired.original.display()
                    ));
                }
                match repaired.usable {
                    true => format!("repaired: {}", rows.join(", ")),
                    false => "beyond repair, moved aside".to_owned(),
                }
            }
            Err(error) => {
                report.problem(&error);
                format!("left as it was: {}", error.code())
            }
        };
        report.fact(&format!("repair_{name}"), done);
    }
    Ok(())
}

fn permissions(paths: &Paths, report: &mut Report) {
    let loose = paths.loose();
    report.fact(
        "permissions",
        match &loose {
            Some(none) if none.is_empty() => "private",
            Some(_) => "loose",
            None => "unknown",
        },
    );
    for (path, mode) in loose.into_iter().flatten() {
        report.problem(format_args!(
            "{} has mode {mode:o}; `chmod go-rwx` it",
            path.display()
        ));
    }
}

fn link(paths: &Paths, report: &mut Report) {
    match linked_device(paths.store()) {
        Ok(Some(linked)) => {
            report.fact("linked", linked.phone.redacted());
            report.fact("device", linked.device);
        }
        Ok(None) => {
            report.fact("linked", "no");
            report.problem("this account is not linked; run `channel-whatsapp --link`");
        }
        Err(error) => {
            report.fact("linked", error.code());
            report.problem(error);
        }
    }
    let owner = match OwnerLock::owner(paths) {
        Ok(()) => "nobody".to_owned(),
        Err(owner) => shortened(&owner.to_string()),
    };
    report.fact("owner", owner);
}

fn disk(paths: &Paths, report: &mut Report) {
    let Some(free) = store::available(paths.store()) else {
        return;
    };
    report.fact("free_bytes", free);
    if free < RESERVE {
        report.problem(format_args!(
            "there are {} MiB left on the disk of {}; nothing is received with less than {} MiB",
            free >> 20,
            paths.store().display(),
            RESERVE >> 20
        ));
    }
}

fn messages(paths: &Paths, report: &mut Report) -> Result<(), StoreError> {
    let path = paths.channel();
    if !path.is_file() {
        report.fact("messages", "none yet");
        return Ok(());
    }
    let store = Store::open(&path).inspect_err(|error| report.fact("messages", error.code()))?;
    let terminal = store.terminal().wait()?.and_then(Terminal::recorded);
    if let Some(terminal) = terminal.filter(|terminal| terminal.holds(now())) {
        report.fact("state", terminal.kind.code());
        report.problem(terminal.sentence());
    }
    let connections = store.connections().wait()?;
    let counts = store.counts().wait()?;
    for (name, at) in [
        ("last_connect", connections.connected),
        ("last_disconnect", connections.disconnected),
        ("oldest_waiting", counts.oldest_waiting),
    ] {
        if let Some(at) = at.and_then(|at| chrono::DateTime::from_timestamp(at, 0)) {
            report.fact(name, at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        }
    }
    if let Some(reason) = connections.reason {
        report.fact("last_disconnect_reason", reason);
    }
    for (name, count) in [
        ("inbox_waiting", counts.waiting),
        ("inbox_unproven", counts.unproven),
        ("unconfirmed", counts.unconfirmed),
        ("poisoned", counts.poisoned),
        ("dropped_unproven", counts.dropped),
        ("outbox_queued", counts.queued),
        ("outbox_unknown", counts.unknown),
        ("suspect", counts.suspect),
        ("rejected", counts.rejected),
    ] {
        report.fact(name, count);
    }
    let lost = store.lost_numbers().wait()?;
    if !lost.is_empty() {
        report.fact("suspended_numbers", lost.len());
        report.problem(format_args!(
            "{} phone numbers have gone to other people, so entries for them admit nobody; `health` names them and the \
             LIDs of who has them now, and an entry with such a LID lets that person in",
            lost.len()
        ));
    }
    for (count, what) in [
        (
            counts.poisoned,
            "set aside, since three sessions ended in their turn",
        ),
        (counts.unconfirmed, "of unknown fate"),
    ] {
        if count > 0 {
            report.problem(format_args!(
                "{count} events are {what}; `channel-whatsapp redeliver` lists them and sends them again"
            ));
        }
    }
    if counts.dropped > 0 {
        report.problem(format_args!(
            "{} events fell out before anything proved them handled; let the host run more often",
            counts.dropped
        ));
    }
    Ok(())
}

/// Without the name of whoever runs this.
fn shortened(text: &str) -> String {
    match std::env::home_dir() {
        Some(home) if home != Path::new("/") && !home.as_os_str().is_empty() => {
            text.replace(&home.display().to_string(), "~")
        }
        _ => text.to_owned(),
    }
}

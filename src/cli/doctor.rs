//! `channel-whatsapp doctor`: how an account stands, and what to do; with `--repair`, new databases for damaged ones; with
//! `--connect`, whether it can connect.
//!
//! What it prints is made to be pasted: numbers are shortened, the home directory is `~`, nobody's words are in it.
//! A problem is something that the operator has to act upon, and says how; a note is something to know.

mod print;

use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::print::{Found, told};
use super::args::DoctorArgs;
use super::log::masked;
use crate::account::{InUse, OwnerLock, Paths, Role};
use crate::clock::{now, now_us};
use crate::media::depot::{Depot, DepotError, is_object};
use crate::serve::owners_word;
use crate::session::{Endpoint, Manners, Session, Silence, Terminal, restricted_until};
use crate::store::{self, Applicant, Counts, Paced, RESERVE, Store, StoreError, linked_device};

/// How long a connection may take to stand, the offline queue included.
const PATIENCE: Duration = Duration::from_secs(60);
/// What its clean end may take.
const CLOSE: Duration = Duration::from_secs(5);
/// Events that wait for so long wait for a host that does not run, seconds.
const WAITS_LONG: i64 = 3600;

/// What was found, in the order in which it is read.
#[derive(Default)]
struct Report {
    facts: Vec<(String, Value)>,
    /// What is wrong, each with its remedy.
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    fn time(&mut self, name: &str, at: Option<i64>) {
        if let Some(at) = at.and_then(|at| chrono::DateTime::from_timestamp(at, 0)) {
            self.fact(name, at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        }
    }

    fn problem(&mut self, sentence: impl Display) {
        self.problems.push(shortened(&sentence.to_string()));
    }

    fn note(&mut self, sentence: impl Display) {
        self.notes.push(shortened(&sentence.to_string()));
    }
}

/// Says how the account stands; whether all is well.
pub fn run(args: &DoctorArgs) -> anyhow::Result<bool> {
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    let mut report = Report::default();
    report.fact("version", crate::VERSION);
    report.fact(
        "system",
        format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    );
    match Endpoint::from_env() {
        Ok(endpoint) if endpoint.is_whatsapp() => {}
        Ok(endpoint) => report.fact("server", endpoint.authority()),
        Err(error) => report.problem(error),
    }
    report.fact("store", shortened(&paths.store().display().to_string()));
    if args.repair {
        repair(&paths, &mut report)?;
    }
    permissions(&paths, &mut report);
    disk(&paths, &mut report);
    let linked = link(&paths, &mut report);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let owned = runtime.block_on(owner(&paths, &mut report));
    match messages(&paths, &mut report, owned) {
        Ok(may_connect) if args.connect && linked && !owned && may_connect => {
            runtime.block_on(connect(&paths, &mut report));
        }
        Ok(_) => {}
        Err(error) => report.problem(error),
    }
    runtime.shutdown_timeout(Duration::from_millis(100));
    print(&report, args.json)?;
    Ok(report.problems.is_empty())
}

fn print(report: &Report, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let well = report.problems.is_empty();
    if json {
        let facts: Map<String, Value> = report.facts.iter().cloned().collect();
        let report =
            json!({"ok": well, "facts": facts, "problems": report.problems, "notes": report.notes});
        return writeln!(out, "{report}");
    }
    let found = Found {
        facts: &report.facts,
        problems: &report.problems,
        notes: &report.notes,
    };
    // A pipe gets each sentence in one line.
    let width = terminal_size::terminal_size_of(&out).map(|(width, _)| width.0.into());
    write!(out, "{}", told(&found, chrono::Utc::now(), width))
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

/// Whether an account is linked here.
fn link(paths: &Paths, report: &mut Report) -> bool {
    match linked_device(paths.store()) {
        Ok(Some(linked)) => {
            report.fact("linked", linked.phone.redacted());
            report.fact("device", linked.device);
            return true;
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
    false
}

/// Who has the connection, and how it stands; whether anybody has.
async fn owner(paths: &Paths, report: &mut Report) -> bool {
    let in_use = match OwnerLock::owner(paths) {
        Ok(()) => {
            report.fact("owner", "nobody");
            return false;
        }
        Err(in_use) => in_use,
    };
    let InUse::Owned { pid, .. } = in_use else {
        report.fact("owner", "unknown");
        report.problem(in_use);
        return false;
    };
    report.fact(
        "owner",
        pid.map_or("another process".to_owned(), |pid| format!("process {pid}")),
    );
    match owners_word(in_use).await {
        Ok(word) => {
            if !matches!(word.status.as_str(), "ok" | "connecting" | "in_use") {
                report.problem(word.what_to_do);
            }
            report.fact("connection", word.status);
            for transfer in word.transfers {
                report.note(transfer);
            }
        }
        Err(error) => {
            report.fact("connection", error.code.as_ref());
            report.problem(error.message);
        }
    }
    true
}

/// Makes a connection and ends it.
async fn connect(paths: &Paths, report: &mut Report) {
    let connected = async {
        let _lock = OwnerLock::take(paths, Role::OneShot).map_err(|error| error.to_string())?;
        let store = Store::open(&paths.channel()).map_err(|error| error.to_string())?;
        let manners = Manners {
            limits: store.limits().await.map_err(|error| error.to_string())?,
            ..Manners::default()
        };
        let began = Instant::now();
        let session = Session::open(paths, store, manners, None)
            .await
            .map_err(|error| error.to_string())?;
        let online = session.online_now(began + PATIENCE).await;
        let took = began.elapsed();
        session.close(Instant::now() + CLOSE).await;
        online.map(|()| took).map_err(|error| error.to_string())
    };
    match connected.await {
        Ok(took) => report.fact("connect", format!("ok, in {} ms", took.as_millis())),
        Err(error) => {
            report.fact("connect", "failed");
            report.problem(error);
        }
    }
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

/// What is in our database; whether a connection may be made.
fn messages(paths: &Paths, report: &mut Report, owned: bool) -> Result<bool, StoreError> {
    let path = paths.channel();
    if !path.is_file() {
        report.fact("messages", "none yet");
        return Ok(true);
    }
    let store = Store::open(&path).inspect_err(|error| report.fact("messages", error.code()))?;
    if let Some(((major, minor, patch), at)) = store.web_version().wait()? {
        report.fact("whatsapp_web", format!("{major}.{minor}.{patch}"));
        report.time("whatsapp_web_since", Some(at));
    }
    let terminal = store.terminal().wait()?.and_then(Terminal::recorded);
    let terminal = terminal.filter(|terminal| terminal.holds(now()));
    if let Some(terminal) = &terminal {
        report.fact("state", terminal.kind.code());
        report.problem(terminal.sentence());
        report.time("state_until", terminal.until);
    }
    let connections = store.connections().wait()?;
    report.time("last_connect", connections.connected);
    report.time("last_disconnect", connections.disconnected);
    if let Some(reason) = connections.reason {
        report.fact("last_disconnect_reason", shortened(&reason));
    }
    phone(store.phone_seen().wait()?, report);
    let counts = store.counts().wait()?;
    report.time("oldest_waiting", counts.oldest_waiting);
    let applicants = store.applicants(now()).wait()?;
    report.fact("applicants", applicants.len());
    report.time("oldest_applicant", applicants.first().map(Applicant::since));
    if let Some(what) = Applicant::told(&applicants) {
        report.note(what);
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
        ("expired", counts.expired),
    ] {
        report.fact(name, count);
    }
    for (name, count) in store.counters().wait()?.shown() {
        report.fact(name, count);
    }
    pacing(store.paced(now_us()).wait()?, report);
    troubles(&counts, owned, report);
    media(paths, &store, report)?;
    let lost = store.lost_numbers().wait()?;
    if !lost.is_empty() {
        report.fact("suspended_numbers", lost.len());
        report.problem(format_args!(
            "{} phone numbers have gone to other people, so entries for them admit nobody; `health` names them and the \
             LIDs of who has them now, and an entry with such a LID lets that person in",
            lost.len()
        ));
    }
    Ok(terminal.is_none())
}

/// Whether the object store can be used, if the configuration names one.
fn media(paths: &Paths, store: &Store, report: &mut Report) -> Result<(), StoreError> {
    let Some(url) = store.media_store().wait()?.filter(|said| is_object(said)) else {
        return Ok(());
    };
    let folder = format!("{url}/{}", store.id());
    let checked = Depot::open(&paths.media())
        .map_err(DepotError::from)
        .and_then(|depot| depot.bucket(&folder)?.check(&folder));
    match checked {
        Ok(()) => report.fact("media_store", url),
        Err(error) => {
            report.fact("media_store", error.code());
            report.problem(format_args!("media are to be kept at {url}: {error}"));
        }
    }
    Ok(())
}

fn phone(seen: Option<i64>, report: &mut Report) {
    report.time("phone_last_seen", seen);
    let Some(silence) = seen.map(|at| Silence::new(at, now())) else {
        return;
    };
    report.fact("phone_silent_days", silence.days);
    report.fact("unlink_in_days", silence.left);
    if let Some(warning) = silence.warning() {
        report.problem(warning);
    }
}

fn pacing(paced: Paced, report: &mut Report) {
    report.fact("outbox_paced", paced.waiting);
    report.fact("strangers_left", paced.strangers_left);
    if let Some(restricted) = paced.restricted {
        report.time("new_chats_restricted_until", Some(restricted.until));
        report.problem(restricted_until(&restricted));
    }
    if paced.waiting > 0 {
        report.note(format_args!(
            "{} messages wait for their turn within the limits of `pacing`",
            paced.waiting
        ));
    }
}

fn troubles(counts: &Counts, owned: bool, report: &mut Report) {
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
    let waits_long = counts
        .oldest_waiting
        .is_some_and(|at| now() - at > WAITS_LONG);
    if waits_long && !owned {
        report.problem(format_args!(
            "{} events wait, some for more than an hour, and nothing receives; start the host, or let it poll",
            counts.waiting
        ));
    }
    if counts.queued > 0 && !owned {
        report.note(format_args!(
            "{} messages wait to be sent; the next connection sends them",
            counts.queued
        ));
    }
    for (count, what) in [
        (
            counts.suspect,
            "were acknowledged, though perhaps no device of the recipient has them: ask the recipient",
        ),
        (
            counts.unknown,
            "were handed over and never acknowledged: they may have arrived",
        ),
        (
            counts.rejected,
            "were refused; the answers to their calls said why",
        ),
        (
            counts.expired,
            "were given up, since neither a connection nor their turn came within `queue_ttl_secs`",
        ),
    ] {
        if count > 0 {
            report.note(format_args!("{count} outgoing messages {what}"));
        }
    }
}

/// Without the name of whoever runs this, and without persons, who may be in a path or in what WhatsApp said.
fn shortened(text: &str) -> String {
    let text = match std::env::home_dir() {
        Some(home) if home != Path::new("/") && !home.as_os_str().is_empty() => {
            text.replace(&home.display().to_string(), "~")
        }
        _ => text.to_owned(),
    };
    masked(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_names_nobody() {
        let mut report = Report::default();
        report.problem("banned (until 2026-11-21T18:00:00Z) [15551234567 wrote too much]");
        report.note("…67@s.whatsapp.net has …01@lid; look into /d/whatsapp/15551234567/store.db");
        let expected = "banned (until 2026-11-21T18:00:00Z) […67 wrote too much]";
        assert_eq!(report.problems, [expected]);
        let expected = "…67@s.whatsapp.net has …01@lid; look into /d/whatsapp/…67/store.db";
        assert_eq!(report.notes, [expected]);
    }
}

//! `channel-whatsapp unlink`: logs the device out at WhatsApp, then removes what was kept for it.
//!
//! Invariant: nothing is removed before WhatsApp has taken the device off its list, unless the operator said that it
//! need not hear of it. A device that is only forgotten here goes on being encrypted for by everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::args::{UnlinkArgs, usage};
use crate::account::{OwnerLock, Paths, Role};
use crate::clock::now;
use crate::media::depot::{Depot, folder, is_object};
use crate::session::{self, SessionError, Terminal, TerminalKind};
use crate::store::{Linked, Remnant, Store, linked_device};

/// Connecting, logging in and one question, on a bad line.
const PATIENCE: Duration = Duration::from_secs(45);

/// Said when the database cannot be read.
const UNKNOWN: &str = "the database is damaged, so it is not known whether files lie in an object store; \
                       if media.store was one, look there";

/// Unlinks the account; false if the operator would rather not.
pub(super) fn run(args: &UnlinkArgs) -> anyhow::Result<bool> {
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    let may_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !args.yes && !may_ask {
        return Err(usage(
            "unlink",
            "there is no terminal to ask on; say --yes if you mean it",
        )
        .into());
    }
    if !paths.exists() && !paths.channel().is_file() {
        return Err(SessionError::NotLinked).context("not_linked");
    }
    let _lock = OwnerLock::take(&paths, Role::Unlink)
        .map_err(|error| anyhow::anyhow!("{}: {error}", error.code()))?;
    // A database that is damaged names nobody, and can be removed all the same.
    let linked = match linked_device(paths.store()) {
        Err(error) if !args.local_only => return Err(not_told(error.code(), &error)),
        found => found.ok().flatten(),
    };
    if !args.yes && !asked(linked.as_ref(), args, &paths)? {
        writeln!(std::io::stderr(), "left as it was")?;
        return Ok(false);
    }
    let said = match &linked {
        Some(_) if args.local_only => {
            "WhatsApp was not told; remove the device on the phone too (WhatsApp › Linked devices)"
        }
        Some(_) => log_out(&paths)?,
        None => "no device was linked",
    };
    let kept = match args.keep_access {
        true => keep_access(&paths)?,
        false => None,
    };
    let left = empty_object_store(&paths);
    let removed = paths.remove()?;
    if let Some(kept) = &kept {
        std::fs::rename(kept, paths.channel()).with_context(|| {
            format!(
                "who was let in is in {}, and could not be moved",
                kept.display()
            )
        })?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{said}")?;
    for path in removed {
        writeln!(out, "removed {}", path.display())?;
    }
    if let Err(left) = left {
        writeln!(out, "{left}")?;
    }
    if kept.is_some() {
        writeln!(out, "kept who was let in, in {}", paths.channel().display())?;
    }
    Ok(true)
}

/// Whether the operator means it.
fn asked(linked: Option<&Linked>, args: &UnlinkArgs, paths: &Paths) -> anyhow::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    let who = linked.map_or("no device".to_owned(), |linked| {
        format!("device {} of {}", linked.device, linked.phone)
    });
    let how = match args.local_only {
        true => "without telling WhatsApp",
        false => "after logging it out at WhatsApp",
    };
    let directory = paths.store().parent().unwrap_or(Path::new("/"));
    write!(
        stderr,
        "This removes {who}, its messages and its media from {}, {how}. Type yes to go on: ",
        directory.display()
    )?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}

/// Removes what lies in an object store for this account, of which nobody knows once the database is gone.
///
/// # Errors
/// Where something is left, for people.
fn empty_object_store(paths: &Paths) -> Result<(), String> {
    if !paths.channel().is_file() {
        return Ok(());
    }
    let Ok(store) = Store::open(&paths.channel()) else {
        // It is damaged, and what it knows is lost.
        return Err(UNKNOWN.to_owned());
    };
    let unknown = |_| UNKNOWN.to_owned();
    let places = store.places().wait().map_err(unknown)?;
    let remains = store.remains().wait().map_err(unknown)?;
    let objects = places.into_iter().filter(|place| is_object(place));
    let objects: Vec<Remnant> = objects.map(Remnant::object).chain(remains).collect();
    if objects.is_empty() {
        return Ok(());
    }
    let depot = Depot::open(&paths.media());
    // By folder: one that fails is not asked again, and the others are.
    let mut left: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for what in &objects {
        let folder = folder(&what.place);
        let removed = !left.contains_key(folder)
            && depot.as_ref().is_ok_and(|depot| depot.remove(what).is_ok());
        if !removed {
            left.entry(folder).or_default().insert(&what.place);
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let say = |(folder, files): (&str, BTreeSet<&str>)| {
        let files = files.len();
        format!(
            "{files} files are left in {folder}, which could not be removed; remove that folder"
        )
    };
    Err(left.into_iter().map(say).collect::<Vec<_>>().join("\n"))
}

/// Puts who was let in into a database of their own, beside the one that is removed next, so that they are never in
/// none; where it is, if there is anybody.
fn keep_access(paths: &Paths) -> anyhow::Result<Option<PathBuf>> {
    if !paths.channel().is_file() {
        return Ok(None);
    }
    let from = Store::open(&paths.channel())?;
    let approvals = from.approvals().wait()?;
    let passed_on = from.passed_on().wait()?;
    drop(from);
    if approvals.is_empty() {
        return Ok(None);
    }
    let mut kept = paths.channel().into_os_string();
    kept.push(".kept");
    let kept = PathBuf::from(kept);
    let store = Store::open(&kept)?;
    store.take_passed_on(passed_on).wait()?;
    store.take_approvals(approvals).wait()?;
    // Closed, it is one file.
    drop(store);
    Ok(Some(kept))
}

/// Has WhatsApp take the device off its list, unless it is known to have done so.
fn log_out(paths: &Paths) -> anyhow::Result<&'static str> {
    let told = || -> Result<&'static str, SessionError> {
        let store = Store::open(&paths.channel())?;
        let terminal = store.terminal().wait()?.and_then(Terminal::recorded);
        match terminal.filter(|terminal| terminal.holds(now())) {
            Some(ended) if ended.kind == TerminalKind::LoggedOut => {
                return Ok("WhatsApp had logged this device out before");
            }
            Some(ended) => return Err(SessionError::Ended(ended)),
            None => {}
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| SessionError::Client(error.to_string()))?;
        let deadline = runtime.block_on(async { Instant::now() + PATIENCE });
        runtime.block_on(session::log_out(paths, &store, deadline))?;
        Ok("this device is logged out at WhatsApp")
    };
    told().map_err(|error| not_told(error.code(), &error))
}

fn not_told(code: &str, error: &dyn std::error::Error) -> anyhow::Error {
    anyhow::anyhow!(
        "{code}: {error}. WhatsApp was not told, and nothing was removed; try again, or remove this device on the phone \
         (WhatsApp › Linked devices) and run `channel-whatsapp unlink --local-only`"
    )
}

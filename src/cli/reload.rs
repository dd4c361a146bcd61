//! `channel-whatsapp reload`: other settings for a running session.
//!
//! Invariant: what is wrong is found before anything is touched, so the session has either the old settings or all of
//! the new ones.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::args::ReloadArgs;
use crate::access::Policy;
use crate::account::Paths;
use crate::config::Config;
use crate::serve;

/// Applies the file to whoever is receiving.
pub fn run(args: &ReloadArgs) -> anyhow::Result<bool> {
    let mut given = read(&args.config)?;
    name_account(&mut given, args.account.as_deref())?;
    let parsed = Config::parse(&given)?;
    let mut err = std::io::stderr();
    for key in &parsed.unknown_keys {
        writeln!(err, "unknown key, ignored: {key}")?;
    }
    for warning in &parsed.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    Policy::new(&parsed.config).ingress()?;
    let config = &parsed.config;
    let paths = Paths::resolve(&config.account, config.sqlite_store_path.as_deref())?;
    let applied = serve::reload(&paths, given)
        .map_err(|error| anyhow::anyhow!("{}: {}", error.code, error.message))?;
    let mut out = std::io::stdout();
    if args.json {
        let told = json!({"changed": applied.changed, "at_next_start": applied.at_next_start});
        writeln!(out, "{told}")?;
        return Ok(true);
    }
    match applied.changed.is_empty() {
        true => writeln!(out, "applied; nothing differs from before")?,
        false => writeln!(out, "applied; changed: {}", applied.changed.join(", "))?,
    }
    if !applied.at_next_start.is_empty() {
        let keys = applied.at_next_start.join(", ");
        writeln!(
            out,
            "these take effect when the process starts anew: {keys}"
        )?;
    }
    Ok(true)
}

/// JSON or TOML, by the file's name, else by what it is.
fn read(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let json = serde_json::from_str(&text);
    match (extension, json) {
        (_, Ok(value)) => Ok(value),
        (Some("json"), Err(error)) => Err(error).with_context(|| format!("{shown} is no JSON")),
        _ => toml::from_str(&text).with_context(|| format!("{shown} is no TOML")),
    }
}

/// The account of the command line is that of the file; two would be two meanings.
fn name_account(given: &mut Value, account: Option<&str>) -> anyhow::Result<()> {
    let (Some(account), Some(map)) = (account, given.as_object_mut()) else {
        return Ok(());
    };
    match map.get("account").and_then(Value::as_str) {
        Some(named) if named != account => {
            bail!("the file is for account {named}, and --account says {account}; give one of them")
        }
        _ => {
            map.insert("account".to_owned(), account.into());
            Ok(())
        }
    }
}

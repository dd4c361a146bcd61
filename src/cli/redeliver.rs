//! `channel-whatsapp redeliver`: events that are not sent again by themselves.
//!
//! It changes the database alone, beside whoever owns the connection; a process that is receiving looks for such
//! changes every second.

use std::io::Write;

use super::args::RedeliverArgs;
use crate::account::Paths;
use crate::store::Store;

/// Most events that are listed.
const LISTED: u32 = 1000;

/// Sends events again, or lists which there are; whether all that were named could be.
pub fn run(args: &RedeliverArgs) -> anyhow::Result<bool> {
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    if !paths.channel().is_file() {
        anyhow::bail!("nothing was ever received by this account");
    }
    let store = Store::open(&paths.channel())?;
    let mut out = std::io::stdout().lock();
    if args.events.is_empty() {
        for event in store.left_over(LISTED).wait()? {
            let why = match event.poisoned {
                true => "poisoned",
                false => "unconfirmed",
            };
            let at = chrono::DateTime::from_timestamp(event.timestamp, 0).unwrap_or_default();
            let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            writeln!(out, "{at}\t{why}\t{}", event.event_id)?;
        }
        return Ok(true);
    }
    let mut all = true;
    for event in &args.events {
        if store.redeliver(event.clone()).wait()? {
            writeln!(out, "{event}: will be sent again")?;
        } else {
            all = false;
            writeln!(
                std::io::stderr(),
                "{event}: neither set aside nor unconfirmed; run `channel-whatsapp redeliver` for those that are"
            )?;
        }
    }
    Ok(all)
}

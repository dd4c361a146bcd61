//! `channel-whatsapp explain`: what became of a message, and why.

use std::io::Write;

use serde_json::{Value, json};

use super::args::ExplainArgs;
use crate::account::Paths;
use crate::identity::Address;
use crate::store::{Explained, Store};

/// Prints what is known; whether anything is.
pub fn run(args: &ExplainArgs) -> anyhow::Result<bool> {
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    if !paths.channel().is_file() {
        anyhow::bail!("nothing was ever received by this account");
    }
    let found = Store::open(&paths.channel())?
        .explain(args.id.clone())
        .wait()?;
    if found.is_empty() {
        anyhow::bail!(
            "no message with this id is known: it never arrived here, or it is older than what is kept (30 days)"
        );
    }
    let mut out = std::io::stdout();
    if args.json {
        let messages: Vec<Value> = found.iter().map(|one| as_json(one, args.full)).collect();
        writeln!(out, "{}", json!({"messages": messages}))?;
        return Ok(true);
    }
    for one in &found {
        print(&mut out, one, args.full)?;
    }
    Ok(true)
}

fn as_json(one: &Explained, full: bool) -> Value {
    let shown = |address: &Address| called(address, full);
    let trace = one.trace.as_ref().map(|trace| {
        json!({
            "judged_at": at(trace.at),
            "identity": trace.forms.iter().map(shown).collect::<Vec<_>>(),
            "gates": trace.gates,
        })
    });
    json!({
        "message_id": one.message_id,
        "event_id": one.event_id.as_ref().filter(|_| full),
        "chat": shown(&one.chat),
        "sender": shown(&one.sender),
        "received_at": at(one.at),
        "outcome": one.outcome,
        "rule": one.rule,
        "trace": trace,
    })
}

fn print(out: &mut impl Write, one: &Explained, full: bool) -> std::io::Result<()> {
    let shown = |address: &Address| called(address, full);
    let (chat, sender) = (shown(&one.chat), shown(&one.sender));
    writeln!(
        out,
        "message {} of {sender} in {chat}, received {}",
        one.message_id,
        at(one.at)
    )?;
    if let Some(event) = one.event_id.as_ref().filter(|_| full) {
        writeln!(out, "  event     {event}")?;
    }
    if let Some(trace) = &one.trace {
        let forms: Vec<String> = trace.forms.iter().map(shown).collect();
        writeln!(out, "  judged    {}", at(trace.at))?;
        if !forms.is_empty() {
            writeln!(out, "  identity  {}", forms.join(", "))?;
        }
        for gate in &trace.gates {
            writeln!(out, "  gate      {}: {}", gate.gate, gate.said)?;
        }
    }
    let rule = match (&one.rule, one.outcome) {
        (Some(rule), _) if !rule.is_empty() => format!(" by {rule}"),
        (_, "waiting") => ": no process that receives for the host has judged it yet".to_owned(),
        _ => String::new(),
    };
    writeln!(out, "  verdict   {}{rule}", one.outcome)
}

fn called(address: &Address, full: bool) -> String {
    match full {
        true => address.to_string(),
        false => address.redacted(),
    }
}

fn at(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

//! `channel-whatsapp access`: whom the operator lets in.
//!
//! It changes the database alone, beside whoever owns the connection; a process that is receiving looks for such
//! changes every second.

use std::io::Write;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::args::{AccessArgs, AccessAsked, AccessDecision, AccessWhat, Which};
use crate::account::Paths;
use crate::clock::now;
use crate::identity::{Address, parse_target};
use crate::store::{Applicant, Approval, Decided, Revoked, Store};

/// Shows the lists or decides; whether what was to be decided could be.
pub fn run(args: &AccessArgs) -> anyhow::Result<bool> {
    match &args.what {
        AccessWhat::List(asked) => list(asked),
        AccessWhat::Pending(asked) => pending(asked),
        AccessWhat::Approve(decision) => approve(decision),
        AccessWhat::Deny(decision) => {
            let store = open(&decision.asked.which)?;
            let code = code(&decision.who).context(NO_CODE)?;
            decided(decision, "denied", store.deny(code, now()).wait()?)
        }
        AccessWhat::Revoke(decision) => revoke(decision),
    }
}

const NO_CODE: &str =
    "a code has 8 letters and digits; `channel-whatsapp access pending` lists who waits";

fn open(which: &Which) -> anyhow::Result<Store> {
    let paths = Paths::resolve(&which.account, which.sqlite_store_path.as_deref())?;
    if !paths.channel().is_file() {
        bail!("nothing was ever received by this account");
    }
    Ok(Store::open(&paths.channel())?)
}

fn list(asked: &AccessAsked) -> anyhow::Result<bool> {
    let approvals = open(&asked.which)?.approvals().wait()?;
    let mut out = std::io::stdout();
    if asked.json {
        let approvals: Vec<Value> = approvals.iter().map(approval).collect();
        writeln!(out, "{}", json!({"approvals": approvals}))?;
        return Ok(true);
    }
    if approvals.is_empty() {
        writeln!(
            out,
            "nobody was let in; who is in the lists of the configuration may write all the same"
        )?;
    }
    for Approval {
        id,
        addresses,
        name,
        since,
    } in &approvals
    {
        let name = name.as_deref().map(shown).unwrap_or_default();
        let others = addresses.iter().filter(|address| *address != id);
        let others: Vec<String> = others.map(called).collect();
        writeln!(
            out,
            "{}  {name}  since {}  {}",
            called(id),
            at(*since),
            others.join(" ")
        )?;
    }
    Ok(true)
}

fn approval(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "addresses": approval.addresses,
        "name": approval.name,
        "since": at(approval.since),
    })
}

fn pending(asked: &AccessAsked) -> anyhow::Result<bool> {
    let store = open(&asked.which)?;
    let applicants = store.applicants(now()).wait()?;
    let suspended = store.lost_numbers().wait()?;
    let mut out = std::io::stdout();
    if asked.json {
        let applicants: Vec<Value> = applicants.iter().map(applicant).collect();
        let suspended = suspended.iter();
        let suspended: Vec<Value> = suspended
            .map(|(phone, holder)| json!({"number": phone, "holder": holder}))
            .collect();
        writeln!(
            out,
            "{}",
            json!({"pending": applicants, "suspended_numbers": suspended})
        )?;
        return Ok(true);
    }
    if applicants.is_empty() && suspended.is_empty() {
        writeln!(out, "nobody waits")?;
    }
    for Applicant {
        code,
        id,
        phone,
        name,
        expires,
        messages,
    } in &applicants
    {
        writeln!(
            out,
            "{code}  {}  {}  {messages} message(s)  until {}",
            called(phone.as_ref().unwrap_or(id)),
            name.as_deref().map(shown).unwrap_or_default(),
            at(*expires)
        )?;
    }
    for (phone, holder) in &suspended {
        writeln!(
            out,
            "{phone} is now {holder}'s, so entries for it admit nobody; to let that one in: access approve {phone}",
            phone = called(phone)
        )?;
    }
    Ok(true)
}

fn applicant(applicant: &Applicant) -> Value {
    json!({
        "code": applicant.code,
        "id": applicant.id,
        "phone": applicant.phone,
        "name": applicant.name,
        "expires": at(applicant.expires),
        "messages": applicant.messages,
    })
}

fn approve(decision: &AccessDecision) -> anyhow::Result<bool> {
    let store = open(&decision.asked.which)?;
    if let Some(code) = code(&decision.who) {
        return decided(decision, "approved", store.approve(code, now()).wait()?);
    }
    let who = person(decision).context(NO_CODE)?;
    let Some(id) = store.approve_holder(who, now()).wait()? else {
        bail!(
            "{} is no number that has gone to somebody else; a stranger is let in by their code, and anybody by \
             allowed_sender_ids",
            decision.who
        );
    };
    let done = Decided::Done {
        id,
        name: None,
        messages: 0,
    };
    decided(decision, "approved", done)
}

fn revoke(decision: &AccessDecision) -> anyhow::Result<bool> {
    let store = open(&decision.asked.which)?;
    let who = person(decision)?;
    let id = match store.revoke(who).wait()? {
        Revoked::Done(id) => id,
        Revoked::Nobody => bail!(
            "nobody was let in as {}; `channel-whatsapp access list` says who was",
            decision.who
        ),
        Revoked::Ambiguous(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            bail!(
                "{} was one person's number and is another's now, and both were let in; say which one is meant: {}",
                decision.who,
                ids.join(" or ")
            )
        }
    };
    let done = Decided::Done {
        id,
        name: None,
        messages: 0,
    };
    decided(decision, "revoked", done)
}

fn person(decision: &AccessDecision) -> anyhow::Result<Address> {
    let who = parse_target(&decision.who, &decision.asked.which.account)?;
    if !who.is_user() {
        bail!(
            "{} is no person; groups are admitted by allowed_conversation_ids",
            decision.who
        );
    }
    Ok(who)
}

/// Says what was decided.
fn decided(decision: &AccessDecision, how: &str, decided: Decided) -> anyhow::Result<bool> {
    let (id, name, messages) = match decided {
        Decided::Done { id, name, messages } => (id, name, messages),
        Decided::Unknown => bail!(
            "nobody waits with this code; it may be more than an hour old, and `channel-whatsapp access pending` lists \
             those that are good"
        ),
        Decided::TooMany(until) => {
            bail!(
                "too many wrong codes were tried; codes are taken again after {}",
                at(until)
            )
        }
    };
    let mut out = std::io::stdout();
    if decision.asked.json {
        writeln!(
            out,
            "{}",
            json!({how: id, "name": name, "messages": messages})
        )?;
        return Ok(true);
    }
    let name = name
        .map(|name| format!(" ({})", shown(&name)))
        .unwrap_or_default();
    let messages = match (how, messages) {
        (_, 0) => String::new(),
        ("denied", n) => format!("; {n} message(s) erased"),
        (_, n) => format!("; {n} message(s) go to the agent"),
    };
    writeln!(out, "{how}: {}{name}{messages}", called(&id))?;
    Ok(true)
}

/// A code as people type it; none if it is something else.
fn code(text: &str) -> Option<String> {
    let code: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let typed = code.len() == 8 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    typed.then_some(code)
}

/// A phone number as people write it, or the address.
fn called(address: &Address) -> String {
    match address.phone() {
        Some(phone) => phone.to_string(),
        None => address.to_string(),
    }
}

/// A name is its owner's choice, and a terminal obeys control characters, those for the direction of writing too.
fn shown(name: &str) -> String {
    let obeyed = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().filter(|c| !obeyed(c)).collect()
}

fn at(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::{code, shown};

    #[test]
    fn a_name_commands_no_terminal() {
        let name = "A\u{1b}[2Jnn \u{202e}Bob\u{202c}\u{2066}\u{2069}\u{200e}\u{200f} Ωé";
        assert_eq!(shown(name), "A[2Jnn Bob Ωé");
    }

    #[test]
    fn codes_as_people_type_them() {
        for text in ["ABCD2345", "abcd-2345", " ABCD 2345"] {
            assert_eq!(code(text).as_deref(), Some("ABCD2345"), "{text}");
        }
        for text in [
            "ABCD234",
            "ABCD23456",
            "+15551234",
            "15551230000@s.whatsapp.net",
            "ABCD_345",
        ] {
            assert_eq!(code(text), None, "{text}");
        }
    }
}

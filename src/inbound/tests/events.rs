use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use wacore::types::call::CallAction;
use wacore::types::events::*;
use wacore::types::message::MessageSource;
use wacore::types::presence::ReceiptType;

use super::happenings::{all, at, call, jid, receipt, source, undecryptable};
use super::table::document;
use super::*;
use crate::config::Config;
use crate::inbound::events::{Decision, EVENTS, notices};

fn decision(event: &Event) -> Decision {
    let row = EVENTS.iter().find(|(kind, ..)| *kind == event.kind());
    row.unwrap().1
}

#[test]
fn an_event_is_of_a_type_that_the_table_names_and_the_configuration_knows() {
    let mut seen = BTreeSet::new();
    for event in all() {
        let Decision::OptIn { types, .. } = decision(&event) else {
            panic!("{event:?} is not offered");
        };
        seen.insert(format!("{:?}", event.kind()));
        let notices = notices(&event, NOW * 1000);
        assert!(!notices.is_empty(), "{event:?}");
        for notice in notices {
            let event_type = &notice.draft.event_type;
            assert!(types.split(", ").any(|t| t == event_type), "{event_type}");
            assert!(!notice.draft.content.is_empty(), "{event_type}");
        }
    }
    for (kind, decision, _) in EVENTS {
        let Decision::OptIn { family, types } = decision else {
            continue;
        };
        assert!(
            seen.contains(&format!("{kind:?}")),
            "{kind:?} has no sample"
        );
        for event_type in types.split(", ") {
            // A group's picture is a change of the group.
            let family = match event_type.split_once('.') {
                Some(("group", _)) => "group",
                _ => family,
            };
            let only = |family: &str| Config::parse(&json!({"events": [family]})).unwrap().config;
            assert!(only(family).emits(event_type), "{event_type}");
            assert!(!only("message").emits(event_type), "{event_type}");
        }
    }
}

#[test]
fn what_is_said_of_each() {
    let told: Vec<_> = all().iter().flat_map(|e| notices(e, NOW * 1000)).collect();
    let ids: BTreeSet<String> = told
        .iter()
        // The samples of group changes share one notification.
        .filter(|notice| !notice.id.starts_with("group:N1"))
        .map(|notice| notice.id.clone())
        .collect();
    let others = told.iter().filter(|n| !n.id.starts_with("group:N1"));
    assert_eq!(ids.len(), others.count());
    insta::assert_json_snapshot!("notices", told);
}

#[test]
fn what_is_not_told() {
    let own = MessageSource {
        is_from_me: true,
        ..source()
    };
    let own_receipt = Receipt::builder()
        .source(own)
        .message_ids(vec!["M1".to_owned()])
        .timestamp(at())
        .r#type(ReceiptType::Read)
        .offline(false)
        .build();
    let ratchet = CallAction::PreAccept {
        call_id: "C1".to_owned(),
        call_creator: jid(ANN),
        audio: Vec::new(),
    };
    for event in [
        receipt(ReceiptType::Retry),
        receipt(ReceiptType::ReadSelf),
        Event::Receipt(own_receipt),
        call(ratchet),
        undecryptable(DecryptFailMode::Hide),
        Event::OfflineSyncCompleted(OfflineSyncCompleted::builder().count(1).build()),
    ] {
        assert_eq!(notices(&event, NOW * 1000), [], "{event:?}");
    }
}

#[test]
fn every_kind_of_event_of_the_library_has_one_row() {
    let library = kinds_of_the_library();
    assert!(library.len() > 50, "{library:?}");
    let mut rows: Vec<String> = EVENTS
        .iter()
        .map(|(kind, ..)| format!("{kind:?}"))
        .collect();
    rows.sort();
    assert_eq!(rows, library);
}

/// The variants of the library's `EventKind`, sorted, from its source. The type is `non_exhaustive`, so the compiler
/// does not say when it gets one more.
fn kinds_of_the_library() -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let run = |command: &mut Command| {
        let out = command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    };
    let version = run(Command::new("rustc").arg("-vV"));
    let host = version.lines().find_map(|l| l.strip_prefix("host: "));
    let metadata = run(Command::new(cargo)
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(host.unwrap()));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let wacore = packages.iter().find(|p| p["name"] == "wacore").unwrap();
    let manifest = std::path::Path::new(wacore["manifest_path"].as_str().unwrap());
    let source = manifest.with_file_name("src").join("types/events.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let (_, body) = source.split_once("pub enum EventKind {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim);
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    let mut names: Vec<String> = names
        .map(|name| name.trim_end_matches(',').to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_documentation_says_what_becomes_of_each_event() {
    let mut text = String::from(
        "## Every event of the library\n\n| event | what it is | what becomes of it |\n|---|---|---|\n",
    );
    for (kind, decision, note) in EVENTS {
        let becomes = match decision {
            Decision::Message => "events of messages".to_owned(),
            Decision::OptIn { types, .. } => {
                let types: Vec<String> = types.split(", ").map(|t| format!("`{t}`")).collect();
                types.join(", ")
            }
            Decision::Internal => "acted upon, not told".to_owned(),
            Decision::Dropped => "not told".to_owned(),
        };
        text.push_str(&format!("| `{kind:?}` | {note} | {becomes} |\n"));
    }
    text.push_str("\n## A sample of each type\n");
    let mut shown = BTreeSet::new();
    for notice in all().iter().flat_map(|e| notices(e, NOW * 1000)) {
        if shown.insert(notice.draft.event_type.clone()) {
            let sample = json!({
                "event_id": format!("whatsapp:<chat>:<sender>:{}", notice.id),
                "event_type": notice.draft.event_type,
                "conversation": notice.chat,
                "actor": notice.actor,
                "content": notice.draft.content,
                "target_message_id": notice.draft.target_message_id,
                "metadata": notice.draft.metadata,
            });
            text.push_str(&format!("\n    {sample}\n"));
        }
    }
    document("events.md", &text);
}

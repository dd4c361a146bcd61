use std::collections::BTreeSet;

use proptest::prelude::*;
use wa::message::protocol_message::Type;
use waproto::buffa::Enumeration;
use waproto::codec::{message_decode, message_to_vec};

use super::*;
use crate::inbound::kinds::{self, Fate, KINDS};
use crate::inbound::{protocol, unwrap};

/// What a test writes of a document stands below this line.
const WRITTEN: &str =
    "<!-- Written by a test from here on: UPDATE_DOCS=1 cargo test --lib inbound -->\n\n";

/// Compares the lower part of a document with what the code says; `UPDATE_DOCS=1` writes it.
pub(super) fn document(name: &str, text: &str) {
    let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(&path).unwrap();
    let (head, written) = document.split_once(WRITTEN).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{WRITTEN}{text}")).unwrap();
        return;
    }
    assert!(
        written == text,
        "docs/{name} is not what the code says; UPDATE_DOCS=1 rewrites it"
    );
}

fn row(kind: &kinds::Kind) -> String {
    let code = |types: &str| {
        let types: Vec<String> = types.split(", ").map(|t| format!("`{t}`")).collect();
        types.join(", ")
    };
    let becomes = match kind.fate {
        Fate::Told(types, _) | Fate::Outer(types, _) => code(types),
        Fate::Named => "`message.received`, a line that names the kind".to_owned(),
        Fate::Wrapper(_, "") => "the message inside".to_owned(),
        Fate::Wrapper(_, mark) => format!("the message inside, with `{mark}`"),
        Fate::Internal => "nothing".to_owned(),
        Fate::Aside => "nothing of its own".to_owned(),
    };
    format!("| `{}` | {} | {becomes} |\n", kind.field, kind.note)
}

#[test]
fn the_documentation_says_what_becomes_of_each_kind() {
    let mut text = String::from(
        "## Every kind\n\n| field of `Message` | what it is | what becomes of it |\n|---|---|---|\n",
    );
    for kind in KINDS {
        text.push_str(&row(kind));
    }
    text.push_str("\n## Types of `protocol_message`\n\n| type | what becomes of it |\n|---|---|\n");
    for r#type in Type::values() {
        let becomes = match protocol::fate(*r#type) {
            protocol::Fate::Edit => "`message.edited`".to_owned(),
            protocol::Fate::Revoke => "`message.revoked`".to_owned(),
            protocol::Fate::Line(line) => format!("`message.received`: {line}"),
            protocol::Fate::Internal(reason) => format!("nothing: {reason}"),
        };
        text.push_str(&format!("| `{}` | {becomes} |\n", r#type.proto_name()));
    }
    document("messages.md", &text);
}

#[test]
fn every_kind_that_is_told_has_a_sample_of_a_type_that_the_table_names() {
    let mut seen = BTreeSet::new();
    for (name, message) in samples() {
        let Some(kind) = kinds::of(unwrap::peel(&message).0) else {
            continue;
        };
        seen.insert(kind.field);
        let event_type = draft(&message).event_type;
        if let Fate::Told(types, _) | Fate::Outer(types, _) = kind.fate {
            // A better copy of a picture counts as an edit of the first.
            assert!(
                types.split(", ").any(|t| t == event_type) || name.starts_with("the same picture"),
                "{name}: {event_type}"
            );
        }
    }
    // One reader serves all versions of polls and of their results.
    let versions = ["poll_creation_message", "poll_result_snapshot_message"];
    for kind in KINDS {
        let told = matches!(kind.fate, Fate::Told(..) | Fate::Outer(..));
        let version = versions.iter().any(|first| kind.field.starts_with(first));
        assert!(
            !told || version || seen.contains(kind.field),
            "{}",
            kind.field
        );
    }
}

/// Bytes that are messages more often than not: several samples, one after the other, with some bytes changed.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let encoded: Vec<Vec<u8>> = samples().iter().map(|(_, m)| message_to_vec(m)).collect();
    let some = proptest::collection::vec(proptest::sample::select(encoded), 1..4);
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    (some, changes).prop_map(|(some, changes)| {
        let mut bytes = some.concat();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_message_makes_it_panic(bytes in bytes()) {
        if let Ok(message) = message_decode(&bytes)
            && let Classified::Draft(draft) = classify(&message, &info())
        {
            prop_assert!(!draft.content.trim().is_empty());
            prop_assert!(draft.event_type.contains('.'));
        }
    }

    #[test]
    fn no_contact_card_makes_it_panic(
        lines in proptest::collection::vec("(BEGIN:VCARD|END:VCARD|VERSION:3.0|(item1\\.)?TEL(;waid=\\PC{0,4})?:\\PC{0,8}|N;ENCODING=QUOTED-PRINTABLE:=\\PC{0,6}|PHOTO;ENCODING=b:\\PC{0,6}|BDAY:\\PC{0,9}|[A-Z]{1,6}[;:=\",]\\PC{0,9}| \\PC{0,5})", 0..12)
    ) {
        let vcard = format!("BEGIN:VCARD\n{}", lines.join("\n"));
        let card = fields!(m::ContactMessage { vcard: Some(vcard) });
        prop_assert!(draft(&message!(contact_message: card)).content.starts_with("Contact"));
    }
}

//! To whom the agent may write: every policy against every form of identity.

use super::*;

#[test]
fn an_approval_opens_the_way_back_and_a_reader_has_none() {
    for policy in ["deny", "allowlist", "pairing"] {
        for (target, approved, contact, allowed) in [
            (&[ANNA][..], false, None, false),
            (&[ANNA], true, None, true),
            (&[ANNA, ANNA_LID], true, Some("read"), false),
            (&[ANNA], true, Some("read"), true),
            (&[ANNA_LID], false, Some("write"), true),
            (&[ANNA_LID], false, Some("admin"), true),
            (&[GROUP], true, None, false),
            (&["1400000000@broadcast"], true, None, false),
            (&[], true, None, false),
        ] {
            let contacts =
                contact.map(|permission| json!([{"id": ANNA_LID, "permission": permission}]));
            let value = json!({"dm_policy": policy, "contacts": contacts});
            let config = config(&value);
            let outcome = Policy::new(&config).outbound(&addresses(target), approved);
            assert_eq!(outcome.is_ok(), allowed, "{value} {target:?} {approved}");
        }
    }
    // A list of its own is not widened by approvals, and reaches even readers.
    let listed = config(
        &json!({"outbound_recipient_ids": [ANNA], "contacts": [{"id": ANNA, "permission": "read"}]}),
    );
    let policy = Policy::new(&listed);
    assert_eq!(policy.outbound(&addresses(&[ANNA]), false), Ok(()));
    assert_eq!(policy.outbound(&addresses(&[BEN]), true), Err(Unauthorized));
}

#[test]
fn outbound_is_no_wider_than_inbound() {
    let lists = json!({
        "allowed_sender_ids": [ANNA_LID], "owner_id": "+15551230002", "default_recipient": "+15551230003",
        "contacts": [{"id": "+15551230004", "permission": "read"}, {"id": "+15551230005", "permission": "write"}],
        "allow_group_messages": true, "allowed_chat_ids": [GROUP, NEWS, "+15551230006"],
    });
    let explicit = json!({"outbound_recipient_ids": [BEN], "allowed_sender_ids": ["*"], "default_recipient": ANNA});
    for (value, target, allowed) in [
        (&json!({}), &[ANNA][..], true),
        (&json!({}), &[GROUP], true),
        (&json!({}), &[], false),
        (
            &json!({"allowed_conversation_ids": [GROUP]}),
            &[ANNA],
            false,
        ),
        (
            &json!({"allowed_conversation_ids": [GROUP]}),
            &[GROUP],
            false,
        ),
        (&json!({"allowed_group_sender_ids": [BEN]}), &[ANNA], false),
        (&json!({"dm_policy": "open"}), &[ANNA], true),
        (&json!({"dm_policy": "open"}), &[GROUP], false),
        (&json!({"dm_policy": "allowlist"}), &[ANNA], false),
        (&json!({"dm_policy": "pairing"}), &[ANNA], false),
        (&json!({"dm_policy": "deny"}), &[ANNA], false),
        (&json!({"allowed_sender_ids": ["*"]}), &[ANNA], true),
        (&lists, &[ANNA, ANNA_LID], true),
        (&lists, &[ANNA], false),
        (&lists, &["15551230002@s.whatsapp.net"], true),
        (&lists, &["15551230003@s.whatsapp.net"], true),
        (&lists, &["15551230004@s.whatsapp.net"], false),
        (&lists, &["15551230005@s.whatsapp.net"], true),
        (&lists, &["15551230006@s.whatsapp.net"], true),
        (&lists, &[GROUP], true),
        (&lists, &[OTHER_GROUP], false),
        (&lists, &[NEWS], true),
        (&lists, &["status@broadcast"], false),
        (&explicit, &[BEN], true),
        (&explicit, &[ANNA], false),
        (
            &json!({"outbound_recipient_ids": ["*"], "dm_policy": "deny"}),
            &[GROUP],
            true,
        ),
    ] {
        let config = config(value);
        let outcome = Policy::new(&config).outbound(&addresses(target), false);
        assert_eq!(
            outcome,
            if allowed { Ok(()) } else { Err(Unauthorized) },
            "{value} {target:?}"
        );
    }
    assert_eq!(Unauthorized.code(), "unauthorized_destination");
}

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

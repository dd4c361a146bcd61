//! Tables: a configuration, a message, the verdict.

mod matrix;
mod outbound;

use serde_json::{Value, json};

use super::*;

const ANNA: &str = "15551230000@s.whatsapp.net";
const ANNA_LID: &str = "123456789012345@lid";
const BEN: &str = "15551230001@s.whatsapp.net";
const GROUP: &str = "120363000000000001@g.us";
const OTHER_GROUP: &str = "120363000000000002@g.us";
const NEWS: &str = "120363000000000003@newsletter";

fn config(value: &Value) -> Config {
    Config::parse(value)
        .unwrap_or_else(|error| panic!("{value}: {error}"))
        .config
}

fn addresses(jids: &[&str]) -> Vec<Address> {
    jids.iter().map(|jid| jid.parse().unwrap()).collect()
}

/// `emit:<activation>:<permission>`, or the name of the verdict; then the rule.
fn shown(verdict: Verdict) -> (String, String) {
    match verdict {
        Verdict::Emit {
            activation,
            permission,
            route,
            rule,
        } => {
            let activation = json!(activation);
            let route = route.map(|route| format!(":{route}")).unwrap_or_default();
            (
                format!(
                    "{}:{}{route}",
                    activation.as_str().unwrap(),
                    permission.as_str()
                ),
                rule,
            )
        }
        Verdict::ReadOnly { rule } => ("read_only".into(), rule),
        Verdict::Pairing { rule } => ("pairing".into(), rule),
        Verdict::Context { rule } => ("context".into(), rule),
        Verdict::Deny { rule } => ("deny".into(), rule),
    }
}

#[derive(Debug)]
struct Said<'a> {
    sender: &'a [&'a str],
    chat: &'a [&'a str],
    mention: bool,
    reply: bool,
}

fn dm<'a>(sender: &'a [&'a str]) -> Said<'a> {
    Said {
        sender,
        chat: sender,
        mention: false,
        reply: false,
    }
}

fn in_group<'a>(sender: &'a [&'a str], chat: &'a [&'a str]) -> Said<'a> {
    Said {
        sender,
        chat,
        mention: false,
        reply: false,
    }
}

fn mention<'a>(sender: &'a [&'a str], chat: &'a [&'a str]) -> Said<'a> {
    Said {
        mention: true,
        ..in_group(sender, chat)
    }
}

fn judge(value: &Value, said: &Said<'_>) -> (String, String) {
    let config = config(value);
    let (sender, chat) = (addresses(said.sender), addresses(said.chat));
    shown(Policy::new(&config).inbound(&Subject {
        sender: &sender,
        chat: &chat,
        kind: chat.first().map_or(ChatKind::Private, Address::kind),
        mentions_self: said.mention,
        replies_to_self: said.reply,
        approved: false,
        forwarded: false,
        text: "SECRET",
    }))
}

#[test]
fn what_follows_from_the_lists() {
    for (value, policy) in [
        (json!({}), None),
        (json!({"allowed_sender_ids": []}), None),
        (json!({"outbound_recipient_ids": ["*"]}), None),
        (json!({"allow_group_messages": true}), None),
        (json!({"allowed_chat_ids": [GROUP]}), None),
        (json!({"allowed_chat_ids": ["*"]}), None),
        (json!({"allowed_group_sender_ids": [ANNA]}), None),
        (json!({"allowed_sender_ids": ["*"]}), Some("open")),
        (
            json!({"allowed_dm_sender_ids": ["+15551230001", "*"]}),
            Some("open"),
        ),
        (
            json!({"allowed_sender_ids": ["+15551230000"]}),
            Some("allowlist"),
        ),
        (
            json!({"contacts": [{"id": ANNA, "permission": "read"}]}),
            Some("allowlist"),
        ),
        (json!({"owner_id": ANNA}), Some("allowlist")),
        (json!({"allowed_chat_ids": [ANNA_LID]}), Some("allowlist")),
        (
            json!({"allow_group_messages": true, "allowed_chat_ids": [GROUP]}),
            Some("deny"),
        ),
        (
            json!({"allow_group_messages": true, "allowed_chat_ids": ["*"]}),
            Some("deny"),
        ),
        (json!({"allowed_chat_ids": [NEWS]}), Some("deny")),
        (json!({"dm_policy": "deny"}), Some("deny")),
        (json!({"dm_policy": "pairing"}), Some("pairing")),
        (
            json!({"dm_policy": "allowlist", "allowed_sender_ids": ["*"]}),
            Some("allowlist"),
        ),
    ] {
        let config = config(&value);
        let resolved = Policy::new(&config);
        assert_eq!(
            resolved.dm_policy().map(DmPolicy::as_str),
            policy,
            "{value}"
        );
        assert_eq!(resolved.ingress().is_ok(), policy.is_some(), "{value}");
    }
    assert_eq!(PolicyRequired.code(), "policy_required");
    // The line that the text tells to add is one that helps.
    let text = PolicyRequired.to_string();
    let line = &text[text.find("\"dm_policy\"").unwrap()..];
    let advised = config(&serde_json::from_str(&format!("{{{line}}}")).unwrap());
    assert_eq!(Policy::new(&advised).ingress(), Ok(()));
}

#[test]
fn direct_chats() {
    let anna = &dm(&[ANNA, ANNA_LID]);
    let ben = &dm(&[BEN]);
    let emit = "direct_message:write";
    let listed = json!({"allowed_sender_ids": ["+1 555 123 0000"]});
    let by_lid = json!({"allowed_sender_ids": [ANNA_LID]});
    let chat = json!({"allowed_chat_ids": [GROUP, ANNA]});
    let pairing = json!({"dm_policy": "pairing", "allowed_sender_ids": [ANNA]});
    let ranks = json!({"dm_policy": "open", "owner_id": BEN, "allowed_sender_ids": ["*"], "contacts": [{"id": ANNA_LID, "permission": "read"}]});
    let admin = json!({"contacts": [{"id": BEN, "permission": "write"}, {"id": ANNA, "permission": "admin"}], "owner_id": BEN});
    let all_groups = json!({"allow_group_messages": true, "allowed_chat_ids": ["*"]});
    for (value, said, verdict, rule) in [
        (&json!({}), anna, "deny", "dm_policy: not set"),
        (&listed, anna, emit, "allowed_sender_ids[0]"),
        (&listed, ben, "deny", "dm_policy: allowlist"),
        (&by_lid, anna, emit, "allowed_sender_ids[0]"),
        (&by_lid, &dm(&[ANNA]), "deny", "dm_policy: allowlist"),
        (&chat, anna, emit, "allowed_conversation_ids[1]"),
        (&chat, ben, "deny", "dm_policy: allowlist"),
        (&json!({"dm_policy": "open"}), ben, emit, "dm_policy: open"),
        (
            &json!({"allowed_sender_ids": ["*"]}),
            ben,
            emit,
            "allowed_sender_ids[0]",
        ),
        (
            &json!({"dm_policy": "deny"}),
            ben,
            "deny",
            "dm_policy: deny",
        ),
        (
            &json!({"dm_policy": "deny", "allowed_sender_ids": [ANNA]}),
            anna,
            emit,
            "allowed_sender_ids[0]",
        ),
        (&pairing, anna, emit, "allowed_sender_ids[0]"),
        (&pairing, ben, "pairing", "dm_policy: pairing"),
        (
            &pairing,
            &in_group(&[BEN], &["1400000000@broadcast"]),
            "deny",
            "dm_policy: pairing",
        ),
        (&ranks, anna, "read_only", "contacts[0]: read"),
        (&ranks, ben, "direct_message:admin", "owner_id"),
        (
            &ranks,
            &dm(&["15551230009@s.whatsapp.net"]),
            emit,
            "allowed_sender_ids[0]",
        ),
        (&admin, anna, "direct_message:admin", "contacts[1]"),
        (&admin, ben, emit, "contacts[0]"),
        (&all_groups, ben, "deny", "dm_policy: deny"),
        (
            &json!({"dm_policy": "open"}),
            &dm(&[]),
            "deny",
            "the sender is not known",
        ),
        (
            &json!({"allowed_sender_ids": ["*"]}),
            &dm(&["0@s.whatsapp.net"]),
            emit,
            "allowed_sender_ids[0]",
        ),
    ] {
        assert_eq!(judge(value, said), (verdict.into(), rule.into()), "{value}");
    }
}

#[test]
fn groups() {
    let open = json!({"allow_group_messages": true, "allowed_chat_ids": [GROUP]});
    let all =
        json!({"allow_group_messages": true, "allowed_chat_ids": ["*"], "group_activation": "all"});
    let members = json!({"allow_group_messages": true, "allowed_chat_ids": [GROUP], "allowed_group_sender_ids": [BEN, ANNA_LID], "owner_id": "+15551230002"});
    let nobody = json!({"allow_group_messages": true, "allowed_chat_ids": [GROUP], "allowed_group_sender_ids": []});
    let read = json!({"allow_group_messages": true, "allowed_chat_ids": [GROUP], "contacts": [{"id": ANNA, "permission": "read"}]});
    let denied_group =
        json!({"allowed_chat_ids": [GROUP], "dm_policy": "open", "allowed_sender_ids": [ANNA]});
    let anna: &[&str] = &[ANNA, ANNA_LID];
    let here: &[&str] = &[GROUP];
    let reply = Said {
        reply: true,
        ..in_group(anna, here)
    };
    for (value, said, verdict, rule) in [
        (
            &denied_group,
            &mention(anna, here),
            "deny",
            "allow_group_messages: false",
        ),
        (
            &open,
            &mention(anna, &[OTHER_GROUP]),
            "deny",
            "allowed_conversation_ids: this group is not listed",
        ),
        (
            &open,
            &mention(anna, here),
            "direct_mention:write",
            "allowed_conversation_ids[0]",
        ),
        (
            &open,
            &reply,
            "reply_to_agent:write",
            "allowed_conversation_ids[0]",
        ),
        (
            &open,
            &in_group(anna, here),
            "context",
            "group_activation: mention",
        ),
        (
            &all,
            &in_group(anna, &[OTHER_GROUP]),
            "all_messages:write",
            "allowed_conversation_ids[0]",
        ),
        (
            &all,
            &mention(anna, here),
            "direct_mention:write",
            "allowed_conversation_ids[0]",
        ),
        (
            &members,
            &mention(anna, here),
            "direct_mention:write",
            "allowed_group_sender_ids[1]",
        ),
        (
            &members,
            &mention(&[ANNA], here),
            "deny",
            "allowed_group_sender_ids: the sender is not listed",
        ),
        (
            &members,
            &in_group(&[ANNA], here),
            "deny",
            "allowed_group_sender_ids: the sender is not listed",
        ),
        (
            &members,
            &mention(&["15551230002@s.whatsapp.net"], here),
            "direct_mention:admin",
            "owner_id",
        ),
        (
            &nobody,
            &mention(anna, here),
            "deny",
            "allowed_group_sender_ids: the sender is not listed",
        ),
        (
            &read,
            &mention(anna, here),
            "read_only",
            "contacts[0]: read",
        ),
        (&read, &in_group(anna, here), "deny", "contacts[0]: read"),
        (
            &read,
            &mention(anna, &[OTHER_GROUP]),
            "deny",
            "allowed_conversation_ids: this group is not listed",
        ),
        (
            &open,
            &in_group(&[NEWS], &[NEWS]),
            "deny",
            "allowed_conversation_ids: this newsletter is not listed",
        ),
        (
            &all,
            &in_group(&[NEWS], &[NEWS]),
            "deny",
            "allowed_conversation_ids: this newsletter is not listed",
        ),
        (
            &json!({"allowed_chat_ids": [NEWS]}),
            &in_group(&[NEWS], &[NEWS]),
            "all_messages:write",
            "allowed_conversation_ids[0]",
        ),
    ] {
        assert_eq!(judge(value, said), (verdict.into(), rule.into()), "{value}");
    }
}

#[test]
fn routes_name_the_first_match() {
    let routes = json!([
        {"name": "by-member", "match": {"group": ANNA}},
        {"name": "by-group", "match": {"group": GROUP, "channel": "whatsapp"}},
        {"name": "elsewhere", "match": {"channel": "signal"}},
        {"name": "pattern", "match": {"text_regex": "^never$"}},
        {"name": "to-us", "match": {"to": "+15551239999"}},
        {"name": "anna", "match": {"from": ANNA_LID}},
        {"name": "chat", "match": {"chat": "15551230002@s.whatsapp.net"}},
    ]);
    let value = json!({"dm_policy": "open", "allow_group_messages": true, "allowed_chat_ids": ["*"], "group_activation": "all", "routes": routes});
    for (said, verdict) in [
        (
            in_group(&[ANNA, ANNA_LID], &[OTHER_GROUP]),
            "all_messages:write:by-member",
        ),
        (in_group(&[BEN], &[GROUP]), "all_messages:write:by-group"),
        (in_group(&[BEN], &[OTHER_GROUP]), "deny"),
        (dm(&[ANNA, ANNA_LID]), "direct_message:write:anna"),
        (
            dm(&["15551230002@s.whatsapp.net"]),
            "direct_message:write:chat",
        ),
        (dm(&[BEN]), "deny"),
    ] {
        assert_eq!(judge(&value, &said).0, verdict, "{:?}", said.sender);
    }
    let config = config(&value);
    let (ben, own) = (
        addresses(&[BEN]),
        addresses(&["15551239999@s.whatsapp.net"]),
    );
    let subject = Subject {
        sender: &ben,
        chat: &ben,
        kind: ChatKind::Private,
        mentions_self: false,
        replies_to_self: false,
        approved: false,
        forwarded: false,
        text: "",
    };
    let verdict = Policy::new(&config).with_own(&own).inbound(&subject);
    assert_eq!(shown(verdict).0, "direct_message:write:to-us");
}

#[test]
fn what_no_route_leads_to_is_no_context_either() {
    let anna: &[&str] = &[ANNA, ANNA_LID];
    let value = json!({
        "allow_group_messages": true, "allowed_chat_ids": ["*"], "routes": [
            {"name": "anna", "match": {"from": ANNA}},
            {"name": "ask", "match": {"group": OTHER_GROUP, "text_regex": "^ask"}},
        ],
    });
    let nobody = "routes: none matches";
    for (said, verdict, rule) in [
        (
            in_group(anna, &[GROUP]),
            "context",
            "group_activation: mention",
        ),
        (
            mention(anna, &[GROUP]),
            "direct_mention:write:anna",
            "allowed_conversation_ids[0]",
        ),
        (in_group(&[BEN], &[GROUP]), "deny", nobody),
        (mention(&[BEN], &[GROUP]), "deny", nobody),
        // With other words he could have reached somebody.
        (
            in_group(&[BEN], &[OTHER_GROUP]),
            "context",
            "group_activation: mention",
        ),
        (
            mention(&[BEN], &[OTHER_GROUP]),
            "deny",
            "routes: none matches this text",
        ),
    ] {
        assert_eq!(
            judge(&value, &said),
            (verdict.into(), rule.into()),
            "{said:?}"
        );
        let refused = deny(rule).refuses();
        assert_eq!(refused, rule == nobody || verdict != "deny", "{rule}");
    }
}

#[test]
fn the_hosts_words() {
    let config = config(
        &json!({"allowed_sender_ids": ["+15551230000", "*"], "outbound_recipient_ids": [GROUP]}),
    );
    let policy = Policy::new(&config).as_host_policy();
    assert_eq!(policy.dm_policy.as_deref(), Some("open"));
    assert_eq!(policy.allowed_sender_ids, ["+15551230000", "*"]);
    assert_eq!(policy.allowed_dm_sender_ids, policy.allowed_sender_ids);
    assert_eq!(policy.allowed_outbound_conversation_ids, [GROUP]);
    assert_eq!(policy.reply_delivery.as_deref(), Some("runtime_owned"));
    assert_eq!(
        policy.metadata["dm_policy_source"],
        "follows from the lists"
    );
}

#[test]
fn what_happens_is_told_where_a_message_would_be() {
    let told = |given: Value, sender: &[&str], chat: &[&str]| {
        let (config, sender, chat) = (config(&given), addresses(sender), addresses(chat));
        let verdict = Policy::new(&config).happening(&Subject {
            sender: &sender,
            chat: &chat,
            kind: chat[0].kind(),
            mentions_self: false,
            replies_to_self: false,
            approved: false,
            forwarded: false,
            text: "",
        });
        shown(verdict).0
    };
    let allowed = json!({"allowed_sender_ids": [ANNA]});
    assert_eq!(
        told(allowed.clone(), &[ANNA_LID, ANNA], &[ANNA]),
        "direct_message:write"
    );
    assert_eq!(told(allowed, &[BEN], &[BEN]), "deny");
    // Nobody is answered, or let in, for having typed.
    assert_eq!(
        told(json!({"dm_policy": "pairing"}), &[BEN], &[BEN]),
        "deny"
    );
    let reader = json!({"contacts": [{"id": BEN, "permission": "read"}]});
    assert_eq!(told(reader, &[BEN], &[BEN]), "deny");
    // A change of a group mentions nobody.
    let group = json!({"allow_group_messages": true, "allowed_conversation_ids": [GROUP]});
    assert_eq!(told(group.clone(), &[BEN], &[GROUP]), "all_messages:write");
    assert_eq!(
        told(group.clone(), &[GROUP], &[GROUP]),
        "all_messages:write"
    );
    assert_eq!(told(group, &[BEN], &[OTHER_GROUP]), "deny");
    let few = json!({
        "allow_group_messages": true, "allowed_conversation_ids": ["*"], "allowed_group_sender_ids": [ANNA],
    });
    assert_eq!(told(few, &[BEN], &[GROUP]), "deny");
}

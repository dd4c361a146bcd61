//! Every policy against every form of identity, kind of chat and way of addressing us. What is expected is worked out
//! from what the rules say in words, over what a person would know of the case, and never by the policy.

use super::*;

const PHONE: &str = ANNA;
const LID: &str = ANNA_LID;

/// How much of the sender's identity is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Nothing,
    Phone,
    Lid,
    Both,
    /// With device suffixes, an agent and the server's older name, as they stand in stanzas.
    BothAsTheyCome,
}

impl Identity {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Phone,
        Self::Lid,
        Self::Both,
        Self::BothAsTheyCome,
    ];

    fn addresses(self) -> Vec<Address> {
        addresses(match self {
            Self::Nothing => &[],
            Self::Phone => &[PHONE],
            Self::Lid => &[LID],
            Self::Both => &[PHONE, LID],
            Self::BothAsTheyCome => &["15551230000:12@c.us", "123456789012345:3@lid"],
        })
    }

    fn has_phone(self) -> bool {
        !matches!(self, Self::Nothing | Self::Lid)
    }

    fn has_lid(self) -> bool {
        !matches!(self, Self::Nothing | Self::Phone)
    }
}

/// How a list names the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    NoList,
    SomebodyElse,
    Phone,
    Lid,
    Star,
}

impl Entry {
    const ALL: [Self; 5] = [
        Self::NoList,
        Self::SomebodyElse,
        Self::Phone,
        Self::Lid,
        Self::Star,
    ];

    fn list(self) -> Value {
        match self {
            Self::NoList => Value::Null,
            Self::SomebodyElse => json!([BEN]),
            Self::Phone => json!([BEN, "+1 (555) 123-0000"]),
            Self::Lid => json!([BEN, LID]),
            Self::Star => json!([BEN, "*"]),
        }
    }

    fn names(self, who: Identity) -> bool {
        match self {
            Self::NoList | Self::SomebodyElse => false,
            Self::Phone => who.has_phone(),
            Self::Lid => who.has_lid(),
            Self::Star => who != Identity::Nothing,
        }
    }
}

/// Permission of a contact that is named by LID; `None` where there is no such contact.
const CONTACTS: [Option<&str>; 4] = [None, Some("read"), Some("write"), Some("admin")];

fn contacts(permission: Option<&str>) -> Value {
    match permission {
        Some(permission) => json!([{"id": LID, "permission": permission}]),
        None => Value::Null,
    }
}

fn verdict(config: &Config, subject: &Subject<'_>) -> String {
    shown(Policy::new(config).inbound(subject)).0
}

const POLICIES: [&str; 5] = ["absent", "deny", "allowlist", "pairing", "open"];

/// As it stands in a configuration.
fn configured(policy: &str) -> Option<&str> {
    Some(policy).filter(|policy| *policy != "absent")
}

#[test]
fn direct_messages() {
    let mut rows = 0;
    for policy in POLICIES {
        for entry in Entry::ALL {
            for contact in CONTACTS {
                let value = json!({
                    "dm_policy": configured(policy),
                    "allowed_sender_ids": entry.list(),
                    "contacts": contacts(contact),
                });
                let config = config(&value);
                for who in Identity::ALL {
                    for approved in [false, true] {
                        let addresses = who.addresses();
                        let got = verdict(
                            &config,
                            &Subject {
                                sender: &addresses,
                                approved,
                                chat: &addresses,
                                kind: ChatKind::Private,
                                mentions_self: false,
                                replies_to_self: false,
                                forwarded: false,
                                text: "",
                            },
                        );
                        let stranger = || match policy {
                            "open" => "direct_message:write",
                            "pairing" => "pairing",
                            _ => "deny",
                        };
                        let expected = match contact.filter(|_| who.has_lid()) {
                            _ if who == Identity::Nothing => "deny".to_owned(),
                            Some("read") => "read_only".to_owned(),
                            Some(permission) => format!("direct_message:{permission}"),
                            None if entry.names(who) || approved => {
                                "direct_message:write".to_owned()
                            }
                            None => stranger().to_owned(),
                        };
                        assert_eq!(got, expected, "{value} {who:?} approved: {approved}");
                        rows += 1;
                    }
                }
            }
        }
    }
    assert_eq!(rows, 1000);
}

/// How a message in a group concerns us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    ToOthers,
    Mention,
    Reply,
    Pattern,
    ForwardedMention,
    ForwardedPattern,
}

const SAID: [Said; 6] = [
    Said::ToOthers,
    Said::Mention,
    Said::Reply,
    Said::Pattern,
    Said::ForwardedMention,
    Said::ForwardedPattern,
];

/// What holds for those who write to us directly says nothing of a group.
#[test]
fn group_messages() {
    let rows: usize = POLICIES.into_iter().map(group_messages_under).sum();
    assert_eq!(rows, 30_000);
}

fn group_messages_under(policy: &str) -> usize {
    let mut rows = 0;
    for (allowed, chats) in [
        (false, json!([GROUP])),
        (true, json!([GROUP])),
        (true, json!(["*"])),
        (true, json!([OTHER_GROUP])),
        (true, json!([])),
    ] {
        let hears = allowed && (chats == json!([GROUP]) || chats == json!(["*"]));
        for activation in ["mention", "all"] {
            for members in Entry::ALL {
                for contact in CONTACTS {
                    let value = json!({
                        "dm_policy": configured(policy),
                        "allowed_sender_ids": ["*"],
                        "allow_group_messages": allowed,
                        "allowed_conversation_ids": chats,
                        "allowed_group_sender_ids": members.list(),
                        "group_activation": activation,
                        "mention_patterns": ["never", "(?i)\\bbot\\b"],
                        "contacts": contacts(contact),
                    });
                    let config = config(&value);
                    for who in Identity::ALL {
                        for said in SAID {
                            let expected = expected_in_group(
                                hears,
                                activation == "all",
                                members == Entry::NoList || members.names(who),
                                contact.filter(|_| who.has_lid()),
                                who,
                                said,
                            );
                            assert_eq!(
                                in_a_group(&config, who, said),
                                expected,
                                "{value} {who:?} {said:?}"
                            );
                            rows += 1;
                        }
                    }
                }
            }
        }
    }
    rows
}

fn in_a_group(config: &Config, who: Identity, said: Said) -> String {
    let (sender, chat) = (who.addresses(), addresses(&[GROUP]));
    verdict(
        config,
        &Subject {
            sender: &sender,
            // Whoever is let in to write to us directly is not let in to a group's talk by that.
            approved: true,
            chat: &chat,
            kind: ChatKind::Group,
            mentions_self: matches!(said, Said::Mention | Said::ForwardedMention),
            replies_to_self: said == Said::Reply,
            forwarded: matches!(said, Said::ForwardedMention | Said::ForwardedPattern),
            text: match said {
                Said::Pattern | Said::ForwardedPattern => "hey Bot, what now?",
                _ => "robots are nice",
            },
        },
    )
}

fn expected_in_group(
    hears: bool,
    all: bool,
    member: bool,
    contact: Option<&str>,
    who: Identity,
    said: Said,
) -> String {
    let reason = match said {
        Said::Mention | Said::Pattern => Some("direct_mention"),
        Said::Reply => Some("reply_to_agent"),
        _ if all => Some("all_messages"),
        _ => None,
    };
    if who == Identity::Nothing || !hears {
        return "deny".to_owned();
    }
    let permission = match (contact, reason) {
        (Some("read"), Some(_)) => return "read_only".to_owned(),
        (Some("read"), None) => return "deny".to_owned(),
        (Some(permission), _) => permission,
        (None, _) if member => "write",
        (None, _) => return "deny".to_owned(),
    };
    match reason {
        Some(reason) => format!("{reason}:{permission}"),
        None => "context".to_owned(),
    }
}

#[test]
fn newsletters_and_broadcast_lists() {
    for (listed, expected) in [
        (json!([]), "deny"),
        (json!(["*"]), "deny"),
        (json!([GROUP]), "deny"),
        (json!([NEWS]), "all_messages:write"),
    ] {
        let value = json!({"dm_policy": "open", "allow_group_messages": true, "allowed_conversation_ids": listed});
        assert_eq!(
            judge(&value, &in_group(&[NEWS], &[NEWS])).0,
            expected,
            "{value}"
        );
    }
    // A list is judged like a direct message, but nobody gets a code for it.
    let list = addresses(&["1400000000@broadcast"]);
    for policy in POLICIES {
        for entry in Entry::ALL {
            let value =
                json!({"dm_policy": configured(policy), "allowed_sender_ids": entry.list()});
            let config = config(&value);
            for who in Identity::ALL {
                let sender = who.addresses();
                let got = verdict(
                    &config,
                    &Subject {
                        sender: &sender,
                        approved: false,
                        chat: &list,
                        kind: ChatKind::Broadcast,
                        mentions_self: false,
                        replies_to_self: false,
                        forwarded: false,
                        text: "",
                    },
                );
                let let_in = who != Identity::Nothing && (policy == "open" || entry.names(who));
                let expected = if let_in {
                    "direct_message:write"
                } else {
                    "deny"
                };
                assert_eq!(got, expected, "{value} {who:?}");
            }
        }
    }
}

#[test]
fn the_gates_in_their_order() {
    let gates = |value: Value, chat: &[&str]| {
        let (config, sender, chat) = (config(&value), addresses(&[PHONE]), addresses(chat));
        let judged = Policy::new(&config).judge(&Subject {
            sender: &sender,
            approved: false,
            chat: &chat,
            kind: chat[0].kind(),
            mentions_self: false,
            replies_to_self: false,
            forwarded: false,
            text: "SECRET",
        });
        let gates = judged.gates.iter();
        gates
            .map(|gate| format!("{}: {}", gate.gate, gate.said))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        gates(
            json!({"dm_policy": "allowlist", "allowed_sender_ids": [BEN]}),
            &[PHONE]
        ),
        [
            "contacts: no entry",
            "owner_id: is not it",
            "allowed_sender_ids: no entry",
            "allowed_conversation_ids: no entry",
            "approvals: no entry",
            "dm_policy: allowlist",
        ]
    );
    assert_eq!(
        gates(
            json!({"dm_policy": "open", "routes": [{"name": "sales", "match": {"text_regex": "secret"}}]}),
            &[PHONE]
        )
        .last()
        .unwrap(),
        "routes: none matches"
    );
    assert_eq!(
        gates(
            json!({"allow_group_messages": true, "allowed_chat_ids": ["*"], "allowed_group_sender_ids": [BEN, PHONE]}),
            &[GROUP]
        ),
        [
            "allow_group_messages: true",
            "allowed_conversation_ids: [0]",
            "contacts: no entry",
            "owner_id: is not it",
            "allowed_group_sender_ids: [1]",
            "group_activation: not addressed to us",
        ]
    );
}

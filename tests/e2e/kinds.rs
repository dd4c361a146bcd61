//! A message of every kind, from a person's phone to the host: in a direct chat by phone number, in one by LID, and in
//! a group.

#![allow(clippy::needless_update)]

use std::collections::{HashMap, HashSet};

use crate::common;
#[allow(dead_code)]
#[path = "../../src/inbound/tests/samples/mod.rs"]
mod samples;

use channel_whatsapp::inbound::{self, Classified, Draft, Info, reveal};
use common::World;
use samples::{Message, samples};
use serde_json::json;
use wacore_binary::JidExt as _;
use whatsapp_loopback::people::Person;
use whatsapp_rust::Jid;

/// What the agent is to be told, by the pure conversion; none for what is nothing to tell.
fn told(message: &Message, chat: &str, from: &Person) -> Option<Draft> {
    let info = Info {
        chat: chat.parse().expect("address"),
        sender: from.pn().to_string().parse().expect("address"),
        sender_alt: Some(from.lid().to_string().parse().expect("address")),
        is_from_me: false,
        is_group: chat.ends_with("@g.us"),
        stanza_id: String::new(),
        timestamp: 0,
        push_name: None,
        is_peer: false,
    };
    match inbound::classify(message, &info) {
        // The samples' polls and events were never here.
        Classified::Draft(draft) => Some(match reveal::sealed(&draft) {
            Some(sealed) => reveal::unknown_target(draft, sealed),
            None => draft,
        }),
        Classified::Own(_) | Classified::Ignore(_) => None,
    }
}

async fn every_kind_arrives(world: World, chat_of: impl AsyncFn(&World, &Person) -> Jid) {
    let anna = world.person("Anna").await;
    let chat = chat_of(&world, &anna).await;
    let mut host = world.host();
    let config = json!({
        "dm_policy": "open", "allow_group_messages": true, "group_activation": "all",
        "allowed_conversation_ids": [chat.to_string()],
        "events": ["message", "message.edited", "message.revoked", "reaction", "poll_vote"],
    });
    host.ask("start_ingress", json!({"config": config})).await;
    let conversation = match chat.is_group() {
        true => chat.to_string(),
        false => anna.pn().to_string(),
    };
    let mut sent = Vec::new();
    for (name, message) in samples() {
        if let Some(draft) = told(&message, &conversation, &anna) {
            let id = anna.send(chat.clone(), message).await.expect(name);
            sent.push((name, id, draft));
        }
    }
    let last = anna.text(chat.clone(), "the end").await.expect("text");
    let mut events = HashMap::new();
    // Votes wait a while for their poll.
    let mut missing: HashSet<&str> = sent.iter().map(|(_, id, _)| id.as_str()).collect();
    missing.insert(&last);
    while !missing.is_empty() {
        let Ok(event) = tokio::time::timeout(common::PATIENCE / 2, host.event()).await else {
            break;
        };
        let id = event["message"]["id"].as_str().unwrap_or_default();
        missing.remove(id);
        events.insert(id.to_owned(), event);
    }
    assert!(sent.len() > 80, "{}", sent.len());
    let wrong: Vec<String> = sent
        .iter()
        .filter_map(|(name, id, draft)| {
            let Some(event) = events.get(id) else {
                return Some(format!("{name}: nothing came"));
            };
            let content = event["message"]["content"].as_str().unwrap_or_default();
            let right = event["event_type"] == draft.event_type.as_str()
                && content.ends_with(&draft.content);
            (!right).then(|| {
                format!(
                    "{name}: wanted {} {:?}, got {event}",
                    draft.event_type, draft.content
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_direct_chat() {
    every_kind_arrives(World::linked().await, async |world: &World, _: &Person| {
        world.jid()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_direct_chat_by_lid() {
    every_kind_arrives(
        World::linked_lid().await,
        async |world: &World, _: &Person| world.lid(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_group() {
    every_kind_arrives(
        World::linked().await,
        async |world: &World, anna: &Person| world.group(anna, "Kinds").await,
    )
    .await;
}

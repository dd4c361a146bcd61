//! Stanzas that no client would send: the server answers or drops them, and goes on.

mod raw;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fastrand::Rng;
use raw::Raw;
use wacore_binary::{Jid, Node, NodeContent, NodeValue, OwnedNodeRef, builder::NodeBuilder};
use whatsapp_loopback::{Options, Server};

const PHONE: &str = "15550100";

/// What the server knows by name, as tag or attribute, so that nonsense gets past the first look.
const WORDS: &[&str] = &[
    "iq",
    "message",
    "receipt",
    "ack",
    "presence",
    "chatstate",
    "ib",
    "notification",
    "call",
    "enc",
    "participants",
    "to",
    "key",
    "user",
    "skey",
    "list",
    "registration",
    "identity",
    "type",
    "value",
    "signature",
    "rotate",
    "digest",
    "count",
    "usync",
    "query",
    "devices",
    "contact",
    "lid",
    "status",
    "picture",
    "sync",
    "collection",
    "patch",
    "privacy",
    "category",
    "item",
    "create",
    "participant",
    "add",
    "remove",
    "promote",
    "subject",
    "description",
    "body",
    "invite",
    "leave",
    "group",
    "ephemeral",
    "membership_approval_mode",
    "group_join",
    "membership_requests_action",
    "approve",
    "media_conn",
    "offline_batch",
    "retry",
    "rmr",
    "remove-companion-device-not",
    "active",
    "composing",
    "paused",
    "tokens",
    "token",
];
const SPACES: &[&str] = &[
    "encrypt",
    "usync",
    "w:sync:app:state",
    "blocklist",
    "privacy",
    "disappearing_mode",
    "w:profile:picture",
    "status",
    "w:g2",
    "w:m",
    "abt",
    "w",
    "w:mex",
    "passive",
    "tos",
];
const VALUES: &[&str] = &[
    "",
    "get",
    "set",
    "result",
    "subscribe",
    "unavailable",
    "retry",
    "server-error",
    "read",
    "0",
    "-1",
    "18446744073709551616",
    "1",
    "409",
    "true",
    "s.whatsapp.net",
    "g.us",
    "@g.us",
    "120363000000@g.us",
    "15550100@s.whatsapp.net",
    "15550100:1@s.whatsapp.net",
    "15550100:99@s.whatsapp.net",
    "nobody@lid",
    "status@broadcast",
    "@",
    ":",
    "regular",
    "on",
    "skmsg",
    "pkmsg",
    "block",
    "\u{0}\u{fffd}",
];
const KEYS: &[&str] = &[
    "id",
    "to",
    "jid",
    "from",
    "type",
    "xmlns",
    "participant",
    "recipient",
    "version",
    "name",
    "count",
    "code",
    "action",
    "value",
    "state",
    "prev",
    "delete",
    "expiration",
    "target",
    "class",
    "dhash",
    "key",
    "subject",
];

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    from[rng.usize(..from.len())]
}

fn value(rng: &mut Rng) -> NodeValue {
    match rng.u8(..4) {
        0 => Jid::pn_device(PHONE, rng.u16(..4)).into(),
        1 => Jid::group("120363000000").into(),
        _ => pick(rng, VALUES).into(),
    }
}

fn nonsense(rng: &mut Rng, depth: u8) -> Node {
    let mut node = NodeBuilder::new(pick(rng, WORDS));
    for _ in 0..rng.u8(..4) {
        node = node.attr(pick(rng, KEYS), value(rng));
    }
    match rng.u8(..5) {
        0 => node
            .bytes((0..rng.usize(..90)).map(|_| rng.u8(..)).collect::<Vec<_>>())
            .build(),
        1 => node.string_content(pick(rng, VALUES)).build(),
        _ if depth > 3 => node.build(),
        _ => {
            let children: Vec<Node> = (0..rng.u8(..4)).map(|_| nonsense(rng, depth + 1)).collect();
            node.children(children).build()
        }
    }
}

fn stanza(rng: &mut Rng) -> Node {
    let mut stanza = nonsense(rng, 0);
    if rng.bool() {
        stanza.tag = "iq".into();
        stanza.attrs.insert("xmlns", pick(rng, SPACES));
        stanza.attrs.insert("type", pick(rng, &["get", "set"]));
    }
    stanza.attrs.insert("id", "nonsense");
    if matches!(stanza.content, Some(NodeContent::Nodes(_)) | None) && rng.bool() {
        stanza.attrs.insert("to", value(rng));
    }
    stanza
}

#[tokio::test]
async fn nonsense_is_survived() -> Result<()> {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(Options::default()).await?;
    let (mut raw, keys) = Raw::link(&server, PHONE).await?;
    raw.activate().await?;
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        said(panic);
    }));
    let mut rng = Rng::with_seed(7);
    let mut sent = 0;
    for round in 0..60 {
        for _ in 0..100 {
            let plain = Raw::plain(&stanza(&mut rng))?;
            // A frame that is no stanza ends the connection, which is another matter.
            if OwnedNodeRef::new(Bytes::from(plain.clone()).slice(1..)).is_ok() {
                let frame = raw.seal(&plain)?;
                raw.send_bytes(frame).await?;
                sent += 1;
            }
        }
        // What came before it has been handled once it is answered.
        let ping = raw.ask(
            "get",
            "w:p",
            "s.whatsapp.net",
            NodeBuilder::new("ping").build(),
        );
        let answer = tokio::time::timeout(Duration::from_secs(20), ping).await;
        answer
            .context("silence")?
            .with_context(|| format!("round {round}"))?;
    }
    ensure!(sent > 5_000, "{sent}");
    drop(raw);
    let mut again = Raw::login(&server, &keys, PHONE, 1).await?;
    again.next_tag("success").await?;
    again.activate().await?;
    ensure!(PANICS.load(Ordering::Relaxed) == 0);
    Ok(())
}

//! The wire itself, spoken by a client without habits.

mod raw;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::{SinkExt, StreamExt};
use raw::{Keys, Raw, attr, bytes, socket};
use tokio_websockets::Message;
use wacore_binary::{Node, builder::NodeBuilder};
use whatsapp_loopback::{Fault, Limits, Options, Server, Target, faults::FillQueue};

const PHONE: &str = "15550100";
const SERVER: &str = "s.whatsapp.net";

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

async fn fill(server: &Server, n: usize) -> Result<Vec<String>> {
    let fill = FillQueue {
        n,
        ..FillQueue::default()
    };
    let target = Target::device(PHONE, 1);
    let report = server.core().inject(target, Fault::FillQueue(fill)).await;
    Ok(report.map_err(|why| anyhow!(why))?.queued)
}

fn empty(tag: &'static str) -> Node {
    NodeBuilder::new(tag).build()
}

#[tokio::test]
async fn what_is_no_client_is_cut_off_and_harms_nobody() -> Result<()> {
    let server = server().await?;
    for said in [
        b"hello, is this a server?".to_vec(),
        b"WA\x06\x03\x00\x00\x05hello".to_vec(),
        b"ED\x00\x01\xff\xff\xff".to_vec(),
        b"WA\x06\x03\x00\x00\x00".to_vec(),
    ] {
        let mut socket = socket(&server).await?;
        socket.send(Message::binary(said)).await?;
        let answer = tokio::time::timeout(Duration::from_secs(10), socket.next()).await?;
        ensure!(answer.is_none_or(|answer| answer.is_ok_and(|answer| answer.is_close())));
    }
    Raw::link(&server, PHONE).await?;
    Ok(())
}

#[tokio::test]
async fn who_does_not_say_a_word_is_let_go() -> Result<()> {
    let options = Options {
        limits: Limits {
            handshake_timeout: Duration::from_millis(50),
            idle_timeout: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Options::default()
    };
    let server = Server::start(options).await?;
    let mut silent = socket(&server).await?;
    let end = tokio::time::timeout(Duration::from_secs(10), silent.next()).await?;
    ensure!(end.is_none_or(|end| end.is_ok_and(|end| end.is_close())));
    Ok(())
}

#[tokio::test]
async fn only_the_linked_key_is_let_in() -> Result<()> {
    let server = server().await?;
    Raw::link(&server, PHONE).await?;
    for (phone, device) in [(PHONE, 1), (PHONE, 2), ("15550199", 1), (PHONE, 0)] {
        let mut stranger = Raw::login(&server, &Keys::new(), phone, device).await?;
        let refusal = stranger.next().await?;
        assert_eq!(refusal.tag, "failure");
        assert_eq!(attr(&refusal, "reason"), "401");
        stranger.closed().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_second_login_says_replaced_to_the_first() -> Result<()> {
    let server = server().await?;
    let (mut first, keys) = Raw::link(&server, PHONE).await?;
    let mut second = Raw::login(&server, &keys, PHONE, 1).await?;
    second.next_tag("success").await?;
    let error = first.next_tag("stream:error").await?;
    let conflict = error.get_optional_child("conflict").context("a conflict")?;
    assert_eq!(attr(conflict, "type"), "replaced");
    first.closed().await?;
    second.activate().await
}

#[tokio::test]
async fn nothing_is_answered_with_silence() -> Result<()> {
    let server = server().await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    for (kind, xmlns, content) in [
        ("get", "never:heard:of", empty("what")),
        ("set", "w:stats", empty("add")),
        ("set", "urn:xmpp:whatsapp:dirty", empty("clean")),
        ("get", "w:p", empty("ping")),
        ("get", "w:biz", empty("business_profile")),
        ("get", "abt", empty("props")),
        ("get", "w", empty("props")),
        ("get", "w:mex", empty("query")),
        ("get", "disappearing_mode", empty("query")),
        ("get", "blocklist", empty("list")),
        ("get", "privacy", empty("privacy")),
        ("set", "w:m", empty("media_conn")),
    ] {
        let answer = raw.ask(kind, xmlns, SERVER, content).await?;
        assert_eq!(attr(&answer, "type"), "result", "{xmlns}");
        assert_eq!(attr(&answer, "from"), SERVER);
    }
    for (kind, xmlns, content) in [
        ("get", "usync", empty("nothing")),
        ("set", "w:sync:app:state", empty("nothing")),
        ("set", "encrypt", empty("rotate")),
        ("set", "encrypt", empty("registration")),
        ("set", "blocklist", empty("item")),
        ("set", "w:g2", empty("create")),
        ("get", "encrypt", empty("digest")),
    ] {
        let answer = raw.ask(kind, xmlns, SERVER, content).await?;
        assert_eq!(attr(&answer, "type"), "error", "{xmlns}");
        ensure!(answer.get_optional_child("error").is_some());
    }
    for (tag, class) in [
        ("message", "message"),
        ("receipt", "receipt"),
        ("notification", "notification"),
        ("call", "call"),
        ("news", "news"),
    ] {
        let stanza = NodeBuilder::new(tag)
            .attr("id", "x")
            .attr("to", "15550199@s.whatsapp.net")
            .build();
        raw.send(&stanza).await?;
        let ack = raw.next_tag("ack").await?;
        assert_eq!(
            (attr(&ack, "class").as_str(), attr(&ack, "id").as_str()),
            (class, "x")
        );
        let refused = if tag == "message" { "404" } else { "" };
        assert_eq!(attr(&ack, "error"), refused, "{tag}");
    }
    Ok(())
}

#[tokio::test]
async fn frames_may_be_split_joined_and_deflated() -> Result<()> {
    let server = server().await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    let ping = |id: &str| {
        NodeBuilder::new("iq")
            .attr("id", id)
            .attr("type", "get")
            .attr("xmlns", "w:p")
            .attr("to", SERVER)
            .build()
    };
    let mut both = raw.seal(&Raw::plain(&ping("a"))?)?;
    both.extend(raw.seal(&Raw::plain(&ping("b"))?)?);
    let rest = both.split_off(both.len() - 5);
    raw.send_bytes(both).await?;
    raw.send_bytes(rest).await?;
    let deflated = deflate(&Raw::plain(&ping("c"))?);
    let frame = raw.seal(&deflated)?;
    raw.send_bytes(frame).await?;
    for id in ["a", "b", "c"] {
        assert_eq!(attr(&raw.next_tag("iq").await?, "id"), id);
    }
    raw.send_bytes(vec![0, 0, 4, 1, 2, 3, 4]).await?;
    raw.closed().await
}

/// The same with the flag for zlib, in one stored block (RFC 1950, RFC 1951).
fn deflate(plain: &[u8]) -> Vec<u8> {
    let data = &plain[1..];
    let len = u16::try_from(data.len()).unwrap();
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    let mut out = vec![2, 0x78, 0x01, 1];
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend_from_slice(data);
    out.extend((b << 16 | a).to_be_bytes());
    out
}

#[tokio::test]
async fn the_offline_queue_comes_in_batches_and_before_anything_else() -> Result<()> {
    let server = server().await?;
    let (raw, keys) = Raw::link(&server, PHONE).await?;
    drop(raw);
    let mut ids = fill(&server, 5).await?;
    let mut raw = Raw::login(&server, &keys, PHONE, 1).await?;
    raw.activate().await?;
    let preview = raw.next_tag("ib").await?;
    let preview = match preview.get_optional_child("offline_preview") {
        Some(preview) => preview.clone(),
        None => raw.next_tag("ib").await?.children().context("ib")?[0].clone(),
    };
    assert_eq!(attr(&preview, "count"), "5");
    assert_eq!(attr(&preview, "message"), "5");
    ids.extend(fill(&server, 1).await?);
    let mut got = Vec::new();
    for (asked, expected) in [(2, 2), (3, 3), (100, 1)] {
        let batch = NodeBuilder::new("offline_batch")
            .attr("count", asked)
            .build();
        raw.send(&NodeBuilder::new("ib").children([batch]).build())
            .await?;
        for _ in 0..expected {
            let message = raw.next().await?;
            assert_eq!(message.tag, "message");
            assert_eq!(attr(&message, "offline"), "0");
            got.push(attr(&message, "id"));
        }
    }
    assert_eq!(got, ids);
    let end = raw.next().await?;
    ensure!(end.get_optional_child("offline").is_some(), "{end:?}");
    let live = fill(&server, 1).await?;
    let message = raw.next().await?;
    assert_eq!(attr(&message, "id"), live[0]);
    assert_eq!(attr(&message, "offline"), "", "now it is live");
    // Some are settled by a receipt with a list, one by an ack; the rest comes again.
    let item = |id: &str| NodeBuilder::new("item").attr("id", id).build();
    let list = NodeBuilder::new("list").children([item(&got[1])]).build();
    let receipt = NodeBuilder::new("receipt")
        .attr("id", got[0].as_str())
        .attr("to", attr(&message, "from"))
        .children([list])
        .build();
    raw.send(&receipt).await?;
    raw.next_tag("ack").await?;
    let ack = NodeBuilder::new("ack")
        .attr("id", got[2].as_str())
        .attr("class", "message")
        .build();
    raw.send(&ack).await?;
    let ack = NodeBuilder::new("ack")
        .attr("id", got[3].as_str())
        .attr("class", "receipt")
        .build();
    raw.send(&ack).await?;
    raw.ask("get", "w:p", SERVER, empty("ping")).await?;
    let left = server.core().queued_messages(PHONE, 1);
    assert_eq!(left, [&got[3..], &live[..]].concat());
    Ok(())
}

#[tokio::test]
async fn who_is_not_active_gets_nothing() -> Result<()> {
    let server = server().await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    fill(&server, 3).await?;
    raw.ask("get", "w:p", SERVER, empty("ping")).await?;
    let sent = server.core().stanzas();
    ensure!(!sent.iter().any(|stanza| stanza.tag == "message"));
    assert_eq!(server.core().queue_len(PHONE, 1), 3);
    Ok(())
}

#[tokio::test]
async fn who_does_not_read_is_cut_off() -> Result<()> {
    let options = Options {
        limits: Limits {
            outbound_bytes: 64 * 1024,
            ..Limits::default()
        },
        ..Options::default()
    };
    let server = Server::start(options).await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    raw.activate().await?;
    let mut sent = 0;
    while !server.core().connections().is_empty() && sent < 200_000 {
        sent += fill(&server, 2_000).await?.len();
    }
    ensure!(server.core().connections().is_empty(), "after {sent}");
    ensure!(server.core().queue_len(PHONE, 1) > 0, "and nothing is lost");
    Ok(())
}

#[tokio::test]
async fn keys_are_given_out_once() -> Result<()> {
    let server = server().await?;
    let (mut raw, keys) = Raw::link(&server, PHONE).await?;
    let leaf = |tag: &'static str, content: &[u8]| NodeBuilder::new(tag).bytes(content).build();
    let key = |id: u8| {
        NodeBuilder::new("key")
            .children([leaf("id", &[0, 0, id]), leaf("value", &[id; 32])])
            .build()
    };
    let skey = NodeBuilder::new("skey")
        .children([
            leaf("id", &[0, 0, 1]),
            leaf("value", keys.skey.public_key.public_key_bytes()),
            leaf("signature", &keys.signature()?),
        ])
        .build();
    let upload = NodeBuilder::new("iq")
        .attr("id", "up")
        .attr("type", "set")
        .attr("xmlns", "encrypt")
        .attr("to", SERVER)
        .children([
            leaf("registration", &[0, 0, 0, 9]),
            leaf("type", &[5]),
            leaf("identity", keys.identity.public_key.public_key_bytes()),
            NodeBuilder::new("list").children((10..20).map(key)).build(),
            skey,
        ])
        .build();
    raw.send(&upload).await?;
    assert_eq!(attr(&raw.next_tag("iq").await?, "type"), "result");
    let answer = raw.ask("get", "encrypt", SERVER, empty("count")).await?;
    let count = answer.get_optional_child("count").context("a count")?;
    // The phone has taken one to share its app-state key.
    assert_eq!(attr(count, "value"), "9");
    let (mut other, _) = Raw::link(&server, "15550199").await?;
    let mut given = Vec::new();
    for _ in 0..10 {
        let user = NodeBuilder::new("user")
            .attr("jid", "15550100:1@s.whatsapp.net")
            .build();
        let asked = NodeBuilder::new("key").children([user]).build();
        let answer = other.ask("get", "encrypt", SERVER, asked).await?;
        let list = answer.get_optional_child("list").context("a list")?;
        let user = list.get_optional_child("user").context("a user")?;
        assert_eq!(attr(user, "jid"), "15550100:1@s.whatsapp.net");
        for tag in [
            "registration",
            "type",
            "identity",
            "skey",
            "device-identity",
        ] {
            ensure!(user.get_optional_child(tag).is_some(), "{tag}");
        }
        given.extend(
            user.get_optional_child("key")
                .and_then(|key| key.get_optional_child("id"))
                .map(|id| bytes(id).to_vec()),
        );
    }
    let expected: Vec<Vec<u8>> = (11..20).map(|id| vec![0, 0, id]).collect();
    assert_eq!(given, expected);
    raw.activate().await?;
    let batch = NodeBuilder::new("offline_batch").attr("count", 100).build();
    raw.send(&NodeBuilder::new("ib").children([batch]).build())
        .await?;
    let low = raw.next_tag("notification").await?;
    assert_eq!(attr(&low, "type"), "encrypt");
    let missing = NodeBuilder::new("user")
        .attr("jid", "15550100:9@s.whatsapp.net")
        .build();
    let asked = NodeBuilder::new("key").children([missing]).build();
    let answer = other.ask("get", "encrypt", SERVER, asked).await?;
    let list = answer.get_optional_child("list").context("a list")?;
    let user = list.get_optional_child("user").context("a user")?;
    let error = user.get_optional_child("error").context("an error")?;
    assert_eq!(attr(error, "code"), "406");
    Ok(())
}

#[tokio::test]
async fn people_are_found_by_number_and_in_either_namespace() -> Result<()> {
    let server = server().await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    let lid = server.core().account(PHONE).context("account")?.lid_jid;
    let user = |jid: &str| NodeBuilder::new("user").attr("jid", jid).build();
    let number = |digits: &'static str| {
        let contact = NodeBuilder::new("contact").bytes(digits.as_bytes()).build();
        NodeBuilder::new("user").children([contact]).build()
    };
    let usync = NodeBuilder::new("usync")
        .attr("sid", "1")
        .attr("mode", "query")
        .attr("context", "interactive")
        .attr("last", "true")
        .attr("index", "0")
        .children([
            NodeBuilder::new("query")
                .children([empty("contact"), empty("devices"), empty("lid")])
                .build(),
            NodeBuilder::new("list")
                .children([
                    user("15550100@s.whatsapp.net"),
                    user(&lid),
                    number("+1 555 0100"),
                    number("+15550199"),
                ])
                .build(),
        ])
        .build();
    let answer = raw.ask("get", "usync", SERVER, usync).await?;
    let usync = answer.get_optional_child("usync").context("usync")?;
    assert_eq!(attr(usync, "sid"), "1");
    let list = usync.get_optional_child("list").context("a list")?;
    let users = list.children().context("users")?;
    let jids: Vec<String> = users.iter().map(|user| attr(user, "jid")).collect();
    let expected = [
        "15550100@s.whatsapp.net",
        &lid,
        "15550100@s.whatsapp.net",
        "15550199@s.whatsapp.net",
    ];
    assert_eq!(jids, expected);
    let contacts: Vec<String> = users
        .iter()
        .filter_map(|user| user.get_optional_child("contact"))
        .map(|contact| attr(contact, "type"))
        .collect();
    assert_eq!(contacts, ["in", "in", "in", "out"]);
    let by_phone = users[0].get_optional_child("lid").context("a LID")?;
    assert_eq!(attr(by_phone, "val"), lid);
    assert_eq!(attr(&users[1], "pn_jid"), "15550100@s.whatsapp.net");
    ensure!(users[1].get_optional_child("lid").is_none());
    let devices = users[1].get_optional_child("devices").context("devices")?;
    let list = devices
        .get_optional_child("device-list")
        .context("a list")?;
    let numbers = list.children().context("devices")?.iter();
    let numbers: Vec<String> = numbers.map(|device| attr(device, "id")).collect();
    assert_eq!(numbers, ["0", "1"]);
    let signed = devices
        .get_optional_child("key-index-list")
        .context("signed")?;
    ensure!(!bytes(signed).is_empty());
    Ok(())
}

#[tokio::test]
async fn app_state_is_numbered_and_handed_on() -> Result<()> {
    let server = server().await?;
    let (mut first, _) = Raw::link(&server, PHONE).await?;
    let (mut second, _) = Raw::link(&server, PHONE).await?;
    second.activate().await?;
    let sync = |version: u64, patch: Option<&[u8]>| {
        let collection = NodeBuilder::new("collection")
            .attr("name", "regular_low")
            .attr("version", version);
        let collection = match patch {
            Some(patch) => collection.children([NodeBuilder::new("patch").bytes(patch).build()]),
            None => collection,
        };
        NodeBuilder::new("sync")
            .children([collection.build()])
            .build()
    };
    let collection = |answer: &Node| -> Result<Node> {
        let sync = answer.get_optional_child("sync").context("sync")?;
        Ok(sync
            .get_optional_child("collection")
            .context("collection")?
            .clone())
    };
    // Field 4 of a patch is its MAC, which is as good as any to tell patches apart.
    for (version, mac) in [(0, b"\x22\x01a"), (1, b"\x22\x01b")] {
        let answer = first
            .ask("set", "w:sync:app:state", SERVER, sync(version, Some(mac)))
            .await?;
        assert_eq!(
            attr(&collection(&answer)?, "version"),
            (version + 1).to_string()
        );
        let told = loop {
            let told = second.next_tag("notification").await?;
            if attr(&told, "type") == "server_sync" {
                break told;
            }
        };
        let told = told
            .get_optional_child("collection")
            .context("collection")?;
        assert_eq!(attr(told, "version"), (version + 1).to_string());
    }
    let late = second
        .ask(
            "set",
            "w:sync:app:state",
            SERVER,
            sync(1, Some(b"\x22\x01c")),
        )
        .await?;
    let late = collection(&late)?;
    assert_eq!(attr(&late, "type"), "error");
    let error = late.get_optional_child("error").context("an error")?;
    assert_eq!(attr(error, "code"), "409");
    for (from, patches) in [(0, 2), (1, 1), (2, 0)] {
        let answer = second
            .ask("set", "w:sync:app:state", SERVER, sync(from, None))
            .await?;
        let answer = collection(&answer)?;
        assert_eq!(attr(&answer, "version"), "2");
        let got = answer
            .get_optional_child("patches")
            .and_then(|patches| patches.children().map(<[Node]>::len));
        assert_eq!(got.unwrap_or_default(), patches);
    }
    Ok(())
}

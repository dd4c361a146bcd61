//! The wire itself, spoken by a client without habits.

mod raw;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures_util::{SinkExt, StreamExt};
use raw::{Keys, Raw, attr, socket};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_are_served_at_once() -> Result<()> {
    let server = server().await?;
    let clients: Vec<_> = (0..200)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let phone = format!("15551{n:04}");
                let (mut raw, _) = Raw::link(&server, &phone).await?;
                raw.activate().await?;
                let writer = server.core().writer(None, &phone, 1, false);
                let writer = writer.map_err(|why| anyhow!(why))?;
                for n in 0..10 {
                    let id = writer
                        .write(&format!("message {n}"))
                        .map_err(|why| anyhow!(why))?;
                    let message = raw.next_tag("message").await?;
                    ensure!(attr(&message, "id") == id);
                }
                Ok(raw)
            })
        })
        .collect();
    let mut connected = Vec::new();
    for client in clients {
        connected.push(client.await??);
    }
    assert_eq!(server.core().connections().len(), 200);
    assert_eq!(server.core().counters().logins, 200);
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

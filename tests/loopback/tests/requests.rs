//! What clients ask about keys, people and app state, asked by a client without habits.

mod raw;

use anyhow::{Context, Result, ensure};
use raw::{Raw, attr, bytes};
use wacore_binary::{Node, NodeValue, builder::NodeBuilder};
use whatsapp_loopback::{Options, Server};

const PHONE: &str = "15550100";
const SERVER: &str = "s.whatsapp.net";

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

fn empty(tag: &'static str) -> Node {
    NodeBuilder::new(tag).build()
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

#[tokio::test]
async fn the_server_names_itself_as_clients_compare_it() -> Result<()> {
    let server = server().await?;
    let (mut raw, _) = Raw::link(&server, PHONE).await?;
    // `@s.whatsapp.net` to a client that shows it as text, not `s.whatsapp.net`.
    let is_jid = |node: &Node| match node.attrs.get("from") {
        Some(NodeValue::Jid(jid)) => jid.user.is_empty() && jid.to_string() == SERVER,
        _ => false,
    };
    let answer = raw.ask("get", "w:p", SERVER, empty("ping")).await?;
    ensure!(is_jid(&answer), "{answer:?}");
    let active = NodeBuilder::new("iq")
        .attr("id", "1")
        .attr("type", "set")
        .attr("xmlns", "passive")
        .children([empty("active")]);
    raw.send(&active.build()).await?;
    ensure!(is_jid(&raw.next_tag("iq").await?));
    ensure!(is_jid(&raw.next_tag("ib").await?));
    Ok(())
}

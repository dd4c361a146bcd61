//! A message that was decrypted and then lost is asked for again.
//!
//! The library writes the state of all its Signal sessions at once. If the process dies when the ratchet of a message
//! is on the disk and the message is not, WhatsApp sends it again, and it cannot be decrypted a second time.

use crate::common;

use common::{Host, World, eventually};
use serde_json::{Value, json};
use whatsapp_loopback::people::Person;
use whatsapp_rust::Jid;

fn everybody() -> Value {
    json!({"dm_policy": "open", "allow_group_messages": true, "group_activation": "all", "allowed_chat_ids": ["*"]})
}

/// A host whose plugin gets stuck with the nth message, as it is handed over.
async fn stuck_with(world: &World, nth: u32) -> Host {
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_STALL", format!("before_row:{nth}"));
    let mut host = Host::new(command);
    host.ask("start_ingress", json!({"config": everybody()}))
        .await;
    host
}

/// The stored state of every ratchet of a person.
fn ratchets(world: &World, person: &Person) -> Vec<Vec<u8>> {
    let path = world.account_dir().join("store.db");
    let conn = rusqlite::Connection::open(path).expect("open");
    conn.busy_timeout(common::PATIENCE).expect("timeout");
    let mut all = Vec::new();
    for table in ["sessions", "sender_keys"] {
        let sql = format!("SELECT record FROM {table} WHERE address LIKE ?1 ORDER BY address");
        let mut statement = conn.prepare(&sql).expect(&sql);
        for jid in [person.pn(), person.lid()] {
            let rows = statement
                .query_map([format!("%{}%", jid.user)], |row| row.get(0))
                .expect("rows");
            all.extend(rows.map(|row| row.expect("row")));
        }
    }
    all
}

async fn is_asked_for(world: World, chat_of: impl AsyncFn(&World, &Person) -> Jid) {
    let anna = world.person("Anna").await;
    let ben = world.person("Ben").await;
    let chat = chat_of(&world, &anna).await;
    let mut host = stuck_with(&world, 3).await;
    for (person, chat) in [(&anna, chat.clone()), (&ben, world.jid())] {
        let id = person.text(chat, "known").await.expect("text");
        assert_eq!(host.event().await["message"]["id"], id);
    }
    let before = ratchets(&world, &anna);
    let lost = anna.text(chat, "lost").await.expect("text");
    anna.wait_ack(&lost).await.expect("ack");
    // What comes from others lets the library write its sessions, and with them that of the message it is stuck with.
    let mut rounds = 0;
    while ratchets(&world, &anna) == before {
        rounds += 1;
        assert!(rounds < 100, "the ratchet is never written");
        ben.text(world.jid(), "meanwhile").await.expect("text");
        host.event().await;
    }
    host.kill().await;
    assert!(world.unacknowledged().contains(&lost));
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": everybody()}))
        .await;
    loop {
        let event = host.event().await;
        if event["message"]["id"] == lost {
            assert!(
                event["message"]["content"]
                    .as_str()
                    .expect("text")
                    .contains("lost")
            );
            break;
        }
    }
    eventually("acknowledged", || world.unacknowledged().is_empty()).await;
    host.kill().await;
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": everybody()}))
        .await;
    let last = ben.text(world.jid(), "last").await.expect("text");
    loop {
        let event = host.event().await;
        if event["message"]["id"] == last {
            break;
        }
        assert_eq!(event["metadata"]["redelivered"], "true", "nothing twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_direct_chat() {
    is_asked_for(World::linked().await, async |world: &World, _: &Person| {
        world.jid()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_direct_chat_by_lid() {
    is_asked_for(
        World::linked_lid().await,
        async |world: &World, _: &Person| world.lid(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_group() {
    is_asked_for(
        World::linked().await,
        async |world: &World, anna: &Person| world.group(anna, "Lost and found").await,
    )
    .await;
}

//! Messages that the library acknowledges before it hands them over: nobody sends them a second time.

use crate::common;

use common::{Host, World, eventually};
use serde_json::{Value, json};
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::codec::message_to_vec;
use waproto::whatsapp as wa;

const NEWS: &str = "120363000000000003@newsletter";

fn post(id: &str, text: &str) -> Node {
    let message = wa::Message {
        conversation: Some(text.to_owned()),
        ..Default::default()
    };
    let plaintext = NodeBuilder::new("plaintext").bytes(message_to_vec(&message));
    NodeBuilder::new("message")
        .attr("from", NEWS)
        .attr("id", id)
        .attr("type", "text")
        .attr("t", chrono::Utc::now().timestamp())
        .children([plaintext.build()])
        .build()
}

async fn start(world: &World, crash: Option<&str>) -> Host {
    let mut command = world.command();
    command.envs(crash.map(|point| ("CHANNEL_WHATSAPP_CRASH", point)));
    let mut host = Host::new(command);
    let config: Value = json!({"dm_policy": "open", "allowed_conversation_ids": [NEWS]});
    host.ask("start_ingress", json!({ "config": config })).await;
    host
}

/// Sends it once, as soon as there is a connection.
async fn publish(world: &World, stanza: &Node) {
    let core = world.server.core();
    eventually("connected", || core.send_as_is(&world.phone, stanza) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newsletter_publishes_outlives_the_process() {
    let world = World::linked().await;
    let mut host = start(&world, Some("after_commit")).await;
    publish(&world, &post("100", "first")).await;
    host.exit().await;
    let mut host = start(&world, None).await;
    let event = host.event().await;
    assert_eq!(event["message"]["id"], "100");
    assert_eq!(event["message"]["content"], "first");
    assert_eq!(event["conversation"]["id"], NEWS);
    assert_eq!(event["conversation"]["kind"], "newsletter");
    // The same comes only once.
    publish(&world, &post("100", "first")).await;
    publish(&world, &post("101", "second")).await;
    assert_eq!(host.event().await["message"]["id"], "101");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newsletter_publishes_waits_for_its_place() {
    let world = World::linked().await;
    let mut host = start(&world, None).await;
    let path = world.account_dir().join("channel.db");
    let conn = rusqlite::Connection::open(path).expect("open");
    conn.busy_timeout(common::PATIENCE).expect("timeout");
    let sql = |statement: &str| conn.execute_batch(statement).expect(statement);
    sql("CREATE TRIGGER refuse BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'no place'); END");
    publish(&world, &post("100", "first")).await;
    let core = world.server.core();
    let connected = || {
        let mut all = core.connections().into_iter();
        all.any(|c| c.phone.as_deref() == Some(&world.phone))
    };
    eventually("disconnected", || !connected()).await;
    sql("DROP TRIGGER refuse");
    assert_eq!(host.event().await["message"]["id"], "100");
}

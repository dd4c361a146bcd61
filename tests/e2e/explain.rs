//! What `explain` says of what is for nobody, and of what these rules let nobody have.

use crate::common;

use common::command::{says, verdict};
use common::{World, message};
use serde_json::json;
use waproto::whatsapp as wa;
use whatsapp_rust::features::StatusSendOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_is_told_says_why() {
    let world = World::linked().await;
    let (anna, bob) = (world.person("Anna").await, world.person("Bob").await);
    let config = json!({
        "dm_policy": "open",
        "routes": [{"name": "anna", "match": {"from": format!("+{}", anna.phone())}}],
    });
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config})).await;

    let said = says(&world, &anna, "good morning").await;
    let event = host.event().await;
    assert_eq!(event["metadata"]["route"], "anna", "{event}");
    let astray = says(&world, &bob, "good morning too").await;

    // An event of a family that nobody has asked for.
    let to = json!({"conversation_id": anna.pn().to_string()});
    let push = json!({"config": config, "message": message("what do you say?", to)});
    host.ask("push", push).await;
    let asked = anna.wait_text("what do you say?").await.expect("arrives");
    let reaction = anna.react(&asked, "👍").await.expect("reacts");

    // A setting of the chat, and a status, which is for everybody and to nobody.
    let theme = wa::message::ProtocolMessage {
        r#type: Some(wa::message::protocol_message::Type::CHAT_THEME_SETTING),
        ..wa::message::ProtocolMessage::default()
    };
    let theme = wa::Message {
        protocol_message: theme.into(),
        ..wa::Message::default()
    };
    let setting = anna.send(world.jid(), theme).await.expect("sent");
    let client = anna.client().await.expect("client");
    let audience = [world.jid()];
    client
        .contacts()
        .is_on_whatsapp(&audience)
        .await
        .expect("LID");
    let plain = wa::message::extended_text_message::FontType::SYSTEM;
    let status = client
        .status()
        .send_text(
            "look at me",
            0,
            plain,
            &audience,
            StatusSendOptions::default(),
        )
        .await
        .expect("status");

    for (id, outcome, rule) in [
        (&said, "emitted", "dm_policy: open"),
        (&astray, "denied", "routes: none matches"),
        (&reaction, "denied", "events"),
        (&setting, "dropped", "setting of a chat"),
        (&status.message_id, "dropped", "status"),
    ] {
        let told = verdict(&world, id).await;
        assert_eq!(
            (&told["outcome"], &told["rule"]),
            (&json!(outcome), &json!(rule)),
            "{told}"
        );
        let gates = told["trace"]["gates"].as_array().map_or(0, Vec::len);
        assert_eq!(gates == 0, outcome == "dropped", "{told}");
    }
    let route = verdict(&world, &said).await;
    let last = route["trace"]["gates"]
        .as_array()
        .and_then(|gates| gates.last().cloned());
    assert_eq!(last, Some(json!({"gate": "routes", "said": "anna"})));
    host.end();
    host.exit().await;
}

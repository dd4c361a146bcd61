//! The table of what a call is answered with: every outcome, for a reply and for anything else, in a one-shot process
//! and in a persistent one.

use crate::common;

use common::proxy::Proxy;
use common::{Host, World, message, open};
use serde_json::{Value, json};
use whatsapp_loopback::Fault;
use whatsapp_loopback::people::Person;

/// What stands in the way of the message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Clear,
    NoConnection,
    Busy,
    NoAck,
    Nack,
    Forbidden,
    Attachment,
    Malformed,
    Banned,
}

/// The answer that is due: a delivery state, or an error's code.
fn due(way: Way, reply: bool) -> Result<&'static str, &'static str> {
    match (way, reply) {
        (Way::Clear, _) => Ok("sent"),
        (Way::NoConnection | Way::Busy, true) => Ok("queued"),
        (Way::NoConnection, false) => Err("unreachable"),
        (Way::Busy, false) => Err("rate_limited"),
        (Way::NoAck, true) => Ok("unknown"),
        (Way::NoAck, false) => Err("delivery_unknown"),
        (Way::Nack, true) => Ok("rejected"),
        (Way::Nack, false) => Err("not_allowed"),
        (Way::Forbidden, true) => Ok("rejected"),
        (Way::Forbidden, false) => Err("unauthorized_destination"),
        (Way::Attachment, true) => Ok("sent"),
        (Way::Attachment, false) => Err("attachment_mismatch"),
        (Way::Malformed, _) => Err("invalid_destination"),
        (Way::Banned, _) => Err("banned"),
    }
}

fn call(way: Way, reply: bool, to: &Person) -> (&'static str, Value) {
    let mut config = open();
    config["send_timeout_secs"] = json!(3);
    let mut target = to.pn().to_string();
    match way {
        Way::Forbidden => config["outbound_recipient_ids"] = json!(["+15550001111"]),
        Way::Malformed => target = "nobody in particular".to_owned(),
        _ => {}
    }
    let mut metadata = json!({"conversation_id": target});
    if reply {
        metadata["reply_to_message_id"] = json!("X");
    }
    let mut message = message("the text", metadata);
    if way == Way::Attachment {
        message["attachments"] =
            json!([{"name": "a", "mime_type": "image/png", "data_base64": "YQ=="}]);
    }
    (
        if reply { "deliver" } else { "push" },
        json!({"config": config, "message": message}),
    )
}

async fn obstruct(world: &World, way: Way, proxy: &Proxy) {
    let times = u32::MAX;
    match way {
        Way::NoConnection => proxy.down(),
        Way::Busy => world.fault(Fault::Nack { code: 429, times }).await,
        Way::NoAck => world.fault(Fault::WithholdAcks { times }).await,
        Way::Nack => world.fault(Fault::Nack { code: 403, times }).await,
        Way::Banned => {
            world
                .fault(Fault::ConnectFailure {
                    code: 402,
                    times: 1,
                    expire: Some(600),
                })
                .await;
            proxy.cut().await;
        }
        _ => {}
    }
}

async fn check(way: Way, persistent: bool) {
    for reply in [true, false] {
        let world = World::linked().await;
        let anna = world.person("Anna").await;
        // A receipt of her phone would be an acknowledgement as well.
        anna.disconnect().await;
        let proxy = Proxy::start(world.server.addr()).await;
        let start = || {
            let mut command = world.command();
            command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
            Host::new(command)
        };
        let mut host = start();
        if persistent {
            host.ask("start_ingress", json!({"config": open()})).await;
            common::eventually("online", || world.presence().is_some()).await;
        }
        obstruct(&world, way, &proxy).await;
        if persistent && way == Way::Banned {
            knows_of_the_ban(&mut host).await;
            // The process stays, and another one does not begin.
            let mut next = start();
            next.send(&common::request("start_ingress", json!({"config": open()})))
                .await;
            assert_eq!(common::code(&next.answer().await), "banned");
        }
        let (kind, params) = call(way, reply, &anna);
        host.send(&common::request(kind, params)).await;
        if !persistent {
            host.end();
        }
        let answer = host.answer().await;
        let what = format!("{way:?}, reply {reply}, persistent {persistent}: {answer}");
        match due(way, reply) {
            Ok(state) => {
                let delivery = &answer["result"]["delivery"]["metadata"];
                assert_eq!(delivery["delivery_state"], state, "{what}");
                assert_eq!(
                    delivery["degraded"].is_string(),
                    way == Way::Attachment,
                    "{what}"
                );
                assert_eq!(
                    delivery["error_code"].is_string(),
                    state == "rejected",
                    "{what}"
                );
            }
            Err(code) => {
                assert!(answer["error"].is_object(), "{what}");
                assert_eq!(common::code(&answer), code, "{what}");
            }
        }
        if persistent {
            // The process goes on.
            host.ask("health", json!({"config": {}})).await;
        }
        drop(host);
        // What was answered with an error does not come later; what was answered as queued does.
        world.server.core().faults().clear();
        if way != Way::Banned {
            let _ = world.poll(open()).await;
        }
        anna.reconnect().await.expect("back");
        let arrives = match due(way, reply) {
            Ok(state) => state != "rejected",
            Err(code) => code == "delivery_unknown",
        };
        if arrives {
            anna.wait_text("the text")
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let copies = anna.seen(|seen| seen.count_text("the text"));
        assert_eq!(copies, usize::from(arrives), "{what}");
    }
}

/// Waits until the process knows of the ban.
async fn knows_of_the_ban(host: &mut Host) {
    let deadline = tokio::time::Instant::now() + common::PATIENCE;
    loop {
        let health = host.ask("health", json!({"config": {}})).await;
        if health["health"]["status"] == "banned" {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{health}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

macro_rules! rows {
    ($($name:ident: $way:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for persistent in [false, true] {
                check($way, persistent).await;
            }
        }
    )+};
}

rows! {
    acknowledged: Way::Clear;
    no_connection_now: Way::NoConnection;
    rate_limited: Way::Busy;
    no_acknowledgement_in_time: Way::NoAck;
    refused_by_the_server: Way::Nack;
    not_allowed_by_the_policy: Way::Forbidden;
    an_attachment_that_cannot_be_honoured: Way::Attachment;
    malformed: Way::Malformed;
    banned: Way::Banned;
}

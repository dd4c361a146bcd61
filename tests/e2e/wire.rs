//! What a real host wrote, line by line, and what nobody should write.

use crate::common;

use common::{World, code, open, request};
use serde_json::{Value, json};

/// Every line that a real Dispatch host wrote gets the answer that its kind calls for. The account is linked and
/// empty; configurations that name no policy are refused for receiving, as they must be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_of_a_real_host_is_answered() {
    let world = World::linked().await;
    let fixtures = include_str!("../fixtures/host-to-plugin.jsonl");
    let mut answered = 0;
    for line in fixtures.lines() {
        let recorded: Value = serde_json::from_str(line).expect("fixture");
        let sent = &recorded["host_line"];
        let scenario = &recorded["scenario"];
        let mut host = world.host();
        host.send(&sent.to_string()).await;
        host.end();
        let answer = host.line().await;
        assert!(host.exit().await.success(), "{scenario}");
        assert_eq!(answer["jsonrpc"], "2.0");
        assert_eq!(answer["id"], 1, "{scenario}");
        let kind = sent["params"]["kind"].as_str().expect("kind");
        let policy = sent["params"]["config"].get("allowed_sender_ids").is_some();
        let expected = match kind {
            "capabilities" => Ok("capabilities"),
            "configure" => Ok("configured"),
            "health" => Ok("health"),
            "poll_ingress" if policy => Ok("ingress_events_received"),
            "start_ingress" if policy => Ok("ingress_started"),
            "poll_ingress" | "start_ingress" => Err("policy_required"),
            "stop_ingress" => Ok("ingress_stopped"),
            // Without a destination it is malformed, whether it is a reply or not.
            "deliver" | "push" => {
                match sent["params"]["message"]["metadata"]["conversation_id"].is_string() {
                    true => Ok("delivered"),
                    false => Err("missing_destination"),
                }
            }
            "status" => Ok("status_accepted"),
            "ingress_event" => Err("webhook_not_supported"),
            "shutdown" => Ok("ok"),
            other => panic!("{other} is not in the list"),
        };
        match expected {
            Ok(result) => assert_eq!(answer["result"]["kind"], result, "{scenario}: {answer}"),
            Err(refused) => assert_eq!(code(&answer), refused, "{scenario}"),
        }
        answered += 1;
    }
    assert_eq!(answered, fixtures.lines().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_lines_get_an_error_and_the_process_goes_on() {
    let world = World::unlinked().await;
    let mut host = world.host();
    for (line, expected, id) in [
        ("nonsense", "parse_error", json!(1)),
        ("", "", json!(1)),
        ("   ", "", json!(1)),
        ("[]", "invalid_request", json!(1)),
        (
            r#"{"jsonrpc":"2.0","id":7,"method":"channel.health"}"#,
            "unsupported_protocol_version",
            json!(7),
        ),
        (
            r#"{"jsonrpc":"1.0","id":8,"method":"channel.health","params":{}}"#,
            "invalid_request",
            json!(8),
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"x","params":[]}"#,
            "invalid_params",
            json!(1),
        ),
    ] {
        host.send(line).await;
        if expected.is_empty() {
            continue;
        }
        let answer = host.line().await;
        assert_eq!(code(&answer), expected, "{line}");
        assert_eq!(answer["id"], id, "{line}");
    }
    for (params, expected) in [
        (
            json!({"kind": "read_minds", "protocol_version": 1}),
            "unsupported_request",
        ),
        (
            json!({"kind": "health", "protocol_version": 2, "config": {}}),
            "unsupported_protocol_version",
        ),
        (
            json!({"kind": "health", "protocol_version": 1, "config": {"account": "../x"}}),
            "invalid_config",
        ),
    ] {
        let method = format!("channel.{}", params["kind"].as_str().expect("kind"));
        host.send(
            &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string(),
        )
        .await;
        assert_eq!(code(&host.line().await), expected);
    }
    let capabilities = host.ask("capabilities", json!({})).await;
    assert_eq!(capabilities["capabilities"]["platform"], "whatsapp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_hundred_megabytes_is_served_and_one_beyond_the_limit_refused() {
    let world = World::linked().await;
    let anna = world.person("Anna").await;
    let mut host = world.host();
    let attachment = json!({"name": "a.bin", "mime_type": "application/octet-stream", "data_base64": "A".repeat(100_000_000)});
    let mut message = common::message(
        "see file",
        json!({"conversation_id": anna.pn().to_string(), "reply_to_message_id": "X"}),
    );
    message["attachments"] = json!([attachment]);
    let delivered = host
        .ask("deliver", json!({"config": open(), "message": message}))
        .await;
    assert_eq!(delivered["delivery"]["metadata"]["delivery_state"], "sent");
    assert!(delivered["delivery"]["metadata"]["degraded"].is_string());
    anna.wait_text("see file").await.expect("arrives");
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"junk":"{}"}}"#,
        "x".repeat(257 << 20)
    );
    host.send(&long).await;
    assert_eq!(code(&host.line().await), "invalid_request");
    let health = host.ask("health", json!({"config": {}})).await;
    assert_eq!(health["health"]["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_process_whose_host_is_gone_leaves() {
    let world = World::linked().await;
    let proxy = common::proxy::Proxy::down_from_the_start(world.server.addr()).await;
    let mut command = world.command();
    command.env("CHANNEL_WHATSAPP_WS_URL", proxy.ws_url());
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("spawn");
    let mut stdin = child.stdin.take().expect("stdin");
    let config = json!({"dm_policy": "open", "poll_timeout_secs": 30});
    let line = request("poll_ingress", json!({"config": config})) + "\n";
    tokio::io::AsyncWriteExt::write_all(&mut stdin, line.as_bytes())
        .await
        .expect("write");
    drop(stdin);
    let lock = world.account_dir().join("lock");
    common::eventually("it is at work", || {
        std::fs::read_to_string(&lock)
            .is_ok_and(|owner| owner.contains(&child.id().unwrap_or_default().to_string()))
    })
    .await;
    let gone = std::time::Instant::now();
    drop(child.stdout.take());
    common::timeout(child.wait()).await.expect("wait");
    assert!(
        gone.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        gone.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_of_a_message_names_every_action() {
    let world = World::unlinked().await;
    let output = world.command().args(["schema", "message"]).output().await;
    let output = output.expect("output");
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = schema.to_string();
    for action in [
        "react", "edit", "revoke", "read", "poll", "location", "contact", "forward",
    ] {
        assert!(
            text.contains(&format!("\"const\":\"{action}\"")),
            "{action}"
        );
    }
    assert!(schema["properties"]["reply_to_message_id"].is_object());
}

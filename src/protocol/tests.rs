//! The wire as a whole: what a real host wrote, what nobody should write, and what goes back.

use serde_json::{Value, json};

use super::event::{Activation, ActivationReason, InboundEvent, IngressMode, IngressState};
use super::jsonrpc::{
    Request, RequestId, WireError, error_line, notification_line, parse, response_line,
};
use super::request::{Body, OutboundMessage, StatusKind};
use super::response::Response;

fn request(method: &str, params: Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
        .to_string()
        .into_bytes()
}

fn deliver(message: Value) -> Result<OutboundMessage, WireError> {
    let params =
        json!({ "kind": "deliver", "protocol_version": 1, "config": {}, "message": message });
    match parse(request("channel.deliver", params)) {
        Ok(Request {
            body: Body::Deliver { message, .. },
            ..
        }) => Ok(message),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Err(refused.error),
    }
}

#[test]
fn every_line_that_a_real_host_wrote() {
    let fixtures = include_str!("../../tests/fixtures/host-to-plugin.jsonl");
    let mut seen = std::collections::BTreeSet::new();
    for fixture in fixtures.lines() {
        let fixture: Value = serde_json::from_str(fixture).unwrap();
        let line = &fixture["host_line"];
        let params = &line["params"];
        let Request { id, body } = parse(line.to_string().into_bytes()).unwrap();
        assert_eq!(id, RequestId::Integer(1));
        let kind = params["kind"].as_str().unwrap();
        seen.insert(kind.to_owned());
        let (read, config, state) = match &body {
            Body::Capabilities => ("capabilities", None, None),
            Body::Configure { config } => ("configure", Some(config), None),
            Body::Health { config } => ("health", Some(config), None),
            Body::PollIngress { config, state } => ("poll_ingress", Some(config), state.as_ref()),
            Body::StartIngress { config, state } => ("start_ingress", Some(config), state.as_ref()),
            Body::StopIngress { config, state } => ("stop_ingress", Some(config), state.as_ref()),
            Body::Deliver { config, message } | Body::Push { config, message } => {
                assert_eq!(
                    message.content,
                    params["message"]["content"].as_str().unwrap()
                );
                assert_eq!(
                    json!(message.metadata),
                    params["message"]
                        .get("metadata")
                        .cloned()
                        .unwrap_or(json!({}))
                );
                let attachments = params["message"]["attachments"]
                    .as_array()
                    .map_or(0, Vec::len);
                assert_eq!(message.attachments.len(), attachments);
                let kind = if matches!(body, Body::Push { .. }) {
                    "push"
                } else {
                    "deliver"
                };
                (kind, Some(config), None)
            }
            Body::Status { config, update } => {
                assert_eq!(json!(update.kind), params["update"]["kind"]);
                ("status", Some(config), None)
            }
            Body::IngressEvent => ("ingress_event", None, None),
            Body::Shutdown => ("shutdown", None, None),
        };
        assert_eq!(read, kind);
        assert_eq!(
            config,
            params.get("config").filter(|_| kind != "ingress_event")
        );
        // The payload and state of a webhook are not read.
        let host_state = if kind == "ingress_event" {
            &Value::Null
        } else {
            &params["state"]
        };
        assert_eq!(state.map(|s| &s.status[..]), host_state["status"].as_str());
        assert_eq!(
            state.map(|s| json!(s.metadata)),
            host_state.get("metadata").cloned()
        );
    }
    assert_eq!(seen.len(), 11, "{seen:?}");
}

#[test]
fn ids_are_echoed_or_one() {
    let shutdown = r#""jsonrpc":"2.0","method":"channel.shutdown","params":{"kind":"shutdown","protocol_version":1}"#;
    for (id, echoed) in [
        (r#""id":7,"#, "7"),
        (r#""id":-7,"#, "-7"),
        (r#""id":"7","#, "\"7\""),
        (r#""id":"","#, "\"\""),
        (r#""id":null,"#, "1"),
        (r#""id":1.5,"#, "1"),
        (r#""id":99999999999999999999,"#, "1"),
        (r#""id":[2],"#, "1"),
        ("", "1"),
    ] {
        let request = parse(format!("{{{id}{shutdown}}}").into_bytes()).unwrap();
        assert_eq!(request.body, Body::Shutdown);
        assert_eq!(
            response_line(&request.id, &Response::Ok),
            format!(r#"{{"jsonrpc":"2.0","id":{echoed},"result":{{"kind":"ok"}}}}"#).as_bytes()
        );
        let refused = parse(format!("{{{id}\"jsonrpc\":\"1.0\"}}").into_bytes()).unwrap_err();
        assert_eq!(
            (refused.id, refused.error.code.as_ref()),
            (request.id, "invalid_request")
        );
    }
}

#[test]
fn what_is_refused() {
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"channel.health\",\"params\":{{\"protocol_version\":1,\"config\":{}{}}}}}",
        "[".repeat(9999),
        "]".repeat(9999)
    );
    for (line, code, number) in [
        (&b"hello"[..], "parse_error", -32700),
        (b"", "parse_error", -32700),
        (b"{\"id\":1", "parse_error", -32700),
        (b"{\"id\":1} {}", "parse_error", -32700),
        (b"\"\xff\"", "parse_error", -32700),
        (b"[]", "invalid_request", -32600),
        (b"[null,null,null,null]", "invalid_request", -32600),
        (b"1", "invalid_request", -32600),
        (b"{}", "invalid_request", -32600),
        (br#"{"id":1,"id":1}"#, "invalid_request", -32600),
        (br#"{"jsonrpc":"2.0","id":1,"result":{"kind":"ok"}}"#, "invalid_request", -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, "invalid_request", -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.health","params":{"kind":"status","protocol_version":1}}"#, "invalid_request", -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"health","params":{"protocol_version":1}}"#, "unsupported_request", -32601),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.get_message","params":{"kind":"get_message","protocol_version":1}}"#, "unsupported_request", -32601),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.health","params":[]}"#, "invalid_params", -32602),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.push","params":{"kind":"push","protocol_version":1}}"#, "invalid_params", -32602),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.push","params":{"kind":"push","protocol_version":1,"message":[]}}"#, "invalid_params", -32602),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.health"}"#, "unsupported_protocol_version", -32000),
        (br#"{"jsonrpc":"2.0","id":1,"method":"channel.health","params":{"kind":"health","protocol_version":2}}"#, "unsupported_protocol_version", -32000),
        (deep.as_bytes(), "invalid_params", -32602),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(120)]);
        let refused = parse(line.to_vec()).expect_err(&shown);
        assert_eq!((refused.error.code.as_ref(), refused.error.number()), (code, number), "{shown}");
        assert!(refused.error.message.len() < 300, "{shown}");
        assert_eq!(refused.id, RequestId::Integer(1));
    }
}

#[test]
fn method_or_kind_is_enough_and_absent_values_have_defaults() {
    for line in [
        &br#"{"jsonrpc":"2.0","method":"channel.poll_ingress","params":{"protocol_version":1}}"#[..],
        br#"{"jsonrpc":"2.0","params":{"kind":"poll_ingress","protocol_version":1,"config":null,"state":null,"more":[]}}"#,
    ] {
        assert_eq!(parse(line.to_vec()).unwrap().body, Body::PollIngress { config: Value::Null, state: None });
    }
    assert_eq!(deliver(json!({})), Ok(OutboundMessage::default()));
    let nulls = json!({"content": null, "content_type": null, "attachments": null, "metadata": null, "to": 1});
    assert_eq!(deliver(nulls), Ok(OutboundMessage::default()));
    assert_eq!(
        deliver(json!({"attachments": [{}]}))
            .unwrap()
            .attachments
            .len(),
        1
    );
    let frame = json!({"kind": "status", "protocol_version": 1, "update": {"kind": "dancing"}});
    let Body::Status { update, .. } = parse(request("channel.status", frame)).unwrap().body else {
        panic!()
    };
    assert_eq!(update.kind, StatusKind::Unknown);
}

#[test]
fn metadata_that_is_no_string_is_named() {
    for (value, kind) in [
        (json!(1), "a number"),
        (json!(null), "null"),
        (json!(true), "a boolean"),
        (json!([]), "an array"),
        (json!({}), "an object"),
    ] {
        let error =
            deliver(json!({"content": "x", "metadata": {"a": "b", "conversation_id": value}}))
                .unwrap_err();
        assert_eq!(error.code, "invalid_params");
        assert_eq!(
            error.message,
            format!("params.message: metadata.conversation_id must be a string, it is {kind}")
        );
    }
    let error = deliver(json!({"attachments": [{"data_base64": 5}]})).unwrap_err();
    assert!(
        error
            .message
            .starts_with("params.message: data_base64: invalid type"),
        "{error:?}"
    );
    let error = deliver(json!({"content": 5})).unwrap_err();
    assert_eq!(
        error.message,
        "params.message: invalid type: integer `5`, expected a string"
    );
}

#[test]
fn logs_do_not_get_the_text() {
    let message = deliver(
        json!({"content": "secret", "attachments": [{"data_base64": "c2VjcmV0"}], "metadata": {"k": "secret"}}),
    );
    let shown = format!("{message:?}");
    assert!(
        !shown.contains("secret") && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
}

#[test]
fn errors_carry_the_hosts_envelope() {
    let error = WireError::new("rate_limited", "too many\nmessages").with("retry_after_ms", 1500);
    let line = error_line(&RequestId::Text("a".into()), &error);
    assert!(!line.contains(&b'\n'));
    assert_eq!(
        serde_json::from_slice::<Value>(&line).unwrap(),
        json!({"jsonrpc": "2.0", "id": "a", "error": {"code": -32000, "message": "too many\nmessages",
            "data": {"dispatch_error": {"code": "rate_limited", "message": "too many\nmessages", "retry_after_ms": 1500}}}})
    );
}

#[test]
fn notifications_leave_out_what_is_absent() {
    assert_eq!(
        notification_line(&[], None),
        br#"{"jsonrpc":"2.0","method":"channel.event","params":{"protocol_version":1,"events":[]}}"#
    );
    let state = IngressState {
        mode: IngressMode::Websocket,
        status: "running".into(),
        metadata: Default::default(),
    };
    let event = InboundEvent {
        activation: Some(Activation {
            reason: ActivationReason::DirectMessage,
            agent_account_id: None,
            referenced_message_author_id: None,
        }),
        ..InboundEvent::default()
    };
    let line: Value = serde_json::from_slice(&notification_line(&[event], Some(&state))).unwrap();
    assert_eq!(
        line["params"]["state"],
        json!({"mode": "websocket", "status": "running", "metadata": {}})
    );
    assert_eq!(
        line["params"]["events"][0],
        json!({"event_id": "", "platform": "", "event_type": "", "received_at": "", "metadata": {},
            "conversation": {"id": "", "kind": ""}, "actor": {"id": "", "is_bot": false, "metadata": {}},
            "message": {"id": "", "content": "", "content_type": "", "attachments": [], "metadata": {}},
            "activation": {"reason": "direct_message"}})
    );
}

//! Envelopes, ids and error codes.
//!
//! Invariant: every line that comes in has exactly one answer, and that answer has an id that the host takes: its own,
//! echoed as it came, or `1`, the only one that Dispatch uses (it refuses null).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::PROTOCOL_VERSION;
use super::event::{InboundEvent, IngressState};
use super::request::{Body, Params};
use super::response::Response;

/// The id of a request: an integer or a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// An integer.
    Integer(i64),
    /// A string.
    Text(String),
}

impl Default for RequestId {
    fn default() -> Self {
        Self::Integer(1)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(id) => id.fmt(f),
            Self::Text(id) => id.fmt(f),
        }
    }
}

impl RequestId {
    fn recover(raw: Option<&RawValue>) -> Self {
        match raw.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            Some(Value::Number(id)) => id.as_i64().map_or_else(Self::default, Self::Integer),
            Some(Value::String(id)) => Self::Text(id),
            _ => Self::default(),
        }
    }
}

/// One request of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Echoed in the answer. May repeat: the host gives every request the id 1.
    pub id: RequestId,
    /// What is asked.
    pub body: Body,
}

/// A line that cannot be served, with the answer to give.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The id that could be recovered, else 1.
    pub id: RequestId,
    /// Why.
    pub error: WireError,
}

/// An error as the host gets it: a code for machines and a sentence for the operator.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct WireError {
    /// The snake_case code.
    pub code: Cow<'static, str>,
    /// One sentence, with what to do where something can be done.
    pub message: String,
    /// More for machines, beside code and message (such as `retry_after_ms`); the host ignores what it does not know.
    pub details: Map<String, Value>,
}

impl WireError {
    /// An error without details.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self {
            code: code.into(),
            message: message.to_string(),
            details: Map::new(),
        }
    }

    /// Adds a detail for machines.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// JSON-RPC's number for the code; what it has no number for is an application error.
    pub fn number(&self) -> i32 {
        match self.code.as_ref() {
            "parse_error" => -32700,
            "invalid_request" => -32600,
            "method_not_found" | "unsupported_request" => -32601,
            "invalid_params" | "bad_request" => -32602,
            "internal_error" => -32603,
            _ => -32000,
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Reads one line. Attachments stay in it, all else is copied.
///
/// # Errors
/// [`Refused`] with the answer to write; nothing in a line is worth ending the process for.
pub fn parse(line: Vec<u8>) -> Result<Request, Refused> {
    let refused = |code: &'static str, message: &dyn fmt::Display| Refused {
        id: RequestId::default(),
        error: WireError::new(code, message),
    };
    let line = String::from_utf8(line).map_err(|error| {
        refused(
            "parse_error",
            &format_args!("the line is not UTF-8: {error}"),
        )
    })?;
    let line = Arc::new(line);
    let envelope: &RawValue = serde_json::from_str(&line).map_err(|error| {
        refused(
            "parse_error",
            &format_args!("the line is not JSON: {error}"),
        )
    })?;
    // Serde would read an array into the struct by position.
    if !envelope.get().starts_with('{') {
        return Err(refused(
            "invalid_request",
            &"a request is one JSON object a line",
        ));
    }
    let envelope: Envelope<'_> = serde_json::from_str(envelope.get())
        .map_err(|error| refused("invalid_request", &reason(&error)))?;
    let id = RequestId::recover(envelope.id);
    match body(&envelope, &line) {
        Ok(body) => Ok(Request { id, body }),
        Err(error) => Err(Refused { id, error }),
    }
}

fn body(envelope: &Envelope<'_>, line: &Arc<String>) -> Result<Body, WireError> {
    let invalid = |message: &str| WireError::new("invalid_request", message);
    if text(envelope.jsonrpc)?.as_deref() != Some("2.0") {
        return Err(invalid("\"jsonrpc\" must be \"2.0\""));
    }
    let method = text(envelope.method)?;
    let params = match envelope.params {
        Some(params) if params.get().starts_with('{') => serde_json::from_str(params.get())
            .map_err(|error| WireError::new("invalid_params", reason(&error)))?,
        Some(_) => {
            return Err(WireError::new(
                "invalid_params",
                "\"params\" must be an object",
            ));
        }
        None => Params::default(),
    };
    let kind = match (text(params.kind)?, method) {
        (Some(kind), Some(method)) if method.strip_prefix("channel.") != Some(kind.as_str()) => {
            return Err(invalid(&format!(
                "method {} does not fit params.kind {}",
                short(&method),
                short(&kind)
            )));
        }
        (Some(kind), _) => kind,
        (None, Some(method)) => match method.strip_prefix("channel.") {
            Some(kind) => kind.to_owned(),
            None => return Err(unsupported(&method)),
        },
        (None, None) => return Err(invalid("\"method\" and params.kind are both missing")),
    };
    match params.protocol_version.map(RawValue::get) {
        Some("1") => params.body(&kind, line)?.ok_or_else(|| unsupported(&kind)),
        given => Err(WireError::new(
            "unsupported_protocol_version",
            format_args!(
                "this plugin speaks protocol version {PROTOCOL_VERSION}, the request has {}",
                short(given.unwrap_or("none"))
            ),
        )),
    }
}

fn unsupported(kind: &str) -> WireError {
    WireError::new(
        "unsupported_request",
        format_args!("this plugin knows no request {}", short(kind)),
    )
}

fn text(raw: Option<&RawValue>) -> Result<Option<String>, WireError> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map(Option::flatten)
        .map_err(|_| {
            WireError::new(
                "invalid_request",
                "\"jsonrpc\", \"method\" and params.kind must be strings",
            )
        })
}

/// What a person gets to see of a value from outside: it may be megabytes.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// The error without its position, which counts from the start of a part of the line and so would mislead.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ")
        .map_or(text.as_str(), |cut| &text[..cut])
        .to_owned()
}

#[derive(Serialize)]
struct Success<'a> {
    jsonrpc: &'static str,
    id: &'a RequestId,
    result: &'a Response,
}

/// The line of a successful answer, without line end.
pub fn response_line(id: &RequestId, response: &Response) -> Vec<u8> {
    let line = serde_json::to_vec(&Success {
        jsonrpc: "2.0",
        id,
        result: response,
    });
    line.unwrap_or_else(|error| error_line(id, &WireError::new("internal_error", error)))
}

/// The line of an error answer, without line end. The host reads `data.dispatch_error`.
pub fn error_line(id: &RequestId, error: &WireError) -> Vec<u8> {
    let mut dispatch_error = error.details.clone();
    dispatch_error.insert("code".to_owned(), error.code.as_ref().into());
    dispatch_error.insert("message".to_owned(), error.message.as_str().into());
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "error": {
            "code": error.number(),
            "message": error.message,
            "data": { "dispatch_error": dispatch_error },
        },
    })
    .to_string()
    .into_bytes()
}

#[derive(Serialize)]
struct Notification<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: NotificationParams<'a>,
}

#[derive(Serialize)]
struct NotificationParams<'a> {
    protocol_version: u64,
    events: &'a [InboundEvent],
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a IngressState>,
}

/// The line of a `channel.event` notification, without line end. The host saves `state` before it runs the events.
pub fn notification_line(events: &[InboundEvent], state: Option<&IngressState>) -> Vec<u8> {
    let notification = Notification {
        jsonrpc: "2.0",
        method: "channel.event",
        params: NotificationParams {
            protocol_version: PROTOCOL_VERSION,
            events,
            state,
        },
    };
    // Strings, numbers and maps with string keys always serialise.
    serde_json::to_vec(&notification).unwrap_or_default()
}

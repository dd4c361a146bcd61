//! What the host asks.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::StringMap;
use super::event::IngressState;
use super::jsonrpc::{WireError, reason};
use super::text::Text;

/// A request's content. `config` is what the operator wrote, unread: `null` when there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// What this plugin can do.
    Capabilities,
    /// Validate the configuration; on a running ingress, apply it.
    Configure { config: Value },
    /// How the account is.
    Health { config: Value },
    /// Connect, take what waits, disconnect.
    PollIngress {
        config: Value,
        state: Option<IngressState>,
    },
    /// Connect and stay; events come as notifications.
    StartIngress {
        config: Value,
        state: Option<IngressState>,
    },
    /// Stop what `StartIngress` began.
    StopIngress {
        config: Value,
        state: Option<IngressState>,
    },
    /// A reply, or a message of an operator who uses this name.
    Deliver {
        config: Value,
        message: OutboundMessage,
    },
    /// A message that nobody asked for.
    Push {
        config: Value,
        message: OutboundMessage,
    },
    /// What the agent is doing.
    Status { config: Value, update: StatusFrame },
    /// An HTTP request for a webhook. Its payload is not read: this plugin has none.
    IngressEvent,
    /// The host is about to kill the process.
    Shutdown,
}

/// A message to send. Its `Debug` form tells sizes only, since it ends in logs.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct OutboundMessage {
    /// The text; may be empty.
    #[serde(deserialize_with = "null_is_default")]
    pub content: String,
    /// A MIME type, `text/plain` if absent.
    pub content_type: Option<String>,
    /// In the order in which they are to be sent.
    #[serde(deserialize_with = "null_is_default")]
    pub attachments: Vec<OutboundAttachment>,
    /// Routing (`conversation_id`, `reply_to_message_id`) and options.
    #[serde(deserialize_with = "string_map")]
    pub metadata: StringMap,
}

impl fmt::Debug for OutboundMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundMessage")
            .field("content_bytes", &self.content.len())
            .field("content_type", &self.content_type)
            .field("attachments", &self.attachments)
            .field("metadata_keys", &self.metadata.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// A file to send. More than one source may be given.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct OutboundAttachment {
    /// File name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// What the sender takes it for.
    #[serde(deserialize_with = "null_is_default")]
    pub mime_type: String,
    /// The bytes in base64, undecoded, still in the request's line.
    #[serde(skip)]
    pub data_base64: Option<Text>,
    /// Where to fetch it.
    pub url: Option<String>,
    /// A key that this plugin issued with an inbound attachment.
    pub storage_key: Option<String>,
}

impl fmt::Debug for OutboundAttachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundAttachment")
            .field("mime_type", &self.mime_type)
            .field("base64", &self.data_base64)
            .field("url", &self.url.is_some())
            .field("storage_key", &self.storage_key)
            .finish()
    }
}

/// What the agent is doing, for a typing indicator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StatusFrame {
    /// The stage.
    pub kind: StatusKind,
    /// Free text; not sent anywhere.
    #[serde(deserialize_with = "null_is_default")]
    pub message: String,
    /// The chat, if `metadata` does not name one.
    pub conversation_id: Option<String>,
    /// WhatsApp has no threads.
    pub thread_id: Option<String>,
    /// Routing as in a message.
    #[serde(deserialize_with = "string_map")]
    pub metadata: StringMap,
}

/// The stages that a host reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the host's own words, which it does not define further"
)]
pub enum StatusKind {
    Processing,
    Completed,
    Cancelled,
    OperationStarted,
    OperationFinished,
    ApprovalNeeded,
    Info,
    Delivering,
    AuthRequired,
    #[default]
    #[serde(other)]
    Unknown,
}

/// The parameters of all requests, each still unread, so that an error names the part that is wrong and a part that a
/// request does not have is not looked at.
#[derive(Default, Deserialize)]
pub(super) struct Params<'a> {
    #[serde(borrow)]
    pub kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    config: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    update: Option<&'a RawValue>,
}

impl Params<'_> {
    /// `None` for an unknown kind. `line` is what all this was read from.
    pub fn body(&self, kind: &str, line: &Arc<String>) -> Result<Option<Body>, WireError> {
        let config = || {
            read::<Option<Value>>("config", self.config).map(|c| c.flatten().unwrap_or(Value::Null))
        };
        // Nothing depends on the state: one that somebody has edited until it cannot be read is as good as none, and
        // refusing it would keep the host from ever starting again.
        let state = || -> Result<_, WireError> {
            let read = read::<Option<IngressState>>("state", self.state);
            Ok(read.map(Option::flatten).unwrap_or_else(|error| {
                tracing::warn!(%error, "the state that the host kept cannot be read and is ignored");
                None
            }))
        };
        Ok(Some(match kind {
            "capabilities" => Body::Capabilities,
            "configure" => Body::Configure { config: config()? },
            "health" => Body::Health { config: config()? },
            "poll_ingress" => Body::PollIngress {
                config: config()?,
                state: state()?,
            },
            "start_ingress" => Body::StartIngress {
                config: config()?,
                state: state()?,
            },
            "stop_ingress" => Body::StopIngress {
                config: config()?,
                state: state()?,
            },
            "deliver" => Body::Deliver {
                config: config()?,
                message: self.message(line)?,
            },
            "push" => Body::Push {
                config: config()?,
                message: self.message(line)?,
            },
            "status" => Body::Status {
                config: config()?,
                update: required("update", self.update)?,
            },
            "ingress_event" => Body::IngressEvent,
            "shutdown" => Body::Shutdown,
            _ => return Ok(None),
        }))
    }

    fn message(&self, line: &Arc<String>) -> Result<OutboundMessage, WireError> {
        let mut message: OutboundMessage = required("message", self.message)?;
        let files: Files<'_> = required("message", self.message)?;
        let files = files.attachments.unwrap_or_default();
        for (attachment, Bytes { data_base64 }) in message.attachments.iter_mut().zip(files) {
            let text = data_base64.map(|raw| Text::read(raw, line)).transpose();
            attachment.data_base64 = text.map_err(|error| {
                WireError::new(
                    "invalid_params",
                    format_args!("params.message: data_base64: {}", reason(&error)),
                )
            })?;
        }
        Ok(message)
    }
}

/// Where the attachments of a message have their bytes.
#[derive(Default, Deserialize)]
struct Files<'a> {
    #[serde(borrow, default)]
    attachments: Option<Vec<Bytes<'a>>>,
}

#[derive(Deserialize)]
struct Bytes<'a> {
    #[serde(borrow)]
    data_base64: Option<&'a RawValue>,
}

fn read<'a, T: Deserialize<'a>>(
    name: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, WireError> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|error| {
            WireError::new(
                "invalid_params",
                format_args!("params.{name}: {}", reason(&error)),
            )
        })
}

fn required<'a, T: Deserialize<'a>>(name: &str, raw: Option<&'a RawValue>) -> Result<T, WireError> {
    match raw {
        // Serde would read an array into a struct by position.
        Some(raw) if raw.get().starts_with('{') => read(name, Some(raw)),
        _ => Ok(None),
    }?
    .ok_or_else(|| {
        WireError::new(
            "invalid_params",
            format_args!("params.{name} is missing or no object"),
        )
    })
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads metadata and names the key whose value is no string. A number is refused, not converted: a phone number
/// written as one may have lost digits on its way.
pub(super) fn string_map<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<StringMap, D::Error> {
    struct Strings;

    impl<'de> Visitor<'de> for Strings {
        type Value = StringMap;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("metadata as an object of strings")
        }

        fn visit_unit<E>(self) -> Result<StringMap, E> {
            Ok(StringMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
            let mut strings = StringMap::new();
            while let Some(key) = map.next_key::<String>()? {
                let kind = match map.next_value()? {
                    Value::String(value) => {
                        strings.insert(key, value);
                        continue;
                    }
                    Value::Null => "null",
                    Value::Bool(_) => "a boolean",
                    Value::Number(_) => "a number",
                    Value::Array(_) => "an array",
                    Value::Object(_) => "an object",
                };
                return Err(A::Error::custom(format_args!(
                    "metadata.{key} must be a string, it is {kind}"
                )));
            }
            Ok(strings)
        }
    }

    deserializer.deserialize_any(Strings)
}

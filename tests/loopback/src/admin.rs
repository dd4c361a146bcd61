//! The admin API: what the phone's owner does, and what a test wants to go wrong, over plain HTTP.
//!
//! It is for whoever starts the server, in any language; tests in the server's own process call [`Core`] instead.
//! Every answer is JSON, but for the root key, and every refusal says in words what was wrong.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::account::{AccountInfo, AccountSpec};
use crate::core::{ConnectionInfo, Core, PairError};
use crate::faults::{Fault, Target};
use crate::listener::{Reply, reply};

const MAX_BODY: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong with a request: the status, a code for programs and a sentence for people.
struct Refusal(StatusCode, &'static str, String);

impl From<PairError> for Refusal {
    fn from(error: PairError) -> Self {
        let (status, code) = match error {
            PairError::NotAQr => (StatusCode::BAD_REQUEST, "not_a_qr"),
            PairError::UnknownQr => (StatusCode::NOT_FOUND, "unknown_qr"),
            PairError::ExpiredQr => (StatusCode::GONE, "expired_qr"),
            PairError::NoCodeWanted => (StatusCode::NOT_FOUND, "no_code_wanted"),
            PairError::WrongCode => (StatusCode::FORBIDDEN, "wrong_code"),
            PairError::BadPhone => (StatusCode::BAD_REQUEST, "bad_phone"),
            PairError::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            PairError::Gone => (StatusCode::GATEWAY_TIMEOUT, "gone"),
        };
        Self(status, code, error.to_string())
    }
}

/// The state of the server as `GET /admin/state` shows it.
#[derive(Serialize)]
struct State {
    accounts: Vec<AccountInfo>,
    connections: Vec<ConnectionInfo>,
    faults: Vec<ArmedFault>,
    media: Media,
}

#[derive(Serialize)]
struct ArmedFault {
    #[serde(flatten)]
    fault: Fault,
    target: Target,
}

#[derive(Serialize)]
struct Media {
    uploads: u64,
    downloads: u64,
    paths: Vec<String>,
}

/// Answers one request to `/admin/...`.
pub(crate) async fn handle(core: &Arc<Core>, request: Request<Incoming>) -> Reply {
    match answer(core, request).await {
        Ok(reply) => reply,
        Err(Refusal(status, code, message)) => json_reply(
            status,
            &json!({ "error": { "code": code, "message": message } }),
        ),
    }
}

async fn answer(core: &Arc<Core>, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let query = Query(head.uri.query().unwrap_or_default());
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/admin/root-key") => {
            Ok(reply(StatusCode::OK, "text/plain", hex(&core.root_key())))
        }
        (&Method::GET, "/admin/state") => Ok(ok(&state(core))),
        (&Method::GET, "/admin/stanzas") => Ok(ok(&core.stanzas())),
        (&Method::POST, "/admin/accounts") => {
            let spec: AccountSpec = parse(&read(body).await?)?;
            Ok(ok(&core.create_account(spec)?))
        }
        (&Method::POST, "/admin/mock-phone/scan-qr") => {
            let body = read(body).await?;
            let text = std::str::from_utf8(&body).map_err(|_| PairError::NotAQr)?;
            Ok(ok(&core.scan_qr(text.trim(), query.phone().as_deref())?))
        }
        (&Method::POST, "/admin/mock-phone/enter-code") => {
            let (phone, code) = (query.required_phone()?, query.required("code")?);
            Ok(ok(&core.enter_code(&phone, &code).await?))
        }
        (&Method::GET, "/admin/faults") => Ok(ok(&armed(core))),
        (&Method::POST, "/admin/faults") => {
            let mut fault: Value = parse(&read(body).await?)?;
            let target = match fault
                .as_object_mut()
                .and_then(|fault| fault.remove("target"))
            {
                None | Some(Value::Null) => Target::default(),
                Some(target) => serde_json::from_value(target).map_err(bad_json)?,
            };
            let fault: Fault = serde_json::from_value(fault).map_err(bad_json)?;
            let report = core
                .inject(target, fault)
                .await
                .map_err(|why| Refusal(StatusCode::CONFLICT, "no_such_target", why))?;
            Ok(ok(&report))
        }
        (&Method::DELETE, "/admin/faults") => {
            core.media.clear_faults();
            Ok(ok(&json!({ "cleared": core.faults().clear() })))
        }
        (&Method::POST, "/admin/devices/logout") => done(
            core.logout_device(&query.required_phone()?, query.device()?),
            "no_such_device",
        ),
        (&Method::POST, "/admin/devices/revoke") => done(
            core.revoke_device(&query.required_phone()?, query.device()?),
            "no_such_device",
        ),
        (&Method::POST, "/admin/media/expire") => {
            let status = match query.get("status") {
                None => 410,
                Some(status) => status.parse().map_err(|_| missing("status"))?,
            };
            done(
                core.media.expire(&query.required("path")?, status),
                "no_such_file",
            )
        }
        (_, path) if ROUTES.contains(&path) => Err(Refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong_method",
            format!("{path} does not take {}", head.method),
        )),
        (_, path) => {
            let message = format!("there is no {path}; there are {}", ROUTES.join(", "));
            Err(Refusal(StatusCode::NOT_FOUND, "no_such_path", message))
        }
    }
}

const ROUTES: &[&str] = &[
    "/admin/root-key",
    "/admin/state",
    "/admin/stanzas",
    "/admin/accounts",
    "/admin/mock-phone/scan-qr",
    "/admin/mock-phone/enter-code",
    "/admin/faults",
    "/admin/devices/logout",
    "/admin/devices/revoke",
    "/admin/media/expire",
];

fn state(core: &Core) -> State {
    let (uploads, downloads) = core.media.served();
    let mut paths = core.media.paths();
    paths.sort_unstable();
    State {
        accounts: core.accounts(),
        connections: core.connections(),
        faults: armed(core),
        media: Media {
            uploads,
            downloads,
            paths,
        },
    }
}

fn armed(core: &Core) -> Vec<ArmedFault> {
    core.faults()
        .armed()
        .into_iter()
        .map(|(target, fault)| ArmedFault { fault, target })
        .collect()
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let whole = timeout(PATIENCE, Limited::new(body, MAX_BODY).collect());
    match whole.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "bad_body",
            error.to_string(),
        )),
        Err(_) => {
            let message = "the body took too long".to_owned();
            Err(Refusal(StatusCode::REQUEST_TIMEOUT, "too_slow", message))
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(bad_json)
}

fn bad_json(error: serde_json::Error) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_json", error.to_string())
}

fn missing(name: &str) -> Refusal {
    Refusal(
        StatusCode::BAD_REQUEST,
        "bad_parameter",
        format!("the query has no usable `{name}`"),
    )
}

fn done(done: bool, otherwise: &'static str) -> Result<Reply, Refusal> {
    if done {
        return Ok(ok(&json!({ "ok": true })));
    }
    Err(Refusal(
        StatusCode::NOT_FOUND,
        otherwise,
        "there is none like that".to_owned(),
    ))
}

fn ok(answer: &impl Serialize) -> Reply {
    json_reply(StatusCode::OK, answer)
}

fn json_reply(status: StatusCode, answer: &impl Serialize) -> Reply {
    match serde_json::to_vec(answer) {
        Ok(body) => reply(status, "application/json", body),
        Err(error) => reply(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            error.to_string(),
        ),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        Some(percent_decoded(value)).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<String, Refusal> {
        self.get(name).ok_or_else(|| missing(name))
    }

    /// The digits of `phone`, which people like to write with a plus and spaces.
    fn phone(&self) -> Option<String> {
        let phone = self.get("phone")?;
        Some(
            phone
                .chars()
                .filter(|c| !matches!(c, '+' | ' ' | '-'))
                .collect(),
        )
    }

    fn required_phone(&self) -> Result<String, Refusal> {
        self.phone().ok_or_else(|| missing("phone"))
    }

    fn device(&self) -> Result<u16, Refusal> {
        self.required("device")?
            .parse()
            .map_err(|_| missing("device"))
    }
}

/// RFC 3986, 2.1. What is not a valid escape stands for itself.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query("code=AB%20C&phone=%2B1555%200100&empty=&half=%4");
        assert_eq!(query.get("code").as_deref(), Some("AB C"));
        assert_eq!(query.phone().as_deref(), Some("15550100"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.get("half").as_deref(), Some("%4"));
        assert_eq!(query.get("absent"), None);
    }
}

//! The one TCP port of the server: ws, wss, http and https share it.
//!
//! A client's first byte tells TLS from plain text, and everything behind it is HTTP/1.1 until `/ws/chat` upgrades.
//! Invariant: whatever a connection does, it lives in one task of the listener's own set, so dropping the
//! [`Listener`] ends every connection, and it is bounded in number, in header size and in the time it may idle.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::core::Core;
use crate::{admin, media};

/// A response of the HTTP side. An error in the body cuts the connection.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

const MAX_CONNECTIONS: usize = 4096;
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Longest wait for a client's first byte, its TLS handshake or a whole request head.
const PATIENCE: Duration = Duration::from_secs(30);
/// A frame of the wire has a length of three bytes; clients may put a few small ones beside a full one.
const MAX_WEBSOCKET_MESSAGE: usize = 20 * 1024 * 1024;
/// Handshake record of TLS (RFC 8446, 5.1). No HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// RFC 6455, 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Binds `addr`.
///
/// # Errors
/// It is not a loopback address (the server trusts whoever reaches its admin API), or it cannot be bound.
pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    require_loopback(addr)?;
    TcpListener::bind(addr).await
}

/// The running listener. Dropping it closes the port and every connection.
#[must_use = "dropping it closes the port"]
pub struct Listener {
    accepting: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves `core` on `listener` and tells `core.media` under which host it is reached.
///
/// # Errors
/// The address is not a loopback address, or no certificate could be made.
pub fn spawn(core: Arc<Core>, listener: TcpListener) -> io::Result<Listener> {
    let addr = listener.local_addr()?;
    require_loopback(addr)?;
    core.media.set_hosts(vec![addr.to_string()]);
    let tls = TlsAcceptor::from(tls_config()?);
    let task = tokio::spawn(accept(core, listener, tls));
    Ok(Listener {
        accepting: task.abort_handle(),
    })
}

fn require_loopback(addr: SocketAddr) -> io::Result<()> {
    if addr.ip().is_loopback() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{addr} is not a loopback address; this server may only be reached from its own machine"
        ),
    ))
}

async fn accept(core: Arc<Core>, listener: TcpListener, tls: TlsAcceptor) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: others have to close before this can succeed.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "refused: too many connections");
            continue;
        };
        let (core, tls) = (Arc::clone(&core), tls.clone());
        connections.spawn(async move {
            if let Err(error) = connection(core, stream, peer, tls).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(place);
        });
    }
}

async fn connection(
    core: Arc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if timeout(PATIENCE, stream.peek(&mut first)).await?? == 0 {
        return Ok(());
    }
    if first[0] == TLS_HANDSHAKE {
        let stream = timeout(PATIENCE, tls.accept(stream)).await??;
        http(core, stream, peer).await
    } else {
        http(core, stream, peer).await
    }
}

/// Speaks HTTP until the client closes or upgrades; an upgraded connection stays in this task.
async fn http<S>(core: Arc<Core>, stream: S, peer: SocketAddr) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade: Mutex<Option<OnUpgrade>> = Mutex::new(None);
    let service = service_fn(|request| {
        let (core, upgrade) = (&core, &upgrade);
        async move { route(core, upgrade, request).await }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(io::Error::other)?;
    let Some(upgrade) = upgrade
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
    else {
        return Ok(());
    };
    let io = TokioIo::new(upgrade.await.map_err(io::Error::other)?);
    let ws = tokio_websockets::ServerBuilder::new()
        .limits(tokio_websockets::Limits::default().max_payload_len(Some(MAX_WEBSOCKET_MESSAGE)))
        .serve(io);
    core.serve(ws, peer).await;
    Ok(())
}

async fn route(
    core: &Arc<Core>,
    upgrade: &Mutex<Option<OnUpgrade>>,
    request: Request<Incoming>,
) -> Result<Reply, io::Error> {
    let path = request.uri().path();
    if path == "/ws/chat" {
        return Ok(websocket(upgrade, request));
    }
    if path == "/admin" || path.starts_with("/admin/") {
        return Ok(admin::handle(core, request).await);
    }
    if media::is_media_path(path) {
        return core.media.handle(request).await;
    }
    Ok(text(
        StatusCode::NOT_FOUND,
        "there is nothing here; the WebSocket is at /ws/chat\n",
    ))
}

/// Checks the opening handshake (RFC 6455, 4.2.1) and leaves the upgrade for the connection's task.
fn websocket(upgrade: &Mutex<Option<OnUpgrade>>, mut request: Request<Incoming>) -> Reply {
    let headers = request.headers();
    if request.method() != Method::GET
        || !lists(headers, header::CONNECTION, "upgrade")
        || !lists(headers, header::UPGRADE, "websocket")
    {
        let mut reply = text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket\n");
        reply
            .headers_mut()
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return reply;
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut reply = text(
            StatusCode::UPGRADE_REQUIRED,
            "WebSocket version 13 is spoken here\n",
        );
        reply.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return reply;
    }
    let Some(key) = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16))
    else {
        return text(
            StatusCode::BAD_REQUEST,
            "Sec-WebSocket-Key has to be 16 bytes in base64\n",
        );
    };
    let accept = STANDARD.encode(
        Sha1::new()
            .chain_update(key)
            .chain_update(WEBSOCKET_GUID)
            .finalize(),
    );
    let mut reply = text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = reply.headers_mut();
    headers.clear();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    match HeaderValue::from_str(&accept) {
        Ok(accept) => headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept),
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "no accept key\n"),
    };
    *upgrade
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(hyper::upgrade::on(&mut request));
    reply
}

/// Whether a header that holds a comma-separated list names `token`.
fn lists(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// A reply with a body that is at hand.
pub(crate) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(
        Full::new(body.into())
            .map_err(|never: Infallible| match never {})
            .boxed_unsync(),
    );
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn text(status: StatusCode, body: &'static str) -> Reply {
    reply(status, "text/plain; charset=utf-8", body)
}

/// The certificate of every server of this process, for clients that check it.
pub fn certificate() -> io::Result<&'static [u8]> {
    Ok(&tls()?.0)
}

fn tls_config() -> io::Result<Arc<ServerConfig>> {
    Ok(Arc::clone(&tls()?.1))
}

/// One self-signed certificate a process: making one takes longer than all else at a server's start.
fn tls() -> io::Result<&'static (Vec<u8>, Arc<ServerConfig>)> {
    static MADE: OnceLock<(Vec<u8>, Arc<ServerConfig>)> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made);
    }
    let names = [
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(MADE.get_or_init(|| (made.cert.der().to_vec(), Arc::new(config))))
}

//! Which server a session talks to, and how it is dialled.
//!
//! Invariant: a build with the feature `loopback` does not check the server's certificate chain, so it never opens a
//! connection to an address that is not loopback. For the WebSocket the resolved address is checked as it is dialled;
//! over HTTP only `localhost` and loopback literals are let through, and redirects are not followed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Uri, header};
use tokio::net::TcpStream;
use tokio_websockets::ClientBuilder;
use wacore::net::{HttpClient, HttpRequest, HttpResponse, StreamingHttpResponse, UploadBody};
use wacore::net::{Transport, TransportEvent, TransportFactory};
use wacore::net::{WHATSAPP_WEB_ORIGIN, WHATSAPP_WEB_WS_URL};
use whatsapp_rust_tokio_transport::{default_tls_connector, from_websocket};
use whatsapp_rust_ureq_http_client::UreqHttpClient;

use super::ahead::Ahead;
use super::barrier::Barrier;

/// Points the session elsewhere, for proxies and tests.
pub const URL_VARIABLE: &str = "CHANNEL_WHATSAPP_WS_URL";

/// Whether this build skips the checks of the server's certificate chain.
pub const UNCHECKED: bool = cfg!(feature = "loopback");

/// The address to connect to cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(
        "{URL_VARIABLE} is {given:?}, which is not a ws:// or wss:// URL with a host; correct or unset it"
    )]
    Malformed { given: String },
    #[error(
        "this is a loopback build, for tests: it does not check the server's certificate chain and refuses \
         {host}, which is not a loopback address; use a release build, or set {URL_VARIABLE} to a server on this machine"
    )]
    NotLoopback { host: String },
}

impl EndpointError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "invalid_config",
            Self::NotLoopback { .. } => "endpoint_refused",
        }
    }
}

/// A WhatsApp server's address.
#[derive(Debug, Clone)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
    overridden: bool,
}

impl Endpoint {
    /// WhatsApp's own server, or the one that the environment names.
    pub fn from_env() -> Result<Self, EndpointError> {
        match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.trim().is_empty() => Self::parse(url.trim(), true),
            _ => Self::parse(WHATSAPP_WEB_WS_URL, false),
        }
    }

    fn parse(url: &str, overridden: bool) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed {
            given: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| malformed())?;
        let tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => return Err(malformed()),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(malformed)?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if UNCHECKED && !host_is_loopback(&host) {
            return Err(EndpointError::NotLoopback { host });
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            uri,
            host,
            port,
            tls,
            overridden,
        })
    }

    /// Whether this is WhatsApp's own server and not one that the environment named.
    pub fn is_whatsapp(&self) -> bool {
        !self.overridden
    }

    /// `host:port`, for people.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// By name only; what it resolves to is checked again when it is dialled.
fn host_is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Dials with TCP_NODELAY: without it the handshake's small frames wait 40 ms for delayed acknowledgements.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    endpoint: Endpoint,
    barrier: Barrier,
}

impl Dialler {
    /// A dialler for one server; its connections' frames wait at the barrier.
    pub(super) fn new(endpoint: Endpoint, barrier: Barrier) -> Self {
        Self { endpoint, barrier }
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), *port))
            .await?
            .collect();
        if UNCHECKED && !found.iter().all(|address| address.ip().is_loopback()) {
            return Err(EndpointError::NotLoopback { host: host.clone() }.into());
        }
        let stream = TcpStream::connect(found.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

#[async_trait]
impl TransportFactory for Dialler {
    async fn create_transport(
        &self,
    ) -> anyhow::Result<(
        Arc<dyn Transport>,
        whatsapp_rust::async_channel::Receiver<TransportEvent>,
    )> {
        let stream = self.connect().await?;
        let builder = ClientBuilder::from_uri(self.endpoint.uri.clone()).add_header(
            header::ORIGIN,
            HeaderValue::from_static(WHATSAPP_WEB_ORIGIN),
        )?;
        let (transport, events) = if self.endpoint.tls {
            let stream = default_tls_connector()
                .wrap(&self.endpoint.host, stream)
                .await?;
            from_websocket(builder.connect_on(stream).await?.0)
        } else {
            from_websocket(builder.connect_on(stream).await?.0)
        };
        Ok((self.barrier.guard(transport), events))
    }
}

/// Longest silence of a server of media: to be connected with, to take the next bytes, to send the next.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that a connection holds on their way in; what goes over it is a stream, or short.
const INPUT: usize = 16 << 10;
/// And on their way out: several records of TLS at once.
const OUTPUT: usize = 64 << 10;

/// The library's HTTP client, held to loopback addresses where certificates are not checked. Its calls block a thread,
/// and no server keeps one for ever: each step has a limit of time, a whole transfer has none.
#[derive(Debug, Clone)]
pub struct Http(UreqHttpClient);

impl Http {
    /// A client of servers that may be silent for a minute.
    pub fn new() -> Self {
        Self::with_patience(SILENCE)
    }

    /// A loopback build follows no redirect, which could lead elsewhere.
    fn with_patience(silence: Duration) -> Self {
        let mut config = ureq::Agent::config_builder()
            .input_buffer_size(INPUT)
            .output_buffer_size(OUTPUT)
            .max_idle_connections(3)
            .max_idle_connections_per_host(2)
            .timeout_resolve(Some(silence))
            .timeout_connect(Some(silence))
            .timeout_per_write(Some(silence))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence));
        if UNCHECKED {
            let tls = ureq::tls::TlsConfig::builder()
                .disable_verification(true)
                .build();
            config = config.max_redirects(0).tls_config(tls);
        }
        Self(UreqHttpClient::with_agent(config.build().into()))
    }

    fn admit(request: &HttpRequest) -> anyhow::Result<()> {
        if !UNCHECKED {
            return Ok(());
        }
        let uri: Uri = request.url.parse()?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host_is_loopback(host) {
            Ok(())
        } else {
            Err(EndpointError::NotLoopback {
                host: host.to_owned(),
            }
            .into())
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        Self::admit(&request)?;
        self.0.execute(request).await
    }

    fn supports_streaming(&self) -> bool {
        self.0.supports_streaming()
    }

    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        Self::admit(&request)?;
        let StreamingHttpResponse { status_code, body } = self.0.execute_streaming(request)?;
        // Who reads it decrypts it, on the thread that asks.
        let body = Box::new(Ahead::of(body)?);
        Ok(StreamingHttpResponse { status_code, body })
    }

    fn supports_upload_streaming(&self) -> bool {
        self.0.supports_upload_streaming()
    }

    fn execute_upload(
        &self,
        request: HttpRequest,
        body: UploadBody,
        content_length: u64,
    ) -> anyhow::Result<HttpResponse> {
        Self::admit(&request)?;
        self.0.execute_upload(request, body, content_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_build_refuses_every_other_address() {
        for url in [
            "ws://127.0.0.1:9/ws/chat",
            "wss://localhost/ws/chat",
            "ws://[::1]:80/",
        ] {
            assert!(Endpoint::parse(url, true).is_ok(), "{url}");
        }
        for url in [
            WHATSAPP_WEB_WS_URL,
            "ws://10.0.0.1/",
            "wss://localhost.example/",
            "ws://127.0.0.1.example/",
        ] {
            let error = Endpoint::parse(url, true).unwrap_err();
            assert_eq!(error.code(), "endpoint_refused", "{url}");
        }
        assert!(Http::admit(&HttpRequest::get("https://127.0.0.1:1/x")).is_ok());
        assert!(Http::admit(&HttpRequest::get("https://mmg.whatsapp.net/x")).is_err());
    }

    /// A server that takes a connection, sends this, and then neither reads nor says anything; and what it is told.
    fn silent(says: &'static [u8]) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut stream, says).unwrap();
            std::thread::sleep(Duration::from_secs(60));
            drop(stream);
        });
        url
    }

    #[test]
    fn a_server_that_falls_silent_holds_no_transfer() {
        let http = Http::with_patience(Duration::from_millis(100));
        let begun = std::time::Instant::now();
        for url in [silent(b""), silent(b"").replace("http", "https")] {
            let answer = http.execute_streaming(HttpRequest::get(url.clone()));
            assert!(answer.is_err(), "{url}");
        }
        let half = silent(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        let mut body = http.execute_streaming(HttpRequest::get(half)).unwrap().body;
        let mut read = Vec::new();
        assert!(std::io::Read::read_to_end(&mut body, &mut read).is_err());
        assert_eq!(read, b"abc");
        // One that does not answer to what it has, and one that takes only what fits between the two.
        for length in [10, 64 << 20] {
            let body = Box::new(std::io::Read::take(std::io::repeat(7), length));
            let answer = http.execute_upload(HttpRequest::post(silent(b"")), body, length);
            assert!(answer.is_err(), "{length}");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_is_no_websocket_url_is_refused() {
        for url in ["", "http://127.0.0.1/", "ws://", "127.0.0.1:80", "ws:///x"] {
            assert_eq!(
                Endpoint::parse(url, true).unwrap_err().code(),
                "invalid_config",
                "{url}"
            );
        }
    }
}

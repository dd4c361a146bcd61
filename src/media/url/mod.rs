//! An attachment by URL.
//!
//! Invariant: unless the operator allows private addresses, no connection is opened to an address that is not a host's
//! on the internet. The name is checked by what it resolves to, for every redirect anew, and what is dialled is checked
//! again; nothing is resolved in between, so that a name whose answers change gains nothing. A proxy of the environment
//! is not used, since it would resolve the name itself. Any port may be named. Bytes are taken as they come, never
//! unpacked.

mod address;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, Uri};
use ureq::config::Config;
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector,
};
use ureq::{Agent, ResponseExt};

use super::intake::Intake;
use super::name;
use super::seal::SealError;

/// Most redirects of one download.
const REDIRECTS: u32 = 5;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// How long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// When all must be there.
    pub deadline: Instant,
    /// Longest silence of the server.
    pub idle: Duration,
}

/// What the server says of a file.
#[derive(Debug)]
pub struct Said {
    /// The name that the server or else the URL gives it, made safe.
    pub name: Option<String>,
    /// The type that the server claims.
    pub mime_type: Option<String>,
}

/// Why nothing was downloaded. The URL is not repeated: it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not fetched at all.
    #[error("the attachment's URL is refused: {0}")]
    Refused(String),
    /// There is no answer, or another one than the file.
    #[error(
        "the attachment cannot be fetched from {host}: {reason}; check the URL, or send the bytes"
    )]
    Unreachable { host: String, reason: String },
    /// It takes too long.
    #[error(
        "{host} did not send the attachment in time; try again later, or send a smaller file or the bytes"
    )]
    Timeout { host: String },
    /// It is too large, or cannot be written.
    #[error(transparent)]
    Taken(#[from] SealError),
}

impl FetchError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "attachment_url_refused",
            Self::Unreachable { .. } => "attachment_unreachable",
            Self::Timeout { .. } => "attachment_timeout",
            Self::Taken(error) => error.code(),
        }
    }
}

/// Downloads `url` into what `begin` makes of what the server says of it. Blocks, at most until the deadline. A build for
/// tests, which must not reach beyond this machine, opens loopback addresses only, and those too only if private ones are
/// allowed.
///
/// # Errors
/// See [`FetchError`]; no file is left behind.
pub fn fetch(
    url: &str,
    begin: impl FnOnce(Said) -> Intake,
    limits: &Limits,
    allow_private: bool,
) -> Result<Intake, FetchError> {
    let admits = admits(allow_private, cfg!(feature = "loopback"));
    let tls = TlsConfig::default();
    fetch_with(url, begin, limits, admits, DefaultResolver::default(), tls)
}

/// Whether an address may be dialled.
type Admits = fn(IpAddr) -> bool;

/// What may be dialled by a build that is, or is not, for tests.
fn admits(allow_private: bool, tests_only: bool) -> Admits {
    match (allow_private, tests_only) {
        (false, false) => address::public,
        (true, false) => |_| true,
        (false, true) => |_| false,
        (true, true) => |address| address.is_loopback(),
    }
}

fn fetch_with(
    url: &str,
    begin: impl FnOnce(Said) -> Intake,
    limits: &Limits,
    admits: Admits,
    resolver: impl Resolver,
    tls: TlsConfig,
) -> Result<Intake, FetchError> {
    let uri: Uri = url.parse().map_err(|_| refused("it is no URL"))?;
    acceptable(&uri)?;
    let host = uri.host().unwrap_or_default().to_owned();
    let resolver = Guard {
        admits,
        inner: resolver,
    };
    let connector = Dial { admits }
        .chain(TcpConnector::default())
        .chain(RustlsConnector::default());
    let agent = Agent::with_parts(config(limits, tls), connector, resolver);
    let failed = |error| why(error, &host);
    let mut response = agent.get(uri).call().map_err(failed)?;
    let unreachable = |reason: String| FetchError::Unreachable {
        host: host.clone(),
        reason,
    };
    if response.status() != StatusCode::OK {
        return Err(unreachable(format!("it answers {}", response.status())));
    }
    let headers = response.headers();
    if let Some(coding) = text(headers, CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(unreachable(format!(
            "it answers in the coding {coding:?}, which was not asked for"
        )));
    }
    let size = text(headers, CONTENT_LENGTH).and_then(|size| size.parse().ok());
    let disposition = headers.get(CONTENT_DISPOSITION).map(|h| h.as_bytes());
    let name = disposition
        .and_then(|header| name::of_disposition(&String::from_utf8_lossy(header)))
        .or_else(|| name::of_url_path(response.get_uri().path()));
    let mime_type = text(headers, CONTENT_TYPE).map(str::to_owned);
    let mut file = begin(Said { name, mime_type });
    file.check(size.unwrap_or_default())
        .map_err(SealError::from)?;
    let mut body = response.body_mut().as_reader();
    let mut block = vec![0; BLOCK];
    loop {
        match body.read(&mut block) {
            Ok(0) => break,
            Ok(n) => file.write(&block[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Ok(file)
}

fn config(limits: &Limits, tls: TlsConfig) -> Config {
    let left = limits.deadline.saturating_duration_since(Instant::now());
    // None at all would mean that there is no limit.
    let left = left.max(Duration::from_millis(1));
    Config::builder()
        .proxy(None)
        .tls_config(tls)
        .max_redirects(REDIRECTS)
        .max_redirects_will_error(true)
        .http_status_as_error(false)
        .accept_encoding("identity")
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        // A connection that is used again would not be checked again.
        .max_idle_connections(0)
        .timeout_global(Some(left))
        .timeout_connect(Some(left.min(CONNECT)))
        .timeout_resolve(Some(left.min(CONNECT)))
        .timeout_recv_response(Some(left.min(limits.idle)))
        .timeout_per_read(Some(left.min(limits.idle)))
        .build()
}

/// Resolves only URLs that are acceptable, to addresses that all are.
#[derive(Debug)]
struct Guard<R> {
    admits: Admits,
    inner: R,
}

impl<R: Resolver> Resolver for Guard<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        acceptable(uri).map_err(other)?;
        let addresses = self.inner.resolve(uri, config, timeout)?;
        check(&addresses, self.admits)?;
        Ok(addresses)
    }
}

/// Heads the chain of connectors: passes on what may be dialled, and opens nothing itself.
#[derive(Debug)]
struct Dial {
    admits: Admits,
}

impl Connector for Dial {
    type Out = ();

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<()>,
    ) -> Result<Option<()>, ureq::Error> {
        check(&details.addrs, self.admits)?;
        Ok(chained)
    }
}

fn check(addresses: &[SocketAddr], admits: Admits) -> Result<(), ureq::Error> {
    match addresses.iter().find(|address| !admits(address.ip())) {
        None => Ok(()),
        Some(_) => Err(other(refused(
            "it leads to an address that is not on the internet; allow_private_urls permits that",
        ))),
    }
}

fn acceptable(uri: &Uri) -> Result<(), FetchError> {
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(refused("it does not begin with http:// or https://"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(refused("it holds a user name or password"));
    }
    match uri.host() {
        None | Some("") => Err(refused("it names no host")),
        Some(_) => Ok(()),
    }
}

fn refused(reason: &str) -> FetchError {
    FetchError::Refused(reason.to_owned())
}

fn other(error: FetchError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

fn why(error: ureq::Error, host: &str) -> FetchError {
    let host = host.to_owned();
    let reason = match error {
        ureq::Error::Other(inner) => match inner.downcast::<FetchError>() {
            Ok(own) => return *own,
            Err(inner) => inner.to_string(),
        },
        ureq::Error::Timeout(_) => return FetchError::Timeout { host },
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            return FetchError::Timeout { host };
        }
        // These repeat the URL.
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            return refused("it leads to what is no http:// or https:// URL");
        }
        ureq::Error::TooManyRedirects => format!("it redirects more than {REDIRECTS} times"),
        error => error.to_string(),
    };
    FetchError::Unreachable { host, reason }
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

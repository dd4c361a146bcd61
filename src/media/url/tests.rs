//! Real sockets. Here 127.0.0.1 stands for an address on the internet and every other address for a private one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use ureq::tls::{Certificate, RootCerts};

use super::*;
use crate::media::intake::Taken;
use crate::media::probe::{Hint, Wanted};
use crate::media::stage::Staging;

const NEAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn near(address: IpAddr) -> bool {
    address == NEAR
}

/// A server that gives these answers, one a connection, and counts who came.
struct Server {
    port: u16,
    visits: Arc<AtomicUsize>,
}

fn server(address: Ipv4Addr, answers: impl IntoIterator<Item = Vec<u8>>) -> Server {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let visits = Arc::new(AtomicUsize::new(0));
    let (count, mut answers) = (visits.clone(), answers.into_iter().collect::<VecDeque<_>>());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|l| !l.is_empty()))
            {}
            let answer = answers.pop_front().unwrap_or_default();
            let _ = stream.write_all(&answer);
            if answer.ends_with(b"...") {
                thread::sleep(Duration::from_secs(5));
            }
        }
    });
    Server { port, visits }
}

fn ok(headers: &str, body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\n", headers.as_bytes(), b"\r\n", body].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// Every name resolves to the next of these addresses, the last one for ever.
#[derive(Debug)]
struct Names(Mutex<VecDeque<Ipv4Addr>>);

impl Names {
    fn new(addresses: &[Ipv4Addr]) -> Self {
        Self(Mutex::new(addresses.iter().copied().collect()))
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut queue = self.0.lock().unwrap();
        let address = queue.front().copied().unwrap();
        if queue.len() > 1 {
            queue.pop_front();
        }
        let mut found = self.empty();
        found.push((address, uri.port_u16().unwrap_or(80)).into());
        Ok(found)
    }
}

fn limits() -> Limits {
    Limits {
        deadline: Instant::now() + Duration::from_secs(20),
        idle: Duration::from_secs(10),
    }
}

/// Bytes, name, type.
type Got = (Vec<u8>, Option<String>, Option<String>);

/// What was fetched, or the error's code; the folder is empty afterwards.
fn fetched(url: &str, limits: Limits, resolver: impl Resolver) -> Result<Got, &'static str> {
    fetched_trusting(url, limits, resolver, TlsConfig::default())
}

fn fetched_trusting(
    url: &str,
    limits: Limits,
    resolver: impl Resolver,
    tls: TlsConfig,
) -> Result<Got, &'static str> {
    let media = tempfile::tempdir().unwrap();
    let staging = Staging::open(media.path()).unwrap();
    let begin = |said: Said| {
        let hint = Hint {
            name: said.name.unwrap_or_default(),
            mime_type: said.mime_type.unwrap_or_default(),
        };
        let wanted = Wanted {
            hint,
            document: true,
            ..Wanted::default()
        };
        Intake::new(&staging, wanted, 1000)
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let result = fetch_with(url, begin, &limits, near, resolver, tls)
        .map(|fetched| {
            let (Taken::Sealed(sealed), wanted) = fetched.finish().unwrap() else {
                panic!("it is taken for a document")
            };
            let Hint { name, mime_type } = wanted.hint;
            (sealed.head, some(name), some(mime_type))
        })
        .map_err(|error| {
            let said = error.to_string();
            assert!(!said.contains("secret"), "{said}");
            error.code()
        });
    assert_eq!(left(media.path()), 1, "only the lock");
    result
}

fn left(media: &Path) -> usize {
    std::fs::read_dir(media.join("staged")).unwrap().count()
}

fn code(url: &str) -> &'static str {
    fetched(url, limits(), DefaultResolver::default()).unwrap_err()
}

#[test]
fn a_file_with_its_name_and_type() {
    let headers = "Content-Length: 3\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=\"../a.txt\"\r\n";
    let with = server(NEAR, [ok(headers, b"abc"), ok("", b"to the end")]);
    let get = |path| {
        let url = format!("http://127.0.0.1:{}/{path}", with.port);
        fetched(&url, limits(), DefaultResolver::default()).unwrap()
    };
    let (bytes, name, mime) = get("x?secret=1");
    assert_eq!((bytes, name), (b"abc".to_vec(), Some("a.txt".to_owned())));
    assert_eq!(mime.as_deref(), Some("text/plain"));
    let (bytes, name, _) = get("y%20z.pdf");
    assert_eq!(
        (bytes, name),
        (b"to the end".to_vec(), Some("y z.pdf".to_owned()))
    );
}

#[test]
fn what_is_no_plain_web_address_is_refused() {
    for url in [
        "",
        "secret",
        "/secret",
        "file:///etc/passwd",
        "ftp://127.0.0.1/secret",
        "gopher://127.0.0.1/",
        "socks5://127.0.0.1:1/",
        "http:///secret",
        "http://user:secret@127.0.0.1/",
        "http://user@127.0.0.1/",
        "http://127.0.0.1@127.0.0.2/",
        "data:image/png;base64,AAAA",
    ] {
        assert_eq!(code(url), "attachment_url_refused", "{url}");
    }
}

#[test]
fn private_addresses_are_refused_however_they_are_written() {
    let inside = server(PRIVATE, [ok("", b"secret")]);
    for host in [
        "127.0.0.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "[::]",
    ] {
        let url = format!("http://{host}:{}/secret", inside.port);
        assert_eq!(code(&url), "attachment_url_refused", "{host}");
    }
    let url = format!("http://name.test:{}/", inside.port);
    let named = fetched(&url, limits(), Names::new(&[PRIVATE]));
    assert_eq!(named.unwrap_err(), "attachment_url_refused");
    assert_eq!(inside.visits.load(Ordering::SeqCst), 0);
}

#[test]
fn each_redirect_is_checked_anew() {
    let inside = server(PRIVATE, [ok("", b"secret")]);
    for to in [
        format!("http://127.0.0.2:{}/secret", inside.port),
        format!("http://u:secret@127.0.0.1:{}/", inside.port),
        "ftp://127.0.0.1/secret".to_owned(),
        "gopher://127.0.0.1/secret".to_owned(),
    ] {
        let outside = server(NEAR, [redirect(&to)]);
        let url = format!("http://127.0.0.1:{}/", outside.port);
        assert_eq!(code(&url), "attachment_url_refused", "{to}");
        assert_eq!(outside.visits.load(Ordering::SeqCst), 1);
    }
    // A URL without a host is none to the HTTP library.
    let outside = server(NEAR, [redirect("file:///etc/secret")]);
    let url = format!("http://127.0.0.1:{}/", outside.port);
    assert_eq!(code(&url), "attachment_unreachable");
    // The same name answers differently the second time.
    let outside = server(NEAR, [redirect("/again"), ok("", b"never")]);
    let url = format!("http://name.test:{}/", outside.port);
    let rebound = fetched(&url, limits(), Names::new(&[NEAR, PRIVATE]));
    assert_eq!(rebound.unwrap_err(), "attachment_url_refused");
    assert_eq!(inside.visits.load(Ordering::SeqCst), 0);
    assert_eq!(outside.visits.load(Ordering::SeqCst), 1);
}

#[test]
fn what_is_dialled_is_checked_whatever_was_resolved() {
    let inside = server(PRIVATE, [ok("", b"secret")]);
    let url = format!("http://name.test:{}/", inside.port);
    let refused = |agent: Agent| {
        let error = why(agent.get(&url).call().unwrap_err(), "name.test");
        assert_eq!(error.code(), "attachment_url_refused");
    };
    let names = || Names::new(&[PRIVATE]);
    let dial = Dial { admits: near }.chain(TcpConnector::default());
    let config = || config(&limits(), TlsConfig::default());
    refused(Agent::with_parts(config(), dial, names()));
    // Nor does the other check need this one.
    let inner = names();
    let (dial, guard) = (
        ().chain(TcpConnector::default()),
        Guard {
            admits: near,
            inner,
        },
    );
    refused(Agent::with_parts(config(), dial, guard));
    assert_eq!(inside.visits.load(Ordering::SeqCst), 0);
}

#[test]
fn five_redirects_and_no_more() {
    let hops = |n| std::iter::repeat_n(redirect("/next"), n).chain([ok("", b"there")]);
    for (n, expected) in [(5, None), (6, Some("attachment_unreachable"))] {
        let server = server(NEAR, hops(n));
        let url = format!("http://127.0.0.1:{}/", server.port);
        let result = fetched(&url, limits(), DefaultResolver::default());
        assert_eq!(result.err(), expected);
    }
}

#[test]
fn the_limit_holds_whatever_the_server_says() {
    let big = vec![b'x'; 1001];
    let answers = [
        ok("Content-Length: 1001\r\n", b"..."),
        ok("", &big),
        ok(
            "Transfer-Encoding: chunked\r\n",
            &[b"3e9\r\n", &big[..], b"\r\n0\r\n\r\n"].concat(),
        ),
    ];
    for answer in answers {
        let server = server(NEAR, [answer]);
        let url = format!("http://127.0.0.1:{}/", server.port);
        assert_eq!(code(&url), "attachment_too_large");
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[test]
fn what_is_not_the_whole_file_is_none() {
    for answer in [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ok("Content-Length: 10\r\n", b"abc"),
        ok("Content-Encoding: gzip\r\nContent-Length: 3\r\n", b"abc"),
        ok(CHUNKED, b"5\r\nab"),
        ok(CHUNKED, b"3\r\nabc\r\n"),
        b"no http\r\n\r\n".to_vec(),
        Vec::new(),
    ] {
        let said = String::from_utf8_lossy(&answer).into_owned();
        let server = server(NEAR, [answer]);
        let url = format!("http://127.0.0.1:{}/", server.port);
        assert_eq!(code(&url), "attachment_unreachable", "{said}");
    }
    assert_eq!(code("http://127.0.0.1:1/"), "attachment_unreachable");
}

#[test]
fn a_silent_or_slow_server_is_left() {
    let slow = Limits {
        idle: Duration::from_millis(100),
        ..limits()
    };
    let late = Limits {
        deadline: Instant::now() + Duration::from_millis(200),
        ..limits()
    };
    for limits in [slow, late] {
        for answer in [
            &b"HTTP/1.1 200 ..."[..],
            &ok("Content-Length: 100\r\n", b"..."),
        ] {
            let server = server(NEAR, [answer.to_vec()]);
            let url = format!("http://127.0.0.1:{}/", server.port);
            let before = Instant::now();
            let result = fetched(&url, limits, DefaultResolver::default());
            assert_eq!(result.unwrap_err(), "attachment_timeout");
            assert!(before.elapsed() < Duration::from_secs(4));
        }
    }
}

#[test]
fn only_a_build_for_tests_keeps_to_this_machine() {
    let admitted = |allow_private, tests_only| {
        let addresses = ["8.8.8.8", "192.168.1.1", "127.0.0.1"];
        addresses.map(|address| admits(allow_private, tests_only)(address.parse().unwrap()))
    };
    assert_eq!(admitted(false, false), [true, false, false]);
    assert_eq!(admitted(true, false), [true, true, true]);
    assert_eq!(admitted(false, true), [false, false, false]);
    assert_eq!(admitted(true, true), [false, false, true]);
}

#[tokio::test]
async fn a_server_of_https_is_who_its_certificate_says() {
    let server = whatsapp_loopback::Server::start(Default::default())
        .await
        .unwrap();
    let path = server.core().media.publish(&b"over TLS"[..]).unwrap();
    let port = server.addr().port();
    let own = Certificate::from_der(whatsapp_loopback::listener::certificate().unwrap());
    let trusting = || {
        let roots = RootCerts::Specific(Arc::new(vec![own.to_owned()]));
        TlsConfig::builder().root_certs(roots).build()
    };
    let get = async |host: &str, tls: TlsConfig| {
        let url = format!("https://{host}:{port}{path}?secret=1");
        let fetching = move || fetched_trusting(&url, limits(), Names::new(&[NEAR]), tls);
        tokio::task::spawn_blocking(fetching).await.unwrap()
    };
    let (bytes, name, mime) = get("localhost", trusting()).await.unwrap();
    assert_eq!(bytes, b"over TLS");
    assert!(path.ends_with(&name.unwrap()));
    assert_eq!(mime.as_deref(), Some("image/jpeg"));
    // A name that is not in it, and a certificate that nobody vouches for.
    let other = get("name.test", trusting()).await;
    assert_eq!(other.unwrap_err(), "attachment_unreachable");
    let unknown = get("localhost", TlsConfig::default()).await;
    assert_eq!(unknown.unwrap_err(), "attachment_unreachable");
}

//! Linking, logging in, and losing the right to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wacore::{
    store::InMemoryBackend,
    types::events::{Event, EventHandler, EventKind},
};
use whatsapp_loopback::{
    Options, Server,
    core::PairError,
    people::{Person, PersonSpec},
};
use whatsapp_rust::{
    TokioRuntime,
    bot::{Bot, BotHandle},
    pair_code::PairCodeOptions,
};
use whatsapp_rust_tokio_transport::TokioWebSocketTransportFactory;
use whatsapp_rust_ureq_http_client::UreqHttpClient;

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

async fn shown(person: &Person) -> Result<String> {
    person
        .wait_for("a QR", |seen| seen.qrs.first().cloned())
        .await
}

async fn until(what: &str, mut check: impl FnMut() -> bool) -> Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.with_context(|| what.to_owned())
}

fn handshake(server: &Server) -> Option<String> {
    let connections = server.core().connections();
    let handshake = connections.last()?.handshake?;
    Some(format!("{handshake:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_may_be_typed_wrong_and_in_groups() -> Result<()> {
    let server = server().await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice").phone("15550100")).await?;
    alice
        .wait_for("a QR", |seen| seen.qrs.first().cloned())
        .await?;
    let core = server.core();
    assert_eq!(
        core.enter_code("15550100", "ABCD1234").await,
        Err(PairError::NoCodeWanted)
    );
    let options = PairCodeOptions {
        phone_number: "15550100".to_owned(),
        custom_code: Some("KATZE123".to_owned()),
        ..PairCodeOptions::default()
    };
    let code = alice.client().await?.pair_with_code(options).await?;
    assert_eq!(code, "KATZE123");
    assert_eq!(
        core.enter_code("15550100", "KATZE124").await,
        Err(PairError::WrongCode)
    );
    assert_eq!(
        core.enter_code("15550199", "KATZE123").await,
        Err(PairError::NoCodeWanted)
    );
    let account = core.enter_code("+15550100", "KATZ-E123").await?;
    assert_eq!(account.phone, "15550100");
    alice.wait_ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_qr_of_a_client_is_refused() -> Result<()> {
    let server = server().await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice")).await?;
    let first = shown(&alice).await?;
    let core = server.core();
    assert_eq!(core.scan_qr("hello", None), Err(PairError::NotAQr));
    let fields: Vec<&str> = first.split(',').collect();
    let swapped = [fields[0], fields[2], fields[1], fields[3]].join(",");
    assert_eq!(core.scan_qr(&swapped, None), Err(PairError::NotAQr));
    let (_, keys) = first.split_once(',').context("no QR")?;
    let unknown = format!("2@nobody,{keys}");
    assert_eq!(core.scan_qr(&unknown, None), Err(PairError::UnknownQr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qr_that_was_replaced_has_expired() -> Result<()> {
    let options = Options {
        qr_first_ttl: Duration::ZERO,
        qr_grace: Duration::ZERO,
        ..Options::default()
    };
    let server = Server::start(options).await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice")).await?;
    let first = shown(&alice).await?;
    assert_eq!(
        server.core().scan_qr(&first, None),
        Err(PairError::ExpiredQr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_no_qr_is_left_the_connection_ends() -> Result<()> {
    let options = Options {
        qr_first_ttl: Duration::ZERO,
        qr_ttl: Duration::ZERO,
        qr_grace: Duration::from_millis(100),
        ..Options::default()
    };
    let server = Server::start(options).await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice")).await?;
    let first = shown(&alice).await?;
    let core = server.core();
    until("the connection ends", || core.connections().is_empty()).await?;
    assert_eq!(core.scan_qr(&first, None), Err(PairError::UnknownQr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_logins_know_the_key_until_it_changes() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    alice.reconnect().await?;
    assert_eq!(handshake(&server).as_deref(), Some("Ik"));
    let connection = server.core().connections().pop().context("connected")?;
    assert_eq!(
        connection.routing,
        Some(8),
        "it brings along what it was told"
    );
    server.core().rotate_static();
    alice.reconnect().await?;
    assert_eq!(handshake(&server).as_deref(), Some("XxFallback"));
    alice.reconnect().await?;
    assert_eq!(handshake(&server).as_deref(), Some("Ik"));
    let info = server.core().account(alice.phone()).context("account")?;
    ensure!(info.devices[0].logins >= 4, "{info:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_logged_out_stays_out() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let phone = alice.phone().to_owned();
    assert!(server.core().logout_device(&phone, alice.device().await?));
    alice
        .wait_for("the logout", |seen| seen.logged_out.then_some(()))
        .await?;
    assert!(
        server
            .core()
            .account(&phone)
            .context("account")?
            .devices
            .is_empty()
    );
    assert!(!server.core().logout_device(&phone, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_revoked_learns_it_when_it_comes_back() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    assert!(server.core().revoke_device(alice.phone(), 1));
    // It dials again of its own accord.
    alice
        .wait_for("the logout", |seen| seen.logged_out.then_some(()))
        .await?;
    let refused = server
        .core()
        .stanzas()
        .into_iter()
        .any(|stanza| stanza.tag == "failure" && stanza.attr("reason") == Some("401"));
    ensure!(refused, "the login was not refused");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_log_itself_out() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let second = alice.add_device().await?;
    assert_eq!(second.device().await?, 2);
    second.client().await?.logout().await;
    until("the device is gone", || {
        server
            .core()
            .account(alice.phone())
            .is_some_and(|account| account.devices.len() == 1)
    })
    .await
}

/// A client over a store that others may use too.
async fn client(server: &Server, store: &Arc<InMemoryBackend>) -> Result<(BotHandle, Heard)> {
    let heard = Heard::default();
    let bot = Bot::builder()
        .with_backend_arc(store.clone())
        .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(server.ws_url()))
        .with_http_client(UreqHttpClient::new())
        .with_runtime(TokioRuntime)
        .with_version((2, 3000, 0))
        .with_push_name("Alice")
        .with_wanted_pre_key_count(20)
        .skip_history_sync()
        .with_event_handler(heard.clone())
        .build()
        .await?;
    Ok((bot.spawn(), heard))
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Arc<Event>>>>);

impl EventHandler for Heard {
    fn handle_event(&self, event: Arc<Event>) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    fn has(&self, kind: EventKind) -> bool {
        self.0
            .lock()
            .unwrap()
            .iter()
            .any(|event| event.kind() == kind)
    }

    fn qr(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .find_map(|event| match &**event {
                Event::PairingQrCode(qr) => Some(qr.code.clone()),
                _ => None,
            })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_replaces_the_other() -> Result<()> {
    let server = server().await?;
    let store = Arc::new(InMemoryBackend::new());
    let (first, heard) = client(&server, &store).await?;
    until("a QR", || heard.qr().is_some()).await?;
    let account = server.core().scan_qr(&heard.qr().context("a QR")?, None)?;
    until("the first is ready", || heard.has(EventKind::Connected)).await?;
    let (second, later) = client(&server, &store).await?;
    until("the second is ready", || later.has(EventKind::Connected)).await?;
    until("the first is replaced", || {
        heard.has(EventKind::StreamReplaced)
    })
    .await?;
    until("one connection is left", || {
        server.core().connections().len() == 1
    })
    .await?;
    let info = server.core().account(&account.phone).context("account")?;
    assert!(info.devices[0].connected);
    first.shutdown().await;
    second.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_number_the_account_is_found_by_name_or_made() -> Result<()> {
    let server = server().await?;
    let core = server.core();
    let known = Person::join_as(&server, PersonSpec::new("Alice").phone("15550100")).await?;
    let twin = Person::unlinked(&server, PersonSpec::new("Alice").phone("15550199")).await?;
    let qr = twin
        .wait_for("a QR", |seen| seen.qrs.first().cloned())
        .await?;
    assert_eq!(core.scan_qr(&qr, Some("0123")), Err(PairError::BadPhone));
    let account = core.scan_qr(&qr, None)?;
    assert_eq!(account.phone, known.phone());
    Ok(())
}

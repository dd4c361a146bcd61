//! App state: what the phone has written before a device is linked, and what the devices write afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wacore::types::events::{Event, EventHandler, EventInterest, EventKind};
use whatsapp_loopback::{
    AccountSpec, Options, Server,
    people::{Person, PersonSpec},
};

async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) -> Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.with_context(|| what.to_owned())
}

fn presence(server: &Server, person: &Person, device: u16) -> Option<String> {
    let account = server.core().account(person.phone())?;
    let device = account.devices.into_iter().find(|d| d.id == device)?;
    device.presence
}

async fn named(person: &Person, name: &str) -> Result<()> {
    until(&format!("{name} is known"), || async {
        person
            .client()
            .await
            .is_ok_and(|client| client.push_name() == name)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_learns_its_name_from_the_phone() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let (alice, bob) = tokio::try_join!(
        Person::join_as(&server, PersonSpec::new("Alice").unintroduced()),
        Person::join(&server, "Bob"),
    )?;
    named(&alice, "Alice").await?;
    until("she is available", || async {
        presence(&server, &alice, 1).as_deref() == Some("available")
    })
    .await?;
    let id = alice.text(&bob, "hello").await?;
    assert_eq!(bob.wait_id(&id).await?.info.push_name, "Alice");

    let second = alice.add_device().await?;
    named(&second, "Alice").await?;
    until("she is available there too", || async {
        presence(&server, &alice, 2).as_deref() == Some("available")
    })
    .await?;

    // From the second login on it knows it, and announces itself at once.
    alice.reconnect().await?;
    assert_eq!(alice.client().await?.push_name(), "Alice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_a_name() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let spec = AccountSpec {
        phone: Some("15550142".to_owned()),
        ..AccountSpec::default()
    };
    let account = server.core().create_account(spec.clone())?;
    ensure!(account.push_name.ends_with(" 0142"), "{account:?}");
    let mut unnamed = PersonSpec::new("").unintroduced();
    unnamed.account = spec;
    let person = Person::join_as(&server, unnamed).await?;
    named(&person, &account.push_name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_names_an_account_that_nobody_has_named() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let spec = AccountSpec {
        phone: Some("15550142".to_owned()),
        ..AccountSpec::default()
    };
    server.core().create_account(spec)?;
    let alice = Person::join_as(&server, PersonSpec::new("Alice").phone("15550142")).await?;
    let name = || Some(server.core().account("15550142")?.push_name);
    assert_eq!(name().as_deref(), Some("Alice"));
    let other = PersonSpec::new("Mallory").phone("15550142");
    let second = Person::join_as(&server, other).await?;
    named(&second, "Alice").await?;
    assert_eq!(alice.client().await?.push_name(), "Alice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_goes_round() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let (alice, bob) = tokio::try_join!(
        Person::join_as(&server, PersonSpec::new("Alice").unintroduced()),
        Person::join(&server, "Bob"),
    )?;
    let second = alice.add_device().await?;
    named(&second, "Alice").await?;
    // It says so itself; not after the change, which that would undo.
    until("it has announced itself", || async {
        presence(&server, &alice, 2).is_some()
    })
    .await?;
    let client = alice.client().await?;
    client.profile().set_push_name("Alice Liddell").await?;
    named(&second, "Alice Liddell").await?;
    let id = alice.text(&bob, "hello").await?;
    assert_eq!(bob.wait_id(&id).await?.info.push_name, "Alice Liddell");
    // Who is linked after the change reads both patches.
    let third = alice.add_device().await?;
    named(&third, "Alice Liddell").await
}

/// Counts the settings of chats that a client hears of from its siblings.
#[derive(Default)]
struct Ear(AtomicUsize);

impl EventHandler for Ear {
    fn handle_event(&self, _: Arc<Event>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn interest(&self) -> EventInterest {
        EventInterest::of(&[EventKind::PinUpdate, EventKind::ArchiveUpdate])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_write_at_once_hear_of_each_other() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let (alice, bob) = tokio::try_join!(
        Person::join_as(&server, PersonSpec::new("Alice").unintroduced()),
        Person::join(&server, "Bob"),
    )?;
    let second = alice.add_device().await?;
    let (first, other) = (alice.client().await?, second.client().await?);
    let ears = [Arc::new(Ear::default()), Arc::new(Ear::default())];
    let _subscribed = [
        first.subscribe_handler(ears[0].clone()),
        other.subscribe_handler(ears[1].clone()),
    ];
    let chat = bob.pn();
    // Both are of the collection `regular_low`, so that one of them loses and has to write again.
    let (archived, pinned) = tokio::join!(
        async { first.chat_actions().archive_chat(&chat, None).await },
        async { other.chat_actions().pin_chat(&chat).await },
    );
    archived?;
    pinned?;
    until("each has heard of the other's", || async {
        ears.iter().all(|ear| ear.0.load(Ordering::Relaxed) > 0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_device_gets_the_history_once() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let alice = Person::join(&server, "Alice").await?;
    let taken = || {
        let stanzas = server.core().stanzas().into_iter();
        let receipts = stanzas.filter(|stanza| {
            stanza.tag == "receipt" && !stanza.sent && stanza.attr("type") == Some("hist_sync")
        });
        receipts.count()
    };
    until("the client has taken it", || async { taken() == 1 }).await?;
    until("nothing waits", || async {
        server.core().queue_len(alice.phone(), 1) == 0
    })
    .await?;
    alice.reconnect().await?;
    let id = alice.text(&alice, "note").await?;
    alice.wait_ack(&id).await?;
    assert_eq!(taken(), 1);
    Ok(())
}

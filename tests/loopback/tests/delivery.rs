//! What is queued, settled, delivered again and sent again.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use whatsapp_loopback::{
    Fault, Options, Server, Target,
    core::StanzaRecord,
    faults::FillQueue,
    load::Load,
    people::{Person, PersonSpec},
};

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

async fn inject(server: &Server, person: &Person, fault: Fault) -> Result<Vec<String>> {
    let target = Target::device(person.phone(), 1);
    let report = server.core().inject(target, fault).await;
    Ok(report.map_err(|why| anyhow!(why))?.queued)
}

async fn until(what: &str, mut check: impl FnMut() -> bool) -> Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.with_context(|| what.to_owned())
}

fn count(server: &Server, matches: impl Fn(&StanzaRecord) -> bool) -> usize {
    server
        .core()
        .stanzas()
        .iter()
        .filter(|stanza| matches(stanza))
        .count()
}

fn settled(server: &Server, person: &Person) -> bool {
    server.core().queue_len(person.phone(), 1) == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_arrives_in_order_and_once() -> Result<()> {
    let server = server().await?;
    for lid in [false, true] {
        let spec = PersonSpec::new(if lid { "Lida" } else { "Paul" });
        let person = Person::join_as(&server, if lid { spec.lid_migrated() } else { spec }).await?;
        person.disconnect().await;
        let fill = FillQueue {
            n: 500,
            senders: 7,
            text: "{n} from {sender}".to_owned(),
            lid,
            age: 3_600,
            ..FillQueue::default()
        };
        let ids = inject(&server, &person, Fault::FillQueue(fill)).await?;
        assert_eq!(ids.len(), 500);
        assert_eq!(server.core().queued_messages(person.phone(), 1), ids);
        person.reconnect().await?;
        person
            .wait_for("all", |seen| {
                let texts = seen.messages.iter().filter(|one| one.text().is_some());
                (texts.count() >= 500).then_some(())
            })
            .await?;
        for sender in 0..7 {
            let texts: Vec<String> = person.seen(|seen| {
                let texts = seen.messages.iter().filter_map(|message| message.text());
                texts
                    .filter(|text| text.ends_with(&format!("from {sender}")))
                    .map(str::to_owned)
                    .collect()
            });
            let expected: Vec<String> = (0..500)
                .filter(|n| n % 7 == sender)
                .map(|n| format!("{n} from {sender}"))
                .collect();
            assert_eq!(texts, expected);
        }
        person.seen(|seen| {
            for id in &ids {
                assert_eq!(seen.count_id(id), 1);
            }
            let first = seen.texts("0 from 0").next().map(|one| one.chat().is_lid());
            assert_eq!(first, Some(lid));
        });
        until("all is settled", || settled(&server, &person)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_measured() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let load = Load {
        messages: 200,
        senders: 4,
        window: 16,
        text: "load {n}".to_owned(),
        lid: false,
        phones: Vec::new(),
        deadline: Duration::from_secs(60),
    };
    let report = server
        .core()
        .load(alice.phone(), 1, &load)
        .await
        .map_err(|why| anyhow!(why))?;
    assert_eq!(report.latencies.len(), 200);
    ensure!(
        report
            .latencies
            .iter()
            .all(|latency| *latency <= report.elapsed)
    );
    alice.seen(|seen| {
        for n in 0..200 {
            assert_eq!(seen.count_text(&format!("load {n}")), 1);
        }
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_says_that_it_has_what_it_was_sent() -> Result<()> {
    let server = server().await?;
    for lid in [false, true] {
        let spec = PersonSpec::new("Alice");
        let alice = Person::join_as(&server, if lid { spec.lid_migrated() } else { spec }).await?;
        let writer = server
            .core()
            .writer(None, alice.phone(), 1, lid)
            .map_err(|why| anyhow!(why))?;
        writer.write("hello").map_err(|why| anyhow!(why))?;
        let hello = alice.wait_text("hello").await?;
        let id = alice.text(hello.chat().clone(), "hello back").await?;
        assert_eq!(alice.wait_ack(&id).await?, None);
        alice
            .wait_for("a receipt", |seen| {
                seen.receipts_for(&id).next().map(|_| ())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_run_out_are_asked_for_and_done_without() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let bob = Person::join(&server, "Bob").await?;
    alice.disconnect().await;
    inject(&server, &alice, Fault::ExhaustPrekeys).await?;
    let id = bob.text(&alice, "without a one-time key").await?;
    bob.wait_ack(&id).await?;
    alice.reconnect().await?;
    alice.wait_text("without a one-time key").await?;
    until("new keys are there", || {
        let account = server.core().account(alice.phone());
        account.is_some_and(|account| account.devices[0].one_time_keys > 0)
    })
    .await
}

fn retries(server: &Server, person: &Person) -> usize {
    count(server, |stanza| {
        !stanza.sent
            && stanza.tag == "receipt"
            && stanza.phone == person.phone()
            && stanza.attr("type") == Some("retry")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_is_asked_for_again() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let bob = Person::join(&server, "Bob").await?;
    inject(&server, &alice, Fault::Corrupt { times: 1 }).await?;
    let id = bob.text(&alice, "one").await?;
    assert_eq!(alice.wait_id(&id).await?.text(), Some("one"));
    assert_eq!(retries(&server, &alice), 1);
    let group = bob.create_group("Two", &[&alice]).await?;
    bob.text(group.clone(), "two").await?;
    alice.wait_text("two").await?;
    inject(&server, &alice, Fault::Corrupt { times: 1 }).await?;
    bob.text(group, "three").await?;
    alice.wait_text("three").await?;
    assert_eq!(retries(&server, &alice), 2);
    let writer = server
        .core()
        .writer(None, alice.phone(), 1, false)
        .map_err(|why| anyhow!(why))?;
    inject(&server, &alice, Fault::Corrupt { times: 1 }).await?;
    writer.write("four").map_err(|why| anyhow!(why))?;
    alice.wait_text("four").await?;
    assert_eq!(retries(&server, &alice), 3);
    until("all is settled", || settled(&server, &alice)).await?;
    for text in ["one", "two", "three", "four"] {
        assert_eq!(alice.seen(|seen| seen.count_text(text)), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_settled_comes_again() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let bob = Person::join(&server, "Bob").await?;
    // The connection ends with the message, before a receipt can come.
    inject(&server, &alice, Fault::DropMidFrame { after: 0 }).await?;
    let id = bob.text(&alice, "cut off").await?;
    alice.wait_id(&id).await?;
    until("it is settled", || settled(&server, &alice)).await?;
    let deliveries = count(&server, |stanza| {
        stanza.sent && stanza.tag == "message" && stanza.attr("id") == Some(&id)
    });
    assert_eq!(deliveries, 1, "half a frame is none");
    let again = server
        .core()
        .stanzas()
        .into_iter()
        .any(|stanza| stanza.attr("id") == Some(&id) && stanza.attr("offline").is_some());
    ensure!(again, "it came from the offline queue");
    Ok(())
}

//! Each fault does what it says, to a real client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use wacore::types::events::EventKind;
use whatsapp_loopback::{
    Fault, Options, Server, Target,
    core::{FaultReport, StanzaRecord},
    people::Person,
};

struct Pair {
    server: Server,
    alice: Person,
    bob: Person,
}

async fn pair() -> Result<Pair> {
    let server = Server::start(Options::default()).await?;
    let alice = Person::join(&server, "Alice").await?;
    let bob = Person::join(&server, "Bob").await?;
    Ok(Pair { server, alice, bob })
}

impl Pair {
    /// Lets a fault loose on Alice's device.
    async fn fault(&self, fault: Fault) -> Result<FaultReport> {
        let target = Target::device(self.alice.phone(), 1);
        let report = self.server.core().inject(target, fault).await;
        report.map_err(|why| anyhow!(why))
    }

    fn logins(&self) -> u64 {
        let account = self.server.core().account(self.alice.phone());
        account.map_or(0, |account| account.devices[0].logins)
    }

    /// Waits until Alice has come back after a fault that threw her out.
    async fn is_back(&self, before: u64) -> Result<()> {
        until("Alice is back", || {
            let account = self.server.core().account(self.alice.phone());
            self.logins() > before && account.is_some_and(|account| account.devices[0].live)
        })
        .await
    }

    /// Whether the server has sent the message to Alice, and has nothing of it left to send.
    fn acknowledged(&self, id: &str) -> bool {
        let sent =
            self.sent_to_alice(|stanza| stanza.tag == "message" && stanza.attr("id") == Some(id));
        let queued = self.server.core().queued_messages(self.alice.phone(), 1);
        sent > 0 && !queued.iter().any(|queued| queued == id)
    }

    fn sent_to_alice(&self, matches: impl Fn(&StanzaRecord) -> bool) -> usize {
        let stanzas = self.server.core().stanzas();
        stanzas
            .iter()
            .filter(|stanza| stanza.sent && stanza.phone == self.alice.phone() && matches(stanza))
            .count()
    }
}

async fn until(what: &str, mut check: impl FnMut() -> bool) -> Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.with_context(|| what.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_connections_lose_nothing() -> Result<()> {
    let pair = pair().await?;
    for (n, fault) in [
        Fault::DropNow,
        Fault::DropAfter { stanzas: 1 },
        Fault::DropMidFrame { after: 1 },
    ]
    .into_iter()
    .enumerate()
    {
        let before = pair.logins();
        pair.fault(fault).await?;
        let mut sent = Vec::new();
        for part in ["a", "b", "c"] {
            sent.push(pair.bob.text(&pair.alice, &format!("{n}{part}")).await?);
        }
        pair.is_back(before).await?;
        // Whether Alice's client makes something of each is another matter: what it had decrypted and not yet handed
        // over when the connection ended, it takes for a duplicate when it comes again.
        for id in &sent {
            until("each is acknowledged", || pair.acknowledged(id)).await?;
            assert!(pair.alice.seen(|seen| seen.count_id(id)) <= 1);
        }
        let last = format!("{n}d");
        pair.bob.text(&pair.alice, &last).await?;
        pair.alice.wait_text(&last).await?;
    }
    ensure!(pair.server.core().faults().armed().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_holds_everything_up() -> Result<()> {
    let pair = pair().await?;
    let began = Instant::now();
    pair.fault(Fault::Stall { ms: 400 }).await?;
    pair.bob.text(&pair.alice, "late").await?;
    pair.alice.wait_text("late").await?;
    ensure!(began.elapsed() >= Duration::from_millis(400));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_are_late_or_missing_or_refusals() -> Result<()> {
    let pair = pair().await?;
    let (alice, bob) = (&pair.alice, &pair.bob);
    let began = Instant::now();
    pair.fault(Fault::DelayAcks { ms: 300, times: 1 }).await?;
    let id = alice.text(bob, "late").await?;
    assert_eq!(alice.wait_ack(&id).await?, None);
    ensure!(began.elapsed() >= Duration::from_millis(300));

    pair.fault(Fault::WithholdAcks { times: 1 }).await?;
    let lost = alice.text(bob, "no ack").await?;
    bob.wait_text("no ack").await?;
    let id = alice.text(bob, "ack").await?;
    assert_eq!(alice.wait_ack(&id).await?, None);
    ensure!(alice.seen(|seen| seen.ack(&lost).is_none()));

    pair.fault(Fault::Nack {
        code: 463,
        times: 1,
    })
    .await?;
    let refused = alice.text(bob, "refused").await?;
    assert_eq!(alice.wait_ack(&refused).await?.as_deref(), Some("463"));
    let id = alice.text(bob, "accepted").await?;
    assert_eq!(alice.wait_ack(&id).await?, None);
    bob.wait_text("accepted").await?;
    assert_eq!(bob.seen(|seen| seen.count_text("refused")), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_and_out_of_order() -> Result<()> {
    let pair = pair().await?;
    let (alice, bob) = (&pair.alice, &pair.bob);
    pair.fault(Fault::DeliverTwice { times: 1 }).await?;
    let twice = bob.text(alice, "twice").await?;
    bob.text(alice, "once").await?;
    alice.wait_text("once").await?;
    let of = |id: &str| {
        pair.sent_to_alice(|stanza| stanza.tag == "message" && stanza.attr("id") == Some(id))
    };
    assert_eq!(of(&twice), 2);
    assert_eq!(alice.seen(|seen| seen.count_id(&twice)), 1);

    pair.fault(Fault::Reorder { times: 1 }).await?;
    let first = bob.text(alice, "first").await?;
    let second = bob.text(alice, "second").await?;
    alice.wait_text("first").await?;
    alice.wait_text("second").await?;
    let order: Vec<String> = pair
        .server
        .core()
        .stanzas()
        .iter()
        .filter(|stanza| stanza.sent && stanza.tag == "message")
        .filter_map(|stanza| stanza.attr("id").map(str::to_owned))
        .filter(|id| *id == first || *id == second)
        .collect();
    assert_eq!(order, [second, first]);

    pair.fault(Fault::Reorder { times: 1 }).await?;
    bob.text(alice, "alone").await?;
    alice.wait_text("alone").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_an_error_and_go_on() -> Result<()> {
    let pair = pair().await?;
    for code in [503, 515, 429] {
        let before = pair.logins();
        assert_eq!(pair.fault(Fault::StreamError { code }).await?.devices, 1);
        pair.is_back(before)
            .await
            .with_context(|| format!("after {code}"))?;
    }
    pair.fault(Fault::StreamError { code: 516 }).await?;
    pair.alice
        .wait_for("the logout", |seen| seen.logged_out.then_some(()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_refused_for_a_while() -> Result<()> {
    let pair = pair().await?;
    let before = pair.logins();
    pair.fault(Fault::ConnectFailure {
        code: 503,
        times: 2,
        expire: None,
    })
    .await?;
    pair.fault(Fault::DropNow).await?;
    pair.is_back(before).await?;
    let refusals = pair.server.core().stanzas();
    let refusals = refusals
        .iter()
        .filter(|stanza| stanza.tag == "failure" && stanza.attr("reason") == Some("503"));
    assert_eq!(refusals.count(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_says_how_long() -> Result<()> {
    let pair = pair().await?;
    pair.fault(Fault::ConnectFailure {
        code: 402,
        times: 1,
        expire: Some(3_600),
    })
    .await?;
    pair.fault(Fault::DropNow).await?;
    pair.alice
        .wait_for("the ban", |seen| {
            seen.kinds.contains(&EventKind::TemporaryBan).then_some(())
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_refused_or_ignored() -> Result<()> {
    let pair = pair().await?;
    let group = pair.alice.create_group("Two", &[&pair.bob]).await?;
    pair.fault(Fault::RefuseIq {
        xmlns: "w:g2".to_owned(),
        code: 429,
        times: 1,
    })
    .await?;
    ensure!(pair.alice.group(&group).await.is_err());
    pair.alice.group(&group).await?;
    Ok(())
}

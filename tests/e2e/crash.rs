//! Plugin and host killed with SIGKILL at any instant: nothing is lost, and nobody is answered twice.
//!
//! The short form runs with the suite; `CHANNEL_WHATSAPP_LONG=1` makes it several hundred kills. The seed of a run is
//! printed, and `CHANNEL_WHATSAPP_SEED` draws the same kills again.

use crate::common;

use std::time::Duration;

use common::simhost::{self, Mode, What};
use common::stage::Stage;
use serde_json::json;
use tokio::time::{Instant, sleep};
use whatsapp_loopback::Fault;

/// Chats, in turn by phone number and by LID.
const CHATS: usize = 20;

#[test]
#[ignore = "the process of the simulated host; the tests here start it"]
fn host() {
    simhost::play();
}

fn long() -> bool {
    std::env::var_os("CHANNEL_WHATSAPP_LONG").is_some()
}

/// The generator of a run, and the seed that draws it again.
fn drawn() -> (fastrand::Rng, u64) {
    let given = std::env::var("CHANNEL_WHATSAPP_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |s| s.parse().expect("a number"));
    println!("CHANNEL_WHATSAPP_SEED={seed}");
    (fastrand::Rng::with_seed(seed), seed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant() {
    let (mut rng, seed) = drawn();
    let mut stage = Stage::set(CHATS).await;
    stage.everybody_writes(&mut rng);
    for _ in 0..if long() { 400 } else { 25 } {
        stage.run_and_kill(&mut rng, 1800).await;
    }
    stage.drain().await;
    let repeated = stage.repeated();
    stage.judge(seed, repeated);
}

/// The same while the server drops connections, delivers twice, keeps acknowledgements back and wants to be left
/// alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_the_server_fails() {
    let (mut rng, seed) = drawn();
    let mut stage = Stage::set(CHATS).await;
    stage.everybody_writes(&mut rng);
    for _ in 0..if long() { 200 } else { 8 } {
        stage.world.fault(a_fault(&mut rng)).await;
        stage.run_and_kill(&mut rng, 4000).await;
    }
    stage.world.server.core().faults().clear();
    stage.drain().await;
    let repeated = stage.repeated();
    stage.judge(seed, repeated);
}

fn a_fault(rng: &mut fastrand::Rng) -> Fault {
    let times = rng.u32(1..4);
    match rng.u8(0..7) {
        0 => Fault::DropAfter {
            stanzas: rng.u32(10..200),
        },
        1 => Fault::DropMidFrame {
            after: rng.u32(10..200),
        },
        2 => Fault::DeliverTwice { times },
        3 => Fault::WithholdAcks { times },
        4 => Fault::DelayAcks { ms: 500, times },
        5 => Fault::Nack { code: 503, times },
        _ => Fault::DropNow,
    }
}

/// What a supervisor sees when one message ends its host every time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_host() {
    assert_eq!(deaths(false).await, 3);
}

/// The same where nothing is left of what the host has saved: it cannot say over what it died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_a_host_without_a_memory() {
    assert_eq!(deaths(true).await, 10);
}

/// How many hosts a message kills until the other chats are served.
async fn deaths(forgets: bool) -> usize {
    let mut stage = Stage::set(3).await;
    stage.role.dies_at = Some("0/0".to_owned());
    let plugin = [stage.world.jid(), stage.world.lid()];
    for chat in [0, 1, 2, 0] {
        Stage::write(&stage.book, &stage.people[chat], &plugin, chat).await;
    }
    let mut host = stage.host(None);
    let deadline = Instant::now() + common::PATIENCE;
    while !["1/0", "2/0", "0/1"]
        .iter()
        .all(|text| stage.handled.contains(*text))
    {
        assert!(Instant::now() < deadline, "served: {:?}", stage.handled);
        if host.try_wait().expect("wait").is_some() {
            if forgets {
                stage.forget();
            }
            host = stage.host(None);
        }
        sleep(Duration::from_millis(20)).await;
        stage.read();
    }
    host.kill().await.expect("kill");
    let turns = stage.records.iter();
    let deadly = turns.filter(|r| matches!(&r.what, What::Start { text, .. } if text == "0/0"));
    deadly.count()
}

/// The host's configuration is edited, `up` exchanged for `poll`, its state deleted, between runs that are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_forgets() {
    let (mut rng, seed) = drawn();
    let mut stage = Stage::set(6).await;
    stage.everybody_writes(&mut rng);
    for _ in 0..if long() { 150 } else { 8 } {
        stage.role.config["poll_max_events"] = json!(rng.u32(50..53));
        if rng.bool() {
            stage.forget();
        }
        let mut host;
        if rng.bool() {
            stage.role.mode = Mode::Poll;
            host = stage.host(None);
            common::timeout(host.wait()).await.expect("wait");
        } else {
            stage.role.mode = Mode::Stream;
            host = stage.host(None);
            sleep(Duration::from_millis(rng.u64(0..1500))).await;
            host.kill().await.expect("kill");
        }
        stage.read();
    }
    stage.role.mode = Mode::Stream;
    stage.drain().await;
    stage.judge(seed, Vec::new());
}

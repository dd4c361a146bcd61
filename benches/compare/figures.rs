//! What is measured, and how: the criterion of each figure is the same for both sides, and is seen by the server.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use whatsapp_loopback::faults::FillQueue;
use whatsapp_loopback::load::Load;

use crate::accounts::{Account, PATIENCE, Side, plugin, until};
use crate::bench::{Bench, CHATS};
use crate::process::{Events, Process, own_cpu, request};
use crate::table::{Aim, Unit, quantile};

/// Live messages under way at a time: always several for each chat, so that the client never waits for the server.
const WINDOW: usize = 512;
/// Sends before those that count.
const WARM_UP: usize = 100;

/// A figure, or several that are taken together.
pub struct Figure {
    pub name: &'static str,
    pub take: fn(&mut Bench) -> Result<()>,
}

/// In the order of their taking: what is sensitive to the size of the store comes before what fills it.
pub const FIGURES: &[Figure] = &[
    Figure {
        name: "cold-start",
        take: cold_start,
    },
    Figure {
        name: "ready",
        take: ready,
    },
    Figure {
        name: "idle",
        take: idle,
    },
    Figure {
        name: "health",
        take: health,
    },
    Figure {
        name: "outbound",
        take: outbound,
    },
    Figure {
        name: "media",
        take: crate::media::media,
    },
    Figure {
        name: "live-1",
        take: live_one,
    },
    Figure {
        name: "live-64",
        take: live_many,
    },
    Figure {
        name: "drain",
        take: drain,
    },
];

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The request is in the pipe before the process starts; from there to its exit.
fn cold_start(bench: &mut Bench) -> Result<()> {
    let line = request("capabilities", json!({}));
    let (mut ours, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..bench.sizes.spawns {
        let (took, output) = Process::spawn(plugin(), &line)?.closed()?;
        ensure!(output.contains("\"result\""), "{output}");
        ours.push(milliseconds(took));
        let (took, _) = Process::spawn(Command::new(&bench.empty), &line)?.closed()?;
        empty.push(milliseconds(took));
    }
    for (side, values) in [(Side::Plugin, &mut ours), (Side::Bare, &mut empty)] {
        let middle = quantile(values, 0.5);
        let worst = quantile(values, 1.0);
        bench.note(
            side,
            "cold start",
            Unit::Milliseconds,
            Aim::Over(3.0),
            middle,
        );
        bench.note(
            side,
            "cold start, slowest",
            Unit::Milliseconds,
            Aim::None,
            worst,
        );
    }
    Ok(())
}

/// From the start of the process until the server has its presence, which it announces when it is ready.
fn ready(bench: &mut Bench) -> Result<()> {
    let mut taken: BTreeMap<bool, Vec<f64>> = BTreeMap::new();
    for _ in 0..bench.sizes.starts {
        for account in &bench.accounts {
            let process = Process::connect(account)?;
            account.ready()?;
            let took = milliseconds(process.began.elapsed());
            taken
                .entry(account.side == Side::Plugin)
                .or_default()
                .push(took);
            process.end()?;
            account.away()?;
        }
    }
    for (is_plugin, mut values) in taken {
        let side = if is_plugin { Side::Plugin } else { Side::Bare };
        let middle = quantile(&mut values, 0.5);
        bench.note(
            side,
            "process start to ready",
            Unit::Milliseconds,
            Aim::AtMost(1.5),
            middle,
        );
    }
    Ok(())
}

/// Two seconds after it is ready.
fn idle(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let process = Process::ready(account)?;
        std::thread::sleep(Duration::from_secs(2));
        let (all, own) = (process.memory("VmRSS")?, process.memory("RssAnon")?);
        process.end()?;
        account.away()?;
        let (side, unit) = (account.side, Unit::Mebibytes);
        bench.note(
            side,
            "idle memory, resident",
            unit,
            Aim::AtMost(1.5),
            mebibytes(all),
        );
        bench.note(
            side,
            "idle memory, anonymous",
            unit,
            Aim::None,
            mebibytes(own),
        );
        Ok(())
    })
}

/// One request after the other, over the pipes of a process that is connected.
fn health(bench: &mut Bench) -> Result<()> {
    let line = request("health", json!({}));
    bench.both(|bench, account| {
        if account.side == Side::Bare {
            return Ok(());
        }
        let mut process = Process::ready(account)?;
        let count = bench.sizes.health;
        let began = Instant::now();
        for _ in 0..count {
            process.send(&line)?;
            process.answer()?;
        }
        let rate = count as f64 / began.elapsed().as_secs_f64();
        process.end()?;
        account.away()?;
        bench.note(account.side, "health", Unit::PerSecond, Aim::None, rate);
        Ok(())
    })
}

/// Texts to one person, one after the other, each after the server's ack of the one before.
fn outbound(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let to = format!(
            "{}@s.whatsapp.net",
            account.people.first().context("nobody")?
        );
        let count = bench.sizes.sends;
        let mut process = Process::ready(account)?;
        let mut took: Vec<f64> = match account.side {
            Side::Plugin => push(&mut process, &to, count)?,
            Side::Bare => {
                process.send(&format!("{to} {WARM_UP} {count}\n"))?;
                let answer = process.answer()?;
                let nanos = answer.split_whitespace().map(str::parse::<f64>);
                nanos.map(|nanos| Ok(nanos? / 1e3)).collect::<Result<_>>()?
            }
        };
        process.end()?;
        account.away()?;
        ensure!(took.len() == count, "{} of {count} sends", took.len());
        let (middle, high) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
        let (side, unit) = (account.side, Unit::Microseconds);
        bench.note(side, "outbound to ack, p50", unit, Aim::AtMost(1.3), middle);
        bench.note(side, "outbound to ack, p99", unit, Aim::None, high);
        Ok(())
    })
}

/// From the request's line to the answer's.
fn push(process: &mut Process, to: &str, count: usize) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for n in 0..WARM_UP + count {
        let message = json!({
            "content": format!("number {n}"),
            "content_type": "text/plain",
            "attachments": [],
            "metadata": {"conversation_id": to},
        });
        let line = request("push", json!({"message": message}));
        let began = Instant::now();
        process.send(&line)?;
        let answer = process.answer()?;
        let passed = began.elapsed();
        ensure!(
            answer.contains("\"delivery_state\":\"sent\"")
                || answer.contains("\"delivery_state\":\"delivered\""),
            "{answer}"
        );
        if n >= WARM_UP {
            took.push(passed.as_secs_f64() * 1e6);
        }
    }
    Ok(took)
}

/// A process that receives, with its events collected if it is the plugin.
fn receiving(account: &Account) -> Result<(Process, Option<Events>)> {
    let mut process = Process::connect(account)?;
    let events = match account.side {
        Side::Plugin => Some(process.collect()?),
        Side::Bare => None,
    };
    Ok((process, events))
}

fn load(bench: &Bench, account: &Account, messages: usize, window: usize) -> Result<Loaded> {
    let (process, events) = receiving(account)?;
    account.ready()?;
    let load = Load {
        messages,
        senders: if window == 1 { 1 } else { CHATS },
        window,
        text: "message {n} of chat {sender}".to_owned(),
        lid: false,
        phones: account.people.clone(),
        deadline: PATIENCE,
    };
    let core = account.server().core();
    let before = (process.cpu()?, own_cpu()?);
    let began = Instant::now();
    let report = bench
        .runtime
        .block_on(core.load(&account.phone, account.device, &load));
    let report = report.map_err(|error| anyhow!(error))?;
    let cpu = (
        process.cpu()?.saturating_sub(before.0),
        own_cpu()?.saturating_sub(before.1),
    );
    let all_out = events.map(|events| events.all(messages)).transpose()?;
    process.end()?;
    account.away()?;
    Ok(Loaded {
        elapsed: report.elapsed,
        latencies: report.latencies,
        all_out: all_out.map(|last| last.saturating_duration_since(began)),
        cpu,
    })
}

/// How a load of live messages went.
struct Loaded {
    elapsed: Duration,
    latencies: Vec<Duration>,
    /// Until the last event was read.
    all_out: Option<Duration>,
    /// Processor time of the client and of the server.
    cpu: (Duration, Duration),
}

/// The next message is written when the one before is settled.
fn live_one(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let loaded = load(bench, account, bench.sizes.chat, 1)?;
        let mut took: Vec<f64> = loaded
            .latencies
            .iter()
            .map(|l| l.as_secs_f64() * 1e6)
            .collect();
        let (middle, high) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
        let (side, unit) = (account.side, Unit::Microseconds);
        bench.note(side, "live, one chat, p50", unit, Aim::None, middle);
        bench.note(side, "live, one chat, p99", unit, Aim::None, high);
        Ok(())
    })
}

/// As fast as the client settles them.
fn live_many(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let messages = bench.sizes.live;
        let loaded = load(bench, account, messages, WINDOW)?;
        let (side, seconds) = (account.side, loaded.elapsed.as_secs_f64());
        let rate = messages as f64 / seconds;
        bench.note(
            side,
            "live, 64 chats",
            Unit::PerSecond,
            Aim::AtLeast(1.0),
            rate,
        );
        if let Some(all_out) = loaded.all_out {
            let rate = messages as f64 / all_out.as_secs_f64();
            bench.note(
                side,
                "live, 64 chats, to the event",
                Unit::PerSecond,
                Aim::None,
                rate,
            );
        }
        let (client, server) = loaded.cpu;
        let cores = |time: Duration| time.as_secs_f64() / seconds;
        bench.note(
            side,
            "live, 64 chats, client's cores",
            Unit::Cores,
            Aim::None,
            cores(client),
        );
        bench.note(
            side,
            "live, 64 chats, server's cores",
            Unit::Cores,
            Aim::None,
            cores(server),
        );
        Ok(())
    })
}

/// From the login, which the offline queue follows at once, until the server has everything settled.
fn drain(bench: &mut Bench) -> Result<()> {
    bench.both(|bench, account| {
        let messages = bench.sizes.queue;
        let fill = FillQueue {
            n: messages,
            senders: CHATS,
            phones: account.people.clone(),
            ..FillQueue::default()
        };
        let core = account.server().core();
        core.fill_queue(&account.phone, account.device, &fill)
            .map_err(|error| anyhow!(error))?;
        let waiting = account.queued();
        let logins = account.logins();
        let (process, events) = receiving(account)?;
        until("login", || account.logins() > logins)?;
        let began = Instant::now();
        until("an empty queue", || account.queued() == 0)?;
        let seconds = began.elapsed().as_secs_f64();
        let peak = process.memory("VmHWM")?;
        let side = account.side;
        let rate = waiting as f64 / seconds;
        bench.note(
            side,
            "drain of an offline queue",
            Unit::PerSecond,
            Aim::AtLeast(0.9),
            rate,
        );
        if let Some(events) = events {
            let last = events.all(messages)?.saturating_duration_since(began);
            let rate = messages as f64 / last.as_secs_f64();
            bench.note(
                side,
                "drain, to the event",
                Unit::PerSecond,
                Aim::None,
                rate,
            );
        }
        let (unit, peak) = (Unit::Mebibytes, mebibytes(peak));
        bench.note(side, "drain, peak memory", unit, Aim::None, peak);
        process.end()?;
        account.away()
    })
}

//! Loads: queues that are filled and live messages that are measured, written by synthetic people.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    account::{AccountSpec, Family},
    clock,
    core::Core,
    faults::FillQueue,
    mailbox::Settled,
    sync::lock,
    writer::Writer,
};

/// A load of live messages.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many messages.
    pub messages: usize,
    /// How many people write them, in turn.
    pub senders: usize,
    /// How many may be unsettled at a time.
    pub window: usize,
    /// The text, as in [`FillQueue::text`].
    pub text: String,
    /// Whether the chats are addressed by LID.
    pub lid: bool,
    /// Phone numbers of the senders; those that are missing are made up.
    pub phones: Vec<String>,
    /// How long the device may take for all.
    pub deadline: Duration,
}

/// How a load went.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// From the first message to the last settled one.
    pub elapsed: Duration,
    /// From handing a message in until the device settled it, in the order of settling.
    pub latencies: Vec<Duration>,
}

impl Core {
    /// A synthetic person who writes to a device. `phone` is the writer's; without it one is made up.
    ///
    /// # Errors
    /// In words, when there is no such device or no room.
    pub fn writer(
        self: &Arc<Self>,
        phone: Option<&str>,
        to: &str,
        device: u16,
        lid: bool,
    ) -> Result<Writer, String> {
        let account = self.by_phone(to).ok_or("there is no such account")?;
        let device = account.device(device).ok_or("there is no such device")?;
        let spec = AccountSpec {
            phone: phone.map(str::to_owned),
            lid_migrated: lid,
            ..AccountSpec::default()
        };
        let from = self.open_account(spec).map_err(|error| error.to_string())?;
        lock(&from.state).name_if_unnamed(&format!("Writer {}", from.phone));
        from.writer.store(true, Ordering::Relaxed);
        Ok(Writer {
            core: self.clone(),
            from,
            to: account,
            device,
            family: if lid { Family::Lid } else { Family::Pn },
        })
    }

    fn writers_for(
        self: &Arc<Self>,
        phones: &[String],
        senders: usize,
        to: &str,
        device: u16,
        lid: bool,
    ) -> Result<Vec<Writer>, String> {
        (0..senders.max(1))
            .map(|n| self.writer(phones.get(n).map(String::as_str), to, device, lid))
            .collect()
    }

    /// Puts texts in the queue of a device; answers their ids, in order.
    ///
    /// # Errors
    /// In words, when there is no such device or no room.
    pub fn fill_queue(
        self: &Arc<Self>,
        to: &str,
        device: u16,
        fill: &FillQueue,
    ) -> Result<Vec<String>, String> {
        let writers =
            self.writers_for(&fill.phones, fill.senders.min(fill.n), to, device, fill.lid)?;
        let first = clock::unix().saturating_sub(fill.age);
        (0..fill.n)
            .zip(writers.iter().enumerate().cycle())
            .map(|(n, (sender, writer))| {
                let moment = (fill.age as usize).saturating_mul(n) / fill.n;
                let dated = first + moment as u64;
                writer.send(&text_of(&fill.text, n, sender), dated, None)
            })
            .collect()
    }

    /// Writes live messages to a device as fast as it settles them, and measures.
    ///
    /// # Errors
    /// In words, when there is no such device, or it did not settle all in time.
    pub async fn load(
        self: &Arc<Self>,
        to: &str,
        device: u16,
        load: &Load,
    ) -> Result<LoadReport, String> {
        let writers = self.writers_for(&load.phones, load.senders, to, device, load.lid)?;
        let (track, mut settled) = mpsc::unbounded_channel::<Settled>();
        let began = Instant::now();
        let deadline = tokio::time::Instant::now() + load.deadline;
        let mut latencies = Vec::with_capacity(load.messages);
        let mut sent = 0;
        let mut turns = writers.iter().enumerate().cycle();
        while latencies.len() < load.messages {
            while sent < load.messages
                && sent - latencies.len() < load.window.max(1)
                && let Some((sender, writer)) = turns.next()
            {
                let text = text_of(&load.text, sent, sender);
                writer.send(&text, clock::unix(), Some(track.clone()))?;
                sent += 1;
            }
            let next = tokio::time::timeout_at(deadline, settled.recv()).await;
            let Ok(Some(first)) = next else {
                return Err(format!(
                    "{} of {} were settled",
                    latencies.len(),
                    load.messages
                ));
            };
            latencies.push(first.settled - first.accepted);
            while let Ok(more) = settled.try_recv() {
                latencies.push(more.settled - more.accepted);
            }
        }
        Ok(LoadReport {
            elapsed: began.elapsed(),
            latencies,
        })
    }
}

fn text_of(pattern: &str, n: usize, sender: usize) -> String {
    pattern
        .replace("{n}", &n.to_string())
        .replace("{sender}", &sender.to_string())
}

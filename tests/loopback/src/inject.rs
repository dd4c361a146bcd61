//! Faults as they come from a test or over the admin API: armed for their moment, or acting at once.

use std::{sync::Arc, time::Duration};

use wacore_binary::Node;

use crate::{
    account::{Account, Device},
    clock,
    connection::stream_error,
    core::{ConnectionInfo, Core},
    faults::{Fault, FillQueue, Target},
    iq::encrypt::{is_low, tell_low},
    sync::lock,
    wire::node,
};

/// What a fault came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FaultReport {
    /// Whether it is armed and waits for its moment.
    pub armed: bool,
    /// Devices or connections that it acted on.
    pub devices: usize,
    /// Ids of the messages that it queued, in order.
    pub queued: Vec<String>,
}

impl Core {
    /// Arms a fault, or lets it act if it acts at once.
    ///
    /// # Errors
    /// What the fault is to act on is not there, in words.
    pub async fn inject(
        self: &Arc<Self>,
        target: Target,
        fault: Fault,
    ) -> Result<FaultReport, String> {
        if !fault.is_immediate() {
            self.faults().arm(target, fault);
            return Ok(FaultReport {
                armed: true,
                ..FaultReport::default()
            });
        }
        let devices = match fault {
            Fault::FillQueue(fill) => return self.fill(&target, fill).await,
            Fault::DropNow => self.on_connections(&target, |outbox| outbox.abort()),
            Fault::Stall { ms } => self.on_connections(&target, |outbox| {
                outbox.stall(Duration::from_millis(ms));
            }),
            Fault::StreamError { code } => self.on_connections(&target, |outbox| {
                outbox.push(node::encode(&stream_error(code)));
                outbox.finish();
            }),
            Fault::ExhaustPrekeys => self.exhaust(&target),
            Fault::RotateStatic => {
                self.rotate_static();
                1
            }
            Fault::RefuseMedia { status, times } => {
                self.media.refuse(status, times);
                1
            }
            Fault::Restrict { secs } => {
                let targets = self.targets(&target);
                for (account, _) in &targets {
                    lock(&account.state).restricted = clock::unix() + secs;
                }
                targets.len()
            }
            // The rest is armed, above.
            _ => 0,
        };
        Ok(FaultReport {
            devices,
            ..FaultReport::default()
        })
    }

    /// Sends a stanza as it is to the connected devices of an account, once; how many there are.
    pub fn send_as_is(&self, phone: &str, stanza: &Node) -> usize {
        let outboxes = self.outboxes(|info| info.phone.as_deref() == Some(phone));
        for outbox in &outboxes {
            outbox.push(node::encode(stanza));
        }
        outboxes.len()
    }

    fn on_connections(&self, target: &Target, act: impl Fn(&crate::outbox::Outbox)) -> usize {
        let outboxes = self.outboxes(|info: &ConnectionInfo| match (&info.phone, info.device) {
            (Some(phone), Some(device)) => target.covers(phone, device),
            _ => *target == Target::default(),
        });
        for outbox in &outboxes {
            act(outbox);
        }
        outboxes.len()
    }

    fn targets(&self, target: &Target) -> Vec<(Arc<Account>, Arc<Device>)> {
        self.accounts()
            .iter()
            .filter_map(|info| self.by_phone(&info.phone))
            .flat_map(|account| {
                let devices = account.devices();
                devices
                    .into_iter()
                    .map(move |device| (account.clone(), device))
            })
            .filter(|(account, device)| target.covers(&account.phone, device.id))
            .collect()
    }

    fn exhaust(&self, target: &Target) -> usize {
        let targets = self.targets(target);
        for (account, device) in &targets {
            let low = {
                let mut keys = lock(&device.keys);
                keys.one_time.clear();
                is_low(&mut keys)
            };
            if let Some(left) = low {
                tell_low(self, account, device, left);
            }
        }
        targets.len()
    }

    async fn fill(
        self: &Arc<Self>,
        target: &Target,
        fill: FillQueue,
    ) -> Result<FaultReport, String> {
        let mut targets = self.targets(target);
        let Some((account, device)) = targets.pop().filter(|_| targets.is_empty()) else {
            return Err("name the phone and the device whose queue is to be filled".to_owned());
        };
        let core = self.clone();
        let filled =
            tokio::task::spawn_blocking(move || core.fill_queue(&account.phone, device.id, &fill));
        let queued = filled.await.map_err(|error| error.to_string())??;
        Ok(FaultReport {
            devices: 1,
            queued,
            ..FaultReport::default()
        })
    }
}

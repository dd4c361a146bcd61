//! Faults on demand. Each does the same thing every time: what it acts on is counted in stanzas, not left to chance.
//!
//! A fault is *armed* for a target and acts when its moment comes, or acts at once ([`Fault::is_immediate`]).

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{mailbox::Trick, sync::lock};

/// Whom a fault is for; what is absent means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// Digits of the account's phone number.
    pub phone: Option<String>,
    /// Number of the device within the account.
    pub device: Option<u16>,
}

impl Target {
    /// All devices of one account.
    #[must_use]
    pub fn account(phone: &str) -> Self {
        Self {
            phone: Some(phone.to_owned()),
            device: None,
        }
    }

    /// One device.
    #[must_use]
    pub fn device(phone: &str, device: u16) -> Self {
        Self {
            phone: Some(phone.to_owned()),
            device: Some(device),
        }
    }

    /// Whether a device is meant.
    #[must_use]
    pub fn covers(&self, phone: &str, device: u16) -> bool {
        self.phone.as_deref().is_none_or(|p| p == phone) && self.device.is_none_or(|d| d == device)
    }
}

fn one() -> u32 {
    1
}

fn many() -> u32 {
    u32::MAX
}

/// A deterministic fault. In JSON: `{"kind":"drop_after","stanzas":3}`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// Close the socket now, without a word.
    DropNow,
    /// Close the socket after this many further stanzas to the client.
    DropAfter {
        /// Stanzas that still go out.
        stanzas: u32,
    },
    /// Send this many further stanzas and half of the one after, then close the socket.
    DropMidFrame {
        /// Stanzas that still go out whole.
        #[serde(default)]
        after: u32,
    },
    /// Send nothing and read nothing for this long.
    Stall {
        /// Milliseconds.
        ms: u64,
    },
    /// Send each ack of a message this much later.
    DelayAcks {
        /// Milliseconds.
        ms: u64,
        /// How many acks.
        #[serde(default = "many")]
        times: u32,
    },
    /// Send no ack for this many messages. The messages are delivered all the same.
    WithholdAcks {
        /// How many acks.
        #[serde(default = "many")]
        times: u32,
    },
    /// Deliver each message twice.
    DeliverTwice {
        /// How many messages.
        #[serde(default = "many")]
        times: u32,
    },
    /// Deliver messages in pairs, the second first. A message without a second follows a second later.
    Reorder {
        /// How many messages are held back.
        #[serde(default = "many")]
        times: u32,
    },
    /// Spoil the ciphertexts of messages for the device, which then asks for them again.
    Corrupt {
        /// How many messages.
        #[serde(default = "one")]
        times: u32,
    },
    /// Spoil the signatures in the key bundles that the device asks for: it cannot encrypt for anybody new.
    SpoilBundles {
        /// How many bundles.
        #[serde(default = "many")]
        times: u32,
    },
    /// Refuse messages of the device with this error; they are not delivered.
    Nack {
        /// As in `ack{error}`: 403, 404, 463, …
        code: u16,
        /// How many messages.
        #[serde(default = "one")]
        times: u32,
    },
    /// Answer iqs of a namespace with this error.
    RefuseIq {
        /// The namespace.
        xmlns: String,
        /// As in `error{code}`.
        code: u16,
        /// How many iqs.
        #[serde(default = "one")]
        times: u32,
    },
    /// Say nothing to iqs of a namespace.
    IgnoreIq {
        /// The namespace.
        xmlns: String,
        /// How many iqs.
        #[serde(default = "one")]
        times: u32,
    },
    /// End the stream with this error now: 401 (removed), 409 (replaced), 429, 503, 515, 516.
    StreamError {
        /// As in `stream:error{code}`.
        code: u16,
    },
    /// Refuse logins with this reason: 402, 403, 405, 500, 503, …
    ConnectFailure {
        /// As in `failure{reason}`.
        code: u16,
        /// How many logins.
        #[serde(default = "one")]
        times: u32,
        /// Seconds for which a temporary ban (402) lasts.
        #[serde(default)]
        expire: Option<u64>,
    },
    /// Refuse media transfers with this HTTP status.
    RefuseMedia {
        /// HTTP status.
        status: u16,
        /// How many transfers.
        #[serde(default = "one")]
        times: u32,
    },
    /// Let accounts write to nobody first for this long: 463, and the time-lock that they can ask for.
    Restrict {
        /// Seconds; 0 ends it.
        secs: u64,
    },
    /// Take away the one-time prekeys of a device, so that bundles go out without one.
    ExhaustPrekeys,
    /// Give the server a new static Noise key: cached certificate chains no longer fit.
    RotateStatic,
    /// Put end-to-end-encrypted texts in the queue of a device that is away.
    FillQueue(FillQueue),
}

/// Texts to put in a device's queue.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FillQueue {
    /// How many.
    pub n: usize,
    /// How many people write them, in turn.
    pub senders: usize,
    /// The text; `{n}` is the number of the message from 0, `{sender}` that of the sender.
    pub text: String,
    /// Whether the chats are addressed by LID.
    pub lid: bool,
    /// Phone numbers of the senders; those that are missing are made up.
    pub phones: Vec<String>,
    /// Seconds before now that the first is dated; each further one is a moment later.
    pub age: u64,
}

impl Default for FillQueue {
    fn default() -> Self {
        Self {
            n: 1,
            senders: 1,
            text: "message {n}".to_owned(),
            lid: false,
            phones: Vec::new(),
            age: 0,
        }
    }
}

impl Fault {
    /// Whether it acts at once on who is there, rather than waits for its moment.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        matches!(
            self,
            Self::DropNow
                | Self::StreamError { .. }
                | Self::Stall { .. }
                | Self::ExhaustPrekeys
                | Self::RotateStatic
                | Self::FillQueue(_)
                | Self::RefuseMedia { .. }
                | Self::Restrict { .. }
        )
    }
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the stanza.
    Before,
    /// In the middle of its frame.
    Within,
}

/// What happens to an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    Now,
    Delay(Duration),
    Withhold,
    Refuse(u16),
}

/// What happens to an iq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iq {
    Refuse(u16),
    Ignore,
}

/// Counts a use; answers whether it was the last.
fn use_up(times: &mut u32) -> bool {
    if *times == u32::MAX {
        return false;
    }
    *times = times.saturating_sub(1);
    *times == 0
}

struct Armed {
    target: Target,
    fault: Fault,
}

/// The faults that are armed.
#[derive(Default)]
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
    any: AtomicBool,
}

impl Faults {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Armed>> {
        lock(&self.armed)
    }

    /// Arms a fault. One that acts at once belongs to [`crate::Core::inject`].
    pub fn arm(&self, target: Target, fault: Fault) {
        let mut armed = self.lock();
        armed.push(Armed { target, fault });
        self.any.store(true, Ordering::Release);
    }

    /// Disarms everything; answers how many there were.
    pub fn clear(&self) -> usize {
        let mut armed = self.lock();
        self.any.store(false, Ordering::Release);
        std::mem::take(&mut *armed).len()
    }

    /// Uses the first fault for a device that `pick` takes something from. What it leaves with no times left is
    /// disarmed.
    fn take<T>(
        &self,
        phone: &str,
        device: u16,
        pick: impl Fn(&mut Fault) -> Option<(T, bool)>,
    ) -> Option<T> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut armed = self.lock();
        for at in 0..armed.len() {
            let candidate = &mut armed[at];
            if !candidate.target.covers(phone, device) {
                continue;
            }
            if let Some((taken, spent)) = pick(&mut candidate.fault) {
                if spent {
                    armed.remove(at);
                    self.any.store(!armed.is_empty(), Ordering::Release);
                }
                return Some(taken);
            }
        }
        None
    }

    /// Whether the connection ends before or within the stanza that is about to go out.
    pub(crate) fn cut(&self, phone: &str, device: u16) -> Option<Cut> {
        self.take(phone, device, |fault| match fault {
            Fault::DropAfter { stanzas: 0 } => Some((Some(Cut::Before), true)),
            Fault::DropMidFrame { after: 0 } => Some((Some(Cut::Within), true)),
            Fault::DropAfter { stanzas: left } | Fault::DropMidFrame { after: left } => {
                *left -= 1;
                Some((None, false))
            }
            _ => None,
        })
        .flatten()
    }

    /// What happens to a message that is about to be delivered.
    pub(crate) fn delivery(&self, phone: &str, device: u16) -> Trick {
        self.take(phone, device, |fault| match fault {
            Fault::DeliverTwice { times } => Some((Trick::Twice, use_up(times))),
            Fault::Reorder { times } => Some((Trick::Hold, use_up(times))),
            _ => None,
        })
        .unwrap_or(Trick::None)
    }

    /// Whether a key bundle that the device asks for is to be spoilt.
    pub(crate) fn spoils_bundle(&self, phone: &str, device: u16) -> bool {
        let spoil = self.take(phone, device, |fault| match fault {
            Fault::SpoilBundles { times } => Some(((), use_up(times))),
            _ => None,
        });
        spoil.is_some()
    }

    /// Whether a message that is accepted for a device is to be spoilt.
    pub(crate) fn corrupts(&self, phone: &str, device: u16) -> bool {
        let spoil = self.take(phone, device, |fault| match fault {
            Fault::Corrupt { times } => Some(((), use_up(times))),
            _ => None,
        });
        spoil.is_some()
    }

    /// What happens to the ack of a message.
    pub(crate) fn ack(&self, phone: &str, device: u16) -> Ack {
        self.take(phone, device, |fault| match fault {
            Fault::Nack { code, times } => Some((Ack::Refuse(*code), use_up(times))),
            Fault::WithholdAcks { times } => Some((Ack::Withhold, use_up(times))),
            Fault::DelayAcks { ms, times } => {
                Some((Ack::Delay(Duration::from_millis(*ms)), use_up(times)))
            }
            _ => None,
        })
        .unwrap_or(Ack::Now)
    }

    /// Whether a login is refused: the reason, and how long a ban lasts.
    pub(crate) fn connect_failure(&self, phone: &str, device: u16) -> Option<(u16, Option<u64>)> {
        self.take(phone, device, |fault| match fault {
            Fault::ConnectFailure {
                code,
                times,
                expire,
            } => Some(((*code, *expire), use_up(times))),
            _ => None,
        })
    }

    /// What happens to an iq of a namespace.
    pub(crate) fn iq(&self, phone: &str, device: u16, namespace: &str) -> Option<Iq> {
        self.take(phone, device, |fault| match fault {
            Fault::RefuseIq { xmlns, code, times } if xmlns == namespace => {
                Some((Iq::Refuse(*code), use_up(times)))
            }
            Fault::IgnoreIq { xmlns, times } if xmlns == namespace => {
                Some((Iq::Ignore, use_up(times)))
            }
            _ => None,
        })
    }

    /// What is armed, for whom.
    #[must_use]
    pub fn armed(&self) -> Vec<(Target, Fault)> {
        self.lock()
            .iter()
            .map(|a| (a.target.clone(), a.fault.clone()))
            .collect()
    }
}

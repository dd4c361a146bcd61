//! Asks WhatsApp for the phone numbers of people who are known by their LID alone, where somebody's admission may depend
//! on it.
//!
//! A message names both forms of its sender nearly always, and the client remembers what it has learnt; what is left is
//! asked. Invariants: nobody waits in here; one task asks, whenever there is a connection, and [`Session::answers`] says
//! that it has. Only an answer is one: what failed, or took too long, is asked again. The store decides whose a number
//! is, since it may have been somebody else's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use whatsapp_rust::Client;

use super::{Connection, Session, Shared, address, jid};
use crate::identity::Address;

/// People in one question.
const AT_ONCE: usize = 20;
/// After an answer, for each who was asked about: who asks for many is taken for a harvester. First messages have a
/// budget of their own (`store::numbers`), so that those who write do not use it up.
const EACH: Duration = Duration::from_secs(1);
/// WhatsApp answers within milliseconds, or not at all.
const ANSWER: Duration = Duration::from_secs(10);
/// Before the first new try, and doubled for each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// At most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many tries, which are some minutes of a standing connection, nobody waits for the answer any more.
const TRIES: u32 = 10;
/// For so long an answer is not asked for again, whoever writes how often.
const AGAIN: Duration = Duration::from_secs(600);

/// Whether WhatsApp has said whose a LID is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It has said all that it says; what it told is in the store.
    Answered,
    /// It is going to be asked.
    NotYet,
    /// It was asked often enough, and gave no answer.
    InVain,
}

/// Those who are known by LID alone.
pub(super) struct Strangers {
    people: Mutex<People>,
    wanted: Notify,
    answers: watch::Sender<()>,
}

#[derive(Default)]
struct People {
    /// Whom to ask about, the one whose turn it is first.
    queue: VecDeque<Address>,
    /// How often those in the queue were asked about.
    tries: HashMap<Address, u32>,
    /// Of whom WhatsApp has said what it says, and when.
    answered: HashMap<Address, Instant>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            people: Mutex::default(),
            wanted: Notify::new(),
            answers: watch::Sender::new(()),
        }
    }
}

impl Session {
    /// Whether WhatsApp has said whose this LID is; if it was not asked lately, it is going to be.
    pub fn asked(&self, lid: &Address) -> Asked {
        self.shared.strangers.asked(lid)
    }

    /// Changes whenever WhatsApp was asked about somebody.
    pub fn answers(&self) -> watch::Receiver<()> {
        self.shared.strangers.answers.subscribe()
    }
}

impl Strangers {
    fn asked(&self, lid: &Address) -> Asked {
        let mut people = self.lock();
        if let Some(tries) = people.tries.get(lid) {
            return match *tries < TRIES {
                true => Asked::NotYet,
                false => Asked::InVain,
            };
        }
        let lately = people.answered.get(lid);
        if lately.is_some_and(|at| at.elapsed() < AGAIN) {
            return Asked::Answered;
        }
        people.tries.insert(lid.clone(), 0);
        people.queue.push_back(lid.clone());
        self.wanted.notify_one();
        Asked::NotYet
    }

    /// Those whose turn it is, at most `most`.
    fn next(&self, most: usize) -> Vec<Address> {
        self.lock().queue.iter().take(most).cloned().collect()
    }

    fn answered(&self, lids: &[Address]) {
        let mut people = self.lock();
        people.answered.retain(|_, at| at.elapsed() < AGAIN);
        people.queue.retain(|lid| !lids.contains(lid));
        for lid in lids {
            people.tries.remove(lid);
            people.answered.insert(lid.clone(), Instant::now());
        }
        drop(people);
        self.answers.send_replace(());
    }

    /// There was no answer: others have their turn first now.
    fn failed(&self, lids: &[Address]) {
        let mut people = self.lock();
        people.queue.retain(|lid| !lids.contains(lid));
        people.queue.extend(lids.iter().cloned());
        for lid in lids {
            *people.tries.entry(lid.clone()).or_default() += 1;
        }
        drop(people);
        self.answers.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks about everybody who is to be asked about.
pub(super) async fn ask_wanted(shared: Arc<Shared>) {
    let strangers = &shared.strangers;
    let mut connection = shared.connection.subscribe();
    let mut pause = PAUSE;
    loop {
        // After a failure one by one: it may be about one of them.
        let most = if pause > PAUSE { 1 } else { AT_ONCE };
        if strangers.next(most).is_empty() {
            strangers.wanted.notified().await;
            continue;
        }
        let online = connection.wait_for(|now| *now == Connection::Online).await;
        if online.map(drop).is_err() {
            return;
        }
        let lids = strangers.next(most);
        let answered = match shared.client() {
            Some(client) => ask(&shared, &client, &lids).await,
            None => false,
        };
        if answered {
            strangers.answered(&lids);
            pause = PAUSE;
            tokio::time::sleep(EACH * u32::try_from(lids.len()).unwrap_or(u32::MAX)).await;
        } else {
            // A connection that was lost meanwhile says nothing of the question.
            if *connection.borrow() == Connection::Online {
                strangers.failed(&lids);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether WhatsApp answered, and what it told is in the store.
async fn ask(shared: &Shared, client: &Client, lids: &[Address]) -> bool {
    let asked: Vec<_> = lids.iter().filter_map(jid).collect();
    let contacts = client.contacts();
    let answer = tokio::time::timeout(ANSWER, contacts.is_on_whatsapp(&asked)).await;
    let people = match answer {
        Ok(Ok(people)) => people,
        Ok(Err(error)) => {
            tracing::warn!(%error, "WhatsApp does not say who a sender is; it is asked again");
            return false;
        }
        Err(_) => {
            tracing::warn!("WhatsApp does not say in time who a sender is; it is asked again");
            return false;
        }
    };
    // The numbers are told beside the LIDs that were asked for (usync, `pn_jid`).
    for person in people {
        let phone = person.pn_jid.as_ref().and_then(address);
        let (Some(lid), Some(phone)) = (address(&person.jid), phone) else {
            continue;
        };
        if let Err(error) = shared.store.belongs(phone, lid).await {
            tracing::error!(%error, "a sender's number is not kept; it is asked for again");
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lid(n: usize) -> Address {
        format!("{}@lid", 100_000_000_000_000 + n)
            .parse()
            .expect("LID")
    }

    #[test]
    fn an_answer_holds_for_a_while() {
        let strangers = Strangers::default();
        assert_eq!(strangers.asked(&lid(1)), Asked::NotYet);
        assert_eq!(strangers.asked(&lid(1)), Asked::NotYet);
        assert_eq!(strangers.next(AT_ONCE), [lid(1)]);
        strangers.answered(&[lid(1)]);
        assert_eq!(strangers.asked(&lid(1)), Asked::Answered);
        assert!(strangers.next(AT_ONCE).is_empty());
        let long_ago = Instant::now()
            .checked_sub(AGAIN)
            .expect("an uptime of minutes");
        strangers.lock().answered.insert(lid(1), long_ago);
        assert_eq!(strangers.asked(&lid(1)), Asked::NotYet);
        assert_eq!(strangers.next(AT_ONCE), [lid(1)]);
    }

    #[test]
    fn what_fails_is_no_answer_and_has_an_end() {
        let strangers = Strangers::default();
        assert_eq!(strangers.asked(&lid(1)), Asked::NotYet);
        assert_eq!(strangers.asked(&lid(2)), Asked::NotYet);
        for _ in 0..TRIES {
            assert_eq!(strangers.asked(&lid(1)), Asked::NotYet);
            strangers.failed(&[lid(1)]);
        }
        assert_eq!(strangers.asked(&lid(1)), Asked::InVain);
        assert_eq!(strangers.asked(&lid(2)), Asked::NotYet);
        assert_eq!(strangers.next(1), [lid(2)], "whose turn it is");
        // It is asked about all the same.
        assert_eq!(strangers.next(AT_ONCE), [lid(2), lid(1)]);
        strangers.answered(&[lid(1)]);
        assert_eq!(strangers.asked(&lid(1)), Asked::Answered);
    }
}

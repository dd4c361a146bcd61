//! Asks WhatsApp for the phone numbers of people who are known by their LID alone, and for the LIDs of those who are known
//! by their number alone, where somebody's admission may depend on it.
//!
//! A message names both forms of its sender nearly always, and the client remembers what it has learnt; what is left is
//! asked. Invariants: nobody waits in here; one task asks, whenever there is a connection, and [`Session::answers`] says
//! that it has. Only an answer is one: what failed, or took too long, is asked again, so many times; they are counted in
//! the store before each question, so that processes that live for one question come to an end as well. The store
//! decides whose a number is, since it may have been somebody else's.
//!
//! The addresses in the configuration are not looked up. It would cost a question for each of them at each start, whoever
//! writes, and an answer of yesterday would decide today. Who writes is asked about when it matters, in a direct chat or
//! a group, whichever key has the other address (contacts, owner, senders, chats, members, routes, approvals); a mention
//! of us has both our addresses to be compared with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use whatsapp_rust::Client;

use super::in_vain::InVain;
use super::{Connection, Session, Shared, address, jid};
use crate::identity::Address;
use crate::store::StoreError;

/// People in one question.
const AT_ONCE: usize = 20;
/// After a question, for each whom it was about: who asks for many is taken for a harvester. First messages have a
/// budget of their own (`store::numbers`), so that those who write do not use it up.
const EACH: Duration = Duration::from_secs(1);
/// WhatsApp answers within milliseconds, or not at all.
const ANSWER: Duration = Duration::from_secs(10);
/// Before somebody's first new try, and doubled for each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// At most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many tries, which are some minutes of a standing connection or ten polls at the most, nobody waits for the
/// answer any more.
const TRIES: u32 = 10;
/// For so long an answer is not asked for again, whoever writes how often.
const AGAIN: Duration = Duration::from_secs(600);

/// Whether WhatsApp has said who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It has said all that it says; what it told is in the store.
    Answered,
    /// It is going to be asked.
    NotYet,
    /// It was asked often enough, and gave no answer.
    InVain,
}

/// Those who are known by one address alone.
pub(super) struct Strangers {
    people: Mutex<People>,
    /// Of whom WhatsApp said nothing, however often it was asked.
    in_vain: InVain,
    wanted: Notify,
    answers: watch::Sender<()>,
}

#[derive(Default)]
struct People {
    /// Whom to ask about.
    wanted: HashMap<Address, Try>,
    /// Of whom WhatsApp has said what it says, and when.
    answered: HashMap<Address, Instant>,
}

/// The next try of somebody. Those with the fewest tries come first, so that nobody waits for others of whom WhatsApp
/// tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    /// How often they were asked about.
    tries: u32,
    /// Not before.
    due: Instant,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            people: Mutex::default(),
            in_vain: InVain::default(),
            wanted: Notify::new(),
            answers: watch::Sender::new(()),
        }
    }
}

impl Session {
    /// Whether WhatsApp has said whose this LID or number is; if it was not asked lately, it is going to be.
    pub async fn asked(&self, lid: &Address) -> Result<Asked, StoreError> {
        let strangers = &self.shared.strangers;
        if let Some(asked) = strangers.asked(lid) {
            return Ok(asked);
        }
        let tries = self.shared.store.tries(lid.clone()).await?;
        Ok(strangers.ask(lid, tries))
    }

    /// Changes whenever WhatsApp was asked about somebody, or about a group.
    pub fn answers(&self) -> watch::Receiver<()> {
        self.shared.strangers.answers.subscribe()
    }
}

impl Strangers {
    /// How far the question is; nothing if there is none.
    fn asked(&self, lid: &Address) -> Option<Asked> {
        let people = self.lock();
        if let Some(next) = people.wanted.get(lid) {
            return Some(after(next.tries));
        }
        if self.in_vain.has(lid) {
            return Some(Asked::InVain);
        }
        let lately = people.answered.get(lid);
        lately
            .is_some_and(|at| at.elapsed() < AGAIN)
            .then_some(Asked::Answered)
    }

    /// Has somebody asked about, who was asked about so often before.
    fn ask(&self, lid: &Address, tries: u32) -> Asked {
        let mut people = self.lock();
        if !people.wanted.contains_key(lid) {
            let due = Instant::now();
            people.wanted.insert(lid.clone(), Try { tries, due });
            self.wanted.notify_one();
        }
        after(tries)
    }

    /// These and their tries with the one that begins, as far as anybody waits for it.
    fn begun(&self, lids: &[Address]) -> Vec<(Address, u32)> {
        let people = self.lock();
        let tries = |lid: &Address| people.wanted.get(lid).map_or(0, |next| next.tries + 1);
        let begun = lids.iter().map(|lid| (lid.clone(), tries(lid)));
        begun.filter(|(_, tries)| *tries <= TRIES).collect()
    }

    /// Whom to ask about now: all who were not asked about yet, at most so many; after a failure one by one, since it may be
    /// about one of them.
    fn next(&self, now: Instant) -> Vec<Address> {
        let people = self.lock();
        let wanted = people.wanted.iter().map(|(lid, next)| (*next, lid));
        let mut due: Vec<_> = wanted.filter(|(next, _)| next.due <= now).collect();
        due.sort();
        let new = due.iter().take_while(|(next, _)| next.tries == 0).count();
        let turn = due.into_iter().take(new.clamp(1, AT_ONCE));
        turn.map(|(_, lid)| lid.clone()).collect()
    }

    /// When to ask next; nothing if about nobody.
    fn due(&self) -> Option<Instant> {
        self.lock().wanted.values().map(|next| next.due).min()
    }

    fn answered(&self, lids: &[Address]) {
        let mut people = self.lock();
        people.answered.retain(|_, at| at.elapsed() < AGAIN);
        for lid in lids {
            people.wanted.remove(lid);
            people.answered.insert(lid.clone(), Instant::now());
        }
        drop(people);
        self.tell();
    }

    /// There was no answer. Who was asked about often enough is not for now.
    fn failed(&self, lids: &[Address], now: Instant) {
        let mut people = self.lock();
        for lid in lids {
            let tries = people.wanted.get(lid).map_or(0, |next| next.tries) + 1;
            if after(tries) == Asked::InVain {
                people.wanted.remove(lid);
                self.in_vain.note(lid);
            } else {
                let pause = PAUSE * (1 << (tries - 1));
                let due = now + pause.min(LONGEST_PAUSE);
                people.wanted.insert(lid.clone(), Try { tries, due });
            }
        }
        drop(people);
        self.tell();
    }

    /// Wakes those who wait for an answer.
    pub(super) fn tell(&self) {
        self.answers.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn after(tries: u32) -> Asked {
    match tries < TRIES {
        true => Asked::NotYet,
        false => Asked::InVain,
    }
}

/// Asks about everybody who is to be asked about.
pub(super) async fn ask_wanted(shared: Arc<Shared>) {
    let strangers = &shared.strangers;
    let mut connection = shared.connection.subscribe();
    loop {
        let Some(due) = strangers.due() else {
            strangers.wanted.notified().await;
            continue;
        };
        if due > Instant::now() {
            // Or somebody new comes.
            drop(tokio::time::timeout_at(due, strangers.wanted.notified()).await);
            continue;
        }
        let online = connection.wait_for(|now| *now == Connection::Online).await;
        if online.map(drop).is_err() {
            return;
        }
        let lids = strangers.next(Instant::now());
        let answered = match shared.client() {
            Some(client) => ask(&shared, &client, &lids).await,
            None => false,
        };
        if answered {
            strangers.answered(&lids);
        } else if *connection.borrow() == Connection::Online {
            // A connection that was lost meanwhile says nothing of the question.
            strangers.failed(&lids, Instant::now());
        }
        tokio::time::sleep(EACH * u32::try_from(lids.len()).unwrap_or(u32::MAX)).await;
    }
}

/// Whether WhatsApp answered, and what it told is in the store.
async fn ask(shared: &Shared, client: &Client, lids: &[Address]) -> bool {
    let asked: Vec<_> = lids.iter().filter_map(jid).collect();
    let begun = shared.strangers.begun(lids);
    if let Err(error) = shared.store.set_tries(begun).await {
        tracing::error!(%error, "WhatsApp is not asked who a sender is, since that cannot be noted; it is tried again");
        return false;
    }
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
    // The other address is told beside the one that was asked for (usync, `pn_jid` and `lid`).
    for person in people {
        let other = person.pn_jid.as_ref().or(person.lid.as_ref());
        let (Some(asked), Some(other)) = (address(&person.jid), other.and_then(address)) else {
            continue;
        };
        let (phone, lid) = match asked.phone() {
            Some(_) => (asked, other),
            None => (other, asked),
        };
        if let Err(error) = shared.store.belongs(phone, lid).await {
            tracing::error!(%error, "a sender's number is not kept; it is asked for again");
            return false;
        }
    }
    // What is lost of this is a question too few, later.
    drop(
        shared
            .store
            .set_tries(lids.iter().map(|lid| (lid.clone(), 0)).collect()),
    );
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
        assert_eq!(strangers.asked(&lid(1)), None);
        assert_eq!(strangers.ask(&lid(1), 0), Asked::NotYet);
        assert_eq!(strangers.asked(&lid(1)), Some(Asked::NotYet));
        assert_eq!(strangers.next(Instant::now()), [lid(1)]);
        strangers.answered(&[lid(1)]);
        assert_eq!(strangers.asked(&lid(1)), Some(Asked::Answered));
        assert!(strangers.next(Instant::now()).is_empty());
        let long_ago = Instant::now()
            .checked_sub(AGAIN)
            .expect("an uptime of minutes");
        strangers.lock().answered.insert(lid(1), long_ago);
        assert_eq!(strangers.asked(&lid(1)), None);
        assert_eq!(strangers.ask(&lid(1), 0), Asked::NotYet);
        assert_eq!(strangers.next(Instant::now()), [lid(1)]);
    }

    #[test]
    fn what_fails_is_no_answer_and_has_an_end() {
        let strangers = Strangers::default();
        assert_eq!(strangers.ask(&lid(1), 3), Asked::NotYet);
        let mut now = Instant::now();
        let began = now;
        for tries in 3..TRIES {
            assert_eq!(strangers.asked(&lid(1)), Some(Asked::NotYet));
            assert_eq!(strangers.next(now), [lid(1)]);
            assert_eq!(strangers.begun(&[lid(1)]), [(lid(1), tries + 1)]);
            strangers.failed(&[lid(1)], now);
            assert!(strangers.next(now).is_empty(), "not at once");
            now = strangers.due().unwrap_or(now);
        }
        assert!(now < began + Duration::from_secs(300), "some minutes");
        assert_eq!(strangers.asked(&lid(1)), Some(Asked::InVain));
        assert_eq!(strangers.due(), None, "nor asked again for now");
    }

    #[test]
    fn nobody_waits_for_those_of_whom_nothing_is_told() {
        let strangers = Strangers::default();
        let now = Instant::now();
        let people: Vec<_> = (0..AT_ONCE).map(lid).collect();
        for person in &people {
            strangers.ask(person, 0);
        }
        let later = now + LONGEST_PAUSE;
        let mut asked = strangers.next(later);
        asked.sort();
        assert_eq!(asked, people, "in one question");
        strangers.failed(&people, now);
        assert_eq!(strangers.next(later).len(), 1, "one by one");
        strangers.failed(&people[1..], now);
        assert_eq!(strangers.next(later), [lid(0)], "the fewest tries");
        strangers.ask(&lid(AT_ONCE), 0);
        assert_eq!(strangers.next(Instant::now()), [lid(AT_ONCE)], "at once");
        assert_eq!(strangers.next(later), [lid(AT_ONCE)]);
    }

    #[test]
    fn what_was_asked_in_vain_before_is_asked_about_without_waiting() {
        let strangers = Strangers::default();
        assert_eq!(strangers.ask(&lid(1), TRIES), Asked::InVain);
        let now = Instant::now();
        assert_eq!(strangers.next(now), [lid(1)]);
        assert_eq!(strangers.begun(&[lid(1)]), [], "nobody waits for it");
        strangers.failed(&[lid(1)], now);
        assert_eq!(strangers.asked(&lid(1)), Some(Asked::InVain));
        assert_eq!(strangers.due(), None, "once");
    }
}

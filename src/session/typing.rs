//! What others see us do: whether we are there, and whether we write or record.
//!
//! What is said when is decided in [`schedule`]. Invariants: presence and chat states leave one at a time, in the order in
//! which they were decided; who asked for one hears what became of that one, and waits for no longer than it may. The
//! library announces us as available by itself; unless that is wished it is taken back at once, so that the owner's phone goes
//! on ringing.
//!
//! An indicator disappears by itself after some 25 s on WhatsApp's clients, and with any message in its chat; whoever
//! goes on writing says it again. The library has no refresher.

mod schedule;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use whatsapp_rust::{ChatStateType, Client};

use super::{Session, SessionError, Shared, jid, reading};
use crate::identity::Address;
use crate::store::Limits;
pub use schedule::LONGEST;
use schedule::{Activity, Schedule, Step};

/// How a session behaves towards others. It may change at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Manners {
    /// Show this device as available; off keeps the owner's phone ringing.
    pub online: bool,
    /// Be available while something is shown.
    pub typing_presence: bool,
    /// Show what status frames say.
    pub frames: bool,
    /// Show that a voice note is being recorded while its file is uploaded.
    pub recording: bool,
    /// Mark as read what is to be.
    pub reads: bool,
    /// How fast messages may go.
    pub limits: Limits,
}

/// What is shown over a session's connections.
#[derive(Default)]
pub(super) struct Typing {
    now: Mutex<Now>,
    changed: Notify,
    sending: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Now {
    schedule: Schedule,
    client: Option<Arc<Client>>,
    frames: Vec<Asked>,
}

/// A status frame whose sender waits to hear what became of it.
struct Asked {
    to: Address,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Now {
    /// Takes those who asked for something to be said that this step says, or all.
    fn asked(&mut self, step: Option<&Step>) -> Vec<Asked> {
        let of = |asked: &mut Asked| step.is_none_or(|step| step.chat() == Some(&asked.to));
        self.frames.extract_if(.., of).collect()
    }
}

fn answer(asked: Vec<Asked>, said: &Result<(), String>) {
    for asked in asked {
        // Who does not wait any more has answered already.
        let _ = asked.answer.send(said.clone());
    }
}

fn not_connected() -> Result<(), String> {
    Err("not connected".to_owned())
}

impl Typing {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, how: impl FnOnce(&mut Schedule) -> T) -> T {
        let done = how(&mut self.now().schedule);
        self.changed.notify_one();
        done
    }

    pub(super) fn behave(&self, manners: Manners) {
        self.change(|schedule| schedule.behave(manners));
    }

    /// The library has said over this connection that we are available.
    pub(super) fn announced(&self, client: &Arc<Client>) {
        let mut now = self.now();
        now.schedule.announced();
        if !now
            .client
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, client))
        {
            now.schedule.unseen();
            now.client = Some(client.clone());
        }
        drop(now);
        self.changed.notify_one();
    }

    /// There is no connection any more, and nobody sees anything.
    pub(super) fn disconnected(&self) {
        let mut now = self.now();
        now.client = None;
        now.schedule.unseen();
        answer(now.asked(None), &not_connected());
    }

    fn hold(self: &Arc<Self>, to: &Address, what: Activity) -> Shown {
        let holder = self.change(|schedule| schedule.hold(to, what, Instant::now()));
        Shown {
            typing: self.clone(),
            holder,
        }
    }

    /// A voice note to this chat is on its way.
    pub(super) fn recording(self: &Arc<Self>, to: &Address) -> Option<Shown> {
        let wished = self.now().schedule.manners.recording;
        wished.then(|| self.hold(to, Activity::Recording))
    }

    /// A message has arrived at the server.
    pub(super) fn message_went(&self, to: &Address) {
        self.change(|schedule| schedule.message_went(to));
    }

    /// What becomes of a status frame: an error if it could not be said.
    fn frame(&self, to: &Address, writing: bool) -> oneshot::Receiver<Result<(), String>> {
        let (answer, said) = oneshot::channel();
        let mut now = self.now();
        now.schedule.frame(to, writing, Instant::now());
        let to = to.clone();
        now.frames.push(Asked { to, answer });
        drop(now);
        self.changed.notify_one();
        said
    }

    /// Says all that is to be said now; until when there is nothing more. What could not be said counts as said: the
    /// connection broke, or it is tried again when its time has come.
    pub(super) async fn act(&self) -> Option<Instant> {
        let _one_at_a_time = self.sending.lock().await;
        loop {
            let (client, step, asked) = {
                let mut now = self.now();
                let Some(client) = now.client.clone() else {
                    answer(now.asked(None), &not_connected());
                    return None;
                };
                match now.schedule.next(Instant::now()) {
                    Ok(step) => {
                        let asked = now.asked(Some(&step));
                        (client, step, asked)
                    }
                    // What is left is shown already.
                    Err(until) => {
                        answer(now.asked(None), &Ok(()));
                        return until;
                    }
                }
            };
            let said = say(&client, step).await;
            if let Err(error) = &said {
                tracing::debug!(error, "what we do could not be shown");
            }
            answer(asked, &said);
        }
    }
}

async fn say(client: &Arc<Client>, step: Step) -> Result<(), String> {
    let (to, state) = match step {
        Step::Presence { available } => {
            let presence = client.presence();
            let said = match available {
                true => presence.set_available().await,
                false => presence.set_unavailable().await,
            };
            return said.map_err(|error| error.to_string());
        }
        Step::Show(to, Activity::Writing) => (to, ChatStateType::Composing),
        Step::Show(to, Activity::Recording) => (to, ChatStateType::Recording),
        Step::Pause(to) => (to, ChatStateType::Paused),
    };
    let Some(jid) = jid(&to) else {
        return Err("the address cannot be written to".to_owned());
    };
    let said = client.chatstate().send(&jid, state).await;
    said.map_err(|error| error.to_string())
}

/// Says whatever is to be said, until the session ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let due = shared.typing.act().await;
        tokio::select! {
            () = shared.typing.changed.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Something that is shown until this is dropped, or for [`LONGEST`].
pub struct Shown {
    typing: Arc<Typing>,
    holder: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.typing.change(|schedule| schedule.release(self.holder));
    }
}

impl Session {
    /// Changes how this session behaves, without a new connection.
    pub fn behave(&self, manners: Manners) {
        self.shared.typing.behave(manners);
        self.shared.limit(manners.limits);
        reading::allow(&self.shared, manners.reads);
    }

    /// Shows in a chat that an answer is being written, whenever there is a connection.
    pub fn show_writing(&self, to: &Address) -> Shown {
        self.shared.typing.hold(to, Activity::Writing)
    }

    /// An answer is about to be entered: nobody is shown writing it any more.
    pub fn answered(&self, to: &Address) {
        self.shared.typing.change(|schedule| schedule.answered(to));
    }

    /// Shows what a status frame says: that an answer is being written, until one is entered, another frame ends it, or
    /// the frames end altogether; or that nothing is any more, whatever else is shown there.
    ///
    /// # Errors
    /// [`SessionError::Unreachable`] where there is no connection, or it broke, or takes nothing until `deadline`.
    pub async fn show_frame(
        &self,
        to: &Address,
        writing: bool,
        deadline: Instant,
    ) -> Result<(), SessionError> {
        let typing = &self.shared.typing;
        let said = tokio::time::timeout_at(deadline, typing.frame(to, writing)).await;
        let reason = match said {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(reason))) => reason,
            Ok(Err(_)) => "it is being closed".to_owned(),
            Err(_) => "it takes nothing at the moment".to_owned(),
        };
        // It was refused, so it must not show later.
        typing.change(|schedule| schedule.end_frame(to));
        Err(SessionError::Unreachable { reason })
    }

    /// Nobody is there any more who would end what status frames have begun.
    pub fn end_frames(&self) {
        self.shared.typing.change(Schedule::end_frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_frame_hears_what_became_of_it_and_of_no_other() {
        let typing = Typing::default();
        let chat = |text: &str| text.parse::<Address>().unwrap();
        let (anna, bob) = (
            chat("15551230001@s.whatsapp.net"),
            chat("15551230002@s.whatsapp.net"),
        );
        let (mut for_anna, mut for_bob) = (typing.frame(&anna, true), typing.frame(&bob, true));
        let step = typing.now().schedule.next(Instant::now()).unwrap();
        assert_eq!(step.chat(), Some(&anna));
        let asked = typing.now().asked(Some(&step));
        answer(asked, &Err("broken".to_owned()));
        assert_eq!(for_anna.try_recv(), Ok(Err("broken".to_owned())));
        assert!(for_bob.try_recv().is_err());
        // Without a connection nobody waits for one.
        assert_eq!(typing.act().await, None);
        assert_eq!(for_bob.try_recv(), Ok(not_connected()));
        let mut ended = typing.frame(&bob, false);
        typing.disconnected();
        assert_eq!(ended.try_recv(), Ok(not_connected()));
    }
}

//! The media of an event: asked for once its message may be told, waited for a little, described as they are then.
//!
//! Invariants: nothing is fetched of a sender who may not speak; an event waits [`PATIENCE`] at most since it came, however
//! many wait before it, and holds back its own chat alone; what is not here then is named with its reason, and its key
//! works later.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::court::Judged;
use super::emit::Court;
use crate::access::{Policy, Verdict};
use crate::clock::now;
use crate::config::{Download, Media};
use crate::media::depot::{self, is_object};
use crate::media::key::StorageKey;
use crate::media::reason;
use crate::protocol::event::InboundAttachment;
use crate::session::{MediaLimits, Session};
use crate::store::{Attached, Fetching, PeerKey, RowId, StoreError, Stored};

/// What an event waits for its media.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Long after any message has gone out.
const FORGET: Duration = Duration::from_secs(600);

/// Tells the session what the configuration lets it fetch, and where that is kept.
pub(super) fn govern(session: &Session, media: &Media) {
    session.keep_media_in(&media.store);
    session.limit_media(MediaLimits {
        fetch: media.download == Download::Auto,
        max_bytes: media.max_bytes,
        view_once: media.view_once,
        keep_days: media.retention_days,
        keep_bytes: media.max_total_bytes,
    });
}

/// Messages that wait, for their media or for who sent them, and the chats that wait with them.
#[derive(Default)]
pub(super) struct Attending {
    since: HashMap<RowId, Instant>,
    /// Since when a chat waits for media without a break.
    chats: HashMap<PeerKey, Instant>,
    held: HashSet<PeerKey>,
    /// Nothing waits for its media.
    hurried: bool,
}

impl Attending {
    /// One with which nothing waits for its media.
    pub(super) fn hurried() -> Self {
        Self {
            hurried: true,
            ..Self::default()
        }
    }

    /// Every chat gets another chance.
    pub(super) fn look_again(&mut self) {
        self.chats.retain(|chat, _| self.held.contains(chat));
        self.held.clear();
        // What was refused or fell out meanwhile is not heard of again.
        self.since.retain(|_, since| since.elapsed() < FORGET);
    }

    /// The chats that have to wait.
    pub(super) fn held(&self) -> Vec<PeerKey> {
        self.held.iter().copied().collect()
    }

    /// Has a chat wait, whatever for.
    pub(super) fn hold(&mut self, chat: PeerKey) {
        self.held.insert(chat);
    }

    /// Whether this chat has to wait.
    pub(super) fn has(&self, chat: PeerKey) -> bool {
        self.held.contains(&chat)
    }

    /// Until somebody has waited long enough; for good if nobody waits.
    pub(super) async fn over(&self) {
        let waiting = self
            .since
            .values()
            .filter(|since| since.elapsed() < PATIENCE);
        match waiting.min() {
            Some(since) => tokio::time::sleep_until(*since + PATIENCE).await,
            None => std::future::pending().await,
        }
    }

    /// Since when this message waits for its media: since it is looked at; behind others of its chat, which are looked at a
    /// few at a time, since it came.
    fn since(&mut self, message: &Stored) -> Instant {
        let at = Instant::now();
        let chat = *self.chats.entry(message.chat.key).or_insert(at);
        *self.since.entry(message.id).or_insert_with(|| {
            // In whole seconds, so one may not have gone by yet.
            let age = now().saturating_sub(message.timestamp).max(1) - 1;
            let came = at.checked_sub(Duration::from_secs(age.unsigned_abs()));
            came.map_or(chat, |came| came.max(chat))
        })
    }

    /// Whether this message has to wait, for its own media or for a message before it. What it carries is asked for in
    /// both cases.
    pub(super) fn holds(&mut self, court: &Court<'_>, message: &Stored, verdict: &Verdict) -> bool {
        let chat = message.chat.key;
        let told = matches!(verdict, Verdict::Emit { .. })
            && court.config.emits(&message.draft.event_type);
        if told {
            ask(court, message, &court.config.media);
        }
        let waits = !self.hurried
            && told
            && may_come(court, message)
            && self.since(message).elapsed() < PATIENCE;
        if waits || self.held.contains(&chat) {
            self.held.insert(chat);
            return true;
        }
        self.since.remove(&message.id);
        false
    }
}

/// Asks for what the message carries and the configuration lets be fetched, unless somebody has; what was removed from the
/// folder too.
fn ask(court: &Court<'_>, message: &Stored, media: &Media) {
    let removed = message.media.iter().filter(|file| is_removed(court, file));
    let removed: Vec<String> = removed.filter_map(|file| file.place.clone()).collect();
    if !removed.is_empty() {
        drop(court.store.media_lost(removed));
    }
    let wanted = message.media.iter();
    let wanted = wanted.filter(|file| file.fetching == Fetching::Known);
    let wanted = wanted.filter(|file| unwanted(file, media).is_none());
    let wanted: Vec<usize> = wanted.map(|file| file.nth).collect();
    if !wanted.is_empty() {
        // If this is lost, it is asked for again when the message is looked at next, at the latest when it is told.
        drop(court.store.want_media(message.id, wanted, now()));
    }
}

/// Whether something that the message carries may yet be here in time.
fn may_come(court: &Court<'_>, message: &Stored) -> bool {
    let media = &court.config.media;
    message.media.iter().any(|file| {
        let soon = match file.fetching {
            Fetching::Known => true,
            Fetching::Wanted => matches!(file.reason.as_deref(), None | Some("download_failed")),
            Fetching::Here => is_removed(court, file),
            Fetching::Failed => false,
        };
        soon && unwanted(file, media).is_none()
    })
}

/// Whether there is nothing any more in the place that the account's folder has for it. An object store is not asked.
fn is_removed(court: &Court<'_>, file: &Attached) -> bool {
    let place = file.place.as_deref().filter(|place| !is_object(place));
    place.is_some_and(|place| !court.folder.join(place).is_file())
}

/// Why the configuration has this file left where it is.
fn unwanted(file: &Attached, media: &Media) -> Option<&'static str> {
    if media.download == Download::None {
        return Some("not_downloaded");
    }
    if file.view_once && !media.view_once {
        return Some("view_once");
    }
    let too_large = file.size.is_some_and(|size| size > media.max_bytes);
    too_large.then_some("too_large")
}

/// For a poll: asks for what its events carry, and waits for it, at most until `deadline`.
pub(super) async fn fetch(court: &Court<'_>, deadline: Instant) -> Result<(), StoreError> {
    let config = court.config;
    let own = court.own();
    let policy = Policy::new(config).with_own(&own);
    let mut arrived = court.store.inbound_signal();
    let mut attending = Attending::default();
    let until = deadline.min(Instant::now() + PATIENCE);
    loop {
        arrived.borrow_and_update();
        attending.look_again();
        let age = config.max_event_age_secs.into();
        let waiting = court
            .store
            .next_to_emit(config.poll_max_events, age, now())
            .await?;
        let mut waits = false;
        let mut strangers = HashSet::new();
        for message in &waiting {
            match court.judge(&policy, &own, message).await? {
                Judged::Verdict(verdict, _) => {
                    let unknown = strangers.contains(&message.chat.key);
                    waits |= !unknown && attending.holds(court, message, &verdict);
                }
                // It is not told in this poll, nor what follows it in its chat.
                Judged::NotYet => drop(strangers.insert(message.chat.key)),
                Judged::InVain(_) => {}
            }
        }
        if !waits {
            return Ok(());
        }
        tokio::select! {
            changed = arrived.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep_until(until) => return Ok(()),
        }
    }
}

/// Says of each attachment where it is, or why it is not here.
pub(super) fn describe(court: &Court<'_>, message: &Stored, attachments: &mut [InboundAttachment]) {
    for (nth, attachment) in attachments.iter_mut().enumerate() {
        let mut file = message.media_at(nth).cloned();
        let secret = |file: &Attached| file.view_once && !court.config.media.view_once;
        // What is to be seen once is not shown, though an operator may have fetched it by name.
        let gone = |file: &&mut Attached| secret(file) || is_removed(court, file);
        if let Some(file) = file.as_mut().filter(gone) {
            (file.fetching, file.place) = (Fetching::Wanted, None);
        }
        let mut put = |key: &str, value: &str| {
            attachment.extras.insert(key.to_owned(), value.to_owned());
        };
        let (state, error) = match &file {
            None => ("unavailable", Some("incomplete")),
            Some(file) => standing(file, &court.config.media),
        };
        put("media_state", state);
        if let Some(code) = error {
            put("media_error", code);
            put("media_error_text", reason(code));
        }
        let Some(file) = &file else { continue };
        attachment.storage_key = file
            .token
            .map(|token| StorageKey::new(court.store.id(), token).to_string());
        attachment.url = file
            .place
            .as_ref()
            .map(|place| depot::url(court.folder, place));
        // A picture of it goes into the agent's prompt, so it goes along only in its place, and none of what is to be seen
        // once unless that may be seen here.
        let shown = file.place.is_none() && !secret(file);
        let thumbnail = message
            .draft
            .attachments
            .get(nth)
            .and_then(|meta| meta.thumbnail.as_ref());
        if let Some(jpeg) = thumbnail.filter(|_| shown) {
            attachment
                .extras
                .insert("thumbnail_jpeg_base64".to_owned(), jpeg.clone());
        }
    }
}

/// `stored`, `pending` (it may come), or `unavailable` (nobody is going to fetch it by himself); and why.
fn standing<'a>(file: &'a Attached, media: &Media) -> (&'static str, Option<&'a str>) {
    match (file.fetching, &file.place) {
        (Fetching::Here, Some(_)) => ("stored", None),
        (Fetching::Here, None) => ("unavailable", Some("let_go")),
        (Fetching::Failed, _) => (
            "unavailable",
            Some(file.reason.as_deref().unwrap_or_default()),
        ),
        (Fetching::Known | Fetching::Wanted, _) => match unwanted(file, media) {
            Some(why) => ("unavailable", Some(why)),
            None => ("pending", Some(file.reason.as_deref().unwrap_or("pending"))),
        },
    }
}

//! What became of a call, and how the host is told.

use std::time::Duration;

use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::DeliveryReceipt;
use crate::protocol::{PLATFORM, StringMap};
use crate::session::Fate;
use crate::store::{DeliveryState, Pace, PartState, Turns};

/// The limits do not let it go in time.
pub(super) const RATE_LIMITED: &str = "rate_limited";

/// How far the messages of a request got.
#[derive(Default)]
pub(super) struct Outcome {
    pub parts: Vec<PartState>,
    /// Code and reason of a refusal.
    pub error: Option<(String, String)>,
    /// What was left out.
    pub degraded: Vec<String>,
    /// The server wants fewer messages.
    pub rate_limited: bool,
    /// When what waits of it has its turn.
    pub turn: Option<Wanting>,
    /// When the same call would get through.
    pub retry_after: Option<Duration>,
    /// Why a file could not be uploaded so far.
    pub not_uploaded: Option<String>,
    /// It joined an earlier call.
    pub deduplicated: bool,
    /// What was done, if it is not a text.
    pub kind: Option<String>,
}

/// What the limits make of messages that wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanting {
    pub turns: Turns,
    /// By which limits, and when that was looked at.
    pub pace: Pace,
}

impl Wanting {
    /// Whether it is the limits that they wait for.
    pub(super) fn is_awaited(&self) -> bool {
        self.turns.last > self.pace.now
    }

    /// When so many messages would get through in a call that takes `budget` at most; nothing if they never do.
    pub(super) fn retry_after(&self, messages: usize, budget: Duration) -> Option<Duration> {
        let may = self.turns.last != i64::MAX && self.pace.limits.lets_go(messages, budget);
        let left = u64::try_from(self.turns.last - self.pace.now);
        may.then(|| Duration::from_micros(left.unwrap_or_default()))
    }

    /// The error of a call that could not wait so long.
    pub(super) fn error(&self, outcome: &Outcome, budget: Duration) -> WireError {
        let sentence = match self.retry_after(outcome.parts.len(), budget) {
            Some(_) if self.turns.stranger => {
                "as many people who never wrote were written to within 24 hours as `pacing.strangers_per_day` allows; send \
                 it again later, or wait until they write"
            }
            Some(_) => "messages go out no faster than `pacing` says; send it again later",
            None if self.turns.last == i64::MAX => {
                "`pacing.strangers_per_day` is 0, so nobody is written to who never wrote; wait until they write"
            }
            None => {
                "this message has more parts than `pacing` lets go in the time of one call; send less at once, or raise \
                 `text_chunk_chars`, `pacing` or `send_timeout_secs`"
            }
        };
        WireError::new(RATE_LIMITED, sentence)
    }
}

impl Outcome {
    /// What the store says, moved on by what the session knows already and the store is about to hear.
    pub(super) fn of(mut parts: Vec<PartState>, fates: Vec<Fate>) -> Self {
        let mut error = None;
        let rate_limited = fates.contains(&Fate::RateLimited);
        let mut not_uploaded = None;
        for (part, fate) in parts.iter_mut().zip(fates) {
            match fate {
                Fate::Sent if part.state < DeliveryState::Sent => part.state = DeliveryState::Sent,
                Fate::Suspect if part.state < DeliveryState::Suspect => {
                    part.state = DeliveryState::Suspect;
                }
                Fate::NotUploaded(reason) => not_uploaded = Some(reason),
                Fate::Rejected { code, reason } => {
                    part.state = DeliveryState::Rejected;
                    error = error.or(Some((code, reason)));
                }
                _ => {}
            }
        }
        let refused = parts
            .iter()
            .find(|part| part.state == DeliveryState::Rejected);
        let error = error.or_else(|| {
            let code = refused?
                .error
                .clone()
                .unwrap_or_else(|| "rejected".to_owned());
            Some((code, "WhatsApp refused the message".to_owned()))
        });
        Self {
            parts,
            error,
            rate_limited,
            not_uploaded,
            ..Self::default()
        }
    }

    /// A call that was refused before anything was stored.
    pub(super) fn refused(code: &str, reason: &str) -> Self {
        Self {
            error: Some((code.to_owned(), reason.to_owned())),
            ..Self::default()
        }
    }

    /// A call of which not even the store has said what became of it.
    pub(super) fn not_known() -> Self {
        let part = PartState {
            message_id: String::new(),
            kind: "text".to_owned(),
            state: DeliveryState::Unknown,
            open: true,
            error: None,
            sent_at: None,
        };
        Self::of(vec![part], Vec::new())
    }

    /// The state of the whole: that of the part that got least far.
    pub(super) fn state(&self) -> DeliveryState {
        if self.error.is_some() {
            return DeliveryState::Rejected;
        }
        let states = self.parts.iter().map(|part| part.state);
        states
            .min_by_key(|state| progress(*state))
            .unwrap_or(DeliveryState::Sent)
    }

    /// Ids of the parts that have left, or may have.
    pub(super) fn gone(&self) -> Vec<&str> {
        let gone = self
            .parts
            .iter()
            .filter(|part| progress(part.state) >= progress(DeliveryState::Handed));
        gone.map(|part| part.message_id.as_str()).collect()
    }

    /// Whether the server has all that has left.
    pub(super) fn lacks_only_turns(&self) -> bool {
        let mut parts = self.parts.iter().map(|part| part.state);
        parts
            .all(|state| state.is_confirmed() || progress(state) <= progress(DeliveryState::Queued))
    }

    /// The error with the time after which the same call would get through.
    pub(super) fn told_when(&self, error: WireError) -> WireError {
        match self.retry_after {
            Some(after) => error.with("retry_after_ms", milliseconds(after)),
            None => error,
        }
    }

    /// Whether the server has every part.
    pub(super) fn is_confirmed(&self) -> bool {
        self.error.is_none() && self.parts.iter().all(|part| part.state.is_confirmed())
    }

    /// The answer to the host.
    pub(super) fn receipt(self, conversation: &str, reply_to: Option<&str>) -> DeliveryReceipt {
        let mut metadata = StringMap::new();
        let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
        let nothing = self.parts.is_empty() && self.error.is_none() && self.kind.is_none();
        put("platform", PLATFORM.to_owned());
        let kind = self.kind.as_deref();
        put(
            "kind",
            kind.unwrap_or(if nothing { "none" } else { "text" })
                .to_owned(),
        );
        let state = match self.state() {
            _ if nothing => "nothing_to_send",
            state => wire_state(state),
        };
        put("delivery_state", state.to_owned());
        let ids: Vec<&str> = self
            .parts
            .iter()
            .map(|part| part.message_id.as_str())
            .collect();
        put("message_ids", ids.join(","));
        if ids.len() > 1 {
            let states: Vec<&str> = self
                .parts
                .iter()
                .map(|part| wire_state(part.state))
                .collect();
            put("message_states", states.join(","));
        }
        if let Some(id) = reply_to {
            put("reply_to_message_id", id.to_owned());
        }
        if let Some((code, reason)) = &self.error {
            put("error_code", code.clone());
            put("error", reason.clone());
        }
        if !self.degraded.is_empty() {
            put("degraded", self.degraded.join("; "));
        }
        if let Some(after) = self.retry_after {
            put("retry_after_ms", milliseconds(after).to_string());
        }
        if self.deduplicated {
            put("deduplicated", "true".to_owned());
        }
        let last = self.parts.last();
        DeliveryReceipt {
            message_id: last.map(|part| part.message_id.clone()).unwrap_or_default(),
            conversation_id: conversation.to_string(),
            metadata,
        }
    }
}

/// Rounded up: who waits so long has waited long enough.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The word for a state that a caller is answered with.
fn wire_state(state: DeliveryState) -> &'static str {
    match state {
        // Handed over and not acknowledged in time: of unknown fate to the caller.
        DeliveryState::Handed => "unknown",
        state => state.as_str(),
    }
}

/// How far a state is: given up on, waiting, under way, with the server, with the recipient.
fn progress(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Rejected => 0,
        DeliveryState::Withdrawn => 1,
        DeliveryState::Expired => 2,
        DeliveryState::Queued => 3,
        DeliveryState::Handed => 4,
        DeliveryState::Unknown => 5,
        DeliveryState::Sent => 6,
        DeliveryState::Suspect => 7,
        DeliveryState::Delivered => 8,
        DeliveryState::Read => 9,
        DeliveryState::Played => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(state: DeliveryState) -> PartState {
        PartState {
            message_id: format!("{state:?}"),
            kind: "text".to_owned(),
            state,
            open: false,
            error: None,
            sent_at: None,
        }
    }

    #[test]
    fn the_whole_is_as_far_as_its_slowest_part() {
        use DeliveryState::*;
        for (states, expected) in [
            (vec![Sent, Delivered], Sent),
            (vec![Sent, Expired, Expired], Expired),
            (vec![Sent, Withdrawn], Withdrawn),
            (vec![Queued, Sent], Queued),
            (vec![Unknown, Handed], Handed),
            (vec![Sent, Rejected, Queued], Rejected),
        ] {
            let outcome = Outcome::of(states.iter().copied().map(part).collect(), Vec::new());
            assert_eq!(outcome.state(), expected, "{states:?}");
            assert_eq!(
                outcome.is_confirmed(),
                expected.is_confirmed(),
                "{states:?}"
            );
        }
    }

    #[test]
    fn a_failure_in_the_middle_says_which_parts_went() {
        use DeliveryState::*;
        let states = [Sent, Rejected, Withdrawn];
        let outcome = Outcome::of(states.map(part).into(), Vec::new());
        assert_eq!(outcome.gone(), ["Sent"]);
        let metadata = outcome.receipt("chat", Some("M1")).metadata;
        for (key, value) in [
            ("delivery_state", "rejected"),
            ("message_ids", "Sent,Rejected,Withdrawn"),
            ("message_states", "sent,rejected,withdrawn"),
            ("error_code", "rejected"),
            ("reply_to_message_id", "M1"),
        ] {
            assert_eq!(metadata[key], value, "{key}");
        }
    }
}

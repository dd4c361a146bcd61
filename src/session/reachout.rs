//! What it means that WhatsApp refused a message with 463: this account may write first to nobody for a while, or this
//! one person takes messages only with a token of theirs.
//!
//! Invariant: a message that was refused so is never sent again by itself, and while the account is restricted no first
//! message leaves it, in any process; that it was refused, the restriction and its end are in `channel.db` before anything
//! is asked (`store::pacing` refuses).

use std::time::Duration;

use whatsapp_rust::{Client, ReachoutTimelock};

use super::Shared;
use super::handing::Outcome;
use crate::clock::{now, rfc3339};
use crate::store::Restriction;

/// The refusal. Source: whatsapp-rust, `client/node_io.rs`: missing token, or the account's reach-out time-lock.
pub(super) const NACK: &str = "463";
/// Its code while the account is restricted.
pub(crate) const RESTRICTED: &str = "new_chats_restricted";

/// An answer takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nobody is written to first where WhatsApp does not say for how long, seconds.
const UNSAID: i64 = 3600;
/// A restriction that is said to last longer is looked at again after this, seconds.
const LONGEST: i64 = 366 * 24 * 3600;

/// What becomes of a first message while the account is restricted.
pub(super) fn restricted() -> Outcome {
    Outcome::Rejected {
        code: RESTRICTED.to_owned(),
        reason: "WhatsApp does not let this account write first to people it does not know for now; wait until they \
                 write, or until the restriction ends"
            .to_owned(),
    }
}

/// What an operator is told of a restriction.
pub fn restricted_until(restriction: &Restriction) -> String {
    format!(
        "WhatsApp lets this account write to nobody first until {}; chats that it has go on; send less to people who do \
         not know this number [{}]",
        rfc3339(restriction.until),
        restriction.kind
    )
}

/// Notes the refusal, asks WhatsApp what it meant, and notes what it says of the account. Until it answers, and where
/// it does not, the account counts as restricted, and the message as refused for that.
pub(super) async fn refused(shared: &Shared, client: &Client, message_id: &str) -> Outcome {
    let provisional = read(ReachoutTimelock::default(), now());
    let noted = shared
        .store
        .refused_first(message_id.to_owned(), RESTRICTED, provisional);
    if let Err(error) = noted.await {
        tracing::error!(%error, "what WhatsApp refused could not be stored");
    }
    crate::crash::point("after_refusal");
    let asked = tokio::time::timeout(PATIENCE, async {
        client.mex().fetch_reachout_timelock().await
    });
    let restriction = match asked.await {
        Ok(Ok(lock)) => lock.is_active.unwrap_or(true).then(|| read(lock, now())),
        unanswered => {
            tracing::warn!(
                ?unanswered,
                "WhatsApp does not say whether this account is restricted"
            );
            return restricted();
        }
    };
    let outcome = match &restriction {
        Some(restriction) => {
            tracing::warn!(until = restriction.until, kind = restriction.kind, "WhatsApp restricts this account to the chats that it has");
            restricted()
        }
        None => Outcome::Rejected {
            code: "contact_token_missing".to_owned(),
            reason: "WhatsApp does not take this message without a token from the recipient, though this account is not \
                     restricted; wait until they write, or write to them from the phone"
                .to_owned(),
        },
    };
    if let Err(error) = shared.store.restrict(restriction).await {
        tracing::error!(%error, "what WhatsApp restricts could not be stored");
    }
    outcome
}

/// Source of the fields: `WAWebMexFetchReachoutTimelockJobQuery` in wacore; the end is Unix seconds.
fn read(lock: ReachoutTimelock, now: i64) -> Restriction {
    let ends = lock.time_enforcement_ends;
    let ends = ends.and_then(|ends| ends.trim().parse::<i64>().ok());
    Restriction {
        since: now,
        until: match ends.filter(|ends| *ends > now) {
            Some(ends) => ends.min(now + LONGEST),
            None => now + UNSAID,
        },
        kind: lock.enforcement_type.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_makes_no_sense_is_replaced() {
        const NOW: i64 = 1_700_000_000;
        for (said, until) in [
            (Some("1700000060"), 1_700_000_060),
            (Some(" 1700000060 "), 1_700_000_060),
            (Some("1699999999"), NOW + UNSAID),
            (Some("0"), NOW + UNSAID),
            (Some("-5"), NOW + UNSAID),
            (Some("tomorrow"), NOW + UNSAID),
            (Some("99999999999999999999"), NOW + UNSAID),
            (Some("9223372036854775807"), NOW + LONGEST),
            (None, NOW + UNSAID),
        ] {
            let lock = ReachoutTimelock {
                time_enforcement_ends: said.map(str::to_owned),
                ..ReachoutTimelock::default()
            };
            assert_eq!(read(lock, NOW).until, until, "{said:?}");
        }
    }
}

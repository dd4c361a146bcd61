//! How a poll stands, for the event of a vote.
//!
//! It is counted when the event is made, since only then is it known who may be heard: a person whom the policy
//! refuses is not in the tally either.

use crate::access::{Policy, Subject};
use crate::inbound::reveal::{self, Ballot};
use crate::inbound::{Draft, name_of};
use crate::store::{Cast, Store, StoreError, Stored};

/// Adds the tally to a vote that was opened. Everything else stays as it is.
pub(super) async fn tallied(
    store: &Store,
    policy: &Policy<'_>,
    mut message: Stored,
) -> Result<Stored, StoreError> {
    if !reveal::is_open_vote(&message.draft) {
        return Ok(message);
    }
    let draft: Draft = std::mem::take(&mut message.draft);
    message.draft = match store.ballots(message.id).await? {
        None => reveal::close_vote(draft),
        Some(ballots) => {
            let heard = ballots.into_iter().filter(|Cast { voter, .. }| {
                voter.key == message.sender.key
                    || !policy.refuses(&Subject {
                        sender: &voter.credentials(),
                        approved: voter.approved,
                        chat: &message.chat.credentials(),
                        kind: message.chat.kind(),
                        mentions_self: false,
                        replies_to_self: false,
                        forwarded: false,
                        text: "",
                    })
            });
            let ballots: Vec<Ballot> = heard
                .map(|Cast { voter, options }| Ballot {
                    voter: name_of(&voter, None),
                    options,
                })
                .collect();
            let voter = name_of(&message.sender, message.push_name.as_deref());
            reveal::tally(draft, &voter, &ballots)
        }
    };
    Ok(message)
}

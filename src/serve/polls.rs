//! How a poll stands, for the event of a vote.
//!
//! It is counted when the event is made, since only then is it known who may be heard: a person whom the policy
//! refuses is not in the tally either. The owner of the account, who votes on the phone, is.

use crate::access::{Policy, Subject};
use crate::inbound::reveal::{self, Ballot, Standing};
use crate::inbound::{Draft, name_of};
use crate::store::{self, Cast, Linked, Peer, Store, StoreError, Stored};

/// Adds the tally to a vote that was opened. Everything else stays as it is.
pub(super) async fn tallied(
    store: &Store,
    policy: &Policy<'_>,
    own: &Linked,
    mut message: Stored,
) -> Result<Stored, StoreError> {
    if !reveal::is_open_vote(&message.draft) {
        return Ok(message);
    }
    let draft: Draft = std::mem::take(&mut message.draft);
    message.draft = match store.standing(message.id).await? {
        None => reveal::close_vote(draft),
        Some(store::Standing {
            choice,
            added,
            cast,
        }) => {
            let is_own = |voter: &Peer| voter.aliases.contains(&own.phone);
            let heard = cast.into_iter().filter(|Cast { voter, .. }| {
                voter.key == message.sender.key
                    || is_own(voter)
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
            let ballots = heard
                .map(|Cast { voter, choice }| Ballot {
                    voter: name_of(&voter, own.push_name.as_deref().filter(|_| is_own(&voter))),
                    choice,
                })
                .collect();
            let standing = Standing {
                choice,
                added,
                ballots,
            };
            let voter = name_of(&message.sender, message.push_name.as_deref());
            reveal::tally(draft, &voter, &standing)
        }
    };
    Ok(message)
}

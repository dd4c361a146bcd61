//! How a poll stands, for the event of a vote.
//!
//! It is counted when the event is made, since only then is it known who may be heard: a person whom the policy
//! refuses is not in the tally either. The owner of the account, who votes on the phone, is.

use super::emit::Court;
use crate::access::Policy;
use crate::inbound::reveal::{self, Ballot, Standing};
use crate::inbound::{Draft, name_of};
use crate::store::{self, Cast, StoreError, Stored};

/// Adds the tally to a vote that was opened. Everything else stays as it is.
pub(super) async fn tallied(
    court: &Court<'_>,
    policy: &Policy<'_>,
    mut message: Stored,
) -> Result<Stored, StoreError> {
    if !reveal::is_open_vote(&message.draft) {
        return Ok(message);
    }
    let draft: Draft = std::mem::take(&mut message.draft);
    message.draft = match court.store.standing(message.id).await? {
        None => reveal::close_vote(draft),
        Some(store::Standing {
            choice,
            added,
            cast,
        }) => {
            let own = court.linked;
            let mut ballots = Vec::new();
            for Cast { voter, choice } in cast {
                let is_own = voter.aliases.contains(&own.phone);
                let heard = is_own
                    || voter.key == message.sender.key
                    || !court.is_refused(policy, &message.chat, &voter).await?;
                if heard {
                    let own_name = own.push_name.as_deref().filter(|_| is_own);
                    let voter = name_of(&voter, own_name);
                    ballots.push(Ballot { voter, choice });
                }
            }
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

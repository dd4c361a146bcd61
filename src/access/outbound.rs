//! To whom the agent may write: no wider than who may write to it, unless a list says so.

use super::{Policy, Standing, Trail, position};
use crate::config::{DmPolicy, Permission};
use crate::identity::{Address, ChatKind, parse_target};

/// The policy does not let us write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy does not let messages go to this destination; add it to outbound_recipient_ids, or to the list that \
     admits it inbound"
)]
pub struct Unauthorized;

impl Unauthorized {
    /// The wire's code.
    pub fn code(&self) -> &'static str {
        "unauthorized_destination"
    }
}

impl Policy<'_> {
    /// Whether messages may go to a destination, given every known address of it, and whether the operator has approved
    /// whoever is there.
    ///
    /// # Errors
    /// [`Unauthorized`] if no rule admits it.
    pub fn outbound(&self, target: &[Address], approved: bool) -> Result<(), Unauthorized> {
        let config = self.config;
        let listed = &config.outbound_recipient_ids;
        let admitted = if !listed.is_empty() {
            position(listed, target, true).is_some()
        } else {
            self.is_unsaid() || self.is_default(target) || self.admits(target, approved)
        };
        match admitted && !target.is_empty() {
            true => Ok(()),
            false => Err(Unauthorized),
        }
    }

    /// Whether nothing is said of who may speak, so that only an operator's own call can ask. Groups that are listed
    /// while groups may not speak at all admit nobody, yet say that not everybody is meant.
    fn is_unsaid(&self) -> bool {
        let config = self.config;
        self.dm.is_none()
            && config.allowed_conversation_ids.is_empty()
            && config.allowed_group_sender_ids.is_none()
    }

    fn is_default(&self, target: &[Address]) -> bool {
        let recipient = self.config.default_recipient.as_deref();
        recipient
            .and_then(|text| parse_target(text, &self.config.account).ok())
            .is_some_and(|recipient| target.contains(&recipient))
    }

    /// Whether this conversation could have reached the agent.
    fn admits(&self, target: &[Address], approved: bool) -> bool {
        let chats = &self.config.allowed_conversation_ids;
        match target.first().map(Address::kind) {
            Some(ChatKind::Private) => {
                match self.standing(target, target, approved, &mut Trail::default()) {
                    Standing::Contact(_, permission) => permission != Permission::Read,
                    Standing::Owner | Standing::Listed(_) => true,
                    Standing::Stranger => self.dm == Some(DmPolicy::Open),
                }
            }
            Some(ChatKind::Group) => self.hears_group(target),
            Some(ChatKind::Newsletter) => position(chats, target, false).is_some(),
            Some(ChatKind::Broadcast) | None => false,
        }
    }
}

//! What becomes of a message, and the rule that said so.

use crate::config::Permission;
use crate::protocol::event::ActivationReason;
use crate::store::Gate;

/// The rule of who is admitted by the lists, and reaches nobody.
pub(super) const NO_ROUTE: &str = "routes: none matches";

/// A verdict, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of the message.
    pub verdict: Verdict,
    /// The gates that it met, in order.
    pub gates: Vec<Gate>,
}

/// What becomes of a message. Every variant names the rule that spoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// To the agent.
    Emit {
        /// Why the agent is meant.
        activation: ActivationReason,
        /// What the sender may do.
        permission: Permission,
        /// The first route that matches, if any are configured.
        route: Option<String>,
        /// The rule.
        rule: String,
    },
    /// From a contact who may only read: the fixed answer, no agent.
    ReadOnly {
        /// The rule.
        rule: String,
    },
    /// From a stranger who may ask the operator to be let in.
    Pairing {
        /// The rule.
        rule: String,
    },
    /// From a group member who could have addressed us, and did not.
    Context {
        /// The rule.
        rule: String,
    },
    /// Not for the agent.
    Deny {
        /// The rule.
        rule: String,
    },
}

impl Verdict {
    /// The rule that spoke.
    pub fn rule(&self) -> &str {
        match self {
            Self::Emit { rule, .. }
            | Self::ReadOnly { rule }
            | Self::Pairing { rule }
            | Self::Context { rule }
            | Self::Deny { rule } => rule,
        }
    }

    /// Whether it is the lists that refuse this person, whichever route a message of theirs would take.
    pub fn refuses(&self) -> bool {
        match self {
            Self::Deny { rule } => rule != NO_ROUTE,
            Self::ReadOnly { .. } | Self::Pairing { .. } => true,
            Self::Emit { .. } | Self::Context { .. } => false,
        }
    }
}

pub(super) fn deny(rule: &str) -> Verdict {
    Verdict::Deny {
        rule: rule.to_owned(),
    }
}

//! What becomes of a message, and the rule that said so.

use crate::config::Permission;
use crate::protocol::event::ActivationReason;
use crate::store::Gate;

/// The rule of who is admitted by the lists, and reaches nobody, whatever they say.
pub(super) const NO_ROUTE: &str = "routes: none matches";
/// The rule of what reaches nobody, though its sender may speak: it does not say what a route asks for.
pub(super) const NO_ROUTE_FOR_TEXT: &str = "routes: none matches this text";

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

    /// Whether this person is refused, whatever they say.
    pub fn refuses(&self) -> bool {
        match self {
            Self::Deny { rule } => rule != NO_ROUTE_FOR_TEXT,
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

//! Who may speak to the agent, and to whom it may speak.
//!
//! Pure: a configuration and a message's facts in, a verdict out. It fails closed: what no rule admits is denied, and
//! a sender without any known address is nobody. A verdict names the rule that spoke by its place in the
//! configuration, never text or numbers, so it may be stored and logged.

mod routes;

use crate::config::{Config, Contact, DmPolicy, GroupActivation, Permission};
use crate::identity::{Address, ChatKind, IdEntry};
use crate::protocol::event::ActivationReason;
use crate::protocol::response::HostPolicy;

/// The access rules of one configuration.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    config: &'a Config,
    /// `None`: nobody has decided anything.
    dm: Option<DmPolicy>,
    own: &'a [Address],
}

/// What is known of an inbound message when its verdict is due.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Every known address of the sender.
    pub sender: &'a [Address],
    /// Every known address of the conversation.
    pub chat: &'a [Address],
    /// What the conversation is.
    pub kind: ChatKind,
    /// It mentions the linked account.
    pub mentions_self: bool,
    /// It quotes a message of the linked account.
    pub replies_to_self: bool,
    /// The text, for conditions of routes.
    pub text: &'a str,
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

/// Ingress is refused: an agent that is open to strangers must be somebody's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the configuration does not say who may write to the agent; add for example \
     \"dm_policy\": \"allowlist\", \"allowed_sender_ids\": [\"+15551230000\"]"
)]
pub struct PolicyRequired;

impl PolicyRequired {
    /// The wire's code.
    pub fn code(&self) -> &'static str {
        "policy_required"
    }
}

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

/// What a person is by the lists, before `dm_policy` is asked.
enum Standing<'a> {
    Contact(usize, &'a Contact),
    Owner,
    Listed(String),
    Stranger,
}

impl<'a> Policy<'a> {
    /// The rules of `config`.
    pub fn new(config: &'a Config) -> Self {
        Self {
            config,
            dm: dm_policy(config),
            own: &[],
        }
    }

    /// The same with the addresses of the linked account, for routes that ask for it.
    pub fn with_own(self, own: &'a [Address]) -> Self {
        Self { own, ..self }
    }

    /// The rule for strangers in direct chats, where one follows from the configuration.
    pub fn dm_policy(&self) -> Option<DmPolicy> {
        self.dm
    }

    /// Whether ingress may start.
    ///
    /// # Errors
    /// [`PolicyRequired`] while the configuration admits nobody and says so nowhere.
    pub fn ingress(&self) -> Result<(), PolicyRequired> {
        self.dm.map(drop).ok_or(PolicyRequired)
    }

    /// What becomes of a message.
    pub fn inbound(&self, subject: &Subject<'_>) -> Verdict {
        if subject.sender.is_empty() || subject.chat.is_empty() {
            return deny("the sender is not known");
        }
        match subject.kind {
            ChatKind::Private | ChatKind::Broadcast => self.direct(subject),
            ChatKind::Group => self.group(subject),
            ChatKind::Newsletter => {
                match position(&self.config.allowed_conversation_ids, subject.chat, false) {
                    Some(at) => {
                        let rule = format!("allowed_conversation_ids[{at}]");
                        self.emit(
                            subject,
                            ActivationReason::AllMessages,
                            Permission::Write,
                            rule,
                        )
                    }
                    None => deny("allowed_conversation_ids: this newsletter is not listed"),
                }
            }
        }
    }

    /// What becomes of something that happened besides messages: it is told where a message for the agent would be.
    /// Nobody is answered for it, so who may only read, or would have to ask first, is not told of.
    pub fn happening(&self, subject: &Subject<'_>) -> Verdict {
        let addressed = Subject {
            mentions_self: true,
            ..*subject
        };
        match self.inbound(&addressed) {
            Verdict::Emit {
                activation,
                permission,
                route,
                rule,
            } => Verdict::Emit {
                activation: match activation {
                    ActivationReason::DirectMention => ActivationReason::AllMessages,
                    other => other,
                },
                permission,
                route,
                rule,
            },
            Verdict::ReadOnly { rule } | Verdict::Pairing { rule } | Verdict::Context { rule } => {
                Verdict::Deny { rule }
            }
            deny => deny,
        }
    }

    /// Whether what is said in this group may be for the agent at all.
    pub fn hears_group(&self, chat: &[Address]) -> bool {
        let config = self.config;
        config.allow_group_messages
            && position(&config.allowed_conversation_ids, chat, true).is_some()
    }

    /// Whether the lists refuse this person, whichever route a message of theirs would take.
    pub fn refuses(&self, subject: &Subject<'_>) -> bool {
        match self.inbound(subject) {
            Verdict::Deny { rule } => rule != NO_ROUTE,
            Verdict::ReadOnly { .. } | Verdict::Pairing { .. } => true,
            Verdict::Emit { .. } | Verdict::Context { .. } => false,
        }
    }

    fn direct(&self, subject: &Subject<'_>) -> Verdict {
        let emit = |permission, rule| {
            self.emit(subject, ActivationReason::DirectMessage, permission, rule)
        };
        match self.standing(subject.sender, subject.chat) {
            Standing::Contact(
                at,
                Contact {
                    permission: Permission::Read,
                    ..
                },
            ) => Verdict::ReadOnly {
                rule: format!("contacts[{at}]: read"),
            },
            Standing::Contact(at, contact) => emit(contact.permission, format!("contacts[{at}]")),
            Standing::Owner => emit(Permission::Admin, "owner_id".to_owned()),
            Standing::Listed(rule) => emit(Permission::Write, rule),
            Standing::Stranger => match self.dm {
                Some(DmPolicy::Open) => emit(Permission::Write, "dm_policy: open".to_owned()),
                // A code goes to a chat in which the stranger reads it; a broadcast list is none.
                Some(DmPolicy::Pairing) if subject.kind == ChatKind::Private => Verdict::Pairing {
                    rule: "dm_policy: pairing".to_owned(),
                },
                Some(policy) => deny(&format!("dm_policy: {}", policy.as_str())),
                None => deny("dm_policy: not set"),
            },
        }
    }

    fn group(&self, subject: &Subject<'_>) -> Verdict {
        let config = self.config;
        if !config.allow_group_messages {
            return deny("allow_group_messages: false");
        }
        let Some(at) = position(&config.allowed_conversation_ids, subject.chat, true) else {
            return deny("allowed_conversation_ids: this group is not listed");
        };
        let activation = if subject.mentions_self {
            Some(ActivationReason::DirectMention)
        } else if subject.replies_to_self {
            Some(ActivationReason::ReplyToAgent)
        } else {
            (config.group_activation == GroupActivation::All)
                .then_some(ActivationReason::AllMessages)
        };
        let (permission, rule) = match self.standing(subject.sender, &[]) {
            Standing::Contact(
                at,
                Contact {
                    permission: Permission::Read,
                    ..
                },
            ) => {
                let rule = format!("contacts[{at}]: read");
                // An answer to somebody who talks to others would be noise.
                return if activation.is_some() {
                    Verdict::ReadOnly { rule }
                } else {
                    Verdict::Deny { rule }
                };
            }
            Standing::Contact(at, contact) => (contact.permission, format!("contacts[{at}]")),
            Standing::Owner => (Permission::Admin, "owner_id".to_owned()),
            Standing::Listed(_) | Standing::Stranger => match &config.allowed_group_sender_ids {
                None => (Permission::Write, format!("allowed_conversation_ids[{at}]")),
                Some(members) => match position(members, subject.sender, true) {
                    Some(at) => (Permission::Write, format!("allowed_group_sender_ids[{at}]")),
                    None => return deny("allowed_group_sender_ids: the sender is not listed"),
                },
            },
        };
        match activation {
            Some(activation) => self.emit(subject, activation, permission, rule),
            None => Verdict::Context {
                rule: "group_activation: mention".to_owned(),
            },
        }
    }

    fn emit(
        &self,
        subject: &Subject<'_>,
        activation: ActivationReason,
        permission: Permission,
        rule: String,
    ) -> Verdict {
        let routes = &self.config.routes;
        match routes
            .iter()
            .find(|route| routes::matches(route, subject, self.own))
        {
            Some(route) => Verdict::Emit {
                activation,
                permission,
                route: Some(route.name.clone()),
                rule,
            },
            None if routes.is_empty() => Verdict::Emit {
                activation,
                permission,
                route: None,
                rule,
            },
            None => deny(NO_ROUTE),
        }
    }

    /// Whether messages may go to a destination, given every known address of it.
    ///
    /// # Errors
    /// [`Unauthorized`] if no rule admits it.
    pub fn outbound(&self, target: &[Address]) -> Result<(), Unauthorized> {
        let config = self.config;
        let listed = &config.outbound_recipient_ids;
        let admitted = if !listed.is_empty() {
            position(listed, target, true).is_some()
        } else {
            self.dm.is_none() || self.is_default(target) || self.admits(target)
        };
        if admitted && !target.is_empty() {
            Ok(())
        } else {
            Err(Unauthorized)
        }
    }

    fn is_default(&self, target: &[Address]) -> bool {
        let recipient = self.config.default_recipient.as_deref();
        recipient
            .and_then(|text| crate::identity::parse_target(text, &self.config.account).ok())
            .is_some_and(|recipient| target.contains(&recipient))
    }

    /// Whether this conversation could have reached the agent.
    fn admits(&self, target: &[Address]) -> bool {
        let chats = &self.config.allowed_conversation_ids;
        match target.first().map(Address::kind) {
            Some(ChatKind::Private) => match self.standing(target, target) {
                Standing::Contact(_, contact) => contact.permission != Permission::Read,
                Standing::Owner | Standing::Listed(_) => true,
                Standing::Stranger => self.dm == Some(DmPolicy::Open),
            },
            Some(ChatKind::Group) => {
                self.config.allow_group_messages && position(chats, target, true).is_some()
            }
            Some(ChatKind::Newsletter) => position(chats, target, false).is_some(),
            Some(ChatKind::Broadcast) | None => false,
        }
    }

    /// The first list that knows the person. `chat` is their direct chat; none in a group, whose own lists count.
    fn standing(&self, person: &[Address], chat: &[Address]) -> Standing<'a> {
        let config = self.config;
        let contact = config
            .contacts
            .iter()
            .enumerate()
            .find(|(_, contact)| contact.id.matches(person));
        if let Some((at, contact)) = contact {
            return Standing::Contact(at, contact);
        }
        if config
            .owner_id
            .as_ref()
            .is_some_and(|owner| owner.matches(person))
        {
            return Standing::Owner;
        }
        if let Some(at) = position(&config.allowed_sender_ids, person, true) {
            return Standing::Listed(format!("allowed_sender_ids[{at}]"));
        }
        // "*" means all groups here: with it, a direct chat would be open to strangers unsaid.
        if let Some(at) = position(&config.allowed_conversation_ids, chat, false) {
            return Standing::Listed(format!("allowed_conversation_ids[{at}]"));
        }
        Standing::Stranger
    }

    /// The policy in the host's words, for `configure`.
    pub fn as_host_policy(&self) -> HostPolicy {
        let config = self.config;
        let texts =
            |entries: &[IdEntry]| entries.iter().map(IdEntry::to_string).collect::<Vec<_>>();
        let mut metadata: crate::protocol::StringMap = [
            ("contact_count", config.contacts.len().to_string()),
            (
                "group_activation",
                config.group_activation.as_str().to_owned(),
            ),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if config.dm_policy.is_none() {
            metadata.insert(
                "dm_policy_source".to_owned(),
                "follows from the lists".to_owned(),
            );
        }
        HostPolicy {
            owner_id: config.owner_id.as_ref().map(IdEntry::to_string),
            allowed_sender_ids: texts(&config.allowed_sender_ids),
            allowed_conversation_ids: texts(&config.allowed_conversation_ids),
            dm_policy: self.dm.map(|policy| policy.as_str().to_owned()),
            allow_group_messages: Some(config.allow_group_messages),
            max_attachment_bytes: Some(config.max_attachment_bytes),
            allowed_dm_sender_ids: texts(&config.allowed_sender_ids),
            allowed_outbound_conversation_ids: texts(&config.outbound_recipient_ids),
            reply_delivery: Some(config.reply_delivery.as_str().to_owned()),
            metadata,
        }
    }
}

const NO_ROUTE: &str = "routes: none matches";

fn deny(rule: &str) -> Verdict {
    Verdict::Deny {
        rule: rule.to_owned(),
    }
}

/// The place of the first entry that means this person or chat. `any`: whether `"*"` does.
fn position(entries: &[IdEntry], addresses: &[Address], any: bool) -> Option<usize> {
    entries
        .iter()
        .position(|entry| (any || *entry != IdEntry::Any) && entry.matches(addresses))
}

/// What the configuration says about strangers in direct chats, or what follows from its lists.
fn dm_policy(config: &Config) -> Option<DmPolicy> {
    let direct = |entry: &IdEntry| matches!(entry, IdEntry::One(address) if address.kind() == ChatKind::Private);
    let chats = &config.allowed_conversation_ids;
    if config.dm_policy.is_some() {
        config.dm_policy
    } else if config.allowed_sender_ids.contains(&IdEntry::Any) {
        Some(DmPolicy::Open)
    } else if !config.allowed_sender_ids.is_empty()
        || !config.contacts.is_empty()
        || config.owner_id.is_some()
        || chats.iter().any(direct)
    {
        Some(DmPolicy::Allowlist)
    } else if chats.iter().any(|entry| speaks(config, entry)) {
        Some(DmPolicy::Deny)
    } else {
        None
    }
}

/// Whether an entry for a group or newsletter lets it speak.
fn speaks(config: &Config, entry: &IdEntry) -> bool {
    match entry {
        IdEntry::Any | IdEntry::One(Address::Group(_)) => config.allow_group_messages,
        IdEntry::One(address) => address.kind() == ChatKind::Newsletter,
    }
}

#[cfg(test)]
mod tests;

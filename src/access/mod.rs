//! Who may speak to the agent, and to whom it may speak.
//!
//! Pure: a configuration and a message's facts in, a verdict out. It fails closed: what no rule admits is denied, and
//! a sender without any known address is nobody. A verdict names the rule that spoke by its place in the
//! configuration, never text or numbers, so it may be stored and logged.

mod gates;
mod outbound;
mod routes;
mod verdict;

use gates::Trail;
pub use outbound::Unauthorized;
pub use verdict::{Judgement, Verdict};
use verdict::{NO_ROUTE, NO_ROUTE_FOR_TEXT, deny};

use crate::config::{Config, DmPolicy, GroupActivation, Permission};
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
    /// The operator has approved the sender.
    pub approved: bool,
    /// Every known address of the conversation.
    pub chat: &'a [Address],
    /// What the conversation is.
    pub kind: ChatKind,
    /// It mentions the linked account.
    pub mentions_self: bool,
    /// It quotes a message of the linked account.
    pub replies_to_self: bool,
    /// It was written elsewhere and passed on; what it says, mentions among it, is nobody's address to us.
    pub forwarded: bool,
    /// The text, for regular expressions.
    pub text: &'a str,
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

/// What a person is by the lists, before `dm_policy` is asked.
enum Standing {
    Contact(usize, Permission),
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
        self.judge(subject).verdict
    }

    /// The same, with the gates that it met.
    pub fn judge(&self, subject: &Subject<'_>) -> Judgement {
        let mut trail = Trail::default();
        let verdict = self.pass(subject, &mut trail);
        Judgement {
            verdict,
            gates: trail.gates(),
        }
    }

    fn pass(&self, subject: &Subject<'_>, trail: &mut Trail) -> Verdict {
        if subject.sender.is_empty() || subject.chat.is_empty() {
            trail.note("identity", "the sender is not known");
            return deny("the sender is not known");
        }
        match subject.kind {
            ChatKind::Private | ChatKind::Broadcast => self.direct(subject, trail),
            ChatKind::Group => self.group(subject, trail),
            ChatKind::Newsletter => {
                match trail.listed(
                    "allowed_conversation_ids",
                    &self.config.allowed_conversation_ids,
                    subject.chat,
                    false,
                ) {
                    Some(at) => {
                        let rule = format!("allowed_conversation_ids[{at}]");
                        let reason = ActivationReason::AllMessages;
                        self.emit(subject, reason, Permission::Write, rule, trail)
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
            forwarded: false,
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

    /// Whether any rule means a person by their phone number, so that a number may decide what becomes of a message.
    pub fn names_numbers(&self) -> bool {
        self.names(|address| address.phone().is_some())
    }

    /// The same of LIDs.
    pub fn names_lids(&self) -> bool {
        self.names(|address| matches!(address, Address::Lid(_)))
    }

    fn names(&self, such: impl Fn(&Address) -> bool) -> bool {
        let config = self.config;
        let contacts = config.contacts.iter().map(|contact| &contact.id);
        let routes = config.routes.iter();
        let routes = routes.flat_map(|route| [&route.chat, &route.group, &route.from]);
        let members = config.allowed_group_sender_ids.iter().flatten();
        contacts
            .chain(&config.owner_id)
            .chain(&config.allowed_sender_ids)
            .chain(&config.allowed_conversation_ids)
            .chain(members)
            .chain(routes.flatten())
            .any(|entry| matches!(entry, IdEntry::One(address) if such(address)))
    }

    /// Whether what is said in this group may be for the agent at all.
    pub fn hears_group(&self, chat: &[Address]) -> bool {
        let config = self.config;
        config.allow_group_messages
            && position(&config.allowed_conversation_ids, chat, true).is_some()
    }

    /// Whether this person is refused, whatever they say.
    pub fn refuses(&self, subject: &Subject<'_>) -> bool {
        self.inbound(subject).refuses()
    }

    fn direct(&self, subject: &Subject<'_>, trail: &mut Trail) -> Verdict {
        let (permission, rule) =
            match self.standing(subject.sender, subject.chat, subject.approved, trail) {
                Standing::Contact(at, Permission::Read) => {
                    return Verdict::ReadOnly {
                        rule: format!("contacts[{at}]: read"),
                    };
                }
                Standing::Contact(at, permission) => (permission, format!("contacts[{at}]")),
                Standing::Owner => (Permission::Admin, "owner_id".to_owned()),
                Standing::Listed(rule) => (Permission::Write, rule),
                Standing::Stranger => {
                    trail.note("dm_policy", self.dm.map_or("not set", DmPolicy::as_str));
                    match self.dm {
                        Some(DmPolicy::Open) => (Permission::Write, "dm_policy: open".to_owned()),
                        // A code goes to a chat in which the stranger reads it; a broadcast list is none.
                        Some(DmPolicy::Pairing) if subject.kind == ChatKind::Private => {
                            return Verdict::Pairing {
                                rule: "dm_policy: pairing".to_owned(),
                            };
                        }
                        Some(policy) => return deny(&format!("dm_policy: {}", policy.as_str())),
                        None => return deny("dm_policy: not set"),
                    }
                }
            };
        let reason = ActivationReason::DirectMessage;
        self.emit(subject, reason, permission, rule, trail)
    }

    fn group(&self, subject: &Subject<'_>, trail: &mut Trail) -> Verdict {
        let config = self.config;
        trail.note("allow_group_messages", config.allow_group_messages);
        if !config.allow_group_messages {
            return deny("allow_group_messages: false");
        }
        let groups = &config.allowed_conversation_ids;
        let Some(group) = trail.listed("allowed_conversation_ids", groups, subject.chat, true)
        else {
            return deny("allowed_conversation_ids: this group is not listed");
        };
        let (permission, rule) = match self.named(subject.sender, trail) {
            Some(Standing::Contact(at, Permission::Read)) => {
                let rule = format!("contacts[{at}]: read");
                // An answer to somebody who talks to others would be noise.
                return match self.activation(subject, trail) {
                    Some(_) => Verdict::ReadOnly { rule },
                    None => Verdict::Deny { rule },
                };
            }
            Some(Standing::Contact(at, permission)) => (permission, format!("contacts[{at}]")),
            Some(_) => (Permission::Admin, "owner_id".to_owned()),
            None => match &config.allowed_group_sender_ids {
                None => {
                    trail.note("allowed_group_sender_ids", "all members");
                    (
                        Permission::Write,
                        format!("allowed_conversation_ids[{group}]"),
                    )
                }
                Some(members) => {
                    match trail.listed("allowed_group_sender_ids", members, subject.sender, true) {
                        Some(at) => (Permission::Write, format!("allowed_group_sender_ids[{at}]")),
                        None => return deny("allowed_group_sender_ids: the sender is not listed"),
                    }
                }
            },
        };
        match self.activation(subject, trail) {
            Some(activation) => self.emit(subject, activation, permission, rule, trail),
            // Whose mention would reach nobody is not heard in passing either.
            None if self.leads_nowhere(subject) => {
                trail.note("routes", "none matches");
                deny(NO_ROUTE)
            }
            None => Verdict::Context {
                rule: "group_activation: mention".to_owned(),
            },
        }
    }

    /// Whether there are routes, and none is for this sender in this conversation, whatever they say.
    fn leads_nowhere(&self, subject: &Subject<'_>) -> bool {
        let routes = &self.config.routes;
        let leads = |route| routes::leads(route, subject, self.own);
        !routes.is_empty() && !routes.iter().any(leads)
    }

    /// Why a group message is for the agent, if it is. A forwarded one was written to somebody else.
    fn activation(&self, subject: &Subject<'_>, trail: &mut Trail) -> Option<ActivationReason> {
        let written = !subject.forwarded;
        let patterns = &self.config.mention_patterns;
        let (said, reason) = if written && subject.mentions_self {
            ("a mention", Some(ActivationReason::DirectMention))
        } else if subject.replies_to_self {
            ("a reply to us", Some(ActivationReason::ReplyToAgent))
        } else if let Some(at) = patterns
            .iter()
            .position(|p| written && p.is_match(subject.text))
        {
            trail.note("group_activation", format_args!("mention_patterns[{at}]"));
            return Some(ActivationReason::DirectMention);
        } else if self.config.group_activation == GroupActivation::All {
            ("all", Some(ActivationReason::AllMessages))
        } else {
            ("not addressed to us", None)
        };
        trail.note("group_activation", said);
        reason
    }

    fn emit(
        &self,
        subject: &Subject<'_>,
        activation: ActivationReason,
        permission: Permission,
        rule: String,
        trail: &mut Trail,
    ) -> Verdict {
        let routes = &self.config.routes;
        let route = routes
            .iter()
            .find(|route| routes::matches(route, subject, self.own));
        match route {
            Some(route) => trail.note("routes", &route.name),
            None if routes.is_empty() => {}
            None => {
                trail.note("routes", "none matches");
                return deny(match self.leads_nowhere(subject) {
                    true => NO_ROUTE,
                    false => NO_ROUTE_FOR_TEXT,
                });
            }
        }
        Verdict::Emit {
            activation,
            permission,
            route: route.map(|route| route.name.clone()),
            rule,
        }
    }

    /// The first list that knows the person. `chat` is their direct chat.
    fn standing(
        &self,
        person: &[Address],
        chat: &[Address],
        approved: bool,
        trail: &mut Trail,
    ) -> Standing {
        let config = self.config;
        if let Some(named) = self.named(person, trail) {
            return named;
        }
        let senders = &config.allowed_sender_ids;
        if let Some(at) = trail.listed("allowed_sender_ids", senders, person, true) {
            return Standing::Listed(format!("allowed_sender_ids[{at}]"));
        }
        // "*" means all groups here: with it, a direct chat would be open to strangers unsaid.
        let chats = &config.allowed_conversation_ids;
        if let Some(at) = trail.listed("allowed_conversation_ids", chats, chat, false) {
            return Standing::Listed(format!("allowed_conversation_ids[{at}]"));
        }
        trail.note("approvals", if approved { "approved" } else { "no entry" });
        match approved {
            true => Standing::Listed("approvals".to_owned()),
            false => Standing::Stranger,
        }
    }

    /// Whom the configuration names together with what they may do.
    fn named(&self, person: &[Address], trail: &mut Trail) -> Option<Standing> {
        let contacts = &self.config.contacts;
        if let Some(at) = contacts
            .iter()
            .position(|contact| contact.id.matches(person))
        {
            let permission = contacts[at].permission;
            trail.note("contacts", format_args!("[{at}]: {}", permission.as_str()));
            return Some(Standing::Contact(at, permission));
        }
        trail.note("contacts", "no entry");
        let owner = self.config.owner_id.as_ref();
        let is_owner = owner.is_some_and(|owner| owner.matches(person));
        trail.note("owner_id", if is_owner { "is it" } else { "is not it" });
        is_owner.then_some(Standing::Owner)
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

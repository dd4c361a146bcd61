//! Groups: who is in, who may do what, and how they are described to clients.
//!
//! A group addresses its members in one namespace, LID or phone, for all of its life; members are kept by phone
//! number.

mod approval;
mod change;
mod community;
mod relay;
mod requests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use wacore_binary::{Jid, Node, NodeValue, builder::NodeBuilder};

pub use self::{
    change::set_picture,
    relay::{chatstate, may_send, relay},
    requests::answer,
};
use crate::{
    account::{Account, Family},
    core::Core,
    iq::profile::Picture,
    session::Session,
    sync::lock,
};

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Made the group.
    Superadmin,
    /// May change it.
    Admin,
    /// May write.
    Member,
}

impl Rank {
    fn is_admin(self) -> bool {
        self != Self::Member
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Superadmin => Some("superadmin"),
            Self::Admin => Some("admin"),
            Self::Member => None,
        }
    }
}

/// A group.
#[derive(Clone)]
pub struct Group {
    id: String,
    subject: String,
    subject_by: Arc<Account>,
    subject_at: u64,
    created_by: Arc<Account>,
    created_at: u64,
    family: Family,
    members: BTreeMap<String, Rank>,
    locked: bool,
    announcement: bool,
    ephemeral: u32,
    description: Option<Description>,
    invite: String,
    approval: bool,
    /// Who waits to be let in, and since when.
    waiting: BTreeMap<String, u64>,
    add_mode: String,
    picture: Option<Picture>,
    place: Place,
}

/// Where a group stands to a community. Communities are named by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In none.
    #[default]
    Alone,
    /// It is one: a list of people, in which nobody writes.
    Community,
    /// The group of a community in which its admins write to all of its people.
    Announcements(String),
    /// One of the groups of a community.
    Sub(String),
}

#[derive(Clone)]
struct Description {
    id: String,
    body: String,
    by: Arc<Account>,
    at: u64,
}

/// All groups, by the user part of their JID.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<String, Group>>);

impl Groups {
    fn get(&self, jid: &Jid) -> Option<Group> {
        lock(&self.0).get(jid.user.as_str()).cloned()
    }
}

impl Group {
    fn jid(&self) -> Jid {
        Jid::group(self.id.as_str())
    }

    fn mode(&self) -> &'static str {
        match self.family {
            Family::Lid => "lid",
            Family::Pn => "pn",
        }
    }

    fn rank(&self, phone: &str) -> Option<Rank> {
        self.members.get(phone).copied()
    }

    /// A person's JID as the group knows it.
    fn member_jid(&self, account: &Account) -> Jid {
        account.jid(self.family)
    }

    fn member(&self, account: &Account, rank: Option<Rank>) -> Node {
        let (key, other): (_, NodeValue) = match self.family {
            Family::Lid => ("phone_number", account.jid(Family::Pn).into()),
            Family::Pn => ("lid", account.jid(Family::Lid).into()),
        };
        let member = NodeBuilder::new("participant")
            .attr("jid", self.member_jid(account))
            .attr(key, other);
        match rank.and_then(Rank::name) {
            Some(rank) => member.attr("type", rank).build(),
            None => member.build(),
        }
    }

    /// The group as clients are told about it.
    fn describe(&self, core: &Core) -> Node {
        let mut parts: Vec<Node> = self
            .members
            .iter()
            .filter_map(|(phone, rank)| Some(self.member(&*core.by_phone(phone)?, Some(*rank))))
            .collect();
        let flag = |tag| NodeBuilder::new(tag).build();
        if self.locked {
            parts.push(flag("locked"));
        }
        if self.announcement {
            parts.push(flag("announcement"));
        }
        if self.ephemeral > 0 {
            let ephemeral = NodeBuilder::new("ephemeral").attr("expiration", self.ephemeral);
            parts.push(ephemeral.build());
        }
        if self.approval {
            let join = NodeBuilder::new("group_join").attr("state", "on").build();
            let mode = NodeBuilder::new("membership_approval_mode").children([join]);
            parts.push(mode.build());
        }
        let add_mode = NodeBuilder::new("member_add_mode").string_content(self.add_mode.as_str());
        parts.push(add_mode.build());
        if let Some(description) = &self.description {
            parts.push(self.description(description));
        }
        parts.extend(self.place.describe());
        NodeBuilder::new("group")
            .attr("id", self.id.as_str())
            .attr("subject", self.subject.as_str())
            .attr("s_o", self.member_jid(&self.subject_by))
            .attr("s_t", self.subject_at)
            .attr("creation", self.created_at)
            .attr("creator", self.member_jid(&self.created_by))
            .attr("creator_pn", self.created_by.jid(Family::Pn))
            .attr("addressing_mode", self.mode())
            .attr("size", self.members.len())
            .children(parts)
            .build()
    }

    fn description(&self, description: &Description) -> Node {
        let body = NodeBuilder::new("body")
            .bytes(description.body.as_bytes())
            .build();
        NodeBuilder::new("description")
            .attr("id", description.id.as_str())
            .attr("participant", self.member_jid(&description.by))
            .attr("t", description.at)
            .children([body])
            .build()
    }
}

/// The picture of a group that the asking account is in.
pub fn picture(session: &Session, jid: &Jid) -> Option<Picture> {
    let group = session.core.groups.get(jid)?;
    group.rank(&session.account.phone)?;
    group.picture
}

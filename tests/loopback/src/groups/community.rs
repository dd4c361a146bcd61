//! Communities: a list of people, a group in which its admins write to all of them, and further groups.
//!
//! A community is itself a group to the protocol, without talk. Whoever is in one of its groups is in it, and in its
//! announcement group.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Group, Place, Rank, change::tell_about};
use crate::{
    session::Session,
    sync::lock,
    wire::node::{self, child},
};

impl Place {
    /// How clients are told.
    pub(super) fn describe(&self) -> Vec<Node> {
        let linked = |parent: &str| {
            NodeBuilder::new("linked_parent")
                .attr("jid", wacore_binary::Jid::group(parent))
                .build()
        };
        match self {
            Self::Alone => Vec::new(),
            Self::Community => vec![NodeBuilder::new("parent").build()],
            Self::Announcements(parent) => {
                vec![
                    linked(parent),
                    NodeBuilder::new("default_sub_group").build(),
                ]
            }
            Self::Sub(parent) => vec![linked(parent)],
        }
    }
}

/// What a new group is to be. Only an admin of a community makes groups of it.
pub(super) fn place(session: &Session, create: &Node) -> Result<Place, u16> {
    if child(create, "parent").is_some() {
        return Ok(Place::Community);
    }
    let Some(linked) = child(create, "linked_parent") else {
        return Ok(Place::Alone);
    };
    let parent = node::jid(linked, "jid").ok_or(400_u16)?;
    let community = session.core.groups.get(&parent).ok_or(404_u16)?;
    let rank = community.rank(&session.account.phone).ok_or(403_u16)?;
    match community.place == Place::Community && rank.is_admin() {
        true => Ok(Place::Sub(community.id)),
        false => Err(403),
    }
}

/// A new community gets its announcement group.
pub(super) fn begin(session: &Session, community: &Group) -> Result<(), u16> {
    let mut groups = lock(&session.core.groups.0);
    if groups.len() >= session.core.limits().groups {
        return Err(507);
    }
    let group = Group {
        id: format!("{}1", community.id),
        announcement: true,
        place: Place::Announcements(community.id.clone()),
        ..community.clone()
    };
    groups.insert(group.id.clone(), group);
    Ok(())
}

/// Who is in a new group of a community is let into the community and its announcement group, and all there are told.
pub(super) fn let_in(session: &Session, community: &str, group: &Group) {
    let mut joined = Vec::new();
    {
        let mut groups = lock(&session.core.groups.0);
        let others = groups.values_mut().filter(|other| {
            other.id == community || other.place == Place::Announcements(community.to_owned())
        });
        for other in others {
            let mut new = Vec::new();
            for phone in group.members.keys() {
                if !other.members.contains_key(phone) {
                    other.members.insert(phone.clone(), Rank::Member);
                    new.push(phone.clone());
                }
            }
            joined.push((other.clone(), new));
        }
    }
    for (other, new) in joined {
        let new: Vec<_> = new
            .iter()
            .filter_map(|phone| session.core.by_phone(phone))
            .collect();
        if !new.is_empty() {
            tell_about(session, &other, "add", &new);
        }
    }
}

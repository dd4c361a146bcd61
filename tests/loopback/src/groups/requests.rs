//! What clients ask about groups.

use std::{collections::BTreeMap, sync::Arc};

use wacore_binary::{Jid, Node, Server, builder::NodeBuilder};

use super::{
    Group, Place, Rank, approval,
    change::{self, tell, tell_about},
    community,
};
use crate::{
    account::{Account, Family},
    clock,
    session::Session,
    sync::lock,
    wire::node::{self, all, attr, child, children, text},
};

/// Longer subjects are refused.
pub(super) const SUBJECT: usize = 400;

/// Answers a request.
pub fn answer(session: &Session, iq: &Node) -> Node {
    let to = node::jid(iq, "to");
    let Some(asked) = children(iq).first() else {
        return node::error(iq, 400, "bad-request");
    };
    let set = text(iq, "type") == "set";
    let outcome = match (to, asked.tag.as_ref()) {
        (Some(to), tag) if to.server == Server::Group && !to.user.is_empty() => match tag {
            "query" | "participants" if !set => get(session, &to),
            "membership_approval_requests" if !set => approval::list(session, &to),
            "invite" if !set => change::invite(session, &to, false),
            _ if set => change::apply(session, &to, asked),
            _ => return node::result(iq).build(),
        },
        (_, "create") if set => create(session, asked),
        (_, "leave") if set => leave(session, asked),
        (_, "invite") => by_invite(session, asked, set),
        (_, "participating") => Ok(participating(session)),
        _ => return node::result(iq).build(),
    };
    match outcome {
        Ok(answer) => node::result(iq).children([answer]).build(),
        Err(code) => node::error(iq, code, "refused"),
    }
}

/// A group as its members may see it.
fn get(session: &Session, jid: &Jid) -> Result<Node, u16> {
    let group = session.core.groups.get(jid).ok_or(404_u16)?;
    group.rank(&session.account.phone).ok_or(403_u16)?;
    Ok(group.describe(&session.core))
}

fn participating(session: &Session) -> Node {
    let groups: Vec<Group> = lock(&session.core.groups.0)
        .values()
        .filter(|group| group.rank(&session.account.phone).is_some())
        .cloned()
        .collect();
    let groups = groups.iter().map(|group| group.describe(&session.core));
    NodeBuilder::new("groups").children(groups).build()
}

/// The accounts that a node's `participant` children name.
pub(super) fn named(session: &Session, node: &Node) -> Vec<(Jid, Option<Arc<Account>>)> {
    all(node, "participant")
        .filter_map(|participant| node::jid(participant, "jid"))
        .map(|jid| {
            let account = session.core.by_jid(&jid);
            (jid, account)
        })
        .collect()
}

fn create(session: &Session, create: &Node) -> Result<Node, u16> {
    let subject = text(create, "subject").into_owned();
    if subject.is_empty() || subject.len() > SUBJECT {
        return Err(406);
    }
    let named = named(session, create);
    let own = &session.account;
    let by_lid = lock(&own.state).lid_migrated
        || named
            .iter()
            .any(|(jid, _)| Family::of(jid) == Some(Family::Lid));
    let mut members: BTreeMap<String, Rank> = named
        .iter()
        .filter_map(|(_, account)| Some((account.as_ref()?.phone.clone(), Rank::Member)))
        .collect();
    members.insert(own.phone.clone(), Rank::Superadmin);
    if members.len() > session.core.limits().group_members {
        return Err(419);
    }
    let place = community::place(session, create)?;
    let now = clock::unix();
    let state = |tag: &str| {
        child(create, tag)
            .and_then(|mode| child(mode, "group_join"))
            .is_some_and(|join| text(join, "state") == "on")
    };
    let ephemeral = child(create, "ephemeral").and_then(|e| node::number(e, "expiration"));
    let group = Group {
        // As WhatsApp's: the namespace 120363 and a number.
        id: format!(
            "120363{:012}",
            session.core.fresh() + 1_000_000 * (now % 1_000_000)
        ),
        subject,
        subject_by: own.clone(),
        subject_at: now,
        created_by: own.clone(),
        created_at: now,
        family: if by_lid { Family::Lid } else { Family::Pn },
        members,
        locked: child(create, "locked").is_some(),
        announcement: child(create, "announcement").is_some(),
        ephemeral: ephemeral.unwrap_or_default(),
        description: child(create, "description")
            .map(|description| change::described(session, description)),
        invite: change::invite_code(),
        approval: state("membership_approval_mode"),
        add_mode: child(create, "member_add_mode")
            .map(change::plain)
            .unwrap_or_else(|| "all_member_add".to_owned()),
        waiting: BTreeMap::new(),
        picture: None,
        place,
    };
    {
        let mut groups = lock(&session.core.groups.0);
        if groups.len() >= session.core.limits().groups {
            return Err(507);
        }
        groups.insert(group.id.clone(), group.clone());
    }
    let mut described = group.describe(&session.core);
    // Who was named but is not known is listed with an error.
    let unknown = named.iter().filter(|(_, account)| account.is_none());
    let mut parts = children(&described).to_vec();
    parts.extend(unknown.map(|(jid, _)| {
        NodeBuilder::new("participant")
            .attr("jid", jid)
            .attr("error", "404")
            .build()
    }));
    let created = node::copy(NodeBuilder::new("create"), create, &["key"])
        .attr("type", "new")
        .children([described.clone()])
        .build();
    tell(session, &group, &created, &[]);
    match &group.place {
        Place::Community => community::begin(session, &group)?,
        Place::Sub(of) => community::let_in(session, of, &group),
        Place::Alone | Place::Announcements(_) => {}
    }
    described.content = Some(wacore_binary::NodeContent::Nodes(parts));
    Ok(described)
}

fn leave(session: &Session, leave: &Node) -> Result<Node, u16> {
    let mut left = Vec::new();
    for asked in all(leave, "group") {
        let Some(jid) = node::jid(asked, "id").or_else(|| node::jid(asked, "jid")) else {
            continue;
        };
        let gone = {
            let mut groups = lock(&session.core.groups.0);
            let group = groups.get_mut(jid.user.as_str());
            group.and_then(|group| {
                group.members.remove(&session.account.phone)?;
                Some(group.clone())
            })
        };
        let answer = NodeBuilder::new("group").attr("id", &jid);
        match gone {
            Some(group) => {
                tell_about(
                    session,
                    &group,
                    "remove",
                    std::slice::from_ref(&session.account),
                );
                left.push(answer.build());
            }
            None => left.push(answer.attr("error", "404").build()),
        }
    }
    Ok(NodeBuilder::new("leave").children(left).build())
}

/// Looks at the group of an invite link, or joins it.
fn by_invite(session: &Session, invite: &Node, join: bool) -> Result<Node, u16> {
    let code = attr(invite, "code").ok_or(400_u16)?;
    let group = {
        let mut groups = lock(&session.core.groups.0);
        let group = groups
            .values_mut()
            .find(|group| group.invite == code)
            .ok_or(406_u16)?;
        if join {
            if group.members.len() >= session.core.limits().group_members {
                return Err(419);
            }
            if group.rank(&session.account.phone).is_some() {
                return Err(409);
            }
            if group.approval {
                approval::enlist(group, &session.account, session.core.limits().group_members)?;
            } else {
                group
                    .members
                    .insert(session.account.phone.clone(), Rank::Member);
            }
        }
        group.clone()
    };
    if !join {
        return Ok(group.describe(&session.core));
    }
    if group.approval {
        return Ok(approval::waits(session, &group));
    }
    tell_about(
        session,
        &group,
        "add",
        std::slice::from_ref(&session.account),
    );
    Ok(NodeBuilder::new("group").attr("jid", group.jid()).build())
}

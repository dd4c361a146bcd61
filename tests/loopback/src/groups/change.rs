//! Changes to groups: checked against the rank of who makes them, and told to the members' devices.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use wacore_binary::{Jid, Node, builder::NodeBuilder};

use super::{
    Description, Group, Rank, approval,
    requests::{SUBJECT, named},
};
use crate::{
    account::{Account, Family},
    clock,
    iq::profile::{self, Picture},
    session::Session,
    sync::lock,
    wire::node::{attr, bytes, child, number, text},
};

/// Longer descriptions are refused.
const DESCRIPTION: usize = 8_192;

/// The content as text.
pub(super) fn plain(node: &Node) -> String {
    String::from_utf8_lossy(bytes(node)).into_owned()
}

pub(super) fn invite_code() -> String {
    let mut random = [0; 16];
    fastrand::fill(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

pub(super) fn described(session: &Session, description: &Node) -> Description {
    Description {
        id: text(description, "id").into_owned(),
        body: child(description, "body").map(plain).unwrap_or_default(),
        by: session.account.clone(),
        at: clock::unix(),
    }
}

/// Tells the devices of all members, and of `also`, about a change; not the device that made it.
pub(super) fn tell(session: &Session, group: &Group, change: &Node, also: &[Arc<Account>]) {
    let whom: BTreeSet<&str> = group
        .members
        .keys()
        .chain(also.iter().map(|account| &account.phone))
        .map(String::as_str)
        .collect();
    tell_them(session, group, change, whom);
}

/// Tells the devices of some about a change; not the device that made it.
pub(super) fn tell_them<'a>(
    session: &Session,
    group: &Group,
    change: &Node,
    whom: impl IntoIterator<Item = &'a str>,
) {
    let actor = &session.account;
    for phone in whom {
        let Some(account) = session.core.by_phone(phone) else {
            continue;
        };
        let except = Some((actor.phone.as_str(), session.device.id));
        session.core.notify(&account, except, |notification| {
            notification
                .attr("type", "w:gp2")
                .attr("from", group.jid())
                .attr("participant", group.member_jid(actor))
                .attr("participant_pn", actor.jid(Family::Pn))
                .attr("addressing_mode", group.mode())
                .attr("notify", actor.push_name())
                .children([change.clone()])
                .build()
        });
    }
}

/// Tells about members who came, went or changed rank.
pub(super) fn tell_about(
    session: &Session,
    group: &Group,
    action: &'static str,
    who: &[Arc<Account>],
) {
    let members = who
        .iter()
        .map(|account| group.member(account, group.rank(&account.phone)));
    let change = NodeBuilder::new(action).children(members).build();
    tell(session, group, &change, who);
}

/// Makes a change; answers what the client is told.
pub(super) fn apply(session: &Session, jid: &Jid, asked: &Node) -> Result<Node, u16> {
    let tag = match asked.tag.as_ref() {
        "add" => return members(session, jid, "add", asked),
        "remove" => return members(session, jid, "remove", asked),
        "promote" => return members(session, jid, "promote", asked),
        "demote" => return members(session, jid, "demote", asked),
        "invite" => return invite(session, jid, true),
        "membership_requests_action" => return approval::decide(session, jid, asked),
        tag => tag.to_owned(),
    };
    let group = {
        let mut groups = lock(&session.core.groups.0);
        let group = groups.get_mut(jid.user.as_str()).ok_or(404_u16)?;
        let rank = group.rank(&session.account.phone).ok_or(403_u16)?;
        // Members may change what a group says about itself unless it is locked; the rest is for admins.
        let open = matches!(
            tag.as_str(),
            "subject" | "description" | "ephemeral" | "not_ephemeral"
        );
        let may = rank.is_admin() || (open && !group.locked);
        if !may {
            return Err(403);
        }
        set(session, group, asked)?;
        group.clone()
    };
    let change = match tag.as_str() {
        "subject" => NodeBuilder::new("subject")
            .attr("subject", group.subject.as_str())
            .attr("s_o", group.member_jid(&group.subject_by))
            .attr("s_t", group.subject_at)
            .build(),
        "description" => match &group.description {
            Some(description) => group.description(description),
            None => asked.clone(),
        },
        _ => asked.clone(),
    };
    tell(session, &group, &change, &[]);
    Ok(NodeBuilder::new_dynamic(tag).build())
}

fn set(session: &Session, group: &mut Group, asked: &Node) -> Result<(), u16> {
    match asked.tag.as_ref() {
        "subject" => {
            let subject = plain(asked);
            if subject.is_empty() || subject.len() > SUBJECT {
                return Err(406);
            }
            group.subject = subject;
            group.subject_by = session.account.clone();
            group.subject_at = clock::unix();
        }
        "description" if is_stale(group, asked) => return Err(409),
        "description" if text(asked, "delete") == "true" => group.description = None,
        "description" => {
            let description = described(session, asked);
            if description.body.len() > DESCRIPTION {
                return Err(406);
            }
            group.description = Some(description);
        }
        "locked" => group.locked = true,
        "unlocked" => group.locked = false,
        "announcement" => group.announcement = true,
        "not_announcement" => group.announcement = false,
        "ephemeral" => group.ephemeral = number(asked, "expiration").unwrap_or_default(),
        "not_ephemeral" => group.ephemeral = 0,
        "membership_approval_mode" => {
            group.approval =
                child(asked, "group_join").is_some_and(|join| text(join, "state") == "on");
        }
        "member_add_mode" => group.add_mode = plain(asked),
        _ => return Err(501),
    }
    Ok(())
}

/// Whether a change of the description was made without knowing the one that there is.
fn is_stale(group: &Group, asked: &Node) -> bool {
    let known = attr(asked, "prev");
    match (&group.description, known) {
        (Some(description), Some(known)) => description.id != known,
        (Some(_), None) => true,
        (None, known) => known.is_some_and(|known| known != "none"),
    }
}

/// Adds, removes, promotes or demotes members; the answer says for each how it went.
fn members(session: &Session, jid: &Jid, action: &'static str, asked: &Node) -> Result<Node, u16> {
    let named = named(session, asked);
    let most = session.core.limits().group_members;
    let mut changed = Vec::new();
    let (group, answers) = {
        let mut groups = lock(&session.core.groups.0);
        let group = groups.get_mut(jid.user.as_str()).ok_or(404_u16)?;
        let rank = group.rank(&session.account.phone).ok_or(403_u16)?;
        let open = action == "add" && group.add_mode == "all_member_add";
        if !rank.is_admin() && !open {
            return Err(403);
        }
        let mut answers = Vec::new();
        for (jid, account) in named {
            let answer = NodeBuilder::new("participant").attr("jid", &jid);
            match account
                .ok_or(404)
                .and_then(|account| change_member(group, &account, action, most).map(|()| account))
            {
                Ok(account) => {
                    answers.push(answer.attr("type", "200").build());
                    changed.push(account);
                }
                Err(code) => answers.push(answer.attr("error", code).build()),
            }
        }
        (group.clone(), answers)
    };
    if !changed.is_empty() {
        tell_about(session, &group, action, &changed);
    }
    Ok(NodeBuilder::new(action).children(answers).build())
}

fn change_member(
    group: &mut Group,
    account: &Account,
    action: &str,
    most: usize,
) -> Result<(), u16> {
    let rank = group.rank(&account.phone);
    match (action, rank) {
        ("add", None) if group.members.len() >= most => return Err(419),
        ("add", None) => {
            group.waiting.remove(&account.phone);
            group.members.insert(account.phone.clone(), Rank::Member);
        }
        ("add", Some(_)) => return Err(409),
        (_, None) => return Err(404),
        (_, Some(Rank::Superadmin)) => return Err(403),
        ("remove", Some(_)) => {
            group.members.remove(&account.phone);
        }
        ("promote", Some(_)) => {
            group.members.insert(account.phone.clone(), Rank::Admin);
        }
        _ => {
            group.members.insert(account.phone.clone(), Rank::Member);
        }
    }
    Ok(())
}

/// The code of the invite link, after making a new one if asked to.
pub(super) fn invite(session: &Session, jid: &Jid, reset: bool) -> Result<Node, u16> {
    let mut groups = lock(&session.core.groups.0);
    let group = groups.get_mut(jid.user.as_str()).ok_or(404_u16)?;
    let rank = group.rank(&session.account.phone).ok_or(403_u16)?;
    if !rank.is_admin() {
        return Err(403);
    }
    if reset {
        group.invite = invite_code();
    }
    Ok(NodeBuilder::new("invite")
        .attr("code", group.invite.as_str())
        .build())
}

/// Gives a group another picture, or none.
pub fn set_picture(session: &Session, jid: &Jid, picture: Option<Picture>) -> Result<(), u16> {
    let group = {
        let mut groups = lock(&session.core.groups.0);
        let group = groups.get_mut(jid.user.as_str()).ok_or(404_u16)?;
        let rank = group.rank(&session.account.phone).ok_or(403_u16)?;
        if group.locked && !rank.is_admin() {
            return Err(403);
        }
        group.picture = picture;
        group.clone()
    };
    for phone in group.members.keys() {
        let Some(account) = session.core.by_phone(phone) else {
            continue;
        };
        session.core.notify(&account, None, |notification| {
            notification
                .attr("type", "picture")
                .attr("from", group.jid())
                .children([profile::change(
                    session,
                    group.picture.as_ref(),
                    &group.jid(),
                )])
                .build()
        });
    }
    Ok(())
}

//! Groups that admins let people into: who comes by the invite link waits until an admin says yes or no.

use std::sync::Arc;

use wacore_binary::{Jid, Node, builder::NodeBuilder};

use super::{
    Group, Rank,
    change::{tell_about, tell_them},
    requests::named,
};
use crate::{
    account::Account,
    clock,
    session::Session,
    sync::lock,
    wire::node::{children, copy},
};

/// How people come to wait: by the link, the only way there is here.
const METHOD: &str = "invite_link";

/// What names a person: the JID that the group knows, and the other.
const NAMES: &[&str] = &["jid", "phone_number", "lid"];

/// Lets an account wait, after it was put on the group's list; tells the admins and answers the account.
pub(super) fn waits(session: &Session, group: &Group) -> Node {
    let member = group.member(&session.account, None);
    let user = copy(NodeBuilder::new("requested_user"), &member, NAMES).build();
    let change = NodeBuilder::new("created_membership_requests")
        .attr("request_method", METHOD)
        .children([user])
        .build();
    tell_admins(session, group, &change);
    NodeBuilder::new("membership_approval_request")
        .attr("jid", group.jid())
        .build()
}

fn tell_admins(session: &Session, group: &Group, change: &Node) {
    let admins = group.members.iter().filter(|(_, rank)| rank.is_admin());
    tell_them(session, group, change, admins.map(|(phone, _)| &**phone));
}

/// Who waits, for an admin.
pub(super) fn list(session: &Session, jid: &Jid) -> Result<Node, u16> {
    let group = session.core.groups.get(jid).ok_or(404_u16)?;
    group
        .rank(&session.account.phone)
        .filter(|rank| rank.is_admin())
        .ok_or(403_u16)?;
    let waiting = group.waiting.iter().filter_map(|(phone, since)| {
        let account = session.core.by_phone(phone)?;
        let member = group.member(&account, None);
        Some(
            copy(
                NodeBuilder::new("membership_approval_request"),
                &member,
                NAMES,
            )
            .attr("request_method", METHOD)
            .attr("request_time", *since)
            .build(),
        )
    });
    Ok(NodeBuilder::new("membership_approval_requests")
        .children(waiting.collect::<Vec<_>>())
        .build())
}

/// An admin lets people in, or does not; the answer says for each how it went.
pub(super) fn decide(session: &Session, jid: &Jid, asked: &Node) -> Result<Node, u16> {
    let mut answers = Vec::new();
    for verdict in children(asked) {
        let action = match verdict.tag.as_ref() {
            "approve" => "approve",
            "reject" => "reject",
            _ => return Err(400),
        };
        let (group, decided, participants) = settle(session, jid, verdict, action == "approve")?;
        answers.push(NodeBuilder::new(action).children(participants).build());
        if decided.is_empty() {
            continue;
        }
        if action == "approve" {
            tell_about(session, &group, "add", &decided);
        } else {
            let rejected = decided.iter().map(|account| group.member(account, None));
            let change = NodeBuilder::new("revoked_membership_requests").children(rejected);
            tell_admins(session, &group, &change.build());
        }
    }
    Ok(NodeBuilder::new("membership_requests_action")
        .children(answers)
        .build())
}

type Settled = (Group, Vec<Arc<Account>>, Vec<Node>);

fn settle(session: &Session, jid: &Jid, verdict: &Node, approve: bool) -> Result<Settled, u16> {
    let named = named(session, verdict);
    let most = session.core.limits().group_members;
    let mut groups = lock(&session.core.groups.0);
    let group = groups.get_mut(jid.user.as_str()).ok_or(404_u16)?;
    group
        .rank(&session.account.phone)
        .filter(|rank| rank.is_admin())
        .ok_or(403_u16)?;
    let mut decided = Vec::new();
    let mut answers = Vec::new();
    for (jid, account) in named {
        let answer = NodeBuilder::new("participant").attr("jid", &jid);
        let waits = account.filter(|account| group.waiting.contains_key(&account.phone));
        let Some(account) = waits else {
            answers.push(answer.attr("error", "404").build());
            continue;
        };
        if approve && group.members.len() >= most {
            answers.push(answer.attr("error", "419").build());
            continue;
        }
        group.waiting.remove(&account.phone);
        if approve {
            group.members.insert(account.phone.clone(), Rank::Member);
        }
        answers.push(answer.attr("type", "200").build());
        decided.push(account);
    }
    Ok((group.clone(), decided, answers))
}

/// Puts an account on the list of who waits.
pub(super) fn enlist(group: &mut Group, account: &Account, most: usize) -> Result<(), u16> {
    if group.waiting.len() >= most {
        return Err(419);
    }
    group
        .waiting
        .entry(account.phone.clone())
        .or_insert_with(clock::unix);
    Ok(())
}

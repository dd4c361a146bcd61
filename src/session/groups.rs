//! Groups as the session keeps them: fetched when they are first needed, moved on by what the server reports.
//!
//! Invariants: nobody asks the server for each message, and never for two groups at once; a message is refused here
//! only on what the server has just said.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use wacore::types::events::GroupUpdate;
use wacore::types::message::AddressingMode;
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type;
use whatsapp_rust::features::GroupMetadata;
use whatsapp_rust::{Client, ErrorChainExt};

use super::in_vain::InVain;
use super::{Session, Shared, address, jid};
use crate::clock::now;
use crate::identity::Address;
use crate::store::{Group, GroupChange, KnownGroup, Member, StoreError};

/// A change may have been missed, so a copy is good for so long, in seconds.
const GOOD_FOR: i64 = 24 * 3600;
/// The server answers within milliseconds, or not at all.
const ANSWER: Duration = Duration::from_secs(10);
/// What is told of a group waits so long for what the group is called.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a session remembers of its questions about groups.
#[derive(Default)]
pub(super) struct Groups {
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
    /// Groups that somebody waits to know.
    wanted: Mutex<HashSet<Address>>,
    /// Groups of which the server told nothing.
    in_vain: InVain,
    /// Changes that were reported.
    changes: std::sync::atomic::AtomicU64,
}

/// What a message does in a group, as far as it needs more or less than being in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Says something.
    Write,
    /// Reacts, which members may where only admins write.
    React,
    /// Deletes what somebody else wrote.
    Delete,
}

impl Deed {
    pub(super) fn of(message: &wa::Message) -> Self {
        let protocol = &message.protocol_message;
        if message.reaction_message.is_set() || message.enc_reaction_message.is_set() {
            Self::React
        } else if protocol.r#type == Some(Type::REVOKE) && protocol.key.from_me == Some(false) {
            Self::Delete
        } else {
            Self::Write
        }
    }
}

/// Why a group takes no message from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotIn,
    OnlyAdmins,
    Community,
    NotAdmin,
}

impl Refusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NotIn => "not_in_group",
            Self::OnlyAdmins => "only_admins_may_send",
            Self::Community => "not_sendable",
            Self::NotAdmin => "not_group_admin",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::NotIn => {
                "this account is not in the group, or no longer; ask an admin of it to add the account"
            }
            Self::OnlyAdmins => {
                "only admins may write in this group; ask one to make this account an admin, or to let everybody write"
            }
            Self::Community => {
                "nobody writes in a community itself; write to its announcement group, or to one of its groups"
            }
            Self::NotAdmin => {
                "only an admin of the group can delete what somebody else wrote; ask an admin to delete it, or to make this account one"
            }
        }
    }
}

impl Session {
    /// Whether more is to be known of this group than is `known` by now. If so, the server is asked, and
    /// [`Session::answers`] changes once it has said so, or [`PATIENCE`] is over. Without a connection nobody waits.
    pub async fn awaits_group(
        &self,
        group: &Address,
        known: Option<&KnownGroup>,
    ) -> Result<bool, StoreError> {
        let shared = &self.shared;
        if known.is_some_and(is_good) || shared.groups.in_vain.has(group) {
            return Ok(false);
        }
        if shared.groups.wanted().contains(group) {
            return Ok(true);
        }
        let Some(client) = shared.client() else {
            return Ok(false);
        };
        // The answer may have come since.
        let known = shared.store.group(group.clone()).await?;
        if known.as_ref().is_some_and(is_good) {
            // Whoever fetched it may have told nobody.
            shared.strangers.tell();
            return Ok(true);
        }
        if !shared.groups.wanted().insert(group.clone()) {
            return Ok(true);
        }
        let (shared, group) = (shared.clone(), group.clone());
        tokio::spawn(async move {
            let fetched = tokio::time::timeout(PATIENCE, fetch(&shared, &client, &group)).await;
            let known = match fetched {
                Ok(Ok(())) => shared.store.group(group.clone()).await.ok().flatten(),
                _ => None,
            };
            // Also if it has changed meanwhile: nobody waits twice.
            if !known.as_ref().is_some_and(is_good) {
                shared.groups.in_vain.note(&group);
            }
            shared.groups.wanted().remove(&group);
            shared.strangers.tell();
        });
        Ok(true)
    }

    /// Fetches a group of which nothing is known, until `deadline`, unless that was in vain lately.
    pub async fn know_group(&self, group: &Address, deadline: Instant) {
        let shared = &self.shared;
        let Some(client) = shared.client() else {
            return;
        };
        if shared.groups.in_vain.has(group) {
            return;
        }
        let fetched = tokio::time::timeout_at(deadline, fetch(shared, &client, group)).await;
        if !matches!(fetched, Ok(Ok(()))) {
            shared.groups.in_vain.note(group);
        }
    }
}

impl Groups {
    fn wanted(&self) -> std::sync::MutexGuard<'_, HashSet<Address>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self) -> u64 {
        self.changes.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Whether this copy can be told.
fn is_good(known: &KnownGroup) -> bool {
    !known.stale && now().saturating_sub(known.fetched) < GOOD_FOR
}

enum Failed {
    /// The server does not tell us: we are not in it, or it is no more.
    NotIn,
    /// No answer, or no place to keep it.
    Other,
}

impl From<StoreError> for Failed {
    fn from(_: StoreError) -> Self {
        Self::Other
    }
}

/// Asks the server about a group and keeps the answer.
async fn fetch(shared: &Shared, client: &Arc<Client>, group: &Address) -> Result<(), Failed> {
    let jid = jid(group).ok_or(Failed::Other)?;
    let _one = shared.groups.asking.lock().await;
    let before = shared.groups.changes();
    let asked = tokio::time::timeout(ANSWER, client.groups().get_metadata(&jid)).await;
    let told = asked.map_err(|_| Failed::Other)?.map_err(|error| {
        tracing::info!(group = group.redacted(), %error, "nothing was told of a group");
        match error.server_rejection().map(|said| said.code) {
            Some(401 | 403 | 404 | 410) => Failed::NotIn,
            _ => Failed::Other,
        }
    })?;
    let stale = shared.groups.changes() != before;
    let (about, members) = read(&told);
    Ok(shared
        .store
        .set_group(group.clone(), about, members, stale, now())
        .await?)
}

fn read(told: &GroupMetadata) -> (Group, Vec<Member>) {
    let members = told.participants.iter().filter_map(|member| {
        let forms = [&member.phone_number, &member.lid];
        self::member(&member.jid, forms, member.is_admin())
    });
    let group = Group {
        subject: told.subject.clone(),
        description: told.description.clone().filter(|text| !text.is_empty()),
        announcement: told.is_announcement,
        locked: told.is_locked,
        ephemeral_secs: told
            .ephemeral
            .as_ref()
            .and_then(|timer| timer.expiration)
            .unwrap_or_default(),
        by_lid: told.addressing_mode == AddressingMode::Lid,
        parent: told.parent_group_jid.as_ref().and_then(address),
        community: told.is_parent_group,
        community_announcements: told.is_default_sub_group,
    };
    (group, members.collect())
}

/// Whether a group takes a message from us now that does this, as far as can be known before it is sent.
pub(super) async fn may(
    deed: Deed,
    shared: &Shared,
    client: &Arc<Client>,
    group: &Address,
) -> Result<(), Refusal> {
    if let Some(Ok(())) = judge(deed, shared, client, group).await {
        return Ok(());
    }
    confirm(deed, shared, client, group).await
}

/// The same on what the server says now.
pub(super) async fn confirm(
    deed: Deed,
    shared: &Shared,
    client: &Arc<Client>,
    group: &Address,
) -> Result<(), Refusal> {
    match fetch(shared, client, group).await {
        Ok(()) => judge(deed, shared, client, group).await.unwrap_or(Ok(())),
        Err(Failed::NotIn) => Err(Refusal::NotIn),
        // The message itself will show it.
        Err(Failed::Other) => Ok(()),
    }
}

/// What is known says so; nothing if nothing is known.
async fn judge(
    deed: Deed,
    shared: &Shared,
    client: &Arc<Client>,
    group: &Address,
) -> Option<Result<(), Refusal>> {
    let own = own(client);
    // One transaction after the other: what changes between them is as if the question had come later.
    let known = shared.store.group(group.clone()).await.ok().flatten()?;
    let me = shared.store.member(group.clone(), own).await.ok()?;
    if known.stale {
        return None;
    }
    Some(match me {
        None => Err(Refusal::NotIn),
        Some(_) if known.group.community => Err(Refusal::Community),
        Some(me) if me.admin => Ok(()),
        Some(_) if deed == Deed::Delete => Err(Refusal::NotAdmin),
        Some(_) if known.group.announcement && deed != Deed::React => Err(Refusal::OnlyAdmins),
        Some(_) => Ok(()),
    })
}

/// Moves on what is known by a change that the server reports.
pub(super) fn changed(shared: &Shared, update: &GroupUpdate) {
    let Some(group) = address(&update.group_jid) else {
        return;
    };
    shared
        .groups
        .changes
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    shared.groups.in_vain.forget(&group);
    // While we were not in it nothing was reported.
    if concerns_us(shared, &update.action) {
        drop(shared.store.change_group(group.clone(), GroupChange::Other));
    }
    let Some(change) = change(&update.action) else {
        return;
    };
    // Nobody waits for it; lost with the process, it is fetched again in a day.
    drop(shared.store.change_group(group, change));
}

/// Whether we are among those who came or went.
fn concerns_us(shared: &Shared, action: &Action) -> bool {
    let (Action::Add { participants, .. } | Action::Remove { participants, .. }) = action else {
        return false;
    };
    let Some(client) = shared.client() else {
        return true;
    };
    let own = own(&client);
    let mut forms = participants
        .iter()
        .flat_map(|one| [Some(&one.jid), one.phone_number.as_ref(), one.lid.as_ref()])
        .flatten()
        .filter_map(address);
    forms.any(|form| own.contains(&form))
}

/// The addresses of the linked account.
fn own(client: &Client) -> Vec<Address> {
    let own = [client.pn(), client.lid()];
    own.iter().flatten().filter_map(address).collect()
}

/// What an action changes of what is kept.
fn change(action: &Action) -> Option<GroupChange> {
    let addresses =
        |who: &[GroupParticipantInfo]| who.iter().filter_map(|one| address(&one.jid)).collect();
    Some(match action {
        Action::Subject { subject, .. } => GroupChange::Subject(subject.clone()),
        Action::Description { description, .. } => GroupChange::Description(description.clone()),
        Action::Announce => GroupChange::Announcement(true),
        Action::NotAnnounce => GroupChange::Announcement(false),
        Action::Locked { .. } => GroupChange::Locked(true),
        Action::Unlocked => GroupChange::Locked(false),
        Action::Ephemeral { expiration, .. } => GroupChange::Ephemeral(*expiration),
        Action::Add { participants, .. } => {
            let joined = participants
                .iter()
                .filter_map(|one| member(&one.jid, [&one.phone_number, &one.lid], false));
            GroupChange::Joined(joined.collect())
        }
        Action::Remove { participants, .. } => GroupChange::Left(addresses(participants)),
        Action::Promote { participants } => GroupChange::Admins(addresses(participants), true),
        Action::Demote { participants } => GroupChange::Admins(addresses(participants), false),
        Action::Modify { .. }
        | Action::Create { .. }
        | Action::Delete { .. }
        | Action::Link { .. }
        | Action::Unlink { .. }
        | Action::LinkedGroupPromote { .. }
        | Action::LinkedGroupDemote { .. }
        | Action::Suspended
        | Action::Unsuspended
        | Action::Unknown { .. } => GroupChange::Other,
        // The rest is about who may join, and nothing that is kept.
        _ => return None,
    })
}

/// Somebody in a group: the address that it uses, and the other one if it is told.
fn member(jid: &Jid, forms: [&Option<Jid>; 2], admin: bool) -> Option<Member> {
    let own = address(jid)?;
    Some(Member {
        other: forms
            .into_iter()
            .flatten()
            .filter_map(address)
            .find(|other| *other != own),
        address: own,
        admin,
    })
}

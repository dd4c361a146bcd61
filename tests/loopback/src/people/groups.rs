//! Groups that people make and change.

use anyhow::{Result, bail};
use wacore::iq::groups::{
    GroupCreateOptions, GroupParticipantOptions, GroupSubject, ParticipantChangeResponse,
};
use wacore::stanza::groups::GroupNotificationAction;
use wacore::types::events::GroupUpdate;
use wacore_binary::Jid;
use whatsapp_rust::features::GroupMetadata;

use super::Person;

impl Person {
    /// Makes a group with these people and returns its JID.
    ///
    /// # Errors
    /// The person is offline, or the server refused.
    pub async fn create_group(&self, subject: &str, members: &[&Person]) -> Result<Jid> {
        let members = members
            .iter()
            .map(|member| GroupParticipantOptions::new(member.pn()))
            .collect();
        let options = GroupCreateOptions::new(subject).with_participants(members);
        Ok(self
            .client()
            .await?
            .groups()
            .create_group(options)
            .await?
            .metadata
            .id)
    }

    /// What the server says about a group.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn group(&self, group: &Jid) -> Result<GroupMetadata> {
        Ok(self.client().await?.groups().get_metadata(group).await?)
    }

    /// Adds a member.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn add(&self, group: &Jid, member: &Person) -> Result<()> {
        let who = [self.member_jid(group, member).await?];
        all_done(
            &self
                .client()
                .await?
                .groups()
                .add_participants(group, &who)
                .await?,
        )
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn remove(&self, group: &Jid, member: &Person) -> Result<()> {
        let who = [self.member_jid(group, member).await?];
        all_done(
            &self
                .client()
                .await?
                .groups()
                .remove_participants(group, &who)
                .await?,
        )
    }

    /// Makes a member an admin, or an ordinary member again.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn promote(&self, group: &Jid, member: &Person, admin: bool) -> Result<()> {
        let who = [self.member_jid(group, member).await?];
        let client = self.client().await?;
        if admin {
            client.groups().promote_participants(group, &who).await?;
        } else {
            client.groups().demote_participants(group, &who).await?;
        }
        Ok(())
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn leave(&self, group: &Jid) -> Result<()> {
        Ok(self.client().await?.groups().leave(group).await?)
    }

    /// Gives a group a new subject.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn subject(&self, group: &Jid, subject: &str) -> Result<()> {
        let subject = GroupSubject::new(subject)?;
        Ok(self
            .client()
            .await?
            .groups()
            .set_subject(group, subject)
            .await?)
    }

    /// Lets admins alone write, or everybody.
    ///
    /// # Errors
    /// As [`Person::create_group`].
    pub async fn announce(&self, group: &Jid, only_admins: bool) -> Result<()> {
        Ok(self
            .client()
            .await?
            .groups()
            .set_announce(group, only_admins)
            .await?)
    }

    /// Waits until this person is told of a change of a group; `what` names it in the error.
    /// The client takes members who come and go into account before it tells.
    ///
    /// # Errors
    /// As [`Person::wait_for`].
    pub async fn wait_group(
        &self,
        group: &Jid,
        what: &str,
        is_it: impl Fn(&GroupNotificationAction) -> bool,
    ) -> Result<GroupUpdate> {
        self.wait_for(what, |seen| {
            let mut told = seen.groups.iter().filter(|told| told.group_jid == *group);
            told.find(|told| is_it(&told.action)).cloned()
        })
        .await
    }

    /// A member's JID in the namespace that the group uses.
    async fn member_jid(&self, group: &Jid, member: &Person) -> Result<Jid> {
        let lid = self
            .group(group)
            .await?
            .participants
            .iter()
            .any(|participant| participant.jid.is_lid());
        Ok(if lid { member.lid() } else { member.pn() })
    }
}

fn all_done(answers: &[ParticipantChangeResponse]) -> Result<()> {
    match answers.iter().find(|answer| !answer.is_ok()) {
        Some(refused) => bail!("{} was refused: {:?}", refused.jid, refused.error),
        None => Ok(()),
    }
}

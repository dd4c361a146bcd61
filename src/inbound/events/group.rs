//! What changed about a group.

use serde_json::json;
use wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use wacore::types::events::GroupUpdate;

use super::{Notice, address, person, told};
use crate::inbound::content::line;
use crate::inbound::draft::Draft;

/// One change.
pub(super) fn update(update: &GroupUpdate) -> Notice {
    let mut draft = action(update);
    draft.set("group_action", Some(update.action.tag_name()));
    let timestamp = update.timestamp.timestamp();
    // A notification without an id is told apart by what it says.
    let id = update.notification_id.clone();
    let id = id.unwrap_or_else(|| format!("{}-{timestamp}", update.action.tag_name()));
    Notice {
        id: match update.action_index {
            0 => format!("group:{id}"),
            index => format!("group:{id}:{index}"),
        },
        chat: address(&update.group_jid),
        actor: update.participant.as_ref().and_then(address),
        actor_alt: update.participant_pn.as_ref().and_then(address),
        timestamp,
        draft,
    }
}

fn action(update: &GroupUpdate) -> Draft {
    match &update.action {
        Action::Add {
            participants,
            reason,
        } => {
            let mut draft = members("group.added", "Added", participants);
            draft.set("reason", reason.as_ref());
            draft
        }
        Action::Remove {
            participants,
            reason,
        } => {
            let alone = matches!(&participants[..], [one] if is(update, one));
            let mut draft = match alone {
                true => members("group.left", "Left the group", participants),
                false => members("group.removed", "Removed", participants),
            };
            draft.set("reason", reason.as_ref());
            draft
        }
        Action::Promote { participants } => {
            members("group.promoted", "Made an admin", participants)
        }
        Action::Demote { participants } => {
            members("group.demoted", "No longer an admin", participants)
        }
        Action::LinkedGroupPromote { participants } => members(
            "group.promoted",
            "Made an admin of the community",
            participants,
        ),
        Action::LinkedGroupDemote { participants } => members(
            "group.demoted",
            "No longer an admin of the community",
            participants,
        ),
        Action::Modify { participants } => members(
            "group.number_changed",
            "Changed their phone number",
            participants,
        ),
        Action::Subject { subject, .. } => {
            let mut draft = told(
                "group.subject_changed",
                line("Renamed the group", [Some(subject.as_str())]),
            );
            draft.set("subject", Some(subject));
            draft
        }
        Action::Description { description, .. } => {
            let mut draft = told(
                "group.description_changed",
                match description {
                    Some(text) => line("Changed the description", [Some(text.as_str())]),
                    None => "Removed the description".to_owned(),
                },
            );
            draft.set("description", description.as_ref());
            draft
        }
        Action::MembershipApprovalRequest { .. } => told("group.join_requested", "Asks to join"),
        Action::CreatedMembershipRequests { requests, .. } => {
            members("group.join_requested", "Ask to join", requests)
        }
        Action::RevokedMembershipRequests { participants } => {
            let people: Vec<String> = participants.iter().map(person).collect();
            told(
                "group.join_request_withdrawn",
                line(
                    "No longer ask to join",
                    people.iter().map(|person| Some(person.as_str())),
                ),
            )
        }
        Action::Invite { code } => {
            let mut draft = told("group.joined", "Joined with the invitation link");
            draft.set("invite_code", Some(code));
            draft
        }
        Action::RevokeInvite => told("group.invite_revoked", "Reset the invitation link"),
        Action::Create { .. } => told("group.created", "Created the group"),
        Action::Delete { reason } => {
            let mut draft = told("group.deleted", "Deleted the group");
            draft.set("reason", reason.as_ref());
            draft
        }
        Action::Link { link_type, .. } => {
            let mut draft = told("group.linked", "Linked a group of the community");
            draft.set("link_type", Some(link_type));
            draft
        }
        Action::Unlink {
            unlink_type,
            unlink_reason,
            ..
        } => {
            let mut draft = told("group.unlinked", "Unlinked a group of the community");
            draft.set("link_type", Some(unlink_type));
            draft.set("reason", unlink_reason.as_ref());
            draft
        }
        Action::Suspended => told("group.suspended", "WhatsApp suspended the group"),
        Action::Unsuspended => told("group.unsuspended", "WhatsApp lifted the suspension"),
        Action::Locked { .. } => setting("Only admins may edit the group's details"),
        Action::Unlocked => setting("All members may edit the group's details"),
        Action::Announce => setting("Only admins may send messages"),
        Action::NotAnnounce => setting("All members may send messages"),
        Action::Ephemeral { expiration, .. } => {
            let mut draft = match expiration {
                0 => setting("Messages no longer disappear"),
                seconds => setting(format!("Messages disappear after {seconds} s")),
            };
            draft.set("duration_seconds", Some(expiration));
            draft
        }
        Action::MembershipApprovalMode { enabled: true } => setting("Admins approve who joins"),
        Action::MembershipApprovalMode { enabled: false } => setting("Who joins needs no approval"),
        Action::MemberAddMode { mode } => {
            let mut draft = setting(match mode.as_str() {
                "admin_add" => "Only admins may add members",
                _ => "All members may add members",
            });
            draft.set("mode", Some(mode));
            draft
        }
        Action::NoFrequentlyForwarded => setting("What was forwarded often may not be sent"),
        Action::FrequentlyForwardedOk => setting("What was forwarded often may be sent"),
        Action::GrowthLocked { .. } => setting("The invitation link is out of use"),
        Action::GrowthUnlocked => setting("The invitation link is in use again"),
        Action::LimitSharingEnabled { .. } => setting("Sharing out of the group is limited"),
        Action::AutoAddDisabled => setting("Members are no longer added to the general chat"),
        Action::AllowAdminReports => setting("Messages may be reported to admins"),
        Action::NotAllowAdminReports => setting("Messages may no longer be reported to admins"),
        Action::AllowNonAdminSubGroupCreation => setting("Members may create groups"),
        Action::NotAllowNonAdminSubGroupCreation => setting("Only admins may create groups"),
        Action::IsCapiHostedGroup => setting("A business's systems host the group"),
        Action::GroupSafetyCheck => setting("WhatsApp asks to check who is in the group"),
        Action::Reports => setting("A message was reported to the admins"),
        Action::CreatedSubGroupSuggestion { .. } => {
            told("group.suggested", "Suggested a group for the community")
        }
        Action::RevokedSubGroupSuggestions { .. } => told(
            "group.suggestion_withdrawn",
            "Withdrew a suggestion of a group for the community",
        ),
        Action::ChangeNumber { .. } => told(
            "group.number_changed",
            "Somebody who suggested groups changed their phone number",
        ),
        Action::Unknown { tag } => {
            let mut draft = told(
                "group.changed",
                format!("(a change of the group that cannot be shown: {tag})"),
            );
            draft.set("unsupported_kind", Some(tag));
            draft
        }
    }
}

fn setting(content: impl Into<String>) -> Draft {
    told("group.settings_changed", content)
}

fn members(event_type: &str, content: &str, participants: &[GroupParticipantInfo]) -> Draft {
    let names: Vec<String> = participants.iter().map(name).collect();
    let mut draft = told(
        event_type,
        line(content, names.iter().map(|name| Some(name.as_str()))),
    );
    let people = participants.iter().map(|member| {
        json!({
            "id": address(&member.jid),
            "phone_jid": member.phone_number.as_ref().and_then(address),
            "lid": member.lid.as_ref().and_then(address),
            "name": member.display_name,
        })
    });
    draft.set("participants", Some(people.collect::<serde_json::Value>()));
    draft
}

fn name(member: &GroupParticipantInfo) -> String {
    let given = member.display_name.clone().filter(|name| !name.is_empty());
    given.unwrap_or_else(|| person(member.phone_number.as_ref().unwrap_or(&member.jid)))
}

/// Whether a member is who made the change.
fn is(update: &GroupUpdate, member: &GroupParticipantInfo) -> bool {
    let actor = update.participant.as_ref().and_then(address);
    actor.is_some() && actor == address(&member.jid)
}

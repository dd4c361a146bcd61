//! Invitations to groups and channels.

use waproto::whatsapp as wa;

use super::content::{Found, line, summary, time};

/// To a group, or to a community.
pub(super) fn group(invite: &wa::message::GroupInviteMessage) -> Found<'_> {
    use wa::message::group_invite_message::GroupType;
    let head = match invite.group_type {
        Some(GroupType::PARENT) => "Invitation to a community",
        _ => "Invitation to a group",
    };
    let details = [invite.group_name.as_deref(), invite.caption.as_deref()];
    let mut draft = summary(line(head, details));
    draft.set("group", invite.group_jid.as_ref());
    draft.set("group_name", invite.group_name.as_ref());
    draft.set("invite_code", invite.invite_code.as_ref());
    draft.set("invite_expires", time(invite.invite_expiration));
    (draft, invite.context_info.as_option())
}

/// To run a channel.
pub(super) fn newsletter_admin(invite: &wa::message::NewsletterAdminInviteMessage) -> Found<'_> {
    let details = [invite.newsletter_name.as_deref(), invite.caption.as_deref()];
    let mut draft = summary(line("Invitation to run a channel", details));
    draft.set("newsletter", invite.newsletter_jid.as_ref());
    draft.set("newsletter_name", invite.newsletter_name.as_ref());
    draft.set("invite_expires", time(invite.invite_expiration));
    (draft, invite.context_info.as_option())
}

/// To follow a channel.
pub(super) fn newsletter(invite: &wa::message::NewsletterFollowerInviteMessage) -> Found<'_> {
    let details = [invite.newsletter_name.as_deref(), invite.caption.as_deref()];
    let mut draft = summary(line("Invitation to a channel", details));
    draft.set("newsletter", invite.newsletter_jid.as_ref());
    draft.set("newsletter_name", invite.newsletter_name.as_ref());
    (draft, invite.context_info.as_option())
}

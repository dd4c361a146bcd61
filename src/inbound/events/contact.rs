//! What changed about a person.

use wacore::types::events::{
    BusinessStatusUpdate, ContactNumberChanged, ContactUpdate, DisappearingModeChanged,
    IdentityChange, PictureUpdate, PushNameUpdate, UserAboutUpdate,
};
use wacore_binary::Jid;

use super::{Notice, address, person, told};
use crate::identity::ChatKind;
use crate::inbound::content::line;
use crate::inbound::draft::Draft;

fn about_person(jid: &Jid, word: &str, timestamp: i64, draft: Draft) -> Notice {
    Notice {
        id: format!("contact:{word}:{timestamp}"),
        chat: address(jid),
        actor: address(jid),
        timestamp,
        draft,
        ..Notice::default()
    }
}

/// A new picture, or none any more; also of a group.
pub(super) fn picture(update: &PictureUpdate) -> Notice {
    let group = address(&update.jid).is_some_and(|chat| chat.kind() == ChatKind::Group);
    let family = if group { "group" } else { "contact" };
    let (word, content) = match update.removed {
        true => ("picture_removed", "Removed the picture"),
        false => ("picture_changed", "Changed the picture"),
    };
    let mut draft = told(&format!("{family}.{word}"), content);
    draft.set("picture_id", update.picture_id.as_ref());
    let timestamp = update.timestamp.timestamp();
    let actor = update.author.as_ref().unwrap_or(&update.jid);
    Notice {
        id: format!("{family}:{word}:{timestamp}"),
        chat: address(&update.jid),
        // Of a group it is known only if the notification says so.
        actor: address(actor).filter(|actor| actor.is_user()),
        timestamp,
        draft,
        ..Notice::default()
    }
}

/// Other words about themselves.
pub(super) fn about(update: &UserAboutUpdate) -> Notice {
    let mut draft = told(
        "contact.about_changed",
        line("Changed their about text", [Some(update.status.as_str())]),
    );
    draft.set("about", Some(&update.status));
    let timestamp = update.timestamp.timestamp();
    about_person(&update.jid, "about_changed", timestamp, draft)
}

/// Another phone number.
pub(super) fn number(change: &ContactNumberChanged) -> Notice {
    let (old, new) = (person(&change.old_jid), person(&change.new_jid));
    let mut draft = told(
        "contact.number_changed",
        format!("Changed their phone number from {old} to {new}"),
    );
    draft.set("old_id", address(&change.old_jid));
    draft.set("new_id", address(&change.new_jid));
    draft.set("old_lid", change.old_lid.as_ref().and_then(address));
    draft.set("new_lid", change.new_lid.as_ref().and_then(address));
    let timestamp = change.timestamp.timestamp();
    let mut notice = about_person(&change.new_jid, "number_changed", timestamp, draft);
    notice.actor_alt = change.new_lid.as_ref().and_then(address);
    notice
}

/// Another name in the owner's address book. What a full sync brings is no change.
pub(super) fn saved(update: &ContactUpdate) -> Option<Notice> {
    let name = update.action.full_name.as_ref();
    let name = name.or(update.action.first_name.as_ref())?;
    let mut draft = told(
        "contact.saved",
        format!("Saved in the address book as {name}"),
    );
    draft.set("contact_name", Some(name));
    draft.set("lid", update.action.lid_jid.as_ref());
    draft.set("phone_jid", update.action.pn_jid.as_ref());
    let timestamp = update.timestamp.timestamp();
    let notice = about_person(&update.jid, "saved", timestamp, draft);
    (!update.from_full_sync).then_some(notice)
}

/// Another name of their own choice.
pub(super) fn push_name(update: &PushNameUpdate, now: i64) -> Notice {
    let mut draft = told(
        "contact.name_changed",
        format!("Calls themselves {} now", update.new_push_name),
    );
    draft.set("old_name", Some(&update.old_push_name));
    draft.set("new_name", Some(&update.new_push_name));
    about_person(&update.jid, "name_changed", now / 1000, draft)
}

/// Another identity key: a new phone, or WhatsApp installed anew.
pub(super) fn identity(change: &IdentityChange, now: i64) -> Notice {
    let draft = told(
        "contact.identity_changed",
        "Their security code changed: a new phone, or WhatsApp installed anew",
    );
    let mut notice = about_person(&change.user, "identity_changed", now / 1000, draft);
    notice.actor_alt = change.lid_user.as_ref().and_then(address);
    notice
}

/// A business's name, profile or catalogue.
pub(super) fn business(update: &BusinessStatusUpdate) -> Notice {
    let name = update.verified_name.as_deref();
    let mut draft = told(
        "contact.business_changed",
        line("Changed their business account", [name]),
    );
    draft.set("business_change", Some(update.update_type.as_str()));
    draft.set("verified_name", name);
    let timestamp = update.timestamp.timestamp();
    about_person(&update.jid, "business_changed", timestamp, draft)
}

/// How long messages in new chats with them last.
pub(super) fn disappearing(change: &DisappearingModeChanged) -> Notice {
    let mut draft = told(
        "contact.disappearing_mode_changed",
        match change.duration {
            0 => "No longer lets messages of new chats disappear".to_owned(),
            seconds => format!("Lets messages of new chats disappear after {seconds} s"),
        },
    );
    draft.set("duration_seconds", Some(change.duration));
    let timestamp = change.setting_timestamp.timestamp();
    about_person(&change.from, "disappearing_mode_changed", timestamp, draft)
}

//! The message that is not for people, save for some of its types: edits, revocations, and what somebody does in a
//! chat by way of it.

use wa::message::ProtocolMessage;
use wa::message::protocol_message::Type;
use waproto::whatsapp as wa;

use super::content::{self, Found, summary};

/// What becomes of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The text of a message changed.
    Edit,
    /// A message is gone.
    Revoke,
    /// A line, as `message.received`.
    Line(&'static str),
    /// Nobody's words, and why.
    Internal(&'static str),
}

/// The decision for a type. Without a catch-all, so that a new type has to be decided.
pub(super) fn fate(r#type: Type) -> Fate {
    use Fate::{Edit, Internal, Line, Revoke};
    match r#type {
        Type::MESSAGE_EDIT => Edit,
        Type::REVOKE => Revoke,
        Type::SHARE_PHONE_NUMBER => Line("Shared their phone number"),
        Type::STATUS_MENTION_MESSAGE => Line("Mentioned this chat in a status update"),
        Type::REMINDER_MESSAGE => Line("Reminder of a message"),
        Type::EPHEMERAL_SETTING | Type::EPHEMERAL_SYNC_RESPONSE => {
            Internal("disappearing messages of a chat were set")
        }
        Type::LIMIT_SHARING | Type::CHAT_THEME_SETTING | Type::GROUP_MEMBER_LABEL_CHANGE => {
            Internal("setting of a chat")
        }
        Type::MESSAGE_UNSCHEDULE => {
            Internal("a scheduled message was withdrawn before it was shown")
        }
        Type::HISTORY_SYNC_NOTIFICATION => Internal("history is skipped"),
        Type::APP_STATE_SYNC_KEY_SHARE
        | Type::APP_STATE_SYNC_KEY_REQUEST
        | Type::APP_STATE_FATAL_EXCEPTION_NOTIFICATION
        | Type::INITIAL_SECURITY_NOTIFICATION_SETTING_SYNC
        | Type::MSG_FANOUT_BACKFILL_REQUEST
        | Type::PEER_DATA_OPERATION_REQUEST_MESSAGE
        | Type::PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE
        | Type::LID_MIGRATION_MAPPING_SYNC
        | Type::MEDIA_NOTIFY_MESSAGE => Internal("talk of devices"),
        Type::CLOUD_API_THREAD_CONTROL_NOTIFICATION => {
            Internal("a business's systems hand a chat to each other")
        }
        Type::REQUEST_WELCOME_MESSAGE
        | Type::BOT_FEEDBACK_MESSAGE
        | Type::BOT_MEMU_ONBOARDING_MESSAGE
        | Type::STOP_GENERATION_MESSAGE
        | Type::AI_PSI_METADATA
        | Type::AI_QUERY_FANOUT
        | Type::AI_MEDIA_COLLECTION_MESSAGE
        | Type::AI_METADATA_OPERATION => Internal("steers WhatsApp's AI"),
    }
}

/// By whom a revocation is: `sender` or `admin`.
pub(super) const REVOKED_BY: &str = "revoked_by";

/// What a protocol message says to people.
pub(super) fn read(protocol: &ProtocolMessage) -> Result<Found<'_>, &'static str> {
    let fate = match protocol.r#type {
        Some(r#type) => fate(r#type),
        // What the library decrypts of an edit need not repeat the type.
        None if protocol.edited_message.is_set() => Fate::Edit,
        None => Fate::Internal("protocol message of an unknown type"),
    };
    let draft = match fate {
        Fate::Internal(reason) => return Err(reason),
        Fate::Line(content) => summary(content),
        Fate::Revoke => {
            let mut draft = summary("(deleted a message)");
            draft.event_type = "message.revoked".to_owned();
            // The key is written from where the sender stands: what is not theirs, an admin deletes.
            draft.set(
                REVOKED_BY,
                Some(match protocol.key.from_me {
                    Some(false) => "admin",
                    _ => "sender",
                }),
            );
            draft
        }
        Fate::Edit => {
            let edited = protocol.edited_message.as_option();
            let mut draft = content::within(edited.ok_or("edit without a text")?);
            draft.event_type = "message.edited".to_owned();
            draft.set("edited_at", content::time_ms(protocol.timestamp_ms));
            draft
        }
    };
    Ok((draft.about(&protocol.key), None))
}

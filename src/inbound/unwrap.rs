//! Messages inside messages, and messages that are not for people.

use waproto::whatsapp as wa;

/// Wrappers inside wrappers, at most. Phones nest two or three; a hostile sender nests as many as fit.
const DEPTH: usize = 16;

/// What the wrappers said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// To be seen once.
    pub view_once: bool,
}

/// The message inside all its wrappers.
pub(super) fn peel(message: &wa::Message) -> (&wa::Message, Wrapped) {
    let mut inner = message;
    let mut wrapped = Wrapped::default();
    for _ in 0..DEPTH {
        wrapped.view_once |= inner.view_once_message.is_set()
            || inner.view_once_message_v2.is_set()
            || inner.view_once_message_v2_extension.is_set();
        match next(inner) {
            Some(deeper) => inner = deeper,
            None => break,
        }
    }
    (inner, wrapped)
}

fn next(m: &wa::Message) -> Option<&wa::Message> {
    if let Some(sent) = m.device_sent_message.as_option() {
        return sent.message.as_option();
    }
    [
        &m.ephemeral_message,
        &m.view_once_message,
        &m.view_once_message_v2,
        &m.view_once_message_v2_extension,
        &m.document_with_caption_message,
        &m.edited_message,
        &m.group_mentioned_message,
        &m.bot_invoke_message,
        &m.bot_forwarded_message,
        &m.bot_task_message,
        &m.lottie_sticker_message,
        &m.event_cover_image,
        &m.associated_child_message,
        &m.poll_creation_message_v4,
        &m.poll_creation_option_image_message,
        &m.question_message,
        &m.question_reply_message,
        &m.spoiler_message,
        &m.group_status_message,
        &m.group_status_message_v2,
        &m.group_status_mention_message,
        &m.status_mention_message,
        &m.status_add_yours,
        &m.limit_sharing_message,
        &m.newsletter_admin_profile_message,
        &m.newsletter_admin_profile_message_v2,
        &m.newsletter_admin_profile_status_message,
    ]
    .into_iter()
    .find_map(|wrapper| wrapper.as_option()?.message.as_option())
}

/// Why a message is machinery and nobody's words; `None` if it is for people.
pub(super) fn internal(m: &wa::Message) -> Option<&'static str> {
    use wa::message::protocol_message::Type;
    if let Some(protocol) = m.protocol_message.as_option() {
        let for_people = match protocol.r#type {
            Some(Type::REVOKE) => true,
            Some(Type::MESSAGE_EDIT) => protocol.edited_message.is_set(),
            _ => false,
        };
        return (!for_people).then_some("protocol");
    }
    let machinery = m.placeholder_message.is_set()
        || m.sticker_sync_rmr_message.is_set()
        || m.message_history_bundle.is_set()
        || m.message_history_notice.is_set()
        || m.group_root_key_share.is_set()
        || m.root_secret_distribute_message.is_set()
        || m.fast_ratchet_key_sender_key_distribution_message.is_set();
    if machinery {
        return Some("protocol");
    }
    // A group's sender key comes with the first words of a session, or alone.
    let keys_alone = m.sender_key_distribution_message.is_set() && {
        let mut rest = m.clone();
        rest.sender_key_distribution_message.take();
        rest.message_context_info.take();
        rest == wa::Message::default()
    };
    keys_alone.then_some("sender key")
}

//! What becomes of each kind of message: one row for each field of the protocol's `Message`.
//!
//! Invariant: there is a row for every field. The table is taken apart against the type itself, so a version of the
//! library with a field that has no row does not compile. A person's message is in no row `internal`.

use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use super::content::Found;
use super::{
    bot, call, change, commerce, contact, interactive, invite, mark, media, meeting, place, poll,
    protocol, status, text,
};

/// Reads a message of one kind; `None` if it is not of that kind.
type Read = for<'a> fn(&'a wa::Message) -> Option<Found<'a>>;
/// Reads one that has a message inside; the error is why it is nobody's words.
type ReadOuter = for<'a> fn(&'a wa::Message) -> Option<Result<Found<'a>, &'static str>>;

/// What becomes of a kind of message.
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the types are for the tests and what they document"
    )
)]
pub(super) enum Fate {
    /// An event of one of these types, and what makes it.
    Told(&'static str, Read),
    /// Likewise, of a kind that carries a whole message, so it is not read inside another of its sort.
    Outer(&'static str, ReadOuter),
    /// A line that names the kind, as `message.received`.
    Named,
    /// The message inside it takes its place; the name is a mark that it leaves in the metadata.
    Wrapper(
        for<'a> fn(&'a wa::Message) -> Option<&'a wa::Message>,
        &'static str,
    ),
    /// Machinery of WhatsApp that nobody wrote.
    Internal,
    /// Comes along with a message of any kind.
    Aside,
}

/// A kind of message.
pub(super) struct Kind {
    /// The name of its field.
    pub field: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// What it is, for the documentation, and why if it is not told.
    pub note: &'static str,
    is_set: fn(&wa::Message) -> bool,
}

/// The kind of a message; `None` if it has none that the library knows.
pub(super) fn of(message: &wa::Message) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| !matches!(kind.fate, Fate::Aside) && (kind.is_set)(message))
}

/// The message inside a wrapper, and the mark that the wrapper leaves.
pub(super) fn unwrapped(message: &wa::Message) -> Option<(&wa::Message, &'static str)> {
    KINDS.iter().find_map(|kind| match kind.fate {
        Fate::Wrapper(inner, mark) => Some((inner(message)?, mark)),
        _ => None,
    })
}

/// A field that may be missing, of either sort.
trait Field {
    type Value;
    fn value(&self) -> Option<&Self::Value>;
}

impl<T> Field for Option<T> {
    type Value = T;
    fn value(&self) -> Option<&T> {
        self.as_ref()
    }
}

impl<T: Default> Field for MessageField<T> {
    type Value = T;
    fn value(&self) -> Option<&T> {
        self.as_option()
    }
}

macro_rules! fate {
    ($field:ident told $types:literal $read:path) => {
        Fate::Told($types, |m| m.$field.value().map($read))
    };
    ($field:ident outer $types:literal $read:path) => {
        Fate::Outer($types, |m| m.$field.value().map($read))
    };
    ($field:ident wrapper $mark:literal) => {
        Fate::Wrapper(|m| m.$field.value()?.message.as_option(), $mark)
    };
    ($field:ident wrapper) => {
        fate!($field wrapper "")
    };
    ($field:ident named) => {
        Fate::Named
    };
    ($field:ident internal) => {
        Fate::Internal
    };
    ($field:ident aside) => {
        Fate::Aside
    };
}

macro_rules! kinds {
    ($($field:ident: $how:ident $($with:literal $($read:path)?)?, $note:literal;)*) => {
        /// Every kind, in the order of the protocol.
        pub(super) static KINDS: &[Kind] = &[$(Kind {
            field: stringify!($field),
            fate: fate!($field $how $($with $($read)?)?),
            note: $note,
            is_set: |m| m.$field.value().is_some(),
        }),*];

        const _: fn(wa::Message) = |wa::Message { $($field: _),* }| ();
    };
}

kinds! {
    conversation: told "message.received" text::plain, "text";
    sender_key_distribution_message: aside, "a group's key, with the first words of a session or alone; alone it is ignored";
    image_message: told "message.received" media::image, "picture";
    contact_message: told "message.received" contact::one, "contact card";
    location_message: told "message.received" place::fixed, "location";
    extended_text_message: told "message.received" text::extended, "text with a link preview, a quote or mentions";
    document_message: told "message.received" media::document, "file";
    audio_message: told "message.received" media::audio, "voice note or sound file";
    video_message: told "message.received" media::video, "video or GIF";
    call: internal, "keys of a call; the call itself is an event of the connection";
    chat: named, "pointer to a chat, of old versions";
    protocol_message: outer "message.edited, message.revoked, message.received" protocol::read, "edits, revocations and settings; see the table of its types";
    contacts_array_message: told "message.received" contact::several, "several contact cards";
    highly_structured_message: told "message.received" interactive::structured, "a business's template, of old versions";
    fast_ratchet_key_sender_key_distribution_message: internal, "a group's key";
    send_payment_message: told "message.received" commerce::payment, "payment";
    live_location_message: told "message.received" place::live, "live location, at its start and when it moves";
    request_payment_message: told "message.received" commerce::payment_request, "payment request";
    decline_payment_request_message: told "message.received" commerce::declined, "payment request declined";
    cancel_payment_request_message: told "message.received" commerce::cancelled, "payment request withdrawn";
    template_message: told "message.received" interactive::template, "a business's template";
    sticker_message: told "message.received" media::sticker, "sticker";
    group_invite_message: told "message.received" invite::group, "invitation to a group or community";
    template_button_reply_message: told "message.received" interactive::template_reply, "button of a template pressed";
    product_message: told "message.received" commerce::product, "product of a catalogue";
    device_sent_message: wrapper, "sent on another device of the sender";
    message_context_info: aside, "secrets and associations of the message beside it";
    list_message: told "message.received" interactive::list, "menu";
    view_once_message: wrapper "view_once", "to be seen once";
    order_message: told "message.received" commerce::order, "order";
    list_response_message: told "message.received" interactive::list_reply, "row of a menu chosen";
    ephemeral_message: wrapper "ephemeral", "in a chat with disappearing messages";
    invoice_message: told "message.received" commerce::invoice, "invoice";
    buttons_message: told "message.received" interactive::buttons, "text with buttons";
    buttons_response_message: told "message.received" interactive::button_reply, "button pressed";
    payment_invite_message: told "message.received" commerce::payment_invite, "invitation to WhatsApp's payments";
    interactive_message: told "message.received" interactive::card, "a business's card: buttons, shop, collection, carousel";
    reaction_message: told "reaction.added, reaction.removed" change::reaction, "reaction";
    sticker_sync_rmr_message: internal, "our own devices ask each other for stickers";
    interactive_response_message: told "message.received" interactive::card_reply, "answer to a card, a form for instance";
    poll_creation_message: told "message.received" poll::creation, "poll";
    poll_update_message: told "poll.vote" poll::update, "vote; encrypted for those who have the poll";
    keep_in_chat_message: told "message.kept, message.unkept" mark::keep, "disappearing message kept in the chat";
    document_with_caption_message: wrapper, "file with caption";
    request_phone_number_message: told "message.received" contact::number_wanted, "asks for our phone number";
    view_once_message_v2: wrapper "view_once", "to be seen once";
    enc_reaction_message: told "reaction.added" change::encrypted_reaction, "reaction whose secret this device lacks; the library opens the others";
    edited_message: wrapper, "wraps an edit";
    view_once_message_v2_extension: wrapper "view_once", "to be heard once";
    poll_creation_message_v2: told "message.received" poll::creation, "poll in a community's announcements";
    scheduled_call_creation_message: told "message.received" call::scheduled, "call to come";
    group_mentioned_message: wrapper, "mentions a group";
    pin_in_chat_message: told "message.pinned, message.unpinned" mark::pin, "message pinned for all";
    poll_creation_message_v3: told "message.received" poll::creation, "poll with one choice";
    scheduled_call_edit_message: told "message.edited" call::rescheduled, "call to come cancelled";
    ptv_message: told "message.received" media::video_note, "video note";
    bot_invoke_message: wrapper, "question to a bot within a chat";
    call_log_messsage: told "message.received" call::log, "what became of a call";
    message_history_bundle: internal, "history that a member of a group hands to a new one; history is skipped";
    enc_comment_message: told "message.commented" change::encrypted_comment, "comment whose secret this device lacks; the library opens the others";
    bcall_message: named, "call to an audience";
    lottie_sticker_message: wrapper, "animated sticker";
    event_message: told "message.received" meeting::event, "event";
    enc_event_response_message: told "message.event_answered" change::event_response, "answer to an event; encrypted for those who have the event";
    comment_message: outer "message.commented" change::comment, "comment on a message of a channel or community";
    newsletter_admin_invite_message: told "message.received" invite::newsletter_admin, "invitation to run a channel";
    placeholder_message: told "message.received" status::phone_only, "stands for a message that only the phone shows";
    secret_encrypted_message: told "message.edited, message.received" change::encrypted_edit, "encrypted edit whose secret this device lacks; the library opens the others";
    album_message: told "message.received" media::album, "heads the pictures of an album, which follow";
    event_cover_image: wrapper, "picture of an event";
    sticker_pack_message: told "message.received" media::sticker_pack, "sticker pack";
    status_mention_message: wrapper, "somebody's status mentions us";
    poll_result_snapshot_message: told "message.received" poll::result, "results of a poll";
    poll_creation_option_image_message: wrapper, "picture of a poll's option";
    associated_child_message: wrapper, "goes with a message before it, as a better picture or a poll's media";
    group_status_mention_message: wrapper, "somebody's status mentions a group of ours";
    poll_creation_message_v4: wrapper, "poll";
    status_add_yours: wrapper, "answer to a status";
    group_status_message: wrapper "group_status", "status of a group";
    rich_response_message: told "message.received" bot::rich, "answer of WhatsApp's AI, in parts";
    status_notification_message: told "message.received" status::notification, "somebody shared or continued a status of ours";
    limit_sharing_message: wrapper, "wraps the setting for privacy of a chat";
    bot_task_message: wrapper, "task of a bot";
    question_message: wrapper, "question of a channel";
    message_history_notice: internal, "history that a member of a group hands to a new one; history is skipped";
    group_status_message_v2: wrapper "group_status", "status of a group";
    bot_forwarded_message: wrapper, "answer of a bot, forwarded";
    status_question_answer_message: told "message.received" status::answer, "answer to a question in a status";
    question_reply_message: wrapper, "channel's reply to an answer";
    question_response_message: told "message.received" status::channel_answer, "answer to a question of a channel";
    status_quoted_message: told "message.received" status::quoted, "answer to a status, shared on";
    status_sticker_interaction_message: told "reaction.added" status::sticker, "sticker on a status of ours";
    poll_creation_message_v5: told "message.received" poll::creation, "quiz";
    newsletter_follower_invite_message_v2: told "message.received" invite::newsletter, "invitation to follow a channel";
    poll_result_snapshot_message_v3: told "message.received" poll::result, "results of a quiz";
    newsletter_admin_profile_message: wrapper, "channel's message in the name of one of its admins";
    newsletter_admin_profile_message_v2: wrapper, "channel's message in the name of one of its admins";
    spoiler_message: wrapper "spoiler", "hidden until tapped";
    poll_creation_message_v6: told "message.received" poll::creation, "poll to which options may be added";
    conditional_reveal_message: told "message.received" change::sealed, "scheduled message, closed until its time";
    poll_add_option_message: told "message.edited" poll::option_added, "option added to a poll";
    event_invite_message: told "message.received" meeting::invite, "invitation to an event";
    group_root_key_share: internal, "keys of a group";
    payment_reminder_message: told "message.received" commerce::reminder, "reminder of a payment";
    split_payment_message: told "message.received" commerce::split, "bill that is split";
    newsletter_admin_profile_status_message: wrapper, "channel's status in the name of one of its admins";
    root_secret_distribute_message: internal, "keys of a chat";
}

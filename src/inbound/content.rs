//! Which family a message belongs to, text itself, and the kinds that are one line.

use waproto::whatsapp as wa;

use super::draft::Draft;
use super::{context, interactive, media, place, poll, unwrap};

/// A draft and the context of the message part that it was made of.
pub(super) type Found<'a> = (Draft, Option<&'a wa::ContextInfo>);

/// A line that we write about a message.
pub(super) fn summary(content: String) -> Draft {
    with_origin(content, "summary")
}

/// Words of the sender.
pub(super) fn words(content: &str, origin: &str) -> Draft {
    with_origin(content.to_owned(), origin)
}

fn with_origin(content: String, origin: &str) -> Draft {
    Draft {
        event_type: "message.received".to_owned(),
        content,
        content_origin: origin.to_owned(),
        ..Draft::default()
    }
}

/// `head: a, b`, or `head` alone when nothing else is known.
pub(super) fn line<'a>(head: &str, details: impl IntoIterator<Item = Option<&'a str>>) -> String {
    let details: Vec<&str> = details
        .into_iter()
        .flatten()
        .map(str::trim)
        .filter(|detail| !detail.is_empty())
        .collect();
    if details.is_empty() {
        head.to_owned()
    } else {
        format!("{head}: {}", details.join(", "))
    }
}

/// What an unwrapped message says.
pub(super) fn draft(message: &wa::Message) -> Draft {
    read(message, true)
}

/// What a quoted message said; a quotation inside it is left out.
pub(super) fn quoted(message: &wa::Message) -> Draft {
    read(message, false)
}

fn read(message: &wa::Message, quoting: bool) -> Draft {
    let found = text(message)
        .or_else(|| media::draft(message))
        .or_else(|| place::draft(message))
        .or_else(|| poll::draft(message))
        .or_else(|| interactive::draft(message))
        .or_else(|| short(message));
    let (mut draft, context) = found.unwrap_or_else(|| (unknown(message), None));
    context::apply(&mut draft, context, quoting);
    draft
}

fn text(message: &wa::Message) -> Option<Found<'_>> {
    if let Some(text) = message.extended_text_message.as_option() {
        let mut draft = words(text.text.as_deref().unwrap_or_default(), "text");
        for (key, value) in [
            ("link_url", &text.matched_text),
            ("link_title", &text.title),
            ("link_description", &text.description),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                draft.metadata.insert(key.to_owned(), value.clone());
            }
        }
        return Some((draft, text.context_info.as_option()));
    }
    let text = message.conversation.as_deref()?;
    Some((words(text, "text"), None))
}

/// The kinds of which a line tells everything that matters.
fn short(m: &wa::Message) -> Option<Found<'_>> {
    if let Some(comment) = m.comment_message.as_option() {
        let (inner, _) = unwrap::peel(&comment.message);
        // Comments do not nest; one that does is a line like any unknown kind.
        let mut draft = match inner.comment_message.is_set() {
            true => unknown(inner),
            false => quoted(inner),
        };
        draft.target_message_id = comment.target_message_key.id.clone();
        return Some((draft, None));
    }
    if let Some(answer) = m.question_response_message.as_option() {
        let mut draft = words(answer.text.as_deref().unwrap_or_default(), "text");
        draft.target_message_id = answer.key.id.clone();
        return Some((draft, None));
    }
    if let Some(pin) = m.pin_in_chat_message.as_option() {
        use wa::message::pin_in_chat_message::Type;
        let mut draft = summary(match pin.r#type {
            Some(Type::UNPIN_FOR_ALL) => "Unpinned a message".to_owned(),
            _ => "Pinned a message".to_owned(),
        });
        draft.target_message_id = pin.key.id.clone();
        return Some((draft, None));
    }
    if let Some(keep) = m.keep_in_chat_message.as_option() {
        let mut draft = summary("Kept a disappearing message".to_owned());
        draft.target_message_id = keep.key.id.clone();
        return Some((draft, None));
    }
    if let Some(invite) = m.group_invite_message.as_option() {
        let details = [invite.group_name.as_deref(), invite.caption.as_deref()];
        let mut draft = summary(line("Invitation to a group", details));
        if let Some(group) = &invite.group_jid {
            draft.metadata.insert("group".to_owned(), group.clone());
        }
        if let Some(code) = &invite.invite_code {
            draft
                .metadata
                .insert("invite_code".to_owned(), code.clone());
        }
        return Some((draft, invite.context_info.as_option()));
    }
    let invite = m.newsletter_admin_invite_message.as_option();
    if let Some(invite) = invite {
        let details = [invite.newsletter_name.as_deref(), invite.caption.as_deref()];
        let draft = summary(line("Invitation to run a channel", details));
        return Some((draft, invite.context_info.as_option()));
    }
    if let Some(invite) = m.newsletter_follower_invite_message_v2.as_option() {
        let details = [invite.newsletter_name.as_deref(), invite.caption.as_deref()];
        let draft = summary(line("Invitation to a channel", details));
        return Some((draft, invite.context_info.as_option()));
    }
    if let Some(album) = m.album_message.as_option() {
        let count = |n: Option<u32>, one: &str| {
            n.filter(|&n| n > 0)
                .map(|n| format!("{n} {one}{}", if n == 1 { "" } else { "s" }))
        };
        let images = count(album.expected_image_count, "picture");
        let videos = count(album.expected_video_count, "video");
        let draft = summary(line("Album", [images.as_deref(), videos.as_deref()]));
        return Some((draft, album.context_info.as_option()));
    }
    if let Some(product) = m.product_message.as_option() {
        let details = [
            product.product.title.as_deref(),
            product.product.description.as_deref(),
            product.body.as_deref(),
        ];
        return Some((
            summary(line("Product", details)),
            product.context_info.as_option(),
        ));
    }
    if let Some(order) = m.order_message.as_option() {
        let items = order.item_count.map(|n| format!("{n} items"));
        let details = [
            order.order_title.as_deref(),
            items.as_deref(),
            order.message.as_deref(),
        ];
        let mut draft = summary(line("Order", details));
        if let Some(id) = &order.order_id {
            draft.metadata.insert("order_id".to_owned(), id.clone());
        }
        return Some((draft, order.context_info.as_option()));
    }
    let note = [
        (
            "Payment",
            m.send_payment_message.as_option().map(|p| &p.note_message),
        ),
        (
            "Payment request",
            m.request_payment_message
                .as_option()
                .map(|p| &p.note_message),
        ),
    ]
    .into_iter()
    .find_map(|(head, note)| Some((head, note?)));
    if let Some((head, note)) = note {
        let text = note
            .conversation
            .as_deref()
            .or(note.extended_text_message.text.as_deref());
        return Some((summary(line(head, [text])), None));
    }
    if let Some(call) = m.scheduled_call_creation_message.as_option() {
        return Some((
            summary(line("Scheduled call", [call.title.as_deref()])),
            None,
        ));
    }
    if let Some(pack) = m.sticker_pack_message.as_option() {
        let details = [pack.name.as_deref(), pack.publisher.as_deref()];
        return Some((
            summary(line("Sticker pack", details)),
            pack.context_info.as_option(),
        ));
    }
    None
}

/// A kind that nobody here reads. Its name is that of the protocol's field.
fn unknown(message: &wa::Message) -> Draft {
    let mut bare = message.clone();
    bare.message_context_info.take();
    bare.sender_key_distribution_message.take();
    let name = serde_json::to_value(&bare).ok().and_then(|value| {
        let fields = value.as_object()?;
        fields
            .iter()
            .find(|(_, value)| !value.is_null())
            .map(|(name, _)| name.clone())
    });
    // A field that the library's own description lacks leaves nothing behind.
    let name = name.unwrap_or_else(|| "unknown".to_owned());
    let mut draft = summary(format!(
        "(a message of a kind that cannot be shown: {name})"
    ));
    draft.metadata.insert("unsupported_kind".to_owned(), name);
    draft
}

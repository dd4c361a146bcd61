//! Messages inside messages.

use waproto::buffa::Enumeration;
use waproto::whatsapp as wa;

use super::draft::Draft;
use super::kinds;

/// Wrappers inside wrappers, at most. Phones nest two or three; a hostile sender nests as many as fit.
const DEPTH: usize = 16;

/// What the wrappers said.
#[derive(Debug, Default)]
pub(super) struct Wrapped<'a> {
    marks: Vec<&'static str>,
    association: Option<&'a wa::MessageAssociation>,
}

/// The message inside all its wrappers.
pub(super) fn peel(message: &wa::Message) -> (&wa::Message, Wrapped<'_>) {
    let mut inner = message;
    let mut wrapped = Wrapped::default();
    for _ in 0..DEPTH {
        let beside = inner.message_context_info.as_option();
        if let Some(association) = beside.and_then(|info| info.message_association.as_option()) {
            wrapped.association = Some(association);
        }
        let Some((deeper, mark)) = kinds::unwrapped(inner) else {
            break;
        };
        if !mark.is_empty() {
            wrapped.marks.push(mark);
        }
        inner = deeper;
    }
    (inner, wrapped)
}

/// The secret with which what refers to a message is encrypted, wherever in its wrappers it stands.
pub(super) fn secret(message: &wa::Message) -> Option<&[u8]> {
    let mut inner = message;
    for _ in 0..DEPTH {
        if let Some(secret) = inner.message_context_info.message_secret.as_deref() {
            return Some(secret);
        }
        (inner, _) = kinds::unwrapped(inner)?;
    }
    None
}

impl Wrapped<'_> {
    /// Leaves the wrappers' marks on what was made of their content.
    pub(super) fn mark(&self, draft: &mut Draft) {
        use wa::message_association::AssociationType as Type;
        for mark in &self.marks {
            draft.set(mark, Some("true"));
        }
        if self.marks.contains(&"view_once") {
            let sources = draft.attachments.iter_mut();
            for source in sources.filter_map(|file| file.source.as_mut()) {
                source.view_once = true;
            }
        }
        let Some(association) = self.association else {
            return;
        };
        let kind = association.association_type.unwrap_or(Type::UNKNOWN);
        let parent = association.parent_message_key.id.as_deref();
        draft.set("association", Some(kind.proto_name().to_ascii_lowercase()));
        draft.set("parent_message_id", parent);
        let again = matches!(
            kind,
            Type::HD_IMAGE_DUAL_UPLOAD | Type::HD_VIDEO_DUAL_UPLOAD | Type::HEVC_VIDEO_DUAL_UPLOAD
        );
        // The same picture once more, in better quality.
        if again && parent.is_some() && draft.event_type == "message.received" {
            draft.event_type = "message.edited".to_owned();
            draft.target_message_id = parent.map(str::to_owned);
        }
    }
}

//! Text, alone and with a link preview.

use waproto::whatsapp as wa;

use super::content::{Found, words};

/// Text and nothing else.
#[expect(clippy::ptr_arg, reason = "the table hands over fields as they are")]
pub(super) fn plain(text: &String) -> Found<'_> {
    (words(text, "text"), None)
}

/// Text with what surrounds it.
pub(super) fn extended(text: &wa::message::ExtendedTextMessage) -> Found<'_> {
    let mut draft = words(text.text.as_deref().unwrap_or_default(), "text");
    draft.set("link_url", text.matched_text.as_ref());
    draft.set("link_title", text.title.as_ref());
    draft.set("link_description", text.description.as_ref());
    // An invitation link's preview names the community that the group belongs to.
    draft.set(
        "link_community",
        text.invite_link_parent_group_subject_v2.as_ref(),
    );
    draft.set("view_once", text.view_once.filter(|&once| once));
    (draft, text.context_info.as_option())
}

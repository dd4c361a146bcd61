//! What surrounds the words: the quoted message, the people mentioned, forwarding.

use waproto::whatsapp as wa;

use super::draft::{Draft, Quoted};
use super::{content, unwrap};

/// Longest quoted text that is kept, in characters. The whole of it is in the chat.
const QUOTE: usize = 1000;

/// Adds what the context says. `quoting` is off inside a quotation, which does not quote on.
pub(super) fn apply(draft: &mut Draft, context: Option<&wa::ContextInfo>, quoting: bool) {
    let Some(context) = context else { return };
    draft.mentions = context
        .mentioned_jid
        .iter()
        .filter_map(|jid| jid.parse().ok())
        .collect();
    if context.is_forwarded == Some(true) {
        draft
            .metadata
            .insert("forwarded".to_owned(), "true".to_owned());
    }
    if let Some(score) = context.forwarding_score.filter(|&score| score > 0) {
        draft
            .metadata
            .insert("forwarding_score".to_owned(), score.to_string());
    }
    let Some(stanza_id) = context
        .stanza_id
        .as_ref()
        .filter(|id| quoting && !id.is_empty())
    else {
        return;
    };
    let text = context.quoted_message.as_option().and_then(|quoted| {
        let (quoted, _) = unwrap::peel(quoted);
        let text = content::quoted(quoted).content;
        (!text.trim().is_empty()).then(|| text.chars().take(QUOTE).collect())
    });
    draft.reply_to = Some(Quoted {
        stanza_id: stanza_id.clone(),
        sender: context
            .participant
            .as_ref()
            .and_then(|jid| jid.parse().ok()),
        text,
    });
}

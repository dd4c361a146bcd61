//! What surrounds the words: the quoted message, the people mentioned, forwarding.

use serde_json::json;
use waproto::whatsapp as wa;

use super::content;
use super::draft::{Draft, Quoted};

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
    let yes = |flag: Option<bool>| flag.filter(|&set| set);
    draft.set("forwarded", yes(context.is_forwarded));
    let score = context.forwarding_score.filter(|&score| score > 0);
    draft.set("forwarding_score", score);
    let seconds = context.expiration.filter(|&seconds| seconds > 0);
    draft.set("disappears_after_seconds", seconds);
    draft.set("spoiler", yes(context.is_spoiler));
    // Set by `@all`, which lists nobody.
    let everyone = context.non_jid_mentions.filter(|&n| n != 0);
    draft.set("mentions_everyone", everyone.map(|_| "true"));
    if !context.group_mentions.is_empty() {
        let groups = context.group_mentions.iter();
        let groups = groups.map(|g| json!({"id": g.group_jid, "name": g.group_subject}));
        draft.set(
            "group_mentions",
            Some(groups.collect::<serde_json::Value>()),
        );
    }
    if let Some(origin) = context.forwarded_newsletter_message_info.as_option() {
        draft.set("forwarded_from", origin.newsletter_jid.as_ref());
        draft.set("forwarded_from_name", origin.newsletter_name.as_ref());
    }
    // Somebody came by way of an advertisement.
    if let Some(ad) = context.external_ad_reply.as_option() {
        draft.set("ad_title", ad.title.as_ref());
        draft.set("ad_text", ad.body.as_ref());
        draft.set("ad_url", ad.source_url.as_ref());
    }
    let status = context.remote_jid.as_deref() == Some("status@broadcast");
    draft.set("reply_to_status", status.then_some("true"));
    let Some(stanza_id) = context
        .stanza_id
        .as_ref()
        .filter(|id| quoting && !id.is_empty())
    else {
        return;
    };
    let text = context.quoted_message.as_option().and_then(|quoted| {
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

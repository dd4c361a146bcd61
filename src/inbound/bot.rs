//! Answers of WhatsApp's AI that are more than text.

use waproto::whatsapp as wa;

use super::content::{Found, summary, words};

/// An answer in parts: text, code, tables, formulas, and pictures that are only named.
pub(super) fn rich(answer: &wa::AIRichResponseMessage) -> Found<'_> {
    let parts: Vec<String> = answer.submessages.iter().filter_map(part).collect();
    let draft = match parts.is_empty() {
        true => summary("(an answer of WhatsApp's AI that cannot be shown)"),
        false => words(&parts.join("\n\n"), "text"),
    };
    (draft, answer.context_info.as_option())
}

fn part(part: &wa::AIRichResponseSubMessage) -> Option<String> {
    if let Some(code) = part.code_metadata.as_option() {
        let blocks = code.code_blocks.iter();
        let code_text: String = blocks.filter_map(|b| b.code_content.as_deref()).collect();
        let language = code.code_language.as_deref().unwrap_or_default();
        return Some(format!("```{language}\n{code_text}\n```"));
    }
    if let Some(table) = part.table_metadata.as_option() {
        let rows = table.rows.iter().map(|row| row.items.join(" | "));
        let lines: Vec<String> = table.title.clone().into_iter().chain(rows).collect();
        return Some(lines.join("\n"));
    }
    let formula = part.latex_metadata.text.as_ref();
    let text = part.message_text.as_ref().or(formula);
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        return Some(text.clone());
    }
    let picture = part.image_metadata.is_set() || part.grid_image_metadata.is_set();
    picture.then(|| "(picture)".to_owned())
}

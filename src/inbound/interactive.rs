//! Buttons and lists, as businesses send them, and the choices that people make in them.

use wa::__buffa::oneof::message::buttons_response_message::Response;
use wa::__buffa::oneof::message::interactive_response_message::InteractiveResponseMessage as Interactive;
use waproto::whatsapp as wa;

use super::content::{Found, summary, words};
use super::draft::Draft;

/// The choice or the menu of an unwrapped message, if it is one.
pub(super) fn draft(m: &wa::Message) -> Option<Found<'_>> {
    choice(m).or_else(|| menu(m))
}

fn choice(m: &wa::Message) -> Option<Found<'_>> {
    if let Some(pressed) = m.buttons_response_message.as_option() {
        let text = pressed
            .response
            .as_ref()
            .map(|Response::SelectedDisplayText(text)| text.as_str());
        let draft = chosen(text, pressed.selected_button_id.as_deref());
        return Some((draft, pressed.context_info.as_option()));
    }
    if let Some(picked) = m.list_response_message.as_option() {
        let id = picked.single_select_reply.selected_row_id.as_deref();
        let text = picked.title.as_deref().or(picked.description.as_deref());
        return Some((chosen(text, id), picked.context_info.as_option()));
    }
    if let Some(pressed) = m.template_button_reply_message.as_option() {
        let draft = chosen(
            pressed.selected_display_text.as_deref(),
            pressed.selected_id.as_deref(),
        );
        return Some((draft, pressed.context_info.as_option()));
    }
    if let Some(answer) = m.interactive_response_message.as_option() {
        let mut draft = chosen(answer.body.text.as_deref(), None);
        if let Some(Interactive::NativeFlowResponseMessage(flow)) =
            &answer.interactive_response_message
        {
            if let Some(name) = &flow.name {
                draft.metadata.insert("flow_name".to_owned(), name.clone());
            }
            if let Some(answer) = &flow.params_json {
                draft
                    .metadata
                    .insert("flow_answer".to_owned(), answer.clone());
            }
        }
        return Some((draft, answer.context_info.as_option()));
    }
    None
}

fn chosen(text: Option<&str>, id: Option<&str>) -> Draft {
    let text = text.filter(|text| !text.is_empty());
    let mut draft = words(text.or(id).unwrap_or_default(), "choice");
    if let Some(id) = id {
        draft.metadata.insert("choice_id".to_owned(), id.to_owned());
    }
    draft
}

fn menu(m: &wa::Message) -> Option<Found<'_>> {
    if let Some(buttons) = m.buttons_message.as_option() {
        let options = buttons
            .buttons
            .iter()
            .filter_map(|b| b.button_text.display_text.as_deref());
        let head = [
            buttons.content_text.as_deref(),
            buttons.footer_text.as_deref(),
        ];
        return Some((listed(&head, options), buttons.context_info.as_option()));
    }
    if let Some(list) = m.list_message.as_option() {
        let rows = list.sections.iter().flat_map(|section| &section.rows);
        let head = [
            list.title.as_deref(),
            list.description.as_deref(),
            list.footer_text.as_deref(),
        ];
        let draft = listed(&head, rows.filter_map(|row| row.title.as_deref()));
        return Some((draft, list.context_info.as_option()));
    }
    if let Some(template) = m.template_message.as_option() {
        let text = &template.hydrated_template;
        let head = [
            text.hydrated_content_text.as_deref(),
            text.hydrated_footer_text.as_deref(),
        ];
        return Some((listed(&head, []), template.context_info.as_option()));
    }
    if let Some(card) = m.interactive_message.as_option() {
        let head = [
            card.header.title.as_deref(),
            card.body.text.as_deref(),
            card.footer.text.as_deref(),
        ];
        return Some((listed(&head, []), card.context_info.as_option()));
    }
    None
}

fn listed<'a>(head: &[Option<&str>], options: impl IntoIterator<Item = &'a str>) -> Draft {
    let head = head
        .iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .map(|text| (*text).to_owned());
    let lines: Vec<String> = head
        .chain(options.into_iter().map(|option| format!("- {option}")))
        .collect();
    summary(match lines.is_empty() {
        true => "Menu".to_owned(),
        false => lines.join("\n"),
    })
}

//! Menus, buttons, templates and cards, as businesses send them, and the choices that people make in them.

use wa::__buffa::oneof::hydrated_template_button::HydratedButton;
use wa::__buffa::oneof::message as oneof;
use wa::message as m;
use waproto::whatsapp as wa;

use super::commerce;
use super::content::{Found, line, summary, words};
use super::draft::{AttachmentMeta, Draft};
use super::media;
use super::place;

/// A button that was pressed.
pub(super) fn button_reply(pressed: &m::ButtonsResponseMessage) -> Found<'_> {
    use oneof::buttons_response_message::Response;
    let text = pressed
        .response
        .as_ref()
        .map(|Response::SelectedDisplayText(text)| text.as_str());
    let draft = chosen(text, pressed.selected_button_id.as_deref());
    (draft, pressed.context_info.as_option())
}

/// A row that was picked.
pub(super) fn list_reply(picked: &m::ListResponseMessage) -> Found<'_> {
    let id = picked.single_select_reply.selected_row_id.as_deref();
    let title = picked.title.as_deref().filter(|title| !title.is_empty());
    let mut draft = chosen(title.or(picked.description.as_deref()), id);
    draft.set("choice_description", picked.description.as_ref());
    (draft, picked.context_info.as_option())
}

/// A template's button that was pressed.
pub(super) fn template_reply(pressed: &m::TemplateButtonReplyMessage) -> Found<'_> {
    let mut draft = chosen(
        pressed.selected_display_text.as_deref(),
        pressed.selected_id.as_deref(),
    );
    draft.set("choice_index", pressed.selected_index);
    draft.set("choice_card", pressed.selected_carousel_card_index);
    (draft, pressed.context_info.as_option())
}

/// An answer to a card: what a form was filled in with, for instance.
pub(super) fn card_reply(answer: &m::InteractiveResponseMessage) -> Found<'_> {
    use oneof::interactive_response_message::InteractiveResponseMessage as Answer;
    let mut draft = chosen(answer.body.text.as_deref(), None);
    if let Some(Answer::NativeFlowResponseMessage(flow)) = &answer.interactive_response_message {
        draft.set("flow_name", flow.name.as_ref());
        draft.set("flow_answer", flow.params_json.as_ref());
    }
    (draft, answer.context_info.as_option())
}

fn chosen(text: Option<&str>, id: Option<&str>) -> Draft {
    let text = text.filter(|text| !text.is_empty());
    let mut draft = words(text.or(id).unwrap_or_default(), "choice");
    draft.set("choice_id", id);
    draft
}

/// Text with buttons.
pub(super) fn buttons(buttons: &m::ButtonsMessage) -> Found<'_> {
    use oneof::buttons_message::Header;
    let mut menu = Menu::default();
    match &buttons.header {
        Some(Header::Text(title)) => menu.say(Some(title)),
        Some(Header::DocumentMessage(file)) => menu.attach(media::document_file(file)),
        Some(Header::ImageMessage(image)) => menu.attach(media::image_file(image)),
        Some(Header::VideoMessage(video)) => menu.attach(media::video_file(video)),
        Some(Header::LocationMessage(at)) => menu.say(Some(&place::fixed(at).0.content)),
        None => {}
    }
    menu.say(buttons.content_text.as_deref());
    menu.say(buttons.footer_text.as_deref());
    for button in &buttons.buttons {
        let id = button.button_id.as_deref();
        menu.offer(button.button_text.display_text.as_deref(), id);
    }
    (menu.draft(), buttons.context_info.as_option())
}

/// A menu.
pub(super) fn list(list: &m::ListMessage) -> Found<'_> {
    let mut menu = Menu::default();
    for text in [&list.title, &list.description, &list.footer_text] {
        menu.say(text.as_deref());
    }
    for section in &list.sections {
        for row in &section.rows {
            menu.offer(row.title.as_deref(), row.row_id.as_deref());
        }
    }
    let products = &list.product_list_info.product_sections;
    for product in products.iter().flat_map(|section| &section.products) {
        menu.offer(product.product_id.as_deref(), product.product_id.as_deref());
    }
    (menu.draft(), list.context_info.as_option())
}

/// A template that a business fills in.
pub(super) fn template(template: &m::TemplateMessage) -> Found<'_> {
    use oneof::template_message::Format;
    let context = template.context_info.as_option();
    let filled = template.hydrated_template.as_option();
    match (&template.format, filled) {
        (_, Some(filled)) => (hydrated(filled), context),
        (Some(Format::HydratedFourRowTemplate(filled)), None) => (hydrated(filled), context),
        (Some(Format::InteractiveMessageTemplate(inner)), None) => {
            let (draft, inside) = card(inner);
            (draft, context.or(inside))
        }
        (Some(Format::FourRowTemplate(rows)), None) => {
            let mut menu = Menu::default();
            let parts = [rows.content.as_option(), rows.footer.as_option()];
            for text in parts.into_iter().flatten().map(structured_text) {
                menu.say(Some(&text));
            }
            (menu.draft(), context)
        }
        (None, None) => (Menu::default().draft(), context),
    }
}

fn hydrated(filled: &m::template_message::HydratedFourRowTemplate) -> Draft {
    use oneof::template_message::hydrated_four_row_template::Title;
    let mut menu = Menu::default();
    match &filled.title {
        Some(Title::HydratedTitleText(title)) => menu.say(Some(title)),
        Some(Title::DocumentMessage(file)) => menu.attach(media::document_file(file)),
        Some(Title::ImageMessage(image)) => menu.attach(media::image_file(image)),
        Some(Title::VideoMessage(video)) => menu.attach(media::video_file(video)),
        Some(Title::LocationMessage(at)) => menu.say(Some(&place::fixed(at).0.content)),
        None => {}
    }
    menu.say(filled.hydrated_content_text.as_deref());
    menu.say(filled.hydrated_footer_text.as_deref());
    for button in &filled.hydrated_buttons {
        match &button.hydrated_button {
            Some(HydratedButton::QuickReplyButton(b)) => {
                menu.offer(b.display_text.as_deref(), b.id.as_deref());
            }
            Some(HydratedButton::UrlButton(b)) => {
                menu.offer(b.display_text.as_deref(), b.url.as_deref());
            }
            Some(HydratedButton::CallButton(b)) => {
                menu.offer(b.display_text.as_deref(), b.phone_number.as_deref());
            }
            None => {}
        }
    }
    menu.draft()
}

/// A template by name, with what is to be filled in.
pub(super) fn structured(message: &m::HighlyStructuredMessage) -> Found<'_> {
    let filled = message.hydrated_hsm.hydrated_template.as_option();
    let mut draft = match filled {
        Some(filled) => hydrated(filled),
        None => summary(structured_text(message)),
    };
    draft.set("template_name", message.element_name.as_ref());
    (draft, message.hydrated_hsm.context_info.as_option())
}

fn structured_text(message: &m::HighlyStructuredMessage) -> String {
    let values = message.params.iter().map(|value| Some(value.as_str()));
    line(
        message.element_name.as_deref().unwrap_or("Template"),
        values,
    )
}

/// A card, or a row of them.
pub(super) fn card(card: &m::InteractiveMessage) -> Found<'_> {
    let mut menu = Menu::default();
    fill(&mut menu, card, true);
    (menu.draft(), card.context_info.as_option())
}

fn fill(menu: &mut Menu, card: &m::InteractiveMessage, outermost: bool) {
    use oneof::interactive_message::InteractiveMessage as Part;
    use oneof::interactive_message::header::Media;
    menu.say(card.header.title.as_deref());
    menu.say(card.header.subtitle.as_deref());
    match &card.header.media {
        Some(Media::DocumentMessage(file)) => menu.attach(media::document_file(file)),
        Some(Media::ImageMessage(image)) => menu.attach(media::image_file(image)),
        Some(Media::VideoMessage(video)) => menu.attach(media::video_file(video)),
        Some(Media::LocationMessage(at)) => menu.say(Some(&place::fixed(at).0.content)),
        Some(Media::ProductMessage(product)) => {
            menu.say(Some(&commerce::product(product).0.content));
        }
        Some(Media::JpegThumbnail(_)) | None => {}
    }
    menu.say(card.body.text.as_deref());
    menu.say(card.footer.text.as_deref());
    match &card.interactive_message {
        Some(Part::NativeFlowMessage(flow)) => {
            for button in &flow.buttons {
                let details = button.button_params_json.as_deref();
                let details: serde_json::Value = details
                    .and_then(|json| serde_json::from_str(json).ok())
                    .unwrap_or_default();
                let of = |keys: &[&str]| {
                    let value = keys.iter().find_map(|key| details[*key].as_str());
                    value.map(str::to_owned)
                };
                let text = of(&["display_text", "title"]).or_else(|| button.name.clone());
                let id = of(&["id", "url", "copy_code", "phone_number"]);
                menu.offer(text.as_deref(), id.as_deref());
            }
        }
        // Carousels do not nest; a hostile one is not followed.
        Some(Part::CarouselMessage(row)) if outermost => {
            for card in &row.cards {
                fill(menu, card, false);
            }
        }
        Some(Part::CarouselMessage(_)) => {}
        Some(Part::ShopStorefrontMessage(shop)) => menu.offer(Some("Shop"), shop.id.as_deref()),
        Some(Part::CollectionMessage(some)) => menu.offer(Some("Collection"), some.id.as_deref()),
        None => {}
    }
}

/// What a menu says, and what it offers: words, and the id, link or number behind them.
#[derive(Default)]
struct Menu {
    said: Vec<String>,
    offers: Vec<(String, Option<String>)>,
    attachments: Vec<AttachmentMeta>,
}

impl Menu {
    fn say(&mut self, text: Option<&str>) {
        let text = text.filter(|text| !text.trim().is_empty());
        self.said.extend(text.map(str::to_owned));
    }

    fn offer(&mut self, text: Option<&str>, id: Option<&str>) {
        let Some(text) = text.or(id).filter(|text| !text.is_empty()) else {
            return;
        };
        self.offers.push((text.to_owned(), id.map(str::to_owned)));
    }

    fn attach(&mut self, file: AttachmentMeta) {
        self.attachments.push(file);
    }

    fn draft(self) -> Draft {
        let offered = self.offers.iter().map(|(text, _)| format!("- {text}"));
        let lines: Vec<String> = self.said.into_iter().chain(offered).collect();
        let mut draft = summary(match lines.is_empty() {
            true => "Menu".to_owned(),
            false => lines.join("\n"),
        });
        if !self.offers.is_empty() {
            let offers = self.offers.iter();
            let offers =
                offers.map(|(text, value)| serde_json::json!({"text": text, "value": value}));
            draft.set("choices", Some(offers.collect::<serde_json::Value>()));
        }
        draft.attachments = self.attachments;
        draft
    }
}

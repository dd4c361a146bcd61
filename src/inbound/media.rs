//! Pictures, videos, sound, documents and stickers, as their messages describe them.

use std::collections::BTreeMap;

use waproto::whatsapp as wa;

use super::content::{Found, line, summary, words};
use super::draft::{AttachmentMeta, Draft};

/// The medium of an unwrapped message, if it is one.
pub(super) fn draft(m: &wa::Message) -> Option<Found<'_>> {
    if let Some(image) = m.image_message.as_option() {
        let extras = [
            number("width", image.width),
            number("height", image.height),
            flag("view_once", image.view_once),
            text("caption", &image.caption),
        ];
        let attachment = attachment("image", &image.mimetype, image.file_length, None, extras);
        return Some((
            captioned(&image.caption, attachment),
            image.context_info.as_option(),
        ));
    }
    let video = m.video_message.as_option();
    if let Some(video) = video.or(m.ptv_message.as_option()) {
        let extras = [
            number("width", video.width),
            number("height", video.height),
            number("duration_seconds", video.seconds),
            flag("gif", video.gif_playback),
            flag("video_note", Some(m.ptv_message.is_set())),
            flag("view_once", video.view_once),
            text("caption", &video.caption),
        ];
        let attachment = attachment("video", &video.mimetype, video.file_length, None, extras);
        return Some((
            captioned(&video.caption, attachment),
            video.context_info.as_option(),
        ));
    }
    if let Some(audio) = m.audio_message.as_option() {
        let extras = [
            number("duration_seconds", audio.seconds),
            flag("ptt", audio.ptt),
            flag("view_once", audio.view_once),
        ];
        let attachment = attachment("audio", &audio.mimetype, audio.file_length, None, extras);
        return Some((captioned(&None, attachment), audio.context_info.as_option()));
    }
    if let Some(file) = m.document_message.as_option() {
        let extras = [
            number("pages", file.page_count),
            text("title", &file.title),
            text("caption", &file.caption),
        ];
        let name = file.file_name.clone();
        let attachment = attachment("document", &file.mimetype, file.file_length, name, extras);
        return Some((
            captioned(&file.caption, attachment),
            file.context_info.as_option(),
        ));
    }
    if let Some(sticker) = m.sticker_message.as_option() {
        let extras = [
            number("width", sticker.width),
            number("height", sticker.height),
            flag("animated", sticker.is_animated),
            text("emojis", &sticker.emojis),
            text("label", &sticker.accessibility_label),
        ];
        let attachment = attachment(
            "sticker",
            &sticker.mimetype,
            sticker.file_length,
            None,
            extras,
        );
        let details = [
            sticker.emojis.as_deref(),
            sticker.accessibility_label.as_deref(),
        ];
        let mut draft = summary(line("Sticker", details));
        draft.attachments.push(attachment);
        return Some((draft, sticker.context_info.as_option()));
    }
    None
}

type Extra = (&'static str, Option<String>);

fn number(key: &'static str, value: Option<u32>) -> Extra {
    (key, value.filter(|&n| n > 0).map(|n| n.to_string()))
}

fn flag(key: &'static str, value: Option<bool>) -> Extra {
    (key, value.filter(|&set| set).map(|_| "true".to_owned()))
}

fn text(key: &'static str, value: &Option<String>) -> Extra {
    (key, value.clone().filter(|text| !text.is_empty()))
}

fn attachment<const N: usize>(
    kind: &str,
    mime_type: &Option<String>,
    size_bytes: Option<u64>,
    name: Option<String>,
    extras: [Extra; N],
) -> AttachmentMeta {
    let extras: BTreeMap<String, String> = extras
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect();
    AttachmentMeta {
        kind: kind.to_owned(),
        mime_type: mime_type.clone().filter(|mime| !mime.is_empty()),
        size_bytes,
        name: name.filter(|name| !name.is_empty()),
        extras,
    }
}

fn captioned(caption: &Option<String>, attachment: AttachmentMeta) -> Draft {
    let mut draft = words(caption.as_deref().unwrap_or_default(), "caption");
    draft.attachments.push(attachment);
    draft
}

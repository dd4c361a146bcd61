//! Pictures, videos, sound, documents and stickers, as their messages describe them; the bytes come another way.

use waproto::whatsapp as wa;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::content::{Found, count, line, summary, words};
use super::draft::{AttachmentMeta, Draft, MediaSource};

/// A message's own small picture is kept up to this size, bytes. Phones make some of 1 to 10 KiB; an event that
/// carries one goes into an agent's prompt.
const THUMBNAIL: usize = 16 << 10;
/// Bars of a voice note's waveform, at most.
const BARS: usize = 64;

/// The same fields in each of the protocol's types of media.
macro_rules! source {
    ($file:expr, $of:expr) => {
        $file.source = MediaSource::new(
            $of.file_sha256.as_ref(),
            $of.direct_path.as_ref(),
            $of.media_key.as_ref(),
            $of.file_enc_sha256.as_ref(),
        )
        .map(|source| MediaSource {
            view_once: $file.extras.contains_key("view_once"),
            ..source
        });
    };
}

/// A picture.
pub(super) fn image(image: &wa::message::ImageMessage) -> Found<'_> {
    let draft = captioned(image.caption.as_ref(), image_file(image));
    (draft, image.context_info.as_option())
}

/// A video or a GIF.
pub(super) fn video(video: &wa::message::VideoMessage) -> Found<'_> {
    let draft = captioned(video.caption.as_ref(), video_file(video));
    (draft, video.context_info.as_option())
}

/// A round video of a moment.
pub(super) fn video_note(note: &wa::message::VideoMessage) -> Found<'_> {
    let mut file = video_file(note);
    put(&mut file, "video_note", Some("true"));
    let draft = captioned(note.caption.as_ref(), file);
    (draft, note.context_info.as_option())
}

/// A voice note, or a sound file.
pub(super) fn audio(audio: &wa::message::AudioMessage) -> Found<'_> {
    let mut file = attachment("audio", audio.mimetype.as_ref(), audio.file_length);
    put(&mut file, "duration_seconds", some(audio.seconds));
    put(&mut file, "ptt", yes(audio.ptt));
    put(&mut file, "view_once", yes(audio.view_once));
    put(&mut file, "waveform", audio.waveform.as_deref().map(bars));
    put(&mut file, "label", audio.accessibility_label.as_ref());
    source!(file, audio);
    (captioned(None, file), audio.context_info.as_option())
}

/// A file.
pub(super) fn document(file: &wa::message::DocumentMessage) -> Found<'_> {
    let draft = captioned(file.caption.as_ref(), document_file(file));
    (draft, file.context_info.as_option())
}

/// A sticker.
pub(super) fn sticker(sticker: &wa::message::StickerMessage) -> Found<'_> {
    let mut file = attachment("sticker", sticker.mimetype.as_ref(), sticker.file_length);
    put(&mut file, "width", some(sticker.width));
    put(&mut file, "height", some(sticker.height));
    put(&mut file, "animated", yes(sticker.is_animated));
    put(&mut file, "lottie", yes(sticker.is_lottie));
    put(&mut file, "avatar", yes(sticker.is_avatar));
    put(&mut file, "ai_generated", yes(sticker.is_ai_sticker));
    put(&mut file, "emojis", sticker.emojis.as_ref());
    put(&mut file, "label", sticker.accessibility_label.as_ref());
    source!(file, sticker);
    let details = [
        sticker.emojis.as_deref(),
        sticker.accessibility_label.as_deref(),
    ];
    let mut draft = summary(line("Sticker", details));
    draft.attachments.push(file);
    (draft, sticker.context_info.as_option())
}

/// A pack of stickers.
pub(super) fn sticker_pack(pack: &wa::message::StickerPackMessage) -> Found<'_> {
    let stickers = count(pack.stickers.len() as i64, "sticker");
    let details = [
        pack.name.as_deref(),
        pack.publisher.as_deref(),
        stickers.as_deref(),
        pack.caption.as_deref(),
    ];
    let mut draft = summary(line("Sticker pack", details));
    draft.set("sticker_pack_id", pack.sticker_pack_id.as_ref());
    draft.set("sticker_pack_name", pack.name.as_ref());
    draft.set("sticker_pack_publisher", pack.publisher.as_ref());
    draft.set("sticker_pack_description", pack.pack_description.as_ref());
    (draft, pack.context_info.as_option())
}

/// What heads an album; its pictures are messages of their own.
pub(super) fn album(album: &wa::message::AlbumMessage) -> Found<'_> {
    let images = count(album.expected_image_count.unwrap_or(0).into(), "picture");
    let videos = count(album.expected_video_count.unwrap_or(0).into(), "video");
    let mut draft = summary(line("Album", [images.as_deref(), videos.as_deref()]));
    draft.set("album_images", album.expected_image_count);
    draft.set("album_videos", album.expected_video_count);
    (draft, album.context_info.as_option())
}

/// A picture's description.
pub(super) fn image_file(image: &wa::message::ImageMessage) -> AttachmentMeta {
    use wa::message::image_message::ImageSourceType as Source;
    let mut file = attachment("image", image.mimetype.as_ref(), image.file_length);
    put(&mut file, "width", some(image.width));
    put(&mut file, "height", some(image.height));
    put(&mut file, "view_once", yes(image.view_once));
    put(&mut file, "caption", image.caption.as_ref());
    put(&mut file, "label", image.accessibility_label.as_ref());
    let artificial = matches!(
        image.image_source_type,
        Some(Source::AI_GENERATED | Source::AI_MODIFIED)
    );
    put(&mut file, "ai_generated", yes(Some(artificial)));
    file.thumbnail = thumbnail(image.jpeg_thumbnail.as_ref());
    source!(file, image);
    file
}

/// A video's description.
pub(super) fn video_file(video: &wa::message::VideoMessage) -> AttachmentMeta {
    use wa::message::video_message::VideoSourceType as Source;
    let mut file = attachment("video", video.mimetype.as_ref(), video.file_length);
    put(&mut file, "width", some(video.width));
    put(&mut file, "height", some(video.height));
    put(&mut file, "duration_seconds", some(video.seconds));
    put(&mut file, "gif", yes(video.gif_playback));
    put(&mut file, "view_once", yes(video.view_once));
    put(&mut file, "caption", video.caption.as_ref());
    put(&mut file, "label", video.accessibility_label.as_ref());
    let artificial = video.video_source_type == Some(Source::AI_GENERATED);
    put(&mut file, "ai_generated", yes(Some(artificial)));
    file.thumbnail = thumbnail(video.jpeg_thumbnail.as_ref());
    source!(file, video);
    file
}

/// A file's description.
pub(super) fn document_file(document: &wa::message::DocumentMessage) -> AttachmentMeta {
    let mut file = attachment("document", document.mimetype.as_ref(), document.file_length);
    file.name = document.file_name.clone().filter(|name| !name.is_empty());
    put(&mut file, "pages", some(document.page_count));
    put(&mut file, "title", document.title.as_ref());
    put(&mut file, "caption", document.caption.as_ref());
    put(&mut file, "contact_card", yes(document.contact_vcard));
    put(&mut file, "label", document.accessibility_label.as_ref());
    file.thumbnail = thumbnail(document.jpeg_thumbnail.as_ref());
    source!(file, document);
    file
}

/// A file of which nothing else is known.
pub(super) fn attachment(
    kind: &str,
    mime_type: Option<&String>,
    size_bytes: Option<u64>,
) -> AttachmentMeta {
    AttachmentMeta {
        kind: kind.to_owned(),
        mime_type: mime_type.cloned().filter(|mime| !mime.is_empty()),
        size_bytes,
        ..AttachmentMeta::default()
    }
}

/// Loudness over time, 0 to 100, as a list.
fn bars(waveform: &[u8]) -> String {
    let bars = waveform.iter().take(BARS);
    let bars: Vec<String> = bars.map(|bar| bar.min(&100).to_string()).collect();
    bars.join(",")
}

/// None for what is no JPEG, or is too large to be a thumbnail.
fn thumbnail(jpeg: Option<&Vec<u8>>) -> Option<String> {
    jpeg.filter(|jpeg| jpeg.len() <= THUMBNAIL && jpeg.starts_with(&[0xFF, 0xD8, 0xFF]))
        .map(|jpeg| STANDARD.encode(jpeg))
}

fn some(value: Option<u32>) -> Option<u32> {
    value.filter(|&n| n > 0)
}

fn yes(value: Option<bool>) -> Option<bool> {
    value.filter(|&set| set)
}

fn put(file: &mut AttachmentMeta, key: &str, value: Option<impl ToString>) {
    let value = value.map(|value| value.to_string());
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        file.extras.insert(key.to_owned(), value);
    }
}

fn captioned(caption: Option<&String>, attachment: AttachmentMeta) -> Draft {
    let mut draft = words(caption.map_or("", String::as_str), "caption");
    draft.attachments.push(attachment);
    draft
}

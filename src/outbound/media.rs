//! Files as WhatsApp messages.
//!
//! Invariant: a message says of its file what the file's bytes say, not what the sender claimed. Where the file is at
//! WhatsApp may not be known yet; the message is complete but for that.

use waproto::whatsapp as wa;

use super::mentions::{self, Forms};
use super::{Sent, said};
use crate::media::probe::{Kind, Probed};
use crate::store::{StagedName, Uploaded};

/// Longest caption, in characters, as the phones take them; a longer text goes before the file.
const CAPTION: usize = 1024;
/// What a voice note is, in the words of WhatsApp's own clients: others do not play it.
const VOICE: &str = "audio/ogg; codecs=opus";

/// A file to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// File name, for a document.
    pub name: String,
    /// What it is.
    pub probed: Probed,
    /// Its hashes, its key, and once it is uploaded its place.
    pub file: Uploaded,
    /// Where it lies until then.
    pub staged: Option<StagedName>,
}

/// The media type that WhatsApp encrypts a kind as.
pub fn encrypted_as(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Video | Kind::Gif => "video",
        Kind::Audio | Kind::Voice => "audio",
        Kind::Sticker => "sticker",
        Kind::Document => "document",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Video => "video",
        Kind::Gif => "gif",
        Kind::Audio => "audio",
        Kind::Voice => "voice",
        Kind::Sticker => "sticker",
        Kind::Document => "document",
    }
}

fn takes_caption(kind: Kind) -> bool {
    matches!(kind, Kind::Image | Kind::Video | Kind::Gif | Kind::Document)
}

/// Texts and files in their order: the text as caption of the first file where that takes one and the text is short
/// enough, else before the files. What comes first quotes.
pub(super) fn content(
    texts: Vec<String>,
    attachments: &[Attachment],
    quote: &mut Option<wa::ContextInfo>,
    forms: &Forms,
) -> Vec<Sent> {
    let Some(first) = attachments.first() else {
        return said(texts, quote, forms);
    };
    let captioned = takes_caption(first.probed.kind)
        && matches!(texts.as_slice(), [text] if text.chars().count() <= CAPTION);
    let (texts, mut caption) = match captioned {
        true => (Vec::new(), texts.into_iter().next()),
        false => (texts, None),
    };
    let mut messages = said(texts, quote, forms);
    for attachment in attachments {
        let (caption, mentioned) = match caption.take() {
            Some(text) => {
                let (text, mentioned) = mentions::resolve(&text, forms);
                (Some(text), mentioned)
            }
            None => (None, Vec::new()),
        };
        let mut context = quote.take();
        if !mentioned.is_empty() {
            context.get_or_insert_default().mentioned_jid = mentioned;
        }
        let message = message(attachment, caption, context);
        messages.push(Sent {
            kind: word(attachment.probed.kind),
            message,
            file: attachment.staged.clone(),
        });
    }
    messages
}

fn message(
    attachment: &Attachment,
    caption: Option<String>,
    context: Option<wa::ContextInfo>,
) -> wa::Message {
    let Attachment {
        name, probed, file, ..
    } = attachment;
    let place = |place: &str| (!place.is_empty()).then(|| place.to_owned());
    // The fields that all kinds have, and a few more.
    macro_rules! of {
        ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {
            wa::message::$type {
                url: place(&file.url),
                direct_path: place(&file.direct_path),
                mimetype: Some(probed.mime_type.clone()),
                media_key: Some(file.media_key.clone()),
                media_key_timestamp: Some(file.keyed),
                file_sha256: Some(file.sha256.clone()),
                file_enc_sha256: Some(file.enc_sha256.clone()),
                file_length: Some(file.length),
                context_info: context.map_or_else(Default::default, Into::into),
                $($field: $value,)*
                ..wa::message::$type::default()
            }
            .into()
        };
    }
    let mut message = wa::Message::default();
    match probed.kind {
        Kind::Image => {
            message.image_message = of!(ImageMessage {
                caption: caption,
                width: probed.width,
                height: probed.height,
                jpeg_thumbnail: probed.thumbnail.clone(),
            });
        }
        Kind::Video | Kind::Gif => {
            message.video_message = of!(VideoMessage {
                caption: caption,
                width: probed.width,
                height: probed.height,
                seconds: probed.seconds,
                gif_playback: (probed.kind == Kind::Gif).then_some(true),
                jpeg_thumbnail: probed.thumbnail.clone(),
                streaming_sidecar: file.sidecar.clone(),
            });
        }
        Kind::Audio => {
            message.audio_message = of!(AudioMessage {
                seconds: probed.seconds,
                ptt: Some(false),
                streaming_sidecar: file.sidecar.clone(),
            });
        }
        Kind::Voice => {
            let voice: wa::message::AudioMessage = of!(AudioMessage {
                seconds: probed.seconds,
                ptt: Some(true),
                waveform: probed.waveform.clone(),
                streaming_sidecar: file.sidecar.clone(),
            });
            message.audio_message = wa::message::AudioMessage {
                mimetype: Some(VOICE.to_owned()),
                ..voice
            }
            .into();
        }
        Kind::Sticker => {
            message.sticker_message = of!(StickerMessage {
                width: probed.width,
                height: probed.height,
                is_animated: Some(probed.animated),
            });
        }
        Kind::Document => {
            message.document_message = of!(DocumentMessage {
                caption: caption,
                file_name: Some(name.clone()),
                title: Some(name.clone()),
                jpeg_thumbnail: probed.thumbnail.clone(),
            });
        }
    }
    message
}

/// Where the file of a message is at WhatsApp.
pub(super) struct Place<'a> {
    /// It is encrypted, as all are but those of newsletters.
    pub(super) sealed: bool,
    url: &'a mut Option<String>,
    direct_path: &'a mut Option<String>,
}

impl Place<'_> {
    /// Nothing says where it is: it waits for its upload.
    pub(super) fn is_unknown(&self) -> bool {
        self.url.is_none() && self.direct_path.is_none()
    }

    /// It is here now. A URL says where it was.
    pub(super) fn moved(self, direct_path: &str) {
        if self.direct_path.as_deref() != Some(direct_path) {
            *self.direct_path = Some(direct_path.to_owned());
            *self.url = None;
        }
    }
}

/// Where the file of a message is, if it has one.
pub(super) fn place(message: &mut wa::Message) -> Option<Place<'_>> {
    macro_rules! of {
        ($($kind:ident),+) => {
            $(if message.$kind.is_set() {
                let kind = message.$kind.as_option_mut()?;
                return Some(Place {
                    sealed: kind.media_key.is_some(),
                    url: &mut kind.url,
                    direct_path: &mut kind.direct_path,
                });
            })+
        };
    }
    of!(
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message
    );
    None
}

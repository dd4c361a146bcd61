//! Media that people send and fetch, encrypted by the client and kept by the server's media store.

use anyhow::{Result, bail};
use wacore::download::{Downloadable, MediaType};
use wacore::proto_helpers::MessageExt as _;
use wacore_binary::Jid;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_rust::UploadOptions;
use whatsapp_rust::media::{
    AudioOptions, DocumentOptions, ImageOptions, VideoOptions, audio_message, document_message,
    image_message, video_message,
};
use whatsapp_rust::upload::UploadResponse;

use super::{Person, SeenMessage};

/// A voice note's particulars.
#[derive(Clone, Debug, Default)]
pub struct Voice {
    /// Length in seconds.
    pub seconds: u32,
    /// Loudness over time, 64 values of 0 to 100.
    pub waveform: Option<Vec<u8>>,
}

impl Person {
    /// Sends a JPEG and returns the message's id.
    ///
    /// # Errors
    /// The person is offline, or the upload or the client failed.
    pub async fn image(
        &self,
        to: impl Into<Jid>,
        jpeg: &[u8],
        caption: Option<&str>,
    ) -> Result<String> {
        let upload = self.upload(jpeg, MediaType::Image).await?;
        let options = ImageOptions {
            caption: caption.map(str::to_owned),
            ..ImageOptions::default()
        };
        self.send(to, image_message(upload, options)).await
    }

    /// Sends an MP4 and returns the message's id.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn video(
        &self,
        to: impl Into<Jid>,
        mp4: &[u8],
        caption: Option<&str>,
    ) -> Result<String> {
        let upload = self.upload(mp4, MediaType::Video).await?;
        let options = VideoOptions {
            caption: caption.map(str::to_owned),
            ..VideoOptions::default()
        };
        self.send(to, video_message(upload, options)).await
    }

    /// Sends an audio file and returns the message's id.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn audio(&self, to: impl Into<Jid>, bytes: &[u8], mimetype: &str) -> Result<String> {
        let upload = self.upload(bytes, MediaType::Audio).await?;
        let options = AudioOptions {
            mimetype: Some(mimetype.to_owned()),
            ..AudioOptions::default()
        };
        self.send(to, audio_message(upload, options)).await
    }

    /// Sends a voice note (Opus in Ogg) and returns the message's id.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn voice(&self, to: impl Into<Jid>, opus: &[u8], voice: Voice) -> Result<String> {
        let upload = self.upload(opus, MediaType::Audio).await?;
        let options = AudioOptions {
            ptt: Some(true),
            duration_seconds: Some(voice.seconds),
            waveform: voice.waveform,
            ..AudioOptions::default()
        };
        self.send(to, audio_message(upload, options)).await
    }

    /// Sends a file and returns the message's id.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn document(
        &self,
        to: impl Into<Jid>,
        bytes: &[u8],
        name: &str,
        mimetype: &str,
    ) -> Result<String> {
        let upload = self.upload(bytes, MediaType::Document).await?;
        let options = DocumentOptions {
            file_name: Some(name.to_owned()),
            mimetype: Some(mimetype.to_owned()),
            ..DocumentOptions::default()
        };
        self.send(to, document_message(upload, options)).await
    }

    /// Sends a WebP sticker and returns the message's id.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn sticker(&self, to: impl Into<Jid>, webp: &[u8]) -> Result<String> {
        let upload = self.upload(webp, MediaType::Sticker).await?;
        let sticker = wa::message::StickerMessage {
            url: Some(upload.url),
            direct_path: Some(upload.direct_path),
            media_key: Some(upload.media_key.to_vec()),
            file_sha256: Some(upload.file_sha256.to_vec()),
            file_enc_sha256: Some(upload.file_enc_sha256.to_vec()),
            file_length: Some(upload.file_length),
            media_key_timestamp: Some(upload.media_key_timestamp),
            mimetype: Some("image/webp".to_owned()),
            ..Default::default()
        };
        let message = wa::Message {
            sticker_message: MessageField::some(sticker),
            ..Default::default()
        };
        self.send(to, message).await
    }

    /// Encrypts and uploads, for messages that are put together by hand.
    ///
    /// # Errors
    /// As [`Person::image`].
    pub async fn upload(&self, bytes: &[u8], kind: MediaType) -> Result<UploadResponse> {
        self.client()
            .await?
            .upload(bytes.to_vec(), kind, UploadOptions::new())
            .await
    }

    /// Fetches and decrypts what a message carries.
    ///
    /// # Errors
    /// The message carries no media, or they could not be fetched.
    pub async fn download(&self, message: &SeenMessage) -> Result<Vec<u8>> {
        let content = message.message.get_base_message();
        let image = content
            .image_message
            .as_option()
            .map(|media| media as &dyn Downloadable);
        let video = content
            .video_message
            .as_option()
            .map(|media| media as &dyn Downloadable);
        let audio = content
            .audio_message
            .as_option()
            .map(|media| media as &dyn Downloadable);
        let file = content
            .document_message
            .as_option()
            .map(|media| media as &dyn Downloadable);
        let sticker = content
            .sticker_message
            .as_option()
            .map(|media| media as &dyn Downloadable);
        let Some(media) = image.or(video).or(audio).or(file).or(sticker) else {
            bail!("{} carries no media", message.id());
        };
        self.client().await?.download(media).await
    }
}

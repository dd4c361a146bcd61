//! What the tests of media share: files to send, what events say of them, and where they are.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wacore::download::MediaType;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_loopback::people::Person;
use whatsapp_rust::upload::UploadResponse;

use super::{Host, World, open, timeout};

/// Bytes that nobody else sends.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// An event's only attachment.
pub fn attachment(event: &Value) -> &Value {
    let all = event["message"]["attachments"]
        .as_array()
        .expect("attachments");
    assert_eq!(all.len(), 1, "{event}");
    &all[0]
}

/// What it says of the attachment under this key.
pub fn extra<'a>(event: &'a Value, key: &str) -> &'a str {
    attachment(event)["extras"][key]
        .as_str()
        .unwrap_or_default()
}

/// The file behind an attachment's URL.
pub fn file(attachment: &Value) -> PathBuf {
    let url = attachment["url"]
        .as_str()
        .unwrap_or_else(|| panic!("no file: {attachment}"));
    PathBuf::from(url.strip_prefix("file://").expect("a file"))
}

/// The files of the store, those that are being written included.
pub fn files(world: &World) -> Vec<PathBuf> {
    let folder = world.account_dir().join("media");
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.is_file())
            .collect()
    };
    [inside(&folder), inside(&folder.join("part"))].concat()
}

/// As much of a JPEG as anybody looks at.
pub const THUMBNAIL: [u8; 4] = [0xFF, 0xD8, 0xFF, 0xE0];

/// What is said of an upload in each of the protocol's types of media.
macro_rules! uploaded {
    ($type:ident, $mime_type:expr, $upload:expr) => {
        wa::message::$type {
            direct_path: Some($upload.direct_path.clone()),
            media_key: Some($upload.media_key.to_vec()),
            file_sha256: Some($upload.file_sha256.to_vec()),
            file_enc_sha256: Some($upload.file_enc_sha256.to_vec()),
            file_length: Some($upload.file_length),
            mimetype: Some($mime_type.to_owned()),
            ..Default::default()
        }
    };
}

/// The picture that was uploaded.
pub fn image(upload: &UploadResponse) -> wa::message::ImageMessage {
    uploaded!(ImageMessage, "image/jpeg", upload)
}

/// The video that was uploaded.
pub fn clip(upload: &UploadResponse) -> wa::message::VideoMessage {
    wa::message::VideoMessage {
        seconds: Some(7),
        width: Some(320),
        height: Some(240),
        jpeg_thumbnail: Some(THUMBNAIL.to_vec()),
        ..uploaded!(VideoMessage, "video/mp4", upload)
    }
}

/// The account's database.
pub fn channel(world: &World) -> rusqlite::Connection {
    let path = world.account_dir().join("channel.db");
    rusqlite::Connection::open(path).expect("channel.db")
}

/// The voice note that was uploaded.
pub fn voice(upload: &UploadResponse) -> wa::message::AudioMessage {
    wa::message::AudioMessage {
        ptt: Some(true),
        ..uploaded!(AudioMessage, "audio/ogg; codecs=opus", upload)
    }
}

/// The sticker that was uploaded.
pub fn sticker(upload: &UploadResponse) -> wa::message::StickerMessage {
    uploaded!(StickerMessage, "image/webp", upload)
}

/// The file that was uploaded.
pub fn document(upload: &UploadResponse) -> wa::message::DocumentMessage {
    uploaded!(DocumentMessage, "application/zip", upload)
}

/// A message with it.
pub fn picture(image: wa::message::ImageMessage) -> wa::Message {
    wa::Message {
        image_message: MessageField::some(image),
        ..Default::default()
    }
}

/// A host that lets everybody in.
pub async fn start(world: &World, media: Value) -> Host {
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config(media)}))
        .await;
    host
}

/// Lets everybody in.
pub fn config(media: Value) -> Value {
    let mut config = open();
    config["media"] = media;
    config
}

/// Uploads a picture that is to be sent by hand.
pub async fn upload(person: &Person, content: &[u8]) -> wa::message::ImageMessage {
    let upload = person
        .upload(content, MediaType::Image)
        .await
        .expect("upload");
    image(&upload)
}

/// Sends it to the plugin's account.
pub async fn send(person: &Person, world: &World, image: &wa::message::ImageMessage) -> String {
    let sent = person.send(world.jid(), picture(image.clone())).await;
    sent.expect("picture")
}

/// What `media get` writes to stdout, or says instead.
pub async fn get(world: &World, key: &str, more: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = world.command();
    command.args(["media", "get", key]).args(more);
    command.stderr(std::process::Stdio::piped());
    let output = timeout(command.output()).await.expect("output");
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Lets the media server hold files of 1 GiB.
pub fn room_for_large(world: &World) {
    let limits = whatsapp_loopback::media::MediaLimits {
        blob: 2 << 30,
        total: 4 << 30,
    };
    world.server.core().media.set_limits(limits);
}

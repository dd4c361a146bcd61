//! Files that the account's phone still has, and uploads again when a device asks for one that has expired.

use buffa::Message as _;
use wacore::crypto::hkdf_sha256_into;
use wacore::media_retry::decrypt_media_retry_notification;
use wacore_libsignal::crypto::aes_256_gcm_encrypt;
use waproto::whatsapp::{
    MediaRetryNotification, ServerErrorReceipt, media_retry_notification::ResultType,
};

use super::{Blob, MediaStore, without_query};

/// A file that the phone has.
pub(super) struct OnPhone {
    media_key: Vec<u8>,
    path: String,
    /// The chat of its message, and in groups who wrote it. None if any will do.
    said: Option<(String, String)>,
}

/// What a device says that it misses: the message, as a `server-error` receipt names it.
pub(crate) struct Missed<'a> {
    pub(crate) id: &'a str,
    pub(crate) chat: &'a str,
    /// Empty if there is none.
    pub(crate) participant: &'a str,
    pub(crate) from_me: &'a str,
    /// A `ServerErrorReceipt` that is encrypted with the file's key.
    pub(crate) payload: &'a [u8],
    pub(crate) iv: &'a [u8],
}

/// What the phone answers, encrypted with the file's key: the payload and its initialisation vector.
pub(crate) struct Answer {
    pub(crate) payload: Vec<u8>,
    pub(crate) iv: [u8; 12],
}

impl MediaStore {
    /// The phone has the file of this message, which was uploaded to `path`: asked for it, it uploads it again, to a
    /// path of its own.
    pub fn phone_keeps(&self, message_id: &str, media_key: &[u8], path: &str) {
        self.keeps(message_id, media_key, path, None);
    }

    /// The same of a message that others sent, which the phone finds only if it is asked for by its chat and, in a group, by
    /// who wrote it; `participant` is empty elsewhere.
    pub fn phone_keeps_of(
        &self,
        (chat, participant): (&str, &str),
        message_id: &str,
        media_key: &[u8],
        path: &str,
    ) {
        let said = (chat.to_owned(), participant.to_owned());
        self.keeps(message_id, media_key, path, Some(said));
    }

    fn keeps(&self, id: &str, media_key: &[u8], path: &str, said: Option<(String, String)>) {
        let kept = OnPhone {
            media_key: media_key.to_vec(),
            path: without_query(path).to_owned(),
            said,
        };
        self.state().on_phone.insert(id.to_owned(), kept);
    }

    /// From now on the phone answers to nobody who misses a file, or does again.
    pub fn silence_phone(&self, silent: bool) {
        self.state().phone_silent = silent;
    }

    /// How often a phone was asked for a file.
    pub fn missed(&self) -> u64 {
        self.state().missed
    }

    /// Somebody asks; whether the phone answers at all.
    pub(crate) fn misses(&self) -> bool {
        let mut state = self.state();
        state.missed += 1;
        !state.phone_silent
    }

    /// How often a phone has uploaded a file again.
    pub fn uploaded_again(&self) -> u64 {
        self.state().again
    }

    /// Uploads the file of this message again; `None` if the phone has it not.
    pub(crate) fn upload_again(&self, missed: &Missed<'_>) -> Option<Answer> {
        let message_id = missed.id;
        let mut state = self.state();
        let kept = state.on_phone.get(message_id)?;
        let said = (missed.chat, missed.participant, missed.from_me);
        if let Some((chat, participant)) = &kept.said
            && said != (chat, participant, "false")
        {
            return None;
        }
        // Request and answer are encrypted alike.
        let (payload, iv) = (missed.payload, missed.iv);
        let plain = decrypt_media_retry_notification(&kept.media_key, message_id, iv, payload);
        let receipt = ServerErrorReceipt::decode_from_slice(&plain.ok()?).ok()?;
        if receipt.stanza_id.as_deref() != Some(message_id) {
            return None;
        }
        let (media_key, old) = (kept.media_key.clone(), kept.path.clone());
        let (bytes, kind) = state
            .blobs
            .get(&old)
            .map(|blob| (blob.bytes.clone(), blob.kind))?;
        state.reserve(bytes.len() as u64)?;
        state.again += 1;
        let path = format!("{}-{}.enc", old.trim_end_matches(".enc"), state.again);
        let blob = Blob {
            bytes,
            kind,
            expired: None,
        };
        state.blobs.insert(path.clone(), blob);
        drop(state);
        let notification = MediaRetryNotification {
            stanza_id: Some(message_id.to_owned()),
            direct_path: Some(path),
            result: Some(ResultType::SUCCESS),
            ..Default::default()
        };
        let mut key = [0; 32];
        hkdf_sha256_into(
            &media_key,
            None,
            b"WhatsApp Media Retry Notification",
            &mut key,
        )
        .ok()?;
        let mut iv = [0; 12];
        fastrand::fill(&mut iv);
        let mut payload = Vec::new();
        let plain = notification.encode_to_vec();
        aes_256_gcm_encrypt(&key, &iv, message_id.as_bytes(), &plain, &mut payload).ok()?;
        Some(Answer { payload, iv })
    }
}

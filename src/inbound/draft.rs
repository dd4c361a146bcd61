use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waproto::whatsapp as wa;

use crate::identity::Address;

/// What a WhatsApp message says, before anybody decided whether and to whom it is told.
/// It is stored as JSON, so every field that may be missing has a default: an older file must stay readable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    /// `message.received`, `message.edited`, `reaction.added` and so on.
    pub event_type: String,
    /// The text for the agent; never empty.
    pub content: String,
    /// Where `content` came from: `text`, `caption`, or `summary` for a line that we wrote.
    pub content_origin: String,
    /// The message that this one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quoted>,
    /// Who is mentioned, in the order of the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<Address>,
    /// The message that an edit, a revocation, a reaction or a vote is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_message_id: Option<String>,
    /// Media, as the message describes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<AttachmentMeta>,
    /// Structured details of the kind, for `message.metadata`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

pub(super) const TARGET_SENDER: &str = "target_sender";

impl Draft {
    /// Adds a detail, if it is known and not empty.
    pub(super) fn set(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value
            .map(|value| value.to_string())
            .filter(|v| !v.is_empty())
        {
            self.metadata.insert(key.to_owned(), value);
        }
    }

    /// Says which message this one is about.
    pub(super) fn about(mut self, key: &wa::MessageKey) -> Self {
        self.target_message_id = key.id.clone().filter(|id| !id.is_empty());
        self.set(TARGET_SENDER, key.participant.as_ref());
        // Written from where the sender stands. Direct chats have no participant: what is not theirs is ours.
        self.set("target_from_sender", key.from_me);
        self
    }

    /// Whether the message was written elsewhere and passed on.
    pub fn is_forwarded(&self) -> bool {
        self.metadata.contains_key("forwarded")
    }

    /// Who wrote the message that this one answers, or that a reaction, a vote or another change is about, as far as
    /// the sender says.
    pub fn refers_to(&self) -> Option<Address> {
        let quoted = self
            .reply_to
            .as_ref()
            .and_then(|quoted| quoted.sender.clone());
        quoted.or_else(|| self.metadata.get(TARGET_SENDER)?.parse().ok())
    }
}

/// A quoted message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quoted {
    /// Its stanza id.
    pub stanza_id: String,
    /// Who wrote it, if the quote says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Address>,
    /// What it said, as far as the quote carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One medium, as the message describes it; the bytes are elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AttachmentMeta {
    /// `image`, `video`, `audio`, `document` or `sticker`.
    pub kind: String,
    /// What the sender says it is; not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Size of the plain file, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// The file name of a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Width, height, duration, `ptt`, caption and the like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extras: BTreeMap<String, String>,
    /// A small JPEG of it that came with the message, as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
    /// Where the bytes are, if the message says enough to fetch and to verify them. The store keeps it apart.
    #[serde(skip)]
    pub source: Option<MediaSource>,
}

/// Where WhatsApp keeps the bytes of a medium, and what they must turn out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSource {
    /// SHA-256 of the plain file.
    pub sha256: [u8; 32],
    /// Path at the media hosts; begins with a slash, so that it cannot name another host.
    pub direct_path: String,
    /// What decrypts it; newsletters' media is not encrypted.
    pub key: Option<Vec<u8>>,
    /// SHA-256 of the encrypted file.
    pub enc_sha256: Option<Vec<u8>>,
    /// To be seen once.
    pub view_once: bool,
}

impl MediaSource {
    /// Whether it is the very same encrypted file. What is not encrypted is the same only at the same path.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (&self.sha256, &self.key, &self.enc_sha256)
            == (&other.sha256, &other.key, &other.enc_sha256)
            && (self.key.is_some() || self.direct_path == other.direct_path)
    }

    /// None for what cannot be fetched, or could not be verified once it is.
    pub(super) fn new(
        sha256: Option<&Vec<u8>>,
        direct_path: Option<&String>,
        key: Option<&Vec<u8>>,
        enc_sha256: Option<&Vec<u8>>,
    ) -> Option<Self> {
        let sealed = key.is_some_and(|key| !key.is_empty());
        let path = direct_path.filter(|path| {
            path.len() <= LONGEST_PATH
                && path.starts_with('/')
                && path.bytes().all(|b| b.is_ascii_graphic())
        })?;
        Some(Self {
            sha256: sha256?.as_slice().try_into().ok()?,
            direct_path: path.clone(),
            key: key.filter(|_| sealed).cloned(),
            enc_sha256: match sealed {
                // It is part of the file's URL.
                true => Some(enc_sha256?.clone()),
                false => None,
            },
            view_once: false,
        })
    }
}

/// Real ones have some hundred bytes.
const LONGEST_PATH: usize = 2048;

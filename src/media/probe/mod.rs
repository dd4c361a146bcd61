//! What a file is, by its bytes, and what WhatsApp shows it as.
//!
//! Invariant: a claim about a file never decides what it is, it can only be refuted. Sizes are read before anything is
//! decoded, and every loop over a file's inside has a bound that does not come from the file.

mod boxes;
mod claim;
mod kind;
mod opus;
mod picture;
mod sniff;
mod sound;

use std::io::{self, Read, Seek, SeekFrom};

/// What WhatsApp sends it as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture in the chat: JPEG or PNG.
    Image,
    /// A video in the chat: MP4 or 3GP.
    Video,
    /// A video that plays by itself, in a loop and without sound. Always MP4.
    Gif,
    /// Sound with a player.
    Audio,
    /// A voice note, Opus in Ogg.
    Voice,
    /// A sticker, WebP.
    Sticker,
    /// A file to open elsewhere.
    Document,
}

/// What is said of a file and asked for. None of it is trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its sender's file name; may be empty.
    pub name: String,
    /// Its sender's MIME type; may be empty. What the bytes refute is an error.
    pub mime_type: String,
    /// What others call the file, as the server that it was fetched from; both may be empty. It counts where its sender
    /// says nothing, and where the bytes refute it, it never was said.
    pub hint: Hint,
    /// As a voice note.
    pub voice: bool,
    /// As a video that plays like a GIF.
    pub gif: bool,
    /// As a sticker.
    pub sticker: bool,
    /// As a document, whatever it is.
    pub document: bool,
}

/// Somebody else's name and MIME type of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hint {
    /// File name.
    pub name: String,
    /// MIME type.
    pub mime_type: String,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What it is sent as.
    pub kind: Kind,
    /// The type to send along.
    pub mime_type: String,
    /// In pixels, as shown: a picture or video that is stored turned has its sides exchanged.
    pub width: Option<u32>,
    /// In pixels, as shown.
    pub height: Option<u32>,
    /// Duration of video and sound, rounded up.
    pub seconds: Option<u32>,
    /// A small JPEG.
    pub thumbnail: Option<Vec<u8>>,
    /// Loudness of a voice note in 64 steps from 0 to 100. None where it cannot be told.
    pub waveform: Option<Vec<u8>>,
    /// Whether a sticker moves.
    pub animated: bool,
    /// A wish that cannot be honoured, as a sentence for who had it. The rest of this is what can be sent in its place.
    pub unmet: Option<String>,
}

impl Probed {
    fn new(kind: Kind, mime_type: impl Into<String>) -> Self {
        Self {
            kind,
            mime_type: mime_type.into(),
            width: None,
            height: None,
            seconds: None,
            thumbnail: None,
            waveform: None,
            animated: false,
            unmet: None,
        }
    }
}

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The bytes refute the claim.
    #[error(
        "the attachment was given as {claimed} but its bytes are {found}; correct mime_type and name, or leave mime_type out"
    )]
    Mismatch {
        claimed: String,
        found: &'static str,
    },
    /// It begins as its type does, and goes on as nothing of that type.
    #[error(
        "the attachment cannot be read as {mime_type}: {reason}; make the file anew, or send it as it is with metadata.as=document"
    )]
    Unreadable {
        mime_type: &'static str,
        reason: String,
    },
    /// It has no bytes.
    #[error("the attachment is empty; WhatsApp takes no empty file")]
    Empty,
    /// The file is gone, or the disk fails.
    #[error("the staged attachment cannot be read: {0}; check the disk")]
    Io(#[from] io::Error),
}

impl ProbeError {
    /// The code of this error on the wire.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Mismatch { .. } => "attachment_mismatch",
            Self::Unreadable { .. } => "attachment_unreadable",
            Self::Empty => "attachment_empty",
            Self::Io(_) => "store_failed",
        }
    }
}

/// How much of a file's beginning is looked at to tell what it is.
pub const HEAD: u64 = 8 << 10;

/// Tells what `file` is. Blocks; takes up to about 150 MiB for a moment while a large picture becomes a thumbnail.
///
/// # Errors
/// See [`ProbeError`].
pub fn probe(file: &mut (impl Read + Seek), wanted: &Wanted) -> Result<Probed, ProbeError> {
    let size = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    let beginning = Beginning::of(&head, size, wanted);
    let document = beginning.document(size, wanted)?;
    let read = match beginning.to_be_read(wanted) {
        // Of what is not known to be a picture, sound or video, broken ones are just files.
        Some(found) => match kind::of(file, found, size) {
            Err(ProbeError::Unreadable { .. }) if beginning.claimed.is_none() => None,
            read => read?,
        },
        None => None,
    };
    let mut probed = read.unwrap_or(document);
    probed.unmet = unmet(&mut probed, wanted);
    Ok(probed)
}

/// Whether a file that begins like this, with [`HEAD`] bytes or all that it has, is a document whatever follows.
pub fn is_document(head: &[u8], wanted: &Wanted) -> bool {
    let beginning = Beginning::of(head, head.len() as u64, wanted);
    beginning.to_be_read(wanted).is_none()
}

/// Tells what a file of `size` bytes is of which that is known.
///
/// # Errors
/// See [`ProbeError`].
pub fn document(head: &[u8], size: u64, wanted: &Wanted) -> Result<Probed, ProbeError> {
    let mut probed = Beginning::of(head, size, wanted).document(size, wanted)?;
    probed.unmet = unmet(&mut probed, wanted);
    Ok(probed)
}

/// A wish for a document is met by every file.
fn unmet(probed: &mut Probed, wanted: &Wanted) -> Option<String> {
    match wanted.document {
        true => None,
        false => kind::wish(probed, wanted),
    }
}

/// What is known of a file by its beginning and what is said of it.
struct Beginning<'a> {
    head: &'a [u8],
    claimed: Option<String>,
    /// What others say, as long as the bytes do not refute it.
    hint: Option<String>,
    /// What the bytes say.
    found: Option<&'static str>,
}

impl<'a> Beginning<'a> {
    fn of(head: &'a [u8], size: u64, wanted: &Wanted) -> Self {
        let claimed = claim::claimed(&wanted.name, &wanted.mime_type);
        let hint = claim::claimed(&wanted.hint.name, &wanted.hint.mime_type);
        let hint = hint.filter(|_| claimed.is_none());
        // Text may begin with the mark of anything, and is then still text.
        let is_text = |said: &Option<String>| said.as_ref().is_some_and(|c| c.starts_with("text/"));
        let text = is_text(&claimed) || is_text(&hint) && claim::text(head);
        let found = sniff::sniff(head, size).filter(|_| !text);
        let hint = hint.filter(|hint| claim::check(hint, found).is_ok());
        Self {
            head,
            claimed,
            hint,
            found,
        }
    }

    /// Its type if more of it must be read to tell what it is sent as.
    fn to_be_read(&self, wanted: &Wanted) -> Option<&'static str> {
        let found = self.found.filter(|_| !wanted.document);
        found.filter(|found| kind::format(found).is_some())
    }

    /// What it is as a document.
    fn document(&self, size: u64, wanted: &Wanted) -> Result<Probed, ProbeError> {
        if size == 0 {
            return Err(ProbeError::Empty);
        }
        if let Some(claimed) = self.claimed.as_ref().filter(|_| !wanted.document) {
            claim::check(claimed, self.found)?;
        }
        let said = self.claimed.clone().or(self.hint.clone());
        let mime_type = claim::settled(said, self.found, self.head);
        Ok(Probed::new(Kind::Document, mime_type))
    }
}

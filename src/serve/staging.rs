//! One attachment, from its source to an encrypted file. Everything here blocks.
//!
//! Invariant: what is sent is what the bytes are; what the sender says of them is only compared with it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use wacore::download::MediaType;

use super::attachments::{named, refused};
use crate::media::depot::{Depot, DepotError};
use crate::media::key::StorageKey;
use crate::media::probe::{self, Hint, Kind, Wanted};
use crate::media::seal::seal;
use crate::media::stage::{StageError, Staged, Staging};
use crate::media::url::{self, Limits};
use crate::media::{name, reason};
use crate::outbound::{self, Attachment, SentAs, Wish};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::OutboundAttachment;
use crate::store::{ContentHash, HeldMedia, Store, Uploaded};

/// Longest silence of a server that an attachment is fetched from.
const SILENCE: Duration = Duration::from_secs(15);

/// What there is to know for staging an attachment.
pub(super) struct Work {
    pub staging: Staging,
    pub store: Store,
    /// Most bytes.
    pub limit: u64,
    /// What people sent to be seen once may be sent on.
    pub view_once: bool,
    /// The account's media directory.
    pub media: PathBuf,
    /// URLs may point at private addresses.
    pub private_urls: bool,
    pub wish: Wish,
    /// When all of it must be done.
    pub until: Instant,
    /// Set when nobody waits for it any more.
    pub stop: AtomicBool,
}

/// An attachment that can be sent.
pub(super) struct Ready {
    pub attachment: Attachment,
    /// Its file, unless WhatsApp has it already.
    pub sealed: Option<Staged>,
    /// A wish that it is sent without.
    pub unmet: Option<String>,
}

/// Makes of an attachment's bytes what can be sent.
pub(super) fn ready(work: &Work, mut source: Source) -> Result<Ready, WireError> {
    let wish = work.wish;
    let wanted = Wanted {
        name: source.name.clone().unwrap_or_default(),
        mime_type: source.mime_type.take().unwrap_or_default(),
        hint: std::mem::take(&mut source.hint),
        voice: wish.voice,
        gif: wish.sent_as == Some(SentAs::Gif),
        sticker: wish.sent_as == Some(SentAs::Sticker),
        document: wish.sent_as == Some(SentAs::Document)
            || source.document && wish == Wish::default(),
    };
    let mut probed = probe::probe(&mut source.plain.open()?, &wanted)
        .map_err(|error| WireError::new(error.code(), error))?;
    let media = media_type(probed.kind);
    let sealed = seal(source.plain.open()?, &work.staging, media, &work.stop);
    let (sealed, info) = sealed.map_err(|error| WireError::new(error.code(), error))?;
    source.plain.check(&info.file_sha256, &work.store)?;
    let (now, media) = (crate::clock::now(), outbound::encrypted_as(probed.kind));
    let sha256 = info.file_sha256.to_vec();
    let lately = work.store.uploaded(sha256.clone(), media.to_owned(), now);
    let (file, sealed) = match lately.wait()? {
        Some(uploaded) => (uploaded, None),
        None => {
            let file = Uploaded {
                sha256,
                media: media.to_owned(),
                url: String::new(),
                direct_path: String::new(),
                media_key: info.media_key.to_vec(),
                keyed: now,
                enc_sha256: info.file_enc_sha256.to_vec(),
                length: info.file_length,
                sidecar: info.streaming_sidecar,
            };
            (file, Some(sealed))
        }
    };
    let unmet = probed.unmet.take();
    let hinted = Some(wanted.hint.name).filter(|name| !name.is_empty());
    let attachment = Attachment {
        name: source.name.or(hinted).unwrap_or_else(|| "file".to_owned()),
        probed,
        file,
        staged: sealed.as_ref().and_then(|sealed| named(sealed.path())),
    };
    Ok(Ready {
        attachment,
        sealed,
        unmet,
    })
}

/// What an attachment's bytes are read from, and what is said of them.
pub(super) struct Source {
    plain: Plain,
    /// The caller's, fit to be shown; none if it gave none.
    name: Option<String>,
    /// The caller's.
    mime_type: Option<String>,
    /// What whoever the file comes from calls it.
    hint: Hint,
    /// It came as a document, and so goes on as one.
    document: bool,
}

/// The bytes of an attachment.
enum Plain {
    /// A file of this call.
    Staged(Staged),
    /// A file of the media store, and what it must be.
    Kept(File, HeldFile),
}

/// Where a file of the media store lies, and the hash that it is known by.
struct HeldFile {
    place: String,
    sha256: ContentHash,
}

impl Plain {
    /// The bytes, from the first one.
    fn open(&mut self) -> Result<Box<dyn ReadSeek + '_>, WireError> {
        let opened: io::Result<Box<dyn ReadSeek + '_>> = match self {
            Self::Staged(staged) => staged.open().map(|file| Box::new(file) as _),
            Self::Kept(file, _) => file.rewind().map(|()| Box::new(file) as _),
        };
        opened.map_err(|error| WireError::new("store_failed", error))
    }

    /// Compares what was read with what it must be. A file that was changed where it lies is lost.
    fn check(&self, read: &ContentHash, store: &Store) -> Result<(), WireError> {
        match self {
            Self::Kept(_, held) if held.sha256 != *read => {
                store.media_lost(vec![held.place.clone()]).wait()?;
                Err(unreadable(&DepotError::Lost))
            }
            _ => Ok(()),
        }
    }
}

/// A file, whosever it is.
trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// Finds the bytes. Of several sources that an attachment may have, all are the same file: what is at hand goes first.
pub(super) fn source(work: &Work, file: OutboundAttachment) -> Result<Source, WireError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (name, mime_type) = (name::sanitised(&file.name), given(Some(file.mime_type)));
    if let Some(text) = file.data_base64 {
        let staged = work.staging.from_base64(&text, work.limit);
        return Ok(Source {
            plain: Plain::Staged(staged.map_err(refused)?),
            name,
            mime_type,
            hint: Hint::default(),
            document: false,
        });
    }
    if let Some(key) = given(file.storage_key) {
        return kept(work, &key, name, mime_type);
    }
    if let Some(url) = given(file.url) {
        let limits = Limits {
            bytes: work.limit,
            deadline: work.until,
            idle: SILENCE,
        };
        let fetched = url::fetch(&url, &work.staging, &limits, work.private_urls);
        let fetched = fetched.map_err(|error| WireError::new(error.code(), error))?;
        return Ok(Source {
            plain: Plain::Staged(fetched.file),
            name,
            mime_type,
            hint: Hint {
                name: fetched.name.unwrap_or_default(),
                mime_type: fetched.mime_type.unwrap_or_default(),
            },
            document: false,
        });
    }
    Err(WireError::new(
        "invalid_attachment",
        "an attachment needs data_base64, url or storage_key; give one of them",
    ))
}

/// A file that people sent to this account, where it lies.
fn kept(
    work: &Work,
    key: &str,
    name: Option<String>,
    mime_type: Option<String>,
) -> Result<Source, WireError> {
    let unknown = |why: &dyn std::fmt::Display| WireError::new("unknown_storage_key", why);
    let key = StorageKey::parse(key, work.store.id()).map_err(|error| unknown(&error))?;
    let held = work.store.held(key.token).wait()?;
    let (size, view_once) = match &held {
        Some(HeldMedia::Here(medium)) => (Some(medium.size), medium.view_once),
        Some(HeldMedia::NotHere(lacking)) => (lacking.size, lacking.view_once),
        None => (None, false),
    };
    if view_once && !work.view_once {
        let why = reason("view_once");
        return Err(WireError::new(
            "attachment_not_here",
            format_args!("the file of this storage key is not sent on: {why}"),
        ));
    }
    if size.is_some_and(|size| size > work.limit) {
        return Err(refused(StageError::TooLarge { limit: work.limit }));
    }
    let medium = match held {
        Some(HeldMedia::Here(medium)) => medium,
        Some(HeldMedia::NotHere(lacking)) => {
            let why = reason(lacking.reason.as_deref().unwrap_or("pending"));
            return Err(WireError::new(
                "attachment_not_here",
                format_args!("the file of this storage key is not here: {why}"),
            ));
        }
        None => {
            return Err(unknown(
                &"no message that this account still remembers came with this storage key; use one of an event",
            ));
        }
    };
    let depot = Depot::open(&work.media).map_err(DepotError::from);
    let file = depot.and_then(|depot| depot.open_unchecked(&medium.place, medium.size));
    if let Err(DepotError::Lost) = &file {
        work.store.media_lost(vec![medium.place.clone()]).wait()?;
    }
    let file = file.map_err(|error| unreadable(&error))?;
    // What its sender called it was never checked, and must not keep the file from being sent on. A host that repeats
    // what the event said claims nothing of its own.
    let hint = Hint {
        name: medium
            .name
            .as_deref()
            .and_then(name::sanitised)
            .unwrap_or_default(),
        mime_type: medium.mime_type.unwrap_or_default(),
    };
    let held = HeldFile {
        place: medium.place,
        sha256: medium.sha256,
    };
    Ok(Source {
        plain: Plain::Kept(file, held),
        name: name.filter(|name| *name != hint.name),
        mime_type: mime_type.filter(|mime_type| *mime_type != hint.mime_type),
        hint,
        document: medium.kind == "document",
    })
}

fn unreadable(error: &DepotError) -> WireError {
    WireError::new(
        "attachment_not_here",
        format_args!("the file of this storage key cannot be read: {error}"),
    )
}

fn media_type(kind: Kind) -> MediaType {
    match kind {
        Kind::Image => MediaType::Image,
        Kind::Video | Kind::Gif => MediaType::Video,
        Kind::Audio | Kind::Voice => MediaType::Audio,
        Kind::Sticker => MediaType::Sticker,
        Kind::Document => MediaType::Document,
    }
}

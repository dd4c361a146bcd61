//! One attachment, from its source to an encrypted file. Everything here blocks.
//!
//! Invariant: what is sent is what the bytes are; what the sender says of them is only compared with it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wacore::download::MediaType;
use wacore::upload::EncryptedMediaInfo;

use super::attachments::{named, refused};
use crate::media::aside::Aside;
use crate::media::depot::{self, Depot, DepotError};
use crate::media::intake::{Intake, SealedDocument, Taken};
use crate::media::key::StorageKey;
use crate::media::probe::{self, Hint, Kind, ProbeError, Probed, Wanted};
use crate::media::seal::{SealError, seal};
use crate::media::stage::{FLOOR, StageError, Staged, Staging};
use crate::media::url::{self, Limits};
use crate::media::{base64, name, reason};
use crate::outbound::{self, Attachment, SentAs, Wish};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::OutboundAttachment;
use crate::store::{ContentHash, HeldMedia, Store, Uploaded};

/// Longest silence of a server that an attachment is fetched from.
const SILENCE: Duration = Duration::from_secs(15);

/// One file is looked at in the whole process: a large picture takes a lot of memory for a moment.
static LOOKING: Mutex<()> = Mutex::new(());

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
}

/// An attachment that can be sent.
pub(super) struct Ready {
    pub attachment: Attachment,
    /// Its file, unless WhatsApp has it already.
    pub sealed: Option<Aside<Staged>>,
    /// A wish that it is sent without.
    pub unmet: Option<String>,
}

/// Makes of an attachment's bytes what can be sent.
pub(super) fn ready(work: &Work, source: Source) -> Result<Ready, WireError> {
    let Source { plain, wanted } = source;
    let probed = |probed: Result<Probed, ProbeError>| {
        probed.map_err(|error| WireError::new(error.code(), error))
    };
    let (mut probed, (file, sealed)) = match plain {
        Plain::Document(document) => {
            let probed = probed(probe::document(&document.head, document.size, &wanted))?;
            let sealed = work.unless_uploaded(document.file, document.info, probed.kind)?;
            (probed, sealed)
        }
        Plain::File(mut file) => {
            let turn = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
            work.staging.goes_on().map_err(refused)?;
            let looked_at = probe::probe(&mut file.open()?, &wanted);
            drop(turn);
            if looked_at.is_err() {
                file.is_what_it_was(work)?;
            }
            let probed = probed(looked_at)?;
            let lately = match &file {
                PlainFile::Kept(_, held) => work.uploaded(&held.sha256, probed.kind)?,
                PlainFile::Staged(_) => None,
            };
            let sealed = match lately {
                Some(uploaded) => {
                    file.is_what_it_was(work)?;
                    (uploaded, None)
                }
                None => {
                    let media = media_type(probed.kind);
                    let sealed = seal(file.open()?, &work.staging, media);
                    let (sealed, info) = sealed.map_err(unsealed)?;
                    file.check(&info.file_sha256, &work.store)?;
                    work.unless_uploaded(sealed, info, probed.kind)?
                }
            };
            (probed, sealed)
        }
    };
    let unmet = probed.unmet.take();
    let called = [wanted.name, wanted.hint.name];
    let name = called.into_iter().find(|name| !name.is_empty());
    let attachment = Attachment {
        name: name.unwrap_or_else(|| "file".to_owned()),
        probed,
        file,
        staged: sealed.as_ref().and_then(|sealed| named(sealed.path())),
    };
    Ok(Ready {
        attachment,
        sealed: sealed.map(Aside::new),
        unmet,
    })
}

impl Work {
    /// Content that WhatsApp has already.
    fn uploaded(&self, sha256: &ContentHash, kind: Kind) -> Result<Option<Uploaded>, WireError> {
        let media = outbound::encrypted_as(kind).to_owned();
        let lately = self
            .store
            .uploaded(sha256.to_vec(), media, crate::clock::now());
        Ok(lately.wait()?)
    }

    /// What is to be uploaded, with its file, if WhatsApp has not the same content already.
    fn unless_uploaded(
        &self,
        sealed: Staged,
        info: EncryptedMediaInfo,
        kind: Kind,
    ) -> Result<(Uploaded, Option<Staged>), WireError> {
        if let Some(uploaded) = self.uploaded(&info.file_sha256, kind)? {
            return Ok((uploaded, None));
        }
        let file = Uploaded {
            sha256: info.file_sha256.to_vec(),
            media: outbound::encrypted_as(kind).to_owned(),
            url: String::new(),
            direct_path: String::new(),
            media_key: info.media_key.to_vec(),
            keyed: crate::clock::now(),
            enc_sha256: info.file_enc_sha256.to_vec(),
            length: info.file_length,
            sidecar: info.streaming_sidecar,
        };
        Ok((file, Some(sealed)))
    }
}

/// An attachment's bytes, and what is said of them and asked for.
pub(super) struct Source {
    plain: Plain,
    wanted: Wanted,
}

/// The bytes of an attachment.
enum Plain {
    /// To be looked at, and then to be encrypted.
    File(PlainFile),
    /// A document, which was encrypted as it came.
    Document(SealedDocument),
}

enum PlainFile {
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

impl PlainFile {
    /// The bytes, from the first one.
    fn open(&mut self) -> Result<Box<dyn ReadSeek + '_>, WireError> {
        let opened: io::Result<Box<dyn ReadSeek + '_>> = match self {
            Self::Staged(staged) => staged.open().map(|file| Box::new(file) as _),
            Self::Kept(file, _) => file.rewind().map(|()| Box::new(file) as _),
        };
        opened.map_err(|error| WireError::new("store_failed", error))
    }

    /// Reads it for nothing but to [compare](Self::check) it.
    fn is_what_it_was(&mut self, work: &Work) -> Result<(), WireError> {
        let Self::Kept(file, _) = self else {
            return Ok(());
        };
        work.staging.goes_on().map_err(refused)?;
        let rewound = file.rewind().and_then(|()| depot::hashed(file));
        let read = rewound.map_err(|error| WireError::new("store_failed", error))?;
        self.check(&read, &work.store)
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
    let wish = work.wish;
    let wanted = Wanted {
        name: name::sanitised(&file.name).unwrap_or_default(),
        mime_type: file.mime_type,
        hint: Hint::default(),
        voice: wish.voice,
        gif: wish.sent_as == Some(SentAs::Gif),
        sticker: wish.sent_as == Some(SentAs::Sticker),
        document: wish.sent_as == Some(SentAs::Document),
    };
    let (key, url) = (given(file.storage_key), given(file.url));
    // Empty it is a file without bytes, unless there is another source.
    let alone = key.is_none() && url.is_none();
    if let Some(text) = file.data_base64.filter(|text| alone || !text.is_empty()) {
        let mut intake = Intake::new(&work.staging, wanted, work.limit);
        base64::decode(&text, &mut intake).map_err(unsealed)?;
        return Source::taken(intake);
    }
    if let Some(key) = key {
        return kept(work, &key, wanted);
    }
    if let Some(url) = url {
        let limits = Limits {
            deadline: work.until,
            idle: SILENCE,
        };
        let begin = |said: url::Said| {
            let hint = Hint {
                name: said.name.unwrap_or_default(),
                mime_type: said.mime_type.unwrap_or_default(),
            };
            Intake::new(&work.staging, Wanted { hint, ..wanted }, work.limit)
        };
        let fetched = url::fetch(&url, begin, &limits, work.private_urls);
        let fetched = fetched.map_err(|error| WireError::new(error.code(), error))?;
        return Source::taken(fetched);
    }
    Err(WireError::new(
        "invalid_attachment",
        "an attachment needs data_base64, url or storage_key; give one of them",
    ))
}

impl Source {
    /// Whether there is nothing left to do that keeps a core busy.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.plain, Plain::Document(_))
    }

    fn taken(intake: Intake) -> Result<Self, WireError> {
        let (taken, wanted) = intake.finish().map_err(unsealed)?;
        let plain = match taken {
            Taken::Staged(staged) => Plain::File(PlainFile::Staged(staged)),
            Taken::Sealed(document) => Plain::Document(document),
        };
        Ok(Self { plain, wanted })
    }
}

/// A file that people sent to this account, where it lies.
fn kept(work: &Work, key: &str, wanted: Wanted) -> Result<Source, WireError> {
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
    let goes_on = |here| work.staging.grown(here).is_ok();
    let file = depot.and_then(|depot| depot.open_unchecked(&medium.place, medium.size, &goes_on));
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
    let said = |text: String, hint: &str| if text == hint { String::new() } else { text };
    let wanted = Wanted {
        name: said(wanted.name, &hint.name),
        mime_type: said(wanted.mime_type, &hint.mime_type),
        // It came as a document, and so goes on as one.
        document: wanted.document || medium.kind == "document" && work.wish == Wish::default(),
        hint,
        ..wanted
    };
    Ok(Source {
        plain: Plain::File(PlainFile::Kept(file, held)),
        wanted,
    })
}

fn unsealed(error: SealError) -> WireError {
    WireError::new(error.code(), error)
}

fn unreadable(error: &DepotError) -> WireError {
    match error.code() {
        full @ "storage_full" => WireError::new(
            full,
            format_args!(
                "the disk of this account has no space to bring the file of this storage key here, since {} MiB of it stay \
                 free; make room on the disk, or send a smaller file",
                FLOOR >> 20
            ),
        ),
        _ => WireError::new(
            "attachment_not_here",
            format_args!("the file of this storage key cannot be read: {error}"),
        ),
    }
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

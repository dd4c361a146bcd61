//! Uploads the file that a message waits for, before the message goes.
//!
//! Invariants: where its file is stands in the stored message before a byte of the message leaves, so that it is the
//! same message however often it is sent. A staged file is encrypted already, so an upload that was cut, even by the end
//! of the process, goes on with the same bytes, and the server has what it had of them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use wacore::download::MediaType;
use wacore::upload::{EncryptedMediaInfo, UploadSource};
use waproto::codec::{message_decode, message_to_vec};
use waproto::whatsapp as wa;
use whatsapp_rust::upload::UploadResponse;
use whatsapp_rust::{Client, ErrorChainExt};

use super::Shared;
use super::fate::Fate;
use super::handing::Outcome;
use super::state::Connection;
use super::transfers::Transfer;
use crate::clock::now;
use crate::media::depot::hashed;
use crate::media::stage::{StageError, Staging};
use crate::store::{Outgoing, StagedName, Store, StoreError, Unsynced, Uploaded};

/// Uploads at a time.
pub(super) const AT_ONCE: usize = 4;
/// A server that takes nothing for this long, or does not answer once it has all, will not.
const STALLED: Duration = Duration::from_secs(45);
/// The first pause after an upload that failed; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why there is no upload.
enum Failed {
    /// It may go better later.
    Later(String),
    /// It will not.
    Refused { code: &'static str, reason: String },
}

/// Uploads what the message waits for, if it does, and completes it. Whatever keeps the message from going now is
/// given back; nothing if it may go. While it takes its time the message counts as queued.
pub(super) async fn before_sending(
    shared: &Shared,
    client: &Arc<Client>,
    part: &mut Outgoing,
) -> Result<Option<Outcome>, StoreError> {
    let Ok(mut message) = message_decode(&part.payload) else {
        return Ok(None);
    };
    let Some((media, wanted)) = carried(&message) else {
        return Ok(None);
    };
    if !wanted.direct_path.is_empty() {
        return Ok(None);
    }
    let spoken = message
        .audio_message
        .as_option()
        .and_then(|audio| audio.ptt)
        == Some(true);
    let _shown = spoken.then(|| shared.typing.recording(&part.chat.route));
    let lately = shared
        .store
        .uploaded(wanted.sha256.clone(), wanted.media.clone(), now());
    let uploaded = match (lately.await?, &part.file) {
        (Some(uploaded), _) => uploaded,
        (None, Some(name)) => match upload(shared, client, part, name, media, wanted).await? {
            Ok(uploaded) => uploaded,
            Err(outcome) => return Ok(Some(outcome)),
        },
        (None, None) => return Ok(Some(lost())),
    };
    fill(&mut message, &uploaded);
    part.payload = message_to_vec(&message);
    let (id, payload) = (part.message_id.clone(), part.payload.clone());
    shared
        .store
        .mark_uploaded(id, payload, uploaded, now())
        .await?;
    if let Some(name) = part.file.take() {
        remove(shared, vec![name]).await;
    }
    crate::crash::point("after_upload");
    Ok(None)
}

/// Removes the files of messages that will not go.
pub(super) async fn let_go(shared: &Shared) {
    let left = match shared.store.files_left().await {
        Ok(left) if left.is_empty() => return,
        Ok(left) => left,
        Err(error) => {
            tracing::debug!(%error, "files that nobody needs stay for now");
            return;
        }
    };
    remove(shared, left.clone()).await;
    if let Err(error) = shared.store.files_removed(left).await {
        tracing::debug!(%error, "files that nobody needs are looked for again");
    }
}

/// Removes staged files that nobody waits for: a process that was killed leaves some. Does nothing while any process is
/// staging. Blocks; how many it were.
///
/// # Errors
/// Those of the disk and of the store.
pub fn sweep_staged(media: &Path, store: &Store) -> Result<usize, StageError> {
    let folder = media.join("staged");
    Staging::sweep(media, || {
        let awaited = store.files_awaited().wait().map_err(io::Error::other)?;
        let awaited = awaited.iter().map(|name| folder.join(name.as_str()));
        Ok(awaited.collect())
    })
}

/// Who becomes owner removes what others have left.
pub(super) async fn begin(shared: &Shared) {
    if let Err(error) = undo(shared).await {
        tracing::warn!(%error, "whether files that wait are whole could not be seen");
    }
    let_go(shared).await;
    if !shared.staged.is_dir() {
        return;
    }
    let (staged, store) = (shared.staged.clone(), shared.store.clone());
    let swept = tokio::task::spawn_blocking(move || {
        let media = staged.parent().unwrap_or(&staged);
        sweep_staged(media, &store)
    });
    match swept.await {
        Ok(Err(error)) => tracing::warn!(%error, "staged files that nobody needs stay for now"),
        Ok(Ok(swept)) if swept > 0 => {
            tracing::info!(swept, "staged files that nobody needs are removed")
        }
        // A panic would have been told.
        _ => {}
    }
}

/// Takes back what was being entered when the power went, if that took a file: nobody was told that it waits, and a call
/// that repeats it brings its file again. What was told to wait has its files on the disk.
async fn undo(shared: &Shared) -> Result<(), StoreError> {
    let doubtful = shared.store.not_synced().await?;
    if doubtful.is_empty() {
        return Ok(());
    }
    let folder = shared.staged.clone();
    let broken = tokio::task::spawn_blocking(move || {
        let whole = |part: &Unsynced| {
            let message = message_decode(&part.payload).ok()?;
            let (_, said) = carried(&message)?;
            let mut file = File::open(folder.join(part.file.as_str())).ok()?;
            let hash = hashed(&mut file).ok()?;
            (hash[..] == said.enc_sha256).then_some(())
        };
        let broken = doubtful.into_iter().filter(|part| whole(part).is_none());
        broken.map(|part| part.request).collect::<Vec<_>>()
    });
    // A panic would have been told.
    for request in broken.await.unwrap_or_default() {
        tracing::warn!("a message is taken back that was being entered when the machine stopped");
        shared.store.withdraw(request).await?;
    }
    Ok(())
}

async fn remove(shared: &Shared, names: Vec<StagedName>) {
    let folder = shared.staged.clone();
    let removed = tokio::task::spawn_blocking(move || {
        for name in names {
            match fs::remove_file(folder.join(name.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "a staged file cannot be removed");
                }
                _ => {}
            }
        }
    });
    // A panic would have been told.
    let _ = removed.await;
}

fn lost() -> Outcome {
    Outcome::Rejected {
        code: "attachment_lost".to_owned(),
        reason: "the attachment that was staged for this message is gone; send it again".to_owned(),
    }
}

/// Tries until it goes, or the connection does, or nobody wants the message any more.
async fn upload(
    shared: &Shared,
    client: &Arc<Client>,
    part: &Outgoing,
    name: &StagedName,
    media: MediaType,
    wanted: Uploaded,
) -> Result<Result<Uploaded, Outcome>, StoreError> {
    let path = shared.staged.join(name.as_str());
    let length = match fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => found.len(),
        _ => return Ok(Err(lost())),
    };
    let slow = "its upload takes longer than this call".to_owned();
    shared
        .outbox
        .tell(&part.message_id, Fate::NotUploaded(slow));
    let mut connection = shared.connection.subscribe();
    let ended = async {
        tokio::select! {
            _ = connection.wait_for(|now| !matches!(now, Connection::Online)) => {
                Outcome::NotTaken("the connection was lost".to_owned())
            }
            () = unwanted(shared, part) => {
                Outcome::NotTaken("nobody waits for the message any more".to_owned())
            }
        }
    };
    tokio::pin!(ended);
    let mut pauses = backon::ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        let tried = tokio::select! {
            biased;
            tried = attempt(shared, client, path.clone(), length, media, &wanted) => tried,
            outcome = &mut ended => return Ok(Err(outcome)),
        };
        match tried {
            Ok(response) => {
                return Ok(Ok(Uploaded {
                    url: response.url,
                    direct_path: response.direct_path,
                    keyed: response.media_key_timestamp,
                    ..wanted
                }));
            }
            Err(Failed::Refused { code, reason }) => {
                return Ok(Err(Outcome::Rejected {
                    code: code.to_owned(),
                    reason,
                }));
            }
            Err(Failed::Later(reason)) => {
                tracing::info!("an attachment could not be uploaded and is tried again");
                tracing::debug!(reason, "why");
                let fate = Fate::NotUploaded(reason);
                shared.outbox.tell(&part.message_id, fate);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)) => {}
            outcome = &mut ended => return Ok(Err(outcome)),
        }
    }
}

/// Until the message was taken back, or has waited too long.
async fn unwanted(shared: &Shared, part: &Outgoing) {
    let mut outbox = shared.store.outbound_signal();
    let left = part.expires_at.saturating_sub(now());
    let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
    let expired = tokio::time::sleep(left);
    tokio::pin!(expired);
    loop {
        outbox.borrow_and_update();
        match shared.store.still_waits(part.message_id.clone()).await {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => tracing::debug!(%error, "whether a message still waits cannot be told"),
        }
        tokio::select! {
            changed = outbox.changed() => if changed.is_err() { return },
            () = &mut expired => return,
        }
    }
}

async fn attempt(
    shared: &Shared,
    client: &Arc<Client>,
    path: PathBuf,
    length: u64,
    media: MediaType,
    wanted: &Uploaded,
) -> Result<UploadResponse, Failed> {
    let key = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
    let keys = (
        key(&wanted.media_key),
        key(&wanted.sha256),
        key(&wanted.enc_sha256),
    );
    let (Some(media_key), Some(file_sha256), Some(file_enc_sha256)) = keys else {
        return Err(Failed::Refused {
            code: "internal_error",
            reason: "the stored message cannot be read; send it again".to_owned(),
        });
    };
    let info = EncryptedMediaInfo {
        media_key,
        file_sha256,
        file_enc_sha256,
        file_length: wanted.length,
        streaming_sidecar: wanted.sidecar.clone(),
    };
    let _turn = shared.uploads.acquire().await;
    let transfer = StopOnDrop(shared.transfers.begin("upload", length));
    let source = Source {
        path,
        length,
        transfer: transfer.0.clone(),
    };
    let uploaded = tokio::select! {
        uploaded = client.upload_stream(source, info, media) => uploaded,
        () = transfer.0.stalls(STALLED) => {
            return Err(Failed::Later("the media server stands still".to_owned()));
        }
    };
    uploaded.map_err(|error| match (*error).http_status() {
        Some(413) => Failed::Refused {
            code: "attachment_too_large",
            reason:
                "WhatsApp does not take a file of this size; send a smaller one, or a link to it"
                    .to_owned(),
        },
        Some(status @ (400 | 405 | 406 | 411 | 414 | 415 | 422)) => Failed::Refused {
            code: "attachment_upload_failed",
            reason: format!("WhatsApp's media server refused the file (HTTP {status})"),
        },
        _ => Failed::Later(format!("{error:#}")),
    })
}

struct StopOnDrop(Arc<Transfer>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A staged file as the library reads it, on a thread that may block.
struct Source {
    path: PathBuf,
    length: u64,
    transfer: Arc<Transfer>,
}

impl UploadSource for Source {
    fn len(&self) -> u64 {
        self.length
    }

    fn reader_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        self.transfer.set(offset);
        Ok(Box::new(Counted {
            file,
            half: self.length / 2,
            transfer: self.transfer.clone(),
        }))
    }
}

struct Counted {
    file: File,
    half: u64,
    transfer: Arc<Transfer>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.transfer.is_stopped() {
            return Err(io::Error::other("nobody waits for the upload any more"));
        }
        let read = self.file.read(buffer)?;
        self.transfer.add(read);
        if self.transfer.done() > self.half {
            crate::crash::point("during_upload");
        }
        Ok(read)
    }
}

/// What a message says of the file that it carries.
fn carried(message: &wa::Message) -> Option<(MediaType, Uploaded)> {
    macro_rules! carried {
        ($($kind:ident: $media:ident $word:literal),+) => {
            $(if let Some(kind) = message.$kind.as_option() {
                let said = Uploaded {
                    sha256: kind.file_sha256.clone().unwrap_or_default(),
                    media: $word.to_owned(),
                    url: kind.url.clone().unwrap_or_default(),
                    direct_path: kind.direct_path.clone().unwrap_or_default(),
                    media_key: kind.media_key.clone().unwrap_or_default(),
                    keyed: kind.media_key_timestamp.unwrap_or_default(),
                    enc_sha256: kind.file_enc_sha256.clone().unwrap_or_default(),
                    length: kind.file_length.unwrap_or_default(),
                    sidecar: None,
                };
                return Some((MediaType::$media, said));
            })+
        };
    }
    let sidecar = match (
        message.audio_message.as_option(),
        message.video_message.as_option(),
    ) {
        (Some(audio), _) => audio.streaming_sidecar.clone(),
        (_, Some(video)) => video.streaming_sidecar.clone(),
        _ => None,
    };
    let found = (|| {
        carried!(
            image_message: Image "image",
            video_message: Video "video",
            audio_message: Audio "audio",
            document_message: Document "document",
            sticker_message: Sticker "sticker"
        );
        None
    })();
    found.map(|(media, said)| (media, Uploaded { sidecar, ..said }))
}

/// Says in the message where its file is.
fn fill(message: &mut wa::Message, uploaded: &Uploaded) {
    macro_rules! fill {
        ($($kind:ident),+) => {
            $(if let Some(kind) = message.$kind.as_option_mut() {
                kind.url = Some(uploaded.url.clone());
                kind.direct_path = Some(uploaded.direct_path.clone());
                kind.media_key = Some(uploaded.media_key.clone());
                kind.media_key_timestamp = Some(uploaded.keyed);
                kind.file_sha256 = Some(uploaded.sha256.clone());
                kind.file_enc_sha256 = Some(uploaded.enc_sha256.clone());
                kind.file_length = Some(uploaded.length);
            })+
        };
    }
    fill!(
        image_message,
        video_message,
        audio_message,
        document_message,
        sticker_message
    );
    if let Some(audio) = message.audio_message.as_option_mut() {
        audio.streaming_sidecar = uploaded.sidecar.clone();
    }
    if let Some(video) = message.video_message.as_option_mut() {
        video.streaming_sidecar = uploaded.sidecar.clone();
    }
}

//! One file from WhatsApp to the shelf.
//!
//! Invariant: bytes are streamed into a file that is gone with the download, and get their name only once they are what
//! the message announced. What becomes of an attempt is noted in the store, with when it is worth another.

use std::io::BufWriter;
use std::sync::Arc;
use std::time::Duration;

use wacore::download::MediaType;
use wacore::media_retry::MediaRetryResult;
use whatsapp_rust::download::DownloadParams;
use whatsapp_rust::features::{MediaReuploadError, MediaReuploadRequest};
use whatsapp_rust::{Client, ErrorChainExt};

use super::download::Guard;
use super::sink::{Meter, Sink};
use super::tidy::remove;
use super::{Shared, jid};
use crate::clock::now;
use crate::store::{RESERVE, ToFetch, available};

/// Bytes between two writes.
const BUFFER: usize = 64 << 10;
/// A download from which nothing came for this long is stuck.
const STALLED: Duration = Duration::from_secs(60);
/// What stays free on the disk beside the reserve.
const MARGIN: u64 = 16 << 20;
/// Until there may be space again.
pub(super) const NO_SPACE: i64 = 60;
/// Until a phone may be there again; it doubles.
const NO_PHONE: i64 = 600;
/// Until the network may be better; it doubles.
const NO_NETWORK: i64 = 2;
/// The longest of these pauses.
const LONGEST_PAUSE: i64 = 6 * 3600;
/// How often a file is tried.
const ATTEMPTS: u32 = 10;

/// Why there is no file.
struct Failure {
    /// Stable, in snake_case; what it means is in [`crate::media::reason`].
    reason: &'static str,
    /// After how many seconds it is worth another attempt; the pause of a repeated one is longer.
    again: Option<i64>,
    detail: String,
}

impl Failure {
    fn last(reason: &'static str, detail: impl ToString) -> Self {
        Self {
            reason,
            again: None,
            detail: detail.to_string(),
        }
    }

    fn again(reason: &'static str, after: i64, detail: impl ToString) -> Self {
        Self {
            reason,
            again: Some(after),
            detail: detail.to_string(),
        }
    }

    fn disk(error: impl ToString) -> Self {
        Self::again("storage_full", NO_SPACE, error)
    }
}

/// Fetches one file and notes what became of it; whether it is here.
pub(super) async fn fetch(guard: Guard, file: ToFetch, most: u64) -> bool {
    let shared = guard.shared.clone();
    let Some(client) = shared.client() else {
        return false;
    };
    let mut outcome = attempt(&guard, &client, &file, most).await;
    if let Err(failure) = &outcome
        && failure.reason == GONE
    {
        outcome = match ask_phone(&shared, &client, &file).await {
            Ok(moved) => attempt(&guard, &client, &moved, most).await,
            Err(failure) => Err(failure),
        };
    }
    let failure = match outcome {
        Ok(()) => return true,
        Err(failure) => failure,
    };
    // Without a connection nothing says that the file cannot be had.
    if shared
        .client()
        .is_none_or(|now| !Arc::ptr_eq(&now, &client))
        && failure.again.is_some()
    {
        return false;
    }
    tracing::warn!(
        chat = file.chat.redacted(),
        reason = failure.reason,
        detail = failure.detail,
        again = failure.again.is_some(),
        "media not fetched"
    );
    let space = failure.reason == "storage_full";
    let next = failure
        .again
        .filter(|_| space || file.attempts + 1 < ATTEMPTS);
    let next = next.map(|after| {
        let longer = if space { 0 } else { file.attempts.min(20) };
        now().saturating_add((after << longer).min(LONGEST_PAUSE))
    });
    let noted = shared
        .store
        .media_not_here(file.id, failure.reason.to_owned(), next);
    if let Err(error) = noted.await {
        tracing::warn!(%error, "what became of a download could not be noted");
        // It is still to be fetched, by all that is known.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

/// WhatsApp has the file no more.
const GONE: &str = "expired";

async fn attempt(
    guard: &Guard,
    client: &Arc<Client>,
    file: &ToFetch,
    most: u64,
) -> Result<(), Failure> {
    let shared = &guard.shared;
    if file.size.is_some_and(|size| size > most) {
        return Err(Failure::last("too_large", "by what its sender says"));
    }
    let wanted = RESERVE + MARGIN + file.size.unwrap_or_default();
    if available(&shared.downloads.path).is_some_and(|free| free < wanted) {
        return Err(Failure::disk("not enough free space"));
    }
    let opening = shared.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let shelf = opening.downloads.shelf()?;
        let part = shelf.begin()?;
        let writing = part.reopen()?;
        Ok::<_, std::io::Error>((shelf, part, writing))
    });
    let (shelf, part, writing) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(Failure::disk(error)),
        Err(error) => return Err(Failure::again("download_failed", NO_NETWORK, error)),
    };
    let sink = Sink::new(writing, most, guard.meter.clone());
    let sink = BufWriter::with_capacity(BUFFER, sink);
    let params = DownloadParams {
        direct_path: file.source.direct_path.clone(),
        media_key: file.source.key.clone(),
        file_sha256: file.source.sha256.to_vec(),
        file_enc_sha256: file.source.enc_sha256.clone(),
        file_length: file.size.unwrap_or_default(),
        media_type: media_type(&file.kind),
    };
    let downloaded = tokio::select! {
        downloaded = client.download_to_writer(&params, sink) => downloaded,
        () = guard.meter.transfer.stalls(STALLED) => {
            guard.meter.transfer.stop();
            return Err(Failure::again("download_failed", NO_NETWORK, "nothing came any more"));
        }
    };
    let sink = downloaded.map_err(|error| failure(&guard.meter, &error))?;
    let sink = sink
        .into_inner()
        .map_err(|error| Failure::disk(error.error()))?;
    let (sha256, size) = sink.finish();
    if sha256 != file.source.sha256 {
        return Err(Failure::last("corrupt", "its hash is another one"));
    }
    // From here to its row nothing may take it away.
    let _naming = shared.downloads.naming.lock().await;
    let (named, mime_type) = (shelf.clone(), file.mime_type.clone());
    let kept = tokio::task::spawn_blocking(move || named.keep(part, &sha256, mime_type.as_deref()));
    let place = match kept.await {
        Ok(Ok(place)) => place,
        Ok(Err(error)) => return Err(Failure::disk(error)),
        Err(error) => return Err(Failure::again("download_failed", NO_NETWORK, error)),
    };
    let entered = shared
        .store
        .media_here(file.id, place.clone(), size, now())
        .await;
    match entered {
        // It had another ending when it came first, or nobody asks for it any more.
        Ok(known) if known != place => remove(&shelf, place).await,
        Ok(_) => {}
        Err(error) => return Err(Failure::disk(error)),
    }
    crate::crash::point("after_media");
    Ok(())
}

fn failure(meter: &Meter, error: &anyhow::Error) -> Failure {
    if meter.too_large() {
        return Failure::last("too_large", "there is more of it than its sender says");
    }
    if meter.full() {
        return Failure::disk("the disk is full");
    }
    let chain: &(dyn std::error::Error + 'static) = error.as_ref();
    match chain.http_status() {
        Some(status @ (403 | 404 | 410)) => {
            Failure::last(GONE, format_args!("the server answers {status}"))
        }
        _ => Failure::again("download_failed", NO_NETWORK, error),
    }
}

/// Has the phone upload a file again that WhatsApp no longer has; the same attachment with its new path.
async fn ask_phone(
    shared: &Shared,
    client: &Arc<Client>,
    file: &ToFetch,
) -> Result<ToFetch, Failure> {
    let gone = |detail: &str| Failure::last(GONE, detail);
    let later = |detail: &dyn std::fmt::Display| Failure::again("phone_offline", NO_PHONE, detail);
    let Some(media_key) = &file.source.key else {
        return Err(gone("nobody has the key of a newsletter's media"));
    };
    let Some(chat) = jid(&file.chat) else {
        return Err(gone("its chat has no address"));
    };
    let participant = file.sender.as_ref().and_then(jid);
    let _turn = shared.downloads.asking.acquire().await;
    let request = MediaReuploadRequest {
        msg_id: &file.stanza_id,
        chat_jid: &chat,
        media_key,
        is_from_me: false,
        participant: participant.as_ref(),
    };
    let direct_path = match client.media_reupload().request(&request).await {
        Ok(MediaRetryResult::Success { direct_path }) => direct_path,
        Ok(MediaRetryResult::NotFound) => return Err(gone("the phone has it no more either")),
        Ok(other) => return Err(later(&format_args!("the phone says {other:?}"))),
        Err(error @ MediaReuploadError::InvalidRequest(_)) => return Err(gone(&error.to_string())),
        Err(error) => return Err(later(&error)),
    };
    if !direct_path.starts_with('/') {
        return Err(gone("the phone names no path"));
    }
    tracing::info!(
        chat = file.chat.redacted(),
        "the phone has uploaded expired media again"
    );
    let moved = shared.store.media_moved(file.id, direct_path.clone());
    if let Err(error) = moved.await {
        tracing::warn!(%error, "the new path of media could not be noted");
    }
    let mut file = file.clone();
    file.source.direct_path = direct_path;
    Ok(file)
}

fn media_type(kind: &str) -> MediaType {
    match kind {
        "image" => MediaType::Image,
        "video" => MediaType::Video,
        "audio" => MediaType::Audio,
        "sticker" => MediaType::Sticker,
        _ => MediaType::Document,
    }
}

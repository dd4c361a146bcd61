//! A file that WhatsApp no longer has: the account's phone is asked to upload it again.
//!
//! Invariants: what waits for the phone takes no place from downloads; of each chat one file at a time is asked for; who is
//! cut off here does not ask again before the pause of a failed attempt is over.

use std::sync::Arc;

use wacore::media_retry::MediaRetryResult;
use whatsapp_rust::Client;
use whatsapp_rust::features::{MediaReuploadError, MediaReuploadRequest};

use super::download::Guard;
use super::failure::{ATTEMPTS, Failure, GONE, noted};
use super::jid;
use crate::clock::now;
use crate::store::ToFetch;

/// Until a phone may be there again; it doubles.
const NO_PHONE: i64 = 600;

/// Has the phone upload a file again that WhatsApp no longer has, and notes its new path. That may take long; others
/// have the place meanwhile.
pub(super) async fn upload_again(
    guard: &Guard,
    client: &Arc<Client>,
    file: &ToFetch,
) -> Result<(), Failure> {
    let shared = &guard.shared;
    let gone = |detail: &str| Failure::last(GONE, detail);
    let later = |detail: &dyn std::fmt::Display| Failure::again("phone_offline", NO_PHONE, detail);
    let Some(media_key) = &file.source.key else {
        return Err(gone("nobody has the key of a newsletter's media"));
    };
    if file.attempts + 1 >= ATTEMPTS {
        return Err(gone("what the phone uploads is gone again and again"));
    }
    let Some(chat) = jid(&file.chat) else {
        return Err(gone("its chat has no address"));
    };
    let participant = file.author.as_ref().and_then(jid);
    if !guard.give_way() {
        return Err(later(&"it has enough to do").not_counted());
    }
    if let Some(pause) = later(&"it was asked").pause(file.attempts) {
        let next = now().saturating_add(pause);
        drop(shared.store.media_rests(file.id, next));
    }
    let turn = shared.downloads.turn_of(&file.chat);
    let _first_of_chat = turn.acquire().await;
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
    let moved = shared.store.media_moved(file.id, direct_path, now());
    noted(moved).await
}

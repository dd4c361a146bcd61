//! Files that somebody asks for by name, and waits for.
//!
//! Invariant: what is asked for may be as large as who asks for it allows, whatever the limits, for as long as they wait.

use tokio::time::Instant;

use super::Shared;
use super::download::Downloads;
use crate::clock::now;
use crate::store::{AttachmentToken, Fetching, StoreError};

/// Larger files WhatsApp does not have.
const LARGEST: u64 = 2 << 30;

/// Somebody waits for what he asked for by name. Dropped, he does no more.
pub(super) struct Asked<'a> {
    downloads: &'a Downloads,
    what: (AttachmentToken, u64),
}

impl<'a> Asked<'a> {
    pub(super) fn new(downloads: &'a Downloads, token: AttachmentToken, most: u64) -> Self {
        let what = (token, most);
        downloads.asked().push(what);
        Self { downloads, what }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut asked = self.downloads.asked();
        if let Some(own) = asked.iter().position(|other| *other == self.what) {
            asked.swap_remove(own);
        }
    }
}

/// Fetches a file of at most so many bytes that somebody asks for by name, whatever became of it before.
///
/// # Errors
/// The code of [`crate::media::reason`] that says why it cannot be had now.
pub(super) async fn fetch_now(
    shared: &Shared,
    token: AttachmentToken,
    most: u64,
    deadline: Instant,
) -> Result<Result<(), String>, StoreError> {
    let most = most.min(LARGEST);
    let mut changed = shared.store.media_signal();
    let _asked = Asked::new(&shared.downloads, token, most);
    let Some(id) = shared.store.want_attachment(token, now()).await? else {
        return Ok(Err("incomplete".to_owned()));
    };
    shared.downloads.allow(id, most);
    loop {
        changed.borrow_and_update();
        let failed = match shared.store.fetching(id).await? {
            Some((Fetching::Here, _)) => return Ok(Ok(())),
            Some((Fetching::Wanted, None)) => None,
            // It is tried again at once, a few times.
            Some((Fetching::Wanted, Some(reason))) if reason == "download_failed" => None,
            Some((_, reason)) => Some(reason.unwrap_or_default()),
            None => Some("incomplete".to_owned()),
        };
        if let Some(reason) = failed {
            return Ok(Err(reason));
        }
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return Ok(Err("pending".to_owned())) },
            () = tokio::time::sleep_until(deadline) => return Ok(Err("pending".to_owned())),
        }
    }
}

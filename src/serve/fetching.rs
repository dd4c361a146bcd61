//! A file that somebody asks for by its key and that is not in the media store: fetched by whoever owns the connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Account, Open};
use super::answer::Process;
use super::attachments::refused;
use super::passing::{self, Asked, Said, Way};
use super::writer;
use crate::account::Paths;
use crate::config::Config;
use crate::media::key::StorageKey;
use crate::media::reason;
use crate::media::stage::StageError;
use crate::protocol::jsonrpc::WireError;
use crate::store::{AttachmentToken, HeldMedia, Store};

/// What a clean end may take.
const CLOSE: Duration = Duration::from_secs(2);

/// Has the file of an account fetched into its media store: by the process that owns the connection, or over a
/// connection of our own. Blocks, at most for `within`.
///
/// # Errors
/// Why there is no connection, or why the file cannot be had.
pub fn fetch_media(
    paths: Paths,
    token: AttachmentToken,
    within: Duration,
) -> Result<(), WireError> {
    let internal = |error: io::Error| WireError::new("internal_error", error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let outcome = runtime.block_on(async {
        // Nobody reads what an ingress would write; there is none.
        let lines = writer::start(io::sink(), |_| false)
            .map_err(internal)?
            .lines();
        let process = Arc::new(Process::with(within + CLOSE));
        let account = Account::new(paths, process, lines, Box::new(|| {}));
        let deadline = Instant::now() + within;
        // Who runs the command decides.
        let most = u64::MAX;
        let asked = Asked::Fetch { token, most };
        let fetched = match passing::way(&account, &Config::default(), deadline, &asked).await {
            Ok(Way::Own(open)) => fetch(&open, token, most, deadline).await,
            Ok(Way::Passed(Said::Failed(error))) => Err(error),
            Ok(Way::Passed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
        account.close(CLOSE).await;
        fetched
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Has the file of a storage key fetched that is not in the media store, for a call that needs it now and may send it;
/// whether it is worth another look.
///
/// # Errors
/// Why it cannot be had within that time.
pub(super) async fn bring(
    account: &Account,
    config: &Config,
    store: &Store,
    key: &str,
    deadline: Instant,
) -> Result<bool, WireError> {
    let Ok(StorageKey { token, .. }) = StorageKey::parse(key, store.id()) else {
        return Ok(false);
    };
    let may_go = match store.held(token).await? {
        Some(HeldMedia::NotHere(lacking)) => config.media.view_once || !lacking.view_once,
        _ => false,
    };
    if !may_go {
        return Ok(false);
    }
    let most = config.max_attachment_bytes;
    let asked = Asked::Fetch { token, most };
    let fetched = match passing::way(account, config, deadline, &asked).await {
        Ok(Way::Own(open)) => {
            open.session.keep_media_in(&config.media.store);
            fetch(&open, token, most, deadline).await
        }
        Ok(Way::Passed(Said::Failed(error))) => Err(error),
        Ok(Way::Passed(_)) => Ok(()),
        Err(error) => Err(error.into()),
    };
    match fetched {
        Ok(()) => Ok(true),
        Err(error) if error.code == "too_large" => {
            Err(refused(StageError::TooLarge { limit: most }))
        }
        Err(error) => Err(WireError::new(
            "attachment_not_here",
            format_args!(
                "the file of this storage key is not here, and could not be fetched: {}",
                error.message
            ),
        )),
    }
}

/// Fetches it over the connection that this process owns, if it has no more than so many bytes.
pub(super) async fn fetch(
    open: &Open,
    token: AttachmentToken,
    most: u64,
    deadline: Instant,
) -> Result<(), WireError> {
    open.session.online(deadline).await?;
    let fetched = open.session.fetch_media(token, most, deadline).await?;
    fetched.map_err(|code| {
        let why = reason(&code);
        WireError::new(code, format_args!("the file cannot be had now: {why}"))
    })
}

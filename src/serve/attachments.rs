//! The attachments of a message of the host: from their sources to encrypted files that wait for their upload.
//!
//! Invariants: the account's thread is asked for nothing but to wait; memory does not grow with a file; a file is gone
//! when the call is over, unless a message of the outbox waits for it, and such a one is safe on the disk by then.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::account::Account;
use super::fetching;
use super::staging::{self, Work};
use crate::config::Config;
use crate::media::aside::Aside;
use crate::media::stage::{StageError, Staged, Staging};
use crate::outbound::{self, Attachment, Wish};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::{OutboundAttachment, OutboundMessage};
use crate::session::{STAGE, Transfer, sweep_staged};
use crate::store::{Peer, StagedName, Store};

/// Files looked at and encrypted side by side in the whole process: each keeps a core busy. What is encrypted as it comes
/// from elsewhere is as slow as what it comes from.
static DESKS: Semaphore = Semaphore::const_new(2);
/// What is kept of the time of a call for uploading and sending what was staged.
const FOR_SENDING: Duration = Duration::from_secs(5);

/// The attachments of a message.
#[derive(Default)]
pub(super) struct Prepared {
    /// Those that can be sent, in their order.
    pub attachments: Vec<Attachment>,
    /// The others, each with its reason.
    pub degraded: Vec<String>,
    /// Their files.
    pub files: Files,
}

/// See [`outbound::content_hash`]. In base64 files are as long as the line that they came in.
pub(super) async fn content_hash(
    message: &OutboundMessage,
    files: Vec<OutboundAttachment>,
    to: &Peer,
) -> Result<(String, Vec<OutboundAttachment>), WireError> {
    if files.is_empty() {
        return Ok((outbound::content_hash(message, &files, to), files));
    }
    let (message, to) = (message.clone(), to.clone());
    blocking(move || (outbound::content_hash(&message, &files, &to), files)).await
}

/// Stages the attachments of a message; with `degrade` what cannot be sent is left out and named, else it is an error.
pub(super) async fn prepare(
    account: &Account,
    config: &Config,
    message: &OutboundMessage,
    files: Vec<OutboundAttachment>,
    to: &Peer,
    degrade: bool,
    deadline: Instant,
) -> Result<Prepared, WireError> {
    let mut prepared = Prepared::default();
    if files.is_empty() {
        return Ok(prepared);
    }
    let wish = match outbound::no_attachments(message, to) {
        Some(error) => Err(error),
        None => Wish::parse(&message.metadata),
    };
    let store = account.store().await?;
    let media = account.paths.media();
    let begun = match wish {
        Ok(wish) => {
            let (store, media) = (store.clone(), media.clone());
            let staging = blocking(move || open(&media, &store)).await?;
            staging.map(|staging| (wish, staging))
        }
        Err(error) => Err(error.into()),
    };
    let (wish, staging) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            for file in &files {
                prepared.leave_out(&file.name, error.clone(), degrade)?;
            }
            return Ok(prepared);
        }
    };
    prepared.files.staging = Some(staging.clone());
    let left = deadline.saturating_duration_since(Instant::now());
    let until = deadline - FOR_SENDING.min(left / 4);
    for file in files {
        let name = file.name.clone();
        let transfer = match account.opened().await {
            Some(open) => open.session.stages(),
            None => Arc::new(Transfer::new(STAGE, 0)),
        };
        let work = || Work {
            staging: staging.clone().of_one(transfer.meter()),
            store: store.clone(),
            limit: config.max_attachment_bytes,
            view_once: config.media.view_once,
            media: media.clone(),
            private_urls: config.allow_private_urls,
            wish,
            until: until.into_std(),
        };
        // What is in the request may be long, and what it says needs no second try.
        let again = (!is_at_hand(&file)).then(|| file.clone());
        let mut ready = within(work(), file, &transfer, until).await;
        if let (Err(error), Some(again)) = (&ready, again)
            && error.code == "attachment_not_here"
        {
            let key = again.storage_key.clone().unwrap_or_default();
            ready = match fetching::bring(account, config, &store, &key, until).await {
                Ok(true) => within(work(), again, &transfer, until).await,
                Ok(false) => ready,
                Err(error) => Err(error),
            };
        }
        match ready {
            Ok(ready) => {
                prepared.files.held.extend(ready.sealed);
                if let Some(unmet) = ready.unmet {
                    let error = WireError::new("attachment_not_as_asked", unmet);
                    prepared.leave_out(&name, error, degrade)?;
                }
                prepared.attachments.push(ready.attachment);
            }
            Err(error) => prepared.leave_out(&name, error, degrade)?,
        }
    }
    Ok(prepared)
}

impl Prepared {
    fn leave_out(&mut self, name: &str, error: WireError, degrade: bool) -> Result<(), WireError> {
        if !degrade {
            return Err(error);
        }
        tracing::info!(code = %error.code, "an attachment is not sent as asked");
        let reason = format!("attachment {name:?}: {}: {}", error.code, error.message);
        self.degraded.push(reason);
        Ok(())
    }
}

/// Whether its bytes are in the request. An empty field beside another source is none.
fn is_at_hand(file: &OutboundAttachment) -> bool {
    file.data_base64
        .as_ref()
        .is_some_and(|said| !said.is_empty())
}

/// Does the work for one attachment on threads where that may block, as long as there is time.
async fn within(
    work: Work,
    file: OutboundAttachment,
    transfer: &Transfer,
    until: Instant,
) -> Result<staging::Ready, WireError> {
    let _stop = StopOnDrop(work.staging.clone());
    let work = Arc::new(work);
    let staged = async {
        let (own, task) = (work.clone(), work.clone());
        // A slow server keeps nobody else waiting.
        let mut desk = match is_at_hand(&file) {
            true => Some(DESKS.acquire().await),
            false => None,
        };
        let found = blocking(move || {
            let source = staging::source(&own, file);
            source.map(|source| (source.is_done(), Aside::new(source)))
        });
        let (is_done, source) = found.await??;
        if desk.is_none() && !is_done {
            desk = Some(DESKS.acquire().await);
        }
        blocking(move || {
            let ready = staging::ready(&task, source.into_inner());
            drop(desk);
            ready
        })
        .await?
    };
    let staged = tokio::select! {
        staged = tokio::time::timeout_at(until, staged) => staged.ok(),
        // It says how far it is, and never loses patience.
        () = transfer.stalls(Duration::MAX) => None,
    };
    staged.unwrap_or_else(|| Err(refused(StageError::Late)))
}

/// Whatever ends the wait for an attachment, its threads end with the step that they are at.
struct StopOnDrop(Staging);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Opens the folder of staged files, if possible without what processes that died have left in it.
fn open(media: &Path, store: &Store) -> Result<Staging, WireError> {
    if let Err(error) = sweep_staged(media, store) {
        tracing::warn!(%error, "staged files that nobody needs stay for now");
    }
    Staging::open(media).map_err(refused)
}

/// The error of the disk, for the host.
pub(super) fn refused(error: StageError) -> WireError {
    WireError::new(error.code(), error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| WireError::new("internal_error", error))
}

/// The files that a call has staged. Dropped, they are gone.
#[derive(Default)]
pub(super) struct Files {
    held: Vec<Aside<Staged>>,
    /// Held until the outbox has said what it waits for, so that nobody takes the files for lost.
    staging: Option<Staging>,
}

impl Files {
    /// Gives the files to the outbox, which is about to be told of them. To be [`settled`](Given::settle) afterwards.
    pub(super) fn give(self) -> Result<Given, WireError> {
        let mut given = Given {
            names: Vec::new(),
            paths: Vec::new(),
            staging: self.staging,
        };
        for staged in self.held {
            let path = staged.into_inner().keep().map_err(refused)?;
            given.names.extend(named(&path));
            given.paths.push(path);
        }
        Ok(given)
    }
}

/// The name under which the outbox knows a staged file.
pub(super) fn named(path: &Path) -> Option<StagedName> {
    let name = path.file_name()?.to_str()?.to_owned();
    name.try_into().ok()
}

/// Files that the outbox may wait for.
pub(super) struct Given {
    names: Vec<StagedName>,
    paths: Vec<PathBuf>,
    staging: Option<Staging>,
}

impl Given {
    /// Removes those that no message waits for. The others are safe on the disk afterwards, and noted to be: until then
    /// nobody was told that they wait, and a power cut undoes them. Who sent its file needs no such thing, and it costs
    /// more than all the rest.
    ///
    /// # Errors
    /// Those of the disk and of the store. A message that waits may lose its file then.
    pub(super) async fn settle(&self, store: &Store) -> Result<(), WireError> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let awaited: HashSet<StagedName> = store.files_awaited().await?.into_iter().collect();
        let left = store.files_left().await?;
        let ours = |all: Vec<StagedName>| -> Vec<StagedName> {
            all.into_iter()
                .filter(|name| self.names.contains(name))
                .collect()
        };
        let (kept, left) = (ours(awaited.iter().cloned().collect()), ours(left));
        let (paths, staging) = (self.paths.clone(), self.staging.clone());
        let settled = blocking(move || {
            let wanted = |path: &PathBuf| named(path).is_some_and(|name| awaited.contains(&name));
            let (waiting, done): (Vec<_>, Vec<_>) = paths.into_iter().partition(wanted);
            for path in done {
                match std::fs::remove_file(path) {
                    // Whoever uploaded it has removed it.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(%error, "a staged file cannot be removed");
                    }
                    _ => {}
                }
            }
            match (waiting.as_slice(), &staging) {
                ([_, ..], Some(staging)) => staging.sync(&waiting),
                _ => Ok(()),
            }
        });
        settled.await?.map_err(refused)?;
        if !kept.is_empty() {
            store.files_synced(kept).await?;
        }
        if !left.is_empty() {
            store.files_removed(left).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;

    /// An account that stages.
    struct Home {
        folder: TempDir,
        store: Store,
        staging: Staging,
    }

    impl Home {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("channel.db")).unwrap();
            let staging = Staging::open(&folder.path().join("media")).unwrap();
            Self {
                folder,
                store,
                staging,
            }
        }

        async fn within(
            &self,
            file: OutboundAttachment,
            time: u64,
        ) -> Result<staging::Ready, WireError> {
            let until = Instant::now() + Duration::from_millis(time);
            let transfer = Transfer::new(STAGE, 0);
            within(self.work(&transfer, until), file, &transfer, until).await
        }

        fn work(&self, transfer: &Transfer, until: Instant) -> Work {
            Work {
                staging: self.staging.clone().of_one(transfer.meter()),
                store: self.store.clone(),
                limit: 1000,
                view_once: false,
                media: self.folder.path().join("media"),
                private_urls: true,
                wish: Wish::default(),
                until: until.into_std(),
            }
        }

        fn staged(&self) -> usize {
            let staged = self.folder.path().join("media/staged");
            std::fs::read_dir(staged).unwrap().count() - 1
        }
    }

    #[test]
    fn nobody_looks_at_a_picture_for_a_call_that_is_over() {
        let home = Home::new();
        let work = home.work(&Transfer::new(STAGE, 0), Instant::now());
        let picture = || OutboundAttachment {
            mime_type: "image/png".to_owned(),
            data_base64: Some("iVBORw0KGgo=".to_owned().into()),
            ..OutboundAttachment::default()
        };
        let ready = || {
            let source = staging::source(&work, picture()).unwrap();
            staging::ready(&work, source).map(drop).unwrap_err().code
        };
        assert_eq!(ready(), "attachment_unreadable");
        let source = staging::source(&work, picture()).unwrap();
        work.staging.stop();
        let late = staging::ready(&work, source).map(drop).unwrap_err();
        assert_eq!(late.code, refused(StageError::Late).code);
        assert_eq!(home.staged(), 0);
    }

    fn document() -> OutboundAttachment {
        OutboundAttachment {
            data_base64: Some("AAECAw==".to_owned().into()),
            ..OutboundAttachment::default()
        }
    }

    /// It comes as fast as a core can encrypt it.
    #[tokio::test]
    async fn what_is_at_hand_waits_for_a_desk_even_if_it_is_a_document() {
        let home = Home::new();
        let prepared = async |time| {
            let ready = home.within(document(), time).await;
            ready.map(drop).map_err(|error| error.code)
        };
        let desks = DESKS.acquire_many(2).await.unwrap();
        let late = refused(StageError::Late).code;
        assert_eq!(prepared(100).await, Err(late));
        drop(desks);
        assert_eq!(prepared(20_000).await, Ok(()));
    }

    /// A server with something that looks like a picture.
    fn picture() -> OutboundAttachment {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\x89PNG\r\n\x1a\n";
            stream.write_all(answer).unwrap();
        });
        OutboundAttachment {
            url: Some(url),
            ..OutboundAttachment::default()
        }
    }

    #[test]
    fn what_is_given_up_is_removed_on_a_thread_that_may_block() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let home = Home::new();
            // Has the only such thread do nothing but wait, once it has done what it was given before.
            let busy = async || {
                let (release, released) = mpsc::channel::<()>();
                let (begun, begins) = tokio::sync::oneshot::channel();
                drop(tokio::task::spawn_blocking(move || {
                    let _ = begun.send(());
                    let _ = released.recv();
                }));
                begins.await.unwrap();
                release
            };
            let removed = async |release| {
                assert_eq!(home.staged(), 1);
                drop(release);
                blocking(|| ()).await.unwrap();
                assert_eq!(home.staged(), 0);
            };
            let ready = home.within(document(), 20_000).await.unwrap();
            let release = busy().await;
            drop(ready);
            removed(release).await;
            // It waits for a desk.
            let desks = DESKS.acquire_many(2).await.unwrap();
            let release = tokio::select! {
                biased;
                _ = home.within(picture(), 20_000) => panic!("there is no desk"),
                release = busy() => release,
            };
            removed(release).await;
            drop(desks);
        });
    }
}

//! One file from WhatsApp to the shelf.
//!
//! Invariant: bytes are streamed into a file that is gone with the download, and get their name only once they are what
//! the message announced. An attempt is noted in the store before its first byte, and what became of it when it ends, with
//! when it is worth another; so a file costs no more than its attempts, whatever ends them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::NamedTempFile;
use wacore::download::MediaType;
use whatsapp_rust::Client;
use whatsapp_rust::download::DownloadParams;

use super::Shared;
use super::download::Guard;
use super::failure::{ATTEMPTS, FULL, Failure, GONE, NETWORK, NO_NETWORK, NO_SPACE, noted};
use super::reupload::upload_again;
use super::sink::{Meter, Sink};
use super::tidy::{discard, on_depot};
use crate::clock::now;
use crate::media::aside::Aside;
use crate::media::depot::{Passage, object};
use crate::store::{ContentHash, Remnant, ToFetch};

/// A download from which nothing came for this long is stuck.
const STALLED: Duration = Duration::from_secs(60);
/// Fetches one file and notes what became of it; whether it is here.
pub(super) async fn fetch(guard: Guard, file: ToFetch, most: Result<u64, &'static str>) -> bool {
    let shared = guard.shared.clone();
    let Some(client) = shared.client() else {
        return false;
    };
    let mut begun = false;
    let failure = match attempt(&guard, &client, &file, most, &mut begun).await {
        Ok(()) => return true,
        Err(failure) if failure.reason == GONE => {
            match upload_again(&guard, &client, &file).await {
                // It is to be fetched again, and its turn comes.
                Ok(()) => return false,
                Err(failure) => failure,
            }
        }
        Err(failure) => failure,
    };
    // Without a connection nothing says that the file cannot be had. A full disk, which ends the connection too, does.
    if shared
        .client()
        .is_none_or(|now| !Arc::ptr_eq(&now, &client))
        && failure.again.is_some()
        && !failure.is_ours()
    {
        return false;
    }
    let next = failure.pause(file.attempts);
    let next = next.map(|pause| now().saturating_add(pause));
    let (chat, reason, detail) = (file.chat.redacted(), failure.reason, &failure.detail);
    // The host keeps each line, and a disk may be full for long.
    match next.is_some() && file.reason.as_deref() == Some(reason) {
        true => tracing::debug!(chat, reason, detail, "media not fetched, as before"),
        false => tracing::warn!(
            chat,
            reason,
            detail,
            again = next.is_some(),
            "media not fetched"
        ),
    }
    let more = i64::from(failure.counts) - i64::from(begun);
    if let Some(next) = next.filter(|_| failure.of_all) {
        let but = shared.downloads.under_way();
        drop(
            shared
                .store
                .media_waits(reason.to_owned(), now(), next, but),
        );
    }
    let noted = shared
        .store
        .media_not_here(file.id, reason.to_owned(), next, more);
    if let Err(error) = noted.await {
        tracing::warn!(%error, "what became of a download could not be noted");
        // It is still to be fetched, by all that is known.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

async fn attempt(
    guard: &Guard,
    client: &Arc<Client>,
    file: &ToFetch,
    most: Result<u64, &'static str>,
    begun: &mut bool,
) -> Result<(), Failure> {
    let shared = &guard.shared;
    guard
        .meter
        .allow(most.map_err(|why| Failure::last(why, "by the configuration"))?);
    if file.attempts >= ATTEMPTS {
        return Err(Failure::last(NETWORK, "it was begun again and again"));
    }
    if file.size.is_some_and(|size| size > guard.meter.most()) {
        return Err(Failure::last("too_large", "by what its sender says"));
    }
    if !guard.promise(file.size.unwrap_or_default()) {
        let full = Failure::again(FULL, NO_SPACE, "not enough free space");
        return Err(match shared.downloads.has_free(0) {
            true => full.not_counted(),
            false => full.of_all(),
        });
    }
    let bucket = shared.downloads.bucket();
    let failing = shared.downloads.fails.load(Ordering::Relaxed);
    if let Some(root) = bucket.as_ref().filter(|_| failing) {
        // What would not be taken is not fetched in vain, again and again.
        try_store(shared, root).await.map_err(Failure::of_all)?;
    }
    let opened = on_depot(shared, move |depot| {
        let part = depot.shelf().begin()?;
        let writing = part.reopen()?;
        Ok((Aside::new(part), writing))
    });
    let (part, writing) = opened
        .await
        .map_err(|error| Failure::kept(&error).of_all())?;
    let params = DownloadParams {
        direct_path: file.source.direct_path.clone(),
        media_key: file.source.key.clone(),
        file_sha256: file.source.sha256.to_vec(),
        file_enc_sha256: file.source.enc_sha256.clone(),
        file_length: file.size.unwrap_or_default(),
        media_type: media_type(&file.kind),
    };
    let sink = Sink::new(writing, guard.meter.clone(), guard.room());
    let sink = sink.map_err(|error| Failure::kept(&error.into()).not_counted())?;
    // Whoever ends this process, or the connection, has it begun again; not for ever.
    drop(shared.store.media_begins(file.id));
    *begun = true;
    let downloading = client.download_to_writer(&params, sink);
    let size = match fill(downloading, &file.source.sha256, &guard.meter).await {
        Ok(size) => size,
        Err(failure) => {
            part.end().await;
            return Err(failure);
        }
    };
    let sha256 = file.source.sha256;
    // Before an event can be told of it, and before anybody has to wait for a store's answer.
    let known = place_of(shared, sha256).await?;
    if let Some(root) = bucket {
        return keep_in(&root, guard, file, part, size, known).await;
    }
    let settled = on_depot(shared, move |depot| {
        Ok(Aside::new(depot.shelf().settle(part.into_inner())?))
    });
    let settled = settled.await.map_err(|error| Failure::kept(&error))?;
    // From here to its row nothing may take it away.
    let _naming = shared.downloads.naming.lock().await;
    let mime_type = file.mime_type.clone();
    let kept = on_depot(shared, move |depot| {
        let shelf = depot.shelf();
        Ok(shelf.keep(settled.into_inner(), &sha256, mime_type.as_deref())?)
    });
    let place = kept.await.map_err(|error| Failure::kept(&error))?;
    enter(shared, file, place, size).await
}

/// Whether the object store with this URL takes anything again. What that leaves is removed, or known.
async fn try_store(shared: &Arc<Shared>, root: &str) -> Result<(), Failure> {
    let place = format!("{root}/{}/check", shared.store.id());
    let trace = Remnant::object(&*place);
    noted(shared.store.media_goes(trace.clone())).await?;
    let left = trace.clone();
    let removed = on_depot(shared, move |depot| {
        depot.bucket(&place)?.try_out(&place)?;
        Ok(depot.remove(&left).is_ok())
    });
    match removed.await.map_err(|error| Failure::kept(&error))? {
        true => drop(shared.store.remains_removed(trace)),
        // Another one that looked may have taken the note out.
        false => drop(shared.store.media_goes(trace)),
    }
    Ok(())
}

/// Puts a verified file into the object store with this URL. What it has here goes.
async fn keep_in(
    root: &str,
    guard: &Guard,
    file: &ToFetch,
    part: Aside<NamedTempFile>,
    size: u64,
    known: Option<String>,
) -> Result<(), Failure> {
    let shared = &guard.shared;
    let sha256 = file.source.sha256;
    if known.is_some() {
        let _naming = shared.downloads.naming.lock().await;
        // It may have been let go since.
        if let Some(place) = noted(shared.store.media_place(sha256)).await? {
            drop(part);
            return enter(shared, file, place, size).await;
        }
    }
    // This may take long, and nobody else puts or removes this content meanwhile.
    let place = object(root, shared.store.id(), &sha256, file.mime_type.as_deref());
    noted(shared.store.media_goes(Remnant::object(&*place))).await?;
    let (url, owned, meter) = (place.clone(), shared.clone(), guard.meter.clone());
    let part = part.into_inner();
    let put = on_depot(shared, move |depot| {
        let upload = |number: &str| Remnant::upload(&*url, number.to_owned());
        let passage = Passage {
            turns: &owned.downloads.putting,
            stopped: &|| meter.transfer.is_stopped(),
            begun: &|number: &str| {
                let noted = owned.store.media_goes(upload(number)).wait();
                noted.map_err(std::io::Error::other)
            },
            over: &|number: &str| drop(owned.store.remains_removed(upload(number))),
        };
        let put = depot
            .bucket(&url)?
            .put(&url, part.as_file(), size, &passage);
        if meter.transfer.is_stopped() {
            // Who has the connection by now may have tidied before it was there.
            drop(owned.store.media_goes(Remnant::object(&*url)));
        }
        put
    })
    .await;
    shared
        .downloads
        .fails
        .store(put.is_err(), Ordering::Relaxed);
    put.map_err(|error| Failure::kept(&error))?;
    crate::crash::point("after_object");
    let _naming = shared.downloads.naming.lock().await;
    enter(shared, file, place, size).await
}

/// Enters a file that is in its place.
async fn enter(
    shared: &Arc<Shared>,
    file: &ToFetch,
    place: String,
    size: u64,
) -> Result<(), Failure> {
    let entered = shared.store.media_here(file.id, place.clone(), size, now());
    let kept = noted(entered).await?;
    // It had another ending when it came first, or nobody asks for it any more.
    if kept != place {
        discard(shared, place).await;
    }
    crate::crash::point("after_media");
    Ok(())
}

/// Where this content is already. What somebody has removed from there is noted as lost; as long as its store does not say
/// so it is there.
async fn place_of(shared: &Arc<Shared>, sha256: ContentHash) -> Result<Option<String>, Failure> {
    let Some(place) = noted(shared.store.media_place(sha256)).await? else {
        return Ok(None);
    };
    let known = place.clone();
    let gone = on_depot(shared, move |depot| depot.is_gone(&known)).await;
    if !gone.unwrap_or_default() {
        return Ok(Some(place));
    }
    noted(shared.store.media_lost(vec![place])).await?;
    Ok(None)
}

/// Follows a download to its end; the size of the file, once it is what the message announced.
async fn fill(
    downloading: impl Future<Output = anyhow::Result<Sink>>,
    announced: &ContentHash,
    meter: &Meter,
) -> Result<u64, Failure> {
    let downloaded = tokio::select! {
        downloaded = downloading => downloaded,
        () = meter.transfer.stalls(STALLED) => {
            meter.transfer.stop();
            return Err(Failure::again(NETWORK, NO_NETWORK, "nothing came any more"));
        }
    };
    let sink = downloaded.map_err(|error| Failure::of_download(meter, &error))?;
    // What it still has to write may take its time.
    let finished = tokio::task::spawn_blocking(move || sink.finish()).await;
    let finished = finished.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    let (sha256, size) = finished.map_err(|error| Failure::of_download(meter, &error.into()))?;
    match sha256 == *announced {
        true => Ok(size),
        false => Err(Failure::last("corrupt", "its hash is another one")),
    }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use tokio::task::JoinSet;
    use wacore::download::{MediaHost, MediaRoute};
    use whatsapp_loopback::Server;
    use whatsapp_loopback::media::MediaOp;
    use whatsapp_rust::TokioRuntime;
    use whatsapp_rust::download::MediaDownloader;

    use super::super::endpoint::Http;
    use super::super::transfers::Transfers;
    use super::*;
    use crate::media::shelf::Shelf;

    /// Cuts the answer after every number of bytes that it has, over the HTTP client and TLS of a session.
    #[tokio::test]
    async fn a_download_that_is_cut_anywhere_fails_and_leaves_nothing() {
        let mut content = vec![0; 500];
        fastrand::Rng::with_seed(1).fill(&mut content);
        let encrypted = wacore::upload::encrypt_media(&content, MediaType::Image).unwrap();
        let length = encrypted.data_to_upload.len() as u64;
        let server = Server::start(Default::default()).await.unwrap();
        let media = &server.core().media;
        let path = media.publish(encrypted.data_to_upload).unwrap();
        for after in 0..length {
            media.cut(MediaOp::Download, after, 1);
        }
        let home = tempfile::tempdir().unwrap();
        let shelf = Arc::new(Shelf::open(&home.path().join("media")).unwrap());
        let route = MediaRoute::unauthenticated(vec![MediaHost::new(server.addr().to_string())]);
        let http = Arc::new(Http::new());
        let downloader = MediaDownloader::new(http, Arc::new(TokioRuntime), route);
        let downloader = Arc::new(downloader);
        let params = Arc::new(DownloadParams::encrypted(
            path,
            &encrypted.media_key,
            &encrypted.file_sha256,
            &encrypted.file_enc_sha256,
            content.len() as u64,
            MediaType::Image,
        ));
        let once = move || {
            let (shelf, downloader, params) = (shelf.clone(), downloader.clone(), params.clone());
            async move {
                let part = shelf.begin().unwrap();
                let meter = Arc::new(Meter::new(Transfers::default().begin("download", 0)));
                meter.allow(LARGE);
                let part_of = part.reopen().unwrap();
                let sink = Sink::new(part_of, meter.clone(), Box::new(|| true)).unwrap();
                let downloading =
                    async { Ok(downloader.download_to_writer(&*params, sink).await?) };
                let filled = fill(downloading, &encrypted.file_sha256, &meter).await;
                (filled, fs::read(part.path()).unwrap())
            }
        };
        let left = Arc::new(Mutex::new(0..length));
        let mut all = JoinSet::new();
        for _ in 0..8 {
            let (once, left) = (once.clone(), left.clone());
            all.spawn(async move {
                while left.lock().unwrap().next().is_some() {
                    let (filled, bytes) = once().await;
                    let failure = filled.expect_err("it was cut");
                    assert_eq!(
                        (failure.reason, failure.again),
                        ("download_failed", Some(NO_NETWORK)),
                        "{}",
                        failure.detail
                    );
                    assert!(bytes.is_empty(), "what is not verified was emptied");
                }
            });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap();
        }
        assert_eq!(media.cuts_left(), 0);
        let left = home.path().join("media/part");
        assert_eq!(fs::read_dir(&left).unwrap().count(), 0);
        // All of it.
        let (filled, bytes) = once().await;
        assert_eq!(filled.unwrap(), content.len() as u64);
        assert!(bytes == content);
        assert_eq!(fs::read_dir(&left).unwrap().count(), 0);
    }

    const LARGE: u64 = 1 << 20;
}

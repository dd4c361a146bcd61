//! An object store as the place of files: S3 and what speaks like it, Google Cloud, Azure.
//!
//! Invariants: an object is there whole or not at all; an upload in parts is made known, with its number, before its first
//! part. Credentials come from the environment alone, and nothing that an answer repeats of them gets into an error.
//! Everything here blocks. The requests run on a runtime of the bucket's own, driven by the threads that ask, so that
//! hashing and signing hold up no account's thread.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    ClientConfigKey, Error, ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig,
};
use reqwest::Url;
use tokio::runtime::Runtime;

use super::depot::{DepotError, Passage};
use crate::store::Remnant;

/// Bytes of one request. S3 takes no smaller part but the last, and ten thousand of them.
const PART: u64 = 5 << 20;
/// Files up to this size wait for nobody's turn: they are gone in a moment, and take no memory to speak of.
const PASSES: u64 = 1 << 20;
/// A store that is not there is noticed; whoever asked tries again later.
const RETRIES: usize = 2;
/// How long one request is tried.
const RETRYING: Duration = Duration::from_secs(10);
/// How long one request with a part may take: 5 MiB over a line of 20 kB/s. A store's reading timeout would run while a part
/// is sent, so there is none.
const LONGEST: &str = "5 minutes";
/// How long a request without a file may take.
const SHORT: Duration = Duration::from_secs(30);

/// What is put where nothing but a look is meant.
const WORD: &[u8] = b"channel-whatsapp looks whether it may write here";

/// What a store has to be able to do.
trait Objects: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Objects for T {}

/// A bucket, or a container.
#[derive(Debug)]
pub struct Bucket {
    /// Scheme and bucket: what all its objects' URLs begin with.
    root: String,
    store: Box<dyn Objects>,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

/// The URL of a folder in an object store, in its one spelling.
///
/// # Errors
/// What is allowed.
pub fn folder(text: &str) -> Result<String, String> {
    let sound = |url: &Url| {
        matches!(
            ObjectStoreScheme::parse(url),
            Ok((
                ObjectStoreScheme::AmazonS3
                    | ObjectStoreScheme::GoogleCloudStorage
                    | ObjectStoreScheme::MicrosoftAzure,
                _
            ))
        ) && url.password().is_none()
            // In Azure's own form this is the container.
            && (url.username().is_empty() || url.scheme().starts_with("abfs"))
            && url.query().is_none()
            && url.fragment().is_none()
    };
    match Url::parse(text) {
        Ok(url) if sound(&url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        _ => Err(
            "\"file\", or the URL of an object store such as s3://bucket/folder, gs://bucket/folder or \
             az://container/folder, without credentials, which belong into the environment"
                .to_owned(),
        ),
    }
}

impl Bucket {
    /// The bucket of this URL, with the credentials of the environment. Asks nobody yet.
    pub(super) fn open(url: &str) -> Result<Self, DepotError> {
        // Installs ring as the process's choice for TLS, once; reqwest here has none of its own.
        drop(whatsapp_rust_tokio_transport::default_tls_connector());
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRYING,
            ..RetryConfig::default()
        };
        let store: Result<Box<dyn Objects>, Error> = match parsed(url)?.0 {
            ObjectStoreScheme::AmazonS3 => AmazonS3Builder::from_env()
                .with_url(url)
                .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), LONGEST)
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            ObjectStoreScheme::GoogleCloudStorage => GoogleCloudStorageBuilder::from_env()
                .with_url(url)
                .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), LONGEST)
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            ObjectStoreScheme::MicrosoftAzure => MicrosoftAzureBuilder::from_env()
                .with_url(url)
                .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), LONGEST)
                .with_retry(retry)
                .build()
                .map(|store| Box::new(store) as _),
            _ => {
                return Err(DepotError::Refused(
                    "no object store has such a URL".to_owned(),
                ));
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            root: root(url)?,
            store: store.map_err(|error| DepotError::Refused(told(&error)))?,
            runtime: Some(runtime),
        })
    }

    /// Whether this URL is of this bucket.
    pub(super) fn has(&self, url: &str) -> bool {
        root(url).is_ok_and(|root| root == self.root)
    }

    /// Whether objects can be written, read and removed in the folder with this URL.
    pub fn check(&self, folder: &str) -> Result<(), DepotError> {
        // One name, so that there is never more than one that could not be removed.
        let path = parsed(&format!("{}/doctor", folder.trim_end_matches('/')))?.1;
        self.soon(async {
            self.store.put(&path, WORD.into()).await?;
            let read = self.store.get_range(&path, 0..WORD.len() as u64).await;
            self.store.delete(&path).await?;
            read
        })
        .map(drop)
        .map_err(|error| failed(&error))
    }

    /// Puts a few bytes in this place, to see whether anything can be put there. They are the caller's to remove.
    pub fn try_out(&self, place: &str) -> Result<(), DepotError> {
        let path = parsed(place)?.1;
        self.soon(self.store.put(&path, WORD.into()))
            .map(drop)
            .map_err(|error| failed(&error))
    }

    /// Puts a file in its place, a part at a time.
    pub fn put(
        &self,
        place: &str,
        mut file: &File,
        size: u64,
        passage: &Passage<'_>,
    ) -> Result<(), DepotError> {
        let path = parsed(place)?.1;
        file.rewind()?;
        if size <= PART {
            let _turn = (size > PASSES).then(|| self.wait(passage.turns.acquire()));
            let put = self.store.put(&path, part(file, size)?.into());
            return self.wait(put).map(drop).map_err(|error| failed(&error));
        }
        let upload = self
            .wait(self.store.create_multipart(&path))
            .map_err(|error| failed(&error))?;
        // An upload of which nobody would know is none.
        let sent = (passage.begun)(&upload)
            .map_err(DepotError::from)
            .and_then(|()| self.put_parts(&path, &upload, file, passage));
        // What cannot be taken back now is, when the store is tidied.
        if sent.is_ok() || self.abort(&path, &upload).is_ok() {
            (passage.over)(&upload);
        }
        sent
    }

    fn put_parts(
        &self,
        path: &Path,
        upload: &String,
        file: &File,
        passage: &Passage<'_>,
    ) -> Result<(), DepotError> {
        let mut parts = Vec::new();
        loop {
            // For one part: whoever has few parts does not wait for all of somebody's many.
            let _turn = self.wait(passage.turns.acquire());
            if (passage.stopped)() {
                return Err(io::Error::other("the upload was stopped").into());
            }
            let bytes = part(file, PART)?;
            if bytes.is_empty() {
                break;
            }
            let put = self.store.put_part(path, upload, parts.len(), bytes.into());
            parts.push(self.wait(put).map_err(|error| failed(&error))?);
            crate::crash::point("bucket_part");
        }
        let complete = self.store.complete_multipart(path, upload, parts);
        self.wait(complete)
            .map(drop)
            .map_err(|error| failed(&error))
    }

    /// Reads an object of this size, a piece at a time; no more of it is asked for once `take` has failed.
    pub(super) fn read(
        &self,
        place: &str,
        size: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), DepotError> {
        let path = parsed(place)?.1;
        let mut at = 0;
        while at < size {
            let end = size.min(at + PART);
            let bytes = self
                .wait(self.store.get_range(&path, at..end))
                .map_err(absent)?;
            if (bytes.len() as u64) < end - at {
                return Err(DepotError::Lost);
            }
            at += bytes.len() as u64;
            take(&bytes)?;
        }
        Ok(())
    }

    /// Whether there is no such object. With its bucket it is gone, too.
    pub(super) fn is_gone(&self, place: &str) -> Result<bool, DepotError> {
        let path = parsed(place)?.1;
        match self.soon(self.store.head(&path)) {
            Err(Error::NotFound { .. }) => Ok(true),
            found => found.map(|_| false).map_err(|error| failed(&error)),
        }
    }

    /// Removes an object, or what an upload in parts has left of it. What is not there is as good as removed.
    pub(super) fn remove(&self, what: &Remnant) -> Result<(), DepotError> {
        let path = parsed(&what.place)?.1;
        match &what.upload {
            Some(upload) => self.abort(&path, upload),
            None => gone(self.soon(self.store.delete(&path))),
        }
    }

    fn abort(&self, path: &Path, upload: &String) -> Result<(), DepotError> {
        gone(self.soon(self.store.abort_multipart(path, upload)))
    }

    /// Waits for what carries no file.
    fn soon<T>(
        &self,
        asked: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.wait(async {
            let late = |_| {
                Err(Error::Generic {
                    store: "bucket",
                    source: "no answer in time".into(),
                })
            };
            tokio::time::timeout(SHORT, asked)
                .await
                .unwrap_or_else(late)
        })
    }

    fn wait<T>(&self, asked: impl Future<Output = T>) -> T {
        match &self.runtime {
            Some(runtime) => runtime.block_on(asked),
            None => unreachable!("a bucket is not used while it is dropped"),
        }
    }
}

impl Drop for Bucket {
    /// May be dropped where nothing may block.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is wanted to be gone.
fn gone(done: object_store::Result<()>) -> Result<(), DepotError> {
    match done {
        Err(Error::NotFound { .. }) => Ok(()),
        done => done.map_err(|error| failed(&error)),
    }
}

/// The next bytes of a file, so many at most; none at its end.
fn part(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most as usize);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which kind of store a URL is of, and the path in it.
fn parsed(url: &str) -> Result<(ObjectStoreScheme, Path), DepotError> {
    let url = Url::parse(url).map_err(|error| DepotError::Refused(error.to_string()))?;
    ObjectStoreScheme::parse(&url).map_err(|error| DepotError::Refused(error.to_string()))
}

/// What is before the path.
fn root(url: &str) -> Result<String, DepotError> {
    let path = parsed(url)?.1;
    let mut url = Url::parse(url).map_err(|error| DepotError::Refused(error.to_string()))?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        path.parts().for_each(|_| {
            segments.pop();
        });
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// What an error of a request that needs its object means.
fn absent(error: Error) -> DepotError {
    match &error {
        Error::NotFound { .. } if !no_bucket(&error) => DepotError::Lost,
        // It ends before what is asked for.
        _ if status(&error.to_string()).is_some_and(|status| status.starts_with("416")) => {
            DepotError::Lost
        }
        _ => failed(&error),
    }
}

fn failed(error: &Error) -> DepotError {
    match error {
        Error::Generic { .. } | Error::JoinError { .. } if !client_error(error) => {
            DepotError::Unreachable(told(error))
        }
        _ => DepotError::Refused(told(error)),
    }
}

/// By the names that S3, Azure and Google Cloud have for it.
fn no_bucket(error: &Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"]
        .iter()
        .any(|said| text.contains(said))
}

/// Whether the answer was of those that say that the question was wrong.
fn client_error(error: &Error) -> bool {
    let text = error.to_string();
    if let Some(code) = of_one(&text) {
        return !["SlowDown", "InternalError", "ServiceUnavailable"].contains(&code);
    }
    status(&text).is_some_and(|status| status.starts_with(['3', '4']))
}

/// The status of the answer, and what follows it, in the text of an error of `object_store`.
fn status(text: &str) -> Option<&str> {
    text.split("status code: ").nth(1)
}

/// What S3 says of one object when it is asked to remove several, with an answer that is good as a whole; `object_store`
/// always asks it so.
fn of_one(text: &str) -> Option<&str> {
    let said = text.split("DeleteObjects request failed for key ").nth(1)?;
    said.rsplit_once("(code: ")?.1.split(')').next()
}

/// What of an error is for people: the store's word for it, else its status, else what lies at the bottom of it. An answer's
/// text may repeat what was signed.
fn told(error: &Error) -> String {
    let whole = error.to_string();
    let between =
        |from: &str, to: &str| Some(whole.split_once(from)?.1.split_once(to)?.0.to_owned());
    if let Some(code) = of_one(&whole) {
        return format!("it answers {code}");
    }
    if let Some(code) = between("<Code>", "</Code>") {
        return format!("it answers {code}");
    }
    if let Some(status) = between("status code: ", ":") {
        return format!("it answers {status}");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (given, expected) in [
            ("s3://bucket", Some("s3://bucket")),
            ("s3://bucket/a/b/", Some("s3://bucket/a/b")),
            ("s3://bucket/my files", Some("s3://bucket/my%20files")),
            ("gs://bucket/a", Some("gs://bucket/a")),
            ("az://container/a", Some("az://container/a")),
            (
                "abfs://container@account.dfs.core.windows.net/a",
                Some("abfs://container@account.dfs.core.windows.net/a"),
            ),
            (
                "https://s3.eu-central-1.amazonaws.com/bucket/a",
                Some("https://s3.eu-central-1.amazonaws.com/bucket/a"),
            ),
            ("s3://key:secret@bucket/a", None),
            ("s3://key@bucket/a", None),
            ("s3://bucket/a?x=1", None),
            ("s3://bucket/a#x", None),
            ("https://example.com/a", None),
            ("file:///srv/media", None),
            ("memory:///", None),
            ("disk", None),
            ("", None),
        ] {
            assert_eq!(folder(given).ok().as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn one_object_that_cannot_be_removed() {
        for (code, refused) in [("AccessDenied", true), ("SlowDown", false)] {
            let text = format!("DeleteObjects request failed for key a/b: So it is (code: {code})");
            let error = Error::Generic {
                store: "S3",
                source: text.into(),
            };
            let said = failed(&error);
            assert_eq!(matches!(said, DepotError::Refused(_)), refused, "{said:?}");
            assert!(said.to_string().contains(&format!("it answers {code}")));
        }
    }

    #[test]
    fn a_bucket_is_known_by_what_is_before_the_path() {
        for (url, expected) in [
            ("s3://bucket/a/b", "s3://bucket"),
            ("s3://bucket/my%20files/", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket", "s3://bucket"),
            (
                "https://s3.eu-central-1.amazonaws.com/bucket/a",
                "https://s3.eu-central-1.amazonaws.com/bucket",
            ),
        ] {
            assert_eq!(root(url).unwrap(), expected, "{url}");
        }
    }
}

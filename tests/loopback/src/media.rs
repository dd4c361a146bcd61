//! Media as the CDN keeps it: encrypted blobs that the server cannot read, by path.
//!
//! Invariants: a blob is stored only when its SHA-256 is the one its path names; what a client may make the store
//! hold is bounded, unfinished uploads included; a query never decides which blob is meant.

mod again;
mod faults;
mod http;
mod upload;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::StatusCode;
use sha2::{Digest, Sha256};

pub(crate) use self::again::Missed;
use self::faults::MediaFaults;
pub use self::faults::MediaOp;

/// SHA-256 of an encrypted file, by which uploads are named.
type Hash = [u8; 32];

/// The token of an upload's path; clients differ in whether they pad it.
const TOKEN: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// What the store holds at most, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct MediaLimits {
    /// Of one blob; a larger upload is answered with 413.
    pub blob: u64,
    /// Of all blobs and unfinished uploads together; beyond it uploads are answered with 507.
    pub total: u64,
}

impl Default for MediaLimits {
    fn default() -> Self {
        Self {
            blob: 256 << 20,
            total: 2 << 30,
        }
    }
}

/// The media of one server, and the faults put on them.
#[derive(Default)]
pub struct MediaStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limits: MediaLimits,
    hosts: Vec<String>,
    /// Goes into the token that `media_conn` hands out; see [`MediaStore::rotate_auth`].
    auth_generation: u64,
    blobs: HashMap<String, Blob>,
    /// Uploads that broke off, by the hash they promised.
    partial: HashMap<Hash, Vec<u8>>,
    /// Bytes in `blobs`, in `partial` and in uploads under way.
    held: u64,
    uploads: u64,
    /// Bytes of uploads, whether they were finished or not.
    received: u64,
    /// Uploads, and questions about them, with a token that is not a current one.
    unauthorised: u64,
    downloads: u64,
    faults: MediaFaults,
    /// What the phone has, by message.
    on_phone: HashMap<String, again::OnPhone>,
    again: u64,
    missed: u64,
    phone_silent: bool,
}

struct Blob {
    bytes: Bytes,
    kind: &'static str,
    /// The status that replaces the blob once it has expired.
    expired: Option<StatusCode>,
}

impl MediaStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the store may hold; what it holds already stays.
    pub fn set_limits(&self, limits: MediaLimits) {
        self.state().limits = limits;
    }

    /// Host names with ports for `media_conn`, the primary one first.
    pub fn hosts(&self) -> Vec<String> {
        self.state().hosts.clone()
    }

    /// Replaces the hosts that `media_conn` announces, for example to put a dead one first.
    pub fn set_hosts(&self, hosts: Vec<String>) {
        self.state().hosts = hosts;
    }

    /// The token for `media_conn`; uploads have to show it.
    pub fn auth(&self) -> String {
        auth_token(self.state().auth_generation)
    }

    /// Makes every token handed out so far invalid: an upload with one is answered with 401 until the client has
    /// asked for a new media connection.
    pub fn rotate_auth(&self) {
        self.state().auth_generation += 1;
    }

    /// The https URL of a path on the first host.
    pub fn url(&self, path: &str) -> String {
        let state = self.state();
        let host = state.hosts.first().map_or("127.0.0.1", String::as_str);
        format!("https://{host}{path}")
    }

    /// Stores a picture or another public file and returns its path, which depends on the bytes alone.
    /// `None` when the store is full.
    pub fn publish(&self, bytes: impl Into<Bytes>) -> Option<String> {
        let bytes = bytes.into();
        let path = format!(
            "/v/t61.24694-24/{}.jpg",
            URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes))
        );
        let mut state = self.state();
        if !state.blobs.contains_key(&path) {
            state.reserve(bytes.len() as u64)?;
        }
        state.blobs.insert(
            path.clone(),
            Blob {
                bytes,
                kind: "image/jpeg",
                expired: None,
            },
        );
        Some(path)
    }

    /// The bytes at a path, as they were uploaded, whether expired or not.
    pub fn blob(&self, path: &str) -> Option<Bytes> {
        self.state()
            .blobs
            .get(without_query(path))
            .map(|blob| blob.bytes.clone())
    }

    /// Paths of all blobs, in no order.
    pub fn paths(&self) -> Vec<String> {
        self.state().blobs.keys().cloned().collect()
    }

    /// From now on the path answers with `status` (404 and 410 are what the CDN uses) until it is uploaded again.
    /// `false` when there is no such blob.
    pub fn expire(&self, path: &str, status: u16) -> bool {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::GONE);
        match self.state().blobs.get_mut(without_query(path)) {
            Some(blob) => {
                blob.expired = Some(status);
                true
            }
            None => false,
        }
    }

    /// Uploads and downloads that were answered in full, so far.
    pub fn served(&self) -> (u64, u64) {
        let state = self.state();
        (state.uploads, state.downloads)
    }

    /// Bytes of uploads that came so far, those that came twice counted twice.
    pub fn received(&self) -> u64 {
        self.state().received
    }

    /// Bytes of uploads that broke off and can be resumed.
    pub fn unfinished(&self) -> usize {
        self.state().partial.values().map(Vec::len).sum()
    }

    /// How many uploads, or questions about them, came with a token that is not a current one.
    pub fn unauthorised(&self) -> u64 {
        self.state().unauthorised
    }
}

impl State {
    /// Takes `bytes` of the total, or nothing.
    fn reserve(&mut self, bytes: u64) -> Option<()> {
        let held = self
            .held
            .checked_add(bytes)
            .filter(|held| *held <= self.limits.total)?;
        self.held = held;
        Some(())
    }

    fn release(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
    }
}

fn auth_token(generation: u64) -> String {
    format!("loopback-{generation}")
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// Where an uploaded file can be fetched: `/v/<type of the CDN>/<hash>.enc`.
fn direct_path(kind: &str, hash: &Hash) -> String {
    let class = match kind {
        "video" => "t62.7161-24",
        "audio" => "t62.7117-24",
        "document" => "t62.7119-24",
        _ => "t62.7118-24",
    };
    format!("/v/{class}/{}.enc", URL_SAFE_NO_PAD.encode(hash))
}

/// Whether a request's path belongs to the media side of the port.
pub(crate) fn is_media_path(path: &str) -> bool {
    ["/v/", "/mms/", "/product/", "/newsletter/", "/pps/"]
        .iter()
        .any(|prefix| path.starts_with(prefix))
}

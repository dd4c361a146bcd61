//! A build without the cargo feature `object-store`: there is no bucket, and what would need one says so.

use std::fs::File;
use std::io;

use super::depot::{DepotError, Passage};
use crate::store::Remnant;

/// There is none.
#[derive(Debug)]
pub enum Bucket {}

/// No URL is one of an object store here.
///
/// # Errors
/// Always.
pub fn folder(_text: &str) -> Result<String, String> {
    Err(
        "\"file\": this build has no object stores (it was made without the cargo feature object-store)"
            .to_owned(),
    )
}

impl Bucket {
    pub(super) fn open(_url: &str) -> Result<Self, DepotError> {
        Err(DepotError::Refused(
            "this build has none; one with the cargo feature object-store has".to_owned(),
        ))
    }

    pub(super) fn has(&self, _url: &str) -> bool {
        match *self {}
    }

    pub fn check(&self, _folder: &str) -> Result<(), DepotError> {
        match *self {}
    }

    pub fn try_out(&self, _place: &str) -> Result<(), DepotError> {
        match *self {}
    }

    pub fn put(
        &self,
        _place: &str,
        _file: &File,
        _size: u64,
        _passage: &Passage<'_>,
    ) -> Result<(), DepotError> {
        match *self {}
    }

    pub(super) fn read(
        &self,
        _place: &str,
        _size: u64,
        _take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), DepotError> {
        match *self {}
    }

    pub(super) fn is_gone(&self, _place: &str) -> Result<bool, DepotError> {
        match *self {}
    }

    pub(super) fn remove(&self, _what: &Remnant) -> Result<(), DepotError> {
        match *self {}
    }
}

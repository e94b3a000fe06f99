//! The content-addressed store (design D4): blobs by digest, and refs, small JSON documents under names.
//! What was committed is durable; nothing is promised before. `image`, `compile`, `container` and
//! `delivery` use it; it knows none of them, and not what is in a blob.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::names::{Digest, Tenant};

pub mod spool;

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused; says which path, and how many bytes were wanted where that is known.
    #[error("store: {action} {path}: {source}")]
    Io {
        /// What was attempted, for example `writing`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No room left; the path and the bytes that were to be written (failure table: disk full).
    #[error(
        "store: no space left in {path} for {bytes} bytes; free some space or enlarge the volume"
    )]
    Full {
        /// The store's directory.
        path: PathBuf,
        /// What was to be written.
        bytes: u64,
    },
    /// A blob's content is not what its digest says.
    #[error("store: expected {expected}, received {actual}")]
    Mismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A ref that is not readable as what it should be.
    #[error("store: the record {name} cannot be read: {reason}")]
    Corrupt {
        /// The ref.
        name: String,
        /// Why.
        reason: String,
    },
}

/// A blob that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its content's digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// The kind of a ref: the first part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefKind {
    /// Images by name.
    Image,
    /// Results of compiles by key.
    Compile,
}

/// The store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the store in `directory`, made where it is missing, and removes what a crash left half-written.
    ///
    /// # Errors
    /// When the directory cannot be made, written and synced.
    pub async fn open(directory: &Path) -> Result<Self, Error> {
        let _ = directory;
        todo!()
    }

    /// A file for bytes on their way in, on the store's volume: gone when dropped, a blob when committed.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn ingest(&self) -> Result<Ingest, Error> {
        todo!()
    }

    /// Makes what was ingested a blob: verified, synced, under its digest. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the store is as before.
    pub async fn commit(&self, ingest: Ingest) -> Result<Blob, Error> {
        let _ = ingest;
        todo!()
    }

    /// Opens a blob for reading, or `None` where there is none.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<(std::fs::File, Blob)>, Error> {
        let _ = digest;
        todo!()
    }

    /// Writes the ref `name` of `tenant`, replacing what was there. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the ref is as before.
    pub async fn put_ref<T: Serialize>(
        &self,
        kind: RefKind,
        tenant: &Tenant,
        name: &str,
        value: &T,
    ) -> Result<(), Error> {
        let _ = (kind, tenant, name, serde_json::to_vec(value));
        todo!()
    }

    /// Reads the ref `name` of `tenant`, or `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Io`].
    pub async fn get_ref<T: DeserializeOwned>(
        &self,
        kind: RefKind,
        tenant: &Tenant,
        name: &str,
    ) -> Result<Option<T>, Error> {
        let _ = (kind, tenant, name);
        todo!()
    }
}

/// Bytes on their way into the store, hashed as they come: `std::io::Write` for blocking code,
/// [`Ingest::append`] for streams.
#[derive(Debug)]
pub struct Ingest {}

impl Ingest {
    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`].
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let _ = bytes;
        todo!()
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same bytes for reading, from the first one: a second look before, or instead of, a commit.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn reader(&self) -> Result<std::fs::File, Error> {
        todo!()
    }
}

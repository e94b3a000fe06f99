//! The content-addressed store (design D4): blobs by digest, and refs, small JSON documents under names.
//! What was committed is durable; nothing is promised before. `image`, `compile`, `container` and
//! `delivery` use it; it knows none of them, and not what is in a blob.
//!
//! ```text
//! <directory>/
//! ├── blobs/sha256/<64 hex digits>            a blob, named by its content; never changes
//! ├── refs/v1/<image|compile|held>/<tenant, or _>/
//! │   └── <sha256 of the name>.json           {"name": …, "value": …}; replaced as a whole
//! ├── trash/                                  blobs that no ref names, before they go (`trash`)
//! ├── quarantine/                             what is damaged, by the path that it had (`quarantine`)
//! └── ingest/
//!     ├── lock                                held, shared, by every store that is open
//!     └── <random>                            bytes on their way in; nameless spools
//! ```
//!
//! Blobs and refs are objects of an `object_store`, so that another one can take the directory's place.
//! `ingest/` is always a local directory and on the same volume: a commit syncs the file and **moves** it
//! to its digest instead of copying it, by the object store's own rename, which syncs both directories.
//! Refs are written beside their place (`<name>#1`), synced, renamed, and the directory synced. So a
//! process may end at any moment, and what it leaves is either whole and visible or in nobody's way;
//! [`Store::open`] sweeps it up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResultPayload, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};

use crate::names::Digest;

mod every;
mod ingest;
mod quarantine;
mod refs;
mod room;
pub mod spool;
mod trash;
mod volume;

pub use every::{Place, Read};
pub use ingest::Ingest;
pub use quarantine::Verdict;
pub use refs::{RefKind, Scope};
pub use room::Room;
pub use trash::{Plan, Sum, Survey};

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

impl Error {
    /// The error of an `action` on `path` that was to write `bytes` to the store in `directory`.
    fn of(
        directory: &Path,
        action: &'static str,
        path: &Path,
        bytes: u64,
        source: std::io::Error,
    ) -> Self {
        if volume::is_full(&source) {
            Self::Full {
                path: directory.to_owned(),
                bytes,
            }
        } else {
            Self::Io {
                action,
                path: path.to_owned(),
                source,
            }
        }
    }
}

/// Whether other processes may have the store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// None has, and none will while this one does.
    Yes,
    /// Some have, or nobody can tell.
    No,
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    objects: LocalFileSystem,
    /// The same, for moves that need not be durable: two syncs each would make collection wait for the disk.
    unsynced: LocalFileSystem,
    /// Bytes were to come in, and there was little room.
    nearly_full: tokio::sync::Notify,
    /// Tells other processes that `ingest/` is in use.
    lock: std::fs::File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.directory).finish()
    }
}

impl Store {
    /// Opens the store in `directory`, made where it is missing, and removes what a crash left half-written.
    ///
    /// Several processes may have one directory open; only the first of them sweeps. A full volume is
    /// opened too, for reading and for making room; [`Store::check_writable`] tells.
    ///
    /// # Errors
    /// When the directory cannot be made, written and synced.
    pub async fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.to_owned();
        let opened = volume::blocking(move || volume::open(&path)).await;
        let (directory, lock) =
            opened.map_err(|e| Error::of(directory, "opening", directory, 0, e))?;
        let unsynced = LocalFileSystem::new_with_prefix(&directory)
            .map_err(|e| Error::of(&directory, "opening", &directory, 0, volume::cause(e)))?;
        let objects = unsynced.clone().with_fsync(true);
        Ok(Self(Arc::new(Inner {
            directory,
            objects,
            unsynced,
            nearly_full: tokio::sync::Notify::new(),
            lock,
        })))
    }

    /// A file for bytes on their way in, on the store's volume: gone when dropped, a blob when committed.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn ingest(&self) -> Result<Ingest, Error> {
        Ingest::create(self).await
    }

    /// Makes what was ingested a blob: verified, synced, under its digest. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the store is as before.
    pub async fn commit(&self, ingest: Ingest) -> Result<Blob, Error> {
        let blob = ingest.finish().await?;
        self.adopt(&ingest, blob).await
    }

    /// Like [`Store::commit`], but only what has the digest that was `expected`.
    ///
    /// # Errors
    /// [`Error::Mismatch`], and those of `commit`; the store is as before.
    pub async fn commit_expecting(&self, ingest: Ingest, expected: &Digest) -> Result<Blob, Error> {
        let blob = ingest.finish().await?;
        if blob.digest != *expected {
            return Err(Error::Mismatch {
                expected: *expected,
                actual: blob.digest,
            });
        }
        self.adopt(&ingest, blob).await
    }

    /// Moves the finished file to its place. On an object store that is no directory this would upload it.
    async fn adopt(&self, ingest: &Ingest, blob: Blob) -> Result<Blob, Error> {
        let key = blob_key(&blob.digest);
        let failed = |e| self.failed("committing", &key, blob.size, e);
        match self.0.objects.head(&key).await {
            // Whole, since only synced files get there; but its name may be a moment old and not yet durable.
            Ok(present) if present.size == blob.size => {
                let directory = self.0.directory.join("blobs/sha256");
                let synced = volume::blocking(move || volume::sync_directory(&directory)).await;
                synced.map_err(|e| self.io("committing", &key, blob.size, e))?;
            }
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {
                ingest.sync().await?;
                let from = ingest.key();
                self.0.objects.rename(&from, &key).await.map_err(failed)?;
            }
            Err(e) => return Err(failed(e)),
        }
        Ok(blob)
    }

    /// Opens a blob for reading, or `None` where there is none. The file stands at its first byte, and
    /// stays readable whatever happens to the blob.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<(std::fs::File, Blob)>, Error> {
        match self.open_in_place(digest).await? {
            None if self.rescue(digest).await? => self.open_in_place(digest).await,
            found => Ok(found),
        }
    }

    async fn open_in_place(&self, digest: &Digest) -> Result<Option<(std::fs::File, Blob)>, Error> {
        let key = blob_key(digest);
        match self.0.objects.get(&key).await {
            Ok(found) => {
                let blob = Blob {
                    digest: *digest,
                    size: found.meta.size,
                };
                match found.payload {
                    GetResultPayload::File(file, _) => Ok(Some((file, blob))),
                    GetResultPayload::Stream(_) => {
                        let source = std::io::Error::other("not a local file");
                        Err(self.io("opening", &key, 0, source))
                    }
                }
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("opening", &key, 0, e)),
        }
    }

    /// Keeps other processes from opening the store for as long as this one has it; `false` when one has it open already, or
    /// nobody can tell.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn keep_alone(&self) -> Result<Alone, Error> {
        let this = self.clone();
        let kept = volume::blocking(move || volume::keep_alone(&this.0.lock)).await;
        kept.map_err(|e| {
            let directory = &self.0.directory;
            Error::of(directory, "locking", directory, 0, e)
        })
    }

    /// Whether the volume takes and keeps bytes right now: writes, syncs, reads back and removes a few
    /// (readiness).
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`].
    pub async fn check_writable(&self) -> Result<(), Error> {
        let ingest = self.ingest_directory();
        let probed = volume::blocking(move || volume::probe(&ingest)).await;
        probed.map_err(|e| {
            let directory = &self.0.directory;
            Error::of(directory, "probing", directory, volume::PROBE, e)
        })
    }

    fn ingest_directory(&self) -> PathBuf {
        self.0.directory.join(volume::INGEST)
    }

    /// Whether `error` says that there is no such object.
    fn is_missing(&self, error: &object_store::Error) -> bool {
        matches!(error, object_store::Error::NotFound { .. })
    }

    fn failed(
        &self,
        action: &'static str,
        key: &Key,
        bytes: u64,
        error: object_store::Error,
    ) -> Error {
        self.io(action, key, bytes, volume::cause(error))
    }

    fn io(&self, action: &'static str, key: &Key, bytes: u64, source: std::io::Error) -> Error {
        let directory = &self.0.directory;
        let path = directory.join(key.as_ref());
        Error::of(directory, action, &path, bytes, source)
    }
}

fn blob_key(digest: &Digest) -> Key {
    Key::from_iter(["blobs", "sha256", &digest.hex()])
}

#[cfg(test)]
mod tests;

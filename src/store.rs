//! The content-addressed store (design D4): blobs by digest, and refs, small JSON documents under names.
//! What was committed is durable; nothing is promised before. `image`, `compile`, `container` and
//! `delivery` use it; it knows none of them, and not what is in a blob.
//!
//! ```text
//! <directory, or a bucket's prefix>/
//! ├── layout.json                             {"layout": 1}: what the rest means
//! ├── blobs/sha256/<64 hex digits>            a blob, named by its content; never changes
//! ├── probe/<16 hex digits>                   in a bucket, for the moment of a check of readiness
//! ├── refs/v1/<image|compile|held|outside|cache>/<tenant, or _>/
//! │   └── <sha256 of the name>.json           {"name": …, "value": …}; replaced as a whole
//! ├── trash/                                  blobs that no ref names, before they go (`trash`)
//! └── quarantine/                             what is damaged, by the path that it had (`quarantine`)
//! <directory>/
//! ├── copies/<64 hex digits>                  with a bucket: blobs that were used of late
//! └── ingest/
//!     ├── lock                                held, shared, by every store that is open
//!     └── <random>                            bytes on their way in; nameless spools
//! ```
//!
//! Blobs and refs are objects of an `object_store`: a directory, or a bucket of S3 that several Peithos share.
//! `ingest/` is always a local directory. Where the objects are in the same directory, a commit syncs the file and **moves** it
//! to its digest instead of copying it, by the object store's own rename, which syncs both directories.
//! Refs are written beside their place (`<name>#1`), synced, renamed, and the directory synced. So a
//! process may end at any moment, and what it leaves is either whole and visible or in nobody's way;
//! [`Store::open`] sweeps it up. A bucket shows an object when all of it is there, so a commit uploads the file to its digest;
//! opening sweeps nothing in it, since others may be at work. `bucket` and `copies` have what is particular to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use serde::{Deserialize, Serialize};

use crate::config::{self, Surrounding};
use crate::names::Digest;

mod bucket;
mod copies;
mod error;
mod every;
#[cfg(test)]
pub(crate) mod fixture;
mod ingest;
mod layout;
mod lifetime;
mod pressure;
mod quarantine;
mod refs;
mod room;
mod seen;
pub mod spool;
mod trash;
mod volume;

use bucket::{Bucket, Stop};
pub use error::{Error, Lasting};
pub use every::{Place, Read};
pub use ingest::Ingest;
use pressure::Pressure;
pub use pressure::{Asked, RoomMaker};
pub use quarantine::Verdict;
pub use refs::{RefKind, Scope};
pub use room::Room;
pub use trash::{Plan, Sum, Survey};

/// A blob that is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Its content's digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Whether other processes may have the store open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// None has, and none will while this one does.
    Yes,
    /// Some have, or nobody can tell.
    No,
}

/// How long a bucket's passing faults are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A minute, as for the API server: peers wait too.
    OfServer,
    /// Ten seconds: somebody sits before it.
    OfCommand,
}

impl Patience {
    fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::OfServer => 60,
            Self::OfCommand => 10,
        })
    }
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    /// What is local of it, and all of it where there is no bucket.
    directory: PathBuf,
    objects: Arc<dyn ObjectStore>,
    /// The same, for moves that need not be durable: two syncs each would make collection wait for the disk.
    unsynced: Arc<dyn ObjectStore>,
    /// Where the objects are not in the directory.
    bucket: Option<Bucket>,
    /// Who finds no room, and who makes some.
    pressure: Pressure,
    /// Tells other processes that `ingest/` is in use.
    lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.place()).finish()
    }
}

impl Store {
    /// Opens the store that `config` names: a bucket, or else a directory, by [`Store::open`].
    ///
    /// A bucket that does not answer is waited for, and the log says so.
    ///
    /// # Errors
    /// In one line that says what is wrong and what to do.
    pub async fn configured(
        config: &config::Store,
        surrounding: Surrounding,
        patience: Patience,
    ) -> Result<Self, Error> {
        let directory = config.place(surrounding);
        match config.bucket() {
            None => Self::open(&directory).await,
            Some(s3) => bucket::open(s3, &directory, patience.time()).await,
        }
    }

    /// Opens the store in `directory`, made where it is missing, and removes what a crash left half-written.
    ///
    /// Several processes may have one directory open; only the first of them sweeps. A full volume is
    /// opened too, for reading and for making room; [`Store::check_writable`] tells.
    ///
    /// # Errors
    /// When the directory cannot be made, written and synced, or is of a later Peitho.
    pub async fn open(directory: &Path) -> Result<Self, Error> {
        let (directory, lock) = local(directory, &["blobs/sha256", "refs/v1"]).await?;
        let unsynced = LocalFileSystem::new_with_prefix(&directory)
            .map_err(|e| Error::of(&directory, "opening", &directory, 0, volume::cause(e)))?;
        let objects = unsynced.clone().with_fsync(true);
        let store = Self(Arc::new(Inner {
            directory,
            objects: Arc::new(objects),
            unsynced: Arc::new(unsynced),
            bucket: None,
            pressure: Pressure::default(),
            lock,
        }));
        store.agree_on_layout().await?;
        Ok(store)
    }

    /// The directory of what is local.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Where the objects are, for people: the directory, or the bucket with its endpoint.
    pub fn place(&self) -> String {
        match &self.0.bucket {
            None => self.0.directory.display().to_string(),
            Some(bucket) => bucket.shown().to_owned(),
        }
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

    /// Brings the finished file to its place.
    async fn adopt(&self, ingest: &Ingest, blob: Blob) -> Result<Blob, Error> {
        let key = blob_key(&blob.digest);
        let Some(bucket) = &self.0.bucket else {
            // Also over one that is there: that may have rotted, and these bytes are verified and here. One sync more.
            ingest.sync().await?;
            let renamed = self.0.objects.rename(&ingest.key(), &key).await;
            renamed.map_err(|e| self.failed("committing", &key, blob.size, e))?;
            return Ok(blob);
        };
        let present = match self.0.objects.head(&key).await {
            Ok(present) => present.size == blob.size && !bucket.rotten.has(&blob.digest),
            Err(e) if self.is_missing(&e) => false,
            // Where it is there after all, it is written again, and no harm is done.
            Err(e) if bucket::is_untold(&e) => false,
            Err(e) => return Err(self.failed("committing", &key, blob.size, e)),
        };
        // One of other content went to quarantine when it was read.
        if !present {
            let file = Arc::new(ingest.reader()?);
            let uploaded = bucket.upload(&self.0.objects, &key, file, blob.size).await;
            uploaded.map_err(|stop| match stop {
                Stop::Volume(source) => ingest.error("reading", source),
                Stop::Bucket(error) => self.failed("writing", &key, blob.size, error),
            })?;
        }
        self.keep(ingest, &blob).await;
        Ok(blob)
    }

    /// Opens a blob for reading, or `None` where there is none. The file stands at its first byte, and
    /// stays readable whatever happens to the blob.
    ///
    /// It is always a local file: a blob of a bucket is copied first, once for all who want it, and verified on its way.
    ///
    /// # Errors
    /// When volume or bucket refuse; [`Error::Damaged`] when the bucket has something else under the digest, which is in
    /// quarantine then.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<(File, Blob)>, Error> {
        match self.open_in_place(digest).await? {
            None if self.rescue(digest).await? => self.open_in_place(digest).await,
            found => Ok(found),
        }
    }

    async fn open_in_place(&self, digest: &Digest) -> Result<Option<(File, Blob)>, Error> {
        if let Some(bucket) = &self.0.bucket {
            return self.open_copy(bucket, digest).await;
        }
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
            Err(e) if self.is_missing(&e) => Ok(None),
            Err(e) => Err(self.failed("opening", &key, 0, e)),
        }
    }

    /// Keeps other processes from opening the store for as long as this one has it; [`Alone::No`] when one has it open already,
    /// or nobody can tell, as of a bucket.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn keep_alone(&self) -> Result<Alone, Error> {
        if self.0.bucket.is_some() {
            return Ok(Alone::No);
        }
        let this = self.clone();
        let kept = volume::blocking(move || volume::keep_alone(&this.0.lock)).await;
        kept.map_err(|e| {
            let directory = &self.0.directory;
            Error::of(directory, "locking", directory, 0, e)
        })
    }

    /// Whether the volume, and the bucket where there is one, take and keep bytes right now: writes, syncs, reads back and
    /// removes a few (readiness).
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Io`] or [`Error::Bucket`].
    pub async fn check_writable(&self) -> Result<(), Error> {
        let this = self.clone();
        let probed = volume::blocking(move || {
            let ingest = this.ingest_directory();
            // At once: who asks for readiness does not wait for room.
            this.with_copies_giving_way(volume::PROBE, || volume::probe(&ingest))
        });
        let probed = probed.await.map_err(|e| {
            let directory = &self.0.directory;
            Error::of(directory, "probing", directory, volume::PROBE, e)
        });
        // A full volume hides no fault of the bucket.
        if let Some(bucket) = &self.0.bucket {
            bucket.probe().await?;
        }
        probed
    }

    /// Whether blobs can be read while the volume is full: those of a bucket come over it.
    pub fn is_readable_when_full(&self) -> bool {
        self.0.bucket.is_none()
    }

    fn ingest_directory(&self) -> PathBuf {
        self.0.directory.join(volume::INGEST)
    }

    /// What is known of an object; `None` where there is none.
    ///
    /// A refusal of HEAD does not say whether it is the object that is missing. One of GET does, and is asked for then.
    async fn look(&self, key: &Key) -> object_store::Result<Option<ObjectMeta>> {
        let found = match self.0.objects.head(key).await {
            Err(e) if self.0.bucket.is_some() && bucket::is_untold(&e) => {
                self.0.objects.get(key).await.map(|found| found.meta)
            }
            found => found,
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(e) if self.is_missing(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether `error` says that there is no such object.
    fn is_missing(&self, error: &object_store::Error) -> bool {
        match self.0.bucket {
            None => matches!(error, object_store::Error::NotFound { .. }),
            Some(_) => bucket::is_missing(error),
        }
    }

    fn failed(
        &self,
        action: &'static str,
        key: &Key,
        bytes: u64,
        error: object_store::Error,
    ) -> Error {
        match &self.0.bucket {
            None => self.io(action, key, bytes, volume::cause(error)),
            Some(bucket) => bucket.error(action, key, &error),
        }
    }

    fn io(&self, action: &'static str, key: &Key, bytes: u64, source: std::io::Error) -> Error {
        let directory = &self.0.directory;
        let path = directory.join(key.as_ref());
        Error::of(directory, action, &path, bytes, source)
    }
}

/// Makes the local part of a store in `directory`, with `folders` in it. Returns its real path and its lock.
async fn local(
    directory: &Path,
    folders: &'static [&'static str],
) -> Result<(PathBuf, File), Error> {
    layout::check_directory(directory).await?;
    let path = directory.to_owned();
    let opened = volume::blocking(move || volume::open(&path, folders)).await;
    opened.map_err(|e| Error::of(directory, "opening", directory, 0, e))
}

fn blob_key(digest: &Digest) -> Key {
    Key::from_iter(["blobs", "sha256", &digest.hex()])
}

#[cfg(test)]
mod tests;

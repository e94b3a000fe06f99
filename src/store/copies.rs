//! Local copies of blobs that are in a bucket, so that every reader has a file: brought once for all who want one, verified on
//! the way, and the least recently used given up first. Only `store` knows that they are copies.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;

use super::bucket::{Bucket, Stop};
use super::{Blob, Error, Ingest, Store, blob_key, volume};
use crate::names::Digest;
use crate::single_flight::SingleFlight;

/// Copies leave so much of their volume free: a tenth,
const RESERVE: u64 = 10;
/// but no more than this.
const LARGEST_RESERVE: u64 = 1 << 30;
/// On a full volume so many bytes go at once, so that not every write looks for room.
const WAY: u64 = 64 << 20;

/// The directory of copies. When one was last used is the file's modification time, which a later process reads too.
pub(super) struct Copies {
    directory: PathBuf,
    limit: u64,
    /// Locked on blocking threads only.
    held: Mutex<Held>,
    flights: SingleFlight<Digest, Result<Option<Arc<File>>, Arc<Error>>>,
}

/// What this process knows of the copies.
#[derive(Default)]
struct Held {
    /// Bytes of all of them.
    bytes: u64,
    /// Those that it has read or written: a disk may have changed the others since.
    sound: HashSet<PathBuf>,
}

impl Copies {
    /// Those in `directory`, of `limit` bytes at the most. Blocks, as all here that is not async.
    pub(super) fn open(directory: PathBuf, limit: u64) -> io::Result<Self> {
        let copies = Self {
            directory,
            limit,
            held: Mutex::default(),
            flights: SingleFlight::default(),
        };
        copies.make_room(&mut copies.held(), None, |all| copies.allowed(all))?;
        Ok(copies)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// The copy of a blob with its length, which counts as used now. It is read when it is first used in this process, and one
    /// that is damaged is none.
    fn find(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(mut file) => {
                if !self.held().sound.contains(&path) {
                    if volume::hash(&file)? != *digest {
                        tracing::warn!(copy = %path.display(), "store: a copy is damaged and is brought again");
                        fs::remove_file(&path)?;
                        return Ok(None);
                    }
                    file.rewind()?;
                    self.held().sound.insert(path);
                }
                // A volume may outlive the user that wrote the file; then it counts as older than it is.
                let _ = file.set_modified(SystemTime::now());
                let length = file.metadata()?.len();
                Ok(Some((file, length)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the synced file at `path` the copy of a blob, and returns it open.
    fn take(&self, path: &Path, digest: &Digest) -> io::Result<File> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let place = self.path(digest);
        let mut held = self.held();
        fs::rename(path, &place)?;
        held.bytes += length;
        if held.bytes > self.allowed(held.bytes)? {
            self.make_room(&mut held, Some(&place), |all| self.allowed(all))?;
        }
        held.sound.insert(place);
        Ok(file)
    }

    fn allowed(&self, held: u64) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        let (free, size) = (bytes(volume.f_bavail), bytes(volume.f_blocks));
        Ok(bound(self.limit, held, free, size))
    }

    /// Removes the least recently used until `bytes` are given back, or there are none. Returns how many were removed.
    fn give_up(&self, bytes: u64) -> io::Result<usize> {
        self.make_room(&mut self.held(), None, |all| Ok(all.saturating_sub(bytes)))
    }

    /// Removes the least recently used but `newest` until the rest is below what is allowed, which may depend on how much there
    /// is. Returns how many copies were removed.
    fn make_room(
        &self,
        known: &mut Held,
        newest: Option<&Path>,
        allowed: impl Fn(u64) -> io::Result<u64>,
    ) -> io::Result<usize> {
        let (mut all, mut held) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            held += metadata.len();
            if newest != Some(&entry.path()) {
                all.push((metadata.modified()?, metadata.len(), entry.path()));
            }
        }
        all.sort_unstable();
        let (allowed, mut gone) = (allowed(held)?, 0);
        for (_, length, path) in all {
            if held <= allowed {
                break;
            }
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => held -= length,
            }
            known.sound.remove(&path);
            gone += 1;
        }
        known.bytes = held;
        Ok(gone)
    }
}

/// What copies may take where they take `held`: less than their limit on a volume of which little is free, since that is for
/// what comes in.
fn bound(limit: u64, held: u64, free: u64, size: u64) -> u64 {
    let reserve = LARGEST_RESERVE.min(size / RESERVE);
    let wanting = reserve.saturating_sub(free);
    limit.min(held.saturating_sub(wanting))
}

impl Store {
    /// As [`Store::open_blob`], for blobs of `bucket`.
    pub(super) async fn open_copy(
        &self,
        bucket: &Bucket,
        digest: &Digest,
    ) -> Result<Option<(File, Blob)>, Error> {
        let opened = |(file, size)| {
            let digest = *digest;
            (file, Blob { digest, size })
        };
        let store = self.clone();
        let wanted = *digest;
        let found = volume::blocking(move || match &store.0.bucket {
            Some(bucket) => bucket.copies.find(&wanted),
            None => Ok(None),
        });
        let failed = |e| self.copy_error("opening", digest, e);
        if let Some(found) = found.await.map_err(failed)? {
            return Ok(Some(opened(found)));
        }
        let store = self.clone();
        let copied = bucket.copies.flights.run(wanted, || async move {
            let copied = store.copy(&wanted).await;
            copied.map_err(Arc::new)
        });
        let Some(copy) = copied.await.map_err(|error| error.again())? else {
            return Ok(None);
        };
        // By its descriptor, since it may be gone from the directory again: each reader has a position of its own.
        let own = volume::blocking(move || {
            let file = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        Ok(Some(opened(own.await.map_err(failed)?)))
    }

    /// Brings a blob from the bucket; `None` where there is none.
    async fn copy(&self, digest: &Digest) -> Result<Option<Arc<File>>, Error> {
        let key = blob_key(digest);
        let failed = |e| self.failed("reading", &key, 0, e);
        let found = match self.0.objects.get(&key).await {
            Ok(found) => found,
            Err(e) if self.is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut ingest = self.ingest().await?;
        let mut content = found.into_stream();
        while let Some(piece) = content.try_next().await.map_err(failed)? {
            ingest.append(&piece).await?;
        }
        let blob = ingest.finish().await?;
        if blob.digest != *digest {
            let actual = blob.digest;
            // So that the next commit of these bytes uploads them.
            if let Some(to) = self.quarantine_object(digest).await? {
                tracing::error!(
                    "store: the blob {digest} does not have the content that its name says and is now {to}"
                );
            }
            return Err(Error::Damaged {
                blob: *digest,
                place: self.place(),
                actual,
            });
        }
        self.take(&ingest, &blob).await.map(Some)
    }

    /// Does what writes `bytes` to the volume, and again while that is full and there are copies that can make way: they can be
    /// brought again, and what comes in cannot. Blocks.
    pub(super) fn with_copies_giving_way<T>(
        &self,
        bytes: u64,
        mut write: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match (write(), &self.0.bucket) {
                (Err(error), Some(bucket)) if volume::is_full(&error) => {
                    if bucket.copies.give_up(bytes.max(WAY))? == 0 {
                        return Err(error);
                    }
                }
                (written, _) => return written,
            }
        }
    }

    /// Makes the file of a blob that is in the bucket its copy. Without it, the next reader brings one.
    pub(super) async fn keep(&self, ingest: &Ingest, blob: &Blob) {
        if let Err(error) = self.take(ingest, blob).await {
            tracing::warn!(%error, "store: no copy is kept");
        }
    }

    async fn take(&self, ingest: &Ingest, blob: &Blob) -> Result<Arc<File>, Error> {
        // A copy that a crash leaves is whole, or not there.
        ingest.sync().await?;
        let (store, path, digest) = (self.clone(), ingest.path().to_owned(), blob.digest);
        let taken = volume::blocking(move || match &store.0.bucket {
            Some(bucket) => bucket.copies.take(&path, &digest),
            None => Err(io::ErrorKind::Unsupported.into()),
        });
        let taken = taken.await;
        taken
            .map(Arc::new)
            .map_err(|e| self.copy_error("keeping", &blob.digest, e))
    }

    /// Brings this machine's copy of a blob into the bucket, for one that is lost there; whether there was one.
    ///
    /// # Errors
    /// When volume or bucket refuse.
    pub async fn mend(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(bucket) = &self.0.bucket else {
            return Ok(false);
        };
        let (store, wanted) = (self.clone(), *digest);
        let found = volume::blocking(move || match &store.0.bucket {
            Some(bucket) => bucket.copies.find(&wanted),
            None => Ok(None),
        });
        let found = found.await;
        let Some((file, size)) = found.map_err(|e| self.copy_error("opening", digest, e))? else {
            return Ok(false);
        };
        let key = blob_key(digest);
        let uploaded = bucket.upload(&self.0.objects, &key, Arc::new(file), size);
        match uploaded.await {
            Ok(()) => Ok(true),
            Err(Stop::Volume(source)) => Err(self.copy_error("reading", digest, source)),
            Err(Stop::Bucket(error)) => Err(self.failed("writing", &key, size, error)),
        }
    }

    fn copy_error(&self, action: &'static str, digest: &Digest, source: io::Error) -> Error {
        let directory = &self.0.directory;
        let path = directory.join("copies").join(digest.hex());
        Error::of(directory, action, &path, 0, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_leave_a_part_of_a_small_volume() {
        for (limit, held, free, size, allowed) in [
            (500, 400, 300, 1000, 400),
            (500, 600, 300, 1000, 500),
            (500, 400, 60, 1000, 360),
            (500, 30, 0, 1000, 0),
            (u64::MAX, 7 << 40, 1 << 30, 9 << 40, 7 << 40),
        ] {
            assert_eq!(bound(limit, held, free, size), allowed);
        }
    }
}

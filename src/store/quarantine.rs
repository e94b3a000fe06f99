//! What is damaged is moved out of the way, to the same path below `quarantine/`: never served, never deleted by Peitho, and
//! still there for who knows better. Who finds the damage says what it means; here it is moved.

use std::time::SystemTime;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path as Key;

use super::seen::{Seen, Since};
use super::trash::Moved;
use super::{Blob, Error, Place, Store, blob_key, volume};
use crate::names::{Digest, Hasher};

/// Where `key` goes.
pub(super) fn key(key: &Key) -> Key {
    Key::from_iter(std::iter::once("quarantine".into()).chain(key.parts()))
}

/// What a blob turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All there, and what its digest says.
    Sound,
    /// Not there.
    Missing,
    /// Its content is not what its digest says.
    Damaged,
    /// Sound, and of another length than its record says: the record is wrong.
    OtherLength,
}

impl Store {
    /// Reads all of a blob and judges it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn judge(&self, blob: &Blob) -> Result<Verdict, Error> {
        let read = match &self.0.bucket {
            None => self.read_file(&blob.digest).await?,
            Some(_) => self.read_object(&blob.digest).await?,
        };
        Ok(match read {
            None => Verdict::Missing,
            Some(found) if found.digest != blob.digest => Verdict::Damaged,
            Some(found) if found.size != blob.size => Verdict::OtherLength,
            Some(_) => Verdict::Sound,
        })
    }

    /// What is in the file of a blob.
    async fn read_file(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let Some((file, found)) = self.open_blob(digest).await? else {
            return Ok(None);
        };
        let hashed = volume::blocking(move || {
            volume::forget(&file);
            volume::hash(&file)
        });
        let key = blob_key(digest);
        let digest = (hashed.await).map_err(|e| self.io("reading", &key, 0, e))?;
        Ok(Some(Blob {
            digest,
            size: found.size,
        }))
    }

    /// What is in the object of a blob: a copy, sound or damaged, says nothing of that.
    async fn read_object(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        let key = blob_key(digest);
        let failed = |e| self.failed("reading", &key, 0, e);
        // Where it is in the trash, it is brought back.
        if self.look(&key).await.map_err(failed)?.is_none() && !self.rescue(digest).await? {
            return Ok(None);
        }
        let found = match self.0.objects.get(&key).await {
            Ok(found) => found,
            Err(e) if self.is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let (size, mut hasher) = (found.meta.size, Hasher::default());
        let mut content = found.into_stream();
        while let Some(piece) = content.try_next().await.map_err(failed)? {
            hasher.update(&piece);
        }
        let digest = hasher.finish();
        Ok(Some(Blob { digest, size }))
    }

    /// Moves the ref that was read there into quarantine; gives where it is now. `None` for one that was written again since,
    /// or is gone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn quarantine_ref(&self, place: &Place) -> Result<Option<String>, Error> {
        self.put_away(&place.key, &place.seen).await
    }

    /// Reads a blob that was found damaged once more, since a reading may fail too, and moves it into quarantine where it is
    /// that; gives where it is now. `None` for one that is sound after all, was written again meanwhile, or is gone.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn quarantine_blob(&self, digest: &Digest) -> Result<Option<String>, Error> {
        if self.0.bucket.is_some() {
            return self.quarantine_object(digest).await;
        }
        let Some(seen) = self.seen(digest).await? else {
            return Ok(None);
        };
        let read = self.read_file(digest).await?;
        self.put_away_damaged(digest, &seen, read).await
    }

    /// The same of a bucket's object.
    pub(super) async fn quarantine_object(&self, digest: &Digest) -> Result<Option<String>, Error> {
        let Some(seen) = self.seen(digest).await? else {
            return Ok(None);
        };
        let read = self.read_object(digest).await?;
        self.put_away_damaged(digest, &seen, read).await
    }

    async fn seen(&self, digest: &Digest) -> Result<Option<Seen>, Error> {
        let key = blob_key(digest);
        let found = self.look(&key).await;
        let found = found.map_err(|e| self.failed("reading", &key, 0, e))?;
        Ok(found.as_ref().map(Seen::of))
    }

    async fn put_away_damaged(
        &self,
        digest: &Digest,
        seen: &Seen,
        read: Option<Blob>,
    ) -> Result<Option<String>, Error> {
        match read {
            Some(found) if found.digest != *digest => {
                let bucket = self.0.bucket.as_ref();
                let _rotten = bucket.map(|bucket| bucket.rotten.note(digest));
                self.put_away(&blob_key(digest), seen).await
            }
            _ => Ok(None),
        }
    }

    async fn put_away(&self, from: &Key, seen: &Seen) -> Result<Option<String>, Error> {
        if self.since(from, seen).await? != Since::Same {
            return Ok(None);
        }
        let to = key(from);
        if let Some(bucket) = &self.0.bucket {
            let moved = self.put_object(bucket, from, &to, SystemTime::now(), Some(seen));
            return match moved.await? {
                Moved::Whole => Ok(Some(to.to_string())),
                Moved::Gone | Moved::WrittenAgain => Ok(None),
                // It would be served on, as if nobody had looked.
                Moved::Copied => Err(bucket.slow("moving into quarantine", from)),
            };
        }
        match self.0.objects.rename(from, &to).await {
            Ok(()) => Ok(Some(to.to_string())),
            // Another process was first.
            Err(e) if self.is_missing(&e) => Ok(None),
            Err(e) => Err(self.failed("moving into quarantine", from, 0, e)),
        }
    }
}

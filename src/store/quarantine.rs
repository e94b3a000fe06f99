//! What is damaged is moved out of the way, to the same path below `quarantine/`: never served, never deleted by Peitho, and
//! still there for who knows better. Who finds the damage says what it means; here it is moved.

use std::io::Read as _;

use object_store::ObjectStoreExt as _;
use object_store::path::Path as Key;

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
        let (file, found) = match self.open_blob(&blob.digest).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Verdict::Missing),
            // What a bucket has is read as it is copied.
            Err(Error::Corrupt { .. }) => return Ok(Verdict::Damaged),
            Err(error) => return Err(error),
        };
        let hashed = volume::blocking(move || {
            let mut hasher = Hasher::default();
            let mut piece = vec![0; 256 << 10];
            let mut file = file;
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(hasher.finish()),
                    length => hasher.update(&piece[..length]),
                }
            }
        });
        let key = blob_key(&blob.digest);
        let digest = (hashed.await).map_err(|e| self.io("reading", &key, 0, e))?;
        Ok(match (digest == blob.digest, found.size == blob.size) {
            (false, _) => Verdict::Damaged,
            (true, false) => Verdict::OtherLength,
            (true, true) => Verdict::Sound,
        })
    }

    /// Moves a ref into quarantine; gives where it is now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn quarantine_ref(&self, place: &Place) -> Result<String, Error> {
        self.put_away(&place.key).await
    }

    /// Moves a blob into quarantine; gives where it is now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub async fn quarantine_blob(&self, digest: &Digest) -> Result<String, Error> {
        self.put_away(&blob_key(digest)).await
    }

    async fn put_away(&self, from: &Key) -> Result<String, Error> {
        let to = key(from);
        match self.0.objects.rename(from, &to).await {
            // Another process was first.
            Ok(()) => Ok(to.to_string()),
            Err(e) if self.is_missing(&e) => Ok(to.to_string()),
            Err(e) => Err(self.failed("moving into quarantine", from, 0, e)),
        }
    }
}

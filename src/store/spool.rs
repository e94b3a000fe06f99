//! A log that grows while others read it: on disk, many readers, closed when its writer is done. A compile's
//! output is one (design D6, protocol rule 12): a slow reader never slows the writer, and a late one sees
//! the first line too.

use bytes::Bytes;

use super::{Blob, Error, Store};

/// The log; clones share it.
#[derive(Clone, Debug)]
pub struct Spool {}

impl Spool {
    /// An empty log on the store's volume, gone with its last clone and reader.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn create(store: &Store) -> Result<Self, Error> {
        let _ = store;
        todo!()
    }

    /// A finished log with the content of `blob`.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn of_blob(store: &Store, blob: &Blob) -> Result<Self, Error> {
        let _ = (store, blob);
        todo!()
    }

    /// Adds `bytes` at the end. Ignored once the log is closed.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        let _ = bytes;
        todo!()
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No more will come: readers end when they have read all.
    pub fn close(&self) {
        todo!()
    }

    /// Makes the content a blob of the store.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn commit(&self, store: &Store) -> Result<Blob, Error> {
        let _ = store;
        todo!()
    }

    /// A reader from the first byte.
    pub fn reader(&self) -> Reader {
        todo!()
    }
}

/// Reads a [`Spool`] to its end, however long that takes to come.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// The next bytes, at most 64 KiB; waits for them; `None` when the log is closed and read.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        todo!()
    }
}

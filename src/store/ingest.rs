//! Bytes on their way in: a file in `ingest/` and the digest of what went into it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::path::Path as Key;
use tempfile::TempPath;

use super::{Blob, Error, Room, Store, volume};
use crate::names::{Digest, Hasher};

/// Bytes held in memory at the most before they are hashed and written; small pieces are frequent (peers
/// send chunks of a few KiB), and each trip to the disk costs a change of thread.
const BUFFER: usize = 256 << 10;

/// Bytes on their way into the store, hashed as they come: `std::io::Write` for blocking code,
/// [`Ingest::append`] for streams.
pub struct Ingest {
    store: Store,
    path: TempPath,
    len: u64,
    /// Shared with the blocking thread that writes; otherwise nobody contends for it.
    sink: Arc<Mutex<Sink>>,
}

struct Sink {
    store: Store,
    file: File,
    /// Bytes that are in the file.
    written: u64,
    hasher: Hasher,
    buffer: Vec<u8>,
    /// How a write failed: what is in the file then is unknown.
    failed: Option<io::ErrorKind>,
}

/// What is done on a full volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// Room is asked for, and waited for.
    Wait,
    /// That is told: the caller's thread may be one that others need.
    Tell,
}

impl Sink {
    fn spill(&mut self, when_full: WhenFull) -> io::Result<()> {
        if let Some(kind) = self.failed {
            return Err(io::Error::new(kind, "an earlier write failed"));
        }
        // At its position, so that it may be done twice.
        let bytes = self.buffer.len() as u64;
        let write = || self.file.write_all_at(&self.buffer, self.written);
        let written = match when_full {
            WhenFull::Wait => self.store.with_room(bytes, write),
            WhenFull::Tell => self.store.with_copies_giving_way(bytes, write),
        };
        if let Err(e) = written {
            self.failed = Some(e.kind());
            return Err(e);
        }
        self.written += bytes;
        self.hasher.update(&self.buffer);
        self.buffer.clear();
        Ok(())
    }
}

/// Nothing panics while it is locked.
fn locked(sink: &Mutex<Sink>) -> MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Ingest");
        shown.field("path", &self.path).field("len", &self.len);
        shown.finish_non_exhaustive()
    }
}

impl Ingest {
    pub(super) async fn create(store: &Store) -> Result<Self, Error> {
        let directory = store.ingest_directory();
        let made = volume::blocking({
            let (store, directory) = (store.clone(), directory.clone());
            move || {
                let file = store.with_room(0, || volume::named_file(&directory))?;
                Ok((
                    file,
                    Room::of(&directory).is_ok_and(|room| room.is_little()),
                ))
            }
        });
        let (file, is_nearly_full) = made.await.map_err(|e| {
            let root = &store.0.directory;
            Error::of(root, "creating a file in", &directory, 0, e)
        })?;
        // What could be given up of a bucket takes no room here.
        if is_nearly_full && store.0.bucket.is_none() {
            store.0.pressure.hint();
        }
        let (file, path) = file.into_parts();
        Ok(Self {
            store: store.clone(),
            path,
            len: 0,
            sink: Arc::new(Mutex::new(Sink {
                store: store.clone(),
                file,
                written: 0,
                hasher: Hasher::default(),
                buffer: Vec::new(),
                failed: None,
            })),
        })
    }

    /// Appends `bytes`.
    ///
    /// When the future is dropped, the bytes are in all the same.
    ///
    /// # Errors
    /// [`Error::Full`] or [`Error::Io`]; the ingest is then of no more use.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.take(bytes) {
            let sink = Arc::clone(&self.sink);
            let spilled = volume::blocking(move || locked(&sink).spill(WhenFull::Wait));
            spilled.await.map_err(|e| self.error("writing", e))?;
        }
        Ok(())
    }

    /// Takes `bytes` into the buffer; whether it is full.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.len += bytes.len() as u64;
        let mut sink = locked(&self.sink);
        sink.buffer.extend_from_slice(bytes);
        sink.buffer.len() >= BUFFER
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same bytes for reading, from the first one: a second look before, or instead of, a commit.
    ///
    /// Blocks for what is not written yet, 256 KiB at the most.
    ///
    /// # Errors
    /// When the volume refuses.
    pub fn reader(&self) -> Result<File, Error> {
        let spilled = locked(&self.sink).spill(WhenFull::Tell);
        spilled.map_err(|e| self.error("writing", e))?;
        File::open(&self.path).map_err(|e| self.error("opening", e))
    }

    /// The digest of what came so far.
    ///
    /// # Errors
    /// As [`Ingest::append`].
    pub async fn digest(&self) -> Result<Digest, Error> {
        Ok(self.finish().await?.digest)
    }

    /// Writes the rest and says what blob this is.
    pub(super) async fn finish(&self) -> Result<Blob, Error> {
        let sink = Arc::clone(&self.sink);
        let hashed = volume::blocking(move || {
            let mut sink = locked(&sink);
            sink.spill(WhenFull::Wait)?;
            Ok(sink.hasher.clone().finish())
        });
        let digest = hashed.await.map_err(|e| self.error("writing", e))?;
        Ok(Blob {
            digest,
            size: self.len,
        })
    }

    /// Makes the content durable.
    pub(super) async fn sync(&self) -> Result<(), Error> {
        let sink = Arc::clone(&self.sink);
        let synced = volume::blocking(move || locked(&sink).file.sync_all());
        synced.await.map_err(|e| self.error("syncing", e))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file as an object of the store it is in.
    pub(super) fn key(&self) -> Key {
        let name = self.path.file_name().unwrap_or_default();
        Key::from_iter([volume::INGEST, &name.to_string_lossy()])
    }

    pub(super) fn error(&self, action: &'static str, source: io::Error) -> Error {
        let path: &Path = &self.path;
        Error::of(&self.store.0.directory, action, path, self.len, source)
    }

    /// The same error for `std::io`, its kind kept.
    fn io_error(&self, source: io::Error) -> io::Error {
        io::Error::new(source.kind(), self.error("writing", source))
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.take(bytes) {
            let spilled = locked(&self.sink).spill(WhenFull::Wait);
            spilled.map_err(|e| self.io_error(e))?;
        }
        Ok(bytes.len())
    }

    /// Writes what is in memory, and gives that memory back: an ingest may wait for long among many.
    fn flush(&mut self) -> io::Result<()> {
        let spilled = {
            let mut sink = locked(&self.sink);
            let spilled = sink.spill(WhenFull::Wait);
            spilled.map(|()| sink.buffer = Vec::new())
        };
        spilled.map_err(|e| self.io_error(e))
    }
}

//! A log that grows while others read it: on disk, many readers, closed when its writer is done. A compile's
//! output is one (design D6, protocol rule 12): a slow reader never slows the writer, and a late one sees
//! the first line too.
//!
//! The file has no name: it goes with its last clone and reader, and no crash can leave it behind. All
//! read and write it at positions of their own through one handle; only the length passes between them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Blob, Error, Store, volume};

/// The most one read returns.
const PIECE: u64 = 64 << 10;

/// The log; clones share it.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    store: Store,
    file: Arc<File>,
    state: watch::Sender<State>,
    /// One piece is written at a time. Held on blocking threads only, never while `state` is.
    writing: Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    len: u64,
    closed: bool,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = *self.0.state.borrow();
        f.debug_tuple("Spool").field(&state).finish()
    }
}

impl Spool {
    /// An empty log on the store's volume, gone with its last clone and reader.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn create(store: &Store) -> Result<Self, Error> {
        let directory = store.ingest_directory();
        let made = volume::blocking({
            let (store, directory) = (store.clone(), directory.clone());
            move || store.with_room(0, || tempfile::tempfile_in(&directory))
        });
        let file = made.await.map_err(|e| {
            let root = &store.0.directory;
            Error::of(root, "creating a file in", &directory, 0, e)
        })?;
        let state = State {
            len: 0,
            closed: false,
        };
        Ok(Self::new(store, file, state))
    }

    /// A finished log with the content of `blob`; `None` where the store has no such blob.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn of_blob(store: &Store, blob: &Blob) -> Result<Option<Self>, Error> {
        let Some((file, found)) = store.open_blob(&blob.digest).await? else {
            return Ok(None);
        };
        let state = State {
            len: found.size,
            closed: true,
        };
        Ok(Some(Self::new(store, file, state)))
    }

    fn new(store: &Store, file: File, state: State) -> Self {
        Self(Arc::new(Inner {
            store: store.clone(),
            file: Arc::new(file),
            state: watch::Sender::new(state),
            writing: Mutex::new(()),
        }))
    }

    /// Adds `bytes` at the end. Ignored once the log is closed.
    ///
    /// Pieces of several writers come whole and in any order.
    ///
    /// # Errors
    /// When the volume refuses; nothing was added.
    pub async fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        let size = bytes.len() as u64;
        let (inner, bytes) = (Arc::clone(&self.0), bytes.to_vec());
        let written = volume::blocking(move || inner.append(&bytes));
        written.await.map_err(|e| self.error("writing", size, e))
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.0.state.borrow().len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No more will come: readers end when they have read all.
    pub fn close(&self) {
        self.0.state.send_modify(|state| state.closed = true);
    }

    /// Makes the content, as far as it has come, a blob of the store.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn commit(&self, store: &Store) -> Result<Blob, Error> {
        let len = self.len();
        let mut ingest = store.ingest().await?;
        let inner = Arc::clone(&self.0);
        let copied = volume::blocking(move || {
            let mut buffer = vec![0; PIECE as usize];
            let mut position = 0;
            while position < len {
                let size = (len - position).min(PIECE);
                let piece = &mut buffer[..size as usize];
                inner.file.read_exact_at(piece, position)?;
                ingest.write_all(piece)?;
                position += size;
            }
            Ok(ingest)
        });
        let ingest = copied.await.map_err(|e| self.error("copying", len, e))?;
        store.commit(ingest).await
    }

    /// A reader from the first byte.
    pub fn reader(&self) -> Reader {
        Reader {
            store: self.0.store.clone(),
            file: Arc::clone(&self.0.file),
            state: self.0.state.subscribe(),
            position: 0,
        }
    }

    fn error(&self, action: &'static str, bytes: u64, source: io::Error) -> Error {
        error(&self.0.store, action, bytes, source)
    }
}

fn error(store: &Store, action: &'static str, bytes: u64, source: io::Error) -> Error {
    let directory = store.ingest_directory();
    Error::of(&store.0.directory, action, &directory, bytes, source)
}

impl Inner {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *self.state.borrow();
        if before.closed {
            return Ok(());
        }
        let write = || self.file.write_all_at(bytes, before.len);
        self.store.with_room(bytes.len() as u64, write)?;
        self.state.send_modify(|state| {
            // Readers may have taken the end for final meanwhile.
            if !state.closed {
                state.len += bytes.len() as u64;
            }
        });
        Ok(())
    }
}

/// Reads a [`Spool`] to its end, however long that takes to come.
pub struct Reader {
    store: Store,
    file: Arc<File>,
    state: watch::Receiver<State>,
    position: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Reader");
        shown.field("position", &self.position);
        shown.finish_non_exhaustive()
    }
}

impl Reader {
    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next bytes, at most 64 KiB; waits for them; `None` when the log is closed and read.
    ///
    /// A log whose last clone is gone counts as closed: nobody is left to add to it. Nothing is lost when
    /// the future is dropped.
    ///
    /// # Errors
    /// When the volume refuses.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let position = self.position;
        let ready = |state: &State| state.len > position || state.closed;
        // An error says that the last clone is gone; the state stays as it left it.
        let _ = self.state.wait_for(ready).await;
        let len = self.state.borrow().len;
        let size = len.saturating_sub(position).min(PIECE);
        if size == 0 {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let read = volume::blocking(move || {
            let mut piece = vec![0; size as usize];
            file.read_exact_at(&mut piece, position)?;
            Ok(Bytes::from(piece))
        });
        let piece = (read.await).map_err(|e| error(&self.store, "reading", 0, e))?;
        self.position += size;
        Ok(Some(piece))
    }
}

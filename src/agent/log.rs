//! A compile's log on its way to Peitho: a file that grows while it is sent. It is kept from its first byte
//! until the agent ends, so that a restarted Peitho gets all of it again (design D6). One writes, one reads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// The log; shared by its writer and its reader.
#[derive(Clone)]
pub(super) struct Log {
    file: Arc<File>,
    /// What the agent itself has to say, after the file: it must be sayable with a full disk too.
    notes: Arc<Mutex<Vec<u8>>>,
    extent: Arc<watch::Sender<Extent>>,
}

#[derive(Clone, Copy, Default)]
struct Extent {
    /// Bytes in the file.
    written: u64,
    /// Bytes in all.
    length: u64,
    closed: bool,
}

impl Log {
    /// An empty log in `directory`, gone with the process.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Arc::new(tempfile::tempfile_in(directory)?),
            notes: Arc::default(),
            extent: Arc::new(watch::Sender::default()),
        })
    }

    /// Adds `bytes`; they can be read when this returns.
    pub(super) async fn append(&self, bytes: Bytes) -> io::Result<()> {
        let (file, at) = (Arc::clone(&self.file), self.extent.borrow().written);
        let count = bytes.len() as u64;
        tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at))
            .await
            .expect("writing to a file does not panic")?;
        self.extent.send_modify(|extent| {
            extent.written += count;
            extent.length += count;
        });
        Ok(())
    }

    /// Adds a line of the agent's own before the command's.
    pub(super) async fn remark(&self, line: &str) -> io::Result<()> {
        self.append(format!("peitho agent: {line}\n").into()).await
    }

    /// Adds a line of the agent's own; nothing is appended after it.
    pub(super) fn note(&self, line: &str) {
        let line = format!("peitho agent: {line}\n");
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(line.as_bytes());
        self.extent
            .send_modify(|extent| extent.length += line.len() as u64);
    }

    /// No more will be appended.
    pub(super) fn close(&self) {
        self.extent.send_modify(|extent| extent.closed = true);
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.extent.borrow().length
    }

    /// Waits until there are more than `offset` bytes or no more will come.
    pub(super) async fn wait(&self, offset: u64) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self
            .extent
            .subscribe()
            .wait_for(|extent| extent.length > offset || extent.closed)
            .await;
    }

    /// The bytes from `offset` on, at most `limit`; none at the end.
    pub(super) async fn read(&self, offset: u64, limit: usize) -> io::Result<Bytes> {
        let written = self.extent.borrow().written;
        if offset >= written {
            let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            let at = usize::try_from(offset - written)
                .unwrap_or(usize::MAX)
                .min(notes.len());
            let end = at.saturating_add(limit).min(notes.len());
            return Ok(Bytes::copy_from_slice(&notes[at..end]));
        }
        let count = usize::try_from(written - offset)
            .unwrap_or(usize::MAX)
            .min(limit);
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; count];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes.into())
        })
        .await
        .expect("reading a file does not panic")
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn it_is_read_from_any_byte_notes_last() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path()).unwrap();
        log.append(Bytes::from_static(b"one ")).await.unwrap();
        log.append(Bytes::from_static(b"two\n")).await.unwrap();
        log.note("three");
        let all = b"one two\npeitho agent: three\n";
        assert_eq!(log.len(), all.len() as u64);
        for start in 0..=all.len() {
            let mut read = Vec::new();
            loop {
                let offset = (start + read.len()) as u64;
                let bytes = log.read(offset, 3).await.unwrap();
                assert!(bytes.len() <= 3);
                if bytes.is_empty() {
                    break;
                }
                read.extend_from_slice(&bytes);
            }
            assert_eq!(read, &all[start..], "from {start}");
        }
        assert!(log.read(1 << 40, 3).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_reader_waits_for_more_or_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::create(directory.path()).unwrap();
        assert!(log.wait(0).now_or_never().is_none());
        log.append(Bytes::from_static(b"x")).await.unwrap();
        log.wait(0).await;
        assert!(log.wait(1).now_or_never().is_none());
        log.close();
        log.wait(1).await;
    }
}

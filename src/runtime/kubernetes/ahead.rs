//! Output that is read ahead of its reader: what comes is taken as fast as it comes, and what is not read yet waits on the
//! store's volume, up to a bound. `logs` puts it behind the kubelet; it knows nothing of pods.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::LogStream;
use crate::store::Store;
use crate::store::spool::{Reader, Spool};

/// Output lies in pieces of about so many bytes; each goes when it was read.
const PIECE: u64 = 16 << 20;

/// How many pieces wait for a reader. One that is 256 MiB behind slows who writes after all: as much as a container's output may
/// be where Peitho bounds it on a Docker Engine.
const PIECES: usize = 16;

/// `chunks` for a reader of any speed. Reading ahead ends when what is returned is dropped.
pub(super) fn read_ahead(
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    store: Store,
) -> LogStream {
    let (sender, pieces) = mpsc::channel(PIECES);
    let waiting = Waiting {
        pieces,
        piece: None,
        _taking: AbortOnDropHandle::new(tokio::spawn(take(chunks, store, sender))),
    };
    Box::pin(stream::unfold(waiting, |mut waiting| async {
        let chunk = waiting.next().await?;
        Some((chunk, waiting))
    }))
}

/// Puts `chunks` into pieces, to their end or the first error.
async fn take(
    chunks: impl Stream<Item = io::Result<Bytes>>,
    store: Store,
    pieces: mpsc::Sender<io::Result<Reader>>,
) {
    let mut chunks = std::pin::pin!(chunks);
    let mut piece: Option<Spool> = None;
    while let Some(chunk) = chunks.next().await {
        let taken = async {
            let chunk = chunk?;
            let piece = match piece.take().filter(|piece| piece.len() < PIECE) {
                Some(begun) => piece.insert(begun),
                None => {
                    let begun = Spool::create(&store).await.map_err(io::Error::other)?;
                    // Without a reader this task is about to end.
                    let _ = pieces.send(Ok(begun.reader())).await;
                    piece.insert(begun)
                }
            };
            piece.append(&chunk).await.map_err(io::Error::other)
        };
        if let Err(error) = taken.await {
            let _ = pieces.send(Err(error)).await;
            return;
        }
    }
}

/// What was taken and not read.
struct Waiting {
    pieces: mpsc::Receiver<io::Result<Reader>>,
    /// The one that is being read.
    piece: Option<Reader>,
    _taking: AbortOnDropHandle<()>,
}

impl Waiting {
    /// The next bytes; waits for them; `None` at the end.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(piece) = &mut self.piece {
                match piece.next().await {
                    Ok(Some(bytes)) => return Some(Ok(bytes)),
                    Ok(None) => self.piece = None,
                    Err(error) => return Some(Err(io::Error::other(error))),
                }
            }
            match self.pieces.recv().await? {
                Ok(piece) => self.piece = Some(piece),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;
    use futures::channel::mpsc::{Sender, channel};
    use tempfile::TempDir;

    use super::*;

    const CHUNK: usize = 1 << 20;

    async fn ahead() -> (Sender<io::Result<Bytes>>, LogStream, TempDir) {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        let (sender, chunks) = channel(0);
        (sender, read_ahead(chunks, store), directory)
    }

    fn chunk(number: usize) -> Bytes {
        vec![u8::try_from(number % 251).unwrap(); CHUNK].into()
    }

    #[tokio::test]
    async fn who_writes_does_not_wait_for_who_reads() {
        let (mut sender, mut output, _directory) = ahead().await;
        for number in 0..41 {
            sender.send(Ok(chunk(number))).await.unwrap();
        }
        drop(sender);
        let mut read = Vec::new();
        while let Some(bytes) = output.next().await {
            read.extend_from_slice(&bytes.unwrap());
        }
        let written: Vec<u8> = (0..41).flat_map(chunk).collect();
        assert!(read == written, "{} bytes of {}", read.len(), written.len());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_goes_on_when_it_is_read() {
        let (mut sender, mut output, _directory) = ahead().await;
        let total = 320;
        let mut writing = tokio::spawn(async move {
            for number in 0..total {
                sender.send(Ok(chunk(number))).await.unwrap();
            }
        });
        let whole = tokio::time::timeout(std::time::Duration::from_secs(2), &mut writing).await;
        assert!(whole.is_err(), "320 MiB wait for a reader");
        let mut read = 0;
        while let Some(bytes) = output.next().await {
            read += bytes.unwrap().len();
        }
        writing.await.unwrap();
        assert_eq!(read, total * CHUNK);
    }

    #[tokio::test]
    async fn an_error_comes_after_what_was_before_it() {
        let (mut sender, mut output, _directory) = ahead().await;
        sender
            .send(Ok(Bytes::from_static(b"so far")))
            .await
            .unwrap();
        sender.send(Err(io::Error::other("broken"))).await.unwrap();
        assert_eq!(output.next().await.unwrap().unwrap(), "so far");
        let error = output.next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "broken");
        assert!(output.next().await.is_none());
    }

    #[tokio::test]
    async fn without_a_reader_nothing_is_taken_any_more() {
        let (mut sender, output, _directory) = ahead().await;
        sender.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        drop(output);
        // The other end goes with the task.
        while sender.send(Ok(Bytes::from_static(b"next"))).await.is_ok() {}
    }
}

//! What the directory that is kept gained, on its way to Peitho: looked for, packed and sent at once. The compile is reported by then, and nobody
//! waits for this but the container; so it does not go on for ever. `compile` calls it.

use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use lz4_flex::frame::FrameEncoder;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::super::report::is_passing;
use super::super::{blocking, client};
use super::{Cache, Fetched, Worth};
use crate::archive::{self, Extent, Increment};

/// Bytes that go out at once, and how many of such pieces may wait.
const PIECE: usize = 128 << 10;
const WAITING: usize = 4;

impl Cache {
    /// Brings back what the directory gained. The compile was reported by now: a failure is told on stderr at the most.
    ///
    /// `taking`: how long nothing may be taken of it.
    pub(in crate::agent) async fn give(
        &self,
        fetched: Fetched,
        worth: Worth,
        taking: Duration,
    ) -> Result<(), Lost> {
        let untold = match fetched.telling {
            Some(telling) => telling.await.expect("it does not panic").err(),
            None => None,
        };
        let is_wanted = worth == Worth::Keeping && untold.is_none();
        let give = fetched.give.filter(|_| is_wanted);
        let (directory, known) = (self.directory.clone(), fetched.known);
        let found = blocking(move || {
            let (extent, most) = give?;
            Some(Increment::of(&directory, &known, extent, room(most)))
        });
        let (increment, failure) = match found.await {
            Some(Ok(increment)) if !increment.is_empty() => (Some(increment), None),
            Some(Err(error)) => (None, Some(error)),
            _ => (None, None),
        };
        let extent = increment
            .as_ref()
            .map_or(Extent::New, Increment::extent)
            .as_str();
        let path = format!(
            "{}?fared={}&fetchMs={}&extent={extent}",
            self.path,
            fetched.fared,
            fetched.took.as_millis()
        );
        let (taken, silence) = pause(taking);
        let body = match increment {
            Some(increment) => client::streamed(
                packed(increment).inspect(move |_| taken.send_modify(|count| *count += 1)),
            ),
            None => {
                drop(taken);
                client::empty()
            }
        };
        tokio::select! {
            put = self.client.put_whole(&path, body) => put?,
            () = silence => return Err(Lost::NotTaken(taking)),
        }
        let untold = untold.map(Lost::Client);
        untold.or(failure.map(Lost::Unreadable)).map_or(Ok(()), Err)
    }
}

/// Why what a directory gained is not brought back.
#[derive(Debug, thiserror::Error)]
pub(in crate::agent) enum Lost {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("nothing of it was taken for {0:?}")]
    NotTaken(Duration),
    #[error("it took more than {0:?}")]
    Late(Duration),
    #[error("what the command left running is not over: {0}")]
    Leftover(#[source] io::Error),
    #[error("{0}")]
    Unreadable(#[source] archive::Error),
}

impl Lost {
    /// Whether Peitho may have ended meanwhile.
    pub(in crate::agent) fn may_be_by_a_restart(&self) -> bool {
        match self {
            Self::Client(error) => is_passing(error),
            Self::NotTaken(_) | Self::Late(_) => true,
            Self::Leftover(_) | Self::Unreadable(_) => false,
        }
    }
}

/// A count of what is taken, and what comes to an end when it does not change for so long. Once the count is dropped, since all of it was taken,
/// that never ends.
fn pause(longest: Duration) -> (watch::Sender<u64>, impl Future<Output = ()>) {
    let (taken, mut changes) = watch::channel(0);
    let pause = async move {
        loop {
            match timeout(longest, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return,
            }
        }
    };
    (taken, pause)
}

/// As much as fits for sure in `most` bytes: what cannot be compressed grows by a little.
fn room(most: u64) -> u64 {
    most - most / 64
}

/// The archive of `increment` as it is packed. Compression is what costs least: a second CPU compiles mostly, and in a cluster the
/// network is quick.
fn packed(increment: Increment) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (pieces, arriving) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let failed = pieces.clone();
        let to = io::BufWriter::with_capacity(PIECE, Pieces(pieces));
        let packed = || {
            let mut to = to;
            to.write_all(&archive::MAGIC)
                .map_err(|error| error.to_string())?;
            let encoder = increment.pack(FrameEncoder::new(to));
            let encoder = encoder.map_err(|error| error.to_string())?;
            let to = encoder.finish().map_err(|error| error.to_string())?;
            to.into_inner().map(drop).map_err(|error| error.to_string())
        };
        if let Err(error) = packed() {
            // The request breaks off with it, so that nobody takes this for all. Where nobody listens, it has.
            let _ = failed.blocking_send(Err(io::Error::other(error)));
        }
    });
    ReceiverStream::new(arriving)
}

/// Where packed bytes go.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A connection that is no longer HTTP: the output goes out on it until it ends. What the client sends is
//! thrown away: nothing here reads from a terminal.

use std::future::pending;
use std::io;
use std::pin::pin;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::attach::Feed;

/// The connections that were taken over.
#[derive(Clone)]
pub(super) struct Hijacks {
    /// They belong to none of the listener's requests any more.
    pub(super) tasks: TaskTracker,
    /// When cancelled, they are dropped.
    pub(super) closing: CancellationToken,
}

impl Hijacks {
    /// Sends `feed` once the connection is `upgrade`d; without one, closes it at once.
    pub(super) fn carry(self, upgrade: OnUpgrade, feed: Option<Feed>) {
        let Self { tasks, closing } = self;
        let carried = async move {
            match upgrade.await {
                Ok(connection) => carry(TokioIo::new(connection), feed).await,
                Err(error) => {
                    tracing::debug!(%error, "attach: the client left before the output began");
                }
            }
        };
        let carried = async move { closing.run_until_cancelled(carried).await };
        tasks.spawn(carried.in_current_span());
    }
}

/// Ends when the output has ended, when it cannot be written, or when the connection is reset. It is closed
/// then: moby reads to the end, for ever if need be (protocol rule 10).
async fn carry(connection: impl AsyncRead + AsyncWrite, feed: Option<Feed>) {
    let (reader, writer) = tokio::io::split(connection);
    let sent = tokio::select! {
        sent = send(writer, feed) => sent,
        reset = reset(reader) => Err(reset),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "attach: the client left before the output's end");
    }
}

async fn send(writer: impl AsyncWrite, feed: Option<Feed>) -> io::Result<()> {
    let mut writer = pin!(writer);
    if let Some(mut feed) = feed {
        while let Some(piece) = feed.next().await {
            writer.write_all(&piece).await?;
            writer.flush().await?;
        }
        // Now, and not before: a builder's `wait` answers when all feeds are gone (protocol rule 12).
        drop(feed);
    }
    writer.shutdown().await
}

/// Waits for the connection to break. A client's half-close is no such thing (protocol rule 11): over TLS it is a
/// bare FIN, which rustls calls an unexpected end.
async fn reset(reader: impl AsyncRead) -> io::Error {
    let mut reader = pin!(reader);
    let mut scrap = [0; 1024];
    loop {
        match reader.read(&mut scrap).await {
            Ok(0) => return pending().await,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return pending().await,
            Err(error) => return error,
        }
    }
}

//! What an attached client reads: a builder's log or a chaincode's output. It can be asked for before
//! there is anything to read, since clients want their 101 before they start the container (protocol
//! rule 9).

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;

use crate::runtime::LogStream;
use crate::store::spool::{Reader, Spool};

/// The output of a container from its first byte.
pub enum Output {
    /// A builder's log.
    Builder(BuilderLog),
    /// A chaincode's output.
    Chaincode(LogStream),
}

/// A builder's log for one attached client.
pub struct BuilderLog {
    log: watch::Receiver<Log>,
    reader: Option<Reader>,
    _attached: Attached,
}

/// Where a builder's log is.
#[derive(Clone, Debug)]
pub(super) enum Log {
    /// Not started.
    Awaited,
    /// Started.
    Open(Spool),
    /// Stopped while it ran, when there were so many bytes. The run may go on for others.
    Cut(Spool, u64),
    /// There will be none.
    Never,
}

/// Counts one attached client for as long as it has something to read.
pub(super) struct Attached(watch::Sender<usize>);

impl Attached {
    pub(super) fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|attached| *attached += 1);
        Self(count.clone())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.send_modify(|attached| *attached -= 1);
    }
}

impl BuilderLog {
    pub(super) fn new(log: watch::Receiver<Log>, attached: Attached) -> Self {
        Self {
            log,
            reader: None,
            _attached: attached,
        }
    }

    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let log = self.log.wait_for(|log| !matches!(log, Log::Awaited)).await;
                match log.as_deref() {
                    Ok(Log::Open(spool) | Log::Cut(spool, _)) => none.insert(spool.reader()),
                    _ => return Ok(None),
                }
            }
        };
        let bytes = loop {
            if let Log::Cut(_, end) = *self.log.borrow_and_update()
                && reader.position() >= end
            {
                return Ok(None);
            }
            tokio::select! {
                biased;
                // A builder that is gone tells nothing any more; its log has an end of its own.
                Ok(()) = self.log.changed() => {}
                bytes = reader.next() => break bytes,
            }
        };
        bytes.map_err(std::io::Error::other)
    }
}

impl Output {
    /// The next bytes; waits for them; `None` at the end.
    ///
    /// # Errors
    /// When the log cannot be read, or the stream from the cluster breaks.
    pub async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self {
            Self::Builder(log) => log.next().await,
            Self::Chaincode(stream) => stream.next().await.transpose(),
        }
    }
}

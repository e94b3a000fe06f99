//! What the agent tells Peitho of a compile: the log as it comes, then output and exit code. Peitho may be
//! away or start anew at any moment: what it forgot it is told again, from the first byte.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::client::{self, Client, patiently};
use super::log::Log;
use crate::names::CompileKey;

/// How long Peitho may be away, or may not know of the compile, before the agent gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Bytes of log in one request at the most, as the delivery API has it.
const BATCH: usize = 1 << 20;

/// Why a report came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was not accepted or could not be sent.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The output was refused: another one, or none, may be accepted.
    #[error("the output was not accepted: {0}")]
    Output(#[source] client::Error),
    /// The agent's own copy of the log is lost.
    #[error("the log in the spool directory: {0}")]
    Log(#[source] std::io::Error),
    /// Peitho's answer makes no sense.
    #[error("the answer to a part of the log: {0}")]
    Answer(String),
}

impl Error {
    fn is_passing(&self) -> bool {
        match self {
            Self::Client(error) => is_passing(error),
            Self::Output(_) | Self::Log(_) | Self::Answer(_) => false,
        }
    }
}

/// Whether to try again. A compile that Peitho does not know may become known: after a restart the next
/// install of the package joins this run.
pub(super) fn is_passing(error: &client::Error) -> bool {
    error.is_passing() || error.is_unknown()
}

/// How long the parts of a compile took that nobody sees from outside, in milliseconds.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Took {
    pub(super) source_ms: Option<u64>,
    pub(super) cache_ms: Option<u64>,
    pub(super) command_ms: Option<u64>,
    pub(super) pack_ms: Option<u64>,
    upload_ms: Option<u64>,
}

/// How a compile ended.
pub(super) struct End {
    /// The exit code of its command.
    pub(super) code: u8,
    /// What it left, as a tar, where that is to be kept.
    pub(super) output: Option<File>,
    /// What it ran out of.
    pub(super) lack: Option<Lack>,
    /// What took how long.
    pub(super) took: Took,
}

/// What a command ran out of: it may be what its compiler's cache took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Lack {
    Memory,
    Room,
}

/// Since `begun`.
pub(super) fn millis(begun: Instant) -> u64 {
    begun.elapsed().as_millis() as u64
}

/// Reports one compile.
pub(super) struct Report {
    client: Client,
    path: String,
    log: Log,
    /// Bytes of the log that Peitho has, by its last answer.
    sent: AtomicU64,
}

#[derive(Deserialize)]
struct Length {
    length: u64,
}

/// What is told last.
#[derive(Serialize)]
struct Exit {
    code: u8,
    lack: Option<Lack>,
    took: Took,
}

impl Report {
    pub(super) fn new(client: Client, key: &CompileKey, log: Log) -> Self {
        Self {
            client,
            path: format!("/compile/{key}"),
            log,
            sent: AtomicU64::new(0),
        }
    }

    /// Sends the log as it grows; returns when it is closed and Peitho has all of it.
    pub(super) async fn follow(&self) -> Result<(), Error> {
        loop {
            let sent = self.sent.load(Ordering::Relaxed);
            self.log.wait(sent).await;
            if sent == self.log.len() {
                return Ok(());
            }
            patiently(PATIENCE, Error::is_passing, || self.send_batch()).await?;
        }
    }

    /// Reports how the compile ended, after a log that is closed. Returns what was reported: not `end` where its
    /// output was refused.
    pub(super) async fn finish(&self, end: End) -> Result<End, Error> {
        match self.deliver(&end).await {
            Err(Error::Output(error)) => {
                self.log.note(&format!("output not accepted: {error}"));
                let refused = End {
                    code: super::FAILED,
                    output: None,
                    lack: None,
                    took: end.took,
                };
                self.deliver(&refused).await?;
                Ok(refused)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(end),
        }
    }

    /// Reports `end` once more, to a Peitho that may have started anew since: somebody there may have joined this run, and waits. Where nobody
    /// does within `patience`, nobody is told.
    pub(super) async fn again(&self, end: &End, patience: Duration) {
        if let Ok(Err(error)) = timeout(patience, self.deliver(end)).await {
            tracing::info!(error = %error, "the compile was not reported once more");
        }
    }

    async fn deliver(&self, end: &End) -> Result<(), Error> {
        patiently(PATIENCE, Error::is_passing, || async {
            // Peitho may have started anew and have nothing, after a failure or unnoticed, since the last line: it is
            // asked with a batch, an empty one if need be, and all follows again.
            self.send_batch().await?;
            while self.sent.load(Ordering::Relaxed) != self.log.len() {
                self.send_batch().await?;
            }
            let mut took = end.took;
            if let Some(output) = &end.output {
                let begun = Instant::now();
                let sent = self
                    .client
                    .put_file(&format!("{}/output", self.path), output)
                    .await;
                sent.map_err(|error| {
                    if is_passing(&error) {
                        Error::Client(error)
                    } else {
                        Error::Output(error)
                    }
                })?;
                took.upload_ms = Some(millis(begun));
            }
            let report = serde_json::to_vec(&Exit {
                code: end.code,
                lack: end.lack,
                took,
            });
            let report = report.expect("numbers and fixed words are always written");
            let path = format!("{}/exit", self.path);
            Ok(self.client.put(&path, client::full(report.into())).await?)
        })
        .await
    }

    /// Sends the next part of the log and learns how much Peitho has.
    async fn send_batch(&self) -> Result<(), Error> {
        let sent = self.sent.load(Ordering::Relaxed);
        let batch = self.log.read(sent, BATCH).await.map_err(Error::Log)?;
        let is_question = batch.is_empty();
        let path = format!("{}/log?offset={sent}", self.path);
        let answer = self
            .client
            .exchange(&path, client::full(batch), &[StatusCode::CONFLICT])
            .await?;
        let Length { length } =
            serde_json::from_slice(&answer).map_err(|error| Error::Answer(error.to_string()))?;
        if length > self.log.len() {
            return Err(Error::Answer(format!(
                "{length} bytes are there, {} were read",
                self.log.len()
            )));
        }
        if length == sent && !is_question {
            return Err(Error::Answer(format!(
                "the part at {sent} was neither taken nor refused"
            )));
        }
        self.sent.store(length, Ordering::Relaxed);
        Ok(())
    }
}

//! The output of a chaincode's process, followed through the API server from the start of the process
//! (k8s-measurements §3). An end of the stream is not the end of the process: API servers restart. The kubelet is
//! read as fast as it tells, whoever reads here: one that is slow while the kubelet rotates a log gets the old file to its
//! end, and silently nothing after it.

use futures::io::{AsyncRead, AsyncReadExt as _};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::LogParams;
use tokio::time::{Duration, Instant};

use super::Kubernetes;
use super::ahead::read_ahead;
use super::follow::Follow;
use super::pod::MAIN;
use super::record::Outcome as Ending;
use super::request::describe;
use super::verdict::Verdict;
use super::wait::Launch;
use crate::names::ContainerKey;
use crate::runtime::{Error, Extent, Line, LineQuery, LineStream, LogStream, lines};

/// How much later than the end of its output the end of a process may be seen.
const END_SEEN_WITHIN: Duration = Duration::from_secs(3);
/// How often a stream that broke is opened again before it is given up.
const ATTEMPTS: u32 = 5;
const CHUNK: usize = 64 * 1024;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The last whole second up to `time`. A node is asked for lines since a whole second; kube would round half of all times up,
/// and what was written before that would be lost.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// An output being read.
struct Output {
    pods: Api<Pod>,
    pod: String,
    follow: Follow,
    reader: Option<Reader>,
    /// When the last bytes came; the next stream begins there.
    last: Option<Timestamp>,
    failures: u32,
}

impl Kubernetes {
    pub(super) async fn follow_logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        let mut follow = match self.until_launched(key).await? {
            Launch::Pod(follow, _) => follow,
            Launch::Ended(Ending::Exited(_)) => return Ok(Box::pin(stream::empty())),
            Launch::Ended(Ending::NeverStarted(reason)) => return Err(Error::NeverStarted(reason)),
        };
        if let Verdict::NeverStarted { reason } = self.running(&mut follow).await {
            return Err(Error::NeverStarted(reason));
        }
        let output = Output {
            pods: self.pods.clone(),
            pod: follow.evidence().name,
            follow,
            reader: None,
            last: None,
            failures: 0,
        };
        let chunks = stream::unfold(output, |mut output| async {
            let chunk = output.chunk().await?;
            Some((chunk, output))
        });
        Ok(read_ahead(chunks, self.store.clone()))
    }
}

impl Kubernetes {
    /// The lines that the container `key` wrote, as its node keeps them. With its pod they are gone.
    pub(super) async fn read_lines(
        &self,
        key: &ContainerKey,
        query: &LineQuery,
    ) -> Result<LineStream, Error> {
        let record = self.existing(key).await?;
        let Some(mut launch) = self.launch_of(&record) else {
            return match record.outcome {
                None => Ok(stream::empty().boxed()),
                Some(_) => Err(Error::Refused(format!(
                    "the output of {key} is gone with its pod: Kubernetes keeps it only as long; see where the cluster collects logs"
                ))),
            };
        };
        // A process that does not run yet has written nothing.
        if let Verdict::Starting { .. } | Verdict::NeverStarted { .. } = launch.verdict() {
            return Ok(stream::empty().boxed());
        }
        let pod = launch.evidence().name;
        let params = LogParams {
            container: Some(MAIN.to_owned()),
            follow: query.extent == Extent::Follow,
            since_time: query.since.map(whole_second),
            tail_lines: query.tail.and_then(|tail| i64::try_from(tail).ok()),
            timestamps: true,
            ..LogParams::default()
        };
        let opened = self.pods.log_stream(&pod, &params).await;
        let opened = opened.map_err(|error| {
            Error::Refused(format!(
                "reading the output of pod {pod}: {}",
                describe(&error)
            ))
        })?;
        let chunks = stream::try_unfold(Box::pin(opened), |mut reader| async move {
            let mut chunk = vec![0; CHUNK];
            let length = reader.read(&mut chunk).await?;
            chunk.truncate(length);
            Ok((length > 0).then(|| (bytes::Bytes::from(chunk), reader)))
        });
        Ok(lines::of_chunks(chunks.boxed(), Line::stamped))
    }
}

impl Output {
    /// The next bytes; `None` when the process is over and all was read.
    async fn chunk(&mut self) -> Option<std::io::Result<bytes::Bytes>> {
        loop {
            let fault = match self.read().await {
                Ok(bytes) if !bytes.is_empty() => {
                    self.failures = 0;
                    self.last = Some(Timestamp::now());
                    return Some(Ok(bytes));
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            self.reader = None;
            if self.is_over().await {
                return None;
            }
            self.failures += 1;
            if self.failures >= ATTEMPTS {
                return fault.map(Err);
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<bytes::Bytes> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let params = LogParams {
                    container: Some(MAIN.to_owned()),
                    follow: true,
                    since_time: self.last.map(whole_second),
                    ..LogParams::default()
                };
                let opened = self.pods.log_stream(&self.pod, &params).await;
                let opened = opened.map_err(|error| std::io::Error::other(describe(&error)))?;
                self.reader.insert(Box::new(Box::pin(opened)))
            }
        };
        let mut chunk = vec![0; CHUNK];
        let length = reader.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok(chunk.into())
    }

    /// Whether the process is over: its end may be seen a little after the end of its output.
    async fn is_over(&mut self) -> bool {
        let until = Instant::now() + END_SEEN_WITHIN;
        loop {
            let verdict = self.follow.verdict();
            if verdict.is_final() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            self.follow.news(&verdict, Some(until)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_since_a_time_are_asked_for_from_its_second_on() {
        for (time, second) in [
            ("2026-01-01T10:00:00.999Z", "2026-01-01T10:00:00Z"),
            ("2026-01-01T10:00:01Z", "2026-01-01T10:00:01Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(whole_second(time).to_string(), second);
        }
    }
}

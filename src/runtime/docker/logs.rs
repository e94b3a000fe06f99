//! The output of a chaincode's process, from the start of the process. The engine keeps it, so a stream that breaks is
//! opened again and what was read already is passed over.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio::time::timeout;

use super::Engine;
use super::position::Position;
use super::record;
use super::request::Bound;
use super::wait::Sight;
use super::watch::Follow;
use crate::names::ContainerKey;
use crate::runtime::{Error, Extent, Line, LineQuery, LineStream, LogStream, State};

/// A process may print before the engine has noted when it was started: so many seconds on a busy machine. What an earlier
/// process of the container wrote in them is read again; peers start no container twice.
const EARLY: i64 = 2;

/// How often a stream that brings nothing new is opened again before it is given up.
const ATTEMPTS: u32 = 30;
/// How long the end of a process may be seen after the end of its output.
const END_SEEN_WITHIN: Duration = Duration::from_secs(3);

/// An output being read.
struct Output {
    engine: Arc<Engine>,
    follow: Follow,
    stream: Option<BoxStream<'static, Result<LogOutput, bollard::errors::Error>>>,
    /// How far it was read.
    position: Position,
    failures: u32,
    reading: Reading,
}

/// What the present stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It goes on with the process.
    Along,
    /// It has what there is after the end of the process: one that goes along may end before what was written last.
    Rest,
}

impl Engine {
    pub(super) async fn follow_logs(
        self: Arc<Self>,
        key: &ContainerKey,
    ) -> Result<LogStream, Error> {
        let (follow, sight) = self.until_started(key).await?;
        match sight {
            Sight::There(State::NeverStarted(reason)) => return Err(Error::NeverStarted(reason)),
            Sight::There(_) => {}
            Sight::Gone(_) => return Ok(stream::empty().boxed()),
        }
        let output = Output {
            engine: self,
            follow,
            stream: None,
            position: Position::default(),
            failures: 0,
            reading: Reading::Along,
        };
        let chunks = stream::unfold(output, |mut output| async {
            let chunk = output.chunk().await?;
            Some((chunk, output))
        });
        Ok(chunks.boxed())
    }

    /// The lines that the container `key` wrote, as the engine keeps them.
    pub(super) async fn read_lines(
        &self,
        key: &ContainerKey,
        query: &LineQuery,
    ) -> Result<LineStream, Error> {
        let record = self.existing(key).await?;
        let lines = lines(&self.docker, &record.engine_id, query);
        Ok(match query.extent {
            Extent::Present => lines,
            Extent::Follow => with_rest(&self.docker, &record.engine_id, query, lines),
        })
    }

    /// The last line that the container with this id wrote.
    pub(super) async fn last_line(&self, id: &str) -> Option<String> {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            tail: "1".to_owned(),
            ..LogsOptions::default()
        };
        let lines = self.docker.logs(id, Some(options)).try_collect();
        let lines: Vec<LogOutput> = self.requests.once(Bound::Short, lines).await.ok()?;
        let line = lines.into_iter().next_back()?.into_bytes();
        Some(String::from_utf8_lossy(&line).trim().to_owned())
    }
}

fn lines(docker: &Docker, id: &str, query: &LineQuery) -> LineStream {
    let since = query.since.map_or(0, Timestamp::as_second);
    let options = LogsOptions {
        follow: query.extent == Extent::Follow,
        stdout: true,
        stderr: true,
        since: i32::try_from(since).unwrap_or(0),
        timestamps: true,
        tail: query.tail.map_or("all".to_owned(), |tail| tail.to_string()),
        ..LogsOptions::default()
    };
    let entries = docker.logs(id, Some(options));
    entries
        .map_ok(|entry| Line::stamped(entry.into_bytes()))
        .map_err(io::Error::other)
        .boxed()
}

/// `lines`, which go along with the process and may end before what was written last; and then that.
fn with_rest(docker: &Docker, id: &str, query: &LineQuery, lines: LineStream) -> LineStream {
    // Of the past no more is wanted than `lines` have.
    let begun = query.tail.map(|_| Timestamp::now()).or(query.since);
    let last = Arc::new(Mutex::new(begun));
    let noted = Arc::clone(&last);
    let along = lines.inspect_ok(move |line| {
        if line.time.is_some() {
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = line.time;
        }
    });
    let (docker, id) = (docker.clone(), id.to_owned());
    let rest = stream::once(async move {
        let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = LineQuery {
            extent: Extent::Present,
            tail: None,
            since: last,
        };
        // A container that was removed meanwhile has no rest.
        self::lines(&docker, &id, &rest)
            .take_while(|line| ready(line.is_ok()))
            .try_filter(move |line| ready(line.time > last))
    });
    along.chain(rest.flatten()).boxed()
}

impl Output {
    /// The next bytes; `None` when the process is over and all was read.
    async fn chunk(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let fault = match self.next().await {
                Ok(Some(bytes)) => {
                    self.failures = 0;
                    return Some(Ok(bytes));
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            self.stream = None;
            // Whole only when the engine itself ended it, after the process.
            if fault.is_none() && self.is_over().await {
                match self.reading {
                    Reading::Along => self.reading = Reading::Rest,
                    Reading::Rest => return None,
                }
                continue;
            }
            if self.is_gone().await {
                return None;
            }
            self.failures += 1;
            if self.failures >= ATTEMPTS {
                return fault.map(Err);
            }
            let _ = timeout(END_SEEN_WITHIN, self.follow.change()).await;
        }
    }

    /// The next bytes that were not read yet; `None` at the end of the stream.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.stream.is_none() {
            self.open().await?;
        }
        while let Some(stream) = &mut self.stream {
            let Some(entry) = stream.next().await else {
                return Ok(None);
            };
            let entry = entry.map_err(io::Error::other)?.into_bytes();
            if let Some(new) = self.position.take(entry).filter(|new| !new.is_empty()) {
                return Ok(Some(new));
            }
        }
        Ok(None)
    }

    async fn open(&mut self) -> io::Result<()> {
        let (engine, id) = (Arc::clone(&self.engine), self.follow.id().to_owned());
        let shown = engine.look(&id).await.map_err(io::Error::other)?;
        self.stream = shown.map(|shown| {
            // The engine keeps what an earlier process of the container wrote, too.
            let started = record::started_at(&shown) - EARLY;
            let since = self.position.begin(started.max(0));
            let options = LogsOptions {
                follow: self.reading == Reading::Along,
                stdout: true,
                stderr: true,
                since: i32::try_from(since).unwrap_or(0),
                timestamps: true,
                tail: "all".to_owned(),
                ..LogsOptions::default()
            };
            engine.docker.logs(&id, Some(options)).boxed()
        });
        Ok(())
    }

    /// Whether the process is over: its end may be seen a little after the end of its output.
    async fn is_over(&mut self) -> bool {
        let engine = Arc::clone(&self.engine);
        let follow = &mut self.follow;
        let over = async {
            while matches!(
                engine.sight(follow).await,
                Ok(Sight::There(
                    State::Running | State::Created | State::Starting
                ))
            ) {
                follow.change().await;
            }
        };
        timeout(END_SEEN_WITHIN, over).await.is_ok()
    }

    async fn is_gone(&mut self) -> bool {
        let engine = Arc::clone(&self.engine);
        matches!(
            engine.sight(&mut self.follow).await,
            Ok(Sight::Gone(_)) | Err(_)
        )
    }
}

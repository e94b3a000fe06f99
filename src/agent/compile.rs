//! `peitho agent compile`: the main process of a compile pod, in the peer's own builder image (design D6). It
//! brings the input, runs the command as its child, sends what that prints while it runs, and in the end the
//! output and the exit code. What the command's tools keep comes and goes beside that (`cache`). The command is not trusted: the token here is good for this one compile.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::TryStreamExt as _;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::time::timeout;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Fetched, Lost, Worth};
use super::client::{self, Client, patiently};
use super::leftover::Leftover;
use super::log::Log;
use super::memory;
use super::place::Place;
use super::process::Process;
use super::report::{self, End, Lack, PATIENCE, Report, Took, is_passing, millis};
use super::{blocking, empty};
use crate::archive::{self, Limits};
use crate::names::CompileKey;

/// How long a descendant of the command may hold the pipe after the command's end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// How long it may take to bring back what the compiler's cache gained: a little more than Peitho waits for it.
pub(super) const GIVING: Duration = Duration::from_secs(70);

/// How long nothing of that may be taken: a Peitho that is gone without a word, its node with it, takes nothing.
pub(super) const TAKING: Duration = Duration::from_secs(10);

/// For how long a Peitho that did not take it is asked whether it has started anew, and somebody joined this run there meanwhile: he waits for a
/// report that was given already.
const AGAIN: Duration = Duration::from_secs(5);

/// Bytes that are read from the pipe at once.
const READ: usize = 64 << 10;

/// A shell's codes for a program that is not there, and one that cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// From here on a code says which signal ended the command.
const SIGNALLED: u8 = 128;

/// 128 + SIGTERM.
pub(super) const TERMINATED: u8 = 143;

/// Arguments of `peitho agent compile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it works
    #[command(flatten)]
    pub place: Place,
    /// The key of the compile, 64 hexadecimal digits
    #[arg(long)]
    pub key: CompileKey,
    /// How long it may take to bring back what the directory gained
    #[arg(skip = GIVING)]
    pub giving: Duration,
    /// How long nothing of it may be taken
    #[arg(skip = TAKING)]
    pub taking: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Why a compile could not be reported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong address or credentials.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Peitho did not take the report.
    #[error("reporting the compile: {0}")]
    Report(#[from] report::Error),
    /// There is no room for the log.
    #[error("the spool directory {path:?}: {source}")]
    Spool {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("waiting for signals: {0}")]
    Signals(#[source] io::Error),
}

/// What keeps the agent from carrying out its part: a line for the compile's log.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the input: {0}")]
    Fetch(#[from] client::Error),
    #[error("the input in {path:?}: {source}")]
    Input {
        path: PathBuf,
        source: archive::Error,
    },
    #[error("{command:?} cannot be run: {source}")]
    Command {
        command: OsString,
        source: io::Error,
    },
    #[error("the output in {path:?}: {source}")]
    Output {
        path: PathBuf,
        source: archive::Error,
    },
    #[error("{path:?}: {source}")]
    Disk { path: PathBuf, source: io::Error },
}

impl Trouble {
    fn code(&self) -> u8 {
        match self {
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Command { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                NOT_EXECUTABLE
            }
            _ => super::FAILED,
        }
    }
}

/// Runs the compile and reports it; gives the exit code that was reported.
///
/// When `terminated` is cancelled the command is told with SIGTERM, and nothing is reported after its end:
/// whoever ends the pod knows, and the state of the pod says so to all others.
///
/// # Errors
/// When the report did not reach Peitho: the state of the pod has to tell.
pub async fn run(args: Args, terminated: CancellationToken) -> Result<u8, Error> {
    let client = Client::new(&args.place.address, &args.place.credentials)?;
    let cache = Cache::new(client.clone(), &args.key, args.place.cache.clone());
    run_with(args, client, cache, terminated).await
}

/// The same with the client and the directory of an agent that waited for this.
pub(super) async fn run_with(
    args: Args,
    client: Client,
    cache: Cache,
    terminated: CancellationToken,
) -> Result<u8, Error> {
    let log = Log::create(&args.place.spool).map_err(|source| Error::Spool {
        path: args.place.spool.clone(),
        source,
    })?;
    let report = Report::new(client.clone(), &args.key, log.clone());
    let working = async {
        let done = work(&args, &client, &cache, &log, &terminated).await;
        log.close();
        match done {
            Some(done) => Ok(done),
            None => Err(None),
        }
    };
    let following = async { report.follow().await.map_err(Some) };
    let done = match tokio::try_join!(working, following) {
        Ok((done, ())) => done,
        // The command, if it still runs, is killed with the future that waited for it.
        Err(Some(error)) => return Err(error.into()),
        Err(None) => return Ok(TERMINATED),
    };
    let reporting = async {
        let end = report.finish(done.end).await?;
        // Now nobody waits any more.
        let given = match done.warmth {
            Some((fetched, worth)) => give(&args, &cache, done.leftover, fetched, worth).await,
            None => Ok(()),
        };
        if let Err(lost) = given {
            tracing::info!(error = %lost, "what the compiler's cache gained is lost");
            if lost.may_be_by_a_restart() {
                report.again(&end, AGAIN.min(args.giving)).await;
            }
        }
        Ok(end.code)
    };
    match terminated.run_until_cancelled(reporting).await {
        Some(code) => code,
        None => Ok(TERMINATED),
    }
}

/// Brings back what the directory that is kept gained.
async fn give(
    args: &Args,
    cache: &Cache,
    leftover: Option<Leftover>,
    fetched: Fetched,
    worth: Worth,
) -> Result<(), Lost> {
    let giving = async {
        if let Some(leftover) = leftover {
            leftover.kill().await.map_err(Lost::Leftover)?;
        }
        cache.give(fetched, worth, args.taking).await
    };
    let given = timeout(args.giving, giving).await;
    given.unwrap_or(Err(Lost::Late(args.giving)))
}

/// What is left to be done of a compile.
struct Done {
    end: End,
    /// The compiler's cache, where Peitho keeps it.
    warmth: Option<(Fetched, Worth)>,
    leftover: Option<Leftover>,
}

/// Input, command, output; what fails of it is told in the log. `None` when the pod was told to end.
async fn work(
    args: &Args,
    client: &Client,
    cache: &Cache,
    log: &Log,
    terminated: &CancellationToken,
) -> Option<Done> {
    let mut warmth = None;
    let mut ran_out = false;
    let mut leftover = None;
    let mut took = Took::default();
    let done = async {
        let fetching = async {
            tokio::join!(
                timed(&mut took.source_ms, fetch_input(args, client)),
                timed(&mut took.cache_ms, cache.fetch()),
            )
        };
        let Some((input, fetched)) = terminated.run_until_cancelled(fetching).await else {
            return Ok(None);
        };
        // Where none is kept there was nothing but the question.
        took.cache_ms = took.cache_ms.filter(|_| fetched.is_some());
        if let Some(trouble) = fetched.as_ref().and_then(|it| it.trouble.as_deref()) {
            // Not even a full disk ends a compile on behalf of its cache.
            let _ = log.remark(trouble).await;
        }
        let warmth = fetched.map(|fetched| warmth.insert((fetched, Worth::Nothing)));
        input?;
        let killed_before = memory::kills();
        let executing = execute(args, log, terminated, &mut leftover);
        let code = timed(&mut took.command_ms, executing).await?;
        if terminated.is_cancelled() {
            return Ok(None);
        }
        ran_out = memory::kills() > killed_before;
        if code != 0 && ran_out {
            log.note("the compile ran out of memory, see compile.limits");
        }
        if let Some((_, worth)) = warmth
            && code < SIGNALLED
            && !ran_out
        {
            *worth = Worth::Keeping;
        }
        let packed = async {
            match code {
                0 => Ok(Some(timed(&mut took.pack_ms, pack(args)).await?)),
                _ => Ok::<_, Trouble>(None),
            }
        };
        match terminated.run_until_cancelled(packed).await {
            Some(output) => Ok(Some(End {
                code,
                output: output?,
                lack: None,
                took: Took::default(),
            })),
            None => Ok(None),
        }
    };
    let mut end = done.await.unwrap_or_else(|trouble: Trouble| {
        log.note(&trouble.to_string());
        Some(End {
            code: trouble.code(),
            output: None,
            lack: None,
            took: Took::default(),
        })
    });
    if let Some(end) = &mut end {
        end.took = took;
    }
    if let Some(end) = end.as_mut().filter(|end| end.code != 0) {
        let takes_all = async {
            match &warmth {
                Some((fetched, _)) => cache.takes_what_lacks(fetched).await,
                None => false,
            }
        };
        end.lack = match (ran_out, takes_all.await) {
            (true, _) => Some(Lack::Memory),
            (false, true) => Some(Lack::Room),
            (false, false) => None,
        };
        if let Some((_, worth)) = warmth.as_mut().filter(|_| end.lack.is_some()) {
            *worth = Worth::Nothing;
        }
    }
    end.map(|end| Done {
        end,
        warmth,
        leftover,
    })
}

/// Notes in `took` how long `work` takes.
async fn timed<T>(took: &mut Option<u64>, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    *took = Some(millis(begun));
    done
}

async fn fetch_input(args: &Args, client: &Client) -> Result<(), Trouble> {
    let path = format!("/compile/{}/input", args.key);
    patiently(
        PATIENCE,
        |trouble| matches!(trouble, Trouble::Fetch(error) if is_passing(error)),
        || async {
            // An attempt that broke off may have left something.
            empty(&args.place.input)
                .await
                .map_err(|source| Trouble::Disk {
                    path: args.place.input.clone(),
                    source,
                })?;
            let response = client.get(&path).await?;
            if response.status() == StatusCode::NO_CONTENT {
                return Ok(());
            }
            let broken = Arc::new(OnceLock::new());
            let told = Arc::clone(&broken);
            let bytes = response
                .into_body()
                .into_data_stream()
                .map_err(move |error| {
                    let _ = told.set(error.to_string());
                    io::Error::other(error)
                });
            let reader = SyncIoBridge::new(StreamReader::new(bytes));
            let into = args.place.input.clone();
            let unpacked = blocking(move || archive::unpack(reader, Limits::default(), &into));
            unpacked.await.map_err(|source| match broken.get() {
                Some(reason) => client.broken(&path, reason).into(),
                None => Trouble::Input {
                    path: args.place.input.clone(),
                    source,
                },
            })
        },
    )
    .await
}

/// Runs the command to its end, its output into `log`.
async fn execute(
    args: &Args,
    log: &Log,
    terminated: &CancellationToken,
    leftover: &mut Option<Leftover>,
) -> Result<u8, Trouble> {
    let failed = |source| Trouble::Command {
        command: args.command.first().cloned().unwrap_or_default(),
        source,
    };
    let spooled = |source| Trouble::Disk {
        path: args.place.spool.clone(),
        source,
    };
    let (mut process, output) = Process::spawn(&args.command).map_err(failed)?;
    *leftover = Some(process.leftover());
    let mut copying = std::pin::pin!(copy(output, log));
    let mut is_copied = false;
    let mut is_told = false;
    let code = loop {
        tokio::select! {
            code = process.wait() => break code.map_err(failed)?,
            copied = &mut copying, if !is_copied => {
                copied.map_err(spooled)?;
                is_copied = true;
            }
            () = terminated.cancelled(), if !is_told => {
                process.terminate();
                is_told = true;
            }
        }
    };
    if !is_copied && let Ok(copied) = timeout(LAST_OUTPUT, copying).await {
        copied.map_err(spooled)?;
    }
    Ok(code)
}

/// Copies what comes through the pipe to `log`, until nobody holds its other end.
async fn copy(output: PipeReader, log: &Log) -> io::Result<()> {
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
    loop {
        let mut bytes = BytesMut::with_capacity(READ);
        if output.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        log.append(bytes.freeze()).await?;
    }
}

/// The output as a tar, in a file without a name.
async fn pack(args: &Args) -> Result<File, Trouble> {
    let (from, spool) = (args.place.output.clone(), args.place.spool.clone());
    blocking(move || {
        let file = tempfile::tempfile_in(&spool).map_err(|source| Trouble::Disk {
            path: spool,
            source,
        })?;
        archive::pack(&from, &file).map_err(|source| Trouble::Output { path: from, source })?;
        Ok(file)
    })
    .await
}

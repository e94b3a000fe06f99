//! Compiles: run once per key, however many peers ask (design D7). `container` asks for runs, `delivery`
//! brings what the agent in the pod reports, `runtime` makes the pod. A run belongs to no connection: it
//! ends early only when the last of its askers has been gone for a while. This module knows nothing of
//! HTTP and nothing of peers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::names::{CompileKey, Digest, ImageName, Tenant};
use crate::runtime::{CompileSpec, Runtime};
use crate::store::spool::Spool;
use crate::store::{self, Blob, Ingest, Store};

mod cache;
mod job;
mod key;
mod queue;

use job::{Asker, Job};
use queue::Queue;

/// What the agent's report can meet.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No such compile is going on here (any more, or yet: after a restart the peer has to ask again).
    #[error("no compile {0} is going on")]
    Unknown(CompileKey),
    /// The bytes do not continue the log; the agent goes on from `expected`.
    #[error("the log has {expected} bytes")]
    Offset {
        /// The log's length.
        expected: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The output is not an archive that a build may give.
    #[error("compile output: {0}")]
    Output(#[from] crate::archive::Error),
}

/// How a compile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ran and exited.
    Exited {
        /// Its code.
        code: i64,
        /// What it left in `/chaincode/output`: a plain tar, where the code is 0.
        output: Option<Blob>,
    },
    /// It never ran, or its pod was lost: the reason for the peer.
    Failed(Arc<str>),
}

/// A compile as its askers see it. The run goes on for as long as somebody holds one of these.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its log from the first line.
    pub log: Spool,
    /// How it ended, once it did.
    pub end: watch::Receiver<Option<End>>,
    _asker: Option<Asker>,
}

/// What is to be compiled.
#[derive(Clone, Debug)]
pub struct Request {
    /// For whom.
    pub tenant: Tenant,
    /// The builder image.
    pub image: ImageName,
    /// The builder's digest; `None` where nobody could tell: the result is then shared while it runs, and
    /// not kept.
    pub builder: Option<Digest>,
    /// ENTRYPOINT and command.
    pub command: Vec<String>,
    /// The request's environment.
    pub env: Vec<(String, String)>,
    /// WORKDIR where the request sets one.
    pub working_dir: Option<String>,
    /// `USER` of the image, where it is known by number.
    pub user: Option<i64>,
    /// What goes to `/chaincode/input`.
    pub input: Option<Input>,
}

/// The archive that a peer uploaded for a compile. It goes with the last who holds it: a peer that asks again,
/// after a restart of Peitho too, uploads it again.
#[derive(Clone, Debug)]
pub struct Input {
    /// As uploaded: tar or tar.gz, verbatim.
    pub archive: Arc<Ingest>,
    /// Digest of the uncompressed bytes: the same code packed twice is one compile.
    pub content: Digest,
}

/// How compiles are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many run at once.
    pub parallel: usize,
    /// After which a run is ended.
    pub timeout: Duration,
    /// The peers' install timeout: at 80 % of it the log gets a warning.
    pub install_timeout: Duration,
    /// How long a run that nobody waits for any more goes on.
    pub abandon_grace: Duration,
    /// Environment added to each compile; wins over the request's.
    pub env: BTreeMap<String, String>,
    /// Digest of all else that the runtime gives to compiles, where there is something.
    pub surroundings: Option<Digest>,
}

/// The door to compiles; clones share it.
#[derive(Clone)]
pub struct Compiles(Arc<Inner>);

struct Inner {
    settings: Settings,
    runtime: Arc<dyn Runtime>,
    store: Store,
    queue: Queue,
    /// Held for look-ups only, never across an await.
    jobs: Mutex<HashMap<CompileKey, Arc<Job>>>,
    /// Owns the runs, so that a shutdown can wait for what must be written.
    tasks: TaskTracker,
}

impl Compiles {
    /// Compiles by `runtime`; runs are tasks of `tasks`.
    pub fn new(
        settings: Settings,
        runtime: Arc<dyn Runtime>,
        store: Store,
        tasks: TaskTracker,
    ) -> Self {
        let queue = Queue::new(settings.parallel);
        Self(Arc::new(Inner {
            settings,
            runtime,
            store,
            queue,
            jobs: Mutex::default(),
            tasks,
        }))
    }

    /// The compile of `request`: from the store, or the run that goes on, or a new one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn run(&self, mut request: Request) -> Result<Run, store::Error> {
        request.env.extend(self.0.settings.env.clone());
        let key = key::of(&request, self.0.settings.surroundings.as_ref());
        if request.builder.is_some()
            && let Some(run) = cache::find(&self.0.store, &request.tenant, &key).await?
        {
            tracing::info!(compile = %key, tenant = %request.tenant, "compile: served from the store");
            return Ok(run);
        }
        loop {
            let fresh = Job::new(
                Spool::create(&self.0.store).await?,
                request
                    .input
                    .as_ref()
                    .map(|input| Arc::clone(&input.archive)),
            );
            let (job, is_new) = {
                let mut jobs = self.jobs();
                let job = jobs.entry(key).or_insert_with(|| Arc::clone(&fresh));
                (Arc::clone(job), Arc::ptr_eq(job, &fresh))
            };
            if is_new {
                let run = job.ask();
                self.drive(key, request, Arc::clone(&job));
                return Ok(run);
            }
            if !job.is_over() {
                tracing::info!(compile = %key, tenant = %request.tenant, "compile: joins the run that goes on");
                return Ok(job.ask());
            }
            // Its pod is still being removed; a new one under the same name has to wait for that.
            job.discarded().await;
        }
    }

    fn drive(&self, key: CompileKey, request: Request, job: Arc<Job>) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let inner = &this.0;
            let spec = CompileSpec {
                key,
                tenant: request.tenant.clone(),
                image: request.image,
                command: request.command,
                env: request.env,
                working_dir: request.working_dir,
                user: request.user,
                input: request.input.map(|input| input.archive),
                log: job.log.clone(),
            };
            let started = tokio::time::Instant::now();
            let end = job
                .drive(&inner.settings, &inner.queue, &*inner.runtime, &spec)
                .await;
            let end = match end {
                End::Exited { code: 0, output } if request.builder.is_some() => {
                    match cache::keep(&inner.store, &request.tenant, &key, &job.log, output).await {
                        Ok(()) => End::Exited { code: 0, output },
                        Err(error) => End::Failed(
                            format!("the compile's result was not kept: {error}").into(),
                        ),
                    }
                }
                end => end,
            };
            tracing::info!(
                compile = %key, tenant = %request.tenant, image = %spec.image,
                duration_ms = started.elapsed().as_millis() as u64,
                end = %end, "compile: over"
            );
            job.finish(end);
            if let Err(error) = inner.runtime.discard(&key).await {
                tracing::warn!(compile = %key, error = %error, "compile: its pod was not removed");
            }
            this.jobs().remove(&key);
            job.set_discarded();
        });
    }

    /// The input of `key`, for the agent in its pod.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub fn input(&self, key: &CompileKey) -> Result<Option<Arc<Ingest>>, ReportError> {
        Ok(self.job(key)?.input.clone())
    }

    /// Adds to the log of `key` what the agent read at `offset`; gives the log's new length.
    ///
    /// # Errors
    /// [`ReportError::Offset`] when the bytes do not continue the log.
    pub async fn append_log(
        &self,
        key: &CompileKey,
        offset: u64,
        bytes: &[u8],
    ) -> Result<u64, ReportError> {
        self.job(key)?.append_log(offset, bytes).await
    }

    /// Takes the output of `key`: hostile input, checked before it is held, and kept when the command's success
    /// is reported. A later one replaces it: an agent whose report was not answered sends it again.
    ///
    /// # Errors
    /// [`ReportError::Output`].
    pub async fn put_output(&self, key: &CompileKey, output: Ingest) -> Result<(), ReportError> {
        let job = self.job(key)?;
        let reader = output.reader()?;
        tokio::task::spawn_blocking(move || {
            crate::archive::read(reader, crate::archive::Limits::default(), |_, _| {
                Ok::<(), crate::archive::Error>(())
            })
        })
        .await
        .expect("reading an archive does not panic")?;
        job.set_output(output);
        Ok(())
    }

    /// The command of `key` exited with `code`: the last report.
    ///
    /// # Errors
    /// [`ReportError::Unknown`].
    pub async fn exited(&self, key: &CompileKey, code: i64) -> Result<(), ReportError> {
        self.job(key)?.report_exit(code, &self.0.store).await
    }

    fn job(&self, key: &CompileKey) -> Result<Arc<Job>, ReportError> {
        self.jobs()
            .get(key)
            .cloned()
            .ok_or(ReportError::Unknown(*key))
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, HashMap<CompileKey, Arc<Job>>> {
        self.0
            .jobs
            .lock()
            .expect("nothing panics while it holds the compiles")
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code, .. } => write!(f, "exited with {code}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

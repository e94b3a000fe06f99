//! Compiles: run once per key, however many peers ask (design D7). `container` asks for runs, `delivery`
//! brings what the agent in the container reports, `runtime` makes the container. A run belongs to no connection: it
//! ends early only when nobody has waited for it for a while (ADR 0006). This module knows nothing of HTTP and nothing of peers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::ByTenant;
use crate::image_spec::ImageFacts;
use crate::names::{Architecture, CompileKey, Digest, ImageName, Tenant};
use crate::runtime::{self, CompileSpec, Resolution, Runtime, UnknownSpare};
use crate::store::spool::Spool;
use crate::store::{self, Blob, Ingest, Store};

mod breaker;
mod cache;
mod course;
mod increments;
mod job;
mod key;
mod origins;
mod parts;
mod queue;
mod removal;
mod reports;
mod spares;
mod told;
mod warmth;

pub use breaker::Lack;
use breaker::Troubles;
pub use cache::{StoredResult, USE_IS_NOTED, stored};
use course::Course;
use increments::Whose;
pub use increments::{StoredIncrement, stored_increments};
pub use job::Asker;
use job::{Door, Job};
pub use origins::Origins;
pub use parts::{Part, Parts, Took};
use queue::Queue;
use spares::Warmed;
pub use told::{Fared, Plan, Told};
pub use warmth::Coming;
use warmth::Warmth;

/// Why there is no run for a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What an earlier run of the same key left has to go first, and does not: a new container would have its name.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
}

/// What the agent's report can meet.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// No such compile is going on here: it is over, or nobody asked for it yet (after a restart the peer has to
    /// ask again).
    #[error("no compile {0} is going on")]
    Unknown(CompileKey),
    /// The bytes do not continue the log; the agent goes on from `expected`.
    #[error("the log has {expected} bytes")]
    Offset {
        /// The log's length.
        expected: u64,
    },
    /// No container that was made ahead of need waits, or for that compile.
    #[error(transparent)]
    UnknownSpare(#[from] UnknownSpare),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// No such part of a compiler's cache was given to this compile, or it has gone.
    #[error("no part {0} of the compiler's cache")]
    NoIncrement(Digest),
    /// The compiler's cache that the compile began with was removed meanwhile.
    #[error("the compiler's cache was removed or replaced meanwhile")]
    Superseded,
    /// Nothing of that kind is wanted for the compiler's cache.
    #[error("that is not wanted for the compiler's cache")]
    Unwanted,
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
    /// It never ran, or its container was lost: the reason for the peer.
    Failed(Arc<str>),
}

/// A compile as who ordered it sees it. The run goes on for as long as somebody holds an [`Asker`] of it, and
/// for [`Settings::abandon_grace`] from the order to the first one and after the last one.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its log from the first line.
    pub log: Spool,
    /// How it ended, once it did.
    pub end: watch::Receiver<Option<End>>,
    /// `None` for what was served from the store.
    door: Option<Door>,
}

impl Run {
    /// Counts the caller as one who waits for the run, for as long as the answer lives. `None` when nothing goes
    /// on any more.
    pub fn ask(&self) -> Option<Asker> {
        self.door.as_ref()?.ask()
    }
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
    /// What else is known of it.
    pub facts: ImageFacts,
    /// The digest of the builder's manifest, by which a registry has it: told of what was made, and nothing depends on it.
    pub manifest: Option<Digest>,
    /// ENTRYPOINT and command.
    pub command: Vec<String>,
    /// The request's environment.
    pub env: Vec<(String, String)>,
    /// WORKDIR where the request sets one.
    pub working_dir: Option<String>,
    /// `USER` of the image, where it is known by number.
    pub user: Option<i64>,
    /// How names resolve, where the request says it.
    pub resolution: Resolution,
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
    /// How many of a tenant, where it has a limit of its own.
    pub parallel_of_tenant: ByTenant<Option<usize>>,
    /// After which a run is ended.
    pub timeout: Duration,
    /// The peers' install timeout: at 80 % of it the log gets a warning.
    pub install_timeout: Duration,
    /// How long a run goes on for which nobody waits: a peer that lost its connection asks again within it.
    pub abandon_grace: Duration,
    /// Environment added to each compile; wins over the request's.
    pub env: BTreeMap<String, String>,
    /// Digest of all else that the runtime gives to compiles of a tenant, where there is something.
    pub surroundings: ByTenant<Option<Digest>>,
    /// Bytes that a compiler's cache may have, for one tenant and builder; `None`: none is kept.
    pub cache: Option<u64>,
}

/// A cache has this part of the disk that a compile may take: what a compile adds, which takes as much again at the worst, fits beside it.
const SHARE_OF_DISK: u64 = 2;

/// The door to compiles; clones share it.
#[derive(Clone)]
pub struct Compiles(Arc<Inner>);

struct Inner {
    settings: Settings,
    runtime: Arc<dyn Runtime>,
    store: Store,
    queue: Queue,
    origins: Origins,
    troubles: Troubles,
    parts: Parts,
    /// Bytes that were kept of what compilers keep.
    gained: watch::Sender<u64>,
    /// Held for look-ups only, never across an await.
    jobs: Mutex<HashMap<CompileKey, Arc<Job>>>,
    warmed: Warmed,
    /// Where runs are spawned. A shutdown does not wait for them: the next process joins or discards what it finds
    /// (ADR 0006), and the store has no half results.
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
        let queue = Queue::new(settings.parallel, settings.parallel_of_tenant.clone());
        Self(Arc::new(Inner {
            settings,
            runtime,
            store,
            queue,
            origins: Origins::default(),
            troubles: Troubles::default(),
            parts: Parts::default(),
            gained: watch::Sender::default(),
            jobs: Mutex::default(),
            warmed: Warmed::default(),
            tasks,
        }))
    }

    /// Which builder made which output.
    pub fn origins(&self) -> Origins {
        self.0.origins.clone()
    }

    /// How many bytes were added to compilers' caches, as they come.
    pub fn gained(&self) -> watch::Receiver<u64> {
        self.0.gained.subscribe()
    }

    /// The compile of `request`: from the store, or the run that goes on, or a new one.
    ///
    /// # Errors
    /// [`Error::Store`]; [`Error::Runtime`] when what an earlier run left is still there and the runtime's platform is away.
    pub async fn run(&self, mut request: Request) -> Result<Run, Error> {
        request.env.extend(self.0.settings.env.clone());
        let surroundings = self.0.settings.surroundings.of(&request.tenant);
        let key = key::of(&request, surroundings.as_ref());
        loop {
            // Again after each wait: the run that was waited for may have left its result.
            if request.builder.is_some()
                && let Some(run) = cache::find(&self.0.store, &request.tenant, &key).await?
            {
                tracing::info!(compile = %key, tenant = %request.tenant, "compile: served from the store");
                let (manifest, end) = (request.manifest, run.end.borrow());
                self.note_origin(&request.tenant, &request.image, manifest, end.as_ref());
                drop(end);
                return Ok(run);
            }
            let fresh = Job::new(
                Spool::create(&self.0.store).await?,
                request
                    .input
                    .as_ref()
                    .map(|input| Arc::clone(&input.archive)),
                self.warmth(&request),
                Course::new(self.0.parts.clone()),
            );
            let (job, is_new) = {
                let mut jobs = self.jobs();
                let job = jobs.entry(key).or_insert_with(|| Arc::clone(&fresh));
                (Arc::clone(job), Arc::ptr_eq(job, &fresh))
            };
            match job.order() {
                Some(run) if is_new => {
                    self.drive(key, request, Arc::clone(&job));
                    return Ok(run);
                }
                Some(run) if !job.is_over() => {
                    tracing::info!(compile = %key, tenant = %request.tenant, "compile: joins the run that goes on");
                    return Ok(run);
                }
                _ => {}
            }
            job.warmth.hurry();
            // Its container is still being removed; a new one under the same name has to wait for that. Not for long where
            // that fails: peers want an answer, and the removal goes on without them.
            job.discarded().await?;
        }
    }

    fn warmth(&self, request: &Request) -> Warmth {
        let builder = request.builder.as_ref();
        let whose = builder.map(|builder| whose(&request.tenant, builder, &request.facts));
        Warmth::new(whose, self.cache_bytes(&request.tenant, &request.image))
    }

    /// Bytes that a compiler's cache may have in a compile of `tenant` in `image`; `None` where none is kept.
    fn cache_bytes(&self, tenant: &Tenant, image: &ImageName) -> Option<u64> {
        let most = self.0.settings.cache?;
        let limit = self.0.runtime.disk_limit(tenant, image);
        Some(limit.map_or(most, |limit| most.min(limit / SHARE_OF_DISK)))
    }

    fn drive(&self, key: CompileKey, request: Request, job: Arc<Job>) {
        let this = self.clone();
        let span = tracing::info_span!("compile", compile = %key, tenant = %request.tenant);
        let driven = async move {
            let inner = &this.0;
            let spec = CompileSpec {
                key,
                tenant: request.tenant.clone(),
                image: request.image,
                builder: request.builder,
                facts: request.facts,
                command: request.command,
                env: request.env,
                working_dir: request.working_dir,
                user: request.user,
                resolution: request.resolution,
                input: request.input.map(|input| input.archive),
                log: job.log.clone(),
                milestones: Arc::clone(&job.course.milestones),
            };
            let started = Instant::now();
            let mut running = inner.runtime.compile(&spec).fuse();
            let mut place = None;
            let driven = job.drive(
                &inner.settings,
                &inner.queue,
                &mut place,
                &mut running,
                &spec,
            );
            let end = driven.await;
            let own_end = end.clone();
            let end = match end {
                End::Exited { code: 0, output } if spec.builder.is_some() => {
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
            this.note_origin(&spec.tenant, &spec.image, request.manifest, Some(&end));
            let has_exited = matches!(end, End::Exited { .. });
            job.finish(end);
            // The peer has its answer by now: the store may be slow.
            let judging = this.judge(&key, &job.warmth, &own_end);
            if has_exited {
                let gathering = async {
                    let (wanted, begun) = (inner.queue.wanted(), Instant::now());
                    let gathered = job.warmth.gathered(&mut running, wanted);
                    gathered.instrument(tracing::debug_span!("gather")).await;
                    if job.warmth.is_asked() {
                        job.course.after(Part::Gather, begun);
                    }
                };
                tokio::join!(judging, gathering);
                this.heed_gathered(&key, &job.warmth).await;
                drop(running);
                this.discard(&spec.tenant, &key, &job).await;
            } else {
                job.warmth.close();
                drop(running);
                // What is beyond its time runs on until then, and has its place.
                let leaving = async {
                    this.discard(&spec.tenant, &key, &job).await;
                    place.take();
                };
                tokio::join!(judging, leaving);
            }
            this.forget(&key, &job);
            job.warmth.tell(&key);
            job.course.tell(&key, &spec.tenant);
            drop(place);
            if has_exited {
                this.prepare(&spec);
            }
        };
        self.0.tasks.spawn(driven.instrument(span));
    }

    /// The run of `key` that is not over.
    fn going_on(&self, key: &CompileKey) -> Result<Arc<Job>, ReportError> {
        if let Some(spares) = self.0.runtime.spares() {
            spares.note_report(key);
        }
        match self.job(key)? {
            job if job.is_over() => Err(ReportError::Unknown(*key)),
            job => Ok(job),
        }
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

/// Whose cache it is that compiles of `tenant` have with `builder`.
fn whose(tenant: &Tenant, builder: &Digest, facts: &ImageFacts) -> Whose {
    let architecture = facts.architecture.clone();
    let architecture = architecture.unwrap_or_else(Architecture::of_this_machine);
    Whose::new(tenant.clone(), builder, &architecture)
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited { code, .. } => write!(f, "exited with {code}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

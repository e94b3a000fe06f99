//! One run of a compile: its log, its askers, what the agent reported, and the task that sees it through.
//! Only `compile` uses it.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::Instrument as _;

use super::course::Course;
use super::queue::{Place, Queue};
use super::warmth::Warmth;
use super::{End, Lack, Parts, ReportError, Run, Settings};
use crate::runtime::{self, CompileSpec, Exit};
use crate::store::spool::Spool;
use crate::store::{Blob, Ingest, Store};

/// The agent reports before its container ends; a report still on the wire then gets this long.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// More of a log is no help to anybody, and an untrusted compile must not fill the store with it.
const LOG_LIMIT: u64 = 1 << 30;

pub(super) struct Job {
    pub(super) log: Spool,
    pub(super) input: Option<Arc<Ingest>>,
    /// Its compiler's cache.
    pub(super) warmth: Warmth,
    pub(super) course: Course,
    /// How many bytes of the log the agent has delivered: notices of Peitho's own do not count.
    delivered: tokio::sync::Mutex<u64>,
    /// What the agent sent, and what was kept of it.
    sent: Mutex<Option<Ingest>>,
    output: Mutex<Option<Blob>>,
    reported: watch::Sender<Option<i64>>,
    end: watch::Sender<Option<End>>,
    askers: watch::Sender<Askers>,
    discarded: watch::Sender<Discarded>,
}

/// What became of the removal of all that the runtime has of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Discarded {
    NotYet,
    /// The last try failed, since the API server is away; the next one is under way.
    Failing(String),
    Done,
}

/// Who waits for a run.
#[derive(Clone, Copy, Debug)]
struct Askers {
    count: usize,
    /// When somebody last ordered the run, or left it.
    since: Instant,
    /// Nobody waited for too long: the run ends, and whoever asks now gets a new one.
    given_up: bool,
}

/// One who waits for a run, for as long as this lives.
pub struct Asker(pub(super) Arc<Job>);

/// A way to wait for a run that does not keep it in memory.
#[derive(Clone)]
pub(super) struct Door(Weak<Job>);

impl Job {
    pub(super) fn new(
        log: Spool,
        input: Option<Arc<Ingest>>,
        warmth: Warmth,
        course: Course,
    ) -> Arc<Self> {
        Arc::new(Self {
            log,
            input,
            warmth,
            course,
            delivered: tokio::sync::Mutex::new(0),
            sent: Mutex::new(None),
            output: Mutex::new(None),
            reported: watch::Sender::new(None),
            end: watch::Sender::new(None),
            askers: watch::Sender::new(Askers {
                count: 0,
                since: Instant::now(),
                given_up: false,
            }),
            discarded: watch::Sender::new(Discarded::NotYet),
        })
    }

    /// A run that is over before it began: it stands where a run of its key would, so that none begins, until
    /// what an earlier process left of it is discarded.
    pub(super) fn over(log: Spool) -> Arc<Self> {
        let course = Course::new(Parts::default());
        let job = Self::new(log, None, Warmth::new(None, None), course);
        job.finish(End::Failed("left behind by an earlier process".into()));
        job
    }

    /// A view of the run for who orders it: the grace within which somebody has to wait for it begins anew.
    /// `None` when it was given up.
    pub(super) fn order(self: &Arc<Self>) -> Option<Run> {
        let mut given_up = false;
        self.askers.send_modify(|askers| {
            askers.since = Instant::now();
            given_up = askers.given_up;
        });
        (!given_up).then(|| Run {
            log: self.log.clone(),
            end: self.end.subscribe(),
            door: Some(Door(Arc::downgrade(self))),
        })
    }

    pub(super) fn has_reported(&self) -> bool {
        self.reported.borrow().is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    pub(super) async fn append_log(&self, offset: u64, bytes: &[u8]) -> Result<u64, ReportError> {
        let mut delivered = self.delivered.lock().await;
        if offset != *delivered {
            return Err(ReportError::Offset {
                expected: *delivered,
            });
        }
        let room = LOG_LIMIT.saturating_sub(*delivered);
        if room > 0 {
            let fitting = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.log.append(&bytes[..fitting]).await?;
            if fitting < bytes.len() {
                self.log
                    .append(b"\npeitho: the rest of this log is left out\n")
                    .await?;
            }
        }
        *delivered += bytes.len() as u64;
        Ok(*delivered)
    }

    pub(super) fn set_output(&self, output: Ingest) {
        *locked(&self.sent) = Some(output);
    }

    /// The last report: the first one counts, and none does that comes after the run was ended. What was sent is
    /// kept with a success only.
    pub(super) async fn report_exit(
        &self,
        code: i64,
        lack: Option<Lack>,
        store: &Store,
    ) -> Result<(), ReportError> {
        let sent = locked(&self.sent).take();
        if self.is_over() || self.reported.borrow().is_some() {
            return Ok(());
        }
        self.course.reported();
        self.warmth.command_ended(code, lack);
        if let Some(sent) = sent.filter(|_| code == 0) {
            let output = store.commit(sent).await?;
            *locked(&self.output) = Some(output);
        }
        self.reported.send_if_modified(|reported| {
            let is_first = reported.is_none();
            reported.get_or_insert(code);
            is_first
        });
        Ok(())
    }

    /// Sees the run through: queue, container, report; until it is over or nobody waits any more. `running` is the container;
    /// it may go on after the report, and the `place` in the queue is its own until it is gone.
    pub(super) async fn drive(
        &self,
        settings: &Settings,
        queue: &Queue,
        place: &mut Option<Place>,
        running: &mut (impl Future<Output = Result<Exit, runtime::Error>> + Unpin),
        spec: &CompileSpec,
    ) -> End {
        let started = tokio::time::Instant::now();
        let warning = started + settings.install_timeout * 4 / 5;
        let work = async {
            let abandoned = || {
                self.warmth.leave();
                End::Failed(
                    format!(
                        "the compile was ended: nobody waited for it for {} s (compile.abandonedAfterSeconds)",
                        settings.abandon_grace.as_secs()
                    )
                    .into(),
                )
            };
            let entering = queue.enter(&spec.tenant, &self.log);
            let entering = entering.instrument(tracing::debug_span!("queue"));
            tokio::select! {
                given = entering => *place = Some(given),
                () = self.abandoned(settings.abandon_grace) => return abandoned(),
            }
            self.course.placed();
            // Time in the queue is not the compile's.
            let started = tokio::time::Instant::now();
            tokio::select! {
                biased;
                code = self.exit_report() => self.exited(code),
                verdict = running => self.without_report(verdict).await,
                () = sleep_until(started + settings.timeout) => End::Failed(
                    format!("the compile was ended after {} s (compile.timeoutSeconds)", settings.timeout.as_secs()).into(),
                ),
                () = self.abandoned(settings.abandon_grace) => abandoned(),
            }
        };
        tokio::pin!(work);
        tokio::select! {
            end = &mut work => return end,
            () = sleep_until(warning) => {}
        }
        let notice = format!(
            "peitho: this compile has taken {} s; a peer with chaincode.installTimeout {} s soon gives up waiting, the compile goes on and the next install finds its result\n",
            started.elapsed().as_secs(),
            settings.install_timeout.as_secs(),
        );
        if let Err(error) = self.log.append(notice.as_bytes()).await {
            tracing::warn!(compile = %spec.key, error = %error, "compile: notice not written");
        }
        work.await
    }

    async fn exit_report(&self) -> i64 {
        let mut reported = self.reported.subscribe();
        match reported.wait_for(Option::is_some).await.map(|code| *code) {
            Ok(Some(code)) => code,
            _ => std::future::pending().await,
        }
    }

    fn exited(&self, code: i64) -> End {
        let output = *locked(&self.output);
        End::Exited {
            code,
            output: output.filter(|_| code == 0),
        }
    }

    /// The container is over, or was never there, and the agent has not reported.
    async fn without_report(&self, verdict: Result<Exit, runtime::Error>) -> End {
        let lost = match verdict {
            Ok(exit) => Ok(exit.code),
            Err(runtime::Error::OutOfRoom(reason)) => Err(reason),
            Err(error) => return End::Failed(error.to_string().into()),
        };
        if let Ok(code) = timeout(LAST_REPORT, self.exit_report()).await {
            return self.exited(code);
        }
        let reason = match lost {
            Ok(code) => {
                format!(
                    "the compile's container ended with {code} before it could report its result"
                )
            }
            Err(reason) => {
                self.warmth.lacked(Lack::Room);
                reason
            }
        };
        End::Failed(reason.into())
    }

    /// Ends when there have been no askers for `grace`; then there will be none.
    async fn abandoned(&self, grace: Duration) {
        let mut askers = self.askers.subscribe();
        loop {
            let Askers { count, since, .. } = *askers.borrow_and_update();
            // The sender lives in `self`: it does not go.
            if count > 0 {
                let _ = askers.changed().await;
            } else if timeout_at(since + grace, askers.changed()).await.is_err()
                && self.give_up(grace)
            {
                return;
            }
        }
    }

    /// Whether nobody came at the very last moment.
    fn give_up(&self, grace: Duration) -> bool {
        let mut is_given_up = false;
        self.askers.send_if_modified(|askers| {
            is_given_up = askers.count == 0 && askers.since + grace <= Instant::now();
            askers.given_up |= is_given_up;
            is_given_up
        });
        is_given_up
    }

    pub(super) fn finish(&self, end: End) {
        self.log.close();
        self.course.over();
        self.end.send_replace(Some(end));
    }

    /// Waits until nothing is left of the run.
    ///
    /// # Errors
    /// [`runtime::Error::Unavailable`] as soon as a try to remove it has failed.
    pub(super) async fn discarded(&self) -> Result<(), runtime::Error> {
        let mut discarded = self.discarded.subscribe();
        let known = discarded.wait_for(|discarded| *discarded != Discarded::NotYet);
        match known.await.as_deref() {
            Ok(Discarded::Failing(cause)) => Err(runtime::Error::Unavailable(format!(
                "{cause}; what an earlier run of this compile left has to go first"
            ))),
            // The sender lives in `self`: it does not go.
            _ => Ok(()),
        }
    }

    /// No try to remove it fails any more.
    pub(super) fn set_removed(&self) {
        self.discarded.send_replace(Discarded::NotYet);
    }

    pub(super) fn set_discarded(&self) {
        self.discarded.send_replace(Discarded::Done);
    }

    /// A try to remove it has failed for `cause`; whether that is news.
    pub(super) fn set_not_discarded(&self, cause: &str) -> bool {
        let failing = Discarded::Failing(cause.to_owned());
        self.discarded.send_replace(failing.clone()) != failing
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds a job's parts")
}

impl Door {
    /// One more who waits; `None` when the run is gone.
    pub(super) fn ask(&self) -> Option<Asker> {
        let job = self.0.upgrade()?;
        job.askers.send_modify(|askers| askers.count += 1);
        Some(Asker(job))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.askers.send_modify(|askers| {
            askers.count -= 1;
            askers.since = Instant::now();
        });
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asker")
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

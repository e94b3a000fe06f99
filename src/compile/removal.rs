//! What a run leaves in the runtime, and its end: of a run that is over, and of those that an earlier process left behind, which are discarded when
//! nobody asks for them (ADR 0006). Until then a new run of the key waits. `compile` calls it, and `serve` once at the start.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::job::Job;
use super::{Compiles, Part};
use crate::names::{CompileKey, Tenant};
use crate::runtime;
use crate::store::spool::Spool;

impl Compiles {
    /// Ends what the runtime has of `key`, whose `job` is over.
    pub(super) async fn discard(&self, tenant: &Tenant, key: &CompileKey, job: &Job) {
        let begun = Instant::now();
        let tried = self.try_until_gone(Some(tenant), key, job);
        tried.instrument(tracing::debug_span!("removal")).await;
        job.course.after(Part::Removal, begun);
    }

    async fn try_until_gone(&self, tenant: Option<&Tenant>, key: &CompileKey, job: &Job) {
        while let Err(error) = self.0.runtime.discard(tenant, key).await {
            // Who is away comes back, and the runtime takes its time before it says so.
            let runtime::Error::Unavailable(cause) = error else {
                tracing::warn!(compile = %key, error = %error, "compile: what runs of it was not removed");
                break;
            };
            if job.set_not_discarded(&cause) {
                tracing::warn!(compile = %key, cause, "compile: what runs of it is not removed yet; it is tried until it is gone");
            }
        }
        job.set_removed();
    }

    /// Nothing is left of `job`: who orders `key` from now on has a run of his own.
    pub(super) fn forget(&self, key: &CompileKey, job: &Job) {
        self.jobs().remove(key);
        job.set_discarded();
    }

    /// Discards the runs that an earlier process left behind: those that for [`Settings::abandon_grace`] neither
    /// another process held nor anybody here asked for (ADR 0006). To be called once, at the start; returns at
    /// once.
    ///
    /// [`Settings::abandon_grace`]: super::Settings::abandon_grace
    pub fn collect(&self) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            if let Err(error) = this.collect_unheld().await {
                tracing::warn!(error = %error, "compile: what an earlier process left was not removed; the next start tries again");
            }
        });
    }

    async fn collect_unheld(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let left = loop {
            match self.0.runtime.unheld(self.0.settings.abandon_grace).await {
                Err(runtime::Error::Unavailable(cause)) => {
                    tracing::warn!(
                        cause,
                        "compile: what an earlier process left is not known yet"
                    );
                }
                left => break left?,
            }
        };
        for key in left {
            let job = Job::over(Spool::create(&self.0.store).await?);
            self.collect_one(&key, job).await;
        }
        Ok(())
    }

    /// Discards what is left of `key`, unless somebody asked for it here; who asks meanwhile waits for the end
    /// of that, as after any other run.
    async fn collect_one(&self, key: &CompileKey, job: Arc<Job>) {
        {
            let mut jobs = self.jobs();
            if jobs.contains_key(key) {
                return;
            }
            jobs.insert(*key, Arc::clone(&job));
        }
        tracing::info!(compile = %key, "compile: an earlier process left it and nobody asked for it; its container is removed");
        self.try_until_gone(None, key, &job).await;
        self.forget(key, &job);
    }
}

//! Collection beside a running server: one pass after the start, then one after each interval, and one whenever the volume is
//! nearly full.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Collected, Doing, Error, Rules, make_room, pass};
use crate::container::{self, Containers};
use crate::names::Tenant;
use crate::store::{self, Store};

/// After a look at a volume that is nearly full the next one waits so long: a pass reads every record, and a full volume stays
/// full where there is nothing to give.
const PAUSE: Duration = Duration::from_secs(60);

/// Collects until it is dropped.
pub struct Service {
    /// The store.
    pub store: Store,
    /// What containers were made of stays.
    pub containers: Containers,
    /// All tenants.
    pub tenants: BTreeSet<Tenant>,
    /// `store.collectEverySeconds`: from one pass to the next, and what a blob has as grace.
    pub every: Duration,
    /// `store.compileResults` in bytes.
    pub results: u64,
    /// `store.compileCaches` in bytes.
    pub caches: u64,
}

/// Why there was no pass.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Collection itself.
    #[error(transparent)]
    Collection(#[from] Error),
    /// The runtime is away, or refuses.
    #[error("what containers were made of is not known: {0}")]
    Containers(#[from] container::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What the log has said of a volume that is nearly full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// That nothing more can go.
    Helpless,
}

impl Service {
    /// Collects; never returns. May be dropped at any moment.
    pub async fn run(self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_look = Instant::now();
        let mut told = Told::Nothing;
        loop {
            let passed = tokio::select! {
                _ = ticks.tick() => self.collect().await,
                () = self.pressed(next_look) => {
                    let made = self.make_room(&mut told).await;
                    next_look = Instant::now() + PAUSE;
                    made
                }
            };
            // Of an earlier one the log has told.
            if let Err(error) = passed {
                tracing::warn!(%error, "store: nothing was collected; it is tried again in {} s at the latest", self.every.as_secs());
            }
        }
    }

    async fn pressed(&self, not_before: Instant) {
        sleep_until(not_before).await;
        self.store.nearly_full().await;
    }

    /// One pass.
    ///
    /// # Errors
    /// [`Failed`]; nothing was deleted then by an incomplete list of what is needed.
    pub async fn collect(&self) -> Result<(), Failed> {
        let started = Instant::now();
        let collected = pass(&self.store, &self.rules().await?, Doing::Collect).await?;
        if collected != Collected::default() {
            let Collected {
                results,
                caches,
                aside,
                back,
                gone,
                ..
            } = collected;
            tracing::info!(
                results = results.blobs,
                results.bytes = results.bytes,
                caches = caches.blobs,
                caches.bytes = caches.bytes,
                aside = aside.blobs,
                aside.bytes = aside.bytes,
                back = back.blobs,
                deleted = gone.blobs,
                deleted.bytes = gone.bytes,
                duration_ms = started.elapsed().as_millis() as u64,
                "store: collected what nothing names"
            );
        }
        Ok(())
    }

    async fn make_room(&self, told: &mut Told) -> Result<(), Failed> {
        let room = self.store.room().await?;
        if !room.is_little() {
            *told = Told::Nothing;
            return Ok(());
        }
        let rules = self.rules().await?;
        let collected = make_room(&self.store, &rules, room.wanting()).await?;
        let after = self.store.room().await?;
        let (results, caches) = (collected.results.blobs, collected.caches.blobs);
        let free = after.free;
        if !after.is_little() {
            *told = Told::Nothing;
            tracing::warn!(
                results,
                caches,
                free,
                size = after.size,
                "store: the volume was nearly full; compilers' caches and results of compiles that were long unused are gone"
            );
        } else if results + caches > 0 || *told == Told::Nothing {
            *told = Told::Helpless;
            tracing::warn!(
                results,
                caches,
                free,
                size = after.size,
                "store: the volume is nearly full, and what may go is gone; enlarge it, or see `peitho prune --help`"
            );
        }
        Ok(())
    }

    async fn rules(&self) -> Result<Rules, Failed> {
        Ok(Rules {
            grace: self.every,
            results: self.results,
            caches: self.caches,
            wiped: None,
            unused: None,
            built: None,
            in_use: self.containers.layers(&self.tenants).await?,
        })
    }
}

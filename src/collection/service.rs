//! Collection beside a running server: one pass after the start, then one after each interval. Whenever the volume is nearly full,
//! or somebody finds no room to write, it makes some; and whenever compiles brought much of what their compilers keep, it holds that to its limit.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Collected, Doing, Error, Rules, caches_exceed, hold_caches, make_room, pass};
use crate::container::{self, Containers};
use crate::names::Tenant;
use crate::store::{self, Asked, RoomMaker, Store};

/// After a look at a volume that is nearly full the next one waits so long: a pass reads every record, and a full volume stays
/// full where there is nothing to give. Who finds no room is heard in between where the last look found something to give. Caches that could not
/// be held to their limit wait as long.
const PAUSE: Duration = Duration::from_secs(60);

/// So much goes at the least for who finds no room: each time all records are read.
const LEAST: u64 = 64 << 20;

/// When compiles brought this part of the limit of their compilers' caches to this process, these are held to it: they are so much more in between,
/// once for each process that uses the store.
const PART_OF_CACHES: u64 = 8;

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
    /// Bytes of compilers' caches that compiles of this process brought by now.
    pub gained: watch::Receiver<u64>,
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

/// What became of an attempt to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// There is some now.
    Room,
    /// Nothing may go.
    Nothing,
}

impl Service {
    /// Collects; never returns. May be dropped at any moment.
    pub async fn run(self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let maker = self.store.makes_room();
        let (mut hints_from, mut asked_from) = (Instant::now(), Instant::now());
        let mut told = Told::Nothing;
        let (mut held_at, mut held_from) = (0, Instant::now());
        loop {
            let passed = tokio::select! {
                _ = ticks.tick() => self.collect().await,
                gained = self.gained_beyond(held_at, held_from) => {
                    let held = self.hold_caches().await;
                    match held {
                        Ok(()) => held_at = gained,
                        Err(_) => held_from = Instant::now() + PAUSE,
                    }
                    held
                }
                asked = pressed(&maker, asked_from) => {
                    if asked.bytes().is_none() && Instant::now() < hints_from {
                        continue;
                    }
                    let made = self.make_room(asked.bytes(), &mut told).await;
                    drop(asked);
                    hints_from = Instant::now() + PAUSE;
                    if !matches!(made, Ok(Made::Room)) {
                        maker.rest();
                        asked_from = hints_from;
                    }
                    made.map(drop)
                }
            };
            // Of an earlier one the log has told.
            if let Err(error) = passed {
                tracing::warn!(%error, "store: collection did not come to its end; it is tried again in {} s at the latest", self.every.as_secs());
            }
        }
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

    /// Ends when compiles brought more than a part of what caches may have since they had brought `held_at` bytes, and not
    /// before that moment; gives what they brought by then.
    async fn gained_beyond(&self, held_at: u64, not_before: Instant) -> u64 {
        sleep_until(not_before).await;
        let mut gained = self.gained.clone();
        let much = held_at.saturating_add(self.caches / PART_OF_CACHES);
        let reached = gained.wait_for(|gained| *gained > much).await;
        match reached.map(|gained| *gained).ok() {
            Some(gained) => gained,
            // Nobody brings anything any more.
            None => std::future::pending().await,
        }
    }

    /// Has the longest unused caches go at once where they are more than their limit.
    ///
    /// # Errors
    /// As [`Service::collect`].
    async fn hold_caches(&self) -> Result<(), Failed> {
        // All that may have to stay is read only where something goes.
        if !caches_exceed(&self.store, self.caches).await? {
            return Ok(());
        }
        let gone = hold_caches(&self.store, &self.rules().await?).await?.caches;
        if gone.blobs > 0 {
            tracing::info!(
                caches = gone.blobs,
                caches.bytes = gone.bytes,
                "store: compilers' caches were more than store.compileCaches"
            );
        }
        Ok(())
    }

    /// Makes room for who could not write `bytes`, or where there is little.
    async fn make_room(&self, bytes: Option<u64>, told: &mut Told) -> Result<Made, Failed> {
        let room = self.store.room().await?;
        let wanting = match bytes {
            // Whatever there is when this one looks: what could not be written may have gone again, and a disk may lack inodes.
            Some(bytes) => room.wanting().max(bytes.saturating_mul(2)).max(LEAST),
            None if room.is_little() => room.wanting(),
            None => {
                *told = Told::Nothing;
                return Ok(Made::Room);
            }
        };
        let rules = self.rules().await?;
        let collected = make_room(&self.store, &rules, wanting).await?;
        let after = self.store.room().await?;
        let (results, caches) = (collected.results.blobs, collected.caches.blobs);
        let (free, size) = (after.free, after.size);
        let some = results + caches > 0;
        match bytes {
            _ if some && !after.is_little() => {
                *told = Told::Nothing;
                tracing::warn!(
                    results,
                    caches,
                    free,
                    size,
                    "store: the volume was nearly full; compilers' caches and results of compiles that were long unused are gone"
                );
            }
            // Somebody else has made some.
            None if !after.is_little() => *told = Told::Nothing,
            _ if some || *told == Told::Nothing => {
                *told = Told::Helpless;
                tracing::warn!(
                    results,
                    caches,
                    free,
                    size,
                    wanted = bytes,
                    "store: the volume is nearly full, and what may go is gone; enlarge it, or see `peitho prune --help`"
                );
            }
            _ => {}
        }
        Ok(match results + caches {
            0 => Made::Nothing,
            _ => Made::Room,
        })
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

async fn pressed(maker: &RoomMaker, not_before: Instant) -> Asked {
    sleep_until(not_before).await;
    maker.asked().await
}

//! Where compiles meet the containers that were made ahead of need (ADR 0015). A runtime that makes such spares enters each one here, and takes
//! one for a compile that it fits; `compile` brings the questions of the agents that wait in them. A spare serves one compile, and no other
//! ever. All of this is in memory and of this process: what an earlier one left waiting is nobody's, and the runtime removes it. It knows no runtime.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::names::{CompileKey, Digest, SpareId, Tenant};

/// How long the question of an agent stays open; then it asks again. Less than the agent waits for an answer.
const HELD: Duration = Duration::from_secs(45);

/// How long an agent may take to say that it has heard what it is for. One that does not is dead or on a lost node, and the compile has
/// a container of its own then.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// The spares of this process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Spares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many may wait at once.
    most: usize,
    /// In the order in which they were made.
    all: Mutex<Vec<Arc<Entry>>>,
    closed: CancellationToken,
    taken: AtomicU64,
    missed: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    id: SpareId,
    tenant: Tenant,
    class: Digest,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Its agent has not asked yet: the container is on its way.
    Made,
    /// Nobody has a use for it yet.
    Waiting,
    /// A compile is about to have it, and its agent does not know.
    Taken,
    /// Its agent may hear of it.
    Told(Work),
    /// It has: the container is that compile's.
    Accepted(CompileKey),
    /// It is of no use any more.
    Over,
}

impl Stage {
    /// Whether no compile has it or is about to.
    fn is_free(&self) -> bool {
        matches!(self, Self::Made | Self::Waiting)
    }
}

/// What the agent in a spare is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The compile.
    pub key: CompileKey,
    /// Its command.
    pub command: Vec<String>,
}

/// There is no such spare, or it is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no container {0} waits for a compile")]
pub struct UnknownSpare(pub SpareId);

/// What became of a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A compile has it.
    Taken,
    /// It is to go.
    Over,
}

/// What there was to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// How many wait now.
    pub waiting: usize,
    /// How many compiles had one.
    pub taken: u64,
    /// How many had none.
    pub missed: u64,
}

impl Spares {
    /// At most `most` wait at once.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner {
            most,
            ..Inner::default()
        }))
    }

    /// Whether there may be any.
    pub fn are_made(&self) -> bool {
        self.0.most > 0
    }

    /// Enters a spare of `tenant` that fits the compiles of `class`. `None` where one of that class waits already. A tenant has one, of the class
    /// of its last compile; beyond the most of all tenants the one goes that has waited longest.
    pub fn admit(&self, id: SpareId, tenant: &Tenant, class: Digest) -> Option<Admitted> {
        let mut all = self.all();
        let waits = |entry: &&Arc<Entry>| entry.stage.borrow().is_free();
        if !self.are_made() || all.iter().filter(waits).any(|it| it.class == class) {
            return None;
        }
        for other in all.iter().filter(|it| it.tenant == *tenant) {
            other.withdraw();
        }
        let waiting: Vec<_> = all.iter().filter(waits).collect();
        let beyond = (waiting.len() + 1).saturating_sub(self.0.most);
        for longest in waiting.iter().take(beyond) {
            longest.withdraw();
        }
        let entry = Entry::new(id, tenant.clone(), class, Stage::Made);
        all.push(Arc::clone(&entry));
        drop(all);
        let stage = entry.stage.subscribe();
        Some(Admitted {
            spares: self.clone(),
            entry,
            stage,
        })
    }

    /// A spare for a compile of `class`, if there is one whose agent waits. It waits on when the answer is dropped without having been given.
    pub fn take(&self, class: &Digest) -> Option<Taken> {
        if !self.are_made() {
            return None;
        }
        let all = self.all();
        let mut fitting = all.iter().filter(|it| it.class == *class);
        let taken = fitting.find(|it| it.turns(Stage::Taken, |stage| *stage == Stage::Waiting));
        let counter = match taken {
            Some(_) => &self.0.taken,
            None => &self.0.missed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        taken.map(|entry| Taken {
            spares: self.clone(),
            entry: Arc::clone(entry),
        })
    }

    /// All that wait are of no use any more, since a compile needs their room; gives their ids.
    pub(super) fn give_way(&self) -> Vec<SpareId> {
        let all = self.all();
        let gone = all.iter().filter(|it| it.withdraw());
        gone.map(|it| it.id).collect()
    }

    /// The spare `id`, which an earlier process gave to the compile of `work`: its agent may not have heard of it yet.
    pub(super) fn adopt(&self, id: SpareId, tenant: &Tenant, work: Work) -> Taken {
        let mut all = self.all();
        all.retain(|it| it.id != id);
        // It fits no other compile any more.
        let class = *work.key.digest();
        let entry = Entry::new(id, tenant.clone(), class, Stage::Told(work));
        all.push(Arc::clone(&entry));
        drop(all);
        Taken {
            spares: self.clone(),
            entry,
        }
    }

    /// Waits until it is known what the spare `id` is to do; `None` when that took so long that its agent is to ask again.
    ///
    /// # Errors
    /// [`UnknownSpare`].
    pub async fn work(&self, id: &SpareId) -> Result<Option<Work>, UnknownSpare> {
        let unknown = UnknownSpare(*id);
        let mut stage = {
            let entry = self.entry(id).ok_or(unknown)?;
            entry.turns(Stage::Waiting, |stage| *stage == Stage::Made);
            entry.stage.subscribe()
        };
        let known = stage.wait_for(|it| !it.is_free() && *it != Stage::Taken);
        let known = tokio::select! {
            known = timeout(HELD, known) => known,
            () = self.0.closed.cancelled() => return Ok(None),
        };
        match known.as_ref().map(|known| known.as_deref()) {
            Ok(Ok(Stage::Told(work))) => Ok(Some(work.clone())),
            Ok(_) => Err(unknown),
            Err(_) => Ok(None),
        }
    }

    /// The agent of the spare `id` has heard that it is for the compile `key`, and begins with it when this succeeds.
    ///
    /// # Errors
    /// [`UnknownSpare`] when it is not, or not any more.
    pub fn accept(&self, id: &SpareId, key: &CompileKey) -> Result<(), UnknownSpare> {
        let unknown = UnknownSpare(*id);
        let entry = self.entry(id).ok_or(unknown)?;
        let accepts = entry.turns(
            Stage::Accepted(*key),
            |stage| matches!(stage, Stage::Told(work) if work.key == *key),
        );
        // An agent that did not hear the answer says it again.
        let has_accepted = accepts || *entry.stage.borrow() == Stage::Accepted(*key);
        has_accepted.then_some(()).ok_or(unknown)
    }

    /// Questions that are open end, and none is held open any more: the server goes away.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// What there was to count until now.
    pub fn counts(&self) -> Counts {
        let all = self.all();
        let waiting = (all.iter()).filter(|it| *it.stage.borrow() == Stage::Waiting);
        Counts {
            waiting: waiting.count(),
            taken: self.0.taken.load(Ordering::Relaxed),
            missed: self.0.missed.load(Ordering::Relaxed),
        }
    }

    fn entry(&self, id: &SpareId) -> Option<Arc<Entry>> {
        self.all().iter().find(|it| it.id == *id).cloned()
    }

    fn remove(&self, entry: &Arc<Entry>) {
        self.all().retain(|it| !Arc::ptr_eq(it, entry));
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        (self.0.all.lock()).expect("nothing panics while it holds the spares")
    }
}

impl Entry {
    fn new(id: SpareId, tenant: Tenant, class: Digest, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            id,
            tenant,
            class,
            stage: watch::Sender::new(stage),
        })
    }

    /// Goes over to `next` if its stage `fits`, in one step.
    fn turns(&self, next: Stage, fits: impl FnOnce(&Stage) -> bool) -> bool {
        self.stage.send_if_modified(|stage| {
            let turns = fits(stage);
            if turns {
                *stage = next;
            }
            turns
        })
    }

    /// Ends it, unless a compile has it or is about to.
    fn withdraw(&self) -> bool {
        self.turns(Stage::Over, Stage::is_free)
    }

    /// Ends it, unless a compile has it.
    fn lose(&self) -> bool {
        let may_go = |stage: &Stage| !matches!(stage, Stage::Accepted(_) | Stage::Over);
        self.turns(Stage::Over, may_go)
    }
}

/// A spare that was entered, for who made it. Dropped before a compile has it, it is of no use any more.
pub struct Admitted {
    spares: Spares,
    entry: Arc<Entry>,
    stage: watch::Receiver<Stage>,
}

impl Admitted {
    /// Waits until its agent has asked what to do, or it is over.
    pub async fn asked(&mut self) {
        let _ = self.stage.wait_for(|stage| *stage != Stage::Made).await;
    }

    /// Waits until a compile has it, or it is of no use any more.
    pub async fn ended(&mut self) -> Fate {
        let ended = |stage: &Stage| matches!(stage, Stage::Accepted(_) | Stage::Over);
        match self.stage.wait_for(ended).await.as_deref() {
            Ok(Stage::Accepted(_)) => Fate::Taken,
            _ => Fate::Over,
        }
    }

    /// Ends it, since nobody has needed it for long; where a compile is about to have it, that is waited for.
    pub(super) async fn withdrawn(&mut self) -> Fate {
        loop {
            if self.entry.withdraw() {
                return Fate::Over;
            }
            let settled = |stage: &Stage| !matches!(stage, Stage::Taken | Stage::Told(_));
            match self.stage.wait_for(settled).await.as_deref() {
                Ok(Stage::Accepted(_)) => return Fate::Taken,
                Ok(Stage::Made | Stage::Waiting) => {}
                _ => return Fate::Over,
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.entry.lose();
        if *self.stage.borrow() == Stage::Over {
            self.spares.remove(&self.entry);
        }
    }
}

/// A spare for one compile, held for as long as that runs.
pub struct Taken {
    spares: Spares,
    entry: Arc<Entry>,
}

impl Taken {
    /// Which.
    pub fn id(&self) -> &SpareId {
        &self.entry.id
    }

    /// Gives it `work`; whether its agent has heard. Where it has not, it never will.
    pub async fn give(&self, work: Work) -> bool {
        let mut stage = self.entry.stage.subscribe();
        self.entry
            .turns(Stage::Told(work), |stage| *stage == Stage::Taken);
        let is_settled = |stage: &Stage| matches!(stage, Stage::Accepted(_) | Stage::Over);
        let _ = timeout(HEARD_WITHIN, stage.wait_for(is_settled)).await;
        // Of an agent that accepts at this very moment one is right, and both know which.
        self.entry.lose();
        matches!(*self.entry.stage.borrow(), Stage::Accepted(_))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let waits_on = self
            .entry
            .turns(Stage::Waiting, |stage| *stage == Stage::Taken);
        if waits_on {
            self.spares.0.taken.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.entry.lose();
        self.spares.remove(&self.entry);
    }
}

#[cfg(test)]
mod tests;

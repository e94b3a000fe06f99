//! Where compiles meet the containers that were made ahead of need (ADR 0015). A runtime that makes such spares enters each one here, and takes
//! one for a compile that it fits; `compile` brings the questions of the agents that wait in them. A spare serves one compile, and no other
//! ever: `entry` has its stages, `held` who may lead it from one to the next. All of this is in memory and of this process: what an earlier one
//! left waiting is nobody's, and the runtime removes it. It knows no runtime.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::names::{CompileKey, Digest, SpareId, Tenant};

mod entry;
mod held;

use entry::{Entry, Stage};
pub use held::{Admitted, Taken};
pub(super) use held::{Going, HEARD_WITHIN, Short};

/// How long the question of an agent stays open; then it asks again. Less than the agent waits for an answer.
const HELD: Duration = Duration::from_secs(45);

/// The spares of this process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Spares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// How many may wait at once.
    most: usize,
    /// In the order in which they were made. One is there for as long as somebody holds it: who made it, until it is gone or a compile has it, and
    /// that compile.
    all: Mutex<Vec<Weak<Entry>>>,
    /// Which compile has which, until that compile is discarded: its run may be over before.
    given: Mutex<HashMap<CompileKey, SpareId>>,
    closed: CancellationToken,
    /// How many lack room that spares would take. Changed and read while `all` is held.
    short: AtomicUsize,
    taken: AtomicU64,
    missed: AtomicU64,
}

/// What the agent in a spare is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The compile.
    pub key: CompileKey,
    /// Its command.
    pub command: Vec<String>,
}

/// What of a spare counts here.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Whose compiles it may serve.
    pub tenant: Tenant,
    /// Whose room it takes, in the words of the runtime that made it: a namespace.
    pub room: String,
    /// Which compiles it fits: those of the same.
    pub class: Digest,
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
    /// How many could have had one and had none, or one that did not answer.
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

    /// Enters a spare. `None` where one of its class waits already, and while somebody lacks room. A tenant has one, of the class of its last compile; beyond the most of all
    /// tenants the one goes that has waited longest.
    pub fn admit(&self, id: SpareId, traits: Traits) -> Option<Admitted> {
        if !self.are_made() {
            return None;
        }
        // Held to the end: nobody else enters one meanwhile.
        let mut all = self.all();
        if !self.may_wait() {
            return None;
        }
        let there = living(&mut all);
        let free: Vec<_> = there.iter().filter(|it| it.is_free()).collect();
        if free.iter().any(|it| it.traits.class == traits.class) {
            return None;
        }
        for other in free.iter().filter(|it| it.traits.tenant == traits.tenant) {
            other.withdraw();
        }
        let waiting: Vec<_> = free.iter().filter(|it| it.is_free()).collect();
        let beyond = (waiting.len() + 1).saturating_sub(self.0.most);
        for longest in waiting.iter().take(beyond) {
            longest.withdraw();
        }
        let entry = Entry::new(id, traits, Stage::Made);
        all.push(Arc::downgrade(&entry));
        Some(Admitted::new(entry))
    }

    /// A spare for a compile of `class`, if there is one whose agent waits. It waits on when the answer is dropped before it was named or given.
    pub fn take(&self, class: &Digest) -> Option<Taken> {
        let there = self.there();
        let mut fitting = there.into_iter().filter(|it| it.traits.class == *class);
        let taken = fitting.find(|it| it.turns(Stage::Taken, |stage| *stage == Stage::Waiting));
        taken.map(|entry| Taken::new(self.clone(), entry))
    }

    /// All that wait in `room` are of no use any more, since that is needed; gives those, and others of which it is known already, as long as they
    /// are there.
    pub(super) fn give_way(&self, room: &str) -> Vec<Going> {
        let mut there = self.there();
        there.retain(|it| it.traits.room == room && (it.withdraw() || it.is_over()));
        there.iter().map(|it| Going::new(it)).collect()
    }

    /// Somebody lacks room that those have which wait anywhere: they are of no use any more, and none comes while the answer is held. Or it
    /// would be in the place before the one that was there first.
    pub(super) fn short(&self) -> Short {
        {
            let _all = self.all();
            self.0.short.fetch_add(1, Ordering::Relaxed);
        }
        self.all_give_way();
        Short(self.clone())
    }

    /// All that wait anywhere are of no use any more.
    fn all_give_way(&self) {
        for entry in self.there() {
            entry.withdraw();
        }
    }

    /// Whether any may wait at all, to be asked while `all` is held.
    fn may_wait(&self) -> bool {
        !self.0.closed.is_cancelled() && self.0.short.load(Ordering::Relaxed) == 0
    }

    /// The spare `id`, which another process gave to the compile of `work`: its agent may not have heard of it yet. `None` where it is this process
    /// that made it, and it is about to go.
    pub(super) fn adopt(&self, id: SpareId, traits: Traits, work: Work) -> Option<Taken> {
        let mut all = self.all();
        let there = living(&mut all);
        if there.iter().any(|it| it.id == id && it.is_over()) {
            return None;
        }
        // What it was to an earlier run of the same compile is over with that.
        all.retain(|it| it.upgrade().is_none_or(|it| it.id != id));
        self.given().insert(work.key, id);
        let entry = Entry::new(id, traits, Stage::Told(work));
        all.push(Arc::downgrade(&entry));
        Some(Taken::new(self.clone(), entry))
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
        let known = stage.wait_for(Stage::is_told);
        let known = tokio::select! {
            biased;
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
        // An agent that did not hear the answer says it again.
        let has_accepted = entry.accept(key) || *entry.stage.borrow() == Stage::Accepted(*key);
        has_accepted.then_some(()).ok_or(unknown)
    }

    fn note_given(&self, key: CompileKey, id: SpareId) {
        self.given().insert(key, id);
        self.0.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// An agent tells something of the compile `key`. One that began with it when another process was here does not say again that it has heard.
    pub fn note_report(&self, key: &CompileKey) {
        let entry = self.of_compile(key).and_then(|id| self.entry(&id));
        if let Some(entry) = entry {
            entry.accept(key);
        }
    }

    /// The spare that the compile `key` has, as far as this process knows.
    pub(super) fn of_compile(&self, key: &CompileKey) -> Option<SpareId> {
        self.given().get(key).copied()
    }

    /// The compile `key` is discarded, and its spare with it.
    pub(super) fn forget_compile(&self, key: &CompileKey) {
        self.given().remove(key);
    }

    /// A compile has a container of its own, and one made ahead of need would have fitted.
    pub(super) fn note_missed(&self) {
        self.0.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// The server goes away: no question is held open any more, and those that wait are of no use to anybody.
    pub fn close(&self) {
        // Before the others: none is entered behind them, and none waits on.
        self.0.closed.cancel();
        self.all_give_way();
    }

    /// Waits until those that are of no use any more are gone; with them, those that come to be so meanwhile.
    pub async fn gone(&self) {
        loop {
            let going: Vec<_> = (self.over().iter()).map(|it| Going::new(it)).collect();
            if going.is_empty() {
                return;
            }
            join_all(going.into_iter().map(Going::gone)).await;
        }
    }

    /// Those that are of no use any more and not gone yet.
    pub fn left(&self) -> Vec<SpareId> {
        self.over().iter().map(|it| it.id).collect()
    }

    fn over(&self) -> Vec<Arc<Entry>> {
        let there = self.there().into_iter();
        there.filter(|it| it.is_over()).collect()
    }

    /// What there was to count until now.
    pub fn counts(&self) -> Counts {
        let there = self.there();
        let waiting = (there.iter()).filter(|it| *it.stage.borrow() == Stage::Waiting);
        Counts {
            waiting: waiting.count(),
            taken: self.0.taken.load(Ordering::Relaxed),
            missed: self.0.missed.load(Ordering::Relaxed),
        }
    }

    fn entry(&self, id: &SpareId) -> Option<Arc<Entry>> {
        self.there().into_iter().find(|it| it.id == *id)
    }

    fn there(&self) -> Vec<Arc<Entry>> {
        living(&mut self.all())
    }

    fn given(&self) -> MutexGuard<'_, HashMap<CompileKey, SpareId>> {
        (self.0.given.lock()).expect("nothing panics while it holds who has which")
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Entry>>> {
        (self.0.all.lock()).expect("nothing panics while it holds the spares")
    }
}

/// Those of `all` that are there; the others are forgotten.
fn living(all: &mut Vec<Weak<Entry>>) -> Vec<Arc<Entry>> {
    all.retain(|it| it.strong_count() > 0);
    all.iter().filter_map(Weak::upgrade).collect()
}

#[cfg(test)]
mod tests;

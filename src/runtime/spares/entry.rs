//! One spare, and its way: stages, and which may follow upon which, each in one step. Only `spares` and those who hold one there use it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Traits, Work};
use crate::names::{CompileKey, SpareId};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SpareId,
    pub(super) traits: Traits,
    /// Goes with the last who holds the entry: who follows it hears of that.
    pub(super) stage: watch::Sender<Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its agent has not asked yet: the container is on its way.
    Made,
    /// Nobody has a use for it yet.
    Waiting,
    /// A compile is about to have it, and nobody else knows: it may wait on.
    Taken,
    /// The same, but who finds that compile's run may find its name, and takes it for the run's: it waits for no other any more.
    Named,
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

    /// Whether its agent may hear what it is for, or that it is for nothing.
    pub(super) fn is_told(&self) -> bool {
        matches!(self, Self::Told(_)) || self.is_settled()
    }

    /// Whether it stays so.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Over)
    }
}

impl Entry {
    pub(super) fn new(id: SpareId, traits: Traits, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            id,
            traits,
            stage: watch::Sender::new(stage),
        })
    }

    /// Goes over to `next` if its stage `fits`, in one step.
    pub(super) fn turns(&self, next: Stage, fits: impl FnOnce(&Stage) -> bool) -> bool {
        self.stage.send_if_modified(|stage| {
            let turns = fits(stage);
            if turns {
                *stage = next;
            }
            turns
        })
    }

    pub(super) fn is_free(&self) -> bool {
        self.stage.borrow().is_free()
    }

    pub(super) fn is_over(&self) -> bool {
        *self.stage.borrow() == Stage::Over
    }

    /// It is the compile's `key`, if its agent may have heard so.
    pub(super) fn accept(&self, key: &CompileKey) -> bool {
        self.turns(
            Stage::Accepted(*key),
            |stage| matches!(stage, Stage::Told(work) if work.key == *key),
        )
    }

    /// Ends it, unless a compile has it or is about to.
    pub(super) fn withdraw(&self) -> bool {
        self.turns(Stage::Over, Stage::is_free)
    }

    /// Ends it, unless a compile has it.
    pub(super) fn lose(&self) {
        self.turns(Stage::Over, |stage| !stage.is_settled());
    }
}

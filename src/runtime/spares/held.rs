//! Those who hold a spare: who made it, the compile that takes it, and who waits for its room. Each is what its holder may do with it. A runtime has
//! them from `spares`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::entry::{Entry, Stage};
use super::{Fate, Spares, Work};
use crate::names::SpareId;

/// How long an agent may take to say that it has heard what it is for. One that does not is dead or on a lost node, and the compile has
/// a container of its own then.
pub(in crate::runtime) const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// The same where another process has told it, or was about to, and is no more: it asks again after five seconds at the most, where it did not
/// hear the answer.
const HEARD_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// A spare that was entered, for who made it: to be held until it is gone, or a compile has it. Dropped before, it is of no use any more.
pub struct Admitted {
    entry: Arc<Entry>,
    stage: watch::Receiver<Stage>,
}

impl Admitted {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        let stage = entry.stage.subscribe();
        Self { entry, stage }
    }

    /// Waits until its agent has asked what to do, or it is over.
    pub async fn asked(&mut self) {
        let _ = self.stage.wait_for(|stage| *stage != Stage::Made).await;
    }

    /// Whether it is of no use any more.
    pub(in crate::runtime) fn is_over(&self) -> bool {
        self.entry.is_over()
    }

    /// Waits until a compile has it, or it is of no use any more.
    pub async fn ended(&mut self) -> Fate {
        match self.stage.wait_for(Stage::is_settled).await.as_deref() {
            Ok(Stage::Accepted(_)) => Fate::Taken,
            _ => Fate::Over,
        }
    }

    /// Ends it, since nobody has needed it for long; where a compile is about to have it, that is waited for.
    pub(in crate::runtime) async fn withdrawn(&mut self) -> Fate {
        loop {
            if self.entry.withdraw() {
                return Fate::Over;
            }
            let settled =
                |stage: &Stage| !matches!(stage, Stage::Taken | Stage::Named | Stage::Told(_));
            match self.stage.wait_for(settled).await.as_deref() {
                Ok(Stage::Accepted(_)) => return Fate::Taken,
                Ok(Stage::Made | Stage::Waiting) => {}
                _ => return Fate::Over,
            }
        }
    }

    /// Ends it, unless a compile has it: what became of it decides who removes it.
    pub(in crate::runtime) fn end(&self) -> Fate {
        self.entry.lose();
        match *self.entry.stage.borrow() {
            Stage::Accepted(_) => Fate::Taken,
            _ => Fate::Over,
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.entry.lose();
    }
}

/// A spare for one compile, held for as long as that runs.
pub struct Taken {
    spares: Spares,
    entry: Arc<Entry>,
}

impl Taken {
    pub(super) fn new(spares: Spares, entry: Arc<Entry>) -> Self {
        Self { spares, entry }
    }

    /// Which.
    pub fn id(&self) -> &SpareId {
        &self.entry.id
    }

    /// To be called before its name is written down where others of the compile may find it: it waits for no other from here on.
    pub(in crate::runtime) fn name(&self) {
        self.entry
            .turns(Stage::Named, |stage| *stage == Stage::Taken);
    }

    /// Nothing has its name after all.
    pub(in crate::runtime) fn unname(&self) {
        self.entry
            .turns(Stage::Taken, |stage| *stage == Stage::Named);
    }

    /// Gives it `work`; whether its agent has heard. Where it has not, it never will.
    pub async fn give(&self, work: Work) -> bool {
        let key = work.key;
        self.entry.turns(Stage::Told(work), |stage| {
            matches!(stage, Stage::Taken | Stage::Named)
        });
        let has_heard = self.settled(HEARD_WITHIN).await;
        if has_heard {
            self.spares.note_given(key, self.entry.id);
        }
        has_heard
    }

    /// Whether its agent has heard, where another process may have told it or not. Where it has not, it never will.
    pub(in crate::runtime) async fn heard(&self) -> bool {
        self.settled(HEARD_AGAIN_WITHIN).await
    }

    async fn settled(&self, within: Duration) -> bool {
        let mut stage = self.entry.stage.subscribe();
        let _ = timeout(within, stage.wait_for(Stage::is_settled)).await;
        // Of an agent that accepts at this very moment one is right, and both know which.
        self.entry.lose();
        !self.entry.is_over()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let all = self.spares.all();
        let waits_on = self.spares.may_wait()
            && (self.entry).turns(Stage::Waiting, |stage| *stage == Stage::Taken);
        drop(all);
        if !waits_on {
            self.entry.lose();
        }
    }
}

/// Somebody lacks room, as long as this is held.
pub(in crate::runtime) struct Short(pub(super) Spares);

impl Drop for Short {
    fn drop(&mut self) {
        let _all = self.0.all();
        self.0.0.short.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One that is of no use any more, for who waits for its room.
pub(in crate::runtime) struct Going(watch::Receiver<Stage>);

impl Going {
    pub(super) fn new(entry: &Entry) -> Self {
        Self(entry.stage.subscribe())
    }

    /// Waits until who made it has removed it.
    pub(in crate::runtime) async fn gone(mut self) {
        // The sender goes with the last who holds it.
        while self.0.changed().await.is_ok() {}
    }
}

//! What a runtime tells of a compile's way from the order to its command, for those who measure it: moments, each once. `compile` makes
//! one for each run and reads it; nothing depends on it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Moments that a runtime sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Whoever runs the container has taken its order. Not told of one that was there before.
    Made,
    /// It has a node.
    Placed,
}

/// When which [`Milestone`] was seen first.
#[derive(Debug, Default)]
pub struct Milestones(Mutex<[Option<Instant>; 2]>);

impl Milestones {
    /// It is reached, now or before.
    pub fn reach(&self, milestone: Milestone) {
        self.moments()[milestone as usize].get_or_insert_with(Instant::now);
    }

    /// When it was reached.
    pub fn at(&self, milestone: Milestone) -> Option<Instant> {
        self.moments()[milestone as usize]
    }

    fn moments(&self) -> MutexGuard<'_, [Option<Instant>; 2]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

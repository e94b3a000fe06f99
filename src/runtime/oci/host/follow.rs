//! One launch, followed by somebody who wants to hear of its end whatever becomes of its container. [`super`] makes it.

use tokio::sync::watch;

use super::ending::Ending;
use super::launch::{Launch, Seen};

/// A launch that is followed. It does not keep the launch.
pub struct Followed {
    number: u64,
    seen: watch::Receiver<Seen>,
}

impl Followed {
    pub(super) fn of(launch: &Launch) -> Self {
        Self {
            number: launch.number(),
            seen: launch.seen(),
        }
    }

    /// Which of this process's launches it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Waits until its process runs, or is over; whether it runs, or did.
    pub async fn running(&mut self) -> bool {
        let known = |seen: &Seen| seen.started || seen.ending.is_some();
        let seen = self.seen.wait_for(known).await;
        seen.is_ok_and(|seen| seen.started)
    }

    /// Waits for its end. `None` when it was removed before anybody knew how it ended.
    pub async fn ended(&mut self) -> Option<Ending> {
        let ended = self.seen.wait_for(|seen| seen.ending.is_some()).await;
        ended.ok()?.ending.clone()
    }
}

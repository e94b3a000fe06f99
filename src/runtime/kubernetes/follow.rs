//! Follows one pod: asks for the verdict again whenever its evidence changes, or when time changes it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::evidence::Evidence;
use super::verdict::{Verdict, verdict};

/// One pod, followed.
#[derive(Debug)]
pub(super) struct Follow {
    evidence: watch::Receiver<Evidence>,
    grace: Duration,
}

impl Follow {
    /// Follows the pod of `evidence`; `grace` is what it may be without a node.
    pub(super) fn new(evidence: watch::Receiver<Evidence>, grace: Duration) -> Self {
        Self { evidence, grace }
    }

    /// The verdict now.
    pub(super) fn verdict(&mut self) -> Verdict {
        verdict(
            &self.evidence.borrow_and_update(),
            Instant::now(),
            self.grace,
        )
    }

    /// A copy of what is known of the pod.
    pub(super) fn evidence(&self) -> Evidence {
        self.evidence.borrow().clone()
    }

    /// Waits until the pod shows something new, the last verdict's time comes, or `until`.
    pub(super) async fn news(&mut self, after: &Verdict, until: Option<Instant>) {
        let changed = self.evidence.changed();
        let at = match (after.recheck(), until) {
            (Some(recheck), Some(until)) => Some(recheck.min(until)),
            (recheck, until) => recheck.or(until),
        };
        // The sender goes with the object, after it has marked it gone: the next verdict is final.
        let _ = match at {
            Some(at) => tokio::time::timeout_at(at, changed).await,
            None => Ok(changed.await),
        };
    }

    /// Waits until the process is over, or will never run.
    pub(super) async fn end(&mut self) -> Verdict {
        loop {
            let verdict = self.verdict();
            if verdict.is_final() {
                return verdict;
            }
            self.news(&verdict, None).await;
        }
    }
}

//! The waits for chaincode containers: for a launch, for its process, for its end; and what is done when a
//! launch is given up. Nothing is locked meanwhile: a wait lasts as long as its process.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};

use super::Kubernetes;
use super::evidence::Evidence;
use super::follow::Follow;
use super::record::{self, Outcome as Ending, Record};
use super::remove::Until;
use super::request::unavailable;
use super::verdict::Verdict;
use crate::names::ContainerKey;
use crate::runtime::{Error, Exit, State};

/// A launch as a waiter finds it.
pub(super) enum Launch {
    /// There is a pod to follow.
    Pod(Follow, Box<Record>),
    /// There was one; how it ended.
    Ended(Ending),
}

impl Kubernetes {
    pub(super) async fn until_running(&self, key: &ContainerKey) -> Result<State, Error> {
        let (mut follow, record) = match self.until_launched(key).await? {
            Launch::Pod(follow, record) => (follow, record),
            Launch::Ended(ending) => return Ok(state_of(ending)),
        };
        Ok(match self.running(&mut follow).await {
            verdict if verdict.is_final() => {
                self.take_end(&record, &follow.evidence(), &verdict).await;
                state_of_verdict(verdict)
            }
            _ => State::Running,
        })
    }

    /// A container that was not started is waited for. That its record goes meanwhile ends the wait with
    /// [`Error::NeverStarted`]: Docker answers 0 here, but an exit code is for a process that ran (design
    /// D11). A process whose container is removed is one that was killed: 137, as in Docker.
    pub(super) async fn until_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        let (mut follow, record) = match self.until_launched(key).await? {
            Launch::Pod(follow, record) => (follow, record),
            Launch::Ended(Ending::Exited(code)) => return Ok(Exit { code }),
            Launch::Ended(Ending::NeverStarted(reason)) => return Err(Error::NeverStarted(reason)),
        };
        let verdict = follow.end().await;
        self.take_end(&record, &follow.evidence(), &verdict).await;
        match verdict {
            Verdict::Exited(exit) => Ok(exit),
            Verdict::NeverStarted { reason } => Err(Error::NeverStarted(reason)),
            Verdict::Starting { .. } | Verdict::Running { .. } => {
                unreachable!("Follow::end gives final verdicts only")
            }
        }
    }

    /// Waits until there is a launch of `key`.
    pub(super) async fn until_launched(&self, key: &ContainerKey) -> Result<Launch, Error> {
        let record = self.existing(key).await?;
        let mut arrivals = self.watch.arrivals();
        loop {
            arrivals.borrow_and_update();
            if let Some(follow) = self.launch_of(&record) {
                return Ok(Launch::Pod(follow, Box::new(record)));
            }
            // Read after the look for a pod: an end is noted before its pod goes.
            match self.record(key).await? {
                Some(now) if now.uid == record.uid => {
                    if let Some(ending) = now.outcome {
                        return Ok(Launch::Ended(ending));
                    }
                }
                _ => {
                    return Err(Error::NeverStarted(format!(
                        "container {key} was removed before it was started"
                    )));
                }
            }
            if arrivals.changed().await.is_err() {
                return Err(unavailable("the watches have ended"));
            }
        }
    }

    /// What is to be done when a launch is over, by everybody who hears of it: who is first is not known, and it may be done
    /// twice. A pod that is gone cannot tell its end again.
    pub(super) async fn take_end(&self, record: &Record, evidence: &Evidence, verdict: &Verdict) {
        match verdict {
            Verdict::Exited(exit) if evidence.gone => {
                self.note_ending(record, &(*exit).into()).await;
            }
            Verdict::NeverStarted { reason } => self.give_up(record, evidence, reason).await,
            _ => {}
        }
    }

    /// The pod will not run: it is deleted, or it would start behind the peer's back later.
    async fn give_up(&self, record: &Record, evidence: &Evidence, reason: &str) {
        // Before the pod goes: whoever finds no pod finds the note.
        self.note_ending(record, &Ending::NeverStarted(reason.to_owned()))
            .await;
        let ended = async {
            match self.read_pod(&evidence.name).await? {
                Some(pod) if pod.uid().as_deref() == Some(&evidence.uid) => {
                    self.end(&pod, Until::Gone).await
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = ended.await {
            tracing::warn!(pod = evidence.name, %error, "a pod that will not run was not deleted");
        }
    }

    /// Best effort: without the note a later `wait` would wait for the next start.
    pub(super) async fn note_ending(&self, record: &Record, ending: &Ending) {
        let patch = record::outcome_patch(&record.uid, ending);
        self.change_note(record, patch, "noting the end of a launch")
            .await;
    }

    /// Best effort: the note of an earlier launch would be taken for the end of the one that was made since, where
    /// that one goes without a note of its own.
    pub(super) async fn forget_ending(&self, record: &Record) {
        let patch = record.no_outcome_patch();
        self.change_note(record, patch, "clearing the end of an earlier launch")
            .await;
    }

    async fn change_note(&self, record: &Record, patch: serde_json::Value, action: &str) {
        let patch = Patch::Merge(patch);
        let params = PatchParams::default();
        let patched = self
            .requests
            .call(|| self.secrets.patch_metadata(&record.name, &params, &patch))
            .await;
        if let Err(failure) = patched
            && !failure.is_not_found()
            && !failure.is_conflict()
        {
            let error = failure.into_error(action);
            tracing::warn!(container = %record.key(), %error, "the record of how a launch ended is not true");
        }
    }
}

pub(super) fn state_of(ending: Ending) -> State {
    match ending {
        Ending::Exited(code) => State::Exited(Exit { code }),
        Ending::NeverStarted(reason) => State::NeverStarted(reason),
    }
}

/// What a container does whose launch is judged so.
pub(super) fn state_of_verdict(verdict: Verdict) -> State {
    match verdict {
        Verdict::Starting { .. } => State::Starting,
        Verdict::Running { .. } => State::Running,
        Verdict::NeverStarted { reason } => State::NeverStarted(reason),
        Verdict::Exited(exit) => State::Exited(exit),
    }
}

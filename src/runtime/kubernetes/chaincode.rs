//! The orders for chaincode containers: record, files, launch, end, removal, and the waits. Called through
//! the trait in `kubernetes`, which has taken the container's turn where two orders must not overlap.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use tokio::time::Instant;

use super::Kubernetes;
use super::evidence::Evidence;
use super::follow::Follow;
use super::record::{self, Outcome as Ending, Record};
use super::remove::{Grace, Ours, Until, delete, end_pod};
use super::verdict::Verdict;
use crate::grant::Grant;
use crate::names::kubernetes as names;
use crate::names::{ContainerId, ContainerKey, Tenant};
use crate::runtime::{ChaincodeSpec, Error, Exit, Found, Outcome, State, UploadedFile};

/// How often a patch is tried anew when somebody else changed the record meanwhile.
const PATCHES: usize = 5;
/// How often a launch is tried anew when its pod's name was taken by one that then went.
const LAUNCHES: usize = 3;

/// A launch as a waiter finds it.
pub(super) enum Launch {
    /// There is a pod to follow.
    Pod(Follow, Record),
    /// There was one; how it ended.
    Ended(Ending),
}

impl Kubernetes {
    pub(super) async fn create_record(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        let token = self.grants.issue(&Grant::Layer {
            container: spec.key.clone(),
            digest: spec.layer.blob.digest,
        });
        let secret = record::secret(spec, &self.settings, &token)?;
        let name = names::record(&self.settings.instance, &spec.key);
        match self.requests.create(&self.secrets, &secret).await {
            Ok(_) => Ok(()),
            // A lost reply makes the second attempt meet the first one's record: the id tells.
            Err(failure) if failure.is_taken() => match self.record(&spec.key).await? {
                Some(there) if there.spec.id == spec.id => Ok(()),
                _ => Err(Error::Exists(spec.key.clone())),
            },
            Err(failure) => Err(failure.into_error(&format!("creating secret {name}"))),
        }
    }

    /// The record of `key`, asked from the API server.
    pub(super) async fn record(&self, key: &ContainerKey) -> Result<Option<Record>, Error> {
        let name = names::record(&self.settings.instance, key);
        let secret: Option<Secret> = self
            .requests
            .call(|| self.secrets.get_opt(&name))
            .await
            .map_err(|failure| failure.into_error(&format!("reading secret {name}")))?;
        let Some(secret) = secret else {
            return Ok(None);
        };
        // Ours by its labels, and not half gone.
        Ours::of(&secret.metadata, &self.settings.instance)?;
        if secret.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let record = Record::read(secret)?;
        // Names hold hashes: what is in the record is the truth.
        if record.key() != key {
            return Ok(None);
        }
        Ok(Some(record))
    }

    pub(super) async fn find_container(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let Some(record) = self.record(key).await? else {
            return Ok(None);
        };
        let state = match (self.launch_of(&record), &record.outcome) {
            (Some(mut launch), _) => match launch.verdict() {
                Verdict::Starting { .. } => State::Starting,
                Verdict::Running { .. } => State::Running,
                Verdict::NeverStarted { reason } => State::NeverStarted(reason),
                Verdict::Exited(exit) => State::Exited(exit),
            },
            (None, Some(ending)) => state_of(ending.clone()),
            (None, None) => State::Created,
        };
        Ok(Some(Found {
            spec: record.spec,
            state,
        }))
    }

    pub(super) async fn find_container_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        let selector = names::id_selector(&self.settings.instance, tenant, id);
        let params = ListParams::default().labels(&selector);
        // Metadata only: contents of files stay where they are.
        let found = self
            .requests
            .call(|| self.secrets.list_metadata(&params))
            .await
            .map_err(|failure| failure.into_error("listing secrets by container id"))?;
        for item in found.items {
            let name = item
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(names::CONTAINER_NAME)?.parse().ok());
            let Some(name) = name else { continue };
            let key = ContainerKey {
                tenant: tenant.clone(),
                name,
            };
            // The label has half of the id.
            if self.record(&key).await?.is_some_and(|it| it.spec.id == *id) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    pub(super) async fn add_files(
        &self,
        key: &ContainerKey,
        files: &[UploadedFile],
    ) -> Result<(), Error> {
        for _ in 0..PATCHES {
            let record = self.existing(key).await?;
            if self.watch.of_owner(&record.uid).is_some() {
                return Err(Error::Refused(format!(
                    "container {key} was started: files can be put before the start only"
                )));
            }
            let patch = Patch::Merge(record.patch(files)?);
            let params = PatchParams::default();
            let patched = self
                .requests
                .call(|| self.secrets.patch(&record.name, &params, &patch))
                .await;
            match patched {
                Ok(_) => return Ok(()),
                Err(failure) if failure.is_conflict() => {}
                Err(failure) if failure.is_not_found() => {
                    return Err(Error::NotFound(key.clone()));
                }
                Err(failure) => {
                    return Err(
                        failure.into_error(&format!("adding files to secret {}", record.name))
                    );
                }
            }
        }
        Err(Error::Refused(format!(
            "the record of {key} changed {PATCHES} times while files were added; see who changes it"
        )))
    }

    pub(super) async fn launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let record = self.existing(key).await?;
        let pod = self.ordered_pod(&record)?;
        for _ in 0..LAUNCHES {
            // Asked from the API server, not from the watch: never two processes of one chaincode.
            for there in self.pods_of(key).await? {
                if self.is_launch_of(&record, &there) && !self.has_ended(&there) {
                    return Ok(Outcome::Already);
                }
                self.end(&there, Until::Gone).await?;
            }
            if let Some(outcome) = self.create_pod(&record, &pod).await? {
                return Ok(outcome);
            }
        }
        Err(Error::Refused(format!(
            "pod {} was made and deleted {LAUNCHES} times by others while {key} was started; see whether \
             two Peithos have the instance name {}",
            pod.name_any(),
            self.settings.instance
        )))
    }

    /// Sends `pod`. `None`: the name is taken by a pod that has to go first.
    async fn create_pod(&self, record: &Record, pod: &Pod) -> Result<Option<Outcome>, Error> {
        let name = pod.name_any();
        let (there, outcome) = match self.requests.create(&self.pods, pod).await {
            Ok(created) => (created, Outcome::Done),
            Err(failure) if failure.is_taken() => match self.read_pod(&name).await? {
                // Our own, when the first reply was lost; else that of another replica.
                Some(there) if same_order(&there, pod) => (there, Outcome::Done),
                Some(there) if self.is_launch_of(record, &there) && !self.has_ended(&there) => {
                    return Ok(Some(Outcome::Already));
                }
                _ => return Ok(None),
            },
            Err(failure) => return Err(failure.into_error(&format!("creating pod {name}"))),
        };
        drop(self.watch.follow(&there));
        // A removal by another replica may have looked for pods just before there was this one.
        match self.record(record.key()).await? {
            Some(now) if now.uid == record.uid => Ok(Some(outcome)),
            _ => {
                self.end(&there, Until::Gone).await?;
                Err(Error::NotFound(record.key().clone()))
            }
        }
    }

    pub(super) async fn end_launch(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let record = self.existing(key).await?;
        let mut outcome = Outcome::Already;
        for pod in self.pods_of(key).await? {
            if self.has_ended(&pod) {
                continue;
            }
            self.end(&pod, Until::Over).await?;
            outcome = Outcome::Done;
            // The pod goes, and with it what it can tell: a later `wait` still has its answer.
            let verdict = self.follow(&pod).end().await;
            self.note_ending(&record, &ending_of(&verdict)).await;
        }
        Ok(outcome)
    }

    pub(super) async fn remove_container(&self, key: &ContainerKey) -> Result<(), Error> {
        let record = self.record(key).await?;
        if let Some(record) = &record {
            let ours = Ours::of(&record.metadata, &self.settings.instance)?;
            delete(&self.requests, &self.secrets, &ours, Grace::Own).await?;
        }
        let pods = self.pods_of(key).await?;
        if record.is_none() && pods.is_empty() {
            return Err(Error::NotFound(key.clone()));
        }
        for pod in &pods {
            self.end(pod, Until::Gone).await?;
        }
        Ok(())
    }

    pub(super) async fn until_running(&self, key: &ContainerKey) -> Result<State, Error> {
        let (mut follow, record) = match self.until_launched(key).await? {
            Launch::Pod(follow, record) => (follow, record),
            Launch::Ended(ending) => return Ok(state_of(ending)),
        };
        Ok(match follow.running().await {
            Verdict::NeverStarted { reason } => {
                self.give_up(&record, &follow.evidence(), &reason).await;
                State::NeverStarted(reason)
            }
            Verdict::Exited(exit) => State::Exited(exit),
            Verdict::Running { .. } | Verdict::Starting { .. } => State::Running,
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
        let evidence = follow.evidence();
        match verdict {
            Verdict::Exited(exit) => {
                if evidence.gone {
                    self.note_ending(&record, &exit.into()).await;
                }
                Ok(exit)
            }
            Verdict::NeverStarted { reason } => {
                self.give_up(&record, &evidence, &reason).await;
                Err(Error::NeverStarted(reason))
            }
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
                return Ok(Launch::Pod(follow, record));
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
                return Err(Error::Unavailable("the watches have ended".to_owned()));
            }
        }
    }

    /// The pod will not run: it is deleted, or it would start behind the peer's back later.
    async fn give_up(&self, record: &Record, evidence: &Evidence, reason: &str) {
        tracing::info!(container = %record.key(), pod = evidence.name, reason, "chaincode did not start");
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
    async fn note_ending(&self, record: &Record, ending: &Ending) {
        let patch = Patch::Merge(record::outcome_patch(&record.uid, ending));
        let params = PatchParams::default();
        let patched = self
            .requests
            .call(|| self.secrets.patch_metadata(&record.name, &params, &patch))
            .await;
        if let Err(failure) = patched
            && !failure.is_not_found()
            && !failure.is_conflict()
        {
            let error = failure.into_error("noting the end of a launch");
            tracing::warn!(container = %record.key(), %error, "the end was not noted");
        }
    }

    async fn existing(&self, key: &ContainerKey) -> Result<Record, Error> {
        let record = self.record(key).await?;
        record.ok_or_else(|| Error::NotFound(key.clone()))
    }

    /// The pod of this order: a number of its own tells it from that of any other.
    fn ordered_pod(&self, record: &Record) -> Result<Pod, Error> {
        let mut pod = super::pod::pod(record, &self.settings)?;
        let mut order = String::new();
        write!(order, "{:016x}", rand::random::<u64>()).expect("writing to a String cannot fail");
        pod.annotations_mut().insert(names::ORDER.to_owned(), order);
        Ok(pod)
    }

    /// All pods of `key`, asked from the API server.
    async fn pods_of(&self, key: &ContainerKey) -> Result<Vec<Pod>, Error> {
        let selector = names::container_selector(&self.settings.instance, key);
        let params = ListParams::default().labels(&selector);
        let pods = self
            .requests
            .call(|| self.pods.list(&params))
            .await
            .map_err(|failure| failure.into_error(&format!("listing pods of {key}")))?;
        Ok(pods.items)
    }

    fn is_launch_of(&self, record: &Record, pod: &Pod) -> bool {
        let name = names::pod(&record.name, &record.uid);
        pod.name_any() == name
            && pod
                .owner_references()
                .iter()
                .any(|owner| owner.uid == record.uid)
    }

    /// Whether nothing of `pod` runs or will run, by its own word or by the verdict on it.
    fn has_ended(&self, pod: &Pod) -> bool {
        let shown = Evidence::of(pod, None, Instant::now());
        shown.is_over() || shown.deleting.is_some() || self.follow(pod).verdict().is_final()
    }

    fn follow(&self, pod: &Pod) -> Follow {
        Follow::new(self.watch.follow(pod), self.settings.scheduling_grace)
    }

    fn launch_of(&self, record: &Record) -> Option<Follow> {
        let evidence = self.watch.of_owner(&record.uid)?;
        Some(Follow::new(evidence, self.settings.scheduling_grace))
    }

    pub(super) async fn end(&self, pod: &Pod, until: Until) -> Result<(), Error> {
        end_pod(
            &self.requests,
            &self.watch,
            &self.pods,
            pod,
            &self.settings.instance,
            until,
        )
        .await
    }
}

fn same_order(there: &Pod, sent: &Pod) -> bool {
    there.annotations().get(names::ORDER) == sent.annotations().get(names::ORDER)
}

fn state_of(ending: Ending) -> State {
    match ending {
        Ending::Exited(code) => State::Exited(Exit { code }),
        Ending::NeverStarted(reason) => State::NeverStarted(reason),
    }
}

/// How a launch that was ended by order is noted.
fn ending_of(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::NeverStarted { reason } => Ending::NeverStarted(reason.clone()),
        Verdict::Exited(exit) => Ending::Exited(exit.code),
        Verdict::Starting { .. } | Verdict::Running { .. } => Ending::Exited(137),
    }
}

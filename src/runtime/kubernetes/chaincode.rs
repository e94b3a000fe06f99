//! The orders for chaincode containers: record, files, launch, end and removal. Called through
//! the trait in `kubernetes`, which has taken the container's turn where two orders must not overlap.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
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
use super::wait::{state_of, state_of_verdict};
use crate::grant::Grant;
use crate::names::kubernetes as names;
use crate::names::{ContainerId, ContainerKey, Tenant};
use crate::runtime::found::read_each;
use crate::runtime::{
    ChaincodeSpec, Error, Found, Life, Outcome, Place, Started, State, UploadedFile,
};

/// How often a patch is tried anew when somebody else changed the record meanwhile.
const PATCHES: usize = 5;
/// How often a launch is tried anew when its pod's name was taken by one that then went.
const LAUNCHES: usize = 3;

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
        Ok(Some(self.found(record)))
    }

    /// What is known of the container of `record`.
    fn found(&self, record: Record) -> Found {
        if let Some(mut launch) = self.launch_of(&record) {
            let verdict = launch.verdict();
            return self.launched(&record, verdict, &launch.evidence());
        }
        let life = Life {
            created: created(&record),
            ..Life::default()
        };
        Found {
            state: record.outcome.map_or(State::Created, state_of),
            spec: record.spec,
            life,
        }
    }

    /// The container of `record` as its pod shows it.
    pub(super) fn launched(&self, record: &Record, verdict: Verdict, evidence: &Evidence) -> Found {
        let ran = matches!(verdict, Verdict::Exited(_));
        let life = Life {
            created: created(record),
            started: evidence.moments.started,
            finished: evidence.moments.finished,
            // These two say no more than the code does.
            why: ran
                .then(|| evidence.why_ended())
                .filter(|why| !matches!(why.as_str(), "Completed" | "Error")),
            out_of_memory: evidence.main.is_out_of_memory(),
            place: Place::Pod {
                namespace: self.settings.namespace.clone(),
                name: evidence.name.clone(),
            },
        };
        Found {
            spec: record.spec.clone(),
            state: state_of_verdict(verdict),
            life,
        }
    }

    pub(super) async fn list_containers(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        let selector = names::tenant_selector(&self.settings.instance, tenant);
        let params = ListParams::default().labels(&selector);
        // Metadata only: contents of files stay where they are, and are read one record at a time.
        let listed = self
            .requests
            .call(|| self.secrets.list_metadata(&params))
            .await
            .map_err(|failure| failure.into_error(&format!("listing secrets of {tenant}")))?;
        let keys = listed.items.into_iter().filter_map(|item| {
            let annotations = item.metadata.annotations?;
            let name = annotations.get(names::CONTAINER_NAME)?.parse().ok()?;
            let tenant = tenant.clone();
            Some(ContainerKey { tenant, name })
        });
        let read = |key| async move { self.record(&key).await };
        let records = read_each(tenant, keys.collect(), read).await?;
        Ok(records
            .into_iter()
            .map(|record| self.found(record))
            .collect())
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

    /// Starts the container. A refusal is noted: whoever waits for the launch, or reads its output, has to hear
    /// of it (protocol rule 10). When the API server is away nobody knows whether there is a pod. How an earlier
    /// launch ended is no answer any more once there is a new pod.
    pub(super) async fn launch(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        let record = self.existing(key).await?;
        let launched = self.launch_pod(&record).await;
        if let Err(Error::Refused(reason)) = &launched {
            self.note_ending(&record, &Ending::NeverStarted(reason.clone()))
                .await;
        }
        let (outcome, follow) = launched?;
        if outcome == Outcome::Done && record.outcome.is_some() {
            self.forget_ending(&record).await;
        }
        let launch = self.followed(record, follow);
        Ok(Started { outcome, launch })
    }

    async fn launch_pod(&self, record: &Record) -> Result<(Outcome, Follow), Error> {
        let key = record.key();
        let pod = self.ordered_pod(record)?;
        self.see_to_pull_secret(&pod).await?;
        for _ in 0..LAUNCHES {
            // Asked from the API server, not from the watch: never two processes of one chaincode.
            for there in self.pods_of(key).await? {
                if self.is_launch_of(record, &there) && !self.has_ended(&there) {
                    return Ok((Outcome::Already, self.follow(&there)));
                }
                self.end(&there, Until::Gone).await?;
            }
            if let Some(launched) = self.create_pod(record, &pod).await? {
                return Ok(launched);
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
    async fn create_pod(
        &self,
        record: &Record,
        pod: &Pod,
    ) -> Result<Option<(Outcome, Follow)>, Error> {
        let name = pod.name_any();
        let (there, outcome) = match self.create_needed(pod).await {
            Ok(created) => (created, Outcome::Done),
            Err(failure) if failure.is_taken() => match self.read_pod(&name).await? {
                // Our own, when the first reply was lost; else that of another replica.
                Some(there) if same_order(&there, pod) => (there, Outcome::Done),
                Some(there) if self.is_launch_of(record, &there) && !self.has_ended(&there) => {
                    return Ok(Some((Outcome::Already, self.follow(&there))));
                }
                _ => return Ok(None),
            },
            Err(failure) => return Err(failure.into_error(&format!("creating pod {name}"))),
        };
        let follow = self.follow(&there);
        // A removal by another replica may have looked for pods just before there was this one.
        match self.record(record.key()).await? {
            Some(now) if now.uid == record.uid => Ok(Some((outcome, follow))),
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
            // One that is being deleted may have a second left: that is waited for too.
            let known = self.follow(&pod).evidence();
            if known.is_over() || Evidence::of(&pod, None, Instant::now()).is_over() {
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

    pub(super) async fn remove_container(
        &self,
        key: &ContainerKey,
    ) -> Result<Option<Found>, Error> {
        let record = self.record(key).await?;
        if let Some(record) = &record {
            let ours = Ours::of(&record.metadata, &self.settings.instance)?;
            delete(&self.requests, &self.secrets, &ours, Grace::Own).await?;
        }
        let pods = self.pods_of(key).await?;
        if record.is_none() && pods.is_empty() {
            return Err(Error::NotFound(key.clone()));
        }
        let found = record.map(|record| self.found(record));
        for pod in &pods {
            self.end(pod, Until::Gone).await?;
        }
        Ok(found)
    }

    pub(super) async fn existing(&self, key: &ContainerKey) -> Result<Record, Error> {
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

    pub(super) fn launch_of(&self, record: &Record) -> Option<Follow> {
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

fn created(record: &Record) -> Option<Timestamp> {
    record.metadata.creation_timestamp.as_ref().map(|at| at.0)
}

/// How a launch that was ended by order is noted.
fn ending_of(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::NeverStarted { reason } => Ending::NeverStarted(reason.clone()),
        Verdict::Exited(exit) => Ending::Exited(exit.code),
        Verdict::Starting { .. } | Verdict::Running { .. } => Ending::Exited(137),
    }
}

//! How a compile gets a pod that was made ahead of need (ADR 0015). The run's own Secret names it, so that another replica, or Peitho after a
//! restart, finds the run's pod, and says whether its agent has heard what it is for. `compile` calls it; which pod fits, and who is told what, `runtime::spares` knows.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use tokio::time::{Instant, sleep};

use super::Kubernetes;
use super::class;
use super::evidence::Evidence;
use crate::names::kubernetes as names;
use crate::names::{Digest, SpareId};
use crate::runtime::spares::{HEARD_WITHIN, Taken, Work};
use crate::runtime::{CompileSpec, Error, Milestone};

/// How long a living process may take from the Secret that names a pod to the note that its agent has heard, or that it is given up.
const HANDED_OVER: Duration = HEARD_WITHIN.saturating_add(Duration::from_secs(2));

impl Kubernetes {
    /// A pod for `spec` that waits, if there is one.
    pub(super) fn take_spare(&self, spec: &CompileSpec) -> Result<Option<Taken>, Error> {
        let Some(builder) = self.may_have_spare(spec) else {
            return Ok(None);
        };
        let class = class::class(&spec.into(), &self.settings, &builder)?;
        Ok(self.settings.spares.take(&class))
    }

    /// A pod of its own was made for `spec`.
    pub(super) fn note_missed(&self, spec: &CompileSpec) {
        if self.may_have_spare(spec).is_some() {
            self.settings.spares.note_missed();
        }
    }

    /// The builder of `spec`, by which others are alike: without it none is made ahead of need.
    fn may_have_spare(&self, spec: &CompileSpec) -> Option<Digest> {
        spec.builder.filter(|_| self.settings.spares.are_made())
    }

    /// The pod that was made ahead of need and that `owner`, the Secret of the run `spec`, names: by it `taken` becomes the run's, or an earlier
    /// process gave one to it. `None` where it names none, or none that can be used: then it names none any more.
    pub(super) async fn spare_of_run(
        &self,
        spec: &CompileSpec,
        owner: &ObjectMeta,
        taken: Option<Taken>,
    ) -> Result<Option<(Pod, Taken)>, Error> {
        let Some(name) = spare_of(owner) else {
            return Ok(None);
        };
        let Some(id) = names::spare_of(name) else {
            return Ok(None);
        };
        let work = Work {
            key: spec.key,
            command: spec.command.clone(),
        };
        let pod = self.read_pod(name).await?.filter(is_usable);
        match (pod, taken.filter(|taken| *taken.id() == id)) {
            (Some(pod), Some(taken)) => {
                if taken.give(work).await {
                    spec.milestones.reach(Milestone::Made);
                    return Ok(Some((pod, taken)));
                }
            }
            // Who made it removes it.
            (None, Some(_)) => {}
            (Some(pod), None) => {
                if let Some(taken) = self.handed_by_another(owner, id, spec, work).await? {
                    return Ok(Some((pod, taken)));
                }
            }
            (None, None) => self.discard_named(name).await?,
        }
        tracing::warn!(compile = %spec.key, pod = name, "compile: the pod that was made ahead of need does not answer; the compile gets one of its own");
        self.settings.spares.forget_compile(&spec.key);
        self.forget_spare(owner).await?;
        Ok(None)
    }

    /// The pod of the spare `id` as the run's, which another process began: once that one has handed it over, or is no more, for as long as it may take it is not
    /// to be disturbed. `None` where it has given the pod up, or the agent in there does not answer: then it is gone.
    async fn handed_by_another(
        &self,
        owner: &ObjectMeta,
        id: SpareId,
        spec: &CompileSpec,
        work: Work,
    ) -> Result<Option<Taken>, Error> {
        // It fits no other compile any more.
        let traits = self.traits(&spec.tenant, *spec.key.digest());
        let name = &names::spare(&id);
        let adopt = || {
            let spares = &self.settings.spares;
            spares.adopt(id, traits.clone(), work.clone())
        };
        if has_heard(owner) {
            return Ok(adopt());
        }
        // No watch sees the Secrets of compiles, and no news would tell that the other process is no more.
        sleep(HANDED_OVER).await;
        let Some(now) = self.still_names(owner, name).await? else {
            return Ok(None);
        };
        let Some(taken) = adopt() else {
            return Ok(None);
        };
        if has_heard(&now) {
            return Ok(Some(taken));
        }
        if taken.heard().await {
            // What reported may be in a pod of the compile's own, for which the other process gave this one up.
            let named = self.still_names(owner, name).await?;
            return Ok(named.map(|_| taken));
        }
        drop(taken);
        // A living process whose note did not get through has had the time of three.
        match self.still_names(owner, name).await? {
            Some(now) if has_heard(&now) => return Ok(adopt()),
            Some(_) => self.discard_named(name).await?,
            None => {}
        }
        Ok(None)
    }

    /// The Secret `owner` as it is now, if it still names the pod `name` as the run's.
    async fn still_names(
        &self,
        owner: &ObjectMeta,
        name: &str,
    ) -> Result<Option<ObjectMeta>, Error> {
        let found = self.read_secret(owner.name.as_deref().unwrap_or_default());
        let found = found.await?.filter(|it| it.uid == owner.uid);
        Ok(found.filter(|it| spare_of(it) == Some(name)))
    }

    async fn forget_spare(&self, owner: &ObjectMeta) -> Result<(), Error> {
        let name = owner.name.clone().unwrap_or_default();
        let patch = Patch::Merge(serde_json::json!({
            "metadata": {"uid": owner.uid, "annotations": {names::SPARE_NAME: null, names::SPARE_HEARD: null}}
        }));
        let params = PatchParams::default();
        let sent = || self.secrets.patch_metadata(&name, &params, &patch);
        match self.requests.call(sent).await {
            Ok(_) => Ok(()),
            // It went just now, or is another one.
            Err(failure) if failure.is_not_found() || failure.is_conflict() => Ok(()),
            Err(failure) => Err(failure.into_error(&format!("changing secret {name}"))),
        }
    }
}

/// The pod and Secret that were made ahead of need and are those of the run whose Secret this is.
pub(super) fn spare_of(secret: &ObjectMeta) -> Option<&str> {
    let annotations = secret.annotations.as_ref()?;
    annotations.get(names::SPARE_NAME).map(String::as_str)
}

/// Whether it says that the agent in there has heard what it is for.
fn has_heard(secret: &ObjectMeta) -> bool {
    let annotations = secret.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(names::SPARE_HEARD))
}

fn is_usable(pod: &Pod) -> bool {
    let shown = Evidence::of(pod, None, Instant::now());
    shown.deleting.is_none() && !shown.is_over()
}

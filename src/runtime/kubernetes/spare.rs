//! Pods made ahead of need (ADR 0015): one is a compile's pod in everything, but that its agent waits to hear what to compile. The run that
//! takes one names it in its own Secret, so that another replica, or Peitho after a restart, finds the run's pod. `compile` takes them; called
//! through the trait in `kubernetes`.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use tokio::time::{Instant, sleep};

use super::Kubernetes;
use super::class;
use super::compile_pod::{self, Order};
use super::evidence::Evidence;
use super::follow::Follow;
use super::remove::{Grace, Ours, Until, delete};
use super::verdict::Verdict;
use crate::names::kubernetes as names;
use crate::runtime::compile_agent;
use crate::runtime::spares::{Admitted, Fate, Taken, Work};
use crate::runtime::{CompileSpec, Error, Milestone, SpareSpec};

impl Kubernetes {
    /// Makes a pod for a compile such as `spec` tells, unless one waits already, and sees to it until a compile has it or it is gone.
    pub(super) async fn keep_spare(&self, spec: &SpareSpec) -> Result<(), Error> {
        let order = Order::from(spec);
        let class = class::class(&order, &self.settings, &spec.builder)?;
        let admitted = self.settings.spares.admit(spec.id, &spec.tenant, class);
        let Some(mut admitted) = admitted else {
            return Ok(());
        };
        let seen = self.see_to_spare(&order, &mut admitted, spec).await;
        // No compile takes it from here on.
        drop(admitted);
        if let Ok(Fate::Taken) = seen {
            return Ok(());
        }
        let discarded = self.discard_named(&names::spare(&spec.id)).await;
        seen.map(drop).and(discarded)
    }

    async fn see_to_spare(
        &self,
        order: &Order<'_>,
        admitted: &mut Admitted,
        spec: &SpareSpec,
    ) -> Result<Fate, Error> {
        let (name, token) = (
            names::spare(&spec.id),
            compile_agent::waiting_token(&self.grants, &spec.id),
        );
        let secret = compile_pod::secret(order, &self.settings, &token);
        let made = self.requests.create(&self.secrets, &secret).await;
        let made = made.map_err(|failure| failure.into_error(&format!("creating secret {name}")));
        let owner = made?.metadata;
        let pod = compile_pod::pod(order, &self.settings, &owner)?;
        self.see_to_pull_secret(&pod).await?;
        let made = self.requests.create(&self.pods, &pod).await;
        let pod = made.map_err(|failure| failure.into_error(&format!("creating pod {name}")))?;
        tracing::info!(pod = name, tenant = %spec.tenant, image = %spec.image, "compile: a pod is made ahead of need");
        let grace = self.settings.scheduling_grace;
        let mut follow = Follow::new(self.watch.follow(&pod), grace);
        let uid = owner.uid.unwrap_or_default();
        tokio::select! {
            // What a compile has is its own affair.
            biased;
            fate = admitted.ended() => return Ok(fate),
            verdict = follow.end() => {
                tracing::warn!(pod = name, tenant = %spec.tenant, why = told(&verdict), "compile: a pod that was made ahead of need is over before a compile came");
                return Ok(Fate::Over);
            }
            () = sleep(self.settings.spare_idle) => {}
            never = self.hold(&name, &uid) => match never {},
        }
        tracing::info!(pod = name, tenant = %spec.tenant, "compile: no compile came for a pod that was made ahead of need");
        Ok(admitted.withdrawn().await)
    }

    /// A pod for `spec` that waits, if there is one.
    pub(super) fn take_spare(&self, spec: &CompileSpec) -> Result<Option<Taken>, Error> {
        let spares = &self.settings.spares;
        let Some(builder) = spec.builder.filter(|_| spares.are_made()) else {
            return Ok(None);
        };
        let class = class::class(&spec.into(), &self.settings, &builder)?;
        Ok(spares.take(&class))
    }

    /// The pod that was made ahead of need and that `owner`, the Secret of the run `spec`, names: by it `taken` becomes the run's, or an earlier
    /// process gave one to it. `None` where it names none, or none that can be used: then it names none any more.
    pub(super) async fn spare_of_run(
        &self,
        spec: &CompileSpec,
        owner: &ObjectMeta,
        taken: Option<Taken>,
    ) -> Result<Option<(Pod, Taken)>, Error> {
        let name = (owner.annotations.as_ref()).and_then(|all| all.get(names::SPARE_NAME));
        let Some((name, id)) = name.and_then(|name| Some((name, names::spare_of(name)?))) else {
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
                let taken = self.settings.spares.adopt(id, &spec.tenant, work);
                return Ok(Some((pod, taken)));
            }
            (None, None) => self.discard_named(name).await?,
        }
        tracing::warn!(compile = %spec.key, pod = name, "compile: the pod that was made ahead of need does not answer; the compile gets one of its own");
        self.forget_spare(owner).await?;
        Ok(None)
    }

    async fn forget_spare(&self, owner: &ObjectMeta) -> Result<(), Error> {
        let name = owner.name.clone().unwrap_or_default();
        let patch = Patch::Merge(serde_json::json!({
            "metadata": {"uid": owner.uid, "annotations": {names::SPARE_NAME: null}}
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

    /// Removes the pods that wait; whether there were any.
    pub(super) async fn spares_give_way(&self) -> Result<bool, Error> {
        let gone = self.settings.spares.give_way();
        for id in &gone {
            // One of another namespace is not found here.
            self.discard_named(&names::spare(id)).await?;
        }
        Ok(!gone.is_empty())
    }

    /// Ends the pod called `name` and deletes it and the Secret of the same name, as far as they are there.
    pub(super) async fn discard_named(&self, name: &str) -> Result<(), Error> {
        // The pod first: the Secret's end would take it along, but without waiting for its process.
        if let Some(pod) = self.read_pod(name).await? {
            self.end(&pod, Until::Gone).await?;
        }
        match self.read_secret(name).await? {
            Some(secret) => self.delete_secret(&secret).await,
            None => Ok(()),
        }
    }

    /// Metadata of the Secret called `name`.
    pub(super) async fn read_secret(&self, name: &str) -> Result<Option<ObjectMeta>, Error> {
        let sent = || self.secrets.get_metadata_opt(name);
        let found = self.requests.call(sent).await;
        let found =
            found.map_err(|failure| failure.into_error(&format!("reading secret {name}")))?;
        Ok(found.map(|it| it.metadata))
    }

    pub(super) async fn delete_secret(&self, secret: &ObjectMeta) -> Result<(), Error> {
        let ours = Ours::of(secret, &self.settings.instance)?;
        delete(&self.requests, &self.secrets, &ours, Grace::Own).await
    }
}

fn is_usable(pod: &Pod) -> bool {
    let shown = Evidence::of(pod, None, Instant::now());
    shown.deleting.is_none() && !shown.is_over()
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NeverStarted { reason } => reason.clone(),
        Verdict::Exited(exit) => format!("it ended with {}", exit.code),
        Verdict::Starting { .. } | Verdict::Running { .. } => "it goes on".to_owned(),
    }
}

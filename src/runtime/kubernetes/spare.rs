//! Pods made ahead of need (ADR 0015): one is a compile's pod in everything, but that its agent waits to hear what to compile. Who
//! makes one removes it, unless a compile has it: that is the affair of `hand_over`. Called through the trait in `kubernetes`.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use tokio::time::sleep;

use super::Kubernetes;
use super::class;
use super::compile_pod::{self, Order};
use super::follow::Follow;
use super::hold;
use super::remove::{Grace, Ours, Until, delete};
use super::verdict::Verdict;
use crate::names::kubernetes as names;
use crate::names::{Digest, Tenant};
use crate::runtime::compile_agent;
use crate::runtime::spares::{Admitted, Fate, Traits};
use crate::runtime::{Error, SpareSpec};

impl Kubernetes {
    /// Makes a pod for a compile such as `spec` tells, unless one waits already, and sees to it until a compile has it or it is gone.
    pub(super) async fn keep_spare(&self, spec: &SpareSpec) -> Result<(), Error> {
        let order = Order::from(spec);
        let class = class::class(&order, &self.settings, &spec.builder)?;
        let traits = self.traits(&spec.tenant, class);
        let Some(mut admitted) = self.settings.spares.admit(spec.id, traits) else {
            return Ok(());
        };
        let seen = self.see_to_spare(&order, &mut admitted, spec).await;
        // No compile takes it from here on. One that has it keeps it, whatever became of a request.
        if admitted.end() == Fate::Over {
            self.remove_spare(&names::spare(&spec.id)).await;
            return seen;
        }
        Ok(())
    }

    /// Until a compile has it, or it is of no use any more.
    async fn see_to_spare(
        &self,
        order: &Order<'_>,
        admitted: &mut Admitted,
        spec: &SpareSpec,
    ) -> Result<(), Error> {
        let name = names::spare(&spec.id);
        let owner = self.own_secret(order, spec).await?;
        let pod = compile_pod::pod(order, &self.settings, &owner)?;
        self.see_to_pull_secret(&pod).await?;
        let Some(pod) = self.own_pod(&pod, admitted).await? else {
            return Ok(());
        };
        tracing::info!(pod = name, tenant = %spec.tenant, image = %spec.image, "compile: a pod is made ahead of need");
        let grace = self.settings.scheduling_grace;
        let mut follow = Follow::new(self.watch.follow(&pod), grace);
        let uid = owner.uid.unwrap_or_default();
        tokio::select! {
            // What a compile has is its own affair.
            biased;
            fate = admitted.ended() => {
                if fate == Fate::Over {
                    tracing::info!(pod = name, tenant = %spec.tenant, "compile: a pod that was made ahead of need is given up: its room is needed, it did not answer, or Peitho ends");
                }
                return Ok(());
            }
            verdict = follow.end() => {
                tracing::warn!(pod = name, tenant = %spec.tenant, why = told(&verdict), "compile: a pod that was made ahead of need is over before a compile came");
                return Ok(());
            }
            () = sleep(self.settings.spare_idle) => {}
            never = self.hold(&name, &uid, hold::Pod::Own) => match never {},
        }
        if admitted.withdrawn().await == Fate::Over {
            tracing::info!(pod = name, tenant = %spec.tenant, "compile: no compile came for a pod that was made ahead of need");
        }
        Ok(())
    }

    /// The Secret with the token of one that waits, new. Its name is random: where it is taken, the reply to an earlier attempt was lost.
    async fn own_secret(&self, order: &Order<'_>, spec: &SpareSpec) -> Result<ObjectMeta, Error> {
        let name = names::spare(&spec.id);
        let token = compile_agent::waiting_token(&self.grants, &spec.id);
        let secret = compile_pod::secret(order, &self.settings, &token);
        match self.requests.create(&self.secrets, &secret).await {
            Ok(created) => Ok(created.metadata),
            Err(failure) if failure.is_taken() => {
                let found = self.read_secret(&name).await?;
                found.ok_or_else(|| vanished("secret", &name))
            }
            Err(failure) => Err(failure.into_error(&format!("creating secret {name}"))),
        }
    }

    /// Its pod likewise; `None` where it makes way before it is there. A quota may count the pod of the compile before, which is gone.
    async fn own_pod(&self, pod: &Pod, admitted: &Admitted) -> Result<Option<Pod>, Error> {
        if admitted.is_over() {
            return Ok(None);
        }
        let name = pod.name_any();
        let may_again = || !admitted.is_over();
        let made = self.requests.create_as_counted(&self.pods, pod, may_again);
        match made.await {
            Ok(created) => Ok(Some(created)),
            Err(failure) if failure.is_taken() => {
                let found = self.read_pod(&name).await?;
                found.ok_or_else(|| vanished("pod", &name)).map(Some)
            }
            Err(failure) if failure.is_of_quota() && admitted.is_over() => Ok(None),
            Err(failure) => Err(failure.into_error(&format!("creating pod {name}"))),
        }
    }

    pub(super) fn traits(&self, tenant: &Tenant, class: Digest) -> Traits {
        Traits {
            tenant: tenant.clone(),
            room: self.settings.namespace.clone(),
            class,
        }
    }

    /// Removes a pod that no compile has, and its Secret: while the API server is away, until it can.
    async fn remove_spare(&self, name: &str) {
        let mut is_told = false;
        loop {
            match self.discard_named(name).await {
                Ok(()) => return,
                // Who is away comes back, and a request takes its time before it says so.
                Err(Error::Unavailable(cause)) => {
                    if !is_told {
                        tracing::warn!(
                            pod = name,
                            cause,
                            "compile: a pod that was made ahead of need is not removed yet; it is tried until it is gone"
                        );
                    }
                    is_told = true;
                }
                Err(error) => {
                    tracing::warn!(pod = name, %error, "compile: a pod that was made ahead of need was not removed; Peitho's next start tries again, or delete the pod and the secret of this name");
                    return;
                }
            }
        }
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

fn vanished(kind: &str, name: &str) -> Error {
    Error::Refused(format!(
        "{kind} {name} was made and is gone; see who deletes what is labelled {}",
        names::SPARE
    ))
}

fn told(verdict: &Verdict) -> String {
    match verdict {
        Verdict::NeverStarted { reason } => reason.clone(),
        Verdict::Exited(exit) => format!("it ended with {}", exit.code),
        Verdict::Starting { .. } | Verdict::Running { .. } => "it goes on".to_owned(),
    }
}

#[cfg(test)]
mod tests;

//! How containers end: the wait for it, the orders that end a process or a container, and what those who look on are told.
//! `engine_api` calls it; what ends a process is `builder`'s and the runtime's.

use std::sync::Arc;

use super::builder::Builder;
use super::launches::end_told;
use super::{Containers, Error, Found, Shown};
use crate::events::Action;
use crate::names::{ContainerId, ContainerKey, ContainerRef, Tenant};
use crate::runtime::{self, Exit, Outcome};

impl Containers {
    /// The second step of `wait`: the end.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NeverStarted`].
    pub async fn wait_exit(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
    ) -> Result<Exit, Error> {
        match self.find(tenant, container).await? {
            Found::Builder(_, builder) => builder.wait(std::future::pending()).await,
            Found::Chaincode(key) => self.end_of(&key).await,
        }
    }

    /// The end of a chaincode, which everybody was told by then who looks on.
    pub(super) async fn end_of(&self, key: &ContainerKey) -> Result<Exit, Error> {
        // Before it is asked: a launch that comes later may go on for long.
        let followed = self.0.launches.get(key);
        let end = self.0.runtime.wait_exit(key).await;
        if matches!(end, Ok(_) | Err(runtime::Error::NeverStarted(_))) {
            end_told(followed).await;
        }
        end.map_err(Error::from_runtime)
    }

    /// A builder whose client is gone is forgotten with the end of its compile: nobody will come to remove it.
    pub(super) async fn outlive_client(
        &self,
        tenant: &Tenant,
        id: ContainerId,
        builder: &Arc<Builder>,
    ) {
        builder.over().await;
        if builder.is_forsaken() {
            self.remove_builder(tenant, id, builder);
        }
    }

    /// Stops the container; returns when its process is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn stop(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Outcome, Error> {
        let found = self.find(tenant, container).await?;
        let (outcome, shown) = self.end(tenant, found).await?;
        if let Some(shown) = shown {
            self.tell(tenant, &shown, Action::Stop);
        }
        Ok(outcome)
    }

    /// Kills the container; returns when its process is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRunning`].
    pub async fn kill(&self, tenant: &Tenant, container: &ContainerRef) -> Result<(), Error> {
        let found = self.find(tenant, container).await?;
        match self.end(tenant, found).await? {
            (Outcome::Done, _) => Ok(()),
            (Outcome::Already, _) => Err(Error::NotRunning(container.clone())),
        }
    }

    /// Ends a process; what is known of its container, where it was the one to be told of.
    async fn end(&self, tenant: &Tenant, found: Found) -> Result<(Outcome, Option<Shown>), Error> {
        let key = match found {
            Found::Builder(id, builder) => {
                let outcome = builder.stop();
                let shown = (outcome == Outcome::Done).then(|| {
                    let shown = Shown::of_builder(tenant, id, &builder);
                    self.tell(tenant, &shown, Action::Kill);
                    self.tell_end_of_builder(tenant, id, &builder);
                    shown
                });
                return Ok((outcome, shown));
            }
            Found::Chaincode(key) => key,
        };
        let followed = self.0.launches.get(&key);
        let shown = match followed {
            Some(_) => self.shown(&key).await,
            None => None,
        };
        if let Some(shown) = &shown {
            self.tell(tenant, shown, Action::Kill);
        }
        let outcome = self.0.runtime.stop(&key).await;
        let outcome = outcome.map_err(Error::from_runtime)?;
        end_told(followed.filter(|_| outcome == Outcome::Done)).await;
        Ok((outcome, shown.filter(|_| outcome == Outcome::Done)))
    }

    /// Removes the container, running or not: the name is free when this returns (protocol rule 18).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove(&self, tenant: &Tenant, container: &ContainerRef) -> Result<(), Error> {
        let key = match self.find(tenant, container).await? {
            Found::Builder(id, builder) => {
                builder.stop();
                self.remove_builder(tenant, id, &builder);
                return Ok(());
            }
            Found::Chaincode(key) => key,
        };
        let (followed, shown) = (self.0.launches.get(&key), self.shown(&key).await);
        let removed = self.0.runtime.remove(&key).await;
        removed.map_err(Error::from_runtime)?;
        end_told(followed).await;
        self.0.launches.forget(&key);
        if let Some(shown) = shown {
            self.tell(tenant, &shown, Action::Destroy);
        }
        Ok(())
    }

    fn tell_end_of_builder(&self, tenant: &Tenant, id: ContainerId, builder: &Builder) {
        builder.tell_end(self.events(), tenant, id);
    }

    fn remove_builder(&self, tenant: &Tenant, id: ContainerId, builder: &Builder) {
        self.tell_end_of_builder(tenant, id, builder);
        if self.0.builders.remove(tenant, &id) {
            let shown = Shown::of_builder(tenant, id, builder);
            self.tell(tenant, &shown, Action::Destroy);
        }
    }
}

//! How containers end: the wait for it, the orders that end a process or a container, and what those who look on are told.
//! `engine_api` calls it; what ends a process is `builder`'s and the runtime's.

use std::sync::Arc;

use super::builder::Builder;
use super::followed::{Followed, end_told};
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

    /// The end of a chaincode, which everybody was told by then who looks on, if that does not take long.
    pub(super) async fn end_of(&self, key: &ContainerKey) -> Result<Exit, Error> {
        // Before it is asked: a launch that comes later may go on for long.
        let followed = self.0.launches.get(key);
        let end = self.0.runtime.wait_exit(key).await;
        if matches!(end, Ok(_) | Err(runtime::Error::NeverStarted(_))) {
            end_told(followed.as_ref()).await;
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
                return Ok(builder.in_order(|told| {
                    let outcome = builder.stop();
                    let shown = (outcome == Outcome::Done).then(|| {
                        let shown = Shown::of_builder(tenant, id, &builder);
                        self.tell(tenant, &shown, Action::Kill);
                        builder.tell_end_once(told, self.events(), tenant, id);
                        shown
                    });
                    (outcome, shown)
                }));
            }
            Found::Chaincode(key) => key,
        };
        let followed = self.0.launches.get(&key);
        let shown = followed.as_ref().map(Followed::shown);
        if let Some(shown) = &shown {
            self.tell(tenant, shown, Action::Kill);
        }
        let outcome = self.0.runtime.stop(&key).await;
        let outcome = outcome.map_err(Error::from_runtime)?;
        if outcome == Outcome::Already {
            return Ok((outcome, None));
        }
        end_told(followed.as_ref()).await;
        if shown.is_some() {
            return Ok((outcome, shown));
        }
        // Nobody followed it: another process started it, or an order whose client went.
        let shown = self.seen(&key).await;
        if let Some(shown) = &shown {
            self.tell(tenant, shown, Action::Kill);
        }
        Ok((outcome, shown))
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
        let followed = self.0.launches.get(&key);
        let removed = self.0.runtime.remove(&key).await;
        let found = removed.map_err(Error::from_runtime)?;
        end_told(followed.as_ref()).await;
        self.0.launches.forget(&key);
        let known = || followed.as_ref().map(Followed::shown);
        if let Some(shown) = found.map(Shown::from).or_else(known) {
            self.tell(tenant, &shown, Action::Destroy);
        }
        Ok(())
    }

    fn remove_builder(&self, tenant: &Tenant, id: ContainerId, builder: &Builder) {
        builder.tell_end(self.events(), tenant, id);
        if self.0.builders.remove(tenant, &id) {
            let shown = Shown::of_builder(tenant, id, builder);
            self.tell(tenant, &shown, Action::Destroy);
        }
    }
}

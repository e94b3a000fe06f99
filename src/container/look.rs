//! Looking at containers: which one a reference means, the list of all, one of them, and its output. `engine_api` calls it
//! for people; the look-up of references serves every request.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Containers, Error, Found, Reading, Shown};
use crate::names::{ContainerId, ContainerKey, ContainerRef, Digest, ImageName, Tenant};
use crate::runtime::{LogStream, State};

impl Containers {
    /// All containers of `tenant`, the newest first.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub async fn list(&self, tenant: &Tenant) -> Result<Vec<Shown>, Error> {
        let found = self.0.runtime.list(tenant).await;
        let found = found.map_err(Error::from_runtime)?;
        let mut all: Vec<Shown> = found.into_iter().map(Shown::from).collect();
        let builders = self.0.builders.of(tenant);
        all.extend(
            builders
                .iter()
                .map(|(id, builder)| Shown::of_builder(tenant, *id, builder)),
        );
        all.sort_by(|one, other| {
            let key = |it: &Shown| (it.life.created, it.id);
            key(other).cmp(&key(one))
        });
        Ok(all)
    }

    /// One container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Runtime`].
    pub async fn show(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Shown, Error> {
        match self.find(tenant, container).await? {
            Found::Builder(id, builder) => Ok(Shown::of_builder(tenant, id, &builder)),
            Found::Chaincode(key) => {
                let found = self.0.runtime.find(&key).await;
                let found = found.map_err(Error::from_runtime)?;
                found
                    .map(Shown::from)
                    .ok_or_else(|| Error::NotFound(container.clone()))
            }
        }
    }

    /// The output of a container as `reading` asks for it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::WholeLog`], [`Error::Runtime`].
    pub async fn read(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
        reading: Reading,
    ) -> Result<LogStream, Error> {
        match self.find(tenant, container).await? {
            Found::Builder(..) if reading.needs_lines() => Err(Error::WholeLog),
            Found::Builder(_, builder) => Ok(builder.read_log(reading.extent())),
            Found::Chaincode(key) => {
                let lines = self.0.runtime.lines(&key, &reading.lines).await;
                Ok(reading.of(lines.map_err(Error::from_runtime)?))
            }
        }
    }

    /// Removes a container that does not run and is not about to.
    ///
    /// # Errors
    /// [`Error::Running`]; [`Error::NotFound`], [`Error::Ambiguous`], [`Error::Runtime`].
    pub async fn remove_stopped(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
    ) -> Result<(), Error> {
        let state = self.show(tenant, container).await?.state;
        if matches!(state, State::Starting | State::Running) {
            return Err(Error::Running(container.clone()));
        }
        self.remove(tenant, container).await
    }

    /// That no container of `tenant` was made of `image`.
    ///
    /// # Errors
    /// [`Error::ImageInUse`], [`Error::Runtime`].
    pub async fn check_unused(&self, tenant: &Tenant, image: &ImageName) -> Result<(), Error> {
        let mut all = self.list(tenant).await?.into_iter();
        match all.find(|it| it.image == *image) {
            None => Ok(()),
            Some(user) => Err(Error::ImageInUse {
                image: image.clone(),
                container: user
                    .name
                    .map_or_else(|| user.id.to_string(), |name| name.to_string()),
            }),
        }
    }

    /// The layers of which containers of `tenants` were made, whatever became of the images since.
    ///
    /// # Errors
    /// [`Error::Runtime`].
    pub async fn layers(
        &self,
        tenants: impl IntoIterator<Item = &Tenant>,
    ) -> Result<HashSet<Digest>, Error> {
        let mut layers = HashSet::new();
        for tenant in tenants {
            let found = self.0.runtime.list(tenant).await;
            let found = found.map_err(Error::from_runtime)?;
            layers.extend(found.iter().map(|it| it.spec.layer.blob.digest));
        }
        Ok(layers)
    }

    pub(super) async fn find(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
    ) -> Result<Found, Error> {
        match container {
            ContainerRef::Name(name) => {
                let key = ContainerKey {
                    tenant: tenant.clone(),
                    name: name.clone(),
                };
                // No name that a peer makes is one: it is not looked up for them.
                match container.as_prefix() {
                    Some(prefix) => self.find_prefix(key, prefix).await,
                    None => Ok(Found::Chaincode(key)),
                }
            }
            ContainerRef::Id(id) => {
                if let Some(builder) = self.0.builders.get(tenant, id) {
                    return Ok(Found::Builder(*id, builder));
                }
                let key = self
                    .0
                    .runtime
                    .find_id(tenant, id)
                    .await
                    .map_err(Error::from_runtime)?;
                key.map(Found::Chaincode)
                    .ok_or_else(|| Error::NotFound(container.clone()))
            }
        }
    }

    /// The container called so, else the one whose id begins so: a name goes before an id, as in Docker.
    async fn find_prefix(&self, key: ContainerKey, prefix: &str) -> Result<Found, Error> {
        let named = self.0.runtime.find(&key).await;
        if named.map_err(Error::from_runtime)?.is_some() {
            return Ok(Found::Chaincode(key));
        }
        let begins = |id: &ContainerId| id.to_string().starts_with(prefix);
        let builders = self.0.builders.of(&key.tenant);
        let builders = builders.iter().filter(|(id, _)| begins(id));
        let mut found: Vec<Found> = builders
            .map(|(id, builder)| Found::Builder(*id, Arc::clone(builder)))
            .collect();
        let listed = self.0.runtime.list(&key.tenant).await;
        let listed = listed.map_err(Error::from_runtime)?.into_iter();
        found.extend(
            listed
                .filter(|it| begins(&it.spec.id))
                .map(|it| Found::Chaincode(it.spec.key)),
        );
        match found.len() {
            // The runtime says that there is none of this name.
            0 => Ok(Found::Chaincode(key)),
            1 => Ok(found.remove(0)),
            _ => Err(Error::Ambiguous(ContainerRef::Name(key.name))),
        }
    }
}

//! Several runtimes as one, where tenants have namespaces of their own: each order goes to the runtime of the tenant
//! whose it is, and nothing of one is asked of another. `serve` makes one for each namespace and puts them together
//! here. It knows no cluster, and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use super::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, Launch, LineQuery, LineStream, LogStream,
    Outcome, Runtime, Started, State, UploadedFile,
};
use crate::config::ByTenant;
use crate::names::{CompileKey, ContainerId, ContainerKey, Tenant};

/// The runtime of each tenant.
pub struct Namespaces {
    all: Vec<Arc<dyn Runtime>>,
    of: ByTenant<Arc<dyn Runtime>>,
}

impl Namespaces {
    /// `general` for tenants that are not named in `others`.
    pub fn new(
        general: Arc<dyn Runtime>,
        others: impl IntoIterator<Item = (Arc<dyn Runtime>, Vec<Tenant>)>,
    ) -> Self {
        let mut all = vec![Arc::clone(&general)];
        let mut own = Vec::new();
        for (runtime, tenants) in others {
            own.extend(tenants.into_iter().map(|it| (it, Arc::clone(&runtime))));
            all.push(runtime);
        }
        let of = ByTenant::new(general, own);
        Self { all, of }
    }

    fn of(&self, tenant: &Tenant) -> &dyn Runtime {
        &**self.of.of(tenant)
    }
}

#[async_trait]
impl Runtime for Namespaces {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        self.of(&spec.key.tenant).create(spec).await
    }

    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        self.of(&key.tenant).find(key).await
    }

    async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        self.of(tenant).find_id(tenant, id).await
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        self.of(tenant).list(tenant).await
    }

    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error> {
        self.of(&key.tenant).put_files(key, files).await
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        Arc::clone(self.of.of(&key.tenant)).start(key).await
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error> {
        self.of(&key.tenant).wait_running(key).await
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        self.of(&key.tenant).wait_exit(key).await
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error> {
        Arc::clone(self.of.of(&key.tenant)).follow(key).await
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        self.of(&key.tenant).stop(key).await
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        self.of(&key.tenant).remove(key).await
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        self.of(&key.tenant).logs(key).await
    }

    async fn lines(&self, key: &ContainerKey, query: &LineQuery) -> Result<LineStream, Error> {
        self.of(&key.tenant).lines(key, query).await
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        self.of(&spec.tenant).compile(spec).await
    }

    /// Those of all that tell: what one refuses must not keep what others have.
    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        let asked = join_all(self.all.iter().map(|it| it.unheld(grace)));
        let mut keys = Vec::new();
        for found in asked.await {
            match found {
                Ok(found) => keys.extend(found),
                Err(error @ Error::Unavailable(_)) => return Err(error),
                Err(error) => tracing::warn!(
                    %error,
                    "compile: what an earlier process left in one of the namespaces was not removed; the next start tries again"
                ),
            }
        }
        Ok(keys)
    }

    async fn discard(&self, tenant: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        match tenant {
            Some(owner) => self.of(owner).discard(tenant, key).await,
            // Where it is found need not be where its tenant is now.
            None => {
                let discarded = self.all.iter().map(|it| it.discard(None, key));
                join_all(discarded).await.into_iter().collect()
            }
        }
    }

    async fn ready(&self) -> Result<(), Error> {
        let asked = self.all.iter().map(|it| it.ready());
        join_all(asked).await.into_iter().collect()
    }
}

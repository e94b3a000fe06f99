//! Several runtimes as one, where tenants have namespaces of their own: each order goes to the runtime of the tenant
//! whose it is, and nothing of one is asked of another. `serve` makes one for each namespace and puts them together
//! here. It knows no cluster; all that it keeps is where it found what an earlier process left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;

use super::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, Launch, LineQuery, LineStream, LogStream,
    Outcome, Runtime, SpareSpec, Spares, Started, State, UploadedFile,
};
use crate::config::ByTenant;
use crate::names::{CompileKey, ContainerId, ContainerKey, ImageName, Tenant};

/// The runtime of each tenant.
pub struct Namespaces {
    all: Vec<Arc<dyn Runtime>>,
    of: ByTenant<Arc<dyn Runtime>>,
    /// Where [`Runtime::unheld`] found what is not discarded yet: that need not be where its tenant is now.
    left: Mutex<HashMap<CompileKey, Vec<Arc<dyn Runtime>>>>,
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
        let left = Mutex::default();
        Self { all, of, left }
    }

    fn of(&self, tenant: &Tenant) -> &dyn Runtime {
        &**self.of.of(tenant)
    }

    fn left(&self) -> MutexGuard<'_, HashMap<CompileKey, Vec<Arc<dyn Runtime>>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn disk_limit(&self, tenant: &Tenant, image: &ImageName) -> Option<u64> {
        self.of(tenant).disk_limit(tenant, image)
    }

    async fn spare(&self, spec: &SpareSpec) -> Result<(), Error> {
        self.of(&spec.tenant).spare(spec).await
    }

    /// All have the same.
    fn spares(&self) -> Option<&Spares> {
        self.of.general().spares()
    }

    /// Those of all that tell: what one refuses must not keep what others have.
    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        let asked = self.all.iter().map(|it| it.unheld(grace));
        let mut left: HashMap<_, Vec<_>> = HashMap::new();
        for (runtime, found) in self.all.iter().zip(join_all(asked).await) {
            match found {
                Ok(keys) => {
                    for key in keys {
                        left.entry(key).or_default().push(Arc::clone(runtime));
                    }
                }
                Err(error @ Error::Unavailable(_)) => return Err(error),
                Err(error) => tracing::warn!(
                    %error,
                    "compile: what an earlier process left in one of the namespaces was not removed; the next start tries again"
                ),
            }
        }
        let keys = left.keys().copied().collect();
        *self.left() = left;
        Ok(keys)
    }

    async fn discard(&self, tenant: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        if let Some(owner) = tenant {
            return self.of(owner).discard(tenant, key).await;
        }
        let places = self.left().get(key).cloned().unwrap_or_default();
        let asked = join_all(places.iter().map(|it| it.discard(None, key)));
        // One that is away comes back, and is asked again: it is told before a refusal that stays.
        let is_away = |it: &Result<(), Error>| matches!(it, Err(Error::Unavailable(_)));
        let (away, others): (Vec<_>, Vec<_>) = asked.await.into_iter().partition(is_away);
        let discarded: Result<(), Error> = away.into_iter().chain(others).collect();
        if discarded.is_ok() {
            self.left().remove(key);
        }
        discarded
    }

    async fn ready(&self) -> Result<(), Error> {
        let asked = self.all.iter().map(|it| it.ready());
        join_all(asked).await.into_iter().collect()
    }
}

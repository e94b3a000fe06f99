//! Containers as pods (design D8, D9, D11, D12): a record is a Secret, a launch is a bare Pod, a compile is
//! a Secret and a Pod. `container` and `compile` call it through [`Runtime`]; it knows neither, nor the
//! wire. All state is in the cluster; what is in memory are watches of it.
//!
//! `record`, `pod`, `compile_pod`, `class`, `platform`, `template`, `templates`, `overlay`, `surroundings`, `verdict` and `evidence` are
//! pure. `chaincode`, `wait`, `course`, `logs` and `compile` carry out the orders; `spare` makes pods for compiles to come, `hand_over` gives them to those, `room` has them make way; `ahead` keeps output for slow readers; `hold` tells which compiles are somebody's;
//! `pull_secret` hands the nodes their login; `request` sends, `remove` deletes, `watch` sees, `follow` waits, `rehearsal` asks in advance.

mod access;
mod ahead;
mod chaincode;
mod class;
mod compile;
mod compile_pod;
mod connect;
mod course;
mod disk_limit;
mod evidence;
mod follow;
mod hand_over;
mod hold;
mod instance;
mod logs;
mod overlay;
mod platform;
mod pod;
mod pull_secret;
mod record;
mod rehearsal;
mod remove;
mod request;
mod room;
mod roster;
mod spare;
mod surroundings;
mod template;
mod template_check;
mod templates;
mod verdict;
mod wait;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client};

use self::request::{Failure, Requests, unavailable};
use self::watch::Watch;
use super::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, Launch, LineQuery, LineStream, LogStream,
    Outcome, Runtime, SpareSpec, Spares, Started, State, Surroundings, UploadedFile,
};
use crate::config::{ByBuilder, ByTenant, HostAlias, PullPolicy, Quantities, RunAs};
use crate::grant::Grants;
use crate::names::{
    Architecture, CompileKey, ContainerId, ContainerKey, Digest, ImageName, InstanceName, Tenant,
};
use crate::orders::Orders;
use crate::registry::Places;
use crate::store::Store;

pub use self::access::{RIGHTS, Right, check_access};
pub use self::connect::{ConnectError, Connection, connect};
pub use self::instance::{load, load_or_create};
pub use self::pull_secret::PullSecret;
pub use self::templates::Templates;

/// How long orders wait for the watches after a start of Peitho.
const LISTED_WITHIN: Duration = Duration::from_secs(60);
/// How old an answer of the API server may be to count as a sign of life.
const LATELY: Duration = Duration::from_secs(15);

/// What pods are made with: sections of the configuration, put together by `serve`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of records and pods.
    pub namespace: String,
    /// Which Peitho the objects belong to.
    pub instance: InstanceName,
    /// Lines added to `/etc/hosts` of pods.
    pub host_aliases: Vec<HostAlias>,
    /// Names of Secrets with which the node pulls images.
    pub image_pull_secrets: Vec<String>,
    /// With what nodes pull from the registry of what is built, beside `image_pull_secrets`.
    pub pull_secret: PullSecret,
    /// Where nodes pull images from, when that is not where their names say.
    pub places: Places,
    /// That of the nodes that run pods, where the operator says it: for images of which no registry told theirs.
    pub architecture: Option<Architecture>,
    /// When the node asks the registry for an image that it has.
    pub image_pull_policy: PullPolicy,
    /// How long a pod may stay without a node.
    pub scheduling_grace: Duration,
    /// The image that holds Peitho's program, as the node pulls it.
    pub agent_image: String,
    /// `https://host:port` of the delivery listener as pods reach it.
    pub delivery_address: String,
    /// The certificate authority of the delivery listener.
    pub delivery_ca_pem: String,
    /// User and group of compile pods whose image names none by number.
    pub compile_run_as_user: RunAs,
    /// After how long a compile is ended.
    pub compile_timeout: Duration,
    /// Where compiles meet pods that were made ahead of need: the same in all namespaces.
    pub spares: Spares,
    /// How long such a pod waits for a compile.
    pub spare_idle: Duration,
    /// User and group of chaincode pods whose image names none by number.
    pub chaincode_run_as_user: RunAs,
    /// What compile pods trust, and the proxies they use.
    pub surroundings: Surroundings,
    /// The tenants whose pods are made here.
    pub tenants: Vec<Tenant>,
    /// What pods are given, by whose they are.
    pub provisions: ByTenant<Provision>,
}

/// What pods of a tenant are given, and what the operator lays over them.
#[derive(Clone, Debug, Default)]
pub struct Provision {
    /// Resource requests of compile pods, by their builder.
    pub compile_requests: ByBuilder,
    /// Resource limits of compile pods.
    pub compile_limits: ByBuilder,
    /// Resource requests of chaincode pods, also of what fetches their layer.
    pub chaincode_requests: Quantities,
    /// What the operator lays over pods.
    pub templates: Templates,
}

impl Settings {
    /// Digest of what in these settings the result of a tenant's compile may depend on; `None` for nothing.
    pub fn compile_digest(&self) -> ByTenant<Option<Digest>> {
        let surroundings = self.surroundings.digest();
        self.provisions.map(|provision| {
            let parts = [surroundings, provision.templates.compile_digest()];
            let text = parts.map(|part| part.map_or(String::new(), |digest| digest.to_string()));
            parts
                .iter()
                .any(Option::is_some)
                .then(|| Digest::of(text.join(" ").as_bytes()))
        })
    }
}

/// The runtime that runs containers as pods of one namespace.
pub struct Kubernetes {
    pods: Api<Pod>,
    secrets: Api<Secret>,
    settings: Settings,
    store: Store,
    grants: Grants,
    requests: Arc<Requests>,
    watch: Watch,
    containers: Orders<ContainerKey>,
    compiles: Orders<CompileKey>,
}

impl Kubernetes {
    /// Begins to watch the namespace. It waits for nothing: [`Runtime::ready`] says when all is known. Output waits in `store`
    /// for who reads it slowly.
    ///
    /// # Errors
    /// [`Error::Refused`] when the settings cannot serve.
    pub async fn start(
        client: Client,
        settings: Settings,
        store: Store,
        grants: Grants,
    ) -> Result<Arc<Self>, Error> {
        if settings.namespace.is_empty() {
            return Err(Error::Refused(
                "no namespace for chaincode is known; set kubernetes.namespace".to_owned(),
            ));
        }
        let requests = Arc::new(Requests::default());
        let watch = Watch::start(&client, &settings, Arc::clone(&requests));
        Ok(Arc::new(Self {
            pods: Api::namespaced(client.clone(), &settings.namespace),
            secrets: Api::namespaced(client, &settings.namespace),
            settings,
            store,
            grants,
            requests,
            watch,
            containers: Orders::default(),
            compiles: Orders::default(),
        }))
    }

    /// Orders need to know what runs: after a start they wait for the first lists.
    async fn listed(&self) -> Result<(), Error> {
        self.watch
            .listed(LISTED_WITHIN)
            .await
            .map_err(|trouble| unavailable(&trouble))
    }

    /// The pod called `name`, asked from the API server.
    async fn read_pod(&self, name: &str) -> Result<Option<Pod>, Error> {
        self.requests
            .call(|| self.pods.get_opt(name))
            .await
            .map_err(|failure| failure.into_error(&format!("reading pod {name}")))
    }
}

#[async_trait]
impl Runtime for Kubernetes {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        let _turn = self.containers.turn(&spec.key).await;
        self.create_record(spec).await
    }

    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        self.listed().await?;
        self.find_container(key).await
    }

    async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        self.find_container_id(tenant, id).await
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        self.listed().await?;
        self.list_containers(tenant).await
    }

    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error> {
        let _turn = self.containers.turn(key).await;
        self.add_files(key, &files).await
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        self.listed().await?;
        let _turn = self.containers.turn(key).await;
        Arc::clone(&self).launch(key).await
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error> {
        self.listed().await?;
        self.until_running(key).await
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        self.listed().await?;
        self.until_exit(key).await
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error> {
        self.listed().await?;
        self.follow_launch(key).await
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        self.listed().await?;
        let _turn = self.containers.turn(key).await;
        self.end_launch(key).await
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        self.listed().await?;
        let _turn = self.containers.turn(key).await;
        self.remove_container(key).await
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        self.listed().await?;
        self.follow_logs(key).await
    }

    async fn lines(&self, key: &ContainerKey, query: &LineQuery) -> Result<LineStream, Error> {
        self.listed().await?;
        self.read_lines(key, query).await
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        self.listed().await?;
        self.run_compile(spec).await
    }

    fn disk_limit(&self, tenant: &Tenant, image: &ImageName) -> Option<u64> {
        disk_limit::of(tenant, image, &self.settings)
    }

    async fn spare(&self, spec: &SpareSpec) -> Result<(), Error> {
        self.listed().await?;
        self.keep_spare(spec).await
    }

    fn spares(&self) -> Option<&Spares> {
        Some(&self.settings.spares)
    }

    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        self.unheld_compiles(grace).await
    }

    async fn discard(&self, _: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        let _turn = self.compiles.turn(key).await;
        self.discard_compile(key).await
    }

    async fn ready(&self) -> Result<(), Error> {
        if let Some(trouble) = self.watch.trouble() {
            return Err(unavailable(&trouble));
        }
        if self.requests.answered_within(LATELY) {
            return Ok(());
        }
        let one = ListParams::default().limit(1);
        match self.requests.once(self.pods.list_metadata(&one)).await {
            Ok(_) => Ok(()),
            Err(Failure::Away(cause)) => Err(unavailable(&cause)),
            Err(failure) => Err(failure.into_error("listing pods")),
        }
    }
}

#[cfg(test)]
mod tests;

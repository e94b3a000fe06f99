//! Containers of an existing Docker Engine: a chaincode is a container of its base image, into which the layer is put;
//! a compile is one of the builder's image, into which this program is put. `container` and `compile` call it through
//! [`Runtime`]; it knows neither, nor the wire. All state is in the engine: the record of a container is the container.
//! Nothing is built there, so nothing but containers is left to clean up.
//!
//! `order`, `record`, `archive`, `position` and `program` are pure. `chaincode`, `wait`, `course`, `logs` and `compile` carry out the orders;
//! `make` makes containers for both; `hold` tells which compiles are somebody's; `pull` gets images, `request` asks, `watch` sees, `transport` connects.

mod archive;
mod chaincode;
mod compile;
mod course;
mod hold;
mod logs;
mod make;
mod order;
mod position;
mod program;
mod pull;
mod record;
mod request;
mod transport;
mod wait;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::ContainerInspectResponse;

use self::request::{Bound, Failure, Requests};
use self::watch::Watch;
use super::surroundings::Surroundings;
use super::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, Launch, LineQuery, LineStream, LogStream,
    Outcome, Runtime, Started, State, UploadedFile,
};
use crate::config::{self, ByBuilder, ByTenant};
use crate::grant::Grants;
use crate::names::{CompileKey, ContainerId, ContainerKey, InstanceName, Tenant};
use crate::orders::Orders;
use crate::registry::{Logins, Places};
use crate::store::Store;

/// The oldest API that has all that is asked here: that of Docker 20.10.
const OLDEST: (u32, u32) = (1, 41);

/// What containers are made with: sections of the configuration, put together by `serve`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which Peitho the containers belong to.
    pub instance: InstanceName,
    /// `https://host:port` of the delivery listener as the engine's host reaches it.
    pub delivery_address: String,
    /// The certificate authority of the delivery listener.
    pub delivery_ca_pem: String,
    /// Resource limits of compiles, by whose they are and by their builder.
    pub compile_limits: ByTenant<ByBuilder>,
    /// After how long a compile is ended.
    pub compile_timeout: Duration,
    /// What compiles trust, and the proxies they use.
    pub surroundings: Surroundings,
    /// Where the engine pulls images from, when that is not where their names say.
    pub places: Places,
    /// With what the engine pulls.
    pub logins: Logins,
    /// The static program that is put into containers of compiles: normally this one, `/proc/self/exe`.
    pub program: PathBuf,
}

/// The runtime that runs containers in a Docker Engine.
pub struct Docker(Arc<Engine>);

/// The engine and what is known of it.
struct Engine {
    docker: bollard::Docker,
    requests: Requests,
    settings: Settings,
    /// CPUs of the engine's host, where it tells them.
    cpus: Option<i64>,
    store: Store,
    grants: Grants,
    watch: Watch,
    containers: Orders<ContainerKey>,
    compiles: Orders<CompileKey>,
}

impl Docker {
    /// Connects to the engine of `section` and begins to watch it. An engine that is away is waited for, for a little.
    ///
    /// # Errors
    /// [`Error::Refused`] when the section cannot serve, or the engine is none that can; [`Error::Unavailable`].
    pub async fn connect(
        section: &config::Docker,
        settings: Settings,
        store: Store,
        grants: Grants,
    ) -> Result<Arc<Self>, Error> {
        let docker = transport::client(section)?;
        let requests = Requests::to(&section.endpoint);
        let failed = |failure| requests.error(failure, "asking its version");
        let version = requests
            .at_start()
            .call(Bound::Short, || docker.version())
            .await
            .map_err(failed)?;
        let api = version.api_version.clone().unwrap_or_default();
        check_version(&api)?;
        let info = requests.call(Bound::Short, || docker.info()).await;
        let cpus = info.map_err(failed)?.ncpu.filter(|cpus| *cpus > 0);
        tracing::info!(
            endpoint = section.endpoint,
            engine = version.version,
            api,
            "a Docker Engine runs containers: whoever reaches it is root on its host"
        );
        let watch = Watch::start(docker.clone(), requests.clone(), &settings.instance);
        let engine = Arc::new(Engine {
            docker,
            requests,
            settings,
            cpus,
            store,
            grants,
            watch,
            containers: Orders::default(),
            compiles: Orders::default(),
        });
        engine.remove_drafts().await;
        Ok(Arc::new(Self(engine)))
    }

    /// Whether compiles can run here at all, as far as that can be told in advance.
    ///
    /// # Errors
    /// [`Error::Refused`] when this program is not the static one.
    pub fn check_compiles(&self) -> Result<(), Error> {
        program::check(&self.0.settings.program).map_err(Error::Refused)
    }
}

fn check_version(api: &str) -> Result<(), Error> {
    let read = api
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match read {
        Some(version) if version >= OLDEST => Ok(()),
        _ => Err(Error::Refused(format!(
            "the Docker Engine has API version {api:?}; at least {}.{} is needed, that of Docker 20.10",
            OLDEST.0, OLDEST.1
        ))),
    }
}

impl Engine {
    /// The container called `name`, or with that id of the engine's, as the engine shows it; asked once.
    async fn look_once(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Failure> {
        let sent = self.docker.inspect_container(name, None);
        found(self.requests.once(Bound::Short, sent).await)
    }

    /// The same, where the engine may be away for a while.
    async fn look(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let asked = self
            .requests
            .call(Bound::Short, || self.docker.inspect_container(name, None))
            .await;
        found(asked).map_err(|failure| {
            self.requests
                .error(failure, &format!("reading container {name}"))
        })
    }
}

fn found<T>(asked: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_no_container() => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl Runtime for Docker {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        self.0.create(spec).await
    }

    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        Ok(self.0.record(key).await?.map(Found::from))
    }

    async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        self.0.find_id(tenant, id).await
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        self.0.list_containers(tenant).await
    }

    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error> {
        let _turn = self.0.containers.turn(key).await;
        self.0.put_files(key, files).await
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        let _turn = self.0.containers.turn(key).await;
        Arc::clone(&self.0).start(key).await
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error> {
        self.0.until_running(key).await
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        self.0.until_exit(key).await
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error> {
        Arc::clone(&self.0).follow_launch(key).await
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let _turn = self.0.containers.turn(key).await;
        self.0.stop(key).await
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let _turn = self.0.containers.turn(key).await;
        self.0.remove(key).await
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        Arc::clone(&self.0).follow_logs(key).await
    }

    async fn lines(&self, key: &ContainerKey, query: &LineQuery) -> Result<LineStream, Error> {
        self.0.read_lines(key, query).await
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        self.0.run_compile(spec).await
    }

    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        self.0.unheld_compiles(grace).await
    }

    async fn discard(&self, _: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        let _turn = self.0.compiles.turn(key).await;
        self.0.discard_compile(key).await
    }

    async fn ready(&self) -> Result<(), Error> {
        let sent = self.0.docker.ping();
        match self.0.requests.once(Bound::Short, sent).await {
            Ok(_) => match self.0.watch.trouble() {
                Some(trouble) => Err(self.0.requests.unavailable(&trouble)),
                None => Ok(()),
            },
            Err(failure) => Err(self.0.requests.error(failure, "asking whether it is there")),
        }
    }
}

#[cfg(test)]
mod tests;

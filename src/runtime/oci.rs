//! Containers on this machine, by a runc-compatible program and without a daemon (ADR 0008). `container` and `compile`
//! call it through [`Runtime`]; it knows neither, nor the wire. All state is in files below one directory, and a
//! container's supervisor outlives Peitho: what a method needs to know it finds there, after a restart too.
//!
//! `records` keeps what was ordered, `rootfs` unpacks images, `composition` says what a container is made of (pure); `host`
//! runs, watches and removes one, by `bundle`, `shim` and the OCI runtime. `chaincode`, `course` and `compile` carry out the orders.

mod chaincode;
mod compile;
mod composition;
mod course;
pub mod host;
mod records;
mod rootfs;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use self::host::{Host, RuntimeProgram, StartError};
use self::records::Records;
use self::rootfs::{Rootfs, RootfsError};
use super::{
    ChaincodeSpec, CompileSpec, Error, Exit, Found, Launch, LineQuery, LineStream, LogStream,
    Outcome, Runtime, Started, State, Surroundings, UploadedFile,
};
use crate::config::{ByBuilder, ByTenant, Quantities};
use crate::grant::Grants;
use crate::names::{CompileKey, ContainerId, ContainerKey, InstanceName, Tenant};
use crate::orders::Orders;
use crate::registry::Registries;
use crate::store::Store;

/// The directory of containers, in [`Settings::directory`].
const CONTAINERS: &str = "containers";

/// What containers are made with: sections of the configuration, put together by `serve`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Peitho's program: it supervises containers, and it is put into those of compiles, where there are no libraries.
    pub peitho: PathBuf,
    /// The runc-compatible program, by path; `None` for the first known one that is there.
    pub program: Option<PathBuf>,
    /// Where images, containers and logs are kept; for this process alone.
    pub directory: PathBuf,
    /// The cgroup below which containers get theirs, absolute.
    pub cgroup_parent: PathBuf,
    /// Which Peitho the containers belong to.
    pub instance: InstanceName,
    /// `https://host:port` of the delivery listener as this machine reaches it.
    pub delivery_address: String,
    /// The certificate authority of the delivery listener.
    pub delivery_ca_pem: String,
    /// What compiles trust, and the proxies they use.
    pub surroundings: Surroundings,
    /// Resource limits of compiles, by whose they are and by their builder.
    pub compile_limits: ByTenant<ByBuilder>,
}

/// Bounds on one container; `None` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu_millis: Option<u64>,
}

impl Limits {
    /// `cpu` and `memory` of Kubernetes' quantities, checked when the configuration was.
    pub fn of(quantities: &Quantities) -> Self {
        let value = |name: &str| {
            let quantity: crate::config::Quantity = quantities.get(name)?.parse().ok()?;
            Some(quantity)
        };
        Self {
            memory: value("memory").map(|quantity| quantity.whole()),
            cpu_millis: value("cpu").map(|quantity| quantity.thousandths()),
        }
    }
}

/// The runtime that runs containers on this machine.
pub struct Oci {
    settings: Settings,
    runtime: RuntimeProgram,
    host: Host,
    rootfs: Rootfs,
    records: Records,
    grants: Grants,
    containers: Orders<ContainerKey>,
    compiles: Orders<CompileKey>,
    /// Compiles that somebody in this process waits for, or did.
    asked: Mutex<HashSet<CompileKey>>,
}

impl Oci {
    /// Finds the OCI runtime, takes the directory, and looks what runs in it.
    ///
    /// # Errors
    /// [`Error::Refused`] in one line that says what is missing and how to get it.
    pub async fn start(
        settings: Settings,
        store: Store,
        registries: Registries,
        grants: Grants,
    ) -> Result<Arc<Self>, Error> {
        let directory = settings.directory.clone();
        let runtime = match &settings.program {
            Some(program) => RuntimeProgram::at(program),
            None => RuntimeProgram::find(),
        };
        let runtime = runtime.map_err(|error| Error::Refused(error.to_string()))?;
        let host = Host::open(
            &directory,
            &runtime,
            &settings.peitho,
            &settings.cgroup_parent,
        )
        .await?;
        let records = Records::open(&directory.join(CONTAINERS), &settings.instance).await?;
        let rootfs = Rootfs::open(&directory, store, registries).await?;
        let oci = Arc::new(Self {
            settings,
            runtime,
            host,
            rootfs,
            records,
            grants,
            containers: Orders::default(),
            compiles: Orders::default(),
            asked: Mutex::default(),
        });
        oci.remove_unrecorded().await?;
        Ok(oci)
    }

    /// What was found, for the log.
    pub fn describe(&self) -> String {
        format!(
            "{} in {}",
            self.runtime.path().display(),
            self.settings.directory.display()
        )
    }

    /// A removal or a creation that was cut short leaves a container without a record.
    async fn remove_unrecorded(&self) -> Result<(), Error> {
        for name in self.records.unrecorded().await? {
            tracing::info!(container = %name, "a container without a record is removed");
            if let Err(error) = self.host.remove(&name).await {
                tracing::error!(container = %name, %error, "it is not; the next start tries again");
            }
        }
        Ok(())
    }
}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<RootfsError> for Error {
    fn from(error: RootfsError) -> Self {
        Self::NeverStarted(error.to_string())
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NeverStarted(reason) => Self::NeverStarted(reason),
            other => Self::Refused(other.to_string()),
        }
    }
}

#[async_trait]
impl Runtime for Oci {
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error> {
        let _turn = self.containers.turn(&spec.key).await;
        self.create_record(spec).await
    }

    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        self.find_container(key).await
    }

    async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error> {
        Ok(self.records.find_id(tenant, id))
    }

    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error> {
        self.list_containers(tenant).await
    }

    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error> {
        let _turn = self.containers.turn(key).await;
        self.add_files(key, files).await
    }

    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error> {
        let _turn = self.containers.turn(key).await;
        Arc::clone(&self).launch(key).await
    }

    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error> {
        self.until_started(key).await
    }

    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error> {
        self.until_exit(key).await
    }

    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error> {
        self.follow_launch(key).await
    }

    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error> {
        let _turn = self.containers.turn(key).await;
        self.end_launch(key).await
    }

    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error> {
        let _turn = self.containers.turn(key).await;
        self.remove_container(key).await
    }

    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error> {
        self.follow_logs(key).await
    }

    async fn lines(&self, key: &ContainerKey, query: &LineQuery) -> Result<LineStream, Error> {
        self.read_lines(key, query).await
    }

    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error> {
        self.run_compile(spec).await
    }

    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error> {
        self.unheld_compiles(grace).await
    }

    async fn discard(&self, _: Option<&Tenant>, key: &CompileKey) -> Result<(), Error> {
        let _turn = self.compiles.turn(key).await;
        self.discard_compile(key).await
    }

    async fn ready(&self) -> Result<(), Error> {
        // It is this process's own: nothing else that it needs can be away.
        match self.host.is_watching() {
            true => Ok(()),
            false => Err(Error::Unavailable(
                "containers of this machine are not watched any more; restart Peitho, they go on"
                    .to_owned(),
            )),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on files does not panic")
}

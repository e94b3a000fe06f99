//! Containers: by id or name, builder or chaincode, chosen once at `create`. `engine_api` is its only
//! caller; below it are `image`, `compile` and `runtime`.

use crate::compile;
use crate::names::{ContainerId, ContainerName, ContainerRef, Digest, ImageName, Tenant};
use crate::runtime::{self, Exit, HostSpec, LogStream, Outcome};
use crate::store::spool::Reader;
use crate::store::{self, Blob, Ingest};
use crate::{archive, image};

/// What can go wrong with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container of this name or id.
    #[error("No such container: {0}")]
    NotFound(ContainerRef),
    /// The image of a chaincode container was not built by Peitho for this tenant.
    #[error("No such image: {0}")]
    ImageMissing(ImageName),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use. You have to remove that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: ContainerName,
    },
    /// `kill` on a container that does not run.
    #[error("Cannot kill container: {0}: Container {0} is not running")]
    NotRunning(ContainerRef),
    /// The request cannot be carried out as it is: what is wrong and what is accepted.
    #[error("{0}")]
    Invalid(String),
    /// The archive that was put is refused.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// The path that was asked for is not there (archive GET).
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// The path.
        path: String,
        /// The container.
        container: ContainerRef,
    },
    /// The process never ran: the reason in the words of Kubernetes.
    #[error("{0}")]
    NeverStarted(String),
    /// Images failed.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A report failed.
    #[error(transparent)]
    Compile(#[from] compile::ReportError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What `create` orders, parsed from Docker's JSON (protocol §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateSpec {
    /// `Image`, as spelled.
    pub image: String,
    /// `Entrypoint`, `None` for `null` and for an empty list.
    pub entrypoint: Option<Vec<String>>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, split at the first `=`.
    pub env: Vec<(String, String)>,
    /// `WorkingDir`, `None` when empty.
    pub working_dir: Option<String>,
    /// `User`, `None` when empty.
    pub user: Option<String>,
    /// What of `HostConfig` has a meaning here.
    pub host: HostSpec,
    /// Names of the HostConfig settings that were given and are ignored: for one log line.
    pub ignored: Vec<String>,
}

/// Output of a container for an attached client.
pub enum Output {
    /// A builder's log.
    Builder(Reader),
    /// A chaincode's output.
    Chaincode(LogStream),
}

/// What a builder left behind, for archive GET: a plain tar.
#[derive(Clone, Debug)]
pub struct BuilderOutput {
    /// The tar.
    pub blob: Blob,
}

/// What `wait` has to say, in two steps: whether heartbeats are allowed, and the end (design D19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It is over already.
    Over(Exit),
    /// It runs: the status line may go out now; ask [`Containers::wait_exit`] for the end.
    Running,
}

/// The door to containers; clones share it.
#[derive(Clone)]
pub struct Containers {}

impl Containers {
    /// Creates a builder (no name) or a chaincode container (named).
    ///
    /// # Errors
    /// [`Error::ImageMissing`], [`Error::NameInUse`], [`Error::Invalid`].
    pub async fn create(
        &self,
        tenant: &Tenant,
        name: Option<ContainerName>,
        spec: CreateSpec,
    ) -> Result<ContainerId, Error> {
        let _ = (tenant, name, spec);
        todo!()
    }

    /// Puts an archive (tar or tar.gz, complete) below `path` of a container that was not started.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archive`], [`Error::Invalid`] for a path that the container does not take.
    pub async fn put_archive(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
        path: &str,
        body: Ingest,
    ) -> Result<(), Error> {
        let _ = (tenant, container, path, body);
        todo!()
    }

    /// The tar of a finished builder's `/chaincode/output/.`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoSuchPath`].
    pub async fn get_archive(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
        path: &str,
    ) -> Result<(BuilderOutput, std::fs::File), Error> {
        let _ = (tenant, container, path, None::<Digest>);
        todo!()
    }

    /// A container's output from its first byte (`logs=1`); may come before the start or after the end.
    /// It ends when the process ends, and also when its start fails (protocol rule 10).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attach(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Output, Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// Says that an attached client of `container` has received all: `wait` of a builder holds its answer
    /// for this, at most two seconds (protocol rule 12).
    pub async fn drained(&self, tenant: &Tenant, container: &ContainerRef) {
        let _ = (tenant, container);
        todo!()
    }

    /// Starts the container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Runtime`].
    pub async fn start(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Outcome, Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// The first step of `wait`: returns when the container runs or is over.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NeverStarted`].
    pub async fn wait_running(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
    ) -> Result<Waiting, Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// The second step of `wait`: the end.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NeverStarted`].
    pub async fn wait_exit(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
    ) -> Result<Exit, Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// Stops the container; returns when its process is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn stop(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Outcome, Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// Kills the container; returns when its process is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotRunning`].
    pub async fn kill(&self, tenant: &Tenant, container: &ContainerRef) -> Result<(), Error> {
        let _ = (tenant, container);
        todo!()
    }

    /// Removes the container, running or not: the name is free when this returns (protocol rule 18).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove(&self, tenant: &Tenant, container: &ContainerRef) -> Result<(), Error> {
        let _ = (tenant, container);
        todo!()
    }
}

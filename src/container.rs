//! Containers: by id or name, builder or chaincode, chosen once at `create`. `engine_api` calls it, and
//! `delivery` asks whether a record still stands; below it are `image`, `compile` and `runtime`.
//!
//! A builder lives in memory only: it belongs to one install of one peer, whose connections die with this
//! process anyway, while its compile goes on and is joined by the next install. A chaincode container
//! lives in its runtime only: whatever is asked is answered from there, so any replica can answer.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretBox};

use crate::compile::{self, Compiles};
use crate::events::Action;
use crate::image::Images;
use crate::names::{
    ContainerId, ContainerKey, ContainerName, ContainerRef, Digest, ImageName, Tenant,
};
use crate::runtime::{self, Exit, HostSpec, Outcome, Runtime};
use crate::store::{self, Blob, Ingest, Store};
use crate::{archive, image};

mod builder;
mod chaincode;
mod ending;
mod followed;
mod happened;
mod launches;
mod look;
mod output;
mod policy;
mod reading;
mod shown;

use builder::{Builder, Builders};
use followed::end_told;
use launches::Launches;
pub use output::Output;
pub use policy::Policy;
pub use reading::{Reading, Stamps};
pub use shown::Shown;

/// The code that Docker gives to a container whose start failed: that of no process.
pub const START_FAILED: i64 = 128;

/// What can go wrong with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container of this name or id.
    #[error("No such container: {0}")]
    NotFound(ContainerRef),
    /// There is no such builder image.
    #[error("No such image: {0}")]
    ImageMissing(ImageName),
    /// The image of a chaincode container was not built by Peitho for this tenant (protocol rule 4 has the
    /// first words).
    #[error(
        "No such image: {0}; chaincode runs only from images that Peitho built for this tenant: install the package again, and restart a peer that says it has it"
    )]
    ImageNotBuilt(ImageName),
    /// The operator does not let this image compile.
    #[error(
        "image {0} may not be used to compile: none of the patterns in compile.allowedImages fits it; use another chaincode.builder, or have the operator of Peitho add it"
    )]
    ImageNotAllowed(ImageName),
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
    /// The output of a compile that was served from the store, and has left it since, or was found damaged.
    #[error(
        "the output {path} of the container {container} is in the store no more: it was removed to make room, or was damaged; install the package again"
    )]
    OutputGone {
        /// The path.
        path: String,
        /// The container, as it was referred to.
        container: ContainerRef,
    },
    /// The process never ran: the reason in the words of Kubernetes.
    #[error("{0}")]
    NeverStarted(String),
    /// What was given is the beginning of several ids.
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(ContainerRef),
    /// Removal without force of what runs.
    #[error(
        "cannot remove container \"{0}\": container is running: stop the container before removing or force remove"
    )]
    Running(ContainerRef),
    /// An image that a container was made of.
    #[error(
        "conflict: unable to remove repository reference \"{image}\" (must force) - container {container} is using it"
    )]
    ImageInUse {
        /// The image.
        image: ImageName,
        /// The name or id of a container.
        container: String,
    },
    /// A compile's log has no times and no last lines.
    #[error(
        "not supported by Peitho: the log of a compile is read as a whole, with or without --follow"
    )]
    WholeLog,
    /// Who waited for the container has gone: there is nobody to answer.
    #[error("the client that waited for the container closed its connection")]
    ClientGone,
    /// Images failed.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The runtime failed.
    #[error(transparent)]
    Runtime(runtime::Error),
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
    /// Names of the HostConfig settings that ask for privileges, which are not given: for one log line.
    pub privileges: Vec<String>,
    /// Names of the HostConfig settings that were given and are ignored: for one log line.
    pub ignored: Vec<String>,
}

/// Who takes an upload.
pub enum Upload {
    /// A builder: its source, through the disk.
    Input(BuilderInput),
    /// A chaincode: files that may be keys, so they never touch the disk.
    Files(ChaincodeFiles),
}

/// Takes the source of a builder.
pub struct BuilderInput(Arc<Builder>);

/// Takes files for a chaincode that was not started.
pub struct ChaincodeFiles {
    runtime: Arc<dyn Runtime>,
    key: ContainerKey,
}

impl BuilderInput {
    /// Puts a complete archive (tar or tar.gz) at `path`, which is `/chaincode/input`.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Invalid`].
    pub async fn put(self, path: &str, archive: Ingest) -> Result<(), Error> {
        self.0.put_input(path, archive).await
    }
}

impl ChaincodeFiles {
    /// More than a record can hold.
    pub const LIMIT: usize = 2 << 20;

    /// Puts the regular files of a complete archive (tar or tar.gz) below `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Archive`], [`Error::Invalid`].
    pub async fn put(self, path: &str, archive: SecretBox<Vec<u8>>) -> Result<(), Error> {
        let files = chaincode::files(path, archive.expose_secret())?;
        self.runtime
            .put_files(&self.key, files)
            .await
            .map_err(Error::from_runtime)
    }
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
pub struct Containers(Arc<Inner>);

struct Inner {
    images: Images,
    compiles: Compiles,
    runtime: Arc<dyn Runtime>,
    store: Store,
    policy: Policy,
    builders: Builders,
    launches: Launches,
}

/// What a reference means, found once per request.
enum Found {
    Builder(ContainerId, Arc<Builder>),
    Chaincode(ContainerKey),
}

impl Containers {
    /// Containers whose chaincode runs on `runtime`, as far as `policy` lets them.
    pub fn new(
        images: Images,
        compiles: Compiles,
        runtime: Arc<dyn Runtime>,
        store: Store,
        policy: Policy,
    ) -> Self {
        Self(Arc::new(Inner {
            launches: Launches::new(images.events().clone()),
            builders: Builders::default(),
            images,
            compiles,
            runtime,
            store,
            policy,
        }))
    }

    /// Creates a builder (no name) or a chaincode container (named).
    ///
    /// # Errors
    /// [`Error::ImageMissing`], [`Error::ImageNotBuilt`], [`Error::ImageNotAllowed`], [`Error::NameInUse`],
    /// [`Error::Invalid`].
    pub async fn create(
        &self,
        tenant: &Tenant,
        name: Option<ContainerName>,
        spec: CreateSpec,
    ) -> Result<ContainerId, Error> {
        let image: ImageName = spec
            .image
            .parse()
            .map_err(|error| Error::Invalid(format!("{error}")))?;
        let id = ContainerId::random();
        let (images, policy) = (&self.0.images, &self.0.policy);
        match name {
            None => {
                policy.check_builder(&image)?;
                let builder = builder::order(images, policy, tenant, image, spec).await?;
                let shown = Shown::of_builder(tenant, id, &builder);
                self.tell(tenant, &shown, Action::Create);
                let forgotten = self.0.builders.insert(tenant, id, builder);
                for (tenant, id, builder) in forgotten {
                    let shown = Shown::of_builder(&tenant, id, &builder);
                    self.tell(&tenant, &shown, Action::Destroy);
                }
            }
            Some(name) => {
                let key = ContainerKey {
                    tenant: tenant.clone(),
                    name,
                };
                let spec = chaincode::order(images, policy, key, id, image, spec).await?;
                self.0
                    .runtime
                    .create(&spec)
                    .await
                    .map_err(Error::from_runtime)?;
                let state = runtime::State::Created;
                let life = runtime::Life::default();
                let shown = Shown::from(runtime::Found { spec, state, life });
                self.tell(tenant, &shown, Action::Create);
            }
        }
        Ok(id)
    }

    /// What takes an upload for `container`: decided before its body is read.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn upload(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Upload, Error> {
        Ok(match self.find(tenant, container).await? {
            Found::Builder(_, builder) => Upload::Input(BuilderInput(builder)),
            Found::Chaincode(key) => Upload::Files(ChaincodeFiles {
                runtime: Arc::clone(&self.0.runtime),
                key,
            }),
        })
    }

    /// The tar of a finished builder's `/chaincode/output/.`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NoSuchPath`], [`Error::OutputGone`].
    pub async fn get_archive(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
        path: &str,
    ) -> Result<(Blob, std::fs::File), Error> {
        let no_such_path = || Error::NoSuchPath {
            path: path.to_owned(),
            container: container.clone(),
        };
        let Found::Builder(_, builder) = self.find(tenant, container).await? else {
            // A chaincode's files are its own (design D16).
            return Err(no_such_path());
        };
        let blob = builder.output(path).ok_or_else(no_such_path)?;
        let found = match self.0.store.open_blob(&blob.digest).await {
            // It is out of the way, so that the next install compiles.
            Err(store::Error::Damaged { .. }) => None,
            found => found?,
        };
        let (file, blob) = found.ok_or_else(|| Error::OutputGone {
            path: path.to_owned(),
            container: container.clone(),
        })?;
        Ok((blob, file))
    }

    /// A container's output from its first byte (`logs=1`); may come before the start or after the end.
    /// It ends when the process ends, and also when its start fails (protocol rule 10). A builder's `wait`
    /// holds its answer until the output was read and dropped, at most two seconds (rule 12).
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attach(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Output, Error> {
        Ok(match self.find(tenant, container).await? {
            Found::Builder(_, builder) => builder.attach(),
            Found::Chaincode(key) => chaincode::attach(Arc::clone(&self.0.runtime), key),
        })
    }

    /// Starts the container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Runtime`].
    pub async fn start(&self, tenant: &Tenant, container: &ContainerRef) -> Result<Outcome, Error> {
        match self.find(tenant, container).await? {
            Found::Builder(id, builder) => self.start_builder(tenant, id, &builder).await,
            Found::Chaincode(key) => self.launch(&key).await,
        }
    }

    /// Starts a builder, and has its end told.
    async fn start_builder(
        &self,
        tenant: &Tenant,
        id: ContainerId,
        builder: &Arc<Builder>,
    ) -> Result<Outcome, Error> {
        let outcome = builder.start(&self.0.compiles).await?;
        if outcome == Outcome::Done {
            let shown = Shown::of_builder(tenant, id, builder);
            // It may have been removed while it was started: then that was told.
            builder.in_order(|is_over| {
                if !*is_over {
                    self.tell(tenant, &shown, Action::Start);
                }
            });
            let (events, tenant) = (self.events().clone(), tenant.clone());
            let builder = Arc::clone(builder);
            self.0.launches.attend(async move {
                builder.ended().await;
                builder.tell_end(&events, &tenant, id);
            });
        }
        Ok(outcome)
    }

    /// The first step of `wait`: returns when the container runs or is over. `gone` is over when the client is
    /// gone: a compile goes on only while somebody waits for it (ADR 0006). A launch is seen through even so,
    /// since a container that will not run has to be given up by somebody.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NeverStarted`], [`Error::ClientGone`].
    pub async fn wait_running(
        &self,
        tenant: &Tenant,
        container: &ContainerRef,
        gone: impl Future<Output = ()>,
    ) -> Result<Waiting, Error> {
        match self.find(tenant, container).await? {
            Found::Builder(id, builder) => match builder.wait(gone).await {
                Err(Error::ClientGone) => {
                    self.outlive_client(tenant, id, &builder).await;
                    Err(Error::ClientGone)
                }
                exit => exit.map(Waiting::Over),
            },
            Found::Chaincode(key) => {
                // Before it is asked: a launch that comes later may go on for long.
                let followed = self.0.launches.get(&key);
                let running = self.0.runtime.wait_running(&key).await;
                match running.map_err(Error::from_runtime)? {
                    runtime::State::Running => {
                        self.see_followed(&key);
                        Ok(Waiting::Running)
                    }
                    runtime::State::Exited(exit) => {
                        end_told(followed.as_ref()).await;
                        Ok(Waiting::Over(exit))
                    }
                    runtime::State::NeverStarted(reason) => {
                        end_told(followed.as_ref()).await;
                        Err(Error::NeverStarted(reason))
                    }
                    _ => self.end_of(&key).await.map(Waiting::Over),
                }
            }
        }
    }

    /// Whether the chaincode container `key` still stands and runs the layer `digest`: what a container's token
    /// for that layer is worth (design D16).
    ///
    /// # Errors
    /// [`Error::Runtime`] when the runtime cannot tell.
    pub async fn stands(&self, key: &ContainerKey, digest: &Digest) -> Result<bool, Error> {
        let found = self
            .0
            .runtime
            .find(key)
            .await
            .map_err(Error::from_runtime)?;
        Ok(found.is_some_and(|found| found.spec.layer.blob.digest == *digest))
    }
}

impl From<compile::Error> for Error {
    fn from(error: compile::Error) -> Self {
        match error {
            compile::Error::Store(error) => Self::Store(error),
            compile::Error::Runtime(error) => Self::from_runtime(error),
        }
    }
}

impl Error {
    /// The runtime's answer in the words of containers.
    fn from_runtime(error: runtime::Error) -> Self {
        match error {
            runtime::Error::NotFound(key) => Self::NotFound(ContainerRef::Name(key.name)),
            runtime::Error::Exists(key) => Self::NameInUse { name: key.name },
            runtime::Error::NeverStarted(reason) => Self::NeverStarted(reason),
            error => Self::Runtime(error),
        }
    }
}

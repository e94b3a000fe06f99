//! What runs containers: the one trait of our own (design D2), and the finished specifications that it
//! takes. `compile` hands it compiles, `container` hands it chaincode. It knows neither of them, nor the
//! wire, nor how an image was built.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretBox;
use serde::{Deserialize, Serialize};

use crate::image_spec::{ImageFacts, Layer};
use crate::names::{
    CompileKey, ContainerId, ContainerKey, Digest, ImageName, Language, SpareId, Tenant,
};
use crate::store::Ingest;
use crate::store::spool::Spool;

mod compile_agent;
pub mod docker;
mod found;
mod instance;
pub mod kubernetes;
mod launch;
mod lines;
mod milestones;
mod namespaces;
pub mod oci;
mod process;
mod spares;
mod surroundings;

pub use found::{Found, Life, Place};
pub use instance::InstanceMaterial;
pub use launch::{Launch, LaunchMark, Started};
pub use lines::{Extent, Line, LineQuery, LineStream};
pub use milestones::{Milestone, Milestones};
pub use namespaces::Namespaces;
pub use spares::{
    Admitted, Counts as SpareCounts, Fate, Spares, Taken, Traits, UnknownSpare, Work,
};
pub use surroundings::{BundleError, Surroundings};

/// What can go wrong with a runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such container.
    #[error("No such container: {0}")]
    NotFound(ContainerKey),
    /// The name is taken.
    #[error("container {0} exists already")]
    Exists(ContainerKey),
    /// The files do not fit a record.
    #[error("{bytes} bytes of files for {key}: the limit is {limit} bytes")]
    FilesTooLarge {
        /// The container.
        key: ContainerKey,
        /// What was uploaded, with what was there.
        bytes: usize,
        /// The most that fits.
        limit: usize,
    },
    /// Whoever runs the containers says no, and will say it again: its words and what to do.
    #[error("{0}")]
    Refused(String),
    /// Whoever runs the containers cannot be reached, also after retries: who that is, and the last cause.
    #[error("{0}")]
    Unavailable(String),
    /// The process never ran (design D11): the reason in the words of whoever should have run it.
    #[error("{0}")]
    NeverStarted(String),
    /// A compile's node ended it for want of room on a disk: the reason in the node's words.
    #[error("{0}")]
    OutOfRoom(String),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its code; 137 when it was killed, by the node or for want of memory. One that obeyed SIGTERM has its own, but on
    /// Kubernetes 137, except that a code that is no usual one for such an end may be told there too.
    pub code: i64,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Created, and never started.
    Created,
    /// Accepted; not running yet.
    Starting,
    /// Its process runs.
    Running,
    /// Its process ran and ended.
    Exited(Exit),
    /// It will not run: the reason in the words of whoever should have run it.
    NeverStarted(String),
}

/// Whether an order changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Done,
    /// It was so already: Docker's 304.
    Already,
}

/// A chaincode container as ordered by `create`: complete, so that any replica can launch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChaincodeSpec {
    /// Tenant and name.
    pub key: ContainerKey,
    /// The id given to the client.
    pub id: ContainerId,
    /// The image as the peer names it.
    pub image: ImageName,
    /// `CORE_CHAINCODE_ID_NAME`, where the environment has it.
    pub package_id: Option<String>,
    /// The language, where the image's labels tell it.
    #[serde(default)]
    pub language: Option<Language>,
    /// The image that the node pulls.
    pub base: ImageName,
    /// What is known of it.
    #[serde(default)]
    pub base_facts: ImageFacts,
    /// What is fetched from Peitho into the base.
    pub layer: Layer,
    /// Base and layer as one image, by its digest, where a registry has it: a node pulls that instead.
    #[serde(default)]
    pub whole: Option<ImageName>,
    /// Docker's `Entrypoint` where the request sets one: replaces that of the image.
    pub entrypoint: Option<Vec<String>>,
    /// Docker's `Cmd`.
    pub args: Vec<String>,
    /// The image's `ENV` and after it the request's, as pairs; later ones win.
    pub env: Vec<(String, String)>,
    /// Docker's `WorkingDir` where the request sets one.
    pub working_dir: Option<String>,
    /// `USER` of the image, where it is known by number.
    pub user: Option<i64>,
    /// What of Docker's HostConfig has a meaning in Kubernetes.
    pub host: HostSpec,
}

impl ChaincodeSpec {
    /// The label of the package, in 1.4 the name of the chaincode: what stands before the `:` of
    /// [`ChaincodeSpec::package_id`].
    pub fn label(&self) -> Option<&str> {
        let id = self.package_id.as_deref()?;
        Some(id.split_once(':').map_or(id, |(label, _)| label))
    }
}

/// The part of Docker's HostConfig that has a meaning in Kubernetes (design D15).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostSpec {
    /// `Memory` in bytes.
    pub memory: Option<u64>,
    /// `CpuQuota`/`CpuPeriod` or `NanoCpus` in thousandths of a CPU.
    pub cpu_millis: Option<u64>,
    /// `Dns`.
    pub dns: Vec<String>,
    /// `DnsSearch`.
    pub dns_search: Vec<String>,
    /// `ExtraHosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `ReadonlyRootfs`.
    pub read_only_root: bool,
    /// `CapAdd` as far as it is allowed, in Kubernetes' spelling: without `CAP_`.
    pub added_capabilities: Vec<String>,
}

/// How names resolve in a container, beside what the cluster knows: `Dns`, `DnsSearch` and `ExtraHosts` of a
/// [`HostSpec`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Addresses of name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Name and address.
    pub extra_hosts: Vec<(String, String)>,
}

impl HostSpec {
    /// The part that says how names resolve.
    pub fn resolution(&self) -> Resolution {
        Resolution {
            dns: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            extra_hosts: self.extra_hosts.clone(),
        }
    }
}

/// A file put into a container before its start. `Debug` does not show the content: it may be a key.
#[derive(Debug)]
pub struct UploadedFile {
    /// Absolute path in the container.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The content.
    pub content: SecretBox<Vec<u8>>,
}

/// A compile as ordered: complete and by its key unique.
#[derive(Clone, Debug)]
pub struct CompileSpec {
    /// What identifies it.
    pub key: CompileKey,
    /// For whom.
    pub tenant: Tenant,
    /// The builder image.
    pub image: ImageName,
    /// Its digest; `None` where nobody could tell.
    pub builder: Option<Digest>,
    /// What else is known of it.
    pub facts: ImageFacts,
    /// The builder's ENTRYPOINT, where known, and the command.
    pub command: Vec<String>,
    /// The request's environment and Peitho's own; later ones win.
    pub env: Vec<(String, String)>,
    /// WORKDIR where the request sets one.
    pub working_dir: Option<String>,
    /// `USER` of the image, where it is known by number.
    pub user: Option<i64>,
    /// How names resolve: sources may come from the network.
    pub resolution: Resolution,
    /// What goes to `/chaincode/input`: tar or tar.gz.
    pub input: Option<Arc<Ingest>>,
    /// The compile's log; the runtime may add notices of its own.
    pub log: Spool,
    /// Where the runtime notes how far it has come.
    pub milestones: Arc<Milestones>,
}

/// A container made ahead of need: what a [`CompileSpec`] says of its container, and nothing of the compile.
#[derive(Clone, Debug)]
pub struct SpareSpec {
    /// What identifies it.
    pub id: SpareId,
    /// For whom.
    pub tenant: Tenant,
    /// The builder image.
    pub image: ImageName,
    /// Its digest.
    pub builder: Digest,
    /// What else is known of it.
    pub facts: ImageFacts,
    /// As of the compiles that it is for.
    pub env: Vec<(String, String)>,
    /// As of the compiles that it is for.
    pub working_dir: Option<String>,
    /// As of the compiles that it is for.
    pub user: Option<i64>,
    /// As of the compiles that it is for.
    pub resolution: Resolution,
}

impl SpareSpec {
    /// One for compiles such as `spec`; `None` where nobody knows its builder.
    pub fn like(spec: &CompileSpec) -> Option<Self> {
        Some(Self {
            id: SpareId::random(),
            tenant: spec.tenant.clone(),
            image: spec.image.clone(),
            builder: spec.builder?,
            facts: spec.facts.clone(),
            env: spec.env.clone(),
            working_dir: spec.working_dir.clone(),
            user: spec.user,
            resolution: spec.resolution.clone(),
        })
    }
}

/// Output of a chaincode's process as it comes; `None` at its end.
pub type LogStream = futures::stream::BoxStream<'static, std::io::Result<bytes::Bytes>>;

/// Runs chaincode and compiles. All of it survives a restart of Peitho: what a method needs to know it
/// finds where the containers are.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Writes the record of a container; nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Exists`] when the name is taken: of two creators one wins.
    async fn create(&self, spec: &ChaincodeSpec) -> Result<(), Error>;

    /// The container `key`, or `None`.
    async fn find(&self, key: &ContainerKey) -> Result<Option<Found>, Error>;

    /// The key of the container of `tenant` with `id`, or `None`.
    async fn find_id(
        &self,
        tenant: &Tenant,
        id: &ContainerId,
    ) -> Result<Option<ContainerKey>, Error>;

    /// All containers of `tenant`, in no order.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    async fn list(&self, tenant: &Tenant) -> Result<Vec<Found>, Error>;

    /// Adds files to a container that was not started.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::FilesTooLarge`].
    async fn put_files(&self, key: &ContainerKey, files: Vec<UploadedFile>) -> Result<(), Error>;

    /// Starts the container: returns when whoever runs it accepted it. Anything of an earlier launch under the
    /// same key is gone first: never two processes of one chaincode. Gives the launch to whoever follows it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`], or [`Error::NeverStarted`] where that is known at once, with the
    /// words of whoever should run it.
    async fn start(self: Arc<Self>, key: &ContainerKey) -> Result<Started, Error>;

    /// Waits until the container runs or is over, whichever is first.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    async fn wait_running(&self, key: &ContainerKey) -> Result<State, Error>;

    /// Waits for the end of the process, for its whole life if need be.
    ///
    /// # Errors
    /// [`Error::NeverStarted`] when it will not run: what was made for it is deleted before.
    async fn wait_exit(&self, key: &ContainerKey) -> Result<Exit, Error>;

    /// Follows the launch that there is now, which [`Runtime::start`] did not give: one of another process, or one whose order
    /// was dropped. What comes after this returns is heard, also when the container is removed. `None` where nothing was launched, or nothing of the launch is left to follow. Whoever hears a
    /// launch that will not run to its end has given it up, as with [`Runtime::wait_exit`].
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`], [`Error::Refused`].
    async fn follow(self: Arc<Self>, key: &ContainerKey) -> Result<Option<Launch>, Error>;

    /// Ends the process; returns when it is gone.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn stop(&self, key: &ContainerKey) -> Result<Outcome, Error>;

    /// Ends the process and deletes all that belongs to the container; returns when it is gone, so that the
    /// name is free. Gives what there was to see of it before, as far as that is known without asking for it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn remove(&self, key: &ContainerKey) -> Result<Option<Found>, Error>;

    /// The output of the container's process, from its beginning, until it ends. Waits for the start.
    async fn logs(&self, key: &ContainerKey) -> Result<LogStream, Error>;

    /// The lines that the container's process wrote in its last launch, with their times. Does not wait for a start: a
    /// container that was not started has none.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when the output is gone.
    async fn lines(&self, key: &ContainerKey, query: &LineQuery) -> Result<LineStream, Error>;

    /// Runs a compile, or joins the run of the same key, and returns when its process is over. Log, output
    /// and the true exit code come by the agent (design D6); this is the verdict for when the agent cannot
    /// report any more. Until it returns or is dropped the run is *held*, visibly to other processes. Neither
    /// returning, with a verdict or an error, nor dropping the future removes anything: that is the caller's, by
    /// [`Runtime::discard`].
    ///
    /// # Errors
    /// [`Error::NeverStarted`], [`Error::OutOfRoom`], [`Error::Refused`].
    async fn compile(&self, spec: &CompileSpec) -> Result<Exit, Error>;

    /// Bytes of disk that a compile of `tenant` in `image` may take before whoever runs it ends it; `None` where the runtime sets no such limit. There may
    /// be others that it does not know of.
    fn disk_limit(&self, _tenant: &Tenant, _image: &ImageName) -> Option<u64> {
        None
    }

    /// Makes a container ahead of need and sees to it until a compile has it, which is that compile's then, or it is of no use any more, and gone.
    /// Dropped before, it stays, as what [`Runtime::unheld`] removes. Without [`Runtime::spares`] this returns at once.
    ///
    /// # Errors
    /// As [`Runtime::compile`].
    async fn spare(&self, _: &SpareSpec) -> Result<(), Error> {
        Ok(())
    }

    /// Where compiles meet such containers; `None` where the runtime makes none.
    fn spares(&self) -> Option<&Spares> {
        None
    }

    /// The compiles that are there and that no process held for the time of `grace`, which this waits for, and
    /// somewhat longer where it takes more to be sure. Containers made ahead of need of which that is true are removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    async fn unheld(&self, grace: Duration) -> Result<Vec<CompileKey>, Error>;

    /// Ends a compile's run, if there is one, and deletes all that belongs to it. Whoever called
    /// [`Runtime::compile`] calls this once, when the run is over for him, however it ended. `tenant` is whose it is; `None`
    /// for one of [`Runtime::unheld`], of which nobody here knows that: it is ended where it was found.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be told what is left: to be called again. [`Error::Refused`].
    async fn discard(&self, tenant: Option<&Tenant>, key: &CompileKey) -> Result<(), Error>;

    /// Whether the runtime can be used now: the readiness of the server.
    ///
    /// # Errors
    /// The cause in one line.
    async fn ready(&self) -> Result<(), Error>;
}

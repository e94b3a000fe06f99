//! What the cases stand on: a runtime, what differs from one runtime to the next, and the making of orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use peitho::names::{ContainerId, ContainerKey, ImageName, Tenant};
use peitho::runtime::{ChaincodeSpec, Error, Exit, HostSpec, Outcome, Runtime, UploadedFile};
use peitho::store::Store;
use secrecy::SecretBox;

use super::layers::{ANSWER, layer};

/// The image that all cases run.
pub(crate) const BASE: &str = "peitho-test/busybox:1";

/// A runtime under test.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// It, connected once for all cases.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// Another one that knows nothing but what is where the containers are: as after a restart of Peitho. None that was given
    /// before is used any more.
    async fn anew(&self) -> Arc<dyn Runtime>;

    /// Two Peithos that share the containers, where the runtime knows such a thing; else one twice.
    async fn two(&self) -> [Arc<dyn Runtime>; 2];

    /// Where layers are kept.
    fn store(&self) -> &Store;

    /// An image with busybox, its applets in the PATH, whose user is root: the subject's own tests bring it.
    fn base(&self) -> ImageName {
        BASE.parse().unwrap()
    }

    /// An image that cannot be had: nobody listens there.
    fn missing(&self) -> ImageName {
        "127.0.0.1:9/nowhere:1".parse().unwrap()
    }

    /// What `wait` tells of a process that was told to end and did, with 143. Kubernetes tells the end of a pod and the order to
    /// end it in whole seconds, and not always the code: there such a process counts as killed.
    fn code_when_told(&self) -> i64 {
        143
    }

    /// The user of a process whose image has root. In pods nothing runs as root (design D16).
    fn root(&self) -> i64 {
        0
    }

    /// The permission bits of a file that was uploaded with these. In pods such files belong to root, and the process reads
    /// them as one of their group.
    fn mode(&self, uploaded: u32) -> u32 {
        uploaded
    }

    /// After how long what goes on in a container is surely known outside. The kubelet looks once a second, and later when
    /// it has much to do.
    fn lag(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The file in which a process finds its own limit of memory.
    fn memory_limit(&self) -> &'static str {
        match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => "/sys/fs/cgroup/memory.max",
            false => "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        }
    }
}

/// One container of a case: no two cases have the same.
pub(crate) struct Order {
    pub(crate) spec: ChaincodeSpec,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Order {
    /// A container that runs `script` in a shell. Its layer has one program, `answer`.
    pub(crate) async fn script(subject: &dyn Subject, script: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "dev-peer0.org1.example.com-case_{}_{number}",
            std::process::id()
        );
        let args = ["sh", "-c", script].map(str::to_owned).into();
        Self {
            spec: ChaincodeSpec {
                key: ContainerKey {
                    tenant: Tenant::default_tenant(),
                    name: name.parse().unwrap(),
                },
                id: ContainerId::random(),
                image: "dev-peer0-case:latest".parse().unwrap(),
                package_id: Some("case:abc".to_owned()),
                language: None,
                base: subject.base(),
                base_facts: Default::default(),
                layer: layer(subject.store(), &[ANSWER]).await,
                whole: None,
                entrypoint: None,
                args,
                env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
                working_dir: None,
                user: Some(0),
                host: HostSpec::default(),
            },
        }
    }

    pub(crate) fn key(&self) -> &ContainerKey {
        &self.spec.key
    }

    pub(crate) fn key_tenant(&self) -> &Tenant {
        &self.spec.key.tenant
    }

    /// Creates it, and starts it.
    pub(crate) async fn launched(self, runtime: &Arc<impl Runtime + ?Sized>) -> Self {
        runtime.create(&self.spec).await.unwrap();
        self.started(runtime).await
    }

    /// Starts it.
    pub(crate) async fn started(self, runtime: &Arc<impl Runtime + ?Sized>) -> Self {
        assert_eq!(start(runtime, self.key()).await.unwrap(), Outcome::Done);
        self
    }

    /// The code of its process, which has to end soon.
    pub(crate) async fn exit(&self, runtime: &dyn Runtime) -> i64 {
        let Exit { code } = soon(runtime.wait_exit(self.key())).await.unwrap();
        code
    }

    /// All of its output, until it ends.
    pub(crate) async fn output(&self, runtime: &dyn Runtime) -> String {
        let logs = soon(runtime.logs(self.key())).await.unwrap();
        String::from_utf8(soon(collected(logs)).await).unwrap()
    }

    pub(crate) async fn removed(&self, runtime: &dyn Runtime) {
        soon(runtime.remove(self.key())).await.unwrap();
        assert!(runtime.find(self.key()).await.unwrap().is_none());
    }
}

/// Starts `key`; nobody follows its launch.
pub(crate) async fn start(
    runtime: &Arc<impl Runtime + ?Sized>,
    key: &ContainerKey,
) -> Result<Outcome, Error> {
    let started = Arc::clone(runtime).start(key).await?;
    Ok(started.outcome)
}

/// What a launch that cannot be comes to: an error from one of its steps, with these words in it.
pub(crate) async fn failed_launch(runtime: &Arc<dyn Runtime>, order: &Order, words: &str) {
    let key = order.key();
    let steps = async {
        runtime.create(&order.spec).await?;
        start(runtime, key).await?;
        runtime.wait_exit(key).await
    };
    let error = soon(steps).await.unwrap_err();
    assert!(
        matches!(error, Error::NeverStarted(_) | Error::Refused(_)),
        "{error:?}"
    );
    assert!(error.to_string().contains(words), "{error}");
}

/// `future`, which must not take long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it takes too long")
}

pub(crate) async fn collected(mut logs: peitho::runtime::LogStream) -> Vec<u8> {
    use futures::StreamExt as _;
    let mut bytes = Vec::new();
    while let Some(part) = logs.next().await {
        bytes.extend_from_slice(&part.unwrap());
    }
    bytes
}

pub(crate) fn file(path: &str, mode: u32, content: &[u8]) -> UploadedFile {
    UploadedFile {
        path: path.to_owned(),
        mode,
        content: SecretBox::new(Box::new(content.to_vec())),
    }
}

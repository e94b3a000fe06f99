//! The engine under test, and Peithos that use it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bollard::query_parameters::{CreateImageOptions, ListContainersOptions};
use futures::TryStreamExt as _;
use peitho::config::{self, ByBuilder, Quantities};
use peitho::grant::Grants;
use peitho::names::InstanceName;
use peitho::registry::{Logins, Places};
use peitho::runtime::docker::{Docker, Settings};
use peitho::runtime::{Runtime, Surroundings};
use peitho::store::Store;
use tempfile::TempDir;
use testbed::{Assets, Dockerd, Run};

use crate::conformance::Subject;
use crate::conformance::subject::BASE;

/// An engine that runs already.
pub(crate) fn given() -> Option<String> {
    std::env::var("PEITHO_TEST_DOCKER").ok()
}

/// What the cases share, made when the first one needs it.
pub(crate) struct World {
    tokio: tokio::runtime::Runtime,
    engine: OnceLock<Engine>,
    turn: RwLock<()>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            tokio: tokio::runtime::Runtime::new().unwrap(),
            engine: OnceLock::new(),
            turn: RwLock::new(()),
        }
    }
}

impl World {
    pub(crate) fn engine(&self) -> &Engine {
        self.engine
            .get_or_init(|| self.tokio.block_on(Engine::start()))
    }

    /// For the time of a case that does not mind others of its kind.
    pub(crate) fn beside_others(&self) -> RwLockReadGuard<'_, ()> {
        // Nothing is behind the lock that a case which failed could spoil.
        self.turn.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the time of a case that must be alone.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.engine.get().and_then(|engine| engine.testbed.as_ref()) {
            Some(testbed) => testbed.run.stop(),
            None => Ok(()),
        }
    }
}

pub(crate) struct Engine {
    pub(crate) section: config::Docker,
    /// A client of the tests' own.
    pub(crate) docker: bollard::Docker,
    pub(crate) testbed: Option<Testbed>,
    pub(crate) directory: TempDir,
    store: Store,
    runtime: Arc<Docker>,
}

/// Where the engine was started by the tests.
pub(crate) struct Testbed {
    pub(crate) run: Run,
    pub(crate) assets: Assets,
    pub(crate) dockerd: Mutex<Dockerd>,
}

impl Engine {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (endpoint, testbed) = match given() {
            Some(endpoint) => (endpoint, None),
            None => {
                let assets = Assets::open().unwrap();
                let run = Run::start().unwrap();
                let dockerd = Dockerd::without_images(&run).unwrap();
                let endpoint = dockerd.endpoint();
                let dockerd = Mutex::new(dockerd);
                let testbed = Testbed {
                    run,
                    assets,
                    dockerd,
                };
                (endpoint, Some(testbed))
            }
        };
        let docker = client(&endpoint);
        let section = config::Docker {
            endpoint,
            ..config::Docker::default()
        };
        import_base(&docker).await;
        let directory = TempDir::new().unwrap();
        let store = Store::open(&directory.path().join("store")).await.unwrap();
        let settings = settings("peitho-test");
        let runtime = Docker::connect(&section, settings, store.clone(), grants()).await;
        Self {
            section,
            docker,
            testbed,
            directory,
            store,
            runtime: runtime.unwrap(),
        }
    }

    /// Another Peitho of the same instance.
    pub(crate) async fn connected(&self) -> Arc<Docker> {
        self.connected_with(settings("peitho-test")).await
    }

    pub(crate) async fn connected_with(&self, settings: Settings) -> Arc<Docker> {
        Docker::connect(&self.section, settings, self.store.clone(), grants())
            .await
            .unwrap()
    }

    /// The names of all containers of the instance, drafts too.
    pub(crate) async fn names(&self) -> Vec<String> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec!["dev.peitho.instance=peitho-test".to_owned()],
            )])),
            ..ListContainersOptions::default()
        };
        let found = self.docker.list_containers(Some(options)).await.unwrap();
        found.into_iter().flat_map(|it| it.names.unwrap()).collect()
    }

    pub(crate) fn testbed(&self) -> &Testbed {
        self.testbed.as_ref().expect("such cases are left out")
    }
}

pub(crate) fn grants() -> Grants {
    Grants::new([3; 32])
}

pub(crate) fn settings(instance: &str) -> Settings {
    Settings {
        instance: instance.parse::<InstanceName>().unwrap(),
        delivery_address: "https://127.0.0.1:1".to_owned(),
        delivery_ca_pem: String::new(),
        compile_limits: ByBuilder::from(Quantities::from(
            [("memory", "1Gi"), ("cpu", "64")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        ))
        .into(),
        compile_timeout: Duration::from_secs(600),
        surroundings: Surroundings::default(),
        places: Places::default(),
        logins: Logins::default(),
        program: PathBuf::from("/proc/self/exe"),
    }
}

fn client(endpoint: &str) -> bollard::Docker {
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    let client = Client::builder(TokioExecutor::new()).build_http();
    bollard::Docker::connect_with_custom_transport(
        move |request: bollard::BollardRequest| {
            let sent = client.request(request);
            Box::pin(async move {
                sent.await
                    .map_err(|error| std::io::Error::other(error).into())
            })
        },
        Some(endpoint.replace("tcp://", "http://")),
        600,
        bollard::API_DEFAULT_VERSION,
    )
    .unwrap()
}

/// Busybox with its applets, as an image.
async fn import_base(docker: &bollard::Docker) {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets = std::process::Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    for (directory, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/local", 0o755),
        ("usr/local/bin", 0o755),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        archive
            .append_data(&mut header, directory, std::io::empty())
            .unwrap();
    }
    let mut file = |path: &str, mode, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).unwrap();
    };
    file("bin/busybox", 0o755, &busybox);
    file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive
                .append_link(&mut header, format!("bin/{applet}"), "busybox")
                .unwrap();
        }
    }
    let archive = archive.into_inner().unwrap();
    let (repository, tag) = BASE.split_once(':').unwrap();
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository.to_owned()),
        tag: Some(tag.to_owned()),
        changes: vec!["ENV PATH=/usr/local/bin:/usr/bin:/bin".to_owned()],
        ..CreateImageOptions::default()
    };
    let body = bollard::body_full(archive.into());
    docker
        .create_image(Some(options), Some(body), None)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
}

#[async_trait]
impl Subject for Engine {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::clone(&self.runtime) as _
    }

    async fn anew(&self) -> Arc<dyn Runtime> {
        self.connected().await
    }

    async fn two(&self) -> [Arc<dyn Runtime>; 2] {
        [self.connected().await, self.connected().await]
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

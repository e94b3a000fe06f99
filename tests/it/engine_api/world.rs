//! What the tests stand on: a served router over a real store. Two test programs build it: the one of the Engine
//! API within the tests' own process, the one of faults in a process that may be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peitho::compile::{Compiles, Settings};
use peitho::config::{self, ByTenant, Surrounding};
use peitho::container::{Containers, Policy};
use peitho::engine_api::metrics::Requests;
use peitho::engine_api::{State, Tenants, router};
use peitho::image::Images;
use peitho::listener::{self, Drain, Speech};
use peitho::registry::{Pusher, Registries};
use peitho::runtime::Runtime;
use peitho::store::{Patience, Store};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use super::client::{
    Answer, Client, MOMENT, SOON, header, is_silent, read_exactly, read_head,
};
use super::cluster::Cluster;

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) cluster: Arc<Cluster>,
    /// What the process of `cc` writes.
    pub(crate) process: Option<mpsc::UnboundedSender<Bytes>>,
    pub(crate) compiles: Compiles,
    pub(crate) store: Store,
    pub(crate) requests: Requests,
    pub(crate) stop: CancellationToken,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) serving: JoinHandle<()>,
    /// For a listener beside the one at `address`.
    pub(crate) state: State,
    /// The store's.
    pub(crate) directory: PathBuf,
    _kept: Option<TempDir>,
}

/// The configuration of a store in `directory`.
pub(crate) fn in_directory(directory: &Path) -> config::Store {
    config::Store {
        directory: Some(directory.to_owned()),
        ..config::Store::default()
    }
}

/// How compiles are run.
#[derive(Clone, Copy)]
pub(crate) struct Compiling {
    parallel: usize,
    /// How long a compile goes on while nobody waits for it.
    grace: Duration,
}

/// Nothing here takes so long.
pub(crate) const PATIENT: Compiling = Compiling {
    parallel: 4,
    grace: Duration::from_secs(600),
};

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self::speaking(tls.into()).await
    }

    /// A server whose listener speaks so.
    pub(crate) async fn speaking(speech: Speech) -> Self {
        Self::kept(speech, Policy::default(), PATIENT).await
    }

    /// A server whose operator allows what `policy` says.
    pub(crate) async fn allowing(policy: Policy) -> Self {
        Self::kept(Speech::default(), policy, PATIENT).await
    }

    /// `parallel` compiles run at once, and go on for `grace` while nobody waits for them.
    pub(crate) async fn compiling(parallel: usize, grace: Duration) -> Self {
        Self::kept(
            Speech::default(),
            Policy::default(),
            Compiling { parallel, grace },
        )
        .await
    }

    /// A server over a store that goes with it.
    async fn kept(speech: Speech, policy: Policy, compiling: Compiling) -> Self {
        let directory = TempDir::new().unwrap();
        let (store, images) = (in_directory(directory.path()), config::Images::default());
        let mut world = Self::over(&store, &images, speech, policy, compiling).await;
        world._kept = Some(directory);
        world
    }

    /// A server over the store that `config` names, which stays.
    pub(crate) async fn over(
        config: &config::Store,
        images: &config::Images,
        speech: Speech,
        policy: Policy,
        Compiling { parallel, grace }: Compiling,
    ) -> Self {
        // One for the process; another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let opened = Store::configured(config, Surrounding::Machine, Patience::OfServer).await;
        let store = opened.unwrap_or_else(|error| panic!("{error}"));
        let (cluster, process) = Cluster::new();
        let cluster = Arc::new(cluster);
        let runtime = Arc::clone(&cluster) as Arc<dyn Runtime>;
        let tasks = TaskTracker::new();
        let settings = Settings {
            parallel,
            timeout: Duration::from_secs(600),
            parallel_of_tenant: None.into(),
            install_timeout: Duration::from_secs(600),
            abandon_grace: grace,
            env: std::collections::BTreeMap::new(),
            surroundings: ByTenant::default(),
            cache: None,
        };
        let registries = Registries::of(images, store.clone()).await.unwrap();
        let pusher = Pusher::new(images, registries.clone()).unwrap();
        let compiles = Compiles::new(
            settings,
            Arc::clone(&runtime),
            store.clone(),
            TaskTracker::new(),
        );
        let images = Images::new(store.clone(), registries)
            .pushed_by(pusher)
            .made_by(compiles.origins());
        let (stop, closing) = (CancellationToken::new(), CancellationToken::new());
        let state = State {
            images: images.clone(),
            containers: Containers::new(images, compiles.clone(), runtime, store.clone(), policy),
            store: store.clone(),
            tasks: tasks.clone(),
            closing: closing.clone(),
        };
        let tenants: Tenants = ["org1".parse().unwrap()].into_iter().collect();
        let requests = Requests::default();
        let router = router(state.clone(), tenants, requests.clone());
        let bound = listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let drain = Drain {
            stop: stop.clone(),
            grace: MOMENT,
        };
        Self {
            address: bound.addr,
            cluster,
            process: Some(process),
            compiles,
            store: store.clone(),
            requests,
            stop,
            closing,
            tasks,
            serving: tokio::spawn(listener::serve(bound, speech, router, drain)),
            state,
            directory: store.directory().to_owned(),
            _kept: None,
        }
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        Client(self.address)
    }

    /// As [`Client::connect`].
    pub(crate) async fn connect(&self) -> TcpStream {
        self.client().connect().await
    }

    /// As [`Client::open`].
    pub(crate) async fn open(&self, request: &str) -> TcpStream {
        self.client().open(request).await
    }

    /// As [`Client::ask`].
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Answer {
        self.client().ask(method, target).await
    }

    /// As [`Client::send`].
    pub(crate) async fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.client().send(method, target, body).await
    }
}

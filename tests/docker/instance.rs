//! Peithos, as far as compiles go: what asks for them, what the agent reports to, and the runtime between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peitho::compile::{self, Compiles};
use peitho::config::ByTenant;
use peitho::container::{Containers, Policy};
use peitho::delivery::{self, Counters, Delivery};
use peitho::image::Images;
use peitho::listener::{self, Drain};
use peitho::registry::Registries;
use peitho::runtime::Runtime;
use peitho::runtime::docker::{Docker, Settings};
use peitho::store::Store;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::{Engine, grants, settings};

/// The CA of the delivery listener, and where that is: what outlives a Peitho.
pub(crate) struct Place {
    ca: String,
    key: String,
    address: SocketAddr,
    pub(crate) store: Store,
}

impl Place {
    pub(crate) async fn new(engine: &Engine, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let store = engine.directory.path().join(format!("store-{name}"));
        Self {
            ca: parameters.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
            address: free.local_addr().unwrap(),
            store: Store::open(&store).await.unwrap(),
        }
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            delivery_address: self.url(),
            delivery_ca_pem: self.ca.clone(),
            program: program(),
            ..settings("peitho-test")
        }
    }
}

/// The static program, made once.
fn program() -> PathBuf {
    testbed::peitho::program().unwrap()
}

/// A Peitho, as far as compiles go.
pub(crate) struct Peitho {
    pub(crate) compiles: Compiles,
    pub(crate) runtime: Arc<Docker>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Peitho {
    pub(crate) async fn start(engine: &Engine, place: &Place) -> Self {
        Self::with(engine, place, place.settings()).await
    }

    pub(crate) async fn with(engine: &Engine, place: &Place, settings: Settings) -> Self {
        let store = place.store.clone();
        let runtime = Docker::connect(&engine.section, settings, store.clone(), grants());
        let runtime = runtime.await.unwrap();
        let compiles = Compiles::new(
            compile::Settings {
                parallel: 4,
                timeout: Duration::from_secs(300),
                parallel_of_tenant: None.into(),
                install_timeout: Duration::from_secs(300),
                abandon_grace: Duration::from_secs(60),
                env: BTreeMap::new(),
                surroundings: ByTenant::default(),
                cache: Some(1 << 30),
            },
            Arc::clone(&runtime) as Arc<dyn Runtime>,
            store.clone(),
            TaskTracker::new(),
        );
        let images = Images::new(
            store.clone(),
            Registries::new(&[], store.clone()).await.unwrap(),
        );
        let containers = Containers::new(
            images.clone(),
            compiles.clone(),
            Arc::clone(&runtime) as Arc<dyn Runtime>,
            store.clone(),
            Policy::default(),
        );
        let router = delivery::router(Delivery {
            store,
            images,
            compiles: compiles.clone(),
            grants: grants(),
            containers,
            counters: Arc::<Counters>::default(),
        });
        let tls =
            delivery::tls::server_config(&place.ca, &place.key.clone().into(), &[place.url()])
                .unwrap();
        let bound = listener::bind(place.address).await.unwrap();
        let stop = CancellationToken::new();
        let drain = Drain {
            stop: stop.clone(),
            grace: Duration::ZERO,
        };
        let serving = tokio::spawn(listener::serve(bound, Some(tls), router, drain));
        Self {
            compiles,
            runtime,
            stop,
            serving,
        }
    }

    /// As when it is killed: nobody listens any more.
    pub(crate) async fn gone(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

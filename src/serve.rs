//! The composition root: configuration → store → runtime → images, compiles, containers → listeners → drain.
//! `cli` calls it; nothing else knows all the parts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Check};
use crate::compile::{self, Compiles};
use crate::config::Config;
use crate::container::{Containers, Policy};
use crate::delivery::{self, Counters, Delivery};
use crate::engine_api::{self, Prefixed, Tenants};
use crate::grant::Grants;
use crate::image::Images;
use crate::listener::{self, Bound, Drain};
use crate::names::InstanceName;
use crate::registry::Registries;
use crate::runtime::Runtime;
use crate::runtime::kubernetes::{self, InstanceMaterial, Kubernetes};
use crate::store::{self, Store};

/// Requests in flight get this long at the end, `wait` and `attach` among them; Kubernetes allows a pod 30 s.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the server cannot start: what is wrong and what to do, in one line.
pub async fn run(config: Config) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a second TLS library is at work"))?;
    let stop = stop_signal()?;
    // Start may wait for the API server: an order to stop ends that too.
    if let Some(server) = stop.run_until_cancelled(start(&config)).await {
        server?.serve(&stop).await;
    }
    Ok(())
}

/// A server that is ready to serve.
struct Server {
    bound: Listeners,
    tls: Arc<rustls::ServerConfig>,
    engine_api: Prefixed<Router>,
    delivery: Router,
    admin: Router,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// Puts the parts together, from the bottom to the top.
async fn start(config: &Config) -> anyhow::Result<Server> {
    // The addresses first: the quickest mistakes to tell.
    let bound = Listeners::bind(config).await?;
    let additions = Additions::read(config)?;

    let store = Store::open(&config.store.directory).await?;
    let registries = Registries::new(&config.images.registries, store.clone()).await?;
    let images = Images::new(store.clone(), registries);

    let instance: InstanceName = config.kubernetes.instance.parse()?;
    let connection = kubernetes::connect(&config.kubernetes).await?;
    kubernetes::check_access(&connection).await?;
    let kubernetes::Connection {
        client, namespace, ..
    } = connection;
    let material = kubernetes::load_or_create(client.clone(), &namespace, &instance).await?;
    let tls = delivery::tls::server_config(
        &material.ca_cert_pem,
        &material.ca_key_pem,
        &config.delivery.address,
    )?;
    let grants = Grants::new(*material.token_key.expose_secret());
    let settings = settings(config, instance, namespace.clone(), &material, additions);
    let compile_settings = compile_settings(config, &settings);
    let kubernetes = Kubernetes::start(client, settings, grants.clone()).await?;
    let runtime: Arc<dyn Runtime> = Arc::clone(&kubernetes) as _;

    let tasks = TaskTracker::new();
    let closing = CancellationToken::new();
    let until = closing.clone();
    tasks.spawn(async move { until.run_until_cancelled(kubernetes.rehearse()).await });
    let compiles = Compiles::new(
        compile_settings,
        Arc::clone(&runtime),
        store.clone(),
        TaskTracker::new(),
    );
    compiles.collect();
    let containers = Containers::new(
        images.clone(),
        compiles.clone(),
        Arc::clone(&runtime),
        store.clone(),
        Policy {
            allowed_images: config.compile.allowed_images.clone(),
            allowed_capabilities: config.chaincode.allowed_capabilities.clone(),
        },
    );

    let requests = engine_api::metrics::Requests::default();
    let counters = Arc::<Counters>::default();
    let admin = admin::router(Admin {
        checks: checks(&store, &runtime),
        requests: requests.clone(),
        counters: Arc::clone(&counters),
    });
    let state = engine_api::State {
        images,
        containers: containers.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        closing: closing.clone(),
    };
    let engine_api = engine_api::router(state, Tenants::default(), requests);
    let delivery = delivery::router(Delivery {
        store,
        compiles,
        grants,
        containers,
        counters,
    });

    tracing::info!(
        engine_api = %bound.engine_api.addr, delivery = %bound.delivery.addr, admin = %bound.admin.addr,
        namespace, store = %config.store.directory.display(), version = env!("CARGO_PKG_VERSION"),
        "serving; peers reach it with CORE_VM_ENDPOINT=tcp://<this host>:{}", bound.engine_api.addr.port()
    );
    Ok(Server {
        bound,
        tls,
        engine_api,
        delivery,
        admin,
        tasks,
        closing,
    })
}

impl Server {
    /// Serves until `stop`, then drains.
    async fn serve(self, stop: &CancellationToken) {
        let Listeners {
            engine_api,
            delivery,
            admin,
        } = self.bound;
        let drain = |grace| Drain {
            stop: stop.clone(),
            grace,
        };
        let mut listeners = JoinSet::new();
        listeners.spawn(listener::serve(
            engine_api,
            None,
            self.engine_api,
            drain(DRAIN),
        ));
        listeners.spawn(listener::serve(
            delivery,
            Some(self.tls),
            self.delivery,
            drain(DRAIN),
        ));
        listeners.spawn(listener::serve(
            admin,
            None,
            self.admin,
            drain(Duration::ZERO),
        ));
        stop.cancelled().await;
        tracing::info!(
            "stopping: running chaincode goes on, and compiles are joined by the next server"
        );
        while listeners.join_next().await.is_some() {}
        // Attached connections last: a peer reads the end of a compile's log there.
        self.closing.cancel();
        // Builds whose body is complete. A compile's pod outlives this process, so nobody waits for that.
        self.tasks.close();
        let _ = tokio::time::timeout(DRAIN, self.tasks.wait()).await;
    }
}

struct Listeners {
    engine_api: Bound,
    delivery: Bound,
    admin: Bound,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let listen = &config.listen;
        Ok(Self {
            engine_api: listener::bind(listen.engine_api)
                .await
                .context("listen.engineApi")?,
            delivery: listener::bind(listen.delivery)
                .await
                .context("listen.delivery")?,
            admin: listener::bind(listen.admin).await.context("listen.admin")?,
        })
    }
}

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let first = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                std::process::abort();
            }
            first.cancel();
        }
    });
    Ok(stop)
}

/// What the configuration adds to pods, read before anything is asked of the cluster.
struct Additions {
    templates: kubernetes::Templates,
    surroundings: kubernetes::Surroundings,
}

impl Additions {
    fn read(config: &Config) -> anyhow::Result<Self> {
        let Config {
            kubernetes,
            compile,
            chaincode,
            delivery,
            ..
        } = config;
        Ok(Self {
            templates: kubernetes::Templates::read(kubernetes, compile, chaincode)?,
            surroundings: kubernetes::Surroundings::read(compile, &delivery.address)?,
        })
    }
}

fn settings(
    config: &Config,
    instance: InstanceName,
    namespace: String,
    material: &InstanceMaterial,
    additions: Additions,
) -> kubernetes::Settings {
    let Additions {
        templates,
        surroundings,
    } = additions;
    let Config {
        kubernetes,
        compile,
        chaincode,
        agent,
        delivery,
        ..
    } = config.clone();
    kubernetes::Settings {
        namespace,
        instance,
        host_aliases: kubernetes.host_aliases,
        image_pull_secrets: kubernetes.image_pull_secrets,
        image_pull_policy: kubernetes.image_pull_policy,
        scheduling_grace: Duration::from_secs(kubernetes.scheduling_grace_seconds),
        agent_image: agent.image,
        delivery_address: delivery.address,
        delivery_ca_pem: material.ca_cert_pem.clone(),
        compile_requests: compile.requests,
        compile_limits: compile.limits,
        compile_run_as_user: compile.run_as_user,
        compile_timeout: Duration::from_secs(compile.timeout_seconds),
        chaincode_requests: chaincode.requests,
        chaincode_run_as_user: chaincode.run_as_user,
        surroundings,
        templates,
    }
}

fn compile_settings(config: &Config, pods: &kubernetes::Settings) -> compile::Settings {
    compile::Settings {
        parallel: config.compile.parallel,
        timeout: Duration::from_secs(config.compile.timeout_seconds),
        install_timeout: Duration::from_secs(config.compile.install_timeout_seconds),
        abandon_grace: Duration::from_secs(config.compile.abandoned_after_seconds),
        env: config.compile.env.clone(),
        surroundings: pods.compile_digest(),
    }
}

/// What readiness depends on; liveness depends on nothing (design D10).
fn checks(store: &Store, runtime: &Arc<dyn Runtime>) -> Vec<Check> {
    let (store, runtime) = (store.clone(), Arc::clone(runtime));
    vec![
        Check::new("store", move || {
            let store = store.clone();
            async move {
                match store.check_writable().await {
                    // A full store refuses builds and says so; launches go on, so peers must still get here.
                    Ok(()) | Err(store::Error::Full { .. }) => Ok(()),
                    Err(error) => Err(error.to_string()),
                }
            }
        }),
        Check::new("kubernetes", move || {
            let runtime = Arc::clone(&runtime);
            async move { runtime.ready().await.map_err(|error| error.to_string()) }
        }),
    ]
}

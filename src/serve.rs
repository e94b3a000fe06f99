//! The composition root: configuration → store → runtime → images, compiles, containers → listeners → drain.
//! `cli` calls it; nothing else knows all the parts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Admin, Bearing, Check};
use crate::collection::{self, Depth};
use crate::compile::{self, Compiles};
use crate::config::{BuiltRegistry, ByTenant, Config, RuntimeKind, Surrounding};
use crate::container::{Containers, Policy};
use crate::delivery::{self, Counters, Delivery};
use crate::engine_api::{self, Prefixed, Tenants};
use crate::image::Images;
use crate::listener::{self, Drain, Speech};
use crate::names::{self, Digest, Tenant};
use crate::registry::{Pusher, Registries};
use crate::runtime::{Runtime, Spares};
use crate::store::{self, Patience, Store};

mod descriptors;
mod instance;
mod listeners;
mod pods;
mod runtimes;

pub use instance::instance;
use listeners::{Listeners, Security};
use runtimes::Additions;

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
    descriptors::allow_many();
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
    security: Security,
    tls: Arc<rustls::ServerConfig>,
    engine_api: Prefixed<Router>,
    delivery: Router,
    admin: Router,
    spares: Spares,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// Puts the parts together, from the bottom to the top.
async fn start(config: &Config) -> anyhow::Result<Server> {
    let surrounding = Surrounding::found();
    let roles = config.roles(surrounding);
    if let Some(misfit) = config.images.misfit(roles) {
        anyhow::bail!(misfit);
    }
    // The addresses first: the quickest mistakes to tell.
    let addresses = config.listen.addresses(roles.reach(), config.clients());
    let bound = Listeners::bind(&config.listen, &addresses).await?;
    let security = Security::read(config)?;
    let additions = Additions::read(config)?;

    let store = Store::configured(&config.store, surrounding, Patience::OfServer).await?;
    let keeps = |kind| roles.use_runtime(kind);
    let is_needed =
        config.store.bucket().is_none() || keeps(RuntimeKind::Oci) || keeps(RuntimeKind::Docker);
    if let Some(volume) = store.short_lived().await.filter(|_| is_needed) {
        tracing::warn!(
            directory = %store.directory().display(),
            "store: it is on {volume}, and so is what peers believe to be there: each install has to be done again then; give store.directory a volume that stays"
        );
    }
    // Before anybody is served: what is damaged is not to be.
    let checked = collection::check(&store, Depth::Lengths).await;
    if let Some(error) = checked.unfinished {
        tracing::error!(%error, "store: it could not be checked; what can be read of it is served");
    }
    if config.images.pushed_to().is_none() && config.images.registry != BuiltRegistry::default() {
        tracing::warn!(
            "images.registry has no effect: images.mode is delivery, so that nothing is pushed"
        );
    }
    let registries = Registries::of(&config.images, store.clone()).await?;
    let pusher = Pusher::new(&config.images, registries.clone())?;
    let delivery = bound.delivery.addr;
    let (runtimes, grants) =
        runtimes::start(config, roles, delivery, &store, &registries, additions).await?;
    let tls = delivery::tls::server_config(
        &runtimes.material.ca_cert_pem,
        &runtimes.material.ca_key_pem,
        &runtimes.delivery,
    )?;

    let tasks = TaskTracker::new();
    let closing = CancellationToken::new();
    for kubernetes in runtimes.kubernetes {
        let until = closing.clone();
        tasks.spawn(async move {
            let work = async {
                kubernetes.remove_idle_pull_secret().await;
                kubernetes.rehearse().await;
            };
            until.run_until_cancelled(work).await
        });
    }
    let spares = runtimes.compile.spares().cloned().unwrap_or_default();
    let compiles = Compiles::new(
        compile_settings(config, runtimes.compile_digest),
        runtimes.compile,
        store.clone(),
        TaskTracker::new(),
    );
    compiles.collect();
    let images = Images::new(store.clone(), registries)
        .pushed_by(pusher)
        .made_by(compiles.origins());
    let containers = Containers::new(
        images.clone(),
        compiles.clone(),
        runtimes.chaincode,
        store.clone(),
        Policy {
            allowed_images: config.compile.allowed_images.clone(),
            allowed_capabilities: config.chaincode.allowed_capabilities.clone(),
        },
    );

    tasks.spawn({
        let (containers, until) = (containers.clone(), closing.clone());
        let all = all_tenants(config);
        async move { until.run_until_cancelled(containers.adopt(all)).await }
    });

    tasks.spawn({
        let until = closing.clone();
        let collecting = collection::Service {
            store: store.clone(),
            containers: containers.clone(),
            tenants: all_tenants(config),
            every: Duration::from_secs(config.store.collect_every_seconds),
            results: config.store.compile_result_bytes(),
            caches: config.store.compile_cache_bytes(),
            gained: compiles.gained(),
        };
        async move { until.run_until_cancelled(collecting.run()).await }
    });

    let requests = engine_api::metrics::Requests::default();
    let counters = Arc::<Counters>::default();
    let admin = admin::router(Admin {
        checks: checks(&store, runtimes.all),
        requests: requests.clone(),
        counters: Arc::clone(&counters),
        parts: compiles.parts(),
        expiry: security.reloading.as_ref().map(|it| it.expiry()),
        spares: spares.clone(),
    });
    let state = engine_api::State {
        images: images.clone(),
        containers: containers.clone(),
        store: store.clone(),
        tasks: tasks.clone(),
        closing: closing.clone(),
    };
    let engine_api = engine_api::router(state, tenants(config), requests);
    let place = store.place();
    let delivery = delivery::router(Delivery {
        store,
        images,
        compiles,
        grants,
        containers,
        counters,
    });

    tracing::info!(
        engine_api = bound.engine_api.as_ref().map(|it| tracing::field::display(it.addr)),
        socket = bound.socket.as_ref().map(|it| tracing::field::display(it.path().display())),
        tls = security.describe(), delivery = %bound.delivery.addr, admin = %bound.admin.addr,
        runtime = %runtimes.chosen, store = place, version = env!("CARGO_PKG_VERSION"),
        "serving; peers reach it with CORE_VM_ENDPOINT={}", bound.endpoints()
    );
    Ok(Server {
        bound,
        security,
        tls,
        engine_api,
        delivery,
        admin,
        spares,
        tasks,
        closing,
    })
}

impl Server {
    /// Serves until `stop`, then drains.
    async fn serve(self, stop: &CancellationToken) {
        let Listeners {
            engine_api,
            socket,
            delivery,
            admin,
        } = self.bound;
        let drain = |grace| Drain {
            stop: stop.clone(),
            grace,
        };
        let mut serving = JoinSet::new();
        if let Some(bound) = engine_api {
            let (speech, router) = (self.security.engine_api(), self.engine_api.clone());
            serving.spawn(listener::serve(bound, speech, router, drain(DRAIN)));
        }
        if let Some(bound) = socket {
            let router = self.engine_api.clone();
            serving.spawn(listener::serve(
                bound,
                Speech::default(),
                router,
                drain(DRAIN),
            ));
        }
        serving.spawn(listener::serve(
            delivery,
            listeners::delivery(self.tls),
            self.delivery,
            drain(DRAIN),
        ));
        serving.spawn(listener::serve(
            admin,
            listeners::admin(),
            self.admin,
            drain(Duration::ZERO),
        ));
        if let Some(reloading) = self.security.reloading {
            let until = stop.clone();
            self.tasks
                .spawn(async move { until.run_until_cancelled(reloading.run()).await });
        }
        stop.cancelled().await;
        tracing::info!(
            "stopping: running chaincode goes on, and compiles are joined by the next server"
        );
        self.spares.close();
        while serving.join_next().await.is_some() {}
        // Attached connections last: a peer reads the end of a compile's log there.
        self.closing.cancel();
        // Builds whose body is complete. A compile's pod outlives this process, so nobody waits for that.
        self.tasks.close();
        // What was made ahead of need would wait for a server that knows nothing of it.
        let ended = futures::future::join(self.tasks.wait(), self.spares.gone());
        let ended = tokio::time::timeout(DRAIN, ended).await;
        if ended.is_err() {
            for spare in self.spares.left() {
                tracing::warn!(
                    pod = names::kubernetes::spare(&spare),
                    "compile: a pod that was made ahead of need is not removed yet; the next start removes it"
                );
            }
        }
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

fn all_tenants(config: &Config) -> BTreeSet<Tenant> {
    std::iter::once(Tenant::default_tenant())
        .chain(config.tenants.names())
        .collect()
}

fn tenants(config: &Config) -> Tenants {
    let known = config.tenants.names();
    Tenants::new(known, config.tenants.unproven())
}

fn compile_settings(config: &Config, surroundings: ByTenant<Option<Digest>>) -> compile::Settings {
    compile::Settings {
        parallel: config.compile.parallel,
        parallel_of_tenant: (config.tenants).each(None, |_, tenant| Some(tenant.compile.parallel)),
        timeout: Duration::from_secs(config.compile.timeout_seconds),
        install_timeout: Duration::from_secs(config.compile.install_timeout_seconds),
        abandon_grace: Duration::from_secs(config.compile.abandoned_after_seconds),
        env: config.compile.env.clone(),
        surroundings,
        cache: config.compile.cache.bytes(),
    }
}

/// What readiness depends on; liveness depends on nothing (design D10).
fn checks(store: &Store, runtimes: Vec<(String, Bearing, Arc<dyn Runtime>)>) -> Vec<Check> {
    let store = store.clone();
    let of_store = Check::new("store", Bearing::Everyone, move || {
        let store = store.clone();
        async move {
            match store.check_writable().await {
                Ok(()) => Ok(()),
                // A full store refuses builds and says so; launches go on, so peers must still get here.
                Err(store::Error::Full { .. }) if store.is_readable_when_full() => Ok(()),
                Err(error @ store::Error::Bucket { .. }) if error.is_full() => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        }
    });
    let of_runtimes = runtimes.into_iter().map(|(name, bearing, runtime)| {
        Check::new(name, bearing, move || {
            let runtime = Arc::clone(&runtime);
            async move { runtime.ready().await.map_err(|error| error.to_string()) }
        })
    });
    std::iter::once(of_store).chain(of_runtimes).collect()
}

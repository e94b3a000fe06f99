//! The runtime under test, and what its pods reach: a delivery listener on the address of this machine that they know. It is put together
//! as the server is, from the same parts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use peitho::compile::{self, Compiles};
use peitho::config::{self, ByTenant, Config, PodTemplate, Quantities, Tenants};
use peitho::container::{Containers, Policy};
use peitho::delivery::{self, Counters, Delivery};
use peitho::grant::Grants;
use peitho::image::Images;
use peitho::listener::{self, Drain};
use peitho::names::{ImageName, InstanceName, Tenant};
use peitho::registry::{Places, Pusher, Registries};
use peitho::runtime::kubernetes::{
    self, Connection, Kubernetes, Provision, PullSecret, Settings, Templates,
};
use peitho::runtime::{InstanceMaterial, Runtime, Spares, Surroundings};
use peitho::store::Store;
use secrecy::ExposeSecret as _;
use testbed::HOST_ADDRESS;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::conformance::Subject;

/// Where the runtime finds itself.
pub(crate) struct Setting {
    /// With the rights of the committed Role and no others.
    pub(crate) kubeconfig: PathBuf,
    /// The image of the cases, as the node pulls it.
    pub(crate) base: String,
    /// Where what is built is pushed.
    pub(crate) images: config::Images,
    /// Peitho's own.
    pub(crate) agent_image: String,
    /// Where pods are.
    pub(crate) namespace: String,
    /// What compiles request beside the usual.
    pub(crate) requests: Quantities,
    /// What is laid over pods of compiles.
    pub(crate) template: PodTemplate,
    /// For the store.
    pub(crate) directory: PathBuf,
    /// Which Peitho it is.
    pub(crate) instance: InstanceName,
    /// How many pods it makes ahead of need, and how long they wait.
    pub(crate) warm: (usize, Duration),
    /// Where its listener is; 0 for any.
    pub(crate) port: u16,
}

/// The runtime, connected, and its listener.
pub(crate) struct Pods {
    runtime: Arc<Kubernetes>,
    connection: Connection,
    settings: Settings,
    grants: Grants,
    store: Store,
    base: ImageName,
    images: Images,
    compiles: Compiles,
    stop: CancellationToken,
    listener: JoinHandle<()>,
    port: u16,
}

impl Pods {
    pub(crate) async fn start(setting: Setting) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let section = config::Kubernetes {
            kubeconfig: Some(setting.kubeconfig),
            namespace: setting.namespace,
            ..config::Kubernetes::default()
        };
        let connection = kubernetes::connect(&section).await?;
        kubernetes::check_access(&connection, std::slice::from_ref(&connection.namespace)).await?;
        let instance = setting.instance.clone();
        let Connection {
            client, namespace, ..
        } = connection.clone();
        let material = kubernetes::load_or_create(client.clone(), &namespace, &instance).await?;
        let grants = Grants::new(*material.token_key.expose_secret());
        let address = format!("{HOST_ADDRESS}:{}", setting.port);
        let bound = listener::bind(address.parse()?).await?;
        let port = bound.addr.port();
        let address = format!("https://{}", bound.addr);
        let tls = delivery::tls::server_config(
            &material.ca_cert_pem,
            &material.ca_key_pem,
            std::slice::from_ref(&address),
        )?;
        let store = Store::open(&setting.directory).await?;
        let registries = Registries::of(&setting.images, store.clone()).await?;
        let pusher = Pusher::new(&setting.images, registries.clone())?;
        let mut settings = settings(
            namespace,
            setting.agent_image,
            address,
            &material,
            setting.requests,
            setting.template,
        )?;
        settings.pull_secret = pull_secret(&setting.images, &registries);
        settings.instance = instance;
        settings.spares = Spares::new(setting.warm.0);
        settings.spare_idle = setting.warm.1;
        let runtime =
            Kubernetes::start(client, settings.clone(), store.clone(), grants.clone()).await?;
        let compiles = compiles(&store, Arc::clone(&runtime) as Arc<dyn Runtime>);
        let router = router(&store, &runtime, compiles.clone(), grants.clone()).await?;
        let stop = CancellationToken::new();
        let drain = Drain {
            stop: stop.clone(),
            grace: Duration::ZERO,
        };
        Ok(Self {
            runtime,
            connection,
            settings,
            grants,
            images: Images::new(store.clone(), registries).pushed_by(pusher),
            compiles,
            store,
            base: setting.base.parse().context("the base's name")?,
            listener: tokio::spawn(listener::serve(bound, Some(tls), router, drain)),
            stop,
            port,
        })
    }

    /// What builds in the mode `registry`.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// What compiles in pods.
    pub(crate) fn compiles(&self) -> &Compiles {
        &self.compiles
    }

    /// Where its listener is.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The pods that it made ahead of need.
    pub(crate) fn spares(&self) -> &Spares {
        &self.settings.spares
    }

    /// The image of the cases.
    pub(crate) fn image(&self) -> &ImageName {
        &self.base
    }

    /// Another Peitho of the same instance, which has nodes pull with `pull_secret`.
    pub(crate) async fn connected_with(&self, pull_secret: PullSecret) -> Arc<Kubernetes> {
        let settings = Settings {
            pull_secret,
            ..self.settings.clone()
        };
        let client = self.connection.client.clone();
        let (store, grants) = (self.store.clone(), self.grants.clone());
        let runtime = Kubernetes::start(client, settings, store, grants).await;
        runtime.unwrap()
    }

    /// Another Peitho of the same instance.
    async fn connected(&self) -> Arc<dyn Runtime> {
        let client = self.connection.client.clone();
        let (settings, store, grants) = (
            self.settings.clone(),
            self.store.clone(),
            self.grants.clone(),
        );
        Kubernetes::start(client, settings, store, grants)
            .await
            .unwrap()
    }

    /// Ends the listener; nothing of this process talks to the cluster then.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.listener.await.unwrap();
    }
}

/// What `serve` makes of the section.
fn pull_secret(images: &config::Images, registries: &Registries) -> PullSecret {
    let repository = images.registry.repository().expect("a registry");
    PullSecret::Own {
        repository,
        logins: registries.logins().clone(),
    }
}

/// As users have them.
fn settings(
    namespace: String,
    agent_image: String,
    delivery_address: String,
    material: &InstanceMaterial,
    requests: Quantities,
    template: PodTemplate,
) -> Result<Settings> {
    let Config {
        kubernetes,
        mut compile,
        chaincode,
        ..
    } = Config::default();
    compile.pod_template = template;
    let templates = Templates::read(&kubernetes, &compile, &chaincode, &Tenants::default());
    let templates = templates.map_err(|problems| anyhow!("{problems}"))?;
    Ok(Settings {
        namespace,
        instance: InstanceName::default(),
        host_aliases: kubernetes.host_aliases,
        image_pull_secrets: kubernetes.image_pull_secrets,
        pull_secret: PullSecret::None,
        places: Places::default(),
        architecture: None,
        image_pull_policy: kubernetes.image_pull_policy,
        scheduling_grace: Duration::from_secs(kubernetes.scheduling_grace_seconds),
        agent_image,
        delivery_address,
        delivery_ca_pem: material.ca_cert_pem.clone(),
        compile_run_as_user: compile.run_as_user,
        compile_timeout: Duration::from_secs(compile.timeout_seconds),
        spares: Spares::default(),
        spare_idle: Duration::ZERO,
        chaincode_run_as_user: chaincode.run_as_user,
        surroundings: Surroundings::default(),
        tenants: vec![Tenant::default_tenant()],
        provisions: ByTenant::from(Provision {
            // What is no cpu and no memory has a limit, and it is the same.
            compile_requests: joined(compile.requests, &requests).into(),
            compile_limits: joined(compile.limits, &requests).into(),
            chaincode_requests: chaincode.requests,
            templates: templates.general().clone(),
        }),
    })
}

fn joined(mut usual: Quantities, more: &Quantities) -> Quantities {
    usual.extend(more.clone());
    usual
}

fn compiles(store: &Store, runtime: Arc<dyn Runtime>) -> Compiles {
    let compile = Config::default().compile;
    Compiles::new(
        compile::Settings {
            parallel: compile.parallel,
            timeout: Duration::from_secs(compile.timeout_seconds),
            parallel_of_tenant: None.into(),
            install_timeout: Duration::from_secs(compile.install_timeout_seconds),
            abandon_grace: Duration::from_secs(compile.abandoned_after_seconds),
            cache: Some(2 << 30),
            env: compile.env,
            surroundings: ByTenant::default(),
        },
        runtime,
        store.clone(),
        TaskTracker::new(),
    )
}

/// What pods fetch their layers from, and report to.
async fn router(
    store: &Store,
    runtime: &Arc<Kubernetes>,
    compiles: Compiles,
    grants: Grants,
) -> Result<axum::Router> {
    let runtime = Arc::clone(runtime) as Arc<dyn Runtime>;
    let registries = Registries::new(&[], store.clone()).await?;
    let images = Images::new(store.clone(), registries);
    let containers = Containers::new(
        images.clone(),
        compiles.clone(),
        runtime,
        store.clone(),
        Policy::default(),
    );
    Ok(delivery::router(Delivery {
        store: store.clone(),
        images,
        compiles,
        grants,
        containers,
        counters: Arc::<Counters>::default(),
    }))
}

#[async_trait]
impl Subject for Pods {
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

    fn base(&self) -> ImageName {
        self.base.clone()
    }

    fn code_when_told(&self) -> i64 {
        137
    }

    fn root(&self) -> i64 {
        500
    }

    fn mode(&self, uploaded: u32) -> u32 {
        uploaded | 0o440
    }

    fn lag(&self) -> Duration {
        Duration::from_secs(6)
    }
}

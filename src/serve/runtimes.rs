//! Which runtimes there are, and what each is made with: the part of the composition that depends on where Peitho
//! finds itself (design D2). `serve` calls it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::config::{Config, Roles, RuntimeKind, Surrounding};
use crate::grant::Grants;
use crate::names::{Digest, InstanceName};
use crate::registry::Registries;
use crate::runtime::kubernetes::{self, Kubernetes};
use crate::runtime::oci::{self, Oci};
use crate::runtime::{InstanceMaterial, Runtime, Surroundings};
use crate::store::Store;

/// The file of the [`InstanceMaterial`] where there is no cluster to keep it, in the store's directory.
const INSTANCE_FILE: &str = "instance.json";

/// Where Peitho runs: Kubernetes tells its pods.
pub(super) fn surrounding() -> Surrounding {
    match std::env::var_os("KUBERNETES_SERVICE_HOST") {
        Some(_) => Surrounding::Cluster,
        None => Surrounding::Machine,
    }
}

/// The runtimes in use, and what they share with the listeners.
pub(super) struct Runtimes {
    /// Of compiles.
    pub(super) compile: Arc<dyn Runtime>,
    /// Of chaincode.
    pub(super) chaincode: Arc<dyn Runtime>,
    /// Each one once, with the name that operators know.
    pub(super) all: Vec<(&'static str, Arc<dyn Runtime>)>,
    /// Kubernetes, where it is in use: it has a dry run to make.
    pub(super) kubernetes: Option<Arc<Kubernetes>>,
    /// Keys and certificate authority of this instance.
    pub(super) material: InstanceMaterial,
    /// `https://host:port` of the delivery listener, as containers of each runtime reach it.
    pub(super) delivery: Vec<String>,
    /// Digest of what the compile runtime gives to compiles.
    pub(super) compile_digest: Option<Digest>,
    /// What was found and chosen, for one log line.
    pub(super) chosen: String,
}

/// What the configuration adds to containers, read before anything is asked of a cluster.
pub(super) struct Additions {
    templates: kubernetes::Templates,
    surroundings: Surroundings,
}

impl Additions {
    pub(super) fn read(config: &Config) -> anyhow::Result<Self> {
        let Config {
            kubernetes,
            compile,
            chaincode,
            delivery,
            ..
        } = config;
        Ok(Self {
            templates: kubernetes::Templates::read(kubernetes, compile, chaincode)?,
            surroundings: Surroundings::read(compile, delivery.for_pods())?,
        })
    }
}

/// Starts what `roles` need. `delivery` is where the delivery listener is bound.
///
/// # Errors
/// In one line that says what is missing and how to get it.
pub(super) async fn start(
    config: &Config,
    roles: Roles,
    delivery: SocketAddr,
    store: &Store,
    registries: &Registries,
    additions: Additions,
) -> anyhow::Result<(Runtimes, Grants)> {
    let instance: InstanceName = config.kubernetes.instance.parse()?;
    let connection = match roles.use_runtime(RuntimeKind::Kubernetes) {
        true => {
            let connection = kubernetes::connect(&config.kubernetes).await?;
            kubernetes::check_access(&connection).await?;
            Some(connection)
        }
        false => None,
    };
    let material = match &connection {
        Some(it) => kubernetes::load_or_create(it.client.clone(), &it.namespace, &instance).await?,
        None => {
            let path = config.store.directory.join(INSTANCE_FILE);
            tokio::task::spawn_blocking({
                let instance = instance.clone();
                move || InstanceMaterial::of_file(&path, &instance)
            })
            .await??
        }
    };
    let grants = Grants::new(*material.token_key.expose_secret());
    let Additions {
        templates,
        surroundings,
    } = additions;

    let mut addresses = Vec::new();
    let mut chosen = Vec::new();
    let mut compile_digest = None;
    let mut cluster = None;
    if let Some(connection) = connection {
        let settings = pod_settings(
            config,
            connection.namespace.clone(),
            instance,
            &material,
            (templates, surroundings.clone()),
        );
        compile_digest = settings.compile_digest();
        addresses.push(config.delivery.for_pods().to_owned());
        chosen.push(format!(
            "kubernetes (namespace {} of {})",
            connection.namespace, connection.server
        ));
        cluster = Some(Kubernetes::start(connection.client, settings, grants.clone()).await?);
    }
    let mut host = None;
    if roles.use_runtime(RuntimeKind::Oci) {
        let address = on_this_machine(delivery);
        let settings = oci::Settings {
            program: config.oci.program.clone(),
            instance: config.kubernetes.instance.parse()?,
            directory: (config.oci.directory.clone())
                .unwrap_or_else(|| config.store.directory.join("oci")),
            delivery_address: address.clone(),
            delivery_ca_pem: material.ca_cert_pem.clone(),
            surroundings: surroundings.clone(),
            compile_limits: oci::Limits::of(&config.compile.limits),
        };
        if roles.compile == RuntimeKind::Oci {
            compile_digest = surroundings.digest();
        }
        let started = Oci::start(settings, store.clone(), registries.clone(), grants.clone())
            .await
            .context("runtime oci")?;
        addresses.push(address);
        chosen.push(started.describe());
        host = Some(started);
    }

    let of = |kind| -> Arc<dyn Runtime> {
        match kind {
            RuntimeKind::Kubernetes => Arc::clone(cluster.as_ref().expect("it is in use")) as _,
            RuntimeKind::Oci => Arc::clone(host.as_ref().expect("it is in use")) as _,
            RuntimeKind::Docker => todo!(),
        }
    };
    let all = [RuntimeKind::Kubernetes, RuntimeKind::Oci]
        .into_iter()
        .filter(|kind| roles.use_runtime(*kind))
        .map(|kind| (kind.as_str(), of(kind)))
        .collect();
    let runtimes = Runtimes {
        compile: of(roles.compile),
        chaincode: of(roles.chaincode),
        all,
        kubernetes: cluster.clone(),
        material,
        delivery: addresses,
        compile_digest,
        chosen: chosen.join(", "),
    };
    Ok((runtimes, grants))
}

/// How containers that have this machine's network reach a listener that is bound to `bound`.
fn on_this_machine(bound: SocketAddr) -> String {
    let host = match bound.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(host, bound.port()))
}

fn pod_settings(
    config: &Config,
    namespace: String,
    instance: InstanceName,
    material: &InstanceMaterial,
    (templates, surroundings): (kubernetes::Templates, Surroundings),
) -> kubernetes::Settings {
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
        delivery_address: delivery.for_pods().to_owned(),
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

//! Which runtimes there are, and what each is made with: the part of the composition that depends on where Peitho
//! finds itself (design D2). `serve` calls it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::admin::Bearing;
use crate::config::{self, ByTenant, Config, Roles, RuntimeKind};
use crate::grant::Grants;
use crate::names::{Digest, InstanceName};
use crate::registry::Registries;
use crate::runtime::docker::{self, Docker};
use crate::runtime::kubernetes::{self, Kubernetes};
use crate::runtime::oci::{self, Oci};
use crate::runtime::{InstanceMaterial, Runtime, Surroundings};
use crate::store::Store;

use super::pods::{Access, Needs};

/// The file of the [`InstanceMaterial`] where there is no cluster to keep it, in the store's directory.
pub(super) const INSTANCE_FILE: &str = "instance.json";

/// The runtimes in use, and what they share with the listeners.
pub(super) struct Runtimes {
    /// Of compiles.
    pub(super) compile: Arc<dyn Runtime>,
    /// Of chaincode.
    pub(super) chaincode: Arc<dyn Runtime>,
    /// What has to be ready, with the names that operators know, and for whom.
    pub(super) all: Vec<(String, Bearing, Arc<dyn Runtime>)>,
    /// Those of Kubernetes: they have dry runs to make.
    pub(super) kubernetes: Vec<Arc<Kubernetes>>,
    /// Keys and certificate authority of this instance.
    pub(super) material: InstanceMaterial,
    /// `https://host:port` of the delivery listener, as containers of each runtime reach it.
    pub(super) delivery: Vec<String>,
    /// Digest of what the compile runtime gives to a tenant's compiles.
    pub(super) compile_digest: ByTenant<Option<Digest>>,
    /// What was found and chosen, for one log line.
    pub(super) chosen: String,
}

/// What the configuration adds to containers, read before anything is asked of a cluster.
pub(super) struct Additions {
    templates: ByTenant<kubernetes::Templates>,
    surroundings: Surroundings,
}

impl Additions {
    pub(super) fn read(config: &Config) -> anyhow::Result<Self> {
        let Config {
            kubernetes,
            compile,
            chaincode,
            delivery,
            tenants,
            ..
        } = config;
        Ok(Self {
            templates: kubernetes::Templates::read(kubernetes, compile, chaincode, tenants)?,
            surroundings: Surroundings::read(compile, delivery.for_pods())?,
        })
    }
}

/// What all runtimes are made with.
struct Parts<'a> {
    config: &'a Config,
    /// Of the store.
    directory: &'a Path,
    instance: InstanceName,
    material: &'a InstanceMaterial,
    surroundings: Surroundings,
    store: &'a Store,
    registries: &'a Registries,
    grants: Grants,
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
    let access = match roles.use_runtime(RuntimeKind::Kubernetes) {
        true => Some(Access::gain(config).await?),
        false => None,
    };
    let idle = config.compile.idle(roles);
    for idle in idle.into_iter().chain(config.tenants.idle(roles)) {
        tracing::warn!("{idle}");
    }
    let connection = access.as_ref().map(|it| &it.connection);
    let directory = store.directory();
    let material = material(directory, &instance, connection).await?;
    let grants = Grants::new(*material.token_key.expose_secret());
    let Additions {
        templates,
        surroundings,
    } = additions;
    let parts = Parts {
        config,
        directory,
        instance,
        material: &material,
        surroundings,
        store,
        registries,
        grants: grants.clone(),
    };

    let mut started = Started::default();
    if let Some(access) = access {
        parts
            .start_kubernetes(access, &templates, &mut started)
            .await?;
    }
    if roles.use_runtime(RuntimeKind::Oci) {
        parts.start_oci(delivery, &mut started).await?;
    }
    if roles.use_runtime(RuntimeKind::Docker) {
        parts.start_docker(roles, delivery, &mut started).await?;
    } else if config.docker != config::Docker::default() {
        tracing::warn!(
            endpoint = config.docker.endpoint,
            "docker.endpoint has no effect: neither compile.runtime nor chaincode.runtime is docker"
        );
    }
    let compile_digest = match roles.compile {
        RuntimeKind::Kubernetes => started.pods_digest,
        RuntimeKind::Oci | RuntimeKind::Docker => parts.surroundings.digest().into(),
    };
    let of = |kind: RuntimeKind| {
        let found = started.of.iter().find(|(started, _)| *started == kind);
        Arc::clone(&found.expect("what a role uses was started").1)
    };
    let runtimes = Runtimes {
        compile: of(roles.compile),
        chaincode: of(roles.chaincode),
        kubernetes: started.kubernetes,
        delivery: started.delivery,
        compile_digest,
        chosen: format!("{roles}: {}", started.found.join(", ")),
        all: started.all,
        material,
    };
    Ok((runtimes, grants))
}

/// Keys and certificate authority, from the cluster where there is one.
async fn material(
    directory: &Path,
    instance: &InstanceName,
    connection: Option<&kubernetes::Connection>,
) -> anyhow::Result<InstanceMaterial> {
    if let Some(it) = connection {
        let loaded = kubernetes::load_or_create(it.client.clone(), &it.namespace, instance);
        return Ok(loaded.await?);
    }
    let path = directory.join(INSTANCE_FILE);
    let instance = instance.clone();
    let read = tokio::task::spawn_blocking(move || InstanceMaterial::of_file(&path, &instance));
    Ok(read.await??)
}

/// What was started so far.
#[derive(Default)]
struct Started {
    of: Vec<(RuntimeKind, Arc<dyn Runtime>)>,
    all: Vec<(String, Bearing, Arc<dyn Runtime>)>,
    kubernetes: Vec<Arc<Kubernetes>>,
    pods_digest: ByTenant<Option<Digest>>,
    delivery: Vec<String>,
    /// What each one found, for people.
    found: Vec<String>,
}

impl Started {
    fn add(&mut self, kind: RuntimeKind, runtime: Arc<dyn Runtime>, found: String) {
        let name = kind.as_str().to_owned();
        (self.all).push((name, Bearing::Everyone, Arc::clone(&runtime)));
        self.of.push((kind, runtime));
        self.found.push(found);
    }
}

impl Parts<'_> {
    async fn start_kubernetes(
        &self,
        access: Access,
        templates: &ByTenant<kubernetes::Templates>,
        started: &mut Started,
    ) -> anyhow::Result<()> {
        let needs = Needs {
            instance: &self.instance,
            material: self.material,
            surroundings: &self.surroundings,
            store: self.store,
            registries: self.registries,
            grants: &self.grants,
        };
        let pods = access.start(self.config, templates, &needs).await?;
        started.pods_digest = pods.compile_digest;
        started
            .delivery
            .push(self.config.delivery.for_pods().to_owned());
        for (check, bearing, runtime) in pods.each {
            (started.all).push((check, bearing, Arc::clone(&runtime) as _));
            started.kubernetes.push(runtime);
        }
        started.of.push((RuntimeKind::Kubernetes, pods.runtime));
        started.found.push(pods.found);
        Ok(())
    }

    async fn start_oci(&self, delivery: SocketAddr, started: &mut Started) -> anyhow::Result<()> {
        let oci = &self.config.oci;
        let address = on_this_machine(delivery);
        let settings = oci::Settings {
            peitho: own_program()?,
            program: oci.program.clone(),
            directory: (oci.directory.clone()).unwrap_or_else(|| self.directory.join("oci")),
            cgroup_parent: oci.cgroup_parent.clone(),
            instance: self.instance.clone(),
            delivery_address: address.clone(),
            delivery_ca_pem: self.material.ca_cert_pem.clone(),
            surroundings: self.surroundings.clone(),
            compile_limits: self.config.compile_limits(),
        };
        let (store, registries) = (self.store.clone(), self.registries.clone());
        let oci = Oci::start(settings, store, registries, self.grants.clone())
            .await
            .context("the runtime oci")?;
        started.delivery.push(address);
        let found = oci.describe();
        started.add(RuntimeKind::Oci, oci, found);
        Ok(())
    }

    async fn start_docker(
        &self,
        roles: Roles,
        delivery: SocketAddr,
        started: &mut Started,
    ) -> anyhow::Result<()> {
        let config = self.config;
        // An engine elsewhere has to be told where this is.
        let address = config.delivery.address.clone();
        let is_reached = address.is_some() && !delivery.ip().is_loopback();
        if roles.compile == RuntimeKind::Docker && config.docker.is_elsewhere() && !is_reached {
            anyhow::bail!(
                "compiles on the engine {} do not reach this machine: set delivery.address to https://host:port as they can, and listen.delivery to an address that is not the loopback's",
                config.docker.endpoint
            );
        }
        let address = address.unwrap_or_else(|| on_this_machine(delivery));
        let settings = docker::Settings {
            instance: self.instance.clone(),
            delivery_address: address.clone(),
            delivery_ca_pem: self.material.ca_cert_pem.clone(),
            compile_limits: config.compile_limits(),
            compile_timeout: Duration::from_secs(config.compile.timeout_seconds),
            surroundings: self.surroundings.clone(),
            places: self.registries.places().clone(),
            logins: self.registries.logins().clone(),
            program: std::env::current_exe().context("this program's own file")?,
        };
        let (store, grants) = (self.store.clone(), self.grants.clone());
        let docker = Docker::connect(&config.docker, settings, store, grants)
            .await
            .context("the runtime docker")?;
        if roles.compile == RuntimeKind::Docker {
            docker.check_compiles().context("compile.runtime docker")?;
        }
        started.delivery.push(address);
        let found = format!("engine {}", config.docker.endpoint);
        started.add(RuntimeKind::Docker, docker, found);
        Ok(())
    }
}

/// The file of this program, which runs in the containers of compiles too: there it finds no libraries.
fn own_program() -> anyhow::Result<PathBuf> {
    if !cfg!(target_feature = "crt-static") {
        anyhow::bail!(
            "this build of Peitho needs libraries that the containers of compiles do not have; use the static one, which `make build` makes"
        );
    }
    std::env::current_exe().context("this program's own file")
}

/// How containers that have this machine's network reach a listener that is bound to `bound`.
fn on_this_machine(bound: SocketAddr) -> String {
    let host = match bound.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(host, bound.port()))
}

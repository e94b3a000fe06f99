//! Which runtimes there are, and what each is made with: the part of the composition that depends on where Peitho
//! finds itself (design D2). `serve` calls it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::config::{self, Config, Roles, RuntimeKind};
use crate::grant::Grants;
use crate::names::{Digest, InstanceName};
use crate::registry::Registries;
use crate::runtime::docker::{self, Docker};
use crate::runtime::kubernetes::{self, Kubernetes};
use crate::runtime::oci::{self, Oci};
use crate::runtime::{InstanceMaterial, Runtime, Surroundings};
use crate::store::Store;

/// The file of the [`InstanceMaterial`] where there is no cluster to keep it, in the store's directory.
const INSTANCE_FILE: &str = "instance.json";

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

/// Starts what `roles` need. `delivery` is where the delivery listener is bound, `directory` that of `store`.
///
/// # Errors
/// In one line that says what is missing and how to get it.
pub(super) async fn start(
    config: &Config,
    roles: Roles,
    delivery: SocketAddr,
    (directory, store): (&Path, &Store),
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
    let material = material(directory, &instance, connection.as_ref()).await?;
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
    if let Some(connection) = connection {
        parts
            .start_kubernetes(connection, templates, &mut started)
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
        RuntimeKind::Oci | RuntimeKind::Docker => parts.surroundings.digest(),
    };
    let of = |kind: RuntimeKind| {
        let found = started.all.iter().find(|(name, _)| *name == kind.as_str());
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
    all: Vec<(&'static str, Arc<dyn Runtime>)>,
    kubernetes: Option<Arc<Kubernetes>>,
    pods_digest: Option<Digest>,
    delivery: Vec<String>,
    /// What each one found, for people.
    found: Vec<String>,
}

impl Started {
    fn add(&mut self, kind: RuntimeKind, runtime: Arc<dyn Runtime>, found: String) {
        self.all.push((kind.as_str(), runtime));
        self.found.push(found);
    }
}

impl Parts<'_> {
    async fn start_kubernetes(
        &self,
        connection: kubernetes::Connection,
        templates: kubernetes::Templates,
        started: &mut Started,
    ) -> anyhow::Result<()> {
        let kubernetes::Connection {
            client,
            namespace,
            server,
        } = connection;
        let found = format!("namespace {namespace} of {server}");
        let settings = self.pod_settings(namespace, templates);
        started.pods_digest = settings.compile_digest();
        started.delivery.push(settings.delivery_address.clone());
        let (store, grants) = (self.store.clone(), self.grants.clone());
        let kubernetes = Kubernetes::start(client, settings, store, grants).await?;
        started.add(RuntimeKind::Kubernetes, Arc::clone(&kubernetes) as _, found);
        started.kubernetes = Some(kubernetes);
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
            compile_limits: oci::Limits::of(&self.config.compile.limits),
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
        let logins = self.registries.logins().map(|(host, username, password)| {
            let login = docker::Login {
                username: username.to_owned(),
                password: password.clone(),
            };
            (host.to_owned(), login)
        });
        let settings = docker::Settings {
            instance: self.instance.clone(),
            delivery_address: address.clone(),
            delivery_ca_pem: self.material.ca_cert_pem.clone(),
            compile_limits: config.compile.limits.clone(),
            compile_timeout: Duration::from_secs(config.compile.timeout_seconds),
            surroundings: self.surroundings.clone(),
            logins: logins.collect(),
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

    /// The login of the registry from which built images are run.
    fn pull_login(&self) -> Option<kubernetes::PullLogin> {
        let repository = self.config.images.pushed_to()?.repository()?;
        let mut logins = self.registries.logins();
        let (host, username, password) =
            logins.find(|(host, ..)| *host == repository.registry())?;
        Some(kubernetes::PullLogin {
            host: host.to_owned(),
            username: username.to_owned(),
            password: password.clone(),
        })
    }

    fn pod_settings(
        &self,
        namespace: String,
        templates: kubernetes::Templates,
    ) -> kubernetes::Settings {
        let Config {
            kubernetes,
            compile,
            chaincode,
            agent,
            delivery,
            ..
        } = self.config.clone();
        kubernetes::Settings {
            namespace,
            instance: self.instance.clone(),
            host_aliases: kubernetes.host_aliases,
            image_pull_secrets: kubernetes.image_pull_secrets,
            pull_login: self.pull_login(),
            image_pull_policy: kubernetes.image_pull_policy,
            scheduling_grace: Duration::from_secs(kubernetes.scheduling_grace_seconds),
            agent_image: agent.image,
            delivery_address: delivery.for_pods().to_owned(),
            delivery_ca_pem: self.material.ca_cert_pem.clone(),
            compile_requests: compile.requests,
            compile_limits: compile.limits,
            compile_run_as_user: compile.run_as_user,
            compile_timeout: Duration::from_secs(compile.timeout_seconds),
            chaincode_requests: chaincode.requests,
            chaincode_run_as_user: chaincode.run_as_user,
            surroundings: self.surroundings.clone(),
            templates,
        }
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

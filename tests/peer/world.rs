//! What the cases share: the counterparts, started when the first case needs them, and the table of times.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use testbed::peitho::{self, Build, CHAINCODE_NAMESPACE, Peitho};
use testbed::{
    Assets, Cluster, Dockerd, Fabric, Greetings, Network, PeerConfig, Registry, Release, Run, say,
};

use crate::faults::Table;
use crate::proxy::Proxy;
use testbed::engine::Engine;

/// The peer whose engine is dockerd.
pub(crate) const REFERENCE: usize = 0;
/// The peer whose engine is Peitho.
pub(crate) const PEER: usize = 1;

/// Who may use the closed registry.
pub(crate) const CLOSED_USER: &str = "somebody";
/// A word that stands nowhere else, so that it can be searched for.
pub(crate) const CLOSED_PASSWORD: &str = "open-sesame-7f3a9c51";

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    fabric: RwLock<Option<Fabric>>,
    peitho: Mutex<Option<Peitho>>,
    pub(crate) dockerd: Dockerd,
    pub(crate) build: Build,
    pub(crate) cluster: Cluster,
    pub(crate) registry: Registry,
    /// Asks for a password that no node has by itself.
    pub(crate) closed_registry: Registry,
    pub(crate) run: Run,
    pub(crate) assets: Assets,
    pub(crate) proxy: Proxy,
    pub(crate) greetings: Greetings,
    pub(crate) engine: Engine,
    /// What users were told of faults.
    pub(crate) table: Table,
    /// What the server on this machine is configured with when nothing is wrong.
    config: Value,
    /// What `kubectl` says of the foreign objects before any case.
    pub(crate) foreign: String,
}

impl Counterparts {
    pub(crate) fn start() -> Result<Self> {
        let assets = Assets::open()?;
        peitho::program()?;
        assets.prepare()?;
        let run = Run::start()?;
        say("starting the registry, Kubernetes and dockerd");
        let registry = Registry::start(&assets, &run)?;
        let closed_registry = Registry::start_with_auth(&run, CLOSED_USER, CLOSED_PASSWORD)?;
        let cluster = Cluster::start(&assets, &run)?;
        let images = assets.images()?;
        let nodeenv = assets.nodeenv()?;
        registry.push(&nodeenv)?;
        let dockerd = Dockerd::without_images(&run)?;
        for release in Release::ALL {
            let [_, runtime] = images.fabric(release);
            let builder = assets.warm_builder(release)?;
            registry.push(&builder)?;
            for image in [&builder, runtime] {
                cluster.pull(&registry, image)?;
                dockerd.pull(&registry, image)?;
            }
        }
        cluster.pull(&registry, &nodeenv)?;
        cluster.pull(&registry, &images.copybuilder)?;
        dockerd.pull(&registry, &images.copybuilder)?;
        let build = Build::make(&run, &cluster, &registry)?;
        say("starting Peitho");
        let peitho = Peitho::start(&run, &cluster, &registry, &build, peitho::Log::Trace)?;
        let foreign = foreign_objects(&cluster, &registry.reference(&images.runtime))?;
        let engine: SocketAddr = peitho::ENGINE.parse()?;
        let proxy = Proxy::start(engine)?;
        say("starting the Fabric network");
        let peers = peers(
            Network::V2_1,
            &format!("tcp://{}", proxy.address),
            &dockerd,
            &assets,
            &registry,
        )?;
        let fabric = Fabric::start(&assets, &run, Network::V2_1, peers)?;
        Ok(Self {
            table: Table::default(),
            config: peitho.config()?,
            closed_registry,
            fabric: RwLock::new(Some(fabric)),
            peitho: Mutex::new(Some(peitho)),
            greetings: Greetings::listen(&run)?,
            engine: Engine::new(engine),
            dockerd,
            build,
            cluster,
            registry,
            run,
            assets,
            proxy,
            foreign,
        })
    }

    /// Does something with the network, beside others who do.
    pub(crate) fn with_fabric<T>(&self, work: impl FnOnce(&Fabric) -> Result<T>) -> Result<T> {
        work(
            self.fabric
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .as_ref()
                .context("the network was ended by an earlier case")?,
        )
    }

    /// Does something with the server on this machine.
    pub(crate) fn with_peitho<T>(&self, work: impl FnOnce(&mut Peitho) -> Result<T>) -> Result<T> {
        work(
            lock(&self.peitho)
                .as_mut()
                .context("the server was ended by an earlier case")?,
        )
    }

    /// The server on this machine, killed and started with another configuration.
    pub(crate) fn reconfigure(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut config = self.config.clone();
        change(&mut config);
        self.with_peitho(|peitho| peitho.reconfigure(&self.run, &config))
    }

    /// The server on this machine, killed and started with the configuration that it had first.
    pub(crate) fn configure_as_before(&self) -> Result<()> {
        self.reconfigure(|_| {})
    }

    /// Undoes what a case that failed in the middle did not undo itself.
    pub(crate) fn mend(&self) {
        let mended = || -> Result<()> {
            self.registry.process().resume()?;
            self.cluster.mend(&self.run)?;
            let quotas = [
                "delete",
                "quota",
                "--all",
                "--namespace",
                CHAINCODE_NAMESPACE,
            ];
            self.cluster.kubectl(&quotas)?;
            self.configure_as_before()
        };
        if let Err(error) = mended() {
            say(format!("what the case spoiled stays so: {error:#}"));
        }
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        self.table.show();
        let Self {
            fabric,
            peitho,
            dockerd,
            cluster,
            registry,
            closed_registry,
            run,
            ..
        } = self;
        drop((fabric, peitho, dockerd, cluster, registry, closed_registry));
        run.finish()
    }

    /// Ends the network and starts another, all new, whose peer has `endpoint`.
    pub(crate) fn new_fabric(&self, network: Network, endpoint: &str) -> Result<()> {
        let mut fabric = self.fabric.write().unwrap_or_else(PoisonError::into_inner);
        drop(fabric.take());
        let peers = peers(
            network,
            endpoint,
            &self.dockerd,
            &self.assets,
            &self.registry,
        )?;
        *fabric = Some(Fabric::start(&self.assets, &self.run, network, peers)?);
        Ok(())
    }

    /// The same towards the server on this machine, unless the network that runs is of this kind.
    pub(crate) fn ensure_network(&self, network: Network) -> Result<()> {
        let runs = self.with_fabric(|fabric| Ok(fabric.network())).ok();
        if runs == Some(network) {
            return Ok(());
        }
        self.new_fabric(network, &format!("tcp://{}", self.proxy.address))
    }

    /// Ends the server on this machine for good.
    pub(crate) fn end_peitho(&self) {
        drop(lock(&self.peitho).take());
    }

    /// Names of our objects of one kind in the chaincode namespace, by component.
    pub(crate) fn objects(&self, kind: &str, component: &str) -> Result<Vec<String>> {
        let selector =
            format!("app.kubernetes.io/managed-by=peitho,app.kubernetes.io/component={component}");
        let names = self.cluster.kubectl(&[
            "get",
            kind,
            "--namespace",
            CHAINCODE_NAMESPACE,
            "--selector",
            &selector,
            "-o",
            "name",
        ])?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Waits until there are none of our objects of one kind and component.
    pub(crate) fn wait_for_none(&self, kind: &str, component: &str) -> Result<()> {
        testbed::wait::until(
            &format!("no {kind} of component {component}"),
            Duration::from_secs(30),
            None,
            || Ok(self.objects(kind, component)?.is_empty().then_some(())),
        )
    }

    /// The names under which the peer created chaincode containers, oldest first.
    pub(crate) fn container_names(&self, part: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for exchange in self.proxy.exchanges("/containers/create?name=") {
            let line = exchange.request_line();
            let name = line
                .split("name=")
                .nth(1)
                .and_then(|rest| rest.split([' ', '&']).next());
            if let Some(name) =
                name.filter(|name| name.contains(part) && !names.iter().any(|known| known == name))
            {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// The configurations of the reference and of the peer whose engine is `endpoint`.
fn peers(
    network: Network,
    endpoint: &str,
    dockerd: &Dockerd,
    assets: &Assets,
    registry: &Registry,
) -> Result<[PeerConfig; 2]> {
    let release = network.release();
    let peer = |index, endpoint: &str| {
        let config = PeerConfig::new(release, index, endpoint, assets, registry)?;
        let builder = registry.reference(&assets.warm_builder(release)?);
        anyhow::Ok(PeerConfig { builder, ..config })
    };
    Ok([peer(REFERENCE, &dockerd.endpoint())?, peer(PEER, endpoint)?])
}

/// Objects of somebody else in the namespace that Peitho works in.
fn foreign_objects(cluster: &Cluster, image: &str) -> Result<String> {
    let pod = serde_json::json!({
        "securityContext": {"runAsNonRoot": true, "runAsUser": 500, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "foreign", "image": image, "command": ["sleep", "100000"],
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    });
    let labels = serde_json::json!({"app": "foreign"});
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foreign"}, "spec": pod},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign"}, "stringData": {"key": "value"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "foreign"}, "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }},
    ]});
    cluster.kubectl_stdin(
        &["apply", "--namespace", CHAINCODE_NAMESPACE, "-f", "-"],
        &list.to_string(),
    )?;
    let available = [
        "rollout",
        "status",
        "deployment/foreign",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--timeout=60s",
    ];
    cluster.kubectl(&available)?;
    foreign_state(cluster)
}

/// Identity and content of the foreign objects.
pub(crate) fn foreign_state(cluster: &Cluster) -> Result<String> {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,GENERATION:.metadata.generation,DATA:.data.key";
    cluster.kubectl(&[
        "get",
        "pod/foreign",
        "secret/foreign",
        "deployment/foreign",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "-o",
        columns,
    ])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A case that panicked has failed and said so; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

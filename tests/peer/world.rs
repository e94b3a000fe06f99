//! What the cases share: the counterparts, started when the first case needs them, and the table of times.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use testbed::peitho::{self, Build, CHAINCODE_NAMESPACE, Peitho};
use testbed::{
    Assets, Cluster, Dockerd, Fabric, Greetings, Leftovers, Network, PeerConfig, Registry, Release,
    Run, Steps, say,
};

use crate::cases::Case;
use crate::engine::Engine;
use crate::faults::Table;
use crate::proxy::Proxy;

/// The peer whose engine is dockerd.
pub(crate) const REFERENCE: usize = 0;
/// The peer whose engine is Peitho.
pub(crate) const PEER: usize = 1;

#[derive(Default)]
pub(crate) struct World {
    counterparts: OnceLock<Result<Counterparts, String>>,
    times: Mutex<Vec<(String, Duration, Option<Steps>)>>,
}

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    fabric: Mutex<Option<Fabric>>,
    peitho: Mutex<Option<Peitho>>,
    pub(crate) dockerd: Dockerd,
    pub(crate) build: Build,
    pub(crate) cluster: Cluster,
    pub(crate) registry: Registry,
    /// Asks for a password that nobody here has.
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

impl World {
    /// Runs one case and notes its time.
    pub(crate) fn judge(&self, name: &str, case: Case) -> Result<()> {
        let counterparts = self
            .counterparts
            .get_or_init(|| Counterparts::start().map_err(|error| format!("{error:#}")));
        let counterparts = counterparts
            .as_ref()
            .map_err(|error| anyhow!("the counterparts did not start: {error}"))?;
        say(format!("case {name}"));
        let begun = Instant::now();
        // A panic is a failure like any other: what the case spoiled must not spoil the next ones.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| case(counterparts)))
            .unwrap_or_else(|panic| Err(anyhow!("{}", said_by(&*panic))));
        if result.is_err() {
            counterparts.mend();
        }
        let time = begun.elapsed();
        say(format!(
            "case {name}: {} in {:.1} s",
            if result.is_ok() { "passed" } else { "FAILED" },
            time.as_secs_f64()
        ));
        let steps = result.as_ref().ok().cloned().flatten();
        lock(&self.times).push((name.to_owned(), time, steps));
        result.map(|_| ())
    }

    /// Holds what users were told of all faults against `docs/faults.md`.
    pub(crate) fn compare_table(&self) -> Result<()> {
        match self.counterparts.get() {
            Some(Ok(counterparts)) => counterparts.table.compare(),
            _ => Ok(()),
        }
    }

    /// Ends everything, prints the table, and says what is left on the machine: nothing.
    pub(crate) fn end(self: std::sync::Arc<Self>) -> Result<()> {
        for (name, time, steps) in lock(&self.times).iter() {
            say(format!("{:7.1} s  {name}", time.as_secs_f64()));
            for (step, time) in steps.iter().flat_map(Steps::iter) {
                say(format!("{:11.2} s  {step}", time.as_secs_f64()));
            }
        }
        let Ok(world) = std::sync::Arc::try_unwrap(self) else {
            anyhow::bail!("a case is still running");
        };
        if let Some(Ok(counterparts)) = world.counterparts.into_inner() {
            counterparts.table.show();
            let Counterparts {
                fabric,
                peitho,
                dockerd,
                cluster,
                registry,
                closed_registry,
                run,
                ..
            } = counterparts;
            drop((fabric, peitho, dockerd, cluster, registry, closed_registry));
            run.finish()?;
            let left = Leftovers::find();
            ensure!(
                left.is_empty(),
                "the testbed left on this machine: {left:#?}"
            );
            say("nothing of the testbed is left: no process, mount, interface or cgroup");
        }
        Ok(())
    }
}

impl Counterparts {
    fn start() -> Result<Self> {
        let assets = Assets::open()?;
        peitho::program()?;
        assets.prepare()?;
        let run = Run::start()?;
        say("starting the registry, Kubernetes and dockerd");
        let registry = Registry::start(&assets, &run)?;
        let closed_registry = Registry::start_with_auth(&run, "somebody", "a password")?;
        let cluster = Cluster::start(&assets, &run)?;
        let images = assets.images()?;
        let [builder, runtime] = images.fabric(Release::V2_1);
        let [builder_1_4, runtime_1_4] = images.fabric(Release::V1_4);
        for image in [
            builder,
            runtime,
            builder_1_4,
            runtime_1_4,
            &images.copybuilder,
        ] {
            cluster.pull(&registry, image)?;
        }
        let dockerd = Dockerd::start(&assets, &run, &registry)?;
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
            fabric: Mutex::new(Some(fabric)),
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

    /// Does something with the network.
    pub(crate) fn with_fabric<T>(&self, work: impl FnOnce(&Fabric) -> Result<T>) -> Result<T> {
        work(
            lock(&self.fabric)
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
    fn mend(&self) {
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

    /// Ends the network and starts another, all new, whose peer has `endpoint`.
    pub(crate) fn new_fabric(&self, network: Network, endpoint: &str) -> Result<()> {
        let mut fabric = lock(&self.fabric);
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
        let runs = lock(&self.fabric).as_ref().map(Fabric::network);
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
    Ok([
        PeerConfig::new(release, REFERENCE, &dockerd.endpoint(), assets, registry)?,
        PeerConfig::new(release, PEER, endpoint, assets, registry)?,
    ])
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

/// What a panic said.
fn said_by(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A case that panicked has failed and said so; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Owns the demonstration: from nothing to a stock peer whose chaincode Kubernetes compiles and runs through Peitho, before the
//! eyes of a person, with the times. Ctrl-C at any moment ends it and leaves nothing.

use anyhow::Result;
use testbed::peitho::{Build, CHAINCODE_NAMESPACE, InCluster, NAMESPACE};
use testbed::{
    Assets, Chaincode, ChaincodeId, Cluster, Definition, Fabric, PeerConfig, Registry, Release,
    Run, Steps, say,
};

use crate::foreground::{Ending, foreground};

const NAME: &str = "asset";

/// Shows the main job with a peer of `release`.
pub(crate) fn demo(release: Release, ending: Ending) -> Result<()> {
    let mut steps = Steps::new();
    let assets = steps.time("install and build the counterparts", || {
        let assets = Assets::open()?;
        assets.prepare()?;
        anyhow::Ok(assets)
    })?;
    steps.time("build peitho", testbed::peitho::program)?;
    let run = Run::start()?;
    foreground(&run, ending, || {
        let shown = Components::start(&assets, &run, release, &mut steps)?;
        shown.main_job(&assets, release, &mut steps)?;
        shown.explain(&steps)?;
        if ending == Ending::Stay {
            shown.play_on();
        }
        Ok(shown)
    })
}

/// What runs; in the order in which it ends.
struct Components {
    fabric: Fabric,
    _server: InCluster,
    cluster: Cluster,
    _registry: Registry,
}

impl Components {
    fn start(assets: &Assets, run: &Run, release: Release, steps: &mut Steps) -> Result<Self> {
        say("starting a registry and Kubernetes");
        let (registry, cluster) = steps.time("start a registry and Kubernetes", || {
            let registry = Registry::start(assets, run)?;
            let cluster = Cluster::start(assets, run)?;
            for image in assets.images()?.fabric(release) {
                cluster.pull(&registry, image)?;
            }
            anyhow::Ok((registry, cluster))
        })?;
        say("starting Peitho as a pod, from deploy/");
        let server = steps.time("start Peitho as a pod", || {
            let build = Build::make(run, &cluster, &registry)?;
            InCluster::start(run, &cluster, &build)
        })?;
        let endpoint = server.endpoint();
        say(format!(
            "starting a stock Fabric {} network; its peers have CORE_VM_ENDPOINT={endpoint}",
            release.version()
        ));
        let fabric = steps.time("start the Fabric network", || {
            let peer = |index| PeerConfig::new(release, index, &endpoint, assets, &registry);
            Fabric::start(assets, run, release.into(), [peer(0)?, peer(1)?])
        })?;
        Ok(Self {
            fabric,
            _server: server,
            cluster,
            _registry: registry,
        })
    }

    fn main_job(&self, assets: &Assets, release: Release, steps: &mut Steps) -> Result<()> {
        main_job(assets, &self.fabric, release, steps).map_err(|error| {
            let log = [
                "logs",
                "--namespace",
                NAMESPACE,
                "deployment/peitho",
                "--tail=40",
            ];
            let log = self.cluster.kubectl(&log).unwrap_or_default();
            error.context(format!("the end of Peitho's log:\n{log}"))
        })
    }

    fn explain(&self, steps: &Steps) -> Result<()> {
        say("the chaincode as Kubernetes shows it:");
        let namespace = ["--namespace", CHAINCODE_NAMESPACE];
        // The chaincode answers before the kubelet has told that it runs.
        let ready = [
            "wait",
            "pods",
            "--all",
            "--for=condition=Ready",
            "--timeout=30s",
        ];
        self.cluster.kubectl(&[&ready[..], &namespace].concat())?;
        let pods = [&["get", "pods", "--output", "wide"][..], &namespace].concat();
        for line in self.cluster.kubectl(&pods)?.lines() {
            say(format!("    {line}"));
        }
        say("how long each step took:");
        steps.to_string().lines().for_each(say);
        Ok(())
    }

    fn play_on(&self) {
        say("to play on, paste this into another shell:");
        for line in self.fabric.admin_env(0).lines() {
            say(format!("    {line}"));
        }
        say(format!(
            "    export KUBECONFIG={}",
            self.cluster.kubeconfig().display()
        ));
        say("and then, for example:");
        for line in [
            r#"peer chaincode query -C ch1 -n asset -c '{"Args":["Get","colour"]}'"#,
            r#"peer chaincode invoke $ORDERER -C ch1 -n asset -c '{"Args":["Put","colour","green"]}'"#,
            "kubectl --namespace chaincode get pods --watch",
            "kubectl --namespace peitho logs deployment/peitho --follow",
        ] {
            say(format!("    {line}"));
        }
        say("Ctrl-C stops everything and leaves nothing behind");
    }
}

fn main_job(assets: &Assets, fabric: &Fabric, release: Release, steps: &mut Steps) -> Result<()> {
    match release {
        Release::V1_4 => instantiate(assets, fabric, steps)?,
        Release::V2_1 => commit(assets, fabric, steps)?,
    }
    say("$ peer chaincode invoke ... '{\"Args\":[\"Put\",\"colour\",\"blue\"]}'");
    steps.time("first invoke, committed in a block", || {
        fabric.invoke(0, NAME, &["Put", "colour", "blue"])
    })?;
    say("$ peer chaincode query ... '{\"Args\":[\"Get\",\"colour\"]}'");
    let answer = steps.time("query", || fabric.query(0, NAME, &["Get", "colour"]))?;
    say(format!("    {answer}"));
    anyhow::ensure!(answer == "blue", "the query answered {answer:?}");
    match release {
        Release::V1_4 => upgrade(assets, fabric, steps),
        Release::V2_1 => Ok(()),
    }
}

fn commit(assets: &Assets, fabric: &Fabric, steps: &mut Steps) -> Result<()> {
    let package = Chaincode::asset().label("asset_1").package(assets)?;
    let definition = Definition::new(NAME, "1", 1);
    say("$ peer lifecycle chaincode install asset_1.tar.gz      (Kubernetes compiles it)");
    let id = steps.time("install", || fabric.install(0, &package))?;
    say(format!("    {id}"));
    say("$ peer lifecycle chaincode approveformyorg ...");
    steps.time("approve", || fabric.approve(0, &definition, &id))?;
    say(
        "$ peer lifecycle chaincode commit ...                  (the peer launches it: a pod starts)",
    );
    Ok(steps.time("commit", || fabric.commit(0, &definition))?)
}

fn instantiate(assets: &Assets, fabric: &Fabric, steps: &mut Steps) -> Result<()> {
    let (lscc, id) = (fabric.lscc(0), ChaincodeId::new(NAME, "1.0"));
    say("$ peer chaincode package --name asset --version 1.0 ... asset-1.0.cds");
    let code = Chaincode::basic().version("the first");
    let package = steps.time("package", || lscc.package(assets, &code, &id))?;
    say("$ peer chaincode install asset-1.0.cds                 (the peer only stores it)");
    steps.time("install", || lscc.install(&package))?;
    say(
        "$ peer chaincode instantiate --version 1.0 ...         (Kubernetes compiles it, a pod starts)",
    );
    steps.time("instantiate", || lscc.instantiate(&id))?;
    steps.time("commit", || lscc.wait_until_committed(&id))
}

/// To other code; peers of this release leave the old process alone.
fn upgrade(assets: &Assets, fabric: &Fabric, steps: &mut Steps) -> Result<()> {
    let (lscc, id) = (fabric.lscc(0), ChaincodeId::new(NAME, "2.0"));
    let code = Chaincode::basic().version("the second");
    let package = lscc.package(assets, &code, &id)?;
    lscc.install(&package)?;
    say("$ peer chaincode upgrade --version 2.0 ...             (the old version's pod stays)");
    steps.time("upgrade", || lscc.upgrade(&id))?;
    steps.time("commit of the upgrade", || lscc.wait_until_committed(&id))?;
    say("$ peer chaincode query ... '{\"Args\":[\"version\"]}'");
    let answer = steps.time("query of the new code", || {
        fabric.query(0, NAME, &["version"])
    })?;
    say(format!("    {answer}"));
    anyhow::ensure!(
        answer == "the second",
        "after the upgrade the query answered {answer:?}"
    );
    Ok(())
}

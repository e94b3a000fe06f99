//! The demonstration on Kubernetes: Peitho as a pod, from the manifests that users apply.

use anyhow::Result;
use testbed::peitho::{Build, CHAINCODE_NAMESPACE, InCluster, NAMESPACE};
use testbed::{Assets, Cluster, Fabric, PeerConfig, Registry, Run, Steps, say};

use super::{Shown, Subject, start_network};

/// What runs; in the order in which it ends.
struct Components {
    fabric: Fabric,
    _server: InCluster,
    cluster: Cluster,
    _registry: Registry,
}

/// Starts everything, up to a network whose peers use Peitho.
pub(super) fn start(
    assets: &Assets,
    run: &Run,
    subject: Subject,
    steps: &mut Steps,
) -> Result<Box<dyn Shown>> {
    say("starting a registry and Kubernetes");
    let (registry, cluster) = steps.time("start a registry and Kubernetes", || {
        let registry = Registry::start(assets, run)?;
        let cluster = Cluster::start(assets, run)?;
        for image in subject.images(assets)? {
            registry.push(&image)?;
            cluster.pull(&registry, &image)?;
        }
        anyhow::Ok((registry, cluster))
    })?;
    say("starting Peitho as a pod, from deploy/");
    let server = steps.time("start Peitho as a pod", || {
        let build = Build::make(run, &cluster, &registry)?;
        InCluster::start(run, &cluster, &build)
    })?;
    let endpoint = server.endpoint();
    let fabric = start_network(assets, run, subject.release, &endpoint, steps, |index| {
        PeerConfig::new(subject.release, index, &endpoint, assets, &registry)
    })?;
    Ok(Box::new(Components {
        fabric,
        _server: server,
        cluster,
        _registry: registry,
    }))
}

impl Shown for Components {
    fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    fn log(&self) -> String {
        let log = [
            "logs",
            "deployment/peitho",
            "--tail=40",
            "--namespace",
            NAMESPACE,
        ];
        self.cluster.kubectl(&log).unwrap_or_default()
    }

    fn explain(&self) -> Result<()> {
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
        Ok(())
    }

    fn play(&self) -> (Vec<String>, Vec<String>) {
        let variables = [format!(
            "export KUBECONFIG={}",
            self.cluster.kubeconfig().display()
        )];
        let tries = [
            "kubectl --namespace chaincode get pods --watch",
            "kubectl --namespace peitho logs deployment/peitho --follow",
        ];
        (variables.into(), tries.map(str::to_owned).into())
    }
}

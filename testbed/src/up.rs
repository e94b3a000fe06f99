//! Owns `testbed up`: everything at once, for a person to play with, until Ctrl-C.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use testbed::{
    Assets, Chaincode, Cluster, Dockerd, Fabric, Network, PeerConfig, Registry, Release, Run, say,
};

use crate::foreground::{Ending, foreground};

/// How much is started.
pub(crate) enum Extent {
    WithoutFabric,
    WithFabric { vm_endpoint: Option<String> },
}

/// While it builds or waits for another run, Ctrl-C simply ends the program; from the first component on it means: stop, and wait
/// for the end.
pub(crate) fn up(extent: &Extent) -> Result<()> {
    let assets = Assets::open()?;
    assets.prepare()?;
    let run = Run::start()?;
    foreground(&run, Ending::Stay, || {
        let components = Components::start(&assets, &run, extent)?;
        components.explain(&assets, &run)?;
        Ok(components)
    })
}

struct Components {
    fabric: Option<(Fabric, Dockerd)>,
    cluster: Cluster,
    registry: Registry,
}

impl Components {
    fn start(assets: &Assets, run: &Run, extent: &Extent) -> Result<Components> {
        say("starting the registry");
        let registry = Registry::start(assets, run)?;
        say("starting kubernetes");
        let cluster = Cluster::start(assets, run)?;
        let images = assets.images()?;
        for image in [&images.builder, &images.runtime, &images.copybuilder] {
            cluster.pull(&registry, image)?;
        }
        let fabric = match extent {
            Extent::WithoutFabric => None,
            Extent::WithFabric { vm_endpoint } => {
                say("starting dockerd");
                let dockerd = Dockerd::start(assets, run, &registry)?;
                say("starting fabric");
                let reference = dockerd.endpoint();
                let first = vm_endpoint.as_deref().unwrap_or(&reference);
                let peers = [
                    PeerConfig::new(Release::V2_1, 0, first, assets, &registry)?,
                    PeerConfig::new(Release::V2_1, 1, &reference, assets, &registry)?,
                ];
                Some((Fabric::start(assets, run, Network::V2_1, peers)?, dockerd))
            }
        };
        Ok(Components {
            fabric,
            cluster,
            registry,
        })
    }

    /// What a person needs to go on.
    fn explain(&self, assets: &Assets, run: &Run) -> Result<()> {
        let bin = run.dir().join("bin");
        fs::create_dir_all(&bin)?;
        let kubectl = bin.join("kubectl");
        let kube = assets.kube()?;
        let remembered = run.dir().join("kubectl-cache");
        let script = format!(
            "#!/bin/sh\nKUBECACHEDIR={} exec {} kubectl \"$@\"\n",
            remembered.display(),
            kube.display()
        );
        fs::write(&kubectl, script)?;
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755))?;
        let mut text = format!(
            "everything is up\n\n\
             registry      {}\n\
             kubernetes    export PATH={}:$PATH KUBECONFIG={}\n\
             \x20             kubectl get nodes\n",
            self.registry.address(),
            bin.display(),
            self.cluster.kubeconfig().display(),
        );
        if let Some((fabric, dockerd)) = &self.fabric {
            text.push_str(&format!(
                "dockerd       export DOCKER_HOST={}\n",
                dockerd.endpoint()
            ));
            for peer in 0..2 {
                let file = run.dir().join(format!("peer{peer}.env"));
                fs::write(&file, fabric.admin_env(peer))?;
                text.push_str(&format!("peer{peer}         . {}\n", file.display()));
            }
            let package = Chaincode::basic().package(assets)?;
            text.push_str(&format!(
                "\x20             peer lifecycle chaincode install {}\n",
                package.display()
            ));
        }
        let logs = run.log("*");
        text.push_str(&format!(
            "logs          {}\n\nCtrl-C stops everything",
            logs.display()
        ));
        say(text);
        Ok(())
    }
}

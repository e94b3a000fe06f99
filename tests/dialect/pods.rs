//! A cluster of one node with a Peitho on it, for the cases that want pods: it starts when the first of them is played.

use anyhow::Result;
use testbed::peitho::{Build, Log, Peitho};
use testbed::{Assets, Cluster, Registry, Release, Run, say};

/// Fields end in this order.
pub(crate) struct Pods {
    peitho: Peitho,
    _cluster: Cluster,
}

impl Pods {
    pub(crate) fn start(assets: &Assets, run: &Run, registry: &Registry) -> Result<Self> {
        say("starting Kubernetes and a Peitho on it");
        let cluster = Cluster::start(assets, run)?;
        let images = assets.images()?;
        let [_, runtime] = images.fabric(Release::V2_1);
        for image in [&images.copybuilder, runtime] {
            cluster.pull(registry, image)?;
        }
        let build = Build::make(run, &cluster, registry)?;
        let peitho = Peitho::start(run, &cluster, registry, &build, Log::Trace)?;
        Ok(Self {
            peitho,
            _cluster: cluster,
        })
    }

    pub(crate) fn endpoint(&self) -> String {
        self.peitho.endpoint()
    }
}

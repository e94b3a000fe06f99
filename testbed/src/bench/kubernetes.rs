//! The figures on Kubernetes.

use anyhow::Result;
use testbed::engine::Engine;
use testbed::peitho::{Build, ENGINE, Log, Peitho};
use testbed::{Assets, Cluster, Dockerd, Registry, Run, say};

use super::launches::own_times;
use super::pods::{self, Ground};
use super::{Measured, Report, installs, median, network};

pub(super) fn measure(
    assets: &Assets,
    run: &Run,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    say("starting the counterparts: Kubernetes");
    let registry = Registry::start(assets, run)?;
    let cluster = Cluster::start(assets, run)?;
    let images = assets.images()?;
    for image in [&images.builder, &images.runtime] {
        cluster.pull(&registry, image)?;
    }
    let dockerd = Dockerd::start(assets, run, &registry)?;
    let build = Build::make(run, &cluster, &registry)?;
    let mut peitho = Peitho::start(run, &cluster, &registry, &build, Log::Info)?;
    let rss = || anyhow::Ok(peitho.process().rss_kb()? as f64 / 1024.0);
    report.figure("rss_idle_mb", rss()?, "", "<= 20");
    if rounds > 0 {
        let engines = [dockerd.endpoint(), peitho.endpoint()];
        let fabric = network(assets, run, &registry, engines)?;
        let measured = Measured {
            name: "kubernetes",
            budgets: ["<= 1.1", "<= 0.15"],
            wipe: &|| peitho.wipe_caches(),
        };
        installs(assets, &fabric, rounds, &measured, report)?;
        report.note("rss_after_mb", rss()?.into());
    }
    let engine = Engine::new(ENGINE.parse()?);
    let base = registry.reference(&images.runtime);
    let own = own_times(&engine, peitho.admin(), &base)?;
    report.figure("launch_overhead_ms", median(&own), " ms", "<= 20");
    report.note("launch_overhead_each_ms", own.into());
    let ground = Ground {
        assets,
        run,
        registry: &registry,
        cluster: &cluster,
    };
    pods::measure(&ground, &mut peitho, report)
}

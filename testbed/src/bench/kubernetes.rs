//! The figures on Kubernetes.

use anyhow::Result;
use testbed::peitho::{Build, Log, Peitho};
use testbed::{Assets, Cluster, Dockerd, Registry, Run, say};

use super::{Report, installs, network};

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
    let peitho = Peitho::start(run, &cluster, &registry, &build, Log::Info)?;
    let fabric = network(
        assets,
        run,
        &registry,
        [dockerd.endpoint(), peitho.endpoint()],
    )?;
    let rss = || anyhow::Ok(peitho.process().rss_kb()? as f64 / 1024.0);
    report.figure("rss_idle_mb", rss()?, "", "<= 20");
    installs(assets, &fabric, rounds, "kubernetes", "<= 1.1", report)?;
    report.note("rss_after_mb", rss()?.into());
    Ok(())
}

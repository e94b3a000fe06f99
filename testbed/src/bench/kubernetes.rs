//! The figures on Kubernetes.

use std::net::SocketAddr;

use anyhow::Result;
use testbed::engine::Engine;
use testbed::peitho::{Build, ENGINE, Log, Peitho};
use testbed::{Assets, Cluster, Dockerd, Fabric, Network, PeerConfig, Registry, Release, Run, say};

use super::installs::{self, Place};
use super::launches::own_times;
use super::pods::{self, Ground};
use super::report::Report;
use super::uses;
use super::warm_pods;

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
    let [builder_14, _] = images.fabric(Release::V1_4);
    for image in [&images.builder, builder_14, &images.runtime] {
        cluster.pull(&registry, image)?;
    }
    let dockerd = Dockerd::start(assets, run, &registry)?;
    let build = Build::make(run, &cluster, &registry)?;
    let mut peitho = Peitho::start(run, &cluster, &registry, &build, Log::Info)?;
    let rss = |peitho: &Peitho| anyhow::Ok(peitho.process().rss_kb()? as f64 / 1024.0);
    report.figure("rss_idle_mb", rss(&peitho)?, "", "<= 20");
    if rounds > 0 {
        let [theirs, ours] = [dockerd.endpoint(), peitho.endpoint()];
        let admin = peitho.admin();
        {
            let fabric = installs::network(assets, run, &registry, &theirs, &ours)?;
            installs::measure(
                &place(assets, &fabric, admin),
                rounds,
                || peitho.renew(run),
                report,
            )?;
            let place = place(assets, &fabric, admin);
            uses::measure(&place, rounds, report)?;
            warm_pods::measure(&place, run, rounds, &mut peitho, report)?;
        }
        report.figure("rss_after_mb", rss(&peitho)?, "", "-");
        let peers = [(0, &theirs), (1, &ours)].map(|(index, engine)| {
            PeerConfig::new(Release::V1_4, index, engine, assets, &registry)
        });
        let peers = peers.into_iter().collect::<Result<Vec<_>>>()?;
        let fabric = Fabric::start(assets, run, Network::V1_4, peers)?;
        uses::instantiate(
            &place(assets, &fabric, admin),
            rounds,
            || peitho.renew(run),
            report,
        )?;
    }
    let engine = Engine::new(ENGINE.parse()?);
    remove_all(&engine)?;
    let base = registry.reference(&images.runtime);
    let own = own_times(&engine, peitho.admin(), &base)?;
    report.series("launch_overhead_ms", own, " ms", "<= 20");
    let ground = Ground {
        assets,
        run,
        registry: &registry,
        cluster: &cluster,
    };
    pods::measure(&ground, &mut peitho, report)
}

fn place<'a>(assets: &'a Assets, fabric: &'a Fabric, admin: SocketAddr) -> Place<'a> {
    Place {
        assets,
        fabric,
        suffix: "",
        cold: "<= 1.1",
        admin,
    }
}

/// Chaincode that still runs would share the machine with what is measured next; what ended with its peer has a pod all the same.
fn remove_all(engine: &Engine) -> Result<()> {
    let left = engine
        .send("GET", "/containers/json?all=1", "", b"")?
        .json()?;
    let left = left.as_array().map(Vec::as_slice).unwrap_or_default();
    for id in left.iter().filter_map(|it| it["Id"].as_str()) {
        engine.order("DELETE", &format!("/containers/{id}?force=1"), &[204])?;
    }
    Ok(())
}

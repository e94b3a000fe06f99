//! The figures without a cluster: the `oci` runtime.

use std::time::Instant;

use anyhow::Result;
use testbed::engine::{Engine, chaincode_body};
use testbed::peitho::{Containers, Log, Machine};
use testbed::{Assets, Dockerd, Fabric, Network, PeerConfig, Registry, Release, Run, say};

use super::{Report, installs, median};

/// Launches that are measured.
const LAUNCHES: usize = 10;

pub(super) fn measure(
    assets: &Assets,
    run: &Run,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    say("starting the counterparts: a machine without a cluster");
    let registry = Registry::start(assets, run)?;
    let images = assets.images()?;
    for image in [&images.builder, &images.runtime] {
        registry.push(image)?;
    }
    let dockerd = Dockerd::start(assets, run, &registry)?;
    let program = testbed::peitho::program()?;
    let machine = Machine::start(run, program, Log::Info, Containers::Oci, &[&registry])?;
    // dockerd has its images already; installs are not to measure the pull.
    for image in [&images.builder, &images.runtime] {
        let archive = run.data().join("image.tar");
        image.save_as(&archive, &registry.reference(image))?;
        machine.import(&archive)?;
    }
    let mut index = 0;
    let peers = [dockerd.endpoint(), machine.endpoint()].map(|endpoint| {
        let peer = PeerConfig::new(Release::V2_1, index, &endpoint, assets, &registry);
        index += 1;
        peer
    });
    let [docker, ours] = peers;
    let fabric = Fabric::start(assets, run, Network::V2_1, [docker?, ours?])?;
    let rss = || anyhow::Ok(machine.process().rss_kb()? as f64 / 1024.0);
    report.figure("rss_idle_oci_mb", rss()?, "", "<= 20");
    installs(assets, &fabric, rounds, "oci", "<= 1.0", report)?;
    let engine = Engine::new(machine.engine());
    let launches = launches(&engine, &registry.reference(&images.runtime))?;
    report.figure("launch_oci_s", median(&launches), " s", "<= 0.3");
    Ok(())
}

/// From `create` to a process that runs, as a peer orders it.
fn launches(engine: &Engine, base: &str) -> Result<Vec<f64>> {
    let image = "bench-launch-image";
    engine.build_script(image, base, "#!/bin/sh\nexec sleep 1000\n")?;
    let mut times = Vec::new();
    for number in 0..LAUNCHES {
        let name = format!("bench-launch-{number}");
        let begun = Instant::now();
        engine.create(Some(&name), &chaincode_body(image, "bench:1"))?;
        engine.order("POST", &format!("/containers/{name}/start"), &[204])?;
        times.push(begun.elapsed().as_secs_f64());
        engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    }
    Ok(times)
}

//! The figures without a cluster: the `oci` runtime.

use std::fs;
use std::time::Instant;

use anyhow::{Result, bail};
use testbed::engine::{Engine, chaincode_body};
use testbed::peitho::{Containers, Log, Machine};
use testbed::{Assets, Dockerd, Registry, Run, say};

use super::installs::{self, Place};
use super::report::Report;
use super::{builds, pushes, uses};

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
    let mut machine = Machine::start(run, program, Log::Info, Containers::Oci, &[&registry])?;
    let import = |machine: &Machine| -> Result<()> {
        // dockerd has its images already; installs are not to measure the pull.
        for image in [&images.builder, &images.runtime] {
            let archive = run.data().join("image.tar");
            image.save_as(&archive, &registry.reference(image))?;
            machine.import(&archive)?;
        }
        Ok(())
    };
    import(&machine)?;
    let rss = || anyhow::Ok(machine.process().rss_kb()? as f64 / 1024.0);
    report.figure("rss_idle_oci_mb", rss()?, "", "<= 20");
    if rounds > 0 {
        let [theirs, ours] = [dockerd.endpoint(), machine.endpoint()];
        let fabric = installs::network(assets, run, &registry, &theirs, &ours)?;
        let place = Place {
            assets,
            fabric: &fabric,
            suffix: "_oci",
            cold: "<= 1.0",
            admin: machine.admin(),
        };
        let renew = || {
            machine.renew(run)?;
            import(&machine)
        };
        installs::measure(&place, rounds, renew, report)?;
        uses::measure(&place, rounds, report)?;
    }
    let engine = Engine::new(machine.engine());
    let base = registry.reference(&images.runtime);
    let (launches, memory) = launches(&engine, &base)?;
    report.series("launch_oci_s", launches, " s", "<= 0.3");
    report.series("shim_own_mb", memory, "", "<= 2");
    builds::times(assets, &dockerd.engine(), &engine, &base, report)?;
    let peak = builds::memory(&engine, machine.process(), &base)?;
    report.figure("rss_four_1gib_builds_mb", peak, "", "<= 64");
    pushes::measure(assets, run, &registry, &mut machine, report)
}

/// Seconds from `create` to a process that runs, as a peer orders it, and what the supervisor of each has for itself in MiB.
fn launches(engine: &Engine, base: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    let image = "bench-launch-image";
    engine.build_script(image, base, "#!/bin/sh\nexec sleep 1000\n")?;
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for number in 0..LAUNCHES {
        let name = format!("bench-launch-{number}");
        let begun = Instant::now();
        engine.create(Some(&name), &chaincode_body(image, "bench:1"))?;
        engine.order("POST", &format!("/containers/{name}/start"), &[204])?;
        times.push(begun.elapsed().as_secs_f64());
        memory.push(own_memory(&name)?);
        engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    }
    Ok((times, memory))
}

/// What the supervisor of the container `name` shares with no other process, in MiB.
fn own_memory(name: &str) -> Result<f64> {
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let words: Vec<_> = line.split('\0').collect();
        if words.get(1) != Some(&"shim") || !line.contains(name) {
            continue;
        }
        let rollup = fs::read_to_string(process.join("smaps_rollup"))?;
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        return Ok(kib.sum::<f64>() / 1024.0);
    }
    bail!("no supervisor of {name} runs")
}

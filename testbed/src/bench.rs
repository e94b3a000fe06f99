//! Owns the figures of the performance budget (`docs/benchmarks.md`): the same peer installs the same chaincode on a plain dockerd
//! and on Peitho, in turn, in one run; so the machine's own speed cancels out of the ratio. Prints a table and writes
//! `target/bench/report.json`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use testbed::peitho::{Build, Peitho, project};
use testbed::{
    Assets, Chaincode, Cluster, Dockerd, Fabric, Network, PeerConfig, Registry, Release, Run, say,
};

use crate::foreground::{Ending, foreground};

const DOCKERD: usize = 0;
const PEITHO: usize = 1;

/// Measures `rounds` pairs of installs.
pub(crate) fn bench(rounds: usize) -> Result<()> {
    let assets = Assets::open()?;
    testbed::peitho::program()?;
    assets.prepare()?;
    let run = Run::start()?;
    foreground(&run, Ending::Once, || measure(&assets, &run, rounds))
}

fn measure(assets: &Assets, run: &Run, rounds: usize) -> Result<()> {
    say("starting the counterparts");
    let registry = Registry::start(assets, run)?;
    let cluster = Cluster::start(assets, run)?;
    let images = assets.images()?;
    for image in [&images.builder, &images.runtime] {
        cluster.pull(&registry, image)?;
    }
    let dockerd = Dockerd::start(assets, run, &registry)?;
    let build = Build::make(run, &cluster, &registry)?;
    let peitho = Peitho::start(run, &cluster, &registry, &build, testbed::peitho::Log::Info)?;
    let fabric = Fabric::start(
        assets,
        run,
        Network::V2_1,
        [
            PeerConfig::new(
                Release::V2_1,
                DOCKERD,
                &dockerd.endpoint(),
                assets,
                &registry,
            )?,
            PeerConfig::new(Release::V2_1, PEITHO, &peitho.endpoint(), assets, &registry)?,
        ],
    )?;
    let rss_idle_mb = peitho.process().rss_kb()? as f64 / 1024.0;
    let binary_mb = fs::metadata(&build.program)?.len() as f64 / 1e6;

    let (mut docker, mut ours) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        docker.push(install(assets, &fabric, DOCKERD, &format!("d{round}"))?);
        ours.push(install(assets, &fabric, PEITHO, &format!("p{round}"))?);
    }
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&docker)
        .map(|(ours, docker)| ours / docker)
        .collect();
    let report = json!({
        "install_cold_dockerd_s": docker,
        "install_cold_peitho_s": ours,
        "install_cold_ratio": median(&ratios),
        "rss_idle_mb": rss_idle_mb,
        "rss_after_mb": peitho.process().rss_kb()? as f64 / 1024.0,
        "binary_mb": binary_mb,
    });
    let rows = [
        (
            "install, nothing known, dockerd",
            format!("{:.2} s", median(&docker)),
            "-",
        ),
        (
            "install, nothing known, Peitho",
            format!("{:.2} s", median(&ours)),
            "-",
        ),
        (
            "install_cold_ratio",
            format!("{:.3}", median(&ratios)),
            "<= 1.25",
        ),
        ("rss_idle_mb", format!("{rss_idle_mb:.1}"), "<= 25"),
        ("binary_mb", format!("{binary_mb:.1}"), "<= 15"),
    ];
    say(format!(
        "{:<36} {:>10}   {}",
        "figure (median)", "value", "budget"
    ));
    for (figure, value, budget) in rows {
        say(format!("{figure:<36} {value:>10}   {budget}"));
    }
    write(
        &project().join("target/bench/report.json"),
        &serde_json::to_string_pretty(&report)?,
    )
}

/// One install of code that nobody has seen before; its seconds.
fn install(assets: &Assets, fabric: &Fabric, peer: usize, version: &str) -> Result<f64> {
    let package = Chaincode::asset()
        .label(&format!("bench_{version}"))
        .version(version)
        .package(assets)?;
    let begun = Instant::now();
    fabric.install(peer, &package)?;
    let time: Duration = begun.elapsed();
    let engine = if peer == DOCKERD { "dockerd" } else { "Peitho" };
    say(format!("install on {engine}: {:.2} s", time.as_secs_f64()));
    Ok(time.as_secs_f64())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("no folder")?)?;
    fs::write(path, text)?;
    say(format!("written to {}", path.display()));
    Ok(())
}

//! Owns the figures of the performance budget (`docs/benchmarks.md`): the same peer installs the same chaincode on a plain dockerd
//! and on Peitho, in turn, in one run; so the machine's own speed cancels out of the ratio. Prints a table and writes
//! `target/bench/report.json`.
//!
//! `kubernetes` and `machine` measure one runtime each, with nothing of the other on the machine; `launches` what a launch costs
//! beside its runtime, `pods` what it costs over a bare pod, `builds` and `pushes` what an image costs, `store` what ten thousand
//! images cost.

mod builds;
mod kubernetes;
mod launches;
mod machine;
mod meter;
mod pods;
mod pushes;
mod store;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use testbed::peitho::project;
use testbed::{Assets, Chaincode, Fabric, Network, PeerConfig, Registry, Release, Run, say};

use crate::foreground::{Ending, foreground};

const DOCKERD: usize = 0;
const PEITHO: usize = 1;

/// What was measured.
#[derive(Default)]
struct Report {
    values: Map<String, Value>,
    rows: Vec<[String; 3]>,
}

impl Report {
    /// A figure for the file alone.
    fn note(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// A figure for file and table, with its budget.
    fn figure(&mut self, name: &str, value: f64, unit: &str, budget: &str) {
        self.note(name, json!(value));
        self.rows.push([
            name.to_owned(),
            format!("{value:.2}{unit}"),
            budget.to_owned(),
        ]);
    }

    fn show(&self) {
        say(format!(
            "{:<36} {:>10}   {}",
            "figure (median)", "value", "budget"
        ));
        for [figure, value, budget] in &self.rows {
            say(format!("{figure:<36} {value:>10}   {budget}"));
        }
    }
}

/// Measures `rounds` pairs of installs on each runtime.
pub(crate) fn bench(rounds: usize) -> Result<()> {
    let assets = Assets::open()?;
    let program = testbed::peitho::program()?;
    assets.prepare()?;
    let mut report = Report::default();
    report.figure(
        "binary_mb",
        fs::metadata(&program)?.len() as f64 / 1e6,
        "",
        "<= 15",
    );
    let run = Run::start()?;
    foreground(&run, Ending::Once, || store::measure(&run, &mut report))?;
    drop(run);
    for measure in [kubernetes::measure, machine::measure] {
        let run = Run::start()?;
        foreground(&run, Ending::Once, || {
            measure(&assets, &run, rounds, &mut report)
        })?;
    }
    report.show();
    write(
        &project().join("target/bench/report.json"),
        &serde_json::to_string_pretty(&report.values)?,
    )
}

/// A network whose peers use these engines: [`DOCKERD`] first, then [`PEITHO`].
fn network(
    assets: &Assets,
    run: &Run,
    registry: &Registry,
    endpoints: [String; 2],
) -> Result<Fabric> {
    let peer =
        |index: usize| PeerConfig::new(Release::V2_1, index, &endpoints[index], assets, registry);
    let peers = [peer(DOCKERD)?, peer(PEITHO)?];
    Fabric::start(assets, run, Network::V2_1, peers)
}

/// A runtime whose installs are measured.
struct Measured<'a> {
    name: &'a str,
    /// The budgets of a cold install and of one after a change.
    budgets: [&'a str; 2],
    /// Has the caches of compilers wiped.
    wipe: &'a dyn Fn() -> Result<()>,
}

/// `rounds` times an install on Peitho where nothing is known, one on dockerd, and one on Peitho of code that has changed since,
/// noted as `install_cold_{runtime}` and `install_changed_{runtime}`. What the first one keeps is in the store before the last.
fn installs(
    assets: &Assets,
    fabric: &Fabric,
    rounds: usize,
    measured: &Measured<'_>,
    report: &mut Report,
) -> Result<()> {
    let runtime = measured.name;
    let (mut docker, mut cold, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (peer, whose, times) in [
            (PEITHO, "p", &mut cold),
            (DOCKERD, "d", &mut docker),
            (PEITHO, "c", &mut changed),
        ] {
            if whose == "p" {
                (measured.wipe)()?;
            }
            let version = format!("{runtime}{whose}{round}");
            times.push(install(assets, fabric, peer, &version)?);
        }
    }
    report.note(&format!("install_{runtime}_dockerd_s"), json!(docker));
    let figure = format!("install_{runtime}_dockerd_median_s");
    report.figure(&figure, median(&docker), " s", "-");
    for (what, times, budget) in [
        ("cold", &cold, measured.budgets[0]),
        ("changed", &changed, measured.budgets[1]),
    ] {
        let ratios: Vec<f64> = times.iter().zip(&docker).map(|(a, b)| a / b).collect();
        report.note(&format!("install_{what}_{runtime}_s"), json!(times));
        let figure = format!("install_{what}_{runtime}_median_s");
        report.figure(&figure, median(times), " s", "-");
        let figure = format!("install_{what}_{runtime}_ratio");
        report.figure(&figure, median(&ratios), "", budget);
    }
    Ok(())
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

//! Owns the figures of the performance budget (`docs/benchmarks.md`): the same peer installs the same chaincode on a plain dockerd
//! and on Peitho, in turn, in one run; so the machine's own speed cancels out of the ratio. Prints a table, writes
//! `target/bench/report.json`, and draws `target/bench/installs.svg`.
//!
//! `kubernetes` and `machine` measure one runtime each, with nothing of the other on the machine; `installs` what an install costs, beside
//! the `floor` of a daemon that costs nothing and in `parts`, `warm_pods` what it costs with a pod that waits, and `uses` what comes after it; `launches` what a launch costs beside its runtime, `pods`
//! what it costs over a bare pod, `builds` and `pushes` what an image costs, `store` what ten thousand images cost.

mod builds;
mod floor;
mod installs;
mod kubernetes;
mod launches;
mod machine;
mod meter;
mod parts;
mod picture;
mod pods;
mod pushes;
mod report;
mod store;
mod uses;
mod warm_pods;

use std::fs;

use anyhow::{Result, ensure};
use testbed::peitho::project;
use testbed::{Assets, Run};

use crate::foreground::{Ending, foreground};
use report::Report;

/// The page of the figures.
const FIGURES: &str = include_str!("../../docs/benchmarks.md");

/// The picture that the README shows: renewed where `UPDATE_DOCS` is set.
const SHOWN: &str = "docs/images/installs.svg";

/// Measures `rounds` pairs of installs on each runtime.
pub(crate) fn bench(rounds: usize) -> Result<()> {
    let assets = Assets::open()?;
    let program = testbed::peitho::program()?;
    assets.prepare()?;
    let mut report = Report::default();
    let size = fs::metadata(&program)?.len() as f64 / 1e6;
    report.figure("binary_mb", size, "", "<= 15");
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
    let folder = project().join("target/bench");
    report.write(&folder.join("report.json"))?;
    let (drawn, shown) = (folder.join("installs.svg"), project().join(SHOWN));
    match std::env::var_os("UPDATE_DOCS") {
        Some(_) => picture::write(&report, &[&drawn, &shown])?,
        None => picture::write(&report, &[&drawn])?,
    }
    let unmeasured = report.unmeasured(FIGURES);
    ensure!(
        rounds == 0 || unmeasured.is_empty(),
        "docs/benchmarks.md names figures that are not measured: {unmeasured:?}"
    );
    Ok(())
}

//! What a push costs: Peitho brings an image into a registry, then `crane` brings the same one into another repository there. Both
//! find the layers of the base in their repository, as all pushes but the first do. The server itself says how long its push took; of
//! `crane` it is the whole command.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::engine::{Engine, build_context, tar};
use testbed::peitho::Machine;
use testbed::{Assets, Registry, Run};

use super::builds;
use super::report::Report;

/// Pairs of pushes that are measured, after one that brings the base.
const PUSHES: usize = 7;

/// Measures pushes to `registry`, which has the base too; leaves the server in the mode `registry`.
pub(super) fn measure(
    assets: &Assets,
    run: &Run,
    registry: &Registry,
    machine: &mut Machine,
    report: &mut Report,
) -> Result<()> {
    let mut config = machine.config()?;
    let address = registry.address().to_string();
    config["images"] = json!({
        "mode": "registry",
        "registry": {"address": address, "project": "bench", "scheme": "http"},
    });
    machine.reconfigure(run, &config)?;
    let engine = Engine::new(machine.engine());
    let base = registry.reference(&assets.images()?.runtime);
    let crane = assets.crane()?;
    let crane = |arguments: &[&str]| -> Result<()> {
        let ran = Command::new(&crane)
            .arg("--insecure")
            .args(arguments)
            .output()?;
        let told = String::from_utf8_lossy(&ran.stderr);
        ensure!(
            ran.status.success(),
            "crane {}: {told}",
            arguments.join(" ")
        );
        Ok(())
    };
    let mut program = builds::program(assets)?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..=PUSHES {
        program[..8].copy_from_slice(&(round + 1_000_000).to_le_bytes());
        let context = build_context(&base, &tar(&[("chaincode", 0o755, &program)])?)?;
        engine.build(&format!("bench-push-{round}"), &context)?;
        let (pushed, seconds) = last_push(&machine.process().log())?;
        let layout = run.data().join(format!("bench-push-{round}"));
        let layout = layout.to_str().context("a path that is no text")?;
        crane(&["pull", "--format=oci", &pushed, layout])?;
        let begun = Instant::now();
        crane(&["push", layout, &format!("{address}/bench/crane:{round}")])?;
        if round > 0 {
            ours.push(seconds);
            theirs.push(begun.elapsed().as_secs_f64());
        }
        fs::remove_dir_all(layout)?;
    }
    report.ratio("push_over_crane_ratio", &ours, &theirs, "<= 1.3");
    report.series("push_crane_s", theirs, " s", "-");
    report.series("push_s", ours, " s", "-");
    Ok(())
}

/// The name by digest of the image that was pushed last, and the seconds that it took.
fn last_push(log: &str) -> Result<(String, f64)> {
    let line = log.lines().rfind(|line| line.contains("image: pushed "));
    let line = line.context("the log tells of no push")?;
    let field = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_whitespace().next()
    };
    let pushed = field(" pushed=").context("no name of the pushed image")?;
    let millis: f64 = field(" duration_ms=").context("no duration")?.parse()?;
    Ok((pushed.to_owned(), millis / 1000.0))
}

//! What an install costs with a pod made ahead of need (`compile.warmPods`): one line of a chaincode changed, while a pod waits with what the
//! compiler kept. In turn with dockerd, as the other installs; the time in which the next pod gets ready is nobody's.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use testbed::engine::Engine;
use testbed::peitho::Peitho;
use testbed::{Run, wait};

use super::installs::{DOCKERD, PEITHO, Place};
use super::parts::{Parts, metrics};
use super::report::Report;

/// How long the next pod may take.
const READY: Duration = Duration::from_secs(120);

pub(super) fn measure(
    place: &Place<'_>,
    run: &Run,
    rounds: usize,
    peitho: &mut Peitho,
    report: &mut Report,
) -> Result<()> {
    let before = peitho.config()?;
    let mut config = before.clone();
    config["compile"]["warmPods"] = json!(1);
    peitho.reconfigure(run, &config)?;
    let admin = Engine::new(peitho.admin());
    place.install(
        "the first with warm pods",
        PEITHO,
        &place.package("warm_pods")?,
    )?;
    let (mut docker, mut ours, mut parts) = (Vec::new(), Vec::new(), Parts::default());
    for round in 1..=rounds {
        let package = |name: &str| place.package(&format!("{name}{round}"));
        docker.push(place.install("dockerd", DOCKERD, &package("warm_pods_docker")?)?);
        wait::until("a pod waits for a compile", READY, None, || {
            Ok((metric(&admin, "peitho_compile_warm_pods ")? >= 1.0).then_some(()))
        })?;
        let code = package("warm_pods")?;
        let install = || place.install("code changed, a pod waits", PEITHO, &code);
        ours.push(parts.of(peitho.admin(), install)?);
    }
    let taken = metric(&admin, "peitho_compile_warm_pods_taken_total ")?;
    anyhow::ensure!(
        taken == rounds as f64,
        "{taken} of {rounds} installs had a pod"
    );
    report.series("install_changed_warmpod_s", ours.clone(), " s", "-");
    report.ratio("install_changed_warmpod_ratio", &ours, &docker, "<= 0.08");
    parts.report("install_changed_warmpod", place.suffix, report);
    peitho.reconfigure(run, &before)
}

fn metric(admin: &Engine, name: &str) -> Result<f64> {
    let text = metrics(admin)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name}in the metrics"))?;
    Ok(value.trim().parse()?)
}

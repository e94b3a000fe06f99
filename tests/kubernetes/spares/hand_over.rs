//! What happens to a pod made ahead of need between the run's Secret, which names it, and its agent's word that it has heard: the agent is stopped
//! there, so that this lasts.

use anyhow::{Result, ensure};
use peitho::compile::Run;
use testbed::wait;

use super::{LONG, Peitho, is_spare, kubectl, only_pod};
use crate::world::Counterparts;

/// A compile that has the pod that waits, which does not know it; and that pod.
fn untold(c: &Counterparts, instance: &str, peitho: &Peitho) -> Result<(Run, String)> {
    peitho.compile(peitho.request("one"))?;
    peitho.waiting(1)?;
    let waiting = only_pod(c, instance)?;
    testbed::stop_process_with(&format!("HOSTNAME={waiting}"))?;
    let run = peitho.order(peitho.request("two"))?;
    let of = format!("app.kubernetes.io/instance={instance},app.kubernetes.io/component=compile");
    let path = r"--output=jsonpath={.items[*].metadata.annotations.peitho\.dev/spare-name}";
    wait::until("the run's Secret names the pod", LONG, None, || {
        let named = kubectl(c, &["get", "secrets", "--selector", &of, path])?;
        Ok((named == waiting).then_some(()))
    })?;
    Ok((run, waiting))
}

/// The next Peitho after one that was killed then; and the pod.
fn killed_untold(c: &Counterparts, instance: &str) -> Result<(Peitho, String)> {
    let warm = (1, LONG);
    let peitho = Peitho::start(c, instance, warm, 0)?;
    let (run, waiting) = untold(c, instance, &peitho)?;
    drop(run);
    let port = peitho.kill();
    Ok((Peitho::start(c, instance, warm, port)?, waiting))
}

pub(super) fn killed(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-untold";
    let (peitho, waiting) = killed_untold(c, INSTANCE)?;
    peitho.collect();
    testbed::resume_process_with(&format!("HOSTNAME={waiting}"))?;
    let told = peitho.compile(peitho.request("two"))?;
    ensure!(told == [waiting.as_str(), "one"], "{told:?}, not {waiting}");
    peitho.end(c, INSTANCE)
}

pub(super) fn killed_and_silent(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-silent";
    let (peitho, waiting) = killed_untold(c, INSTANCE)?;
    let told = peitho.compile(peitho.request("two"))?;
    ensure!(
        !is_spare(&told[0]) && told[1] == "one",
        "{told:?}, though {waiting} was stopped"
    );
    // It is not left to the next start.
    peitho.waiting(1)?;
    let left = only_pod(c, INSTANCE)?;
    ensure!(left != waiting);
    peitho.end(c, INSTANCE)
}

pub(super) fn deleted(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-deleted";
    let peitho = Peitho::start(c, INSTANCE, (1, LONG), 0)?;
    let (run, waiting) = untold(c, INSTANCE, &peitho)?;
    kubectl(
        c,
        &["delete", "pod", &waiting, "--grace-period=0", "--force"],
    )?;
    let told = peitho.told(run)?;
    ensure!(
        !is_spare(&told[0]) && told[1] == "one",
        "{told:?}, though {waiting} was deleted"
    );
    peitho.end(c, INSTANCE)
}

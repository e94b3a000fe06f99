//! What comes after an install, and instead of it: the first invoke, which launches; the one after a crash, which launches anew; and
//! how long an operator waits for the words of the compiler. All of it through the stock CLI, on dockerd and on Peitho in turn.

use std::time::Instant;

use anyhow::{Result, bail};
use testbed::{Chaincode, ChaincodeId, Definition, scenario};

use super::installs::{DOCKERD, PEITHO, Place};
use super::report::Report;

/// The sides, and what stands in the names of their figures.
const SIDES: [(usize, &str); 2] = [(DOCKERD, "_dockerd"), (PEITHO, "")];

/// `rounds` of each.
pub(super) fn measure(place: &Place<'_>, rounds: usize, report: &mut Report) -> Result<()> {
    let mut taken: [[Vec<f64>; 3]; 2] = Default::default();
    for round in 1..=rounds {
        let name = format!("uses{}{round}", place.suffix.replace('_', "-"));
        let code = Chaincode::basic().label(&name).version(&name);
        let package = code.package(place.assets)?;
        let mut id = None;
        for (peer, _) in SIDES {
            id = Some(place.fabric.install(peer, &package)?);
        }
        let Some(id) = id else { bail!("no sides") };
        let definition = Definition::new(&name, "1", 1);
        place.fabric.approve(DOCKERD, &definition, &id)?;
        place.fabric.commit(DOCKERD, &definition)?;
        for ((peer, _), [first, relaunch, error]) in SIDES.into_iter().zip(&mut taken) {
            first.push(seconds(|| {
                Ok(place.fabric.invoke(peer, &name, &["Put", "key", "value"])?)
            })?);
            let crash = scenario::crash_and_invoke(place.fabric, peer, &name)?;
            crash.expect()?;
            let next = crash.steps.get("next invoke").unwrap_or_default();
            relaunch.push(next.as_secs_f64());
            let label = format!("{name}-{peer}");
            let failed = scenario::compile_error(place.assets, place.fabric, peer, &label)?;
            failed.expect()?;
            let install = failed.steps.get("install that fails").unwrap_or_default();
            error.push(install.as_secs_f64());
        }
    }
    for ((_, side), values) in SIDES.into_iter().zip(taken) {
        for (figure, values) in ["first_invoke", "relaunch", "compile_error"]
            .into_iter()
            .zip(values)
        {
            report.series(
                &format!("{figure}{}{side}_s", place.suffix),
                values,
                " s",
                "-",
            );
        }
    }
    Ok(())
}

/// `rounds` of what before 2.0 compiles and launches in one: an instantiate of code that nobody has seen before. `renew` gives Peitho an
/// empty store.
pub(super) fn instantiate(
    place: &Place<'_>,
    rounds: usize,
    mut renew: impl FnMut() -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let mut taken: [Vec<f64>; 2] = Default::default();
    for round in 1..=rounds {
        renew()?;
        for ((peer, side), taken) in SIDES.into_iter().zip(&mut taken) {
            let id = ChaincodeId::new(&format!("inst{side}{round}").replace('_', "-"), "1");
            let code = Chaincode::basic().version(&format!("{side}{round}"));
            let lscc = place.fabric.lscc(peer);
            let package = lscc.package(place.assets, &code, &id)?;
            lscc.install(&package)?;
            taken.push(seconds(|| Ok(lscc.instantiate(&id)?))?);
        }
    }
    let [docker, ours] = taken;
    report.ratio("instantiate_14_ratio", &ours, &docker, "-");
    report.series("instantiate_14_dockerd_s", docker, " s", "-");
    report.series("instantiate_14_s", ours, " s", "-");
    Ok(())
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

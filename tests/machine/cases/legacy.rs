//! The way of a chaincode with a stock peer of 1.4, which compiles when a chaincode is instantiated, and removes nothing after an
//! upgrade and nothing at its end.

use anyhow::{Result, ensure};
use testbed::scenario::{self, First, PeerEnd};
use testbed::{Network, Steps};

use crate::world::{Counterparts, Runtime};

/// The chaincode that the cases share after the main job deployed it.
const LEGACY: &str = "legacy";

fn expect_processes(c: &Counterparts, runtime: Runtime, versions: &[u32]) -> Result<()> {
    let name = runtime.name(LEGACY);
    let packages: Vec<_> = versions.iter().map(|it| format!("{name}:{it}")).collect();
    let packages: Vec<_> = packages.iter().map(String::as_str).collect();
    c.greetings.expect_living(&name, &packages)
}

pub(super) fn main_job(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let (peer, name) = (runtime.peer(), runtime.name(LEGACY));
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::lscc::main_job(&c.assets, fabric, peer, &name, First::Cached)
    })?;
    seen.expect(&name)?;
    expect_processes(c, runtime, &[1, 2])?;
    let first = format!("net-peer{peer}.org1.example.com-{name}-1");
    let path = format!("/containers/{first}?force=1");
    c.engine(runtime)?.order("DELETE", &path, &[204])?;
    expect_processes(c, runtime, &[2])?;
    Ok(Some(seen.steps))
}

pub(super) fn crash(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::crash_and_invoke(fabric, runtime.peer(), &runtime.name(LEGACY))
    })?;
    seen.expect()?;
    expect_processes(c, runtime, &[2])?;
    Ok(Some(seen.steps))
}

pub(super) fn compile_error(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    // Code that the main job had compiled before: that it installs at once is not the subject.
    let corrected = format!("{} v1", runtime.name(LEGACY));
    let name = runtime.name("legacybroken");
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::lscc::compile_error(&c.assets, fabric, runtime.peer(), &name, &corrected)
    })?;
    seen.expect(&corrected)?;
    Ok(Some(seen.steps))
}

pub(super) fn restart(c: &Counterparts, runtime: Runtime, end: PeerEnd) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::peer_restart(fabric, runtime.peer(), &runtime.name(LEGACY), end)
    })?;
    ensure!(
        seen.value == "kept",
        "Get after the restart answered {:?}",
        seen.value
    );
    expect_processes(c, runtime, &[2])?;
    Ok(Some(seen.steps))
}

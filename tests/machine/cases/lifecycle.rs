//! The way of a chaincode with a stock peer of 2.1, on each runtime.

use anyhow::{Result, ensure};
use testbed::scenario::{self, First, PeerEnd};
use testbed::{Network, Steps};

use crate::world::{Counterparts, Runtime};

/// The chaincode that the cases share after the main job deployed it.
pub(super) const BASIC: &str = "basic";

/// One process of the version that serves, and none of any other.
pub(super) fn expect_one_process(c: &Counterparts, runtime: Runtime) -> Result<()> {
    let name = runtime.name(BASIC);
    c.greetings.expect_count(&format!("{name}_v2"), 1)?;
    c.greetings.expect_count(&format!("{name}_v1"), 0)
}

pub(super) fn main_job(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let name = runtime.name(BASIC);
    let first = match runtime {
        Runtime::Oci => First::Uncached,
        Runtime::Docker => First::Cached,
    };
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::main_job(&c.assets, fabric, runtime.peer(), &name, first)
    })?;
    seen.expect(&name)?;
    // A 2.x peer removes what an upgrade replaced.
    expect_one_process(c, runtime)?;
    Ok(Some(seen.steps))
}

pub(super) fn crash(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::crash_and_invoke(fabric, runtime.peer(), &runtime.name(BASIC))
    })?;
    seen.expect()?;
    expect_one_process(c, runtime)?;
    Ok(Some(seen.steps))
}

pub(super) fn process_killed(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let package = format!("CORE_CHAINCODE_ID_NAME={}_v2:", runtime.name(BASIC));
    testbed::kill_process_with(&package)?;
    let steps = invoke_and_query(c, runtime, "killed")?;
    expect_one_process(c, runtime)?;
    Ok(Some(steps))
}

/// Puts and gets one value.
pub(super) fn invoke_and_query(c: &Counterparts, runtime: Runtime, key: &str) -> Result<Steps> {
    let mut steps = Steps::new();
    let (peer, name) = (runtime.peer(), runtime.name(BASIC));
    let value = c.with_network(Network::V2_1, |fabric| {
        let put = ["Put", key, "again"];
        steps.time("next invoke", || fabric.invoke(peer, &name, &put))?;
        Ok(steps.time("query", || fabric.query(peer, &name, &["Get", key]))?)
    })?;
    ensure!(value == "again", "Get answered {value:?}");
    Ok(steps)
}

pub(super) fn compile_error(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let label = runtime.name("broken");
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::compile_error(&c.assets, fabric, runtime.peer(), &label)
    })?;
    seen.expect()?;
    Ok(Some(seen.steps))
}

pub(super) fn restart(c: &Counterparts, runtime: Runtime, end: PeerEnd) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::peer_restart(fabric, runtime.peer(), &runtime.name(BASIC), end)
    })?;
    ensure!(
        seen.value == "kept",
        "Get after the restart answered {:?}",
        seen.value
    );
    expect_one_process(c, runtime)?;
    Ok(Some(seen.steps))
}

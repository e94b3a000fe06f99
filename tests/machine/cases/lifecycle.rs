//! The way of a chaincode with a stock peer of 2.1.

use anyhow::{Result, ensure};
use testbed::scenario::{self, PeerEnd};
use testbed::{Network, Steps};

use crate::world::{Counterparts, PEER};

/// The chaincode that the cases share after the main job deployed it.
pub(super) const BASIC: &str = "basic";

pub(super) fn main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::main_job(&c.assets, fabric, PEER, BASIC)
    })?;
    seen.expect(BASIC)?;
    // A 2.x peer removes what an upgrade replaced.
    expect_one_process(c)?;
    Ok(Some(seen.steps))
}

/// One process of the version that serves, and none of any other.
pub(super) fn expect_one_process(c: &Counterparts) -> Result<()> {
    c.greetings.expect_count("basic_v2", 1)?;
    c.greetings.expect_count("basic_v1", 0)
}

pub(super) fn crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::crash_and_invoke(fabric, PEER, BASIC)
    })?;
    ensure!(
        seen.value == "the crash",
        "Get after the crash answered {:?}",
        seen.value
    );
    expect_one_process(c)?;
    Ok(Some(seen.steps))
}

pub(super) fn process_killed_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    testbed::kill_process_with("CORE_CHAINCODE_ID_NAME=basic_v2:")?;
    let steps = invoke_and_query(c, "killed")?;
    expect_one_process(c)?;
    Ok(Some(steps))
}

/// Puts and gets one value.
pub(super) fn invoke_and_query(c: &Counterparts, key: &str) -> Result<Steps> {
    let mut steps = Steps::new();
    let value = c.with_network(Network::V2_1, |fabric| {
        let put = ["Put", key, "again"];
        steps.time("next invoke", || fabric.invoke(PEER, BASIC, &put))?;
        Ok(steps.time("query", || fabric.query(PEER, BASIC, &["Get", key]))?)
    })?;
    ensure!(value == "again", "Get answered {value:?}");
    Ok(steps)
}

pub(super) fn compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::compile_error(&c.assets, fabric, PEER, "broken")
    })?;
    seen.expect()?;
    Ok(Some(seen.steps))
}

fn restart(c: &Counterparts, end: PeerEnd) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::peer_restart(fabric, PEER, BASIC, end)
    })?;
    ensure!(
        seen.value == "kept",
        "Get after the restart answered {:?}",
        seen.value
    );
    expect_one_process(c)?;
    Ok(Some(seen.steps))
}

pub(super) fn peer_terminated_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    restart(c, PeerEnd::Terminated)
}

pub(super) fn peer_killed_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    restart(c, PeerEnd::Killed)
}

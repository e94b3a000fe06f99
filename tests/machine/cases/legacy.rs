//! The way of a chaincode with a stock peer of 1.4, which compiles when a chaincode is instantiated, and removes nothing after an
//! upgrade and nothing at its end.

use anyhow::{Result, ensure};
use testbed::scenario::{self, PeerEnd};
use testbed::{Network, Steps};

use crate::world::{Counterparts, PEER};

/// The chaincode that the cases share after the main job deployed it.
const LEGACY: &str = "legacy";

pub(super) fn main_job_and_upgrade(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::lscc::main_job(&c.assets, fabric, PEER, LEGACY)
    })?;
    seen.expect(LEGACY)?;
    c.greetings
        .expect_living(LEGACY, &["legacy:1", "legacy:2"])?;
    let first = format!("net-peer{PEER}.org1.example.com-{LEGACY}-1");
    let path = format!("/containers/{first}?force=1");
    c.engine.order("DELETE", &path, &[204])?;
    expect_one_process(c)?;
    Ok(Some(seen.steps))
}

fn expect_one_process(c: &Counterparts) -> Result<()> {
    c.greetings.expect_living(LEGACY, &["legacy:2"])
}

pub(super) fn crash_then_next_invoke_works(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::crash_and_invoke(fabric, PEER, LEGACY)
    })?;
    ensure!(
        seen.value == "the crash",
        "Get after the crash answered {:?}",
        seen.value
    );
    expect_one_process(c)?;
    Ok(Some(seen.steps))
}

pub(super) fn compile_error_reaches_the_user(c: &Counterparts) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::lscc::compile_error(&c.assets, fabric, PEER, "legacybroken", "legacy v1")
    })?;
    seen.expect("legacy v1")?;
    Ok(Some(seen.steps))
}

fn restart(c: &Counterparts, end: PeerEnd) -> Result<Option<Steps>> {
    let seen = c.with_network(Network::V1_4, |fabric| {
        scenario::peer_restart(fabric, PEER, LEGACY, end)
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

//! Peitho as an ordinary user, with user namespaces and without any right of root.

use std::fs;

use anyhow::{Result, ensure};
use testbed::engine::Engine;
use testbed::scenario::{self, First};
use testbed::{Network, Steps, wait};

use super::server::{SOON, names_in};
use crate::world::{Counterparts, Runtime};

pub(super) fn main_job_of_an_ordinary_user(c: &Counterparts) -> Result<Option<Steps>> {
    const NAME: &str = "rootless";
    let machine = c.machine_of_user()?;
    let peer = Runtime::Oci.peer();
    // A peer whose engine is another builds and launches there, at its start, all that it has: this one has nothing.
    c.end_network();
    let seen = c.with_network(Network::V2_1, |fabric| {
        fabric.set_vm_endpoint(peer, &machine.endpoint())?;
        scenario::main_job(&c.assets, fabric, peer, NAME, First::Cached)
    })?;
    seen.expect(NAME)?;
    let log = machine.process().log();
    for expected in [
        "containers run without limits of memory and CPU",
        "containers run as the user of this process",
    ] {
        ensure!(log.contains(expected), "the log does not say: {expected}");
    }
    let containers = machine.store().join("oci/containers");
    let engine = Engine::new(machine.engine());
    for name in names_in(&containers)? {
        engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    }
    wait::until("no container is left", SOON, None, || {
        let left = fs::read_dir(&containers)?.count();
        Ok((left == 0).then_some(()))
    })?;
    c.greetings.expect_count(&format!("{NAME}_v2"), 0)?;
    c.end_network();
    Ok(Some(seen.steps))
}

//! Chaincode in JavaScript: what is compiled is a tree of files with links, and npm starts it.

use anyhow::Result;
use testbed::{Chaincode, Network, Steps, scenario};

use crate::world::{Counterparts, Runtime};

pub(super) fn install_and_crash(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let (peer, name) = (runtime.peer(), runtime.name("node"));
    let steps = c.with_network(Network::V2_1, |fabric| {
        scenario::one_invoke_and_crash_of(Chaincode::node(), &c.assets, fabric, peer, &name)
    })?;
    c.greetings.expect_count(&format!("{name}_1"), 1)?;
    Ok(Some(steps))
}

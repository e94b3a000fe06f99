//! Chaincode in JavaScript: what is compiled is a tree of files with links, and npm starts it.

use anyhow::{Result, ensure};
use testbed::{Chaincode, Network, Steps, scenario};

use crate::world::{Counterparts, Runtime};

pub(super) fn install_and_crash(c: &Counterparts, runtime: Runtime) -> Result<Option<Steps>> {
    let (peer, name) = (runtime.peer(), runtime.name("node"));
    let (seen, crash) = c.with_network(Network::V2_1, |fabric| {
        let chaincode = Chaincode::node();
        let seen = scenario::one_invoke_of(chaincode, &c.assets, fabric, peer, &name)?;
        Ok((seen, scenario::crash_and_invoke(fabric, peer, &name)?))
    })?;
    let steps = seen.expect()?;
    ensure!(
        crash.value == "the crash",
        "Get after the crash answered {:?}",
        crash.value
    );
    c.greetings.expect_count(&format!("{name}_1"), 1)?;
    Ok(Some(steps))
}

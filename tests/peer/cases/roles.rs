//! Compiles on this machine, chaincode on the cluster.

use anyhow::Result;
use serde_json::json;
use testbed::{CGROUP_PARENT, Steps, scenario};

use crate::world::{Counterparts, PEER};

pub(super) fn compile_on_this_machine_and_run_as_a_pod(c: &Counterparts) -> Result<Option<Steps>> {
    c.reconfigure(|config| {
        config["compile"]["runtime"] = json!("oci");
        config["oci"] = json!({"cgroupParent": CGROUP_PARENT});
    })?;
    let seen = c.with_fabric(|fabric| scenario::one_invoke(&c.assets, fabric, PEER, "apart"));
    c.configure_as_before()?;
    let steps = seen?.expect()?;
    // No pod ever compiled it.
    c.wait_for_none("pods", "compile")?;
    Ok(Some(steps))
}

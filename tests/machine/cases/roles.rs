//! Compiles here, chaincode there.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::{Network, Steps, scenario};

use crate::world::{Counterparts, Runtime};

/// One install and one invoke, on a server that says at its start that it has these roles.
fn install_and_invoke(
    c: &Counterparts,
    runtime: Runtime,
    roles: &str,
    name: &str,
) -> Result<Option<Steps>> {
    let log = c.with_machine(runtime, |machine| Ok(machine.process().log()))?;
    ensure!(log.contains(roles), "the server does not say {roles:?}");
    let seen = c.with_network(Network::V2_1, |fabric| {
        scenario::one_invoke(&c.assets, fabric, runtime.peer(), name)
    })?;
    Ok(Some(seen.expect()?))
}

pub(super) fn compile_by_docker_and_run_by_oci(c: &Counterparts) -> Result<Option<Steps>> {
    let endpoint = c.docker_endpoint();
    let change = |config: &mut serde_json::Value| {
        config["compile"]["runtime"] = json!("docker");
        config["docker"] = json!({"endpoint": endpoint});
    };
    c.with_configuration(Runtime::Oci, change, || {
        install_and_invoke(
            c,
            Runtime::Oci,
            "compiles on docker, chaincode on oci",
            "compiledbydocker",
        )
    })
}

pub(super) fn compile_by_oci_and_run_by_docker(c: &Counterparts) -> Result<Option<Steps>> {
    let change = |config: &mut serde_json::Value| config["compile"]["runtime"] = json!("oci");
    c.with_configuration(Runtime::Docker, change, || {
        install_and_invoke(
            c,
            Runtime::Docker,
            "compiles on oci, chaincode on docker",
            "compiledbyoci",
        )
    })
}

//! Compiles here, chaincode there.

use anyhow::Result;
use serde_json::json;
use testbed::{Network, Steps, scenario};

use crate::world::{Counterparts, Runtime};

fn install_and_invoke(c: &Counterparts, runtime: Runtime, name: &str) -> Result<Option<Steps>> {
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
        install_and_invoke(c, Runtime::Oci, "compiledbydocker")
    })
}

pub(super) fn compile_by_oci_and_run_by_docker(c: &Counterparts) -> Result<Option<Steps>> {
    let change = |config: &mut serde_json::Value| config["compile"]["runtime"] = json!("oci");
    c.with_configuration(Runtime::Docker, change, || {
        install_and_invoke(c, Runtime::Docker, "compiledbyoci")
    })
}

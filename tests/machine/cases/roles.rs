//! Compiles here, chaincode there.

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::{Chaincode, Definition, Network, Steps};

use crate::world::{Counterparts, Runtime};

/// One install, which compiles, and one invoke, which launches.
fn install_and_invoke(c: &Counterparts, runtime: Runtime, name: &str) -> Result<Option<Steps>> {
    let mut steps = Steps::new();
    let peer = runtime.peer();
    let package = Chaincode::basic()
        .label(&format!("{name}_1"))
        .version(name)
        .package(&c.assets)?;
    let definition = Definition::new(name, "1", 1);
    let answer = c.with_network(Network::V2_1, |fabric| {
        let id = steps.time("install", || fabric.install(peer, &package))?;
        fabric.approve(peer, &definition, &id)?;
        fabric.commit(peer, &definition)?;
        let put = ["Put", "apart", "together"];
        steps.time("first invoke", || fabric.invoke(peer, name, &put))?;
        Ok(fabric.query(peer, name, &["Get", "apart"])?)
    })?;
    ensure!(answer == "together", "Get answered {answer:?}");
    Ok(Some(steps))
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

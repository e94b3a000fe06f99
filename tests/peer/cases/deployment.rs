//! Peitho as its users install it: a pod, from the committed manifests, under Pod Security `restricted`.

use anyhow::{Result, ensure};
use testbed::peitho::{CHAINCODE_NAMESPACE, InCluster, SERVICE_ADDRESS};
use testbed::{Network, Steps, scenario};

use super::secrets::ensure_nothing_left;
use crate::world::{Counterparts, PEER};
use testbed::engine::Engine;

pub(super) fn main_job_with_peitho_as_a_pod(c: &Counterparts) -> Result<Option<Steps>> {
    c.end_peitho();
    let server = InCluster::start(&c.run, &c.cluster, &c.build)?;
    c.new_fabric(Network::V2_1, &server.endpoint())?;
    let result = c.with_fabric(|fabric| scenario::main_job(&c.assets, fabric, PEER, "inpod"));
    let seen = match result {
        Ok(seen) => seen,
        Err(error) => {
            let log = c.cluster.kubectl(&[
                "logs",
                "--namespace",
                "peitho",
                "deployment/peitho",
                "--tail=60",
            ]);
            return Err(error.context(format!("log of Peitho's pod:\n{}", log.unwrap_or_default())));
        }
    };
    ensure!(
        seen.value == "value" && seen.after == "inpod v2",
        "answers were {seen:?}"
    );
    let pods = c.objects("pods", "chaincode")?;
    ensure!(pods.len() == 1, "after the upgrade there are {pods:?}");
    let named = "jsonpath={.items[0].metadata.annotations.peitho\\.dev/container-name}";
    let selector = "app.kubernetes.io/component=chaincode";
    let pods = [
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--selector",
        selector,
    ];
    let name = c
        .cluster
        .kubectl(&[&pods[..], &["--output", named]].concat())?;
    let engine = Engine::new(format!("{SERVICE_ADDRESS}:8080").parse()?);
    engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    ensure_nothing_left(c)?;
    server.stop(&c.cluster)?;
    Ok(Some(seen.steps))
}

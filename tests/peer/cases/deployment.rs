//! Peitho as its users install it: a pod, from the committed manifests, under Pod Security `restricted`.

use anyhow::{Result, ensure};
use testbed::peitho::InCluster;
use testbed::{Steps, scenario};

use crate::world::{Counterparts, PEER};

pub(super) fn main_job_with_peitho_as_a_pod(c: &Counterparts) -> Result<Option<Steps>> {
    c.end_peitho();
    let server = InCluster::start(&c.run, &c.cluster, &c.build)?;
    c.new_fabric(&server.endpoint())?;
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
    server.stop(&c.cluster)?;
    Ok(Some(seen.steps))
}

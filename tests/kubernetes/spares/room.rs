//! Room that a pod made ahead of need takes from those that somebody waits for.

use std::fs;

use anyhow::{Result, ensure};
use testbed::peitho::project;

use super::{LONG, Peitho, is_spare};
use crate::world::Counterparts;

/// With room for one pod.
const NAMESPACE: &str = "chaincode-tight";

pub(super) fn of_a_quota(c: &Counterparts) -> Result<()> {
    let manifest = fs::read_to_string(project().join("deploy/tenant.yaml"))?;
    let path = c.run.data().join("tight.yaml");
    let manifest = manifest.replace("chaincode-org1", NAMESPACE);
    let tight = manifest.replace(r#"pods: "50""#, r#"pods: "1""#);
    ensure!(tight != manifest, "{manifest}");
    fs::write(&path, tight)?;
    c.cluster
        .kubectl(&["apply", "--filename", &path.to_string_lossy()])?;

    let peitho = Peitho::start_in(c, NAMESPACE, "spares-room", (1, LONG), 0)?;
    peitho.compile(peitho.request("one"))?;
    peitho.waiting(1)?;
    let mut other = peitho.request("other");
    other.working_dir = Some("/tmp".to_owned());
    let told = peitho.compile(other.clone())?;
    ensure!(!is_spare(&told[0]), "{told:?}");
    // The next one is of its kind, and takes the only place, as soon as that is counted as free.
    peitho.waiting(1)?;
    let told = peitho.compile(other)?;
    ensure!(is_spare(&told[0]), "{told:?}");
    peitho.kill();
    c.cluster
        .kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}

//! Room that a pod made ahead of need takes from those that somebody waits for.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use testbed::peitho::project;
use testbed::wait;

use super::{LONG, Peitho, is_spare, kubectl};
use crate::world::Counterparts;

/// With room for one pod.
const NAMESPACE: &str = "chaincode-tight";
const THING: &str = "example.com/thing";

pub(super) fn of_a_quota(c: &Counterparts) -> Result<()> {
    let manifest = fs::read_to_string(project().join("deploy/tenant.yaml"))?;
    let path = c.run.data().join("tight.yaml");
    let manifest = manifest.replace("chaincode-org1", NAMESPACE);
    let tight = manifest.replace(r#"pods: "50""#, r#"pods: "1""#);
    ensure!(tight != manifest, "{manifest}");
    fs::write(&path, tight)?;
    c.cluster
        .kubectl(&["apply", "--filename", &path.to_string_lossy()])?;

    let peitho = Peitho::with(c, "spares-room", |setting| {
        NAMESPACE.clone_into(&mut setting.namespace);
    })?;
    makes_way(&peitho)?;
    peitho.kill();
    c.cluster
        .kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])?;
    Ok(())
}

/// The node has one of a thing that each of its compiles requests.
pub(super) fn of_nodes(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "spares-nodes";
    let nodes = [
        "get",
        "nodes",
        "--output=jsonpath={.items[0].metadata.name}",
    ];
    let node = c.cluster.kubectl(&nodes)?;
    let capacity = serde_json::json!({"status": {"capacity": {THING: "1"}}}).to_string();
    let patch = [
        "patch",
        "node",
        &node,
        "--subresource=status",
        "--patch",
        &capacity,
    ];
    c.cluster.kubectl(&patch)?;
    let peitho = Peitho::with(c, INSTANCE, |setting| {
        setting.requests.insert(THING.to_owned(), "1".to_owned());
    })?;
    makes_way(&peitho)?;
    waits_first(c, INSTANCE, &peitho)?;
    peitho.end(c, INSTANCE)
}

/// A compile that waits for a node has what another one leaves before a pod that is made ahead of need after that.
fn waits_first(c: &Counterparts, instance: &str, peitho: &Peitho) -> Result<()> {
    let mut long = peitho.script("mkfifo $HOME/end; hostname; read end <$HOME/end; exit 3");
    long.working_dir = Some("/tmp".to_owned());
    let long = peitho.order(long)?;
    let line = (peitho.tokio).block_on(async { long.log.reader().next().await })?;
    let pod = String::from_utf8(line.context("no line")?.to_vec())?;
    let waits = peitho.order(peitho.request("waits"))?;
    let of = format!("app.kubernetes.io/instance={instance}");
    let path = "--output=jsonpath={.items[*].status.conditions[?(@.type=='PodScheduled')].reason}";
    wait::until("a compile waits for a node", LONG, None, || {
        let found = kubectl(c, &["get", "pods", "--selector", &of, path])?;
        Ok(found.contains("Unschedulable").then_some(()))
    })?;
    let end = ["--", "sh", "-c", "echo >/run/peitho/home/end"];
    kubectl(c, &[&["exec", pod.trim()], &end[..]].concat())?;
    peitho.told(long)?;
    let told = peitho.told(waits)?;
    ensure!(!is_spare(&told[0]), "{told:?}");
    Ok(())
}

fn makes_way(peitho: &Peitho) -> Result<()> {
    peitho.compile(peitho.request("one"))?;
    peitho.waiting(1)?;
    let mut other = peitho.request("other");
    other.working_dir = Some("/tmp".to_owned());
    let told = peitho.compile(other.clone())?;
    let own = told
        .iter()
        .any(|line| line.starts_with("compile-") && !is_spare(line));
    ensure!(own, "{told:?}");
    // The next one is of its kind, and takes the only place, as soon as that is counted as free.
    peitho.waiting(1)?;
    let told = peitho.compile(other)?;
    ensure!(is_spare(&told[0]), "{told:?}");
    Ok(())
}

//! Peitho as its users install it: a pod, from the committed manifests, under Pod Security `restricted`.

use std::process::Command;

use anyhow::{Result, ensure};
use testbed::peitho::{CHAINCODE_NAMESPACE, InCluster, SERVICE_ADDRESS};
use testbed::scenario::{self, First};
use testbed::{Network, Steps};

use super::secrets::ensure_nothing_left;
use crate::world::{Counterparts, PEER};
use testbed::engine::Engine;

pub(super) fn main_job_with_peitho_as_a_pod(c: &Counterparts) -> Result<Option<Steps>> {
    c.end_peitho();
    let server = InCluster::start(&c.run, &c.cluster, &c.build)?;
    c.new_fabric(Network::V2_1, &server.endpoint())?;
    let result =
        c.with_fabric(|fabric| scenario::main_job(&c.assets, fabric, PEER, "inpod", First::Cached));
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
    pull_as_a_person(c)?;
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

/// As `docs/images.md` tells people to.
fn pull_as_a_person(c: &Counterparts) -> Result<()> {
    let asked = |job: &[&str]| {
        let exec = ["exec", "--namespace", "peitho", "deployment/peitho", "--"];
        (c.cluster).kubectl(&[&exec[..], &["/peitho", "images"], job].concat())
    };
    let directory = tempfile::tempdir()?;
    let authority = directory.path().join("ca.crt");
    std::fs::write(&authority, asked(&["ca"])?)?;
    let token = asked(&["token", "--for", "10m"])?;
    let forward = ("peitho", "deployment/peitho");
    let (_forward, near) = c.cluster.forward(&c.run, forward.0, forward.1, 8081)?;
    let host = format!("localhost:{}", near.port());
    let program = c.assets.crane()?;
    let crane = |arguments: &[&str]| {
        let output = Command::new(&program)
            .args(arguments)
            .env("SSL_CERT_FILE", &authority)
            .env("DOCKER_CONFIG", directory.path())
            .output()?;
        ensure!(output.status.success(), "crane {arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let login = [
        "auth",
        "login",
        &host,
        "--username",
        "default",
        "--password",
        token.trim(),
    ];
    crane(&login)?;
    let all = crane(&["catalog", &host])?;
    let images: Vec<&str> = all.lines().collect();
    ensure!(images.len() == 2, "of two versions there are {images:?}");
    // The base is in the registry, and passes through.
    let validated = crane(&["validate", "--remote", &format!("{host}/{}", images[0])])?;
    ensure!(validated.starts_with("PASS"), "{validated}");
    Ok(())
}

//! Images in a registry: what a stock peer installs is pushed to one with a login, and the pod that serves runs it from there.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Steps, scenario};

use crate::world::{Counterparts, PEER};

/// What is built goes to the closed registry, with this password.
pub(super) fn push(c: &Counterparts, config: &mut Value, password: &str) {
    config["images"]["mode"] = json!("registry");
    config["images"]["registry"] = json!({
        "address": c.closed_registry.address().to_string(), "project": "fabric", "scheme": "http",
        "username": "somebody", "password": password,
    });
}

pub(super) fn images_in_a_registry_run_by_their_digest(c: &Counterparts) -> Result<Option<Steps>> {
    c.reconfigure(|config| push(c, config, "a password"))?;
    let seen = c.with_fabric(|fabric| scenario::one_invoke(&c.assets, fabric, PEER, "pushed"));
    let images = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--selector",
        "app.kubernetes.io/component=chaincode",
        "-o",
        "jsonpath={range .items[*]}{.spec.initContainers}{.spec.containers[*].image} {end}",
    ]);
    c.configure_as_before()?;
    let steps = seen?.expect()?;
    let repository = format!("{}/fabric/chaincode@sha256:", c.closed_registry.address());
    let images = images?;
    let whole = images
        .split_whitespace()
        .filter(|image| image.starts_with(&repository));
    ensure!(whole.count() == 1, "pods run {images}");
    c.cluster.kubectl(&[
        "delete",
        "secret",
        "peitho-pull",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ])?;
    Ok(Some(steps))
}

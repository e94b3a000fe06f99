//! Images in a registry: what a stock peer installs is pushed to one with a login, and the pod that serves runs it from there.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testbed::peitho::CHAINCODE_NAMESPACE;
use testbed::{Chaincode, Fabric, Network, Steps, scenario};

use super::{node, secrets};
use crate::world::{CLOSED_PASSWORD, CLOSED_USER, Counterparts, PEER};

/// What is built goes to the closed registry, with this password.
pub(super) fn push(c: &Counterparts, config: &mut Value, password: &str) {
    config["images"]["mode"] = json!("registry");
    config["images"]["registry"] = json!({
        "address": c.closed_registry.address().to_string(), "project": "fabric", "scheme": "http",
        "username": CLOSED_USER, "password": password,
    });
}

/// Nor does it in the spelling of `Authorization` headers and pull secrets.
fn login_appears_nowhere(c: &Counterparts) -> Result<()> {
    let both = format!("{CLOSED_USER}:{CLOSED_PASSWORD}");
    let spellings = [
        CLOSED_PASSWORD.to_owned(),
        STANDARD.encode(CLOSED_PASSWORD),
        STANDARD.encode(both),
    ];
    secrets::appear_nowhere(c, "the login of the registry", &spellings)
}

/// Does `work` while what is built goes to the closed registry, with no Secret made by hand. `expected` more pods run whole images from
/// there afterwards, and the login stands nowhere but in the Secret of the nodes.
fn pushing<T>(
    c: &Counterparts,
    expected: usize,
    work: impl FnOnce(&Fabric) -> Result<T>,
) -> Result<T> {
    // Of peers that ended before.
    let before = whole_images(c)?.len();
    c.reconfigure(|config| push(c, config, CLOSED_PASSWORD))?;
    let seen = c.with_fabric(work);
    let images = whole_images(c);
    let told = login_appears_nowhere(c);
    c.configure_as_before()?;
    let seen = seen?;
    told?;
    let images = images?;
    ensure!(images.len() == before + expected, "pods run {images:?}");
    // The Peitho of before removes it too, some time after its start.
    c.cluster.kubectl(&[
        "delete",
        "secret",
        "--ignore-not-found",
        "peitho-pull",
        "--namespace",
        CHAINCODE_NAMESPACE,
    ])?;
    Ok(seen)
}

/// What pods run from the closed registry by its digest, without an init container.
fn whole_images(c: &Counterparts) -> Result<Vec<String>> {
    let images = c.cluster.kubectl(&[
        "get",
        "pods",
        "--namespace",
        CHAINCODE_NAMESPACE,
        "--selector",
        "app.kubernetes.io/component=chaincode",
        "-o",
        "jsonpath={range .items[*]}{.spec.initContainers}{.spec.containers[*].image} {end}",
    ])?;
    let repository = format!("{}/fabric/chaincode@sha256:", c.closed_registry.address());
    let images = images.split_whitespace().map(str::to_owned);
    Ok(images
        .filter(|image| image.starts_with(&repository))
        .collect())
}

pub(super) fn images_in_a_registry_run_by_their_digest(c: &Counterparts) -> Result<Option<Steps>> {
    let (seen, tree) = pushing(c, 2, |fabric| {
        let seen = scenario::one_invoke(&c.assets, fabric, PEER, "pushed")?;
        // A tree of files with links, on another base.
        let chaincode = Chaincode::node();
        let tree = scenario::one_invoke_of(chaincode, &c.assets, fabric, PEER, "pushednode")?;
        node::expect_rights(fabric, "pushednode")?;
        Ok((seen, tree))
    })?;
    tree.expect()?;
    seen.expect().map(Some)
}

/// The same by a peer of 1.4; the code was compiled for the main job.
pub(super) fn legacy_images_in_a_registry_run_by_their_digest(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    c.ensure_network(Network::V1_4)?;
    let seen = pushing(c, 1, |fabric| {
        scenario::lscc::one_invoke(&c.assets, fabric, PEER, "legacypushed", "legacy v2")
    })?;
    seen.expect().map(Some)
}

//! Chaincode in JavaScript: what is compiled is a tree of files with links, npm fills it and npm starts it, as a user without rights.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testbed::{Chaincode, Fabric, Steps, scenario};

use crate::world::{Counterparts, PEER, REFERENCE};

/// The way of a chaincode, its end in the middle and the process after it.
fn install_and_crash(c: &Counterparts, peer: usize, name: &str) -> Result<Steps> {
    let steps = c.with_fabric(|fabric| {
        scenario::one_invoke_and_crash_of(Chaincode::node(), &c.assets, fabric, peer, name)
    })?;
    c.greetings.expect_count(&format!("{name}_1"), 1)?;
    Ok(steps)
}

pub(super) fn dockerd_node_chaincode(c: &Counterparts) -> Result<Option<Steps>> {
    install_and_crash(c, REFERENCE, "refnode").map(Some)
}

/// npm does without its cache at the start: `$HOME` is `/` for a user whom the image does not know.
pub(super) fn node_chaincode(c: &Counterparts) -> Result<Option<Steps>> {
    let steps = install_and_crash(c, PEER, "node")?;
    c.with_fabric(|fabric| expect_rights(fabric, "node"))?;
    Ok(Some(steps))
}

/// Who the process is, and what it may write: by the user that Pod Security wants instead of the image's root.
pub(super) fn expect_rights(fabric: &Fabric, name: &str) -> Result<()> {
    let asked = ["writable", r#"["/tmp", "/", "/usr/local/src/index.js"]"#];
    let told = fabric.query(PEER, name, &asked)?;
    let told: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
    ensure!(
        told == serde_json::json!({"user": 500, "writable": ["/tmp"]}),
        "the process says {told}"
    );
    Ok(())
}

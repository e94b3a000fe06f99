//! Owns the bridge that joins host and pods, and the firewall rules that let its traffic through. [`crate::Run`] makes it before any pod
//! exists, so that servers for pods can bind to the host's address on it; [`crate::Leftovers`] takes it away.

use std::fs;

use anyhow::{Context, Result};

use crate::assets::Assets;
use crate::places::{BRIDGE, HOST_ADDRESS, NETWORK_NAME, POD_NETWORK};
use crate::program;

/// Locally administered.
const BRIDGE_ADDRESS: &str = "0a:58:0a:58:00:01";

pub(crate) fn create_bridge() -> Result<()> {
    let ip = |arguments: &str| program::output(Assets::command("ip").args(arguments.split(' ')));
    // An address of its own: the bridge would else take that of a port, and when that pod goes, all others have stale neighbours
    // and lose the host for ten seconds.
    ip(&format!(
        "link add {BRIDGE} address {BRIDGE_ADDRESS} type bridge"
    ))
    .context("cannot create the bridge for pods")?;
    ip(&format!("addr add {HOST_ADDRESS}/16 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))?;

    let table = |arguments: String| {
        let arguments = arguments
            .split(' ')
            .chain(["-m", "comment", "--comment", NETWORK_NAME]);
        program::output(Assets::command("iptables").arg("-w").args(arguments))
    };
    // One rule for all pods instead of the bridge plugin's three for each: less to do at every start, less to clean.
    table(format!(
        "-t nat -A POSTROUTING -s {POD_NETWORK} ! -d {POD_NETWORK} -j MASQUERADE"
    ))?;
    // A Docker on this machine sets the policy of FORWARD to drop.
    table(format!("-I FORWARD -i {BRIDGE} -j ACCEPT"))?;
    table(format!("-I FORWARD -o {BRIDGE} -j ACCEPT"))?;
    Ok(())
}

/// The bridge and what hangs on it.
pub(crate) fn interfaces() -> Vec<String> {
    let bridge = format!("/sys/class/net/{BRIDGE}");
    let Ok(ports) = fs::read_dir(format!("{bridge}/brif")) else {
        return Vec::new();
    };
    let ports = ports.flatten().map(|port| port.file_name());
    ports
        .map(|name| name.to_string_lossy().into_owned())
        .chain([BRIDGE.to_owned()])
        .collect()
}

pub(crate) fn delete_interfaces() -> Result<()> {
    for name in interfaces() {
        // The other end of a pod's pair may have gone with its namespace a moment ago.
        let deleted = program::output(Assets::command("ip").args(["link", "delete", &name]));
        if interfaces().contains(&name) {
            deleted?;
        }
    }
    Ok(())
}

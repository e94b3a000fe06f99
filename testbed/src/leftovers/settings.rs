//! Owns the kernel settings that kubelet and the network plugins change: written down before, put back after.

use std::fs;

use anyhow::{Context, Result};

use crate::places::Places;

const CHANGED: [&str; 6] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

pub(super) fn save(places: &Places) -> Result<()> {
    let mut text = String::new();
    for name in CHANGED {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{name}")) {
            text.push_str(&format!("{name} {}\n", value.trim()));
        }
    }
    fs::write(places.saved_settings(), text).context("cannot write down the kernel's settings")
}

/// A setting that cannot be written was not written by the run either.
pub(super) fn restore(places: &Places) -> Result<()> {
    let text = fs::read_to_string(places.saved_settings()).unwrap_or_default();
    for (name, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        fs::write(format!("/proc/sys/{name}"), value).ok();
    }
    Ok(())
}

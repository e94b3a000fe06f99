//! Owns the end of a process that a container runs, without its engine's knowledge. Tests use it as the kernel's stand-in.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the process that has this in its environment, as the kernel would for want of memory.
pub fn kill_process_with(variable: &str) -> Result<()> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|one| one.starts_with(variable.as_bytes()))
        {
            let pid = Pid::from_raw(pid).context("process 0")?;
            kill_process(pid, Signal::KILL)?;
            return Ok(());
        }
    }
    bail!("no process has {variable} in its environment")
}

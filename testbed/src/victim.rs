//! Owns what befalls a process that a container runs, without its engine's knowledge: its end, as the kernel's stand-in, and that it hangs. Tests use it.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the process that has this in its environment, as the kernel would for want of memory.
pub fn kill_process_with(variable: &str) -> Result<()> {
    Ok(kill_process(process_with(variable)?, Signal::KILL)?)
}

/// Stops it where it is: it is there, and says nothing any more.
pub fn stop_process_with(variable: &str) -> Result<()> {
    Ok(kill_process(process_with(variable)?, Signal::STOP)?)
}

/// Lets it go on.
pub fn resume_process_with(variable: &str) -> Result<()> {
    Ok(kill_process(process_with(variable)?, Signal::CONT)?)
}

fn process_with(variable: &str) -> Result<Pid> {
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
            return Pid::from_raw(pid).context("process 0");
        }
    }
    bail!("no process has {variable} in its environment")
}

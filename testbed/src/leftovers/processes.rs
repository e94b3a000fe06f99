//! Owns finding and ending the processes of a run. Each carries the run's mark in its environment, inherited from its component;
//! what runs in containers has no such environment and is found by its cgroup.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::places::{MARK, Places};
use crate::wait;

/// A process that carries the mark.
#[derive(Debug)]
pub(super) struct Marked {
    pid: i32,
    command: String,
}

impl fmt::Display for Marked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pid, self.command)
    }
}

/// All processes of runs in this run directory.
pub(super) fn marked(places: &Places) -> Vec<Marked> {
    let mark = format!("{MARK}={}", places.run.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| carries(*pid, &mark))
        .map(|pid| Marked {
            pid,
            command: command(pid),
        })
        .collect()
}

/// Ends them all, and those that they start meanwhile.
pub(super) fn end_marked(places: &Places) -> Result<()> {
    let mark = format!("{MARK}={}", places.run.display());
    wait::until(
        "ending the run's processes",
        Duration::from_secs(30),
        None,
        || {
            let found = marked(places);
            for process in &found {
                kill_if(process.pid, |pid| carries(pid, &mark));
            }
            Ok(found.is_empty().then_some(()))
        },
    )
}

/// Kills the process if it still is the one meant: the handle is taken before the check, so that the number cannot have gone to
/// another process in between.
pub(super) fn kill_if(pid: i32, is_meant: impl Fn(i32) -> bool) {
    let Some(handle) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return;
    };
    if is_meant(pid) {
        pidfd_send_signal(&handle, Signal::KILL).ok();
    }
}

/// A zombie has no environment any more, and is its parent's business.
fn carries(pid: i32, mark: &str) -> bool {
    let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ"));
    environment.is_ok_and(|text| {
        text.split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

fn command(pid: i32) -> String {
    let text = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    let text = text.unwrap_or_default();
    let words: Vec<_> = text
        .split(|byte| *byte == 0)
        .take(4)
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ")
}

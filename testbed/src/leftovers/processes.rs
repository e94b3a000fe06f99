//! Owns finding and ending the processes of a run. Each carries the run's mark in its environment, inherited from its component;
//! what runs in containers has no such environment and is found by its cgroup, and a container's supervisor by the directory that
//! it is told.

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
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| belongs(*pid, places))
        .map(|pid| Marked {
            pid,
            command: command(pid),
        })
        .collect()
}

/// Ends them all, and those that they start meanwhile.
pub(super) fn end_marked(places: &Places) -> Result<()> {
    wait::until(
        "ending the run's processes",
        Duration::from_secs(30),
        None,
        || {
            let found = marked(places);
            for process in &found {
                kill_if(process.pid, |pid| belongs(pid, places));
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

/// A zombie has neither environment nor command line any more, and is its parent's business.
fn belongs(pid: i32, places: &Places) -> bool {
    let mark = format!("{MARK}={}", places.run.display());
    words_of(pid, "environ").contains(&mark) || supervises(&words_of(pid, "cmdline"), places)
}

/// `peitho shim JOB DIRECTORY`.
fn supervises(command: &[String], places: &Places) -> bool {
    match command {
        [_, shim, _, directory, ..] => shim == "shim" && places.contain(Path::new(directory)),
        _ => false,
    }
}

fn command(pid: i32) -> String {
    let mut words = words_of(pid, "cmdline");
    words.truncate(4);
    words.join(" ")
}

/// What the kernel keeps of a process as words that end with a zero byte.
fn words_of(pid: i32, file: &str) -> Vec<String> {
    let text = fs::read(Path::new("/proc").join(pid.to_string()).join(file));
    let text = text.unwrap_or_default();
    let words = text.split(|byte| *byte == 0);
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

//! Owns the cgroups of a run: those of the testbed's name in each hierarchy. Whatever still runs in one is a container's process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::processes;
use crate::places::CGROUP;
use crate::wait;

/// The run's topmost cgroup in each hierarchy that has one.
pub(super) fn find() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    hierarchies
        .map(|entry| entry.path().join(CGROUP))
        .chain([root.join(CGROUP)])
        .filter(|path| path.is_dir())
        .collect()
}

/// Kills what runs in them and removes them.
pub(super) fn remove() -> Result<()> {
    wait::until("removing cgroups", Duration::from_secs(30), None, || {
        let found = find();
        for top in &found {
            remove_tree(top);
        }
        Ok(found.is_empty().then_some(()))
    })
}

/// Deepest first. A cgroup whose last process is still dying refuses; the next round takes it.
fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    for pid in members(dir) {
        processes::kill_if(pid, |pid| members(dir).contains(&pid));
    }
    fs::remove_dir(dir).ok();
}

fn members(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

//! Owns the list of all that a run brings onto a machine, and its removal. The reaper removes at the end, [`crate::Run`] before a
//! start, and tests assert that nothing is found.

mod cgroups;
mod firewall;
mod mounts;
mod processes;
mod settings;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::places::Places;
use crate::{network, progress, run};

/// What a run leaves when nobody cleans up.
#[derive(Debug)]
pub struct Leftovers;

impl Leftovers {
    /// Everything of the testbed's that is on this machine, one line each. Only logs may stay.
    pub fn find() -> Vec<String> {
        let places = Places::from_env();
        let mut found = Vec::new();
        found.extend(
            processes::marked(&places)
                .iter()
                .map(|p| format!("process {p}")),
        );
        found.extend(
            cgroups::find()
                .iter()
                .map(|c| format!("cgroup {}", c.display())),
        );
        found.extend(
            mounts::below(&places)
                .iter()
                .map(|m| format!("mount {}", m.display())),
        );
        found.extend(
            network::interfaces()
                .iter()
                .map(|i| format!("interface {i}")),
        );
        found.extend(firewall::find(&places));
        for dir in [&places.run, &places.data] {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            found.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| *path != places.logs() && *path != places.data)
                    .map(|path| format!("state {}", path.display())),
            );
        }
        found
    }

    /// The same once the run that goes on is over, by its own end or by its reaper's work. No other one begins meanwhile.
    pub fn of_run_that_ends(patience: Duration) -> Result<Vec<String>> {
        let lock = run::lock(patience)?;
        let found = Self::find();
        drop(lock);
        Ok(found)
    }

    /// Removes what an earlier run left. A run that is still going on is not ended: that is for whoever started it.
    pub fn clean() -> Result<()> {
        // As long as the reaper of a run that just ended may take.
        let lock = run::lock(Duration::from_secs(60))?;
        let result = Self::remove(&Places::from_env());
        drop(lock);
        result
    }

    /// Ends and removes. State is thrown away, so no program is asked to end in peace: components first, that nothing is started
    /// anew, then what ran in containers, then what they held.
    pub(crate) fn remove(places: &Places) -> Result<()> {
        slow("ending processes", || processes::end_marked(places))?;
        slow("ending containers", cgroups::remove)?;
        slow("unmounting", || mounts::detach(places))?;
        slow("removing interfaces", network::delete_interfaces)?;
        slow("removing firewall rules", || firewall::remove(places))?;
        settings::restore(places)?;
        remove_links(Path::new("/var/log/containers"), places);
        remove_results(Path::new("/var/lib/cni/results"), places);
        remove_dead_sockets(Path::new("/run/containerd/s"));
        for dir in [&places.run, &places.data] {
            slow("deleting state", || remove_state(dir, places))?;
        }
        Ok(())
    }

    pub(crate) fn save_settings(places: &Places) -> Result<()> {
        settings::save(places)
    }

    pub(crate) fn foreign_kubernetes() -> Result<bool> {
        firewall::has_kube_chains()
    }
}

/// Says what took long: a clean-up is expected to take a second.
fn slow(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let begun = Instant::now();
    let result = work();
    let taken = begun.elapsed();
    if taken > Duration::from_secs(2) {
        progress::say(format!("{what} took {:.1} s", taken.as_secs_f64()));
    }
    result
}

fn remove_state(dir: &Path, places: &Places) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry?.path();
        if path == places.logs() {
            continue;
        }
        match fs::symlink_metadata(&path)?.is_dir() {
            true => fs::remove_dir_all(&path)?,
            false => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// kubelet links the log of each container here, and nothing tells it not to.
fn remove_links(dir: &Path, places: &Places) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if places.contain(&target) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// The network plugins' notes about pods that were killed without their knowledge; each names the pod's network namespace.
fn remove_results(dir: &Path, places: &Places) {
    let run = places.run.to_string_lossy().into_owned();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if text.contains(&run) {
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// containerd's shims keep their sockets in one directory for all. One that nobody listens on is of no use to any containerd.
fn remove_dead_sockets(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let refused = UnixStream::connect(entry.path())
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if refused {
            fs::remove_file(entry.path()).ok();
        }
    }
}

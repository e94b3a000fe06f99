//! Owns where a run keeps things and how its things are recognised: directories, the lock, the names of its bridge and
//! cgroup, the mark that its processes carry. [`crate::Run`] and [`crate::Leftovers`] must agree on these, so they are here.

use std::path::{Path, PathBuf};

/// The bridge that pods hang on.
pub(crate) const BRIDGE: &str = "peitho-tb0";

/// The address of the host on that bridge.
pub const HOST_ADDRESS: &str = "10.88.0.1";

/// The network of the pods.
pub(crate) const POD_NETWORK: &str = "10.88.0.0/16";

/// The cgroup below which kubelet and dockerd put theirs, in each hierarchy.
pub(crate) const CGROUP: &str = "peitho-testbed";

/// The same as programs are told: one that runs containers by itself and is given this parent is cleaned up after too.
pub const CGROUP_PARENT: &str = "/peitho-testbed";

/// The name of the pods' network, and the comment in each firewall rule that the testbed makes.
pub(crate) const NETWORK_NAME: &str = "peitho-testbed";

/// The environment variable that every process of a run inherits from its component; its value is the run directory.
pub(crate) const MARK: &str = "PEITHO_TESTBED_PROCESS_OF";

/// One for the whole machine: ports and bridge exist once, wherever the directories are.
pub(crate) const LOCK: &str = "/run/peitho-testbed.lock";

/// The directories of a run.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) run: PathBuf,
    pub(crate) data: PathBuf,
}

impl Places {
    /// `/run/peitho-testbed` for sockets, keys and logs, `/var/lib/peitho-testbed` for what is large or is executed (a `/run` in memory
    /// is small and often mounted `noexec`); with `$PEITHO_TESTBED_RUN` both below that directory.
    pub(crate) fn from_env() -> Places {
        match std::env::var_os("PEITHO_TESTBED_RUN").filter(|dir| !dir.is_empty()) {
            Some(dir) => {
                let run = std::path::absolute(&dir).unwrap_or_else(|_| dir.into());
                let data = run.join("data");
                Places { run, data }
            }
            None => Places {
                run: PathBuf::from("/run/peitho-testbed"),
                data: PathBuf::from("/var/lib/peitho-testbed"),
            },
        }
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.run.join("log")
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// There while the chains in the firewall whose names begin with `KUBE-` are a run's, and not another Kubernetes'.
    pub(crate) fn firewall_claim(&self) -> PathBuf {
        self.run.join("owns-kube-chains")
    }

    /// Holds the kernel settings as they were before kubelet changed them.
    pub(crate) fn saved_settings(&self) -> PathBuf {
        self.run.join("kernel-settings")
    }

    pub(crate) fn contain(&self, path: &Path) -> bool {
        path.starts_with(&self.run) || path.starts_with(&self.data)
    }
}

//! Where everything of a container lies. This is the only place that makes a path below the directory of the runtime:
//! `containers/ID/` belongs to the owner of [`super::Host`], `containers/ID/launch/` to the one launch in it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::names::Digest;
pub use crate::names::HostName as Id;

/// What a launch is called where names are common to the whole host: the directory of the runtime is in it, so that two
/// Peithos on one host cannot meet, and nothing that would have to be escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Mark(String);

impl Mark {
    /// That of `id` in the runtime's `directory`.
    pub(super) fn of(directory: &Path, id: &Id) -> Self {
        let directory = Digest::of(directory.as_os_str().as_encoded_bytes()).hex();
        Self(format!("peitho-{}-{id}", &directory[..8]))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The directory of all containers, below that of the runtime.
pub(super) fn containers(directory: &Path) -> PathBuf {
    directory.join("containers")
}

/// Where the runtime program keeps its own state: its `--root`.
pub(super) fn state(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// The directory of one container.
pub(super) fn container(directory: &Path, id: &Id) -> PathBuf {
    containers(directory).join(id.as_str())
}

/// The directory of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(PathBuf);

impl Place {
    /// The name of the lock file.
    pub(super) const LOCK: &str = "shim.lock";
    /// The name of the ending.
    pub(super) const ENDING: &str = "exit.json";
    /// What the names of log files begin with; the offset of the first byte follows.
    pub(super) const LOG: &str = "log.";

    /// That of `id`.
    pub(super) fn of(directory: &Path, id: &Id) -> Self {
        Self(container(directory, id).join("launch"))
    }

    /// The one that the shim was started for.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The order, as the shim gets it.
    pub(super) fn order(&self) -> PathBuf {
        self.0.join("order.json")
    }

    /// Locked by the shim while it lives.
    pub(super) fn lock(&self) -> PathBuf {
        self.0.join(Self::LOCK)
    }

    /// Locked by whoever cleans up after a shim.
    pub(super) fn cleaning(&self) -> PathBuf {
        self.0.join("clean.lock")
    }

    /// What the shim has to say about itself.
    pub(super) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// A fifo that takes the numbers of signals for the container's process, a byte each.
    pub(super) fn signals(&self) -> PathBuf {
        self.0.join("signals")
    }

    /// How it ended.
    pub(super) fn ending(&self) -> PathBuf {
        self.0.join(Self::ENDING)
    }

    /// The log file whose first byte is byte `offset` of the output.
    pub(super) fn log(&self, offset: u64) -> PathBuf {
        self.0.join(format!("{}{offset}", Self::LOG))
    }

    /// Where the moments are: not beside the logs, where each would wake those who watch for output.
    pub(super) fn all_moments(&self) -> PathBuf {
        self.0.join("moments")
    }

    /// When which byte was written of the log file whose first byte is byte `offset` of the output.
    pub(super) fn moments(&self, offset: u64) -> PathBuf {
        self.all_moments().join(offset.to_string())
    }

    /// All that exists only while the container does: bundle, root file system, the runtime's log. As long as it is there,
    /// something may have to be cleaned.
    pub(super) fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// The root file system, seen by the shim and the container.
    pub(super) fn root(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    /// What the container writes, where it has an overlay.
    pub(super) fn upper(&self) -> PathBuf {
        self.bundle().join("upper")
    }

    /// The overlay's own.
    pub(super) fn work(&self) -> PathBuf {
        self.bundle().join("work")
    }

    /// Where an empty mount tells whose mount namespace it is.
    pub(super) fn mark(&self) -> PathBuf {
        self.bundle().join("mark")
    }

    /// Where the runtime writes the process id of the container's first process.
    pub(super) fn pid(&self) -> PathBuf {
        self.bundle().join("pid")
    }

    /// What the runtime has to say.
    pub(super) fn runtime_log(&self) -> PathBuf {
        self.bundle().join("runtime.log")
    }

    /// The container's own `/etc/NAME`.
    pub(super) fn etc(&self, name: &str) -> PathBuf {
        self.bundle().join("etc").join(name)
    }
}

//! What Peitho hands to a shim, and what the shim answers: files and one line of JSON, understood by every later version of
//! this program, since a shim outlives the Peitho that started it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::place::{Id, Mark, Place};
use super::plan::Plan;
use super::program::RuntimeProgram;

/// One launch as ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Order {
    /// What the runtime calls it.
    pub(super) id: Id,
    /// Which runtime; a later Peitho may have another.
    pub(super) runtime: RuntimeProgram,
    /// The runtime's `--root`.
    pub(super) state: PathBuf,
    /// What the kernel shows of it: its cgroup and the source of its mounts are called so.
    pub(super) mark: Mark,
    /// The path of its cgroup in each hierarchy.
    pub(super) cgroup: PathBuf,
    pub(super) plan: Plan,
}

impl Order {
    pub(super) fn write(&self, place: &Place) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(place.order())?;
        file.write_all(&serde_json::to_vec(self)?)
    }

    pub(super) fn read(place: &Place) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(place.order())?)?)
    }
}

/// What became of a start: the one line that the shim writes to its stdout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// The process runs.
    Running { limitations: Vec<Limitation> },
    /// It does not, and nothing is left of the attempt but its ending.
    NeverStarted { reason: String },
}

/// What a container has to do without on this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Limitation {
    /// No limits of memory and CPU are set: why not.
    Cgroup { reason: String },
    /// The layers were copied instead of mounted over each other: why.
    Overlay { reason: String },
    /// The user of the image is not used: why.
    User { reason: String },
}

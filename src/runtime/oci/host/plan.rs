//! What one launch is to be: the finished order for a container, without a word about where it came from. The owner of
//! [`super::Host`] makes it, the shim carries it out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A container as ordered. It is written beside the launch as JSON, readable by this user alone: an environment may hold
/// what is nobody else's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The directories that the root file system consists of, the topmost first. They are never changed, so many
    /// containers may stand on one.
    pub lower: Vec<PathBuf>,
    /// The command; the first is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// The environment; of equal names the last wins. `PATH`, `HOSTNAME` and `HOME` are added where missing, as Docker does.
    pub env: Vec<(String, String)>,
    /// Where the command begins, seen from `/`; made when it is not there.
    pub working_dir: String,
    /// Docker's `USER`: empty for root, `user` or `user:group`, each a number or a name of the image's `/etc/passwd` and
    /// `/etc/group`.
    pub user: String,
    /// What of the host is seen in the container.
    pub binds: Vec<Bind>,
    /// Names and addresses on top of the host's own `/etc/hosts`.
    pub hosts: Vec<(String, String)>,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The most CPU, in thousandths of one.
    pub cpu_millis: Option<u64>,
    /// Whether the process may write to its root.
    pub root: Root,
    /// Capabilities beside Docker's fourteen, spelled without `CAP_`.
    pub added_capabilities: Vec<String>,
}

/// A file or directory of the host in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container; made when it is not there.
    pub destination: PathBuf,
    /// What the process may do with it.
    pub access: Access,
}

/// What a process may do with a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Write to it too, as far as its permission bits allow.
    ReadWrite,
}

/// What a process may do with its root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Root {
    /// Change it; what it changed goes with the launch.
    #[default]
    Writable,
    /// Read it: Docker's `ReadonlyRootfs`.
    ReadOnly,
}

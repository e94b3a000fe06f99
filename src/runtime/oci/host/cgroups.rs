//! The cgroup of a container: whether this host lets us make one, what it told about memory, and that it goes. Version 1 and
//! hybrid hierarchies have a directory per controller, version 2 one for all. The shim asks; the runtime makes the cgroup.

use std::fs;
use std::path::Path;

use rustix::fs::{Access, access, statfs};

use super::namespaces::Rights;
use super::place::Id;
use super::program::RuntimeProgram;
use crate::names::Digest;

const HIERARCHY: &str = "/sys/fs/cgroup";

/// CGROUP2_SUPER_MAGIC of `linux/magic.h`.
const VERSION_2: u64 = 0x6367_7270;

/// What this host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// A hierarchy per controller, be there an empty one of version 2 beside them or not.
    Version1,
    /// One for all.
    Version2,
    /// None that we may use: why not.
    None { reason: String },
}

impl Cgroups {
    /// What `program` can use here.
    pub(super) fn of_this_host(program: &RuntimeProgram, rights: Rights) -> Self {
        let none = |reason: String| Self::None { reason };
        if rights == Rights::User {
            return none("Peitho does not run as root".to_owned());
        }
        let root = Path::new(HIERARCHY);
        let (version, folder) = match statfs(root) {
            Ok(found) if u64::try_from(found.f_type) == Ok(VERSION_2) => {
                (Self::Version2, root.to_owned())
            }
            // What runc cannot do without.
            Ok(_) => (Self::Version1, root.join("devices")),
            Err(error) => return none(format!("{HIERARCHY}: {error}")),
        };
        if version == Self::Version1 && !program.knows_version_1() {
            return none(format!(
                "crun does not use cgroups of version 1, which are at {HIERARCHY}"
            ));
        }
        match access(&folder, Access::WRITE_OK) {
            Ok(()) => version,
            Err(error) => none(format!("{}: {error}", folder.display())),
        }
    }

    /// What the cgroup of `id` is called in each hierarchy, below `parent`. It has no parent of Peitho's own, which nobody could
    /// remove without taking it from under a start; so the name says too which directory of containers it belongs to.
    pub(super) fn name(parent: &Path, containers: &Path, id: &Id) -> String {
        let directory = Digest::of(containers.as_os_str().as_encoded_bytes()).hex();
        let name = parent.join(format!("peitho-{}-{id}", &directory[..8]));
        name.to_string_lossy().trim_start_matches('/').to_owned()
    }

    /// Whether the kernel killed a process in the cgroup `name` for want of memory. To be asked while it is there.
    pub(super) fn out_of_memory(&self, name: &str) -> bool {
        let root = Path::new(HIERARCHY);
        let file = match self {
            Self::Version1 => root.join("memory").join(name).join("memory.oom_control"),
            Self::Version2 => root.join(name).join("memory.events"),
            Self::None { .. } => return false,
        };
        // Both have a line of this form since Linux 4.13.
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// Removes what a runtime that was killed left of the cgroup `name`; nothing runs in it.
    pub(super) fn remove(&self, name: &str) {
        let root = Path::new(HIERARCHY);
        let folders = match self {
            Self::Version1 => {
                let entries = fs::read_dir(root).into_iter().flatten().flatten();
                entries.map(|entry| entry.path().join(name)).collect()
            }
            Self::Version2 => vec![root.join(name)],
            Self::None { .. } => Vec::new(),
        };
        for folder in folders {
            // Mostly it is not there: the runtime has done it.
            let _ = fs::remove_dir(folder);
        }
    }
}

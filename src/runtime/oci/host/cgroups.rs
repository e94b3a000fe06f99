//! The cgroup of a container: whether this host lets us make one, what it told about memory, and that it goes. Version 1 and
//! hybrid hierarchies have a directory per controller, version 2 one for all. The shim asks; the runtime makes the cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::namespaces::Rights;
use super::place::Mark;
use super::program::RuntimeProgram;

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
    /// What `program` can use here. To be asked in the shim's own mount namespace, where a hierarchy may be hidden from it.
    pub(super) fn of_this_host(program: &RuntimeProgram, rights: Rights) -> Self {
        let none = |reason: String| Self::None { reason };
        let root = Path::new(HIERARCHY);
        let (version, folder) = match is_version_2(root) {
            Ok(true) => (Self::Version2, root.to_owned()),
            // What runc cannot do without.
            Ok(false) => (Self::Version1, root.join("devices")),
            Err(error) => return none(format!("{HIERARCHY}: {error}")),
        };
        if version == Self::Version1 && !program.knows_version_1() {
            hide_hybrid();
            return none(format!(
                "{} does not use cgroups of version 1",
                program.path().display()
            ));
        }
        if rights == Rights::User {
            return none("Peitho does not run as root".to_owned());
        }
        match access(&folder, Access::WRITE_OK) {
            Ok(()) => version,
            Err(error) => none(format!("{}: {error}", folder.display())),
        }
    }

    /// The path of the cgroup in each hierarchy, below `parent`, which is the operator's: one of Peitho's own nobody could
    /// remove without taking it from under a start.
    pub(super) fn path(parent: &Path, mark: &Mark) -> PathBuf {
        parent.join(mark.as_str())
    }

    /// Whether the kernel killed a process in `cgroup` for want of memory. To be asked while it is there.
    pub(super) fn out_of_memory(&self, cgroup: &Path) -> bool {
        let name = below_root(cgroup);
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

    /// Removes what a runtime that was killed left of `cgroup`; nothing runs in it.
    pub(super) fn remove(&self, cgroup: &Path) {
        let name = below_root(cgroup);
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

fn below_root(cgroup: &Path) -> &Path {
    cgroup.strip_prefix("/").unwrap_or(cgroup)
}

/// Covers the part of version 2 of a hybrid hierarchy, for who refuses to work where there is one.
fn hide_hybrid() {
    let unified = Path::new(HIERARCHY).join("unified");
    if is_version_2(&unified).unwrap_or(false) {
        // Should it not work, the runtime says what it minds.
        let _ = mount("none", &unified, "tmpfs", MountFlags::RDONLY, None);
    }
}

fn is_version_2(path: &Path) -> Result<bool, Errno> {
    Ok(u64::try_from(statfs(path)?.f_type) == Ok(VERSION_2))
}

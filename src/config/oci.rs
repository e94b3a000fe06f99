//! Section `oci`.

use std::path::{Component, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// Containers on this machine, without a daemon.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Oci {
    /// The path of a runc-compatible program. Unset: the first of `runc`, `crun` and `youki` on the `PATH`.
    pub program: Option<PathBuf>,
    /// Where unpacked images, containers and their logs are kept. Unset: `oci` in `store.directory`.
    pub directory: Option<PathBuf>,
    /// The cgroup below which each container gets one of its own, absolute; made where it is not there.
    pub cgroup_parent: PathBuf,
}

impl Default for Oci {
    fn default() -> Self {
        Self {
            program: None,
            directory: None,
            cgroup_parent: PathBuf::from("/"),
        }
    }
}

impl Oci {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (key, path) in [
            ("oci.program", &self.program),
            ("oci.directory", &self.directory),
        ] {
            if let Some(path) = path.as_deref().filter(|path| path.as_os_str().is_empty()) {
                problems.add(key, path.display(), "a path, or nothing");
            }
        }
        let parent = &self.cgroup_parent;
        let plain = parent
            .components()
            .skip(1)
            .all(|it| matches!(it, Component::Normal(_)));
        if !parent.is_absolute() || !plain {
            let accepted = "an absolute path in the hierarchy of cgroups, such as /peitho";
            problems.add("oci.cgroupParent", parent.display(), accepted);
        }
    }
}

//! Section `store`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// The content-addressed store (design D4).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Store {
    /// A directory on a volume that outlives Peitho.
    pub directory: PathBuf,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/peitho"),
        }
    }
}

impl Store {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.directory.as_os_str().is_empty() {
            problems.add("store.directory", &self.directory, "a directory");
        }
    }
}

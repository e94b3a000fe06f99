//! Section `store`.

use std::path::PathBuf;

use rustix::process::geteuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Problems, S3, Surrounding};

/// The content-addressed store (design D4).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Store {
    /// A directory on a volume that outlives Peitho. Unset: `/var/lib/peitho`, and for an ordinary user of a machine
    /// `peitho` in `$XDG_DATA_HOME`, which mostly is `~/.local/share`.
    ///
    /// With a bucket, it holds what is on its way there and copies of what is in it, and may be lost.
    pub directory: Option<PathBuf>,
    /// A bucket instead of the directory, which several Peithos may share: see [its page](store.md).
    pub s3: S3,
}

impl Store {
    /// The directory in force for a Peitho that runs in `surrounding`.
    pub fn place(&self, surrounding: Surrounding) -> PathBuf {
        let of_machine = PathBuf::from("/var/lib/peitho");
        match (&self.directory, surrounding) {
            (Some(directory), _) => directory.clone(),
            (None, Surrounding::Cluster) => of_machine,
            (None, Surrounding::Machine) if geteuid().is_root() => of_machine,
            (None, Surrounding::Machine) => of_user().unwrap_or(of_machine),
        }
    }

    /// The bucket that is the store; `None` where the directory is.
    pub fn bucket(&self) -> Option<&S3> {
        (!self.s3.bucket.is_empty()).then_some(&self.s3)
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        self.s3.check(problems);
        if let Some(directory) = &self.directory
            && directory.as_os_str().is_empty()
        {
            problems.add("store.directory", directory.display(), "a directory");
        }
    }
}

/// By the XDG Base Directory Specification: a relative `XDG_DATA_HOME` counts for nothing.
fn of_user() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let data = absolute("XDG_DATA_HOME");
    let data = data.or_else(|| Some(absolute("HOME")?.join(".local/share")));
    Some(data?.join("peitho"))
}

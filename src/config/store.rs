//! Section `store`.

use std::path::PathBuf;

use rustix::process::geteuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Quantity;
use super::{Problems, S3, Surrounding};

/// The content-addressed store (design D4).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Store {
    /// A directory on a volume that outlives Peitho. Unset: `/var/lib/peitho`, and for an ordinary user of a machine
    /// `peitho` in `$XDG_DATA_HOME`, which mostly is `~/.local/share`.
    ///
    /// With a bucket, it holds what is on its way there and copies of what is in it, and may be lost, unless a runtime is
    /// `oci` or `docker`: their keys and the records of their containers are in it too.
    pub directory: Option<PathBuf>,
    /// A bucket instead of the directory, which several Peithos may share: see [its page](store.md).
    pub s3: S3,
    /// Bytes that the results of compiles may take, as a quantity such as `10Gi`. The longest unused go first; the next
    /// install of such a package compiles again. `0` keeps each only until the next collection.
    pub compile_results: String,
    /// Bytes that compilers' caches may take altogether, as a quantity; for a while an eighth more for each Peitho that uses the store. Those
    /// of a tenant and builder image that were not used for the longest time go first; the next compile there begins without. `0` keeps none for long.
    pub compile_caches: String,
    /// Seconds from one collection to the next. What no image, base or result needs any more is deleted by the second one
    /// that finds it so.
    pub collect_every_seconds: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            directory: None,
            s3: S3::default(),
            compile_results: "10Gi".to_owned(),
            compile_caches: "3Gi".to_owned(),
            collect_every_seconds: 3600,
        }
    }
}

impl Store {
    /// [`Store::compile_results`] in bytes.
    pub fn compile_result_bytes(&self) -> u64 {
        let checked = self.compile_results.parse::<Quantity>();
        checked.map_or(u64::MAX, Quantity::whole)
    }

    /// [`Store::compile_caches`] in bytes.
    pub fn compile_cache_bytes(&self) -> u64 {
        let checked = self.compile_caches.parse::<Quantity>();
        checked.map_or(u64::MAX, Quantity::whole)
    }

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
        for (key, bytes) in [
            ("store.compileResults", &self.compile_results),
            ("store.compileCaches", &self.compile_caches),
        ] {
            if bytes.parse::<Quantity>().is_err() {
                problems.add(key, bytes, "a quantity such as 500Mi or 10Gi");
            }
        }
        // A pass reads every record; and what takes a minute from its blobs to its record must not be disturbed.
        let range = 300..=30 * 24 * 3600;
        problems.number(
            "store.collectEverySeconds",
            self.collect_every_seconds,
            range,
        );
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

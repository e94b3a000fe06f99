//! Owns the cache directory: what was built once, under a name that holds a hash of everything that went into it. A changed
//! input gives another name, so nothing is ever stale; an entry appears by a rename, so a half-made one is never seen.
//! The modules that build something call it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::progress;

/// The cache: a directory that outlives runs.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// What a build takes time for, told to the person who waits.
pub(crate) struct Build<'a> {
    pub(crate) name: &'a str,
    pub(crate) inputs: &'a [&'a [u8]],
    pub(crate) announcement: &'a str,
}

impl Cache {
    /// Opens `$PEITHO_TESTBED_CACHE`, else `$XDG_CACHE_HOME/peitho-testbed`, else `~/.cache/peitho-testbed`.
    pub fn open() -> Result<Cache> {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dir = from("PEITHO_TESTBED_CACHE")
            .map(PathBuf::from)
            .or_else(|| from("XDG_CACHE_HOME").map(|dir| Path::new(&dir).join("peitho-testbed")))
            .or_else(|| from("HOME").map(|dir| Path::new(&dir).join(".cache/peitho-testbed")))
            .context("no place for the cache: set PEITHO_TESTBED_CACHE or HOME")?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        Ok(Cache { dir })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that `make` fills, made now if no earlier run with the same inputs did.
    pub(crate) fn entry(
        &self,
        build: &Build<'_>,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self
            .dir
            .join(format!("{}-{}", build.name, key(build.inputs)));
        if entry.is_dir() {
            return Ok(entry);
        }
        let unfinished = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(&self.dir)
            .context("cannot write into the cache")?;
        progress::step(build.announcement, || make(unfinished.path()))?;
        match fs::rename(unfinished.path(), &entry) {
            // Another process built the same meanwhile: its result is as good.
            Err(_) if entry.is_dir() => {}
            result => result.with_context(|| format!("cannot create {}", entry.display()))?,
        }
        open_to_read(&entry)?;
        Ok(entry)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 over all inputs, each with its length before it.
fn key(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_be_bytes());
        hash.update(input);
    }
    hex(&hash.finalize())[..16].to_owned()
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Temporary directories are private; a cache that root fills may be read by its user.
fn open_to_read(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

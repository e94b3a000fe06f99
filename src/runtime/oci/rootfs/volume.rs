//! The directories themselves: made, locked, swept, filled. Everything here blocks.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Uid};

use super::RootfsError;
use crate::archive::{self, Limits, Owners};
use crate::names::Digest;

/// How the name of a directory begins that is not yet whole.
const UNPACKING: &str = ".unpacking-";

/// An open directory.
pub(super) struct Opened {
    /// Its real path.
    pub(super) directory: PathBuf,
    /// Has to live as long as the directory is in use.
    pub(super) lock: File,
    pub(super) owners: Owners,
}

/// Makes `directory` and `parts` in it, for this user alone: bases may hold programs that are setuid.
pub(super) fn open(directory: &Path, parts: &[&str]) -> io::Result<Opened> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(directory)?;
    let directory = fs::canonicalize(directory)?;
    for part in parts {
        private.create(directory.join(part))?;
    }
    let lock = (File::options().create(true).truncate(false).write(true))
        .open(directory.join("rootfs.lock"))?;
    match lock.try_lock() {
        Ok(()) => {
            for part in parts {
                sweep(&directory.join(part))?;
            }
            lock.unlock()?;
            // Until the next lock another process may sweep: nothing is on its way here yet.
            lock.lock_shared()?;
        }
        Err(TryLockError::WouldBlock) => lock.lock_shared()?,
        Err(TryLockError::Error(e)) => {
            // Volumes without locks exist; what a crash left stays there.
            tracing::warn!(directory = %directory.display(), error = %e, "oci: the images cannot be locked, leftovers stay");
        }
    }
    Ok(Opened {
        owners: owners(&directory)?,
        directory,
        lock,
    })
}

fn sweep(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(UNPACKING.as_bytes())
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Tries whether this process may give files away: neither being root says so, in a user namespace, nor not being it.
fn owners(directory: &Path) -> io::Result<Owners> {
    let file = tempfile::tempfile_in(directory)?;
    let (user, group) = (Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
    Ok(match rustix::fs::fchown(&file, user, group) {
        Ok(()) => Owners::Kept,
        Err(_) => Owners::Dropped,
    })
}

/// Who filled a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpacked {
    Now,
    /// Another process, meanwhile.
    Already,
}

/// Fills the new directory `to` with `layers`, each with its diff id, the lowest first. Whole and durable when it has
/// its name.
pub(super) fn unpack(
    layers: Vec<(File, Digest)>,
    owners: Owners,
    to: &Path,
) -> Result<Unpacked, RootfsError> {
    let failed = |action| move |e: io::Error| RootfsError::io(action, to, e);
    let beside = to.parent().unwrap_or(to);
    let place = tempfile::Builder::new()
        .prefix(UNPACKING)
        .tempdir_in(beside)
        .map_err(failed("making"))?;
    // Unless a layer says otherwise, everybody may look into the root directory of an image.
    let everybody = fs::set_permissions(place.path(), Permissions::from_mode(0o755));
    everybody.map_err(failed("making"))?;
    for (file, expected) in layers {
        let applied = archive::apply_layer(file, Limits::default(), owners, place.path());
        let actual = applied.map_err(|e| RootfsError::Layer {
            layer: expected,
            source: Arc::new(e),
        })?;
        if actual != expected {
            return Err(RootfsError::Mismatch { expected, actual });
        }
    }
    // One call for tens of thousands of files.
    let synced = File::open(place.path()).and_then(|all| Ok(rustix::fs::syncfs(&all)?));
    synced.map_err(failed("syncing"))?;
    match fs::rename(place.path(), to) {
        Ok(()) => {
            // Its old name is gone.
            let _ = place.keep();
            let named = File::open(beside).and_then(|names| names.sync_all());
            named.map_err(failed("syncing"))?;
            Ok(Unpacked::Now)
        }
        Err(_) if to.is_dir() => Ok(Unpacked::Already),
        Err(e) => Err(failed("naming")(e)),
    }
}

//! The root file system of a container: an overlay over its layers, mounted where only the shim and the container see it, or a
//! copy of them where the kernel mounts none. What the container writes lies in the bundle and goes with it.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::copy;
use super::namespaces::Rights;
use super::order::Limitation;
use super::place::{Mark, Place};

/// Makes the root file system of `layers`, the topmost first.
///
/// # Errors
/// Why not, in one line.
pub(super) fn make(
    place: &Place,
    layers: &[PathBuf],
    rights: Rights,
) -> Result<Option<Limitation>, String> {
    let Some(bottom) = layers.last() else {
        return Err("a container needs a layer at least".to_owned());
    };
    let root = place.root();
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    for path in [&root, &place.upper(), &place.work()] {
        fs::create_dir_all(path).map_err(|error| failed(path, error))?;
    }
    for layer in layers {
        fs::metadata(layer).map_err(|error| failed(layer, error))?;
    }
    // The container's `/` is the upper directory.
    let seen = fs::metadata(bottom).map_err(|error| failed(bottom, error))?;
    let upper = place.upper();
    if rights == Rights::Root {
        chown(&upper, Some(seen.uid()), Some(seen.gid())).map_err(|error| failed(&upper, error))?;
    }
    fs::set_permissions(&upper, Permissions::from_mode(seen.mode() & 0o7777))
        .map_err(|error| failed(&upper, error))?;
    match overlay(place, layers, rights) {
        Ok(()) => Ok(None),
        Err(error) => {
            copy::all(layers, &root, rights).map_err(|error| {
                format!("cannot copy the layers to {}: {error}", root.display())
            })?;
            Ok(Some(Limitation::Overlay {
                reason: format!("cannot mount an overlay at {}: {error}", root.display()),
            }))
        }
    }
}

/// Makes this mount namespace, and all that come of it, one that [`super::remains`] knows by its `mark`. Before anything is
/// started in it.
pub(super) fn mark(place: &Place, mark: &Mark) -> io::Result<()> {
    fs::create_dir_all(place.mark())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount(mark.as_str(), place.mark(), "tmpfs", flags, None)?;
    Ok(())
}

/// Takes the mounts away. They would go with the shim; the directories below them can be removed only now.
pub(super) fn unmake(place: &Place) {
    // A copy is no mount, and neither is what was never made.
    for mounted in [place.root(), place.mark()] {
        let _ = unmount(mounted, UnmountFlags::DETACH);
    }
}

fn overlay(place: &Place, layers: &[PathBuf], rights: Rights) -> io::Result<()> {
    let mut options = b"lowerdir=".to_vec();
    for (number, layer) in layers.iter().enumerate() {
        if number > 0 {
            options.push(b':');
        }
        options.extend(escaped(layer));
    }
    options.extend(b",upperdir=");
    options.extend(escaped(&place.upper()));
    options.extend(b",workdir=");
    options.extend(escaped(&place.work()));
    if rights == Rights::User {
        // The attributes that overlays use otherwise are root's.
        options.extend(b",userxattr");
    }
    let options = CString::new(options)?;
    mount(
        "overlay",
        place.root(),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    Ok(())
}

/// A path as the options of an overlay spell it.
fn escaped(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b':' | b',') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

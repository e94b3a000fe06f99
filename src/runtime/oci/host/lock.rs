//! Who looks after a launch: the shim, until it is dead, then a cleaner. The shim holds a record lock (`fcntl`), because one can
//! be asked about without taking it, names its holder, and ends with the process, whatever ends that. A host of containers
//! has a lock of the other kind (`flock`), which no second opening of the same process shares.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, flock, open};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

use super::place::Place;

/// Makes this process the shim of the launch, for as long as it lives.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when the launch has or had one, or was cleaned without.
pub(super) fn become_shim(place: &Place) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(place.lock())?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // The last thing to go: Peitho takes the closing of this file for the end of this process.
    std::mem::forget(file);
    // A cleaner that did not see the lock yet has left its own before it looked.
    match place.cleaning().exists() {
        true => Err(io::ErrorKind::AlreadyExists.into()),
        false => Ok(()),
    }
}

/// The shim of the launch, if it lives.
pub(super) fn shim(place: &Place) -> Option<Pid> {
    // For reading: closing it is no event for those who watch.
    let file = File::open(place.lock()).ok()?;
    let wanted = Flock::from(FlockType::WriteLock);
    fcntl_getlk(file, &wanted).ok()??.pid
}

/// The right to clean up after the shim, which one process has at a time; `None` when the shim is not dead.
pub(super) fn become_cleaner(place: &Place) -> io::Result<Option<OwnedFd>> {
    let private = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let own = open(place.cleaning(), flags, private)?;
    flock(&own, FlockOperation::LockExclusive)?;
    // A shim that comes late finds it.
    open(place.lock(), flags, private)?;
    Ok(shim(place).is_none().then_some(own))
}

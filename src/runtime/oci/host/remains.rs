//! What is left of a container: its processes, the runtime's state, cgroup, mounts, files. All of it goes here, after an
//! orderly end and after a shim that was killed. The shim calls it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroups::Cgroups;
use super::order::Order;
use super::place::{Mark, Place};
use super::program::Container;
use super::{bundle, root};

/// How long a process that was killed may take to be gone.
const DYING: Timespec = Timespec {
    tv_sec: 20,
    tv_nsec: 0,
};

/// Removes all that a container has outside of the files that tell of it.
///
/// # Errors
/// What is still there, and why.
pub(super) fn remove(order: &Order, place: &Place, cgroups: &Cgroups) -> Result<(), String> {
    Container::of(order, place, cgroups).delete()?;
    cgroups.remove(&order.cgroup);
    root::unmake(place);
    bundle::remove(place)
}

/// Ends all processes of a launch whose shim is dead, whether the runtime knows them yet or not: those of the container, of
/// a half-made one, and those that were about to make it. All of them see a mount of that `mark`, and nobody else does. They
/// are stopped before they are killed, or one could still have a child that is missed.
pub(super) fn end_processes(mark: &Mark) -> io::Result<()> {
    let mut found: HashMap<i32, OwnedFd> = HashMap::new();
    loop {
        let before = found.len();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if found.contains_key(&pid) {
                continue;
            }
            if let Some(handle) = open(pid).filter(|_| sees(pid, mark)) {
                // It may be dead by now.
                let _ = pidfd_send_signal(&handle, Signal::STOP);
                found.insert(pid, handle);
            }
        }
        if found.len() == before {
            break;
        }
    }
    for handle in found.values() {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
    for handle in found.values() {
        // Readable when it is dead.
        let mut waited = [PollFd::new(handle, PollFlags::IN)];
        loop {
            match poll(&mut waited, Some(&DYING)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// A handle to process `pid`. What is found out about the number after this is about the process, if it still is there when
/// a signal is sent by the handle.
fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Whether process `pid` is in a mount namespace with a mount whose source is `mark`.
fn sees(pid: i32, mark: &Mark) -> bool {
    // It may have ended, or be somebody else's.
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    table.lines().any(|line| {
        // After the separator: type, source, options (proc(5)).
        let fields = line.split_once(" - ").map(|(_, fields)| fields);
        fields.and_then(|fields| fields.split(' ').nth(1)) == Some(mark.as_str())
    })
}

//! What is left of a container: its processes, the runtime's state, cgroup, mounts, files. All of it goes here, after an
//! orderly end and after a shim that was killed. The shim calls it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cgroups::Cgroups;
use super::order::{Order, Supervisor};
use super::place::Place;
use super::program::Container;
use super::{bundle, root};

/// Removes all that a container has outside of the files that tell of it.
///
/// # Errors
/// What is still there, and why.
pub(super) fn remove(order: &Order, place: &Place, cgroups: &Cgroups) -> Result<(), String> {
    let container = Container {
        program: &order.runtime,
        state: &order.state,
        id: &order.id,
        place,
        cgroups,
    };
    container.delete()?;
    cgroups.remove(&order.cgroup);
    root::unmake(place);
    bundle::remove(place)
}

/// Ends what a killed shim had started and the runtime does not know yet: its helpers are in its session and its mount
/// namespace. A container that is known is not among them, and one that is half made dies with its maker.
pub(super) fn end_helpers(supervisor: &Supervisor) -> io::Result<()> {
    let mut dying: Vec<OwnedFd> = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Some(process) = Pid::from_raw(pid) else {
            continue;
        };
        // Opened before it is looked at: the number cannot come to mean another in between.
        let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else {
            continue;
        };
        if is_helper(pid, supervisor) && pidfd_send_signal(&handle, Signal::KILL).is_ok() {
            dying.push(handle);
        }
    }
    for handle in dying {
        // Readable when it is dead.
        let mut waited = [PollFd::new(&handle, PollFlags::IN)];
        while let Err(error) = poll(&mut waited, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

fn is_helper(pid: i32, supervisor: &Supervisor) -> bool {
    let session = fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            // After the name, which may hold anything: state, parent, group, session.
            let (_, fields) = stat.rsplit_once(") ")?;
            fields.split(' ').nth(3)?.parse::<i32>().ok()
        });
    let mounts = fs::read_link(format!("/proc/{pid}/ns/mnt"));
    session == Some(supervisor.pid)
        && mounts.is_ok_and(|mounts| mounts.as_os_str() == supervisor.mounts.as_str())
}

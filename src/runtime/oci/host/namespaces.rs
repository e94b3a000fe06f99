//! The shim's own namespaces: mounts are made where nobody else sees them and go with the last process in there. Without
//! root a user namespace comes first, in which this user is root. The shim calls it, before it has any thread.

use std::fs;

use nix::errno::Errno;
// That of rustix, which everything else here uses, is unsafe: it can part a thread from the process's open files too.
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};

/// What the shim is outside of its namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Root.
    Root,
    /// An ordinary user.
    User,
}

/// Leaves the mount namespace of Peitho, as root or by a user namespace.
///
/// # Errors
/// What the kernel refuses, and what would allow it.
pub(super) fn enter() -> Result<Rights, String> {
    let rights = match geteuid().is_root() {
        true => Rights::Root,
        false => Rights::User,
    };
    match rights {
        Rights::Root => unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|error| format!("cannot make a mount namespace: {error}"))?,
        Rights::User => become_root()?,
    }
    // What the host mounts and unmounts later still comes in; nothing goes out.
    let inwards = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", inwards)
        .map_err(|error| refused("cannot make mounts private", &error.to_string()))?;
    Ok(rights)
}

/// A user namespace in which this user is root and nobody else exists: ranges of `/etc/subuid` need a setuid program.
fn become_root() -> Result<(), String> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    match unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) => {}
        Err(Errno::ENOSPC) => {
            return Err(
                "the kernel allows no further user namespace, which a container without root needs: raise the number \
                 by `sysctl -w user.max_user_namespaces=15000`, or run Peitho as root"
                    .to_owned(),
            );
        }
        Err(error) => return Err(refused("cannot make a user namespace", error.desc())),
    }
    let map = |file: &str, text: String| {
        fs::write(file, text)
            .map_err(|error| refused(&format!("cannot write {file}"), &error.to_string()))
    };
    map("/proc/self/setgroups", "deny".to_owned())?;
    map("/proc/self/uid_map", format!("0 {user} 1"))?;
    map("/proc/self/gid_map", format!("0 {group} 1"))
}

/// What failed, and the setting that makes kernels refuse it.
fn refused(what: &str, error: &str) -> String {
    let settings = [
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/user/max_user_namespaces",
            "0",
            "user.max_user_namespaces=15000",
        ),
    ];
    let cause = settings
        .iter()
        .find(|(file, value, _)| fs::read_to_string(file).is_ok_and(|text| text.trim() == *value));
    match cause {
        Some((file, value, line)) => {
            format!(
                "{what}: {error}: {file} is {value}; allow it by `sysctl -w {line}`, or run Peitho as root"
            )
        }
        None => format!(
            "{what}: {error}: containers without root need user namespaces, which this host refuses; run Peitho as root"
        ),
    }
}

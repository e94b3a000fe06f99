//! Owns the Debian packages: which programs the testbed takes from the distribution and how they get onto the machine.
//! [`crate::Assets`] calls it first, and what needs a further one does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{program, progress};

/// A file that must be there, and the package that brings it.
pub(crate) type Needed = (&'static str, &'static str);

/// For all that the testbed does.
pub(crate) const NEEDED: [Needed; 13] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("etcd", "etcd-server"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("/bin/busybox", "busybox-static"),
    ("skopeo", "skopeo"),
    ("iptables-save", "iptables"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("strace", "strace"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// For Node chaincode. Debian's own brings hundreds of others, so it is not for all.
pub(crate) const NPM: Needed = ("npm", "npm");

/// Where programs are looked for. A user's PATH often lacks the `sbin` directories.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Installs what is missing; does nothing when all is there.
pub(crate) fn obtain(needed: &[Needed]) -> Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "apt-get install -y --no-install-recommends --no-remove {}",
        missing.join(" ")
    );
    let hint = format!(
        "missing Debian packages: {}\nhint: as root, run {by_hand}",
        missing.join(" ")
    );
    if !rustix::process::geteuid().is_root() {
        bail!("{hint}");
    }
    progress::step(&format!("installing {}", missing.join(" ")), || {
        program::output(apt().arg("update")).and_then(|_| install(&missing))
    })
    .context(hint)?;
    Ok(())
}

fn missing(needed: &[Needed]) -> Vec<&'static str> {
    needed
        .iter()
        .filter(|(file, _)| find(file).is_none())
        .map(|(_, package)| *package)
        .collect()
}

/// The path of a program by its name, or of a file by its path.
pub(crate) fn find(file: &str) -> Option<PathBuf> {
    if file.starts_with('/') {
        return Some(Path::new(file).to_owned()).filter(|path| path.exists());
    }
    DIRECTORIES
        .iter()
        .map(|dir| Path::new(dir).join(file))
        .find(|path| path.exists())
}

fn install(packages: &[&str]) -> Result<()> {
    let _quiet = ServicesStayDown::new()?;
    program::output(
        apt()
            .args(["install", "-y", "--no-install-recommends", "--no-remove"])
            .args(packages),
    )?;
    Ok(())
}

/// The packages' own services (containerd, docker, etcd, a registry) must not start: a run brings its own, and theirs would
/// take the ports. Debian asks this file before it starts a service; one that the machine already has is left alone.
struct ServicesStayDown(Option<&'static Path>);

impl ServicesStayDown {
    fn new() -> Result<ServicesStayDown> {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(ServicesStayDown(None));
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(ServicesStayDown(Some(policy)))
    }
}

impl Drop for ServicesStayDown {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            fs::remove_file(policy).ok();
        }
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

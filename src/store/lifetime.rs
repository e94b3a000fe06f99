//! Whether the volume of a directory outlives the process: for a warning at the start, since a store that goes with its pod or
//! machine is missed only when a peer believes that its images are there. Reads the kernel's table of mounts.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{Store, volume};

/// Where the kubelet keeps the volumes that go with their pods.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

impl Store {
    /// What the store's directory is on, where that does not outlive this container, pod or machine; `None` also where nobody can
    /// tell.
    pub async fn short_lived(&self) -> Option<&'static str> {
        let directory = self.directory().to_owned();
        let read = volume::blocking(move || {
            let table = fs::read_to_string("/proc/self/mountinfo")?;
            Ok(of(&table, &directory))
        });
        read.await.ok().flatten()
    }
}

/// By a table in the form of proc_pid_mountinfo(5).
fn of(table: &str, directory: &Path) -> Option<&'static str> {
    let mounts = table.lines().filter_map(|line| {
        let (of_mount, of_system) = line.split_once(" - ")?;
        let mut fields = of_mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, unescaped(fields.next()?));
        let kind = of_system.split(' ').next()?;
        directory.starts_with(&place).then_some((place, root, kind))
    });
    // The innermost, and of those at one place the last, which is above the others.
    let (_, root, kind) = mounts.max_by_key(|(place, ..)| place.components().count())?;
    match kind {
        _ if root.contains(EMPTY_DIR) => Some("an emptyDir, which goes with the pod"),
        "tmpfs" | "ramfs" => Some("memory, which goes with the machine"),
        "overlay" => Some("the layer of a container, which goes with it"),
        _ => None,
    }
}

/// The table has blanks and the like as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_with_pod_container_or_machine_is_told() {
        let table = "\
612 511 0:62 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a
613 612 0:66 / /proc rw - proc proc rw
620 612 8:1 /srv /var/lib/with\\040blank rw - ext4 /dev/sda1 rw
621 612 8:1 /var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/store /var/lib/peitho rw - ext4 /dev/sda1 rw
622 621 0:70 / /var/lib/peitho/below rw shared:7 - tmpfs tmpfs rw
623 612 0:71 / /claim rw - tmpfs tmpfs rw
624 612 8:2 / /claim rw - xfs /dev/sdb rw
";
        for (directory, expected) in [
            ("/home/x", Some("the layer of a container")),
            ("/var/lib/with blank/store", None),
            ("/var/lib/peitho", Some("an emptyDir")),
            ("/var/lib/peitho/below/store", Some("memory")),
            ("/claim", None),
        ] {
            let told = of(table, Path::new(directory));
            let fits = match expected {
                Some(expected) => told.is_some_and(|told| told.starts_with(expected)),
                None => told.is_none(),
            };
            assert!(fits, "{directory}: {told:?}");
        }
        assert_eq!(of("", Path::new("/")), None);
    }
}

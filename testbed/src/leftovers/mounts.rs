//! Owns the mounts below a run's directories: root file systems of containers, volumes of pods, network namespaces.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};

use crate::places::Places;

/// In the order in which they were made.
pub(super) fn below(places: &Places) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|path| PathBuf::from(unescape(path)))
        .filter(|path| places.contain(path))
        .collect()
}

/// Takes the newest away first, since one may lie in another.
pub(super) fn detach(places: &Places) -> Result<()> {
    for path in below(places).iter().rev() {
        unmount(path, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {}", path.display()))?;
    }
    Ok(())
}

/// The kernel writes blanks and the like as `\040`.
fn unescape(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(part.len().min(3));
        if let Ok(byte) = u8::from_str_radix(code, 8) {
            text.push(char::from(byte));
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn blanks_in_mount_points_are_read_back() {
        assert_eq!(unescape(r"/run/a\040b\011c/d"), "/run/a b\tc/d");
        assert_eq!(unescape("/run/plain"), "/run/plain");
    }
}

//! Whether the kernel killed a process of this container for want of memory, by the count of its own cgroup: the status of the pod
//! tells it only later, and of a child not at all. `compile` asks; it knows nothing of limits.

use std::fs;

/// Where the count stands: cgroup v2 and v1, as runtimes mount a container's own.
const COUNTS: [&str; 2] = [
    "/sys/fs/cgroup/memory.events",
    "/sys/fs/cgroup/memory/memory.oom_control",
];

/// How many processes were killed so far; 0 where nobody counts.
pub(super) fn kills() -> u64 {
    COUNTS
        .iter()
        .find_map(|path| count(&fs::read_to_string(path).ok()?))
        .unwrap_or_default()
}

/// The value of the line `oom_kill N`.
fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cgroups_are_read() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        let v2 = "low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n";
        assert_eq!((count(v1), count(v2)), (Some(2), Some(1)));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}

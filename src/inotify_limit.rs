//! What people do where the kernel watches no more files for them. Watches belong to a user and not to a process, so that other
//! programs use them up too, and the kernel's own words name neither. `listener` and `runtime` end their messages with
//! this; it knows nothing of what is watched.

use std::io;

use rustix::io::Errno;

/// What helps against `error` of a watch, to follow its text; empty where it has another reason.
pub fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            ": all inotify instances that this user may have are in use; allow more: `sysctl fs.inotify.max_user_instances=1024`"
        }
        Some(Errno::NOSPC) => {
            ": all inotify watches that this user may have are in use; allow more: `sysctl fs.inotify.max_user_watches=524288`"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named() {
        let advice = |errno: Errno| advice(&errno.into());
        assert!(advice(Errno::MFILE).contains("fs.inotify.max_user_instances"));
        assert!(advice(Errno::NOSPC).contains("fs.inotify.max_user_watches"));
        assert_eq!(advice(Errno::ACCESS), "");
    }
}

//! What the command of a compile leaves running: daemons of build tools, mostly. They are over before the directory that is kept is looked
//! through, or what they write would be torn. `compile` calls it once the exit is told; nobody waits for it but the container.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::process::gets_orphans;

/// How long processes may take to die. One that cannot be killed, since it is another user's or waits for a disk, may write on.
const DYING: Duration = Duration::from_secs(5);

/// Has the kernel make orphans children of this process. It does so for process 1, which the agent is not in a pod that shares its processes, or where
/// an engine puts a process of its own before it. Not for a process with other children than the command.
pub(super) fn adopt() {
    // Every kernel since 3.4 can.
    let _ = set_child_subreaper(Some(getpid()));
}

/// What a command may have left.
pub(super) struct Leftover {
    /// The command's process group.
    group: Pid,
}

impl Leftover {
    pub(super) fn of(group: Pid) -> Self {
        Self { group }
    }

    /// Kills it, and waits until all of it is over: where the kernel gives orphans to this process every descendant, in whatever group and session, and
    /// else the group. Never `kill(-1)`: a shell of `kubectl exec` or a debug container in the same namespace is not the command's. What such a one left
    /// without a parent came to process 1, which nobody can tell from the command's, and goes too: the container is about to end.
    ///
    /// # Errors
    /// When some of it is not over after [`DYING`].
    pub(super) async fn kill(self) -> io::Result<()> {
        // Before the first one is killed, or its end is missed.
        let mut ends = signal(SignalKind::child())?;
        if !gets_orphans() {
            // A group without members is as good as one that was told.
            let _ = kill_process_group(self.group, Signal::KILL);
            return Ok(());
        }
        // Not the group: its report has taken its time, and where no member is left its number may be another's by now.
        let over = async {
            // A child hands its own children over before its end is told: generation by generation, until there is none.
            loop {
                for child in children() {
                    let _ = kill_process(child, Signal::KILL);
                }
                loop {
                    match wait(WaitOptions::NOHANG) {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(Errno::CHILD) => return Ok(()),
                        Err(error) => return Err(io::Error::from(error)),
                    }
                }
                ends.recv().await;
            }
        };
        timeout(DYING, over)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The children of this process. Not by its own list of them: kernels may be built without.
fn children() -> Vec<Pid> {
    let own = std::process::id();
    let Ok(found) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = found.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let children = numbers.filter(|number| parent(*number) == Some(own));
    children.filter_map(Pid::from_raw).collect()
}

fn parent(process: i32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may have anything in it, are state and parent.
    let rest = stat.rsplit(|byte| *byte == b')').next()?;
    let mut words = std::str::from_utf8(rest).ok()?.split_whitespace();
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::process::tests::{alone, shell};
    use super::*;

    #[test]
    fn nothing_of_a_command_is_left() {
        let name = "agent::leftover::tests::nothing_of_a_command_is_left";
        alone(name, async || {
            let directory = tempfile::tempdir().unwrap();
            let [busy, daemon] = ["busy", "daemon"].map(|name| directory.path().join(name));
            // In a session of its own, deaf, with a child that is an orphan and starts others all the time.
            let content = "trap '' TERM HUP\n(while :; do sh -c 'echo x >>\"$BUSY\"'; done &)\nwhile :; do sleep 100; done\n";
            fs::write(&daemon, content).unwrap();
            let script = format!(
                "export BUSY='{}'; setsid sh '{}' >/dev/null 2>&1 & until test -s \"$BUSY\"; do sleep 0.01; done; exit 3",
                busy.display(),
                daemon.display()
            );
            let (mut process, _output) = shell(&script);
            assert_eq!(process.wait().await.unwrap(), 3);
            assert!(!children().is_empty());
            process.leftover().kill().await.unwrap();
            assert_eq!(children(), []);
            assert_eq!(wait(WaitOptions::NOHANG).unwrap_err(), Errno::CHILD);
        });
    }

    #[test]
    fn a_name_in_the_list_of_processes_may_be_anything() {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a) R 1 (");
        fs::copy("/bin/sleep", &odd).unwrap();
        let mut child = std::process::Command::new(&odd).arg("100").spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        assert_eq!(parent(number), Some(std::process::id()));
        assert!(children().contains(&Pid::from_raw(number).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

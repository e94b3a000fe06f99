//! The command of a compile as a child process: a process group of its own, one pipe for all it prints. In a
//! container the agent is process 1, to which the kernel gives every orphan: it buries them too, so the
//! waiting is done here and not by `tokio::process`, which waits for its own children only.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, child_subreaper, kill_process, kill_process_group, wait,
    waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

/// A running command; killed with its group when dropped before its end.
pub(super) struct Process {
    pid: Pid,
    children: tokio::signal::unix::Signal,
    over: bool,
}

impl Process {
    /// Starts `command` with this process's environment and directory. The pipe gives what it and its
    /// descendants print, in order; stdin is empty.
    pub(super) fn spawn(command: &[OsString]) -> io::Result<(Self, PipeReader)> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        // Before the start, or the end of a short command is missed.
        let children = signal(SignalKind::child())?;
        let (reader, writer) = io::pipe()?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let process = Self {
            pid: Pid::from_child(&child),
            children,
            over: false,
        };
        Ok((process, reader))
    }

    /// Sends SIGTERM to the group.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the end: the exit code, or 128 and the number of the signal.
    pub(super) async fn wait(&mut self) -> io::Result<u8> {
        loop {
            if let Some(status) = self.reap()? {
                self.over = true;
                return Ok(code(status));
            }
            self.children.recv().await;
        }
    }

    /// Collects what ended since the last time; gives the command's status once that is among it.
    fn reap(&self) -> io::Result<Option<WaitStatus>> {
        if !gets_orphans() {
            let ended = waitpid(Some(self.pid), WaitOptions::NOHANG)?;
            return Ok(ended.map(|(_, status)| status));
        }
        let mut found = None;
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => found = Some(status),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(found),
                Err(Errno::CHILD) if found.is_some() => return Ok(found),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // A group without members is as good as one that was told.
        let _ = kill_process_group(self.pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.over {
            self.signal(Signal::KILL);
        }
    }
}

/// What a command left running after its end.
pub(super) struct Leftover(Pid);

impl Process {
    /// What it may have left running.
    pub(super) fn leftover(&self) -> Leftover {
        Leftover(self.pid)
    }
}

impl Leftover {
    /// Kills it: the group, and in a container of which this is process 1 everything else too. There it waits for the end of it all.
    pub(super) async fn kill(self) {
        let Ok(mut children) = signal(SignalKind::child()) else {
            return;
        };
        let _ = kill_process_group(self.0, Signal::KILL);
        if std::process::id() != 1 {
            return;
        }
        // Again and again, since what is killed may have started more, until there are no children any more.
        loop {
            for pid in others() {
                let _ = kill_process(pid, Signal::KILL);
            }
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => drop(children.recv().await),
                Err(_) => return,
            }
        }
    }
}

/// All processes of this container but process 1.
fn others() -> Vec<Pid> {
    let Ok(found) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = found.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let others = numbers.filter(|number| *number != 1);
    others.filter_map(Pid::from_raw).collect()
}

/// Whether the kernel makes orphans our children: process 1 of a container, or a subreaper.
fn gets_orphans() -> bool {
    std::process::id() == 1 || child_subreaper().is_ok_and(|subreaper| subreaper.is_some())
}

fn code(status: WaitStatus) -> u8 {
    let signal = || status.terminating_signal().map(|signal| 128 + signal);
    status
        .exit_status()
        .or_else(signal)
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(super::FAILED)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn shell(script: &str) -> (Process, PipeReader) {
        Process::spawn(&["sh".into(), "-c".into(), script.into()]).unwrap()
    }

    #[tokio::test]
    async fn codes_are_those_of_a_shell() {
        for (script, expected) in [
            ("exit 0", 0),
            ("exit 3", 3),
            ("exit 255", 255),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
        ] {
            assert_eq!(shell(script).0.wait().await.unwrap(), expected, "{script}");
        }
    }

    #[tokio::test]
    async fn both_outputs_come_in_order() {
        let (mut process, mut output) =
            shell("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done");
        assert_eq!(process.wait().await.unwrap(), 0);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let expected: String = (1..=5).map(|i| format!("out {i}\nerr {i}\n")).collect();
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn the_whole_group_is_terminated() {
        let (mut process, mut output) = shell("sleep 1000 & echo started; wait");
        let mut line = [0; 8];
        output.read_exact(&mut line).unwrap();
        process.terminate();
        assert_eq!(process.wait().await.unwrap(), 143);
        // The grandchild held the pipe: it ends only if that was terminated too.
        assert_eq!(output.read(&mut line).unwrap(), 0);
    }

    /// In a process of its own: there all children are collected, those of other tests too.
    #[test]
    fn orphans_are_buried() {
        const ALONE: &str = "PEITHO_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let test = "agent::process::tests::orphans_are_buried";
            let alone = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", test])
                .env(ALONE, "1")
                .output()
                .unwrap();
            assert!(alone.status.success(), "{alone:?}");
            return;
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let code = runtime.block_on(async {
            // Each subshell leaves an orphan that ends at once.
            let (mut process, _output) = shell("(true &); (true &); sleep 0.3; exit 4");
            process.wait().await.unwrap()
        });
        assert_eq!(code, 4);
        assert_eq!(wait(WaitOptions::NOHANG).unwrap_err(), Errno::CHILD);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_at_once() {
        let error = Process::spawn(&["/no/such/program".into()])
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

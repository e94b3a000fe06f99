//! The command of a compile as a child process: a process group of its own, one pipe for all it prints. In a
//! container the kernel gives every orphan to the agent: it buries them too, so the waiting is done here and not
//! by `tokio::process`, which waits for its own children only. What the command leaves is `leftover`'s.

use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, child_subreaper, kill_process_group, wait, waitpid,
};
use tokio::signal::unix::{SignalKind, signal};

use super::leftover::Leftover;

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

    /// What it may have left running, for after its end.
    pub(super) fn leftover(&self) -> Leftover {
        Leftover::of(self.pid)
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

/// Whether the kernel makes orphans our children: process 1 of a container, or a subreaper.
pub(super) fn gets_orphans() -> bool {
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
pub(super) mod tests {
    use std::io::Read as _;

    use super::*;

    pub(in crate::agent) fn shell(script: &str) -> (Process, PipeReader) {
        Process::spawn(&["sh".into(), "-c".into(), script.into()]).unwrap()
    }

    /// Runs `case`, which is all of the test of this `name`, in a process of its own, that gets orphans as the agent of a container does:
    /// there all children are collected, those of other tests too.
    pub(in crate::agent) fn alone(name: &str, case: impl AsyncFnOnce()) {
        const ALONE: &str = "PEITHO_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let alone = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&alone.stdout);
            assert!(told.contains("1 passed"), "{alone:?}");
            return;
        }
        super::super::leftover::adopt();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(case());
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

    #[test]
    fn orphans_are_buried() {
        alone("agent::process::tests::orphans_are_buried", async || {
            // Each subshell leaves an orphan that ends at once.
            let (mut process, _output) = shell("(true &); (true &); sleep 0.3; exit 4");
            assert_eq!(process.wait().await.unwrap(), 4);
            assert_eq!(wait(WaitOptions::NOHANG).unwrap_err(), Errno::CHILD);
        });
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_at_once() {
        let error = Process::spawn(&["/no/such/program".into()])
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

//! Owns a started program: its name, its log, its end. Every component is made of these, and tests use it for programs of their own, so
//! that those end with the run as well.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::places::{MARK, Places};
use crate::run::Run;
use crate::wait;

/// How long a dropped process may take to end in peace.
const GRACE: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    /// Where this process' part of the log begins: one of the same name may have run before.
    log_start: u64,
    pid: u32,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` with its output appended to the run's log of that name.
    pub fn spawn(run: &Run, name: &str, command: Command) -> Result<Process> {
        Self::spawn_in(run.places(), name, command)
    }

    /// The same for components that start programs after [`Run`] was lent to them.
    pub(crate) fn spawn_in(places: &Places, name: &str, mut command: Command) -> Result<Process> {
        let log = places.log(name);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let log_start = output.metadata()?.len();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .env(MARK, &places.run)
            // Ctrl-C in the terminal is for the program in front; it decides about the others.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.get_program().display()))?;
        Ok(Process {
            name: name.to_owned(),
            log,
            log_start,
            pid: child.id(),
            child: Mutex::new(child),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name within the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that it has printed so far.
    pub fn log(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or_default();
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
    }

    /// Waits until it has printed `text`.
    pub fn wait_for_line(&self, text: &str, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("prints {text:?}"), timeout, || {
            Ok(self.log().contains(text))
        })
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        Ok(self.child().try_wait()?)
    }

    /// Waits for `ready`; a process that ends meanwhile will never be ready, and the error shows the end of its log.
    pub fn wait_until(
        &self,
        what: &str,
        timeout: Duration,
        mut ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        wait::until(
            &format!("{}: {what}", self.name),
            timeout,
            Some(&self.log),
            || {
                if let Some(status) = self.exited()? {
                    bail!(
                        "{} ended ({status}){}",
                        self.name,
                        wait::describe_log(&self.log)
                    );
                }
                Ok(ready()?.then_some(()))
            },
        )
    }

    /// Waits for its own end.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait::until(&what, timeout, Some(&self.log), || self.exited())
    }

    /// Asks it to end, and kills it when it has not after `timeout`.
    pub fn terminate(&self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        match self.wait(timeout) {
            Ok(status) => Ok(status),
            Err(_) => self.kill_hard(),
        }
    }

    /// Kills it without warning, as a crash would, and waits until it is gone.
    pub fn kill_hard(&self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait(GRACE)
    }

    /// Stops it where it stands, so that it answers nothing, until [`Process::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Its resident memory in units of 1024 bytes.
    pub fn rss_kb(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that it ever was, or since [`Process::forget_peak`].
    pub fn peak_rss_kb(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Lets the peak begin anew (`proc(5)`, `clear_refs`).
    pub fn forget_peak(&self) -> Result<()> {
        let file = format!("/proc/{}/clear_refs", self.pid);
        fs::write(&file, "5").with_context(|| format!("cannot write {file}"))
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .with_context(|| format!("{} is gone", self.name))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .with_context(|| format!("the kernel tells no memory of {}", self.name))
    }

    /// The number is the child's as long as nobody has waited for it, and only this type does, under the same lock.
    fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child();
        if child.try_wait()?.is_none() {
            let pid = Pid::from_child(&child);
            kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))?;
        }
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Process {
    /// The reaper gets what does not end here.
    fn drop(&mut self) {
        self.terminate(GRACE).ok();
    }
}

//! The shim: one process per container that supervises it and outlives Peitho. It is this program as `peitho shim`, has one
//! thread, and holds a lock while it lives; whoever finds that free knows that it is dead. [`Host`](super::Host) starts
//! it by way of the command line. Peitho sees what it does by its files alone (`src/runtime/oci/place.rs`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, setsid, umask, waitpid,
};

use super::cgroups::Cgroups;
use super::ending::{Ending, KILLED};
use super::order::{Limitation, Order, Verdict};
use super::output::Output;
use super::place::Place;
use super::program::Container;
use super::{bundle, lock, namespaces, remains, root};

/// How much is read of the output at a time: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// What a shim is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Make the container of a directory, supervise it, and clean up after it.
    Run,
    /// Clean up after a shim that was killed.
    Clean,
}

/// Does `job` for the launch in `directory` and gives the exit code for the process. This process must not have a second
/// thread.
pub fn run(job: Job, directory: PathBuf) -> u8 {
    let place = Place::at(directory);
    let done = match job {
        Job::Run => supervise(&place),
        Job::Clean => clean(&place),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            say(&error);
            1
        }
    }
}

/// On stderr, which is the shim's log. Nobody is left to hear that this fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "peitho shim: {line}");
}

fn supervise(place: &Place) -> Result<(), String> {
    // What is sent to Peitho's session and group is not meant for containers.
    setsid().map_err(|error| format!("cannot leave the session: {error}"))?;
    // What the runtime makes in the root file system is for every user of the container, whatever Peitho's own rule is.
    umask(Mode::WGRP | Mode::WOTH);
    lock::become_shim(place)
        .map_err(|error| format!("cannot be the shim of {}: {error}", place.path().display()))?;
    let order =
        Order::read(place).map_err(|error| format!("{}: {error}", place.order().display()))?;

    let mut cgroups = Cgroups::None {
        reason: String::new(),
    };
    let launched = launch(place, &order, &mut cgroups);
    let container = match launched {
        Ok((container, limitations)) => {
            tell(&Verdict::Running { limitations });
            container
        }
        Err(reason) => {
            let cleaned = remains::remove(&order, place, &cgroups);
            end(
                place,
                &Ending::NeverStarted {
                    reason: reason.clone(),
                },
            )?;
            tell(&Verdict::NeverStarted { reason });
            return cleaned;
        }
    };
    let code = container.follow()?;
    let ending = Ending::Exited {
        code,
        out_of_memory: cgroups.out_of_memory(&order.cgroup),
    };
    // Before the rest is cleaned: who waits for the process need not wait for that.
    if let Err(error) = end(place, &ending) {
        // The disk may be full of what the container wrote.
        say(&error);
        let removed = remains::remove(&order, place, &cgroups);
        return end(place, &ending).and(removed);
    }
    remains::remove(&order, place, &cgroups)
}

fn end(place: &Place, ending: &Ending) -> Result<(), String> {
    let path = place.ending();
    ending
        .write(place)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The answer to whoever started this shim, who may be gone; the pipe is closed then, so that it ends for the reader.
fn tell(verdict: &Verdict) {
    let mut line = serde_json::to_vec(verdict).unwrap_or_default();
    line.push(b'\n');
    let mut stdout = io::stdout();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
    if let Ok(nothing) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(nothing);
    }
}

/// A container that runs.
struct Running {
    init: Pid,
    handle: OwnedFd,
    signals: File,
    pipe: PipeReader,
    output: Output,
}

/// Makes the container and starts its process. `cgroups` is what this host has, as soon as that is known.
fn launch(
    place: &Place,
    order: &Order,
    cgroups: &mut Cgroups,
) -> Result<(Running, Vec<Limitation>), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| format!("cannot {what}: {error}")
    };
    let rights = namespaces::enter()?;
    // Of all that the runtime leaves: the container's first process too.
    set_child_subreaper(Some(getpid()))
        .map_err(|error| failed("become a subreaper")(error.into()))?;
    let signals = signals(place).map_err(failed("make the fifo for signals"))?;
    *cgroups = Cgroups::of_this_host(&order.runtime, rights);
    root::mark(place, &order.mark).map_err(failed("mark the mount namespace"))?;

    let mut limitations = Vec::new();
    if let Cgroups::None { reason } = &*cgroups {
        limitations.push(Limitation::Cgroup {
            reason: reason.clone(),
        });
    }
    limitations.extend(root::make(place, &order.plan.lower, rights)?);
    limitations.extend(bundle::write(place, order, cgroups, rights)?);

    let output = Output::create(place.clone()).map_err(failed("make the log"))?;
    let (pipe, writer) = io::pipe().map_err(failed("make a pipe"))?;
    Container::of(order, place, cgroups).run(writer)?;
    let init = fs::read_to_string(place.pid()).map_err(failed("tell the container's process"))?;
    let init = init.trim().parse().ok().and_then(Pid::from_raw);
    let init = init.ok_or_else(|| format!("{} holds no process id", place.pid().display()))?;
    let handle = pidfd_open(init, PidfdFlags::empty())
        .map_err(|error| failed("watch the container's process")(error.into()))?;
    let running = Running {
        init,
        handle,
        signals,
        pipe,
        output,
    };
    Ok((running, limitations))
}

/// The fifo that takes orders. It is held open for writing too, or it would end with its first writer.
fn signals(place: &Place) -> io::Result<File> {
    let path = place.signals();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
}

impl Running {
    /// Keeps what the process prints, passes signals on, and returns its exit code when it is over.
    fn follow(mut self) -> Result<i64, String> {
        let mut chunk = vec![0; CHUNK];
        let mut open = true;
        loop {
            let mut waited = [
                PollFd::new(&self.handle, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.pipe, PollFlags::IN),
            ];
            // A process may close its stdout long before it ends; the pipe would be ready forever then.
            let count = if open { 3 } else { 2 };
            match poll(&mut waited[..count], None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(format!("cannot wait for the container: {error}")),
                Ok(_) => {}
            }
            let [over, ordered, printed] = waited.map(|fd| !fd.revents().is_empty());
            if ordered {
                self.pass_signals_on();
            }
            if printed {
                open = self.read(&mut chunk).unwrap_or(false);
            }
            if over {
                break;
            }
        }
        let code = self.reap()?;
        // All other processes of the container died with its first: what is not in the pipe now never comes.
        let _ = ioctl_fionbio(self.pipe.as_fd(), true);
        while open {
            open = self.read(&mut chunk).unwrap_or(false);
        }
        Ok(code)
    }

    /// Whether there may be more.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<bool> {
        match self.pipe.read(chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.output.append(&chunk[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn pass_signals_on(&mut self) {
        let mut numbers = [0; 16];
        let count = self.signals.read(&mut numbers).unwrap_or(0);
        for number in &numbers[..count] {
            if let Some(signal) = Signal::from_named_raw(i32::from(*number)) {
                // A process that is over needs no signal.
                let _ = pidfd_send_signal(&self.handle, signal);
            }
        }
    }

    fn reap(&self) -> Result<i64, String> {
        loop {
            match waitpid(Some(self.init), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    let signal = || status.terminating_signal().map(|signal| 128 + signal);
                    return Ok(status
                        .exit_status()
                        .or_else(signal)
                        .map_or(KILLED, i64::from));
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(format!("cannot tell the exit code: {error}")),
            }
        }
    }
}

/// Removes what is left of a launch whose shim is dead, and says how it ended, if that is not said.
fn clean(place: &Place) -> Result<(), String> {
    let cleaner = lock::become_cleaner(place)
        .map_err(|error| format!("cannot clean {}: {error}", place.path().display()))?;
    if cleaner.is_none() {
        return Ok(());
    }
    let mut ending = Ending::LOST;
    match Order::read(place) {
        Ok(order) => {
            // By the rights of this user on the host: the namespace made next has none over that of the dead shim.
            remains::end_processes(&order.mark)
                .map_err(|error| format!("cannot end what the shim left: {error}"))?;
            let rights = namespaces::enter()?;
            let cgroups = Cgroups::of_this_host(&order.runtime, rights);
            if let Ending::Exited { out_of_memory, .. } = &mut ending {
                *out_of_memory = cgroups.out_of_memory(&order.cgroup);
            }
            remains::remove(&order, place, &cgroups)?;
        }
        // Without a whole order nothing was made.
        Err(_) => bundle::remove(place)?,
    }
    match Ending::read(place) {
        Ok(Some(_)) => Ok(()),
        _ => end(place, &ending),
    }
}

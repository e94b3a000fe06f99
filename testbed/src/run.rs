//! Owns one run: the lock that keeps others out, the directories, and the promise that everything ends. A test makes one first
//! and hands it to each component; a second process, the reaper, keeps the promise when this one cannot.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::leftovers::Leftovers;
use crate::places::{CGROUP, LOCK, Places};
use crate::{network, progress, reaper, wait};

/// How long a run waits for an earlier one on the same machine to end.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// A run. When it goes, by [`Run::finish`], by drop, or because its process is killed, all that it started goes too.
#[derive(Debug)]
pub struct Run {
    places: Places,
    /// None once everything has ended.
    reaper: Mutex<Option<Reaper>>,
}

#[derive(Debug)]
struct Reaper {
    child: Child,
    /// Its other end is the reaper's standard input, which ends when this process does, however it ends.
    alive: ChildStdin,
    /// Held here as well, so that the machine is not free either when the reaper alone is killed.
    lock: File,
}

impl Run {
    /// Waits for its turn, removes what a crashed run left, and starts the reaper. The first line of the program's `main` must
    /// be [`reaper::become_reaper_if_asked`].
    pub fn start() -> Result<Run> {
        if !rustix::process::geteuid().is_root() {
            bail!(
                "the testbed starts containers and needs root\nhint: sudo -E, or run in a virtual machine"
            );
        }
        let places = Places::from_env();
        let lock = lock(PATIENCE)?;
        Leftovers::remove(&places).context("cannot remove what an earlier run left")?;
        for dir in [&places.run, &places.data] {
            empty(dir)?;
        }
        fs::create_dir_all(places.logs())?;
        let reaper = Reaper::spawn(&places, lock)?;
        make_cgroups()?;
        let run = Run {
            places,
            reaper: Mutex::new(Some(reaper)),
        };
        network::create_bridge()?;
        Ok(run)
    }

    /// Sockets, keys, kubeconfigs and logs.
    pub fn dir(&self) -> &Path {
        &self.places.run
    }

    /// What is large, or is executed.
    pub fn data(&self) -> &Path {
        &self.places.data
    }

    /// The log of the process with this name. Logs stay after the run, until the next one begins.
    pub fn log(&self, name: &str) -> PathBuf {
        self.places.log(name)
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Ends everything now and says what could not be removed.
    pub fn finish(self) -> Result<()> {
        self.stop()
    }

    /// The same while others still use it: their components go away under them.
    pub fn stop(&self) -> Result<()> {
        let mut reaper = self.reaper.lock().expect("no holder of this lock panics");
        let Some(Reaper {
            mut child,
            alive,
            lock,
        }) = reaper.take()
        else {
            return Ok(());
        };
        drop(alive);
        child.wait().context("cannot wait for the reaper")?;
        let left = Leftovers::find();
        drop(lock);
        if !left.is_empty() {
            bail!("the run left things behind:\n{}", left.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            progress::say(format!("{error:#}"));
        }
    }
}

impl Reaper {
    /// Its standard output is the lock, so that the machine is free only when the reaper is done; its own process group keeps
    /// Ctrl-C away from it.
    fn spawn(places: &Places, lock: File) -> Result<Reaper> {
        use std::os::unix::process::CommandExt;
        let log = File::create(places.logs().join("reaper.log"))?;
        let mut child = Command::new("/proc/self/exe")
            .env(reaper::ASKED, &places.run)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(lock.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start the reaper")?;
        let alive = child.stdin.take().expect("standard input is a pipe");
        Ok(Reaper { child, alive, lock })
    }
}

/// The machine's lock, with this process' id inside for those who wait.
pub(crate) fn lock(patience: Duration) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(LOCK)
        .with_context(|| format!("cannot open {LOCK}"))?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        file.read_to_string(&mut holder)?;
        progress::say(format!(
            "waiting for another run (process {})",
            holder.trim()
        ));
        let what = format!("{LOCK} is held by process {}", holder.trim());
        wait::until(&what, patience, None, || {
            Ok(file.try_lock().is_ok().then_some(()))
        })?;
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// kubelet asks for its root cgroup in every hierarchy before it starts.
fn make_cgroups() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        // One hierarchy: controllers must be handed down. Which ones exist differs by kernel, so each is tried alone.
        for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
            fs::write(
                root.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )
            .ok();
        }
        return fs::create_dir_all(root.join(CGROUP)).context("cannot create a cgroup");
    }
    for hierarchy in fs::read_dir(root)? {
        let hierarchy = hierarchy?.path();
        if hierarchy.join("cgroup.procs").exists() {
            fs::create_dir_all(hierarchy.join(CGROUP)).context("cannot create a cgroup")?;
        }
    }
    Ok(())
}
